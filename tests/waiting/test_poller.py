"""The poller: schedules are independent, and the cost of a wait does not grow with the number of waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.conditions import run_loop
from tests.loops import every_loop
from tests.waiting.helpers import NEVER
from veriff_async import PollPolicy, RateLimitedError, Status, VeriffClient
from veriff_async._protocol.webhook import event_from_decision
from veriff_async._waiting.registry import SessionWaiters, Waiter
from veriff_async._waiting.waiters import DecisionWaiters
from veriff_async.inbox import MemoryInbox
from veriff_async.models.decision import Decision
from veriff_async.testing.factories import full_auto_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, every_loop]


class FakeVeriff:
    """Counts polls by session; there are no decisions."""

    def __init__(self) -> None:
        """Start at zero."""
        self.polls: dict[str, int] = {}
        self.error: Exception | None = None

    async def get_decision(self, session_id: str) -> Decision | None:
        """Count, and return that there is no decision."""
        self.polls[session_id] = self.polls.get(session_id, 0) + 1
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return None


def start(waits: DecisionWaiters, session_id: str = "s", poll: PollPolicy | None = None) -> asyncio.Task[Decision]:
    """Start a wait."""
    return asyncio.create_task(waits.wait(session_id, until=lambda _: True, timeout=None, poll=poll))


async def end(waits: DecisionWaiters, *tasks: asyncio.Task[Decision]) -> None:
    """Cancel waits, and close their owner."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await waits.aclose()


async def test_each_wait_keeps_its_own_schedule(advance_time: Callable[[float], None]) -> None:
    """A wait with its own policy is polled by that policy, independently of the other waits for its session."""
    server = FakeVeriff()
    waits = DecisionWaiters(server.get_decision, poll=NEVER)
    often = PollPolicy(initial_delay=10, interval=10, max_interval=10, backoff_factor=1)
    seldom = PollPolicy(initial_delay=100, interval=100, max_interval=100, backoff_factor=1)
    tasks = [start(waits, poll=often), start(waits), start(waits, poll=seldom)]
    await run_loop()
    assert {} == server.polls
    for second in range(10, 100, 10):
        advance_time(10)
        await run_loop()
        assert {"s": second // 10} == server.polls
    tasks[0].cancel()
    await run_loop()
    advance_time(10)
    await run_loop()
    assert {"s": 10} == server.polls
    advance_time(99)
    await run_loop()
    assert {"s": 10} == server.polls
    advance_time(1)
    await run_loop()
    assert {"s": 11} == server.polls
    await end(waits, *tasks)


async def test_further_wait_does_not_slow_down_others(advance_time: Callable[[float], None]) -> None:
    """A wait that starts later with a slower policy leaves the schedule of the first unchanged."""
    server = FakeVeriff()
    waits = DecisionWaiters(server.get_decision, poll=NEVER)
    often = PollPolicy(initial_delay=10, interval=10, max_interval=10, backoff_factor=1)
    tasks = [start(waits, poll=often)]
    for expected in range(1, 5):
        tasks += [start(waits), start(waits, poll=NEVER), start(waits, poll=PollPolicy(initial_delay=1e5))]
        await run_loop()
        advance_time(10)
        await run_loop()
        assert {"s": expected} == server.polls
    await end(waits, *tasks)


async def test_schedules_of_one_session_never_poll_concurrently() -> None:
    """A hundred waits for one session, with several policies, cost one poll at a time."""
    server = FakeVeriff()
    release = asyncio.Event()
    running = most = 0

    async def ask(session_id: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await server.get_decision(session_id)
        await release.wait()
        running -= 1

    waits = DecisionWaiters(ask, poll=PollPolicy(max_rate=1e6))
    tasks = [
        start(waits, poll=[None, PollPolicy(interval=2.0), PollPolicy(interval=3.0)][number % 3])
        for number in range(99)
    ]
    await run_loop(500)
    assert ({"s": 1}, 1) == (server.polls, most)
    release.set()
    await end(waits, *tasks)


async def test_cancelled_waits_do_not_grow_the_heap() -> None:
    """The heap of the poller stays proportional to the sessions that have waiters, however many waits come and go."""
    waits = DecisionWaiters(FakeVeriff().get_decision, poll=NEVER, inbox=MemoryInbox())
    keep = [start(waits, f"kept-{number}") for number in range(10)]
    await run_loop()
    for number in range(600):
        poll = PollPolicy(initial_delay=1e5 + number) if number % 2 else None
        task = start(waits, f"s{number}", poll)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(waits._poller._heap) <= 2 * (len(keep) + 1) + 64
    assert 10 == waits.count
    assert {} == waits._custom_schedules
    assert waits._watcher is not None
    assert 10 >= len(waits._watcher._pending)
    await end(waits, *keep)


async def test_rescheduling_does_not_grow_the_heap() -> None:
    """A session that is rescheduled repeatedly has one current entry and few stale ones."""
    waits = DecisionWaiters(FakeVeriff().get_decision, poll=NEVER)
    task = start(waits)
    await run_loop()
    session = waits.sessions["s"]
    for number in range(2_000):
        waits._poller.schedule(session, 1e5 - number)
    assert len(waits._poller._heap) <= 70
    await end(waits, task)


@pytest.mark.parametrize("order", ["oldest first", "newest first"])
async def test_many_waiters_of_one_session_take_linear_time(order: str) -> None:
    """Each further waiter, its lookup and its removal take the same steps, however many a session has."""

    class Counted(list[Waiter]):
        steps = 0

        def __iter__(self) -> object:  # type: ignore[override]
            Counted.steps += len(self)
            return super().__iter__()

        def remove(self, _: Waiter) -> None:
            raise AssertionError

    waits = DecisionWaiters(FakeVeriff().get_decision, poll=NEVER, inbox=MemoryInbox())
    session = waits.sessions["s"] = SessionWaiters("s", waiters=Counted())
    tasks = []
    for number in range(600):
        tasks.append(start(waits))
        if number % 10 == 0:
            await asyncio.sleep(0)
    await run_loop()
    assert 600 == waits.count
    assert not any(wait.is_new for wait in session.waiters)
    for task in tasks if order == "oldest first" else reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert 0 == waits.count
    assert Counted.steps <= 10 * 600
    await waits.aclose()


async def test_one_record_wakes_all_waiters_of_a_session(sandbox: Sandbox) -> None:
    """Many waiters of one session, started before and after a review, all wake by one record."""
    inbox = MemoryInbox()
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox, poll=NEVER) as veriff:
        session = veriff.session("s")
        tasks = [asyncio.create_task(session.wait_for_decision(timeout=None)) for _ in range(300)]
        await run_loop()
        await inbox.record(event_from_decision(Decision(session_id="s", status=Status.REVIEW)))
        await run_loop()
        tasks += [asyncio.create_task(session.wait_for_decision(timeout=None)) for _ in range(300)]
        await run_loop()
        assert 600 == veriff.statistics().waiters
        await inbox.record(event_from_decision(Decision(session_id="s", status=Status.APPROVED)))
        assert {Status.APPROVED} == {decision.status for decision in await asyncio.gather(*tasks)}


async def test_retry_after_is_capped(advance_time: Callable[[float], None]) -> None:
    """However long Veriff asks to wait after one response, sessions are polled again after a minute."""
    server = FakeVeriff()
    server.error = RateLimitedError("slow down", status=429, retry_after=1e9)
    waits = DecisionWaiters(
        server.get_decision, poll=PollPolicy(interval=1, max_interval=1, backoff_factor=1), inbox=None
    )
    tasks = [start(waits, f"s{number}") for number in range(3)]
    await run_loop()
    assert 1 <= sum(server.polls.values()) <= 3
    before = sum(server.polls.values())
    advance_time(59)
    await run_loop()
    assert before == sum(server.polls.values())
    for _ in range(5):
        advance_time(1)
        await run_loop()
    assert 3 == len(server.polls)
    await end(waits, *tasks)


async def test_announced_decision_is_polled_at_any_schedule() -> None:
    """A webhook that announces a decision without it causes a poll, also if all waits have a policy of their own."""
    inbox, decision = MemoryInbox(), Decision(session_id="s", status=Status.APPROVED)

    async def get_decision(_: str) -> Decision | None:
        return decision

    waits = DecisionWaiters(get_decision, inbox=inbox, poll=NEVER)
    task = start(waits, poll=PollPolicy(initial_delay=1000))
    await run_loop()
    await inbox.record(full_auto_event("s", "approved"))
    async with asyncio.timeout(5):
        assert (await task).status == Status.APPROVED
    await end(waits)


@pytest.mark.parametrize("poll", [None, PollPolicy(interval=1000)])
async def test_decision_that_is_announced_during_a_poll_is_polled_again(
    poll: PollPolicy | None, advance_time: Callable[[float], None]
) -> None:
    """A webhook that announces a decision during a poll causes another one, because the response may be older."""
    inbox, decision = MemoryInbox(), Decision(session_id="s", status=Status.APPROVED)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def get_decision(_: str) -> Decision | None:
        if begun.is_set():
            return decision
        begun.set()
        await ended.wait()
        return None

    waits = DecisionWaiters(get_decision, inbox=inbox, poll=PollPolicy(interval=1000))
    task = start(waits, poll=poll)
    await begun.wait()
    await inbox.record(full_auto_event("s", "approved"))
    await run_loop()
    advance_time(1)  # the poll for the webhook is due, and left to the one in flight
    await run_loop()
    ended.set()
    async with asyncio.timeout(5):
        assert (await task).status == Status.APPROVED
    await end(waits)
