"""Watches: each state once and in order, from webhooks and polls; many cost as much as one, and leave no trace."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import aclosing
from traceback import extract_tb
from typing import TYPE_CHECKING

import pytest

from tests.conditions import run_loop, until
from tests.loops import every_loop
from tests.waiting.helpers import NEVER, OFTEN, count_polls, decision_webhook, make_client
from veriff_async import (
    ClientClosedError,
    DecisionSource,
    DecisionTimeoutError,
    InboxError,
    InvalidArgumentError,
    NotFoundError,
    RetryPolicy,
    Status,
)
from veriff_async.inbox import MemoryInbox, SqliteInbox
from veriff_async.sandbox import Fault
from veriff_async.testing.factories import decision_event, full_auto_event, session_event

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from veriff_async import SessionWatch, VeriffClient, VerificationSession
    from veriff_async.client import ClientOptions
    from veriff_async.inbox import SessionState
    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, every_loop]

ATTEMPTS = "/v1/sessions/*/attempts"


@pytest.fixture
def inbox() -> MemoryInbox:
    """Return an inbox of this process."""
    return MemoryInbox()


@pytest.fixture
def client_options(request: pytest.FixtureRequest, inbox: MemoryInbox) -> ClientOptions:
    """Use the inbox, and no polls; or polls, and no inbox, for a test with the fixture `polling`."""
    retry = RetryPolicy(max_attempts=1)
    if "polling" in request.fixturenames:
        return {"poll": OFTEN, "retry": retry}
    return {"inbox": inbox, "poll": NEVER, "retry": retry}


@pytest.fixture
def polling() -> None:
    """Let the client poll, without an inbox."""


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Return a new session."""
    return await veriff.create_session()


async def collect(watch: SessionWatch) -> list[str]:
    """Return the statuses of a whole watch."""
    return [state.status.value async for state in watch]


def is_idle(veriff: VeriffClient) -> bool:
    """Return whether nothing is registered, scheduled or running for waits."""
    waits = veriff._runtime.waiters
    return not (waits.sessions or waits.count or waits._custom_schedules or waits._poller._task._run)


async def test_webhooks_are_shown(inbox: MemoryInbox, veriff: VeriffClient, session: VerificationSession) -> None:
    """A watch shows each status that webhooks report, and ends with the decision; no request is sent."""
    watch = session.watch()
    seen = [await anext(watch)]
    for event in (
        session_event(session.id, "started"),
        session_event(session.id, "submitted"),
        decision_event(session.id, "review"),
        decision_event(session.id, "approved"),
    ):
        await inbox.record(event)
        await inbox.record(event)  # Veriff repeats webhooks
        seen.append(await anext(watch))

    assert ["created", "started", "submitted", "review", "approved"] == [state.status for state in seen]
    assert (session.id, DecisionSource.WEBHOOK) == (seen[-1].session_id, seen[-1].source)
    decision = seen[-1].effective_decision
    assert decision is not None
    assert decision.is_approved
    assert is_idle(veriff)  # before the consumer asks for the end
    assert [] == await collect(watch)
    assert 1 == veriff.statistics().requests  # the creation
    assert Status.APPROVED == session.status


async def test_polls_are_shown(
    polling: None, sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """Without an inbox, a watch shows own submissions and polled decisions, through a resubmission to the end."""
    watch = session.watch()
    assert "created" == (await anext(watch)).status
    for verdict in ("resubmission_requested", "approved"):
        await session.submit()
        assert "submitted" == (await anext(watch)).status
        sandbox.decide(session.id, verdict)
        state = await anext(watch)
        assert (verdict, DecisionSource.POLL) == (state.status, state.source)
        assert state.effective_decision is not None

    assert [] == await collect(watch)
    assert is_idle(veriff)


async def test_watches_share_one_poll(sandbox: Sandbox, inbox: MemoryInbox) -> None:
    """Many watches of a session that this process does not know ask for its status once, and end with one webhook."""
    async with make_client(sandbox, inbox) as veriff:
        session_id = (await veriff.create_session()).id
        async with make_client(sandbox, inbox) as other:
            watches = [other.session(session_id).watch() for _ in range(50)]
            waiting = asyncio.create_task(other.session(session_id).wait_for_decision(timeout=None))
            first = await asyncio.gather(*map(anext, watches))
            assert {Status.CREATED} == {state.status for state in first}
            assert 51 == other.statistics().waiters

            await inbox.record(decision_webhook(session_id))
            assert [["approved"]] * 50 == await asyncio.gather(*map(collect, watches))
            assert (await waiting).is_approved
            assert 2 == other.statistics().requests  # the decision, and the attempts
            assert is_idle(other)


async def test_session_of_another_process_starts_with_its_attempt(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """A session that neither the inbox nor the program knows starts with the status of its newest attempt."""
    await session.submit()
    async with make_client(sandbox) as other:  # without an inbox
        with pytest.raises(DecisionTimeoutError):  # this policy never polls
            await anext(other.session(session.id).watch(timeout=0))
        watch = other.session(session.id).watch(poll=OFTEN)
        assert Status.SUBMITTED == (await anext(watch)).status
        sandbox.decide(session.id, "declined")
        assert ["declined"] == await collect(watch)
        # Another watch of a decided session shows the end only.
        assert ["declined"] == await collect(other.session(session.id).watch(poll=OFTEN))


async def test_stored_status_saves_requests(
    inbox: MemoryInbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """A watch starts with the status that the program has stored, unless the inbox knows a later one."""
    async with aclosing(veriff.session(session.id).watch(status="submitted")) as watch:
        assert Status.SUBMITTED == (await anext(watch)).status
    await inbox.record(decision_event(session.id, "review"))
    async with aclosing(veriff.session(session.id).watch(status=Status.SUBMITTED)) as watch:
        assert Status.REVIEW == (await anext(watch)).status
    assert 1 == veriff.statistics().requests  # the creation


@pytest.mark.parametrize("with_inbox", [True, False])
async def test_later_watch_brings_a_later_status(
    sandbox: Sandbox, inbox: MemoryInbox, session: VerificationSession, *, with_inbox: bool
) -> None:
    """The status that a program has stored is shown while other watches are open, unless it is older than theirs."""
    async with make_client(sandbox, inbox if with_inbox else None, NEVER) as veriff:
        attached = veriff.session(session.id)
        first, second, third = (attached.watch(status=status) for status in ("created", "submitted", "started"))
        assert Status.CREATED == (await anext(first)).status
        assert Status.SUBMITTED == (await anext(second)).status == (await anext(first)).status
        assert Status.SUBMITTED == (await anext(third)).status
        for watch in (first, second, third):
            await watch.aclose()


async def test_status_is_read_again_after_an_error(
    polling: None, sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """If reading the attempts fails, the next poll reads them again."""
    sandbox.inject(Fault.status(403), path=ATTEMPTS)
    async with aclosing(veriff.session(session.id).watch()) as watch:
        assert Status.CREATED == (await anext(watch)).status


async def test_unknown_session_ends_the_watch(veriff: VeriffClient) -> None:
    """A session that neither inbox, program nor Veriff knows raises an error at once, and nothing remains."""
    watch = veriff.session("8f0d1ab6-0000-0000-0000-000000000000").watch()
    with pytest.raises(NotFoundError):
        await anext(watch)

    assert is_idle(veriff)
    assert [] == await collect(watch)


async def test_each_watch_raises_an_error_of_its_own(polling: None, sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A failed poll ends many watches and waits, and notes or frames that one adds to its error are in no other."""
    session = veriff.session("8f0d1ab6-0000-0000-0000-000000000000")
    steps = [anext(session.watch()) for _ in range(50)]
    errors = await asyncio.gather(*steps, session.wait_for_decision(), return_exceptions=True)

    assert 51 == len({id(error) for error in errors})
    assert {NotFoundError} == {type(error) for error in errors}
    assert all(isinstance(error, NotFoundError) and error.status == 404 and error.attempts for error in errors)
    assert all(isinstance(error, Exception) and len(extract_tb(error.__traceback__)) < 20 for error in errors)
    assert 1 == count_polls(sandbox)


async def test_slow_consumer_gets_the_latest_state(
    inbox: MemoryInbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """States that come while the consumer is busy are skipped, except the last one."""
    watch = session.watch()
    assert "created" == (await anext(watch)).status
    for attempt in ("a", "b", "c"):
        await inbox.record(session_event(session.id, "submitted", attempt_id=attempt))
        await inbox.record(decision_event(session.id, "resubmission_requested", attempt_id=attempt))
        await run_loop()
    await until(lambda: waits_for_nothing(veriff))
    assert "resubmission_requested" == (await anext(watch)).status
    await inbox.record(session_event(session.id, "submitted", attempt_id="d"))
    await inbox.record(decision_event(session.id, "approved", attempt_id="d"))
    await run_loop()

    assert ["approved"] == await collect(watch)


def waits_for_nothing(veriff: VeriffClient) -> bool:
    """Return whether the inbox has been asked for everything that changed."""
    return not veriff.statistics().inbox_backlog


def has_ended(veriff: VeriffClient, session_id: str) -> bool:
    """Return whether the end of a session is known to its watches."""
    waiters = veriff._runtime.waiters.sessions.get(session_id)
    return waiters is None or all(waiter.is_done for waiter in waiters.waiters)


async def test_cancelled_step_loses_nothing(
    inbox: MemoryInbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """A step that is cancelled, for example to send a comment that keeps a connection open, can be repeated."""
    watch = session.watch()
    await anext(watch)
    for _ in range(3):
        step = asyncio.ensure_future(anext(watch))
        await run_loop()
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
    await inbox.record(session_event(session.id, "submitted"))
    await run_loop()

    assert "submitted" == (await anext(watch)).status
    step = asyncio.ensure_future(anext(watch))
    await run_loop()
    await inbox.record(decision_webhook(session.id))
    await until(lambda: has_ended(veriff, session.id))
    step.cancel()  # when the state has come, and before the task has continued
    await asyncio.gather(step, return_exceptions=True)
    assert ["approved"] == ([step.result().status] if not step.cancelled() else await collect(watch))
    assert is_idle(veriff)


async def leave(session: VerificationSession) -> None:
    """Leave a watch after its first state."""
    async for _ in session.watch():
        break


async def fail(session: VerificationSession) -> None:
    """Leave a watch by an exception."""
    async for state in session.watch():
        raise KeyError(state.status)


async def close(session: VerificationSession) -> None:
    """Close a watch."""
    async with aclosing(session.watch(timeout=900)) as watch:
        await anext(watch)


async def cancel(session: VerificationSession) -> None:
    """Cancel the task of a watch, as a server does when a browser has gone."""
    task = asyncio.create_task(collect(session.watch(timeout=900, poll=NEVER)))
    await run_loop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("end", [leave, fail, close, cancel])
async def test_watch_that_is_left_leaves_nothing(
    veriff: VeriffClient, session: VerificationSession, end: Callable[[VerificationSession], object]
) -> None:
    """However a loop over a watch is left, nothing remains of it, and there is no warning."""
    await asyncio.gather(end(session), return_exceptions=True)  # type: ignore[call-overload]
    gc.collect()

    await until(lambda: is_idle(veriff))


async def test_watch_that_never_began_costs_nothing(veriff: VeriffClient, session: VerificationSession) -> None:
    """A watch registers nothing before its first step, and can be closed then."""
    watch = session.watch()
    assert is_idle(veriff)
    await watch.aclose()
    await watch.aclose()

    assert [] == await collect(watch)


async def test_close_ends_the_step_of_another_task(veriff: VeriffClient, session: VerificationSession) -> None:
    """A task that waits for the next state ends when another one closes the watch."""
    watch = session.watch()
    task = asyncio.create_task(collect(watch))
    await run_loop()
    await watch.aclose()

    assert ["created"] == await task
    assert is_idle(veriff)


async def test_watch_belongs_to_one_task(veriff: VeriffClient, session: VerificationSession) -> None:
    """Two tasks cannot wait for the next state of one watch, and the first is not disturbed by the attempt."""
    watch = session.watch()
    task = asyncio.create_task(collect(watch))
    await run_loop()
    with pytest.raises(RuntimeError, match="once for each task"):
        await anext(watch)
    await watch.aclose()

    assert ["created"] == await task


@pytest.mark.parametrize("seconds", [0, 0.001])
async def test_timeout_comes_after_the_latest_state(
    veriff: VeriffClient, session: VerificationSession, seconds: float
) -> None:
    """A watch that takes too long raises an error that names session and status, after it has shown the status."""
    watch = session.watch(timeout=seconds)
    assert Status.CREATED == (await anext(watch)).status
    with pytest.raises(DecisionTimeoutError, match=f"{session.id}.*created") as caught:
        await anext(watch)

    assert (session.id, Status.CREATED) == (caught.value.session_id, caught.value.last_status)
    assert is_idle(veriff)


async def test_timeout_comes_after_what_the_program_knows(sandbox: Sandbox) -> None:
    """An inbox that never answers does not keep a watch from showing the status that the program knows."""

    class SilentInbox(MemoryInbox):
        """An inbox whose server hangs."""

        async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
            await asyncio.Event().wait()
            return await super().get_states(session_ids)

    async with make_client(sandbox, SilentInbox(), NEVER) as veriff:
        watch = (await veriff.create_session()).watch(timeout=0.01)
        assert Status.CREATED == (await anext(watch)).status
        with pytest.raises(DecisionTimeoutError):
            await anext(watch)


@pytest.mark.parametrize("seconds", [-1, "1", float("nan")])
async def test_wrong_arguments_are_refused(session: VerificationSession, seconds: float) -> None:
    """Wrong arguments raise an error at the call, and not at the first step."""
    with pytest.raises(InvalidArgumentError, match="timeout"):
        session.watch(timeout=seconds)
    with pytest.raises(InvalidArgumentError, match="poll"):
        session.watch(poll=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="status"):
        session.watch(status=3)  # type: ignore[arg-type]


async def test_closed_client_ends_watches(
    inbox: MemoryInbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """When the client is closed, each watch shows the state that it has, and raises an error then."""
    idle, busy = session.watch(), session.watch()
    await anext(idle)
    await anext(busy)
    step = asyncio.ensure_future(anext(idle))
    await run_loop()
    await inbox.record(session_event(session.id, "submitted"))
    assert "submitted" == (await step).status
    veriff.end_waits()

    assert "submitted" == (await anext(busy)).status
    for watch in (idle, busy, session.watch()):
        with pytest.raises(ClientClosedError):
            await anext(watch)
    assert is_idle(veriff)


async def test_announced_decision_is_polled(
    sandbox: Sandbox, inbox: MemoryInbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """A webhook without a decision makes the watch poll, so that its final state has one."""
    watch = session.watch()
    await anext(watch)
    sandbox.decide(session.id, "approved")
    await inbox.record(full_auto_event(session.id, "approved", attempt_id=None))
    state = await anext(watch)

    assert state.effective_decision is not None
    assert 1 == count_polls(sandbox)


async def test_webhooks_reach_watches_of_every_process(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, tmp_path: Path
) -> None:
    """Processes that share an inbox show the same states, also if only one of them has received the webhook."""
    async with (
        SqliteInbox(tmp_path / "inbox.db") as mine,
        SqliteInbox(tmp_path / "inbox.db") as yours,
        make_client(sandbox, mine) as first,
        make_client(sandbox, yours) as second,
    ):
        watches = [client.session(session.id).watch() for client in (first, second)]
        assert ["created"] * 2 == [(await anext(watch)).status for watch in watches]
        await mine.record(session_event(session.id, "submitted"))
        assert ["submitted"] * 2 == [(await anext(watch)).status for watch in watches]
        await yours.record(decision_webhook(session.id, Status.DECLINED))
        assert [["declined"]] * 2 == [await collect(watch) for watch in watches]


async def test_wait_after_a_watch_expects_a_newer_decision(
    sandbox: Sandbox, inbox: MemoryInbox, session: VerificationSession
) -> None:
    """A request for resubmission that a watch has shown does not end the next wait of the same session object."""
    await inbox.record(decision_event(session.id, "resubmission_requested", minute=1))
    async for state in session.watch():
        if state.status == Status.RESUBMISSION_REQUESTED:
            break
    assert Status.RESUBMISSION_REQUESTED == session.status
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await run_loop()
    await inbox.record(decision_event(session.id, "approved", attempt_id="second", minute=2))

    assert (await waiting).is_approved


async def test_view_of_a_session_watches_by_its_own_policy(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """A view polls as its options say, also while the inbox works, and leaves no schedule behind."""
    watch = session.with_options(poll=OFTEN).watch()
    assert Status.CREATED == (await anext(watch)).status
    sandbox.decide(session.id, "approved")  # its webhook is lost

    assert ["approved"] == await collect(watch)
    assert Status.APPROVED == session.status
    assert is_idle(veriff)


async def test_many_watches_take_little_memory(
    inbox: MemoryInbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """A thousand watches of one session are as small as waits, and end with one event."""
    await collect_first(session)  # imports
    asyncio.get_running_loop().set_debug(False)  # in debug mode, each task has ten times the size: a stack trace
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.create_task(collect(session.watch())) for _ in range(1_000)]
    await until(lambda: veriff.statistics().waiters == len(tasks))
    await run_loop()
    size = (tracemalloc.get_traced_memory()[0] - before) / len(tasks)
    tracemalloc.stop()
    await inbox.record(decision_webhook(session.id))

    assert [["created", "approved"]] * len(tasks) == await asyncio.gather(*tasks)
    assert size < 4_096  # 2,100 were measured


async def collect_first(session: VerificationSession) -> None:
    """Begin a watch, and close it."""
    async with aclosing(session.watch()) as watch:
        await anext(watch)


async def test_open_watches_have_no_age(veriff: VeriffClient, session: VerificationSession) -> None:
    """A page that is open for hours is not a wait for a lost decision, so statistics show the age of waits only."""
    async with aclosing(session.watch()) as watch:
        await anext(watch)
        assert 0 == veriff.statistics().max_wait_age
        other = await veriff.create_session()
        waiting = asyncio.create_task(other.wait_for_decision())
        await until(lambda: veriff.statistics().max_wait_age > 0)
        waiting.cancel()


class BrokenInbox(MemoryInbox):
    """An inbox that fails."""

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Fail."""
        raise InboxError("Sentence.")


async def test_broken_inbox_is_replaced_by_polls(sandbox: Sandbox) -> None:
    """While the inbox fails, a watch starts with what the program knows, and polls show the rest."""
    async with make_client(sandbox, BrokenInbox(), poll=OFTEN) as veriff:
        session = await veriff.create_session()
        watch = session.watch()
        assert "created" == (await anext(watch)).status
        sandbox.decide(session.id, "expired")
        assert ["expired"] == await collect(watch)
