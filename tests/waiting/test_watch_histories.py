"""Watches over random histories: webhooks that are repeated, late or lost, slow consumers, and cancelled steps."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Final

from hypothesis import given, strategies as st

from tests.conditions import run_loop
from tests.waiting.helpers import OFTEN
from veriff_async import Decision, DecisionSource, Status
from veriff_async._protocol.watched_state import is_shown
from veriff_async._waiting.waiters import DecisionWaiters
from veriff_async._waiting.watch import SessionWatch
from veriff_async.inbox import MemoryInbox
from veriff_async.testing.factories import decision_event, decision_of, session_event

if TYPE_CHECKING:
    from veriff_async import WebhookEvent
    from veriff_async.inbox import RecordResult, SessionState

S: Final = "s"


def make_life(random: Random) -> list[WebhookEvent]:
    """Return the events of a session, from its first attempt to its end."""
    life: list[WebhookEvent] = []
    attempts = random.choice(("a", "ab", "abc"))
    for number, attempt in enumerate(attempts):
        steps = ["started", "submitted"]
        ends = ["approved", "declined", "expired"] if attempt == attempts[-1] else ["resubmission_requested"]
        life += [session_event(S, step, attempt_id=attempt) for step in steps if random.random() < 0.7]
        if random.random() < 0.3:
            life.append(decision_event(S, "review", attempt_id=attempt, minute=10 * number))
        life.append(decision_event(S, random.choice(ends), attempt_id=attempt, minute=10 * number + 1))
    return life


class RecordingInbox(MemoryInbox):
    """An inbox that keeps each state of the session."""

    def __init__(self) -> None:
        """Begin with the state that the program knows."""
        super().__init__()
        self.states: list[SessionState] = []

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Record, and keep the state."""
        result = await super().record(event, source=source, deliver=deliver)
        if result.state is not None:
            self.states.append(result.state)
        return result


async def consume(waits: DecisionWaiters, random: Random) -> list[SessionState]:
    """Return the states of one watch, whose consumer is slow and cancels some of its steps."""
    await run_loop(random.randrange(30))
    seen: list[SessionState] = []
    watch = SessionWatch(
        waits, S, timeout=None, poll=None, get_known=lambda: (Status.CREATED, None), on_state=lambda _: None
    )
    while True:
        step = asyncio.ensure_future(anext(watch))
        await run_loop(random.randrange(12))
        if random.random() < 0.3:
            step.cancel()
        try:
            seen.append(await step)
        except asyncio.CancelledError:
            continue
        except StopAsyncIteration:
            return seen
        await run_loop(random.randrange(12))


async def watch_life(random: Random) -> tuple[list[SessionState], list[list[SessionState]]]:
    """Let a session live, and return the states of its inbox, and those that some watches have shown."""
    inbox = RecordingInbox()
    current: list[Decision] = []
    delivered: list[WebhookEvent] = []

    async def get_decision(_: str) -> Decision | None:
        await run_loop(random.randrange(8))
        answer = current[-1] if current else None
        await run_loop(random.randrange(8))
        return answer

    waits = DecisionWaiters(get_decision, inbox=inbox, poll=OFTEN)
    watches = [asyncio.create_task(consume(waits, random)) for _ in range(3)]
    for event in make_life(random):
        await run_loop(random.randrange(25))
        if event.kind == "decision":
            current.append(decision_of(event))
        if random.random() < 0.8:
            delivered.append(event)
            await inbox.record(event)
        if delivered and random.random() < 0.3:
            await inbox.record(random.choice(delivered))
    shown = await asyncio.gather(*watches)
    assert not waits.sessions
    assert not waits.count
    await waits.aclose()
    return inbox.states, shown


@given(st.integers(0, 2**32))
def test_watch_shows_a_part_of_the_history(seed: int) -> None:
    """Each watch shows some states of the inbox, each once and in their order, and ends with the final one."""
    history, shown = asyncio.run(watch_life(Random(seed)))  # noqa: S311  the same history in every run of an example

    for states in shown:
        assert not any(is_shown(before, after) for before, after in pairwise(states))
        rest = iter(history)
        assert all(any(is_shown(state, each) for each in rest) for state in states if state.status != Status.CREATED)
        assert [states[-1]] == [state for state in states if state.status.is_final]
        assert states[-1].effective_decision is not None
