"""The inbox on PostgreSQL passes the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from veriff_async.inbox import PostgresInbox
from veriff_async.testing import InboxContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgres_server import PostgresDatabase
    from veriff_async.inbox import Inbox, Retention


class TestPostgresInbox(InboxContract):
    """Every handle has its own connections to one server, like another machine."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, postgres: PostgresDatabase) -> None:
        """Give each test empty tables."""
        self.url = postgres.url

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return another inbox on the server."""
        return PostgresInbox(self.url, retention=retention, now=now)
