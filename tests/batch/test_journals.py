"""Every journal of the library keeps every rule of a journal, and its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from veriff_async.batch import MemoryJournal, RedisJournal, SqliteJournal
from veriff_async.testing import JournalContract

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import RedisServer
    from veriff_async.batch import Journal


class TestMemoryJournal(JournalContract):
    """In one process every handle is the one journal."""

    durable = False
    shared = False
    journal: MemoryJournal | None = None

    async def make(self) -> Journal:
        """Return the one journal of the test."""
        self.journal = self.journal or MemoryJournal()
        return self.journal


class TestSqliteJournal(JournalContract):
    """Every handle has connections of its own to one file, as another process has; one of them runs jobs."""

    shared = False
    path: Path

    @pytest.fixture(autouse=True)
    def fresh(self, tmp_path: Path) -> None:
        """Give each test a file of its own."""
        self.path = tmp_path / "journal.db"

    async def make(self) -> Journal:
        """Return another journal on the file."""
        return SqliteJournal(self.path)


class TestRedisJournal(JournalContract):
    """Every handle has connections of its own to one server, as another machine has."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, redis_server: RedisServer) -> None:
        """Give each test an empty server."""
        self.url = redis_server.url

    async def make(self) -> Journal:
        """Return another journal on the server."""
        return RedisJournal(self.url)
