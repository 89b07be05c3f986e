"""Every inbox of the library passes the contract."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import unittest
from typing import TYPE_CHECKING, Final

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
    from veriff_async.inbox import (
        Delivery,
        DeliveryOutcome,
        Inbox,
        RecordResult,
        Retention,
        SessionPage,
        SessionSearch,
        SessionState,
    )


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


_DEPENDS_ON_THE_LOOP: Final = re.compile(
    "concurrent|cancelled|closed|closing|subscri|wake|change_after|during|one_lease"
)


def _only_rules_of_concurrency(case: type[InboxContract]) -> type[InboxContract]:
    """Leave the other rules to the default loop: what they store does not depend on the loop."""
    for name in dir(case):
        if name.startswith("test_") and not _DEPENDS_ON_THE_LOOP.search(name):
            setattr(case, name, None)
    return case


class _Eager:
    new_loop = staticmethod(new_eager)


class _Uvloop:
    new_loop = staticmethod(new_uvloop)


@needs_eager
@_only_rules_of_concurrency
class TestMemoryInboxEagerly(_Eager, TestMemoryInbox):
    """The rules hold with eager tasks."""


@needs_eager
@_only_rules_of_concurrency
class TestSqliteInboxEagerly(_Eager, TestSqliteInbox):
    """The rules hold with eager tasks."""


@needs_eager
@_only_rules_of_concurrency
class TestRedisInboxEagerly(_Eager, TestRedisInbox):
    """The rules hold with eager tasks."""

    @pytest.fixture(autouse=True)
    def fresh(self, single_redis_server: RedisServer) -> None:  # one of the servers will do: the loop is another
        """Give each test an empty server."""
        single_redis_server.flush()
        self.url = single_redis_server.url


@needs_uvloop
@_only_rules_of_concurrency
class TestMemoryInboxOnUvloop(_Uvloop, TestMemoryInbox):
    """The rules hold on uvloop."""


@needs_uvloop
@_only_rules_of_concurrency
class TestSqliteInboxOnUvloop(_Uvloop, TestSqliteInbox):
    """The rules hold on uvloop."""


@needs_uvloop
@_only_rules_of_concurrency
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
    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        return evolve(await super().record(event, source=source, deliver=deliver), ignored=None)


class _Repeating(MemoryInbox):
    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        result = await super().record(event, source=source, deliver=deliver)
        if deliver:
            await self.requeue(event.session_id, event.dedup_key)
        return result


class _Reversing(MemoryInbox):
    async def lease(self, limit: int, *, seconds: float) -> Sequence[Delivery[WebhookEvent]]:
        return (await super().lease(limit, seconds=seconds))[::-1]


class _Stubborn(MemoryInbox):
    async def lease(self, limit: int, *, seconds: float) -> Sequence[Delivery[WebhookEvent]]:
        return await super().lease(limit, seconds=1000 * seconds)


class _Hasty(MemoryInbox):
    async def settle(self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        return await super().settle(delivery, evolve(outcome, delay=0.0))


class _Credulous(MemoryInbox):
    async def settle(self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        await super().settle(delivery, outcome)
        return True


class _Blind(MemoryInbox):
    async def find_sessions(self, search: SessionSearch, *, limit: int = 100, page: str | None = None) -> SessionPage:
        return await super().find_sessions(evolve(search, vendor_data=None), limit=limit, page=page)


class _Short(MemoryInbox):
    async def find_sessions(self, search: SessionSearch, *, limit: int = 100, page: str | None = None) -> SessionPage:
        return evolve(await super().find_sessions(search, limit=limit, page=page), next_page=None)


class _Welcoming(MemoryInbox):
    async def erase(self, session_ids: Collection[str], *, refuse_for: float = 0.0) -> int:
        return await super().erase(session_ids, refuse_for=0.0)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (_Forgetful, "test_get_states_takes_thousands_of_ids"),
        (_Backwards, "test_get_events_returns_all_events_in_order"),
        (_Proud, "test_concurrent_duplicates_count_once"),
        (_Proud, "test_ignored_event_has_a_reason"),
        (_Repeating, "test_duplicate_is_never_queued_again"),
        (_Reversing, "test_sessions_do_not_wait_for_each_other"),
        (_Reversing, "test_backlog_is_leased_in_order"),
        (_Stubborn, "test_ended_lease_begins_another_attempt"),
        (_Hasty, "test_failed_event_is_retried_after_its_delay"),
        (_Hasty, "test_events_without_a_session_do_not_wait"),
        (_Credulous, "test_lost_lease_stores_nothing"),
        (_Credulous, "test_queued_events_of_an_erased_session_are_gone"),
        (_Blind, "test_session_is_found_by_its_person"),
        (_Short, "test_pages_contain_each_session_once"),
        (_Welcoming, "test_events_of_an_erased_session_are_ignored"),
    ],
)
def test_contract_detects_an_inbox_that_breaks_a_rule(kind: type[MemoryInbox], rule: str) -> None:
    """The contract fails for an inbox that breaks one of its rules, and says what was expected."""

    class BrokenInboxCase(TestMemoryInbox):
        async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
            self.inbox = self.inbox or kind(retention=retention, now=now)
            return self.inbox

    with pytest.raises(AssertionError, match=r": expected .*, found |^Expected that "):
        getattr(BrokenInboxCase(), rule)()


class _Plain:
    """An inbox with the methods of `Inbox` alone."""

    def __init__(self, inbox: MemoryInbox) -> None:
        self._inbox = inbox
        self.get_states, self.subscribe = inbox.get_states, inbox.subscribe
        self.get_events, self.aclose = inbox.get_events, inbox.aclose

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        return await self._inbox.record(event, source=source)


def test_contract_skips_rules_of_methods_that_an_inbox_does_not_have() -> None:
    """An inbox with the five methods of `Inbox` passes; the rules of optional methods are skipped, and say why."""

    class PlainInboxCase(TestMemoryInbox):
        async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
            self.inbox = self.inbox or MemoryInbox(retention=retention, now=now)
            return _Plain(self.inbox)

    skipped: set[str] = set()
    for rule in dir(PlainInboxCase):
        if rule.startswith("test_"):
            try:
                getattr(PlainInboxCase(), rule)()
            except unittest.SkipTest as reason:
                skipped.add(str(reason))
    assert skipped == {
        "this inbox is not durable",
        "the inbox has no save_submission",
        "the inbox has no method erase",
        "the inbox has not all methods of DeliveryInbox",
        "the inbox has not all methods of SearchableInbox",
    }


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


class _Stateless(MemoryInbox):
    async def get_states(self, session_ids: Collection[str]) -> dict[str, SessionState]:
        return {}


def test_contract_needs_a_way_to_make_the_inbox() -> None:
    """A contract without `make` fails each test."""

    class EmptyCase(InboxContract):
        pass

    with pytest.raises(NotImplementedError):
        EmptyCase().test_unstorable_ids_raise_inbox_error()


def test_contract_detects_states_that_are_not_returned() -> None:
    """An inbox that records events and does not return their states fails with a sentence."""

    class ForgetfulCase(TestMemoryInbox):
        async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
            self.inbox = self.inbox or _Stateless(retention=retention, now=now)
            return self.inbox

    with pytest.raises(AssertionError, match=r"get_states\(\) does not return the state"):
        ForgetfulCase().test_unstorable_ids_raise_inbox_error()


def test_contract_detects_a_task_that_outlives_the_inbox() -> None:
    """A task that still runs when every handle is closed is a leak, and fails the test."""

    class LeakingCase(TestMemoryInbox):
        task: asyncio.Task[object]

        async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
            self.task = asyncio.create_task(asyncio.Event().wait())
            return await super().make(retention, now)

    with pytest.raises(AssertionError, match="tasks that are left when every handle is closed: expected 0, found 1"):
        LeakingCase().test_unstorable_ids_raise_inbox_error()
