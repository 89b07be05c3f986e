"""Waits with an inbox: records of any process end them, also if webhooks are lost, late or repeated."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests.conditions import run_loop, until
from tests.loops import every_loop
from tests.waiting.helpers import count_polls, decision_webhook
from veriff_async import (
    DecisionSource,
    DecisionTimeoutError,
    FullAutoEvent,
    InboxError,
    PollPolicy,
    RetryPolicy,
    SessionEvent,
    Status,
    VeriffClient,
)
from veriff_async._protocol.webhook import parse_webhook
from veriff_async.inbox import MemoryInbox, SqliteInbox
from veriff_async.models import FullAutoDecision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
    from pathlib import Path

    from veriff_async import Decision, VerificationSession, WebhookEvent
    from veriff_async.client import ClientOptions
    from veriff_async.inbox import Inbox, RecordResult, SessionState
    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, every_loop]

MANY = 1200


class FlakyInbox(MemoryInbox):
    """An inbox of a user that can fail, recover, and lose its subscription."""

    def __init__(self) -> None:
        """Start without an error."""
        super().__init__()
        self.error: Exception | None = None
        self.lookups = 0
        self.subscriptions = 0
        self.ends = asyncio.Event()

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Record, or fail."""
        if self.error is not None:
            raise self.error
        return await super().record(event, source=source, deliver=deliver)

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Look up, or fail."""
        self.lookups += 1
        if self.error is not None:
            raise self.error
        return await super().get_states(session_ids)

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Report the start of the subscription, and no change, until it ends."""
        self.subscriptions += 1
        if self.error is not None:
            raise self.error
        yield None
        await self.ends.wait()
        self.ends.clear()


@pytest.fixture
def inbox() -> MemoryInbox:
    """Return an inbox of this process."""
    return MemoryInbox()


@pytest.fixture
def client_options(inbox: MemoryInbox) -> ClientOptions:
    """Use the inbox, without retries."""
    return {"inbox": inbox, "retry": RetryPolicy(max_attempts=1)}


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Return a submitted session."""
    session = await veriff.create_session()
    await session.submit()
    return session


def has_looked(veriff: VeriffClient) -> bool:
    """Return whether there are waiters, and the inbox was looked up for all of them."""
    sessions = veriff._runtime.waiters.sessions.values()
    return bool(sessions) and not any(wait.is_new for session in sessions for wait in session.waiters)


async def test_webhook_ends_the_wait(sandbox: Sandbox, inbox: MemoryInbox, session: VerificationSession) -> None:
    """A recorded webhook ends the wait with the decision that Veriff sent, without a poll."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await run_loop(200)
    sandbox.decide(session.id, "approved")
    sandbox.webhook_url = "http://127.0.0.1:9/"  # the sandbox prepares the webhook, and the test records it
    sandbox.resend(session.id)
    await sandbox.wait_idle()
    delivery = sandbox.deliveries[-1]
    await inbox.record(parse_webhook(delivery.headers, delivery.body, sandbox.credentials))
    decision = await waiting

    assert (True, DecisionSource.WEBHOOK) == (decision.is_approved, decision.source)
    assert 0 == count_polls(sandbox)
    assert session.status == Status.APPROVED


async def test_webhook_before_wait_resolves_it(sandbox: Sandbox, inbox: MemoryInbox) -> None:
    """After a restart a wait returns immediately a decision that was recorded before, without a request to Veriff."""
    await inbox.record(decision_webhook("8f0d1ab6"))
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as restarted:
        decision = await restarted.session("8f0d1ab6").wait_for_decision(timeout=900)

    assert (True, DecisionSource.KNOWN) == (decision.is_approved, decision.source)
    assert () == sandbox.requests


async def test_record_of_another_process_ends_the_wait(sandbox: Sandbox, tmp_path: Path) -> None:
    """Any process that shares the inbox may receive the webhook."""
    async with AsyncExitStack() as parts:
        mine = await parts.enter_async_context(SqliteInbox(tmp_path / "inbox"))
        other = await parts.enter_async_context(SqliteInbox(tmp_path / "inbox"))
        veriff = await parts.enter_async_context(VeriffClient.from_env(sandbox.environ, inbox=mine))
        waiting = asyncio.create_task(veriff.session("8f0d1ab6").wait_for_decision(timeout=900))
        await until(lambda: has_looked(veriff))
        await other.record(decision_webhook("8f0d1ab6"))
        decision = await waiting

    assert (True, DecisionSource.WEBHOOK) == (decision.is_approved, decision.source)


async def test_all_waits_of_all_sessions_wake(sandbox: Sandbox, veriff: VeriffClient, inbox: MemoryInbox) -> None:
    """All waiters of many sessions are notified, in one lookup or in several."""
    ids = [f"session-{number}" for number in range(MANY)]
    waits = [
        asyncio.create_task(veriff.session(session_id).wait_for_decision(timeout=900))
        for session_id in (*ids, *ids[:50])
    ]
    await run_loop(5)
    assert MANY + 50 == veriff.statistics().waiters
    for session_id in ids:
        await inbox.record(decision_webhook(session_id))

    assert [*ids, *ids[:50]] == [decision.session_id for decision in await asyncio.gather(*waits)]
    assert 0 == count_polls(sandbox)


async def test_recorded_review_does_not_end_a_wait(inbox: MemoryInbox, session: VerificationSession) -> None:
    """By default a review does not end the wait, and a repetition changes nothing."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await run_loop(200)
    for _ in range(2):
        await inbox.record(decision_webhook(session.id, Status.REVIEW))
    await run_loop(200)
    assert not waiting.done()
    await inbox.record(decision_webhook(session.id, Status.DECLINED))

    assert Status.DECLINED == (await waiting).status


async def test_request_of_an_older_attempt_is_not_returned(
    sandbox: Sandbox, veriff: VeriffClient, inbox: MemoryInbox, advance_time: Callable[[float], None]
) -> None:
    """A new process does not return an old request for resubmission, although Veriff still does."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    first = await session.wait_for_decision(timeout=900, poll=PollPolicy())
    assert (DecisionSource.POLL, first) == (first.source, await restarted_wait(sandbox, inbox, session.id))
    await inbox.record(SessionEvent(session_id=session.id, attempt_id="the second", action=Status.STARTED))

    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as restarted:
        before = count_polls(sandbox)
        waiting = asyncio.create_task(restarted.session(session.id).wait_for_decision(timeout=900))
        await until(lambda: bool(restarted._runtime.waiters.sessions) and restarted.statistics().waiters == 1)
        await run_loop(200)
        advance_time(31)
        await until(lambda: count_polls(sandbox) == before + 1)
        await run_loop(200)
        assert not waiting.done()
        await inbox.record(decision_webhook(session.id, Status.RESUBMISSION_REQUESTED, "the second"))
        assert "the second" == (await waiting).attempt_id


async def restarted_wait(sandbox: Sandbox, inbox: Inbox, session_id: str) -> Decision:
    """Wait as a new process would."""
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as restarted:
        return await restarted.session(session_id).wait_for_decision(timeout=900)


async def test_submission_of_another_process_supersedes_the_request(
    sandbox: Sandbox, veriff: VeriffClient, inbox: MemoryInbox, advance_time: Callable[[float], None]
) -> None:
    """After a second submission, in any process, waits expect the decision on it."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    assert (await session.wait_for_decision(timeout=900, poll=PollPolicy())).needs_resubmission

    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as restarted:
        again = restarted.session(session.id)
        await again.submit()
        waiting = asyncio.create_task(again.wait_for_decision(timeout=900))
        await run_loop(200)
        assert not waiting.done()
        sandbox.decide(session.id, "approved")
        advance_time(31)
        assert (await waiting).is_approved


async def test_lost_webhook_is_polled_and_recorded(
    sandbox: Sandbox,
    veriff: VeriffClient,
    inbox: MemoryInbox,
    session: VerificationSession,
    advance_time: Callable[[float], None],
) -> None:
    """Polling with an inbox starts late, and records what it finds, so that every process learns of it."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    sandbox.decide(session.id, "approved")
    await run_loop(200)
    advance_time(29)
    await run_loop(200)
    assert 0 == count_polls(sandbox)
    advance_time(1)
    decision = await waiting
    assert (True, DecisionSource.POLL) == (decision.is_approved, decision.source)

    state = (await inbox.get_states([session.id]))[session.id]
    assert (decision, DecisionSource.POLL) == (state.decision, state.source)
    assert DecisionSource.KNOWN == (await veriff.session(session.id).wait_for_decision(timeout=900)).source
    assert 1 == count_polls(sandbox)


async def test_short_wait_polls_once(
    sandbox: Sandbox, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """A series of short waits, as of a page that reloads, does not postpone the poll for ever."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=10))
    await run_loop(200)
    advance_time(5)
    await until(lambda: count_polls(sandbox) == 1)
    advance_time(5)
    with pytest.raises(DecisionTimeoutError):
        await waiting

    assert 1 == count_polls(sandbox)


async def test_further_wait_does_not_postpone_the_poll(
    sandbox: Sandbox, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """A wait that joins others does not restart their intervals."""
    waits = [asyncio.create_task(session.wait_for_decision(timeout=900))]
    for _ in range(3):
        await run_loop(200)
        advance_time(10)
        waits.append(asyncio.create_task(session.wait_for_decision(timeout=900)))
    sandbox.decide(session.id, "approved")
    for decision in await asyncio.gather(*waits):
        assert decision.is_approved

    assert 1 == count_polls(sandbox)


async def test_full_auto_webhook_triggers_a_poll(
    sandbox: Sandbox, inbox: MemoryInbox, session: VerificationSession
) -> None:
    """A webhook that says that there is a decision, but does not contain it, triggers a poll immediately."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await run_loop(200)
    sandbox.decide(session.id, "approved")
    found = FullAutoDecision(status=Status.APPROVED)
    await inbox.record(FullAutoEvent(session_id=session.id, attempt_id="the first", decision=found))
    decision = await waiting

    assert (True, DecisionSource.POLL) == (decision.is_approved, decision.source)


async def test_decision_call_is_recorded(sandbox: Sandbox, inbox: MemoryInbox, session: VerificationSession) -> None:
    """A decision that `session.decision()` returns is recorded for every process."""
    sandbox.decide(session.id, "approved")
    await session.decision()

    assert (await inbox.get_states([session.id]))[session.id].decision == await session.decision()
    assert 1 == len(await inbox.get_events(session.id))


@pytest.mark.parametrize("error", [InboxError("it is down"), OSError("connection of the user")])
async def test_failing_inbox_is_replaced_by_polling(
    sandbox: Sandbox, error: Exception, advance_time: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """While the inbox fails, the client polls as without one, and rarely again once it works; the log has both."""
    caplog.set_level(logging.INFO, "veriff_async.waiting")
    inbox = FlakyInbox()
    inbox.error = error
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as veriff:
        first, second = [await veriff.create_session() for _ in range(2)]
        waits = [asyncio.create_task(session.wait_for_decision(timeout=9000)) for session in (first, second)]
        await until(lambda: count_polls(sandbox) >= 2)
        assert f"The inbox failed with {type(error).__name__}; waits continue by polling" in caplog.text
        sandbox.decide(first.id, "approved")
        advance_time(5)
        assert DecisionSource.POLL == (await waits[0]).source

        inbox.error = None
        advance_time(31)
        await until(lambda: inbox.lookups > 0 and veriff._runtime.waiters._is_inbox_healthy)
        assert "The inbox works again after" in caplog.text
        await run_loop(200)
        before = count_polls(sandbox)
        await MemoryInbox.record(inbox, decision_webhook(second.id))
        advance_time(29)
        await run_loop(200)
        assert before == count_polls(sandbox)
        inbox.ends.set()  # a subscription that ends is restarted, with a lookup of everything
        await until(lambda: bool(caplog.records[-1:]) and "EOFError" in caplog.text)
        advance_time(1)
        assert DecisionSource.WEBHOOK == (await waits[1]).source


async def test_lasting_failure_of_the_inbox_is_a_warning(
    sandbox: Sandbox, advance_time: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """An inbox that fails for more than a minute is reported once as a warning, because a person should look."""

    def warnings() -> list[logging.LogRecord]:
        return [record for record in caplog.records if vars(record).get("veriff_error") == "InboxError"]

    inbox = FlakyInbox()
    inbox.error = InboxError("it is down")
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as veriff:
        session = await veriff.create_session()
        waiting = asyncio.create_task(session.wait_for_decision(timeout=None))
        while not warnings():
            advance_time(1)
            await run_loop(5)
        before = inbox.subscriptions
        while inbox.subscriptions < before + 3:
            advance_time(10)
            await run_loop(5)
        waiting.cancel()

    assert ["WARNING"] == [record.levelname for record in warnings()]
    assert 60 <= vars(warnings()[0])["veriff_failing_for"]


async def test_failing_inbox_does_not_fail_calls(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """`submit` and `decision` succeed without an inbox that fails, and the log says so."""
    inbox = FlakyInbox()
    inbox.error = InboxError("it is down")
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as veriff:
        session = await veriff.create_session()
        with caplog.at_level(logging.INFO, logger="veriff_async.waiting"):
            await session.submit()
            sandbox.decide(session.id, "approved")
            decision = await session.decision()

    assert decision is not None
    assert ["the recorded state of a session is not used.", "a polled decision is not recorded."] == [
        record.getMessage().partition("; ")[2] for record in caplog.records
    ]


@pytest.fixture
async def silent(sandbox: Sandbox) -> AsyncIterator[tuple[FlakyInbox, VeriffClient]]:
    """Return an inbox that reports no changes, and a client of it."""
    inbox = FlakyInbox()
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as veriff:
        yield inbox, veriff


async def test_one_subscription_serves_all_waits(silent: tuple[FlakyInbox, VeriffClient]) -> None:
    """A hundred waits share one subscription, which ends with the last of them and starts again with the next."""
    inbox, veriff = silent
    for number in (1, 2):
        waits = [asyncio.create_task(veriff.session(f"s{n}").wait_for_decision(timeout=900)) for n in range(100)]
        await run_loop(200)
        assert number == inbox.subscriptions
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        await until(lambda: not [task for task in asyncio.all_tasks() if "veriff-async" in task.get_name()])


async def test_closing_the_client_ends_the_subscription(silent: tuple[FlakyInbox, VeriffClient]) -> None:
    """A closed client has no background tasks."""
    inbox, veriff = silent
    waiting = asyncio.create_task(veriff.session("8f0d1ab6").wait_for_decision(timeout=900))
    await until(lambda: inbox.lookups > 0)
    await veriff.aclose()
    await asyncio.gather(waiting, return_exceptions=True)

    assert not [task for task in asyncio.all_tasks() if "veriff-async" in task.get_name()]
