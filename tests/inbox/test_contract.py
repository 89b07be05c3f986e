"""Every inbox of the library keeps every rule of an inbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from veriff_async.inbox import MemoryInbox, RedisInbox, SqliteInbox
from veriff_async.testing import InboxContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.inbox.conftest import RedisServer
    from veriff_async.inbox import Inbox, Retention


class TestMemoryInbox(InboxContract):
    """In one process every handle is the one inbox."""

    durable = False
    inbox: MemoryInbox | None = None

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return the one inbox of the test."""
        self.inbox = self.inbox or MemoryInbox(retention=retention, now=now)
        return self.inbox


class TestSqliteInbox(InboxContract):
    """Every handle has connections of its own to one file, as another process has."""

    path: Path

    @pytest.fixture(autouse=True)
    def fresh(self, tmp_path: Path) -> None:
        """Give each test a file of its own."""
        self.path = tmp_path / "inbox.db"

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return another inbox on the file."""
        return SqliteInbox(self.path, retention=retention, now=now)


class TestRedisInbox(InboxContract):
    """Every handle has connections of its own to one server, as another machine has."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, redis_server: RedisServer) -> None:
        """Give each test an empty server."""
        self.url = redis_server.url

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return another inbox on the server."""
        return RedisInbox(self.url, retention=retention, now=now)
