"""Every inbox of the library passes the contract."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from tests.loops import needs_eager, needs_uvloop, new_eager, new_uvloop
from veriff_async import DecisionSource
from veriff_async.inbox import MemoryInbox, RedisInbox, SqliteInbox
from veriff_async.testing import InboxContract

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from tests.servers import RedisServer
    from veriff_async import WebhookEvent
    from veriff_async.inbox import Inbox, RecordResult, Retention, SessionState


class TestMemoryInbox(InboxContract):
    """In one process every handle is the same inbox."""

    durable = False
    inbox: MemoryInbox | None = None

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return the one inbox of the test."""
        self.inbox = self.inbox or MemoryInbox(retention=retention, now=now)
        return self.inbox


class TestSqliteInbox(InboxContract):
    """Every handle has its own connections to one file, like another process."""

    path: Path

    @pytest.fixture(autouse=True)
    def fresh(self, tmp_path: Path) -> None:
        """Give each test a file of its own."""
        self.path = tmp_path / "inbox.db"

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return another inbox on the file."""
        return SqliteInbox(self.path, retention=retention, now=now)


class TestRedisInbox(InboxContract):
    """Every handle has its own connections to one server, like another machine."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, redis_server: RedisServer) -> None:
        """Give each test an empty server."""
        self.url = redis_server.url

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return another inbox on the server."""
        return RedisInbox(self.url, retention=retention, now=now)


class _Eager:
    new_loop = staticmethod(new_eager)


class _Uvloop:
    new_loop = staticmethod(new_uvloop)


@needs_eager
class TestMemoryInboxEagerly(_Eager, TestMemoryInbox):
    """The rules hold with eager tasks."""


@needs_eager
class TestSqliteInboxEagerly(_Eager, TestSqliteInbox):
    """The rules hold with eager tasks."""


@needs_eager
class TestRedisInboxEagerly(_Eager, TestRedisInbox):
    """The rules hold with eager tasks."""

    @pytest.fixture(autouse=True)
    def fresh(self, single_redis_server: RedisServer) -> None:  # one of the servers will do: the loop is another
        """Give each test an empty server."""
        single_redis_server.flush()
        self.url = single_redis_server.url


@needs_uvloop
class TestMemoryInboxOnUvloop(_Uvloop, TestMemoryInbox):
    """The rules hold on uvloop."""


@needs_uvloop
class TestSqliteInboxOnUvloop(_Uvloop, TestSqliteInbox):
    """The rules hold on uvloop."""


@needs_uvloop
class TestRedisInboxOnUvloop(_Uvloop, TestRedisInbox):
    """The rules hold on uvloop."""

    @pytest.fixture(autouse=True)
    def fresh(self, single_redis_server: RedisServer) -> None:  # one of the servers will do: the loop is another
        """Give each test an empty server."""
        single_redis_server.flush()
        self.url = single_redis_server.url


class _Forgetful(MemoryInbox):
    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        return dict(list((await super().get_states(session_ids)).items())[:10])


class _Backwards(MemoryInbox):
    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        return (await super().get_events(session_id))[::-1]


class _Proud(MemoryInbox):
    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        return evolve(await super().record(event, source=source), ignored=None)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (_Forgetful, "test_get_states_takes_thousands_of_ids"),
        (_Backwards, "test_get_events_returns_all_events_in_order"),
        (_Proud, "test_concurrent_duplicates_count_once"),
        (_Proud, "test_ignored_event_has_a_reason"),
    ],
)
def test_contract_detects_an_inbox_that_breaks_a_rule(kind: type[MemoryInbox], rule: str) -> None:
    """The contract fails for an inbox that breaks one of its rules, and says what was expected."""

    class BrokenInboxCase(TestMemoryInbox):
        async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
            self.inbox = self.inbox or kind(retention=retention, now=now)
            return self.inbox

    with pytest.raises(AssertionError, match=r": expected .*, found "):
        getattr(BrokenInboxCase(), rule)()


def test_contract_does_not_import_test_tools() -> None:
    """The contract needs neither pytest nor hypothesis; all public names exist, and no others."""
    code = (
        "import sys\n"
        "from veriff_async.testing import InboxContract, decision_event\n"
        "assert not {'pytest', 'hypothesis', 'redis'} & set(sys.modules)\n"
        "import veriff_async.testing as testing\n"
        "assert sorted(testing.__all__) == dir(testing)\n"
        "assert all(getattr(testing, name).__doc__ for name in testing.__all__)\n"
        "assert not hasattr(testing, 'InboxContrakt')\n"
    )
    done = subprocess.run(  # noqa: S603  our own code
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True
    )
    assert (0, "") == (done.returncode, done.stderr)
