"""PostgresJournal passes the contract of journals, and keeps its leases and limits exact on a server that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from veriff_async.batch import PostgresJournal
from veriff_async.testing import JournalContract

if TYPE_CHECKING:
    from tests.postgres_server import PostgresDatabase
    from veriff_async.batch import Journal


class TestPostgresJournal(JournalContract):
    """Every handle has its own connections to the server, as another machine has."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, postgres: PostgresDatabase) -> None:
        """Use an empty schema for each test."""
        self.url = postgres.url

    async def make(self) -> Journal:
        """Return another journal on the server."""
        return PostgresJournal(self.url)
