"""Very many waits: each keeps its own pace, costs the same however many there are, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.loops import every_loop
from veriff_async import PollPolicy, RateLimitedError, Status, VeriffClient
from veriff_async._protocol.webhook import event_from_decision
from veriff_async._waiting.waiters import DecisionWaiters, SessionWaiters, Waiter
from veriff_async.inbox import MemoryInbox
from veriff_async.models.decision import Decision

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, every_loop]

NEVER = PollPolicy(initial_delay=1e6)


class Questions:
    """Counts questions by session; nothing is decided."""

    def __init__(self) -> None:
        """Count from zero."""
        self.asked: dict[str, int] = {}
        self.error: Exception | None = None

    async def ask(self, session_id: str) -> Decision | None:
        """Count, and say that nothing is decided."""
        self.asked[session_id] = self.asked.get(session_id, 0) + 1
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return None


async def turns(number: int = 20) -> None:
    """Let the loop turn, so that all that can go on has done so."""
    for _ in range(number):
        await asyncio.sleep(0)


def begin(waits: DecisionWaiters, session_id: str = "s", poll: PollPolicy | None = None) -> asyncio.Task[Decision]:
    """Begin a wait."""
    return asyncio.create_task(waits.wait(session_id, until=lambda _: True, timeout=None, poll=poll))


async def end(waits: DecisionWaiters, *tasks: asyncio.Task[Decision]) -> None:
    """Cancel waits, and close what they belong to."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await waits.aclose()


async def test_each_wait_keeps_its_own_pace(advance_time: Callable[[float], None]) -> None:
    """A wait with a policy of its own is asked for by that policy, whichever other waits its session has."""
    questions = Questions()
    waits = DecisionWaiters(questions.ask, poll=NEVER)
    often = PollPolicy(initial_delay=10, interval=10, max_interval=10, backoff_factor=1)
    seldom = PollPolicy(initial_delay=100, interval=100, max_interval=100, backoff_factor=1)
    tasks = [begin(waits, poll=often), begin(waits), begin(waits, poll=seldom)]
    await turns()
    assert {} == questions.asked
    for second in range(10, 100, 10):
        advance_time(10)
        await turns()
        assert {"s": second // 10} == questions.asked
    tasks[0].cancel()
    await turns()
    advance_time(10)
    await turns()
    assert {"s": 10} == questions.asked
    advance_time(99)
    await turns()
    assert {"s": 10} == questions.asked
    advance_time(1)
    await turns()
    assert {"s": 11} == questions.asked
    await end(waits, *tasks)


async def test_a_further_wait_slows_no_other_down(advance_time: Callable[[float], None]) -> None:
    """A wait that begins later with a slower policy, or with none, leaves the pace of the first as it is."""
    questions = Questions()
    waits = DecisionWaiters(questions.ask, poll=NEVER)
    often = PollPolicy(initial_delay=10, interval=10, max_interval=10, backoff_factor=1)
    tasks = [begin(waits, poll=often)]
    for expected in range(1, 5):
        tasks += [begin(waits), begin(waits, poll=NEVER), begin(waits, poll=PollPolicy(initial_delay=1e5))]
        await turns()
        advance_time(10)
        await turns()
        assert {"s": expected} == questions.asked
    await end(waits, *tasks)


async def test_waits_with_equal_policies_share_questions() -> None:
    """A hundred waits for one session, with equal policies or several, cost one question at a time."""
    questions = Questions()
    release = asyncio.Event()
    running = most = 0

    async def ask(session_id: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await questions.ask(session_id)
        await release.wait()
        running -= 1

    waits = DecisionWaiters(ask, poll=PollPolicy(max_rate=1e6))
    tasks = [
        begin(waits, poll=[None, PollPolicy(interval=2.0), PollPolicy(interval=3.0)][number % 3])
        for number in range(99)
    ]
    await turns(500)
    assert ({"s": 1}, 1) == (questions.asked, most)
    release.set()
    await end(waits, *tasks)


async def test_cancelled_waits_leave_no_entry() -> None:
    """However many waits come and go, the queue of the poller holds about as many entries as sessions that wait."""
    waits = DecisionWaiters(Questions().ask, poll=NEVER, inbox=MemoryInbox())
    keep = [begin(waits, f"kept-{number}") for number in range(10)]
    await turns()
    for number in range(600):
        poll = PollPolicy(initial_delay=1e5 + number) if number % 2 else None
        task = begin(waits, f"s{number}", poll)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(waits._poller._heap) <= 2 * (len(keep) + 1) + 64
    assert 10 == waits.count
    assert {} == waits._custom_schedules
    assert waits._watcher is not None
    assert 10 >= len(waits._watcher._pending)
    await end(waits, *keep)


async def test_rescheduling_leaves_no_entry() -> None:
    """A session that is scheduled again and again has one entry that counts, and few that do not."""
    waits = DecisionWaiters(Questions().ask, poll=NEVER)
    task = begin(waits)
    await turns()
    watched = waits.sessions["s"]
    for number in range(2_000):
        waits._poller.schedule(watched, 1e5 - number)
    assert len(waits._poller._heap) <= 70
    await end(waits, task)


@pytest.mark.parametrize("order", ["oldest first", "newest first"])
async def test_waits_of_one_session_take_linear_time(order: str) -> None:
    """A further wait, its look at the inbox, and its end take the same steps, however many wait for the session."""

    class Counted(list[Waiter]):
        steps = 0

        def __iter__(self) -> object:  # type: ignore[override]
            Counted.steps += len(self)
            return super().__iter__()

        def remove(self, _: Waiter) -> None:
            raise AssertionError

    waits = DecisionWaiters(Questions().ask, poll=NEVER, inbox=MemoryInbox())
    watched = waits.sessions["s"] = SessionWaiters("s", waiters=Counted())
    tasks = []
    for number in range(600):
        tasks.append(begin(waits))
        if number % 10 == 0:
            await asyncio.sleep(0)
    await turns()
    assert 600 == waits.count
    assert not any(wait.is_new for wait in watched.waiters)
    for task in tasks if order == "oldest first" else reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert 0 == waits.count
    assert Counted.steps <= 10 * 600
    await waits.aclose()


async def test_all_waits_of_one_session_wake(sandbox: Sandbox) -> None:
    """Many waits for one session, begun before and after a review, all wake by one record."""
    inbox = MemoryInbox()
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox, poll=NEVER) as veriff:
        session = veriff.session("s")
        tasks = [asyncio.create_task(session.wait_for_decision(timeout=None)) for _ in range(300)]
        await turns()
        await inbox.record(event_from_decision(Decision(session_id="s", status=Status.REVIEW)))
        await turns()
        tasks += [asyncio.create_task(session.wait_for_decision(timeout=None)) for _ in range(300)]
        await turns()
        assert 600 == veriff.statistics().waiters
        await inbox.record(event_from_decision(Decision(session_id="s", status=Status.APPROVED)))
        assert {Status.APPROVED} == {decision.status for decision in await asyncio.gather(*tasks)}


async def test_one_retry_after_silences_no_one(advance_time: Callable[[float], None]) -> None:
    """However long Veriff asks to wait after one answer, sessions are asked for again after a minute."""
    questions = Questions()
    questions.error = RateLimitedError("slow down", status=429, retry_after=1e9)
    waits = DecisionWaiters(questions.ask, poll=PollPolicy(interval=1, max_interval=1, backoff_factor=1), inbox=None)
    tasks = [begin(waits, f"s{number}") for number in range(3)]
    await turns()
    assert 1 <= sum(questions.asked.values()) <= 3
    before = sum(questions.asked.values())
    advance_time(59)
    await turns()
    assert before == sum(questions.asked.values())
    for _ in range(5):
        advance_time(1)
        await turns()
    assert 3 == len(questions.asked)
    await end(waits, *tasks)
