"""Events reach their handlers at least once: after errors, after a lost lease, and after a shutdown."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.conditions import run_loop, until
from tests.loops import every_loop
from tests.webhooks.conftest import CREDENTIALS, message, sign_headers
from veriff_async import (
    ConfigurationError,
    DecisionEvent,
    DeliveryPolicy,
    InboxError,
    InvalidArgumentError,
    LeaseLostError,
    SessionEvent,
)
from veriff_async._protocol.webhook import dump_event
from veriff_async.inbox import MemoryInbox, SqliteInbox
from veriff_async.models.delivery import Delivery, DeliveryOutcome, DeliveryStatus
from veriff_async.models.events import WebhookEvent
from veriff_async.testing import decision_event, session_event
from veriff_async.webhooks import UnrecoverableError, WebhookReceiver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio

AnyDelivery = Delivery[WebhookEvent]

SOON: Final = DeliveryPolicy(initial_backoff=0, poll_interval=0.001)
MANUAL: Final = DeliveryPolicy(initial_backoff=0, background=False)


async def take(receiver: WebhookReceiver, session_id: str = "s", action: str = "started") -> None:
    """Receive a webhook."""
    body = message(action, session_id)
    await receiver.receive(sign_headers(body), body)


class Clock:
    """The time of an inbox."""

    def __init__(self) -> None:
        """Start in 2027."""
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        """Return it."""
        return self.now


class FlakyInbox(MemoryInbox):
    """An inbox that fails as often as a test says."""

    def __init__(self) -> None:
        """Start without failures."""
        super().__init__()
        self.failures = {"lease": 0, "settle": 0, "extend": 0}
        self.limits: list[int] = []

    def _fail(self, name: str) -> None:
        if self.failures[name]:
            self.failures[name] -= 1
            msg = "ada@example.com"
            raise InboxError(msg)

    async def lease(self, limit: int, *, seconds: float) -> Sequence[AnyDelivery]:
        """Lease, or fail."""
        self.limits.append(limit)
        self._fail("lease")
        return await super().lease(limit, seconds=seconds)

    async def settle(self, delivery: AnyDelivery, outcome: DeliveryOutcome) -> bool:
        """Settle, or fail."""
        self._fail("settle")
        return await super().settle(delivery, outcome)

    async def extend_leases(self, deliveries: Collection[AnyDelivery], *, seconds: float) -> frozenset[str]:
        """Extend, or fail."""
        self._fail("extend")
        return await super().extend_leases(deliveries, seconds=seconds)


@every_loop
async def test_failed_handler_is_called_again(inbox: MemoryInbox) -> None:
    """Each attempt has the next number and the same key, until the handler finishes."""
    calls: list[tuple[int, str]] = []

    async def fail_twice(delivery: AnyDelivery) -> None:
        calls.append((delivery.attempt, delivery.event.dedup_key))
        await asyncio.sleep(0)
        if len(calls) < 3:
            raise ValueError

    async with WebhookReceiver(CREDENTIALS, inbox, on_event=fail_twice, delivery=SOON) as receiver:
        await take(receiver)
        await until(lambda: receiver.statistics().events_handled)

    assert [1, 2, 3] == [attempt for attempt, _ in calls]
    assert 1 == len({key for _, key in calls})
    assert (2, 0) == (receiver.statistics().attempts_failed, receiver.statistics().dead_letters)


async def test_handlers_get_the_events_of_their_classes(inbox: MemoryInbox) -> None:
    """A decorated function stays as it is, and gets the state of the session with each event."""
    receiver, calls = WebhookReceiver(CREDENTIALS, inbox), list[tuple[str, str | None]]()

    @receiver.on(DecisionEvent)
    async def decide(delivery: Delivery[DecisionEvent]) -> None:
        assert delivery.state is not None
        calls.append(("decide", delivery.event.decision.status))

    @receiver.on(SessionEvent, DecisionEvent)
    def both(delivery: Delivery[SessionEvent | DecisionEvent]) -> str:
        calls.append(("both", delivery.event.session_id))
        return "ignored"

    @receiver.on()
    async def every(delivery: AnyDelivery) -> None:
        calls.append(("every", delivery.event.session_id))

    async with receiver:
        await take(receiver, "a")
        body = dump_event(decision_event("b", "approved"))
        await receiver.receive(sign_headers(body), body)

    expected = [("both", "a"), ("every", "a"), ("decide", "approved"), ("both", "b"), ("every", "b")]
    assert sorted(expected) == sorted(calls)
    assert asyncio.iscoroutinefunction(decide)
    assert callable(both)


async def test_finished_handlers_are_not_called_again(inbox: MemoryInbox) -> None:
    """If one of several handlers fails, the next attempt calls it alone, in any order of them."""
    receiver, calls = WebhookReceiver(CREDENTIALS, inbox, delivery=SOON), list[str]()

    @receiver.on(SessionEvent, name="first")
    async def first(_delivery: Delivery[SessionEvent]) -> None:
        calls.append("first")

    @receiver.on(SessionEvent, name="second")
    async def second(delivery: Delivery[SessionEvent]) -> None:
        calls.append("second")
        if delivery.attempt == 1:
            raise ValueError
        assert frozenset({"first", "third"}) == delivery.handled_by

    @receiver.on(SessionEvent, name="third")
    async def third(_delivery: Delivery[SessionEvent]) -> None:
        calls.append("third")

    async with receiver:
        await take(receiver)
        await until(lambda: receiver.statistics().events_handled)

    assert ["first", "second", "third", "second"] == calls
    assert [{"first", "second", "third"}] == [set(record.handled_by) for record in await inbox.get_deliveries()]


async def test_last_failure_makes_a_dead_letter(inbox: MemoryInbox, caplog: pytest.LogCaptureFixture) -> None:
    """It keeps class and place of the error, not its text, and can be queued again after a repair."""
    is_repaired = False

    async def fail(_delivery: AnyDelivery) -> None:
        if not is_repaired:
            msg = "ada@example.com"
            raise ValueError(msg)

    policy = DeliveryPolicy(max_attempts=2, initial_backoff=0, poll_interval=0.001)
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=fail, delivery=policy) as receiver:
        await take(receiver)
        await until(lambda: receiver.statistics().dead_letters)
        (dead,) = await inbox.get_deliveries(status=DeliveryStatus.DEAD)
        is_repaired = True
        assert await inbox.requeue(dead.session_id, dead.dedup_key)
        await until(lambda: receiver.statistics().events_handled)

    assert dead.error is not None
    assert f"ValueError at {__file__}" in dead.error
    assert 2 == dead.attempts
    assert "ada@example.com" not in dead.error + caplog.text
    (record,) = [record for record in caplog.records if "dead letters" in record.getMessage()]
    assert (logging.ERROR, 2) == (record.levelno, getattr(record, "veriff_attempt", None))


async def test_unrecoverable_error_needs_no_second_attempt(inbox: MemoryInbox) -> None:
    """The event is a dead letter at once, unless another of its handlers can still succeed."""
    receiver, attempts = WebhookReceiver(CREDENTIALS, inbox, delivery=SOON), list[int]()

    @receiver.on(SessionEvent)
    def give_up(_delivery: Delivery[SessionEvent]) -> None:
        msg = "ada@example.com"
        raise UnrecoverableError(msg)

    @receiver.on(SessionEvent)
    async def fail_first(delivery: Delivery[SessionEvent]) -> None:
        attempts.append(delivery.attempt)
        if delivery.event.session_id == "twice" and delivery.attempt == 1:
            raise ValueError

    async with receiver:
        await take(receiver, "once")
        await until(lambda: receiver.statistics().dead_letters == 1)
        await take(receiver, "twice")
        await until(lambda: receiver.statistics().dead_letters == 2)

    assert [1, 1, 2] == attempts
    counts = {record.session_id: record.attempts for record in await inbox.get_deliveries(status=DeliveryStatus.DEAD)}
    assert {"once": 1, "twice": 2} == counts


async def test_process_that_dies_in_each_attempt_makes_a_dead_letter() -> None:
    """The handlers are not called again when the last attempt ended with its process."""
    clock, calls = Clock(), list[AnyDelivery]()
    inbox = MemoryInbox(now=clock)
    await inbox.record(session_event("s", "started"), deliver=True)
    for _ in range(2):
        assert await inbox.lease(1, seconds=60)
        clock.now += 61
    policy = DeliveryPolicy(max_attempts=2)
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=calls.append, delivery=policy) as receiver:
        await until(lambda: receiver.statistics().dead_letters)

    (dead,) = await inbox.get_deliveries()
    assert [] == calls
    assert (DeliveryStatus.DEAD, "veriff-async: the process ended during the last attempt") == (dead.status, dead.error)


async def test_events_of_a_session_are_handled_in_their_order(inbox: MemoryInbox) -> None:
    """A failed event is handled again before the later ones of its session; other sessions do not wait for it."""
    calls: list[tuple[str | None, int]] = []

    async def call(delivery: AnyDelivery) -> None:
        calls.append((delivery.event.session_id, delivery.attempt))
        assert isinstance(delivery.event, SessionEvent)
        if delivery.event.session_id == "a" and delivery.event.action == "started" and delivery.attempt < 3:
            await asyncio.sleep(0)
            raise ValueError

    async with WebhookReceiver(CREDENTIALS, inbox, on_event=call, delivery=SOON) as receiver:
        for action in ("started", "submitted"):
            for session_id in ("a", "b"):
                await take(receiver, session_id, action)
        await until(lambda: receiver.statistics().events_handled == 4)

    assert [1, 2, 3, 1] == [attempt for session_id, attempt in calls if session_id == "a"]
    assert [1, 1] == [attempt for session_id, attempt in calls if session_id == "b"]


async def test_receiver_leases_only_what_it_can_start() -> None:
    """Not more than `max_running` events are leased, so that other processes get the rest."""
    inbox, running, most, may_end = FlakyInbox(), 0, 0, asyncio.Event()

    async def count(_delivery: AnyDelivery) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await may_end.wait()
        running -= 1

    async with WebhookReceiver(CREDENTIALS, inbox, on_event=count, max_running=3, delivery=SOON) as receiver:
        for number in range(10):
            await take(receiver, f"{number}")
        await until(lambda: running == 3)
        assert 3 == len(await inbox.get_deliveries(status=DeliveryStatus.LEASED))
        may_end.set()
        await until(lambda: receiver.statistics().events_handled == 10)

    assert 3 == most
    assert 3 == max(inbox.limits)


async def test_events_without_handlers_are_not_queued(inbox: MemoryInbox) -> None:
    """Only an event that a handler gets is queued; a repetition of its webhook queues one that was not."""
    receiver, calls = WebhookReceiver(CREDENTIALS, inbox), list[Delivery[SessionEvent]]()
    async with receiver:
        await take(receiver)
        assert [None] == [record.status for record in await inbox.get_deliveries()]
        receiver.on(DecisionEvent)(lambda _delivery: None)
        await take(receiver)
        assert [None] == [record.status for record in await inbox.get_deliveries()]
        receiver.on(SessionEvent, name="late")(calls.append)
        for _ in range(2):
            await take(receiver)
        await until(lambda: receiver.statistics().events_handled)

    assert 1 == len(calls)


async def test_event_without_a_handler_here_is_left_to_other_processes(caplog: pytest.LogCaptureFixture) -> None:
    """During a deploy another version may have the handler; if no process has it for ten minutes, it blocks nothing."""
    clock = Clock()
    clock.now = time.time()
    inbox, calls = MemoryInbox(now=clock), list[AnyDelivery]()
    earlier = WebhookReceiver(CREDENTIALS, inbox, delivery=MANUAL)
    earlier.on(DecisionEvent)(lambda _delivery: None)
    later = WebhookReceiver(CREDENTIALS, inbox, on_event=calls.append, delivery=MANUAL)
    async with earlier, later:
        await inbox.record(session_event("s", "started"), deliver=True)
        assert 1 == await earlier.handle_pending()
        clock.now += 3
        assert 1 == await later.handle_pending()
        clock.now -= 700
        await inbox.record(session_event("old", "started"), deliver=True)
        assert 1 == await earlier.handle_pending()

    assert [1] == [delivery.attempt for delivery in calls]
    assert {DeliveryStatus.HANDLED} == {record.status for record in await inbox.get_deliveries()}
    assert 1 == caplog.text.count("No process has a handler for a queued SessionEvent")


async def test_pending_events_need_handlers(inbox: MemoryInbox) -> None:
    """A program that forgot its handlers must not settle the events of others."""
    with pytest.raises(ConfigurationError, match="register them first"):
        await WebhookReceiver(CREDENTIALS, inbox).handle_pending()


async def test_failing_lease_is_logged_once_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    """An inbox that fails stops no receiver: events are handled when it works again."""
    caplog.set_level(logging.INFO)
    inbox, calls = FlakyInbox(), list[AnyDelivery]()
    inbox.failures["lease"] = 3
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=calls.append, delivery=SOON) as receiver:
        for number in range(4):  # each record lets it try again at once
            await take(receiver, f"{number}")
            await run_loop()
        await until(lambda: len(calls) == 4)

    assert 1 == caplog.text.count("The inbox failed with InboxError; events are handled when it works again.")
    assert 1 == caplog.text.count("The inbox works again")
    assert "ada@example.com" not in caplog.text


async def test_failed_settlement_is_repeated(advance_time: Callable[[float], None]) -> None:
    """The outcome is stored when the inbox works again, and the handler is not called again."""
    inbox, calls = FlakyInbox(), list[AnyDelivery]()
    inbox.failures["settle"] = 2
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=calls.append, delivery=SOON) as receiver:
        await take(receiver)
        await until(lambda: inbox.failures["settle"] == 1)
        for _ in range(2):
            await run_loop()
            advance_time(0.5)
        await until(lambda: receiver.statistics().events_handled)

    assert 1 == len(calls)


async def test_settlement_that_always_fails_ends_with_the_lease(
    advance_time: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """When its lease has ended, the attempt gives up, since another process handles the event again."""
    inbox = FlakyInbox()
    inbox.failures["settle"] = inbox.failures["extend"] = 1000
    policy = DeliveryPolicy(lease=30)
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=lambda _: None, delivery=policy) as receiver:
        await take(receiver)
        await until(lambda: inbox.failures["settle"] < 1000)
        while receiver.statistics().active_events:
            advance_time(5)
            await run_loop()

    assert 0 == receiver.statistics().events_handled
    assert "The lease of an event ended during attempt 1" in caplog.text


async def test_running_handlers_keep_their_leases(advance_time: Callable[[float], None]) -> None:
    """A handler may take much longer than a lease; no other receiver gets its event."""
    clock, began, may_end = Clock(), asyncio.Event(), asyncio.Event()
    inbox, others = MemoryInbox(now=clock), list[AnyDelivery]()

    async def wait(_delivery: AnyDelivery) -> None:
        began.set()
        await may_end.wait()

    async with (
        WebhookReceiver(CREDENTIALS, inbox, on_event=wait) as receiver,
        WebhookReceiver(CREDENTIALS, inbox, on_event=others.append, delivery=MANUAL) as other,
    ):
        await take(receiver)
        await began.wait()
        for _ in range(10):
            clock.now += 21
            advance_time(21)
            await run_loop()
            assert 0 == await other.handle_pending()
        may_end.set()
        await until(lambda: receiver.statistics().events_handled)

    assert [] == others


async def test_lost_lease_ends_the_attempt(
    advance_time: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """If another process has begun an attempt, because this one slept, the handler is cancelled and stores nothing."""
    clock, began, cancelled = Clock(), asyncio.Event(), list[int]()
    inbox, others = MemoryInbox(now=clock), list[AnyDelivery]()

    async def wait(delivery: AnyDelivery) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(delivery.attempt)

    async with (
        WebhookReceiver(CREDENTIALS, inbox, on_event=wait) as receiver,
        WebhookReceiver(CREDENTIALS, inbox, on_event=others.append, delivery=MANUAL) as other,
    ):
        await take(receiver)
        await began.wait()
        clock.now += 61
        assert 1 == await other.handle_pending()
        advance_time(21)
        await until(lambda: cancelled)
        await until(lambda: not receiver.statistics().active_events)

    assert [2] == [delivery.attempt for delivery in others]
    assert (0, 0) == (receiver.statistics().events_handled, receiver.statistics().attempts_failed)
    assert "The lease of an event ended during attempt 1" in caplog.text


async def test_shutdown_gives_attempts_back(inbox: MemoryInbox) -> None:
    """Another process begins the cancelled attempt at once, and with the same number."""
    began, others = asyncio.Event(), list[AnyDelivery]()

    async def hang(_delivery: AnyDelivery) -> None:
        began.set()
        await asyncio.Event().wait()

    async with WebhookReceiver(CREDENTIALS, inbox, on_event=hang, close_timeout=0.001) as receiver:
        await take(receiver)
        await began.wait()
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=others.append) as other:
        await until(lambda: other.statistics().events_handled)

    assert [1] == [delivery.attempt for delivery in others]


@pytest.mark.parametrize("steps", range(12))
async def test_cancellation_while_attempts_start_gives_them_back(inbox: MemoryInbox, steps: int) -> None:
    """A program that cancels all its tasks, at any step, leaves no event leased and counts no attempt."""
    for session in ("first", "second", "third"):
        await inbox.record(decision_event(session, "approved"), deliver=True)
    receiver = WebhookReceiver(CREDENTIALS, inbox, delivery=MANUAL)

    @receiver.on()
    async def block(_: AnyDelivery) -> None:
        await asyncio.Event().wait()

    own = asyncio.all_tasks()
    running = asyncio.create_task(receiver.handle_pending())
    for _ in range(steps):
        await asyncio.sleep(0)
    tasks = {running, *asyncio.all_tasks()} - own
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    records = await inbox.get_deliveries()
    assert [(DeliveryStatus.QUEUED, 0)] * 3 == [(record.status, record.attempts) for record in records]
    await receiver.aclose()


async def test_pending_events_are_handled_on_demand(inbox: MemoryInbox) -> None:
    """Without a background, `handle_pending` handles what is due, a limited number if asked, and returns."""
    calls: list[AnyDelivery] = []
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=calls.append, delivery=MANUAL, max_running=2) as receiver:
        for number in range(5):
            for action in ("started", "submitted"):
                await take(receiver, f"{number}", action)
        await run_loop()
        assert [] == calls
        assert 3 == await receiver.handle_pending(limit=3)
        assert 3 == len(calls)
        assert 7 == await receiver.handle_pending()
        assert 0 == await receiver.handle_pending()
        with pytest.raises(InvalidArgumentError, match="limit is 0"):
            await receiver.handle_pending(limit=0)

    assert 10 == len(calls)


async def test_handler_may_handle_pending_events(inbox: MemoryInbox) -> None:
    """A handler that calls `handle_pending` does not wait for itself."""
    counts: list[int] = []

    async def call(_delivery: AnyDelivery) -> None:
        counts.append(await receiver.handle_pending())

    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=call, delivery=MANUAL)
    async with receiver:
        await take(receiver)
        assert 1 == await receiver.handle_pending()
    assert [0] == counts


async def test_handlers_that_handle_pending_events_do_not_wait_for_each_other(inbox: MemoryInbox) -> None:
    """Two handlers call it at the same time, one of them in a task of its own; both end."""
    both_run = asyncio.Barrier(2)

    async def call(delivery: AnyDelivery) -> None:
        await both_run.wait()
        pending = receiver.handle_pending()
        await (asyncio.create_task(pending) if delivery.event.session_id == "first" else pending)

    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=call, delivery=MANUAL)
    async with receiver:
        await take(receiver, "first")
        await take(receiver, "second")
        assert 2 == await receiver.handle_pending()
    assert 2 == receiver.statistics().events_handled


async def test_pending_events_need_the_inbox() -> None:
    """A failure of the inbox is an `InboxError`."""
    inbox = FlakyInbox()
    inbox.failures["lease"] = 1
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=lambda _: None, delivery=MANUAL) as receiver:
        with pytest.raises(InboxError):
            await receiver.handle_pending()


@pytest.mark.parametrize("is_async", [True, False], ids=["coroutine", "thread"])
async def test_slow_handler_is_ended(inbox: MemoryInbox, *, is_async: bool) -> None:
    """With `handler_timeout` a call that takes longer has failed; a thread is left behind."""
    may_end = threading.Event()

    async def hang(_delivery: AnyDelivery) -> None:
        await asyncio.Event().wait()

    def block(_delivery: AnyDelivery) -> None:
        may_end.wait()

    policy = DeliveryPolicy(handler_timeout=0.001, max_attempts=1)
    function = hang if is_async else block
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=function, delivery=policy) as receiver:
        await take(receiver)
        await until(lambda: receiver.statistics().dead_letters)
    may_end.set()

    (dead,) = await inbox.get_deliveries()
    assert dead.error is not None
    assert dead.error.endswith("TimeoutError after 0.001 s")


async def test_receiver_closed_from_outside_leases_nothing() -> None:
    """`aclose` in another loop also stops the handlers' loop, soon."""
    inbox = FlakyInbox()
    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=lambda _: None, delivery=SOON)
    receiver.open()
    await until(lambda: inbox.limits)
    await asyncio.to_thread(asyncio.run, receiver.aclose())
    # `MemoryInbox` is drained, and then the task ends.
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "veriff handler dispatcher"])


def test_names_are_unique(inbox: MemoryInbox) -> None:
    """The inbox remembers the handlers that have finished by name, so two may not have the same one."""
    receiver = WebhookReceiver(CREDENTIALS, inbox)
    receiver.on(SessionEvent)(print)
    with pytest.raises(ConfigurationError, match=r"Two handlers have the name builtins\.print"):
        receiver.on(DecisionEvent)(print)
    receiver.on(DecisionEvent, name="another")(print)


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (lambda receiver: receiver.on(print), "write for example @receiver.on"),
        (lambda receiver: receiver.on(lambda _: None), "is a function: write for example @receiver.on"),
        (lambda receiver: receiver.on(int), "An event type"),
        (lambda receiver: receiver.on(SessionEvent, name=1)(print), "name must be a str"),
        (lambda receiver: receiver.on(SessionEvent, name="")(print), "at least one character"),
        (lambda receiver: receiver.on(SessionEvent)("print"), "must be a function"),
        (lambda receiver: receiver.on(SessionEvent)(lambda: None), "one argument"),
    ],
)
def test_wrong_registration_is_refused(inbox: MemoryInbox, register: Callable[[Any], object], words: str) -> None:
    """A mistake is reported where the handler is registered."""
    with pytest.raises(ConfigurationError, match=words):
        register(WebhookReceiver(CREDENTIALS, inbox))


class TransactionInbox(FlakyInbox):
    """An inbox with transactions, whose commit may fail with or without an effect."""

    def __init__(self) -> None:
        """Start without effects."""
        super().__init__()
        self.effects: list[str] = []
        self.problem: str | None = None
        self.hangs_after_commit = False
        self.on_commit: Callable[[], object] = list

    @asynccontextmanager
    async def handle_in_transaction(self, delivery: AnyDelivery, outcome: DeliveryOutcome) -> AsyncGenerator[list[str]]:
        """Yield a list whose items are kept if the block succeeds."""
        connection: list[str] = []
        yield connection
        problem, self.problem = self.problem, None
        if problem == "lost":
            raise LeaseLostError(problem)
        if problem != "not committed":
            self.effects += connection
            await super().settle(delivery, outcome)
        self.on_commit()
        if self.hangs_after_commit:
            self.hangs_after_commit = False
            await asyncio.Event().wait()
        if problem is not None:
            raise InboxError(problem)


async def test_effect_and_end_of_a_handler_commit_together() -> None:
    """A handler of a transaction gets the connection; when it fails, nothing of it is kept, and it is called again."""
    inbox, attempts = TransactionInbox(), list[int]()
    receiver = WebhookReceiver(CREDENTIALS, inbox, delivery=SOON)

    @receiver.on(SessionEvent, transaction=True)
    async def add(delivery: Delivery[SessionEvent], connection: list[str]) -> None:
        attempts.append(delivery.attempt)
        connection.append("effect")
        if delivery.attempt == 1:
            raise ValueError

    async with receiver:
        await take(receiver)
        await until(lambda: receiver.statistics().events_handled)

    assert ([1, 2], ["effect"]) == (attempts, inbox.effects)
    assert [DeliveryStatus.HANDLED] == [record.status for record in await inbox.get_deliveries()]


@pytest.mark.parametrize("problem", ["committed", "not committed"])
@pytest.mark.parametrize("is_last", [True, False])
async def test_lost_response_to_a_commit_repeats_no_effect(problem: str, *, is_last: bool) -> None:
    """Whether the transaction was committed or not, its effect happens once, and the other handlers are called too."""
    inbox, calls = TransactionInbox(), list[str]()
    inbox.problem = problem
    receiver = WebhookReceiver(CREDENTIALS, inbox, delivery=SOON)

    async def add(_delivery: AnyDelivery, connection: list[str]) -> None:
        connection.append("effect")

    async def call(_delivery: AnyDelivery) -> None:
        calls.append("call")

    if is_last:
        receiver.on(name="call")(call)
    receiver.on(name="add", transaction=True)(add)
    if not is_last:
        receiver.on(name="call")(call)
    async with receiver:
        await take(receiver)
        while [DeliveryStatus.HANDLED] != [record.status for record in await inbox.get_deliveries()]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    assert (["effect"], ["call"]) == (inbox.effects, calls)


@pytest.mark.parametrize("ends_by", ["timeout", "shutdown"])
async def test_handler_that_is_ended_during_its_commit_repeats_no_effect(ends_by: str) -> None:
    """The names that its transaction has stored stay, so the next attempt calls only the other handler."""
    inbox, calls, began = TransactionInbox(), list[str](), asyncio.Event()
    inbox.hangs_after_commit, inbox.on_commit = True, began.set

    async def add(_delivery: AnyDelivery, connection: list[str]) -> None:
        connection.append("effect")

    def register(policy: DeliveryPolicy) -> WebhookReceiver:
        receiver = WebhookReceiver(CREDENTIALS, inbox, delivery=policy, close_timeout=0.001)
        receiver.on(name="add", transaction=True)(add)
        receiver.on(name="call")(lambda _delivery: calls.append("call"))
        return receiver

    policy = DeliveryPolicy(initial_backoff=0, handler_timeout=0.01 if ends_by == "timeout" else None)
    async with register(policy) as receiver:
        await take(receiver)
        await began.wait()
        await until(lambda: ends_by == "shutdown" or not receiver.statistics().active_events)
    async with register(SOON) as receiver:
        while [DeliveryStatus.HANDLED] != [record.status for record in await inbox.get_deliveries()]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    assert (["effect"], ["call"]) == (inbox.effects, calls)


async def test_lease_that_a_transaction_has_lost_settles_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The attempt ends without an outcome, since another process handles the event."""
    inbox = TransactionInbox()
    inbox.problem = "lost"
    receiver = WebhookReceiver(CREDENTIALS, inbox, delivery=MANUAL)

    @receiver.on(transaction=True)
    async def add(_delivery: AnyDelivery, connection: list[str]) -> None:
        connection.append("effect")

    async with receiver:
        await take(receiver)
        assert 1 == await receiver.handle_pending()

    assert [] == inbox.effects
    assert [DeliveryStatus.LEASED] == [record.status for record in await inbox.get_deliveries()]
    assert (0, 0) == (receiver.statistics().events_handled, receiver.statistics().attempts_failed)
    assert "The lease of an event ended" in caplog.text


def test_transactions_need_such_an_inbox(inbox: MemoryInbox) -> None:
    """Other inboxes and plain functions are refused when the handler is registered."""

    async def add(_delivery: AnyDelivery, _connection: object) -> None:
        """Do nothing."""

    with pytest.raises(ConfigurationError, match="PostgresInbox"):
        WebhookReceiver(CREDENTIALS, inbox).on(transaction=True)(add)
    receiver = WebhookReceiver(CREDENTIALS, TransactionInbox())
    for function in (lambda _delivery, _connection: None, lambda _delivery: None):
        with pytest.raises(ConfigurationError, match="coroutine function of two arguments"):
            receiver.on(transaction=True)(function)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="one argument"):
        receiver.on()(add)  # type: ignore[arg-type]


async def test_event_is_durable_before_it_is_handled(tmp_path: Path) -> None:
    """A handler finds its event in the file, with a connection of its own; the response is 200 either way."""
    path, found = tmp_path / "inbox.db", list[int]()

    def count(delivery: AnyDelivery) -> None:
        with closing(sqlite3.connect(path)) as database:
            rows = database.execute(
                "SELECT body FROM event WHERE session = ?", (str(delivery.event.session_id).encode(),)
            )
            found.append(len(rows.fetchall()))

    async with SqliteInbox(path) as inbox, WebhookReceiver(CREDENTIALS, inbox, on_event=count) as receiver:
        for number in range(5):
            await take(receiver, f"{number}")
        await until(lambda: receiver.statistics().events_handled == 5)

    assert [1] * 5 == found


async def test_other_process_handles_what_this_one_leaves(tmp_path: Path) -> None:
    """Processes with the same file share the work: events of a receiver that is closed are handled by another one."""
    began, others = asyncio.Event(), list[AnyDelivery]()

    async def hang(_delivery: AnyDelivery) -> None:
        began.set()
        await asyncio.Event().wait()

    path = tmp_path / "inbox.db"
    async with SqliteInbox(path) as mine, SqliteInbox(path) as theirs:
        async with WebhookReceiver(CREDENTIALS, mine, on_event=hang, max_running=1, close_timeout=0.001) as receiver:
            for number in range(3):
                await take(receiver, f"{number}")
            await began.wait()
        async with WebhookReceiver(CREDENTIALS, theirs, on_event=others.append) as other:
            await until(lambda: other.statistics().events_handled == 3)

    assert [1] * 3 == [delivery.attempt for delivery in others]
    assert {"0", "1", "2"} == {delivery.event.session_id for delivery in others}


async def test_closed_receiver_handles_nothing(inbox: MemoryInbox) -> None:
    """`handle_pending` of a closed receiver is a mistake that it reports."""
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=lambda _: None) as receiver:
        pass
    with pytest.raises(InboxError, match="closed"):
        await receiver.handle_pending()


class PlainInbox:
    """An inbox without a queue."""

    async def record(self, event: WebhookEvent) -> None:
        """Store nothing."""


def test_inbox_without_a_queue_cannot_have_handlers() -> None:
    """It is refused when a handler is registered, and serves without handlers."""
    receiver = WebhookReceiver(CREDENTIALS, PlainInbox())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="DeliveryInbox"):
        receiver.on(SessionEvent)(print)


@pytest.mark.parametrize("is_lost", [False, True])
async def test_progress_that_is_not_stored(is_lost: bool) -> None:  # noqa: FBT001
    """An inbox that fails between two handlers ends no attempt; a lease that was lost there ends it immediately."""

    class Forgetful(MemoryInbox):
        async def settle(self, delivery: AnyDelivery, outcome: DeliveryOutcome) -> bool:
            if outcome.status is not DeliveryStatus.LEASED:
                return await super().settle(delivery, outcome)
            if is_lost:
                return False
            raise InboxError

    called: list[str] = []
    inbox = Forgetful()
    async with WebhookReceiver(CREDENTIALS, inbox, delivery=MANUAL, telemetry=False) as receiver:
        for name in ("first", "second"):

            def note(_delivery: AnyDelivery, name: str = name) -> None:
                called.append(name)

            receiver.on(SessionEvent, name=name)(note)
        await take(receiver)
        assert 1 == await receiver.handle_pending()
        statistics = receiver.statistics()

    assert (["first"] if is_lost else ["first", "second"]) == called
    assert (0 if is_lost else 1) == statistics.events_handled


async def test_refusal_without_telemetry(inbox: MemoryInbox) -> None:
    """A receiver without telemetry counts what it refuses all the same."""
    async with WebhookReceiver(CREDENTIALS, inbox, telemetry=False) as receiver:
        assert 401 == (await receiver.handle("POST", {}, b"{}")).status
        assert 1 == receiver.statistics().refused
