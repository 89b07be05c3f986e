"""Waiting beside an inbox: woken by what any process recorded, whatever was lost, late, twice, or broken."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests.loops import every_loop
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
from veriff_async._protocol.webhook import event_from_decision, parse_webhook
from veriff_async.inbox import MemoryInbox, SqliteInbox
from veriff_async.models import FullAutoDecision
from veriff_async.models.decision import Decision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
    from pathlib import Path

    from veriff_async import VerificationSession, WebhookEvent
    from veriff_async.client import ClientOptions
    from veriff_async.inbox import Inbox, RecordResult, SessionState
    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, every_loop]

MANY = 1200


class Moody(MemoryInbox):
    """An inbox of a user's own, which can break, come back, and lose its feed."""

    def __init__(self) -> None:
        """Begin well."""
        super().__init__()
        self.trouble: Exception | None = None
        self.looks = 0
        self.feeds = 0
        self.ends = asyncio.Event()

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        """Record, or break."""
        if self.trouble is not None:
            raise self.trouble
        return await super().record(event, source=source)

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Look, or break."""
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        return await super().get_states(session_ids)

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Tell that there is a feed, and nothing more, until it ends."""
        self.feeds += 1
        if self.trouble is not None:
            raise self.trouble
        yield None
        await self.ends.wait()
        self.ends.clear()


@pytest.fixture
def inbox() -> MemoryInbox:
    """Give an inbox of this process."""
    return MemoryInbox()


@pytest.fixture
def client_options(inbox: MemoryInbox) -> ClientOptions:
    """Wait beside the inbox, and do not repeat what fails."""
    return {"inbox": inbox, "retry": RetryPolicy(max_attempts=1)}


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Give a submitted session."""
    session = await veriff.create_session()
    await session.submit()
    return session


def decided(session_id: str, status: Status = Status.APPROVED, attempt: str | None = None) -> WebhookEvent:
    """Make the webhook of a decision."""
    return event_from_decision(Decision(session_id=session_id, status=status, attempt_id=attempt))


def asked(sandbox: Sandbox) -> int:
    """Return how often a decision was asked for."""
    return sum(seen.path.endswith("/decision") for seen in sandbox.requests)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    while not holds():  # noqa: ASYNC110  what is waited for is on the other side of a socket or a thread
        await asyncio.sleep(0)


def has_looked(veriff: VeriffClient) -> bool:
    """Tell whether everybody waits, and what the inbox knew before has been looked at."""
    watched = veriff._waiters.sessions.values()
    return bool(watched) and not any(wait.is_new for one in watched for wait in one.waiters)


async def turns(number: int = 200) -> None:
    """Let the loop turn, so that whatever can go on has done so."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_webhook_wakes_the_wait(sandbox: Sandbox, inbox: MemoryInbox, session: VerificationSession) -> None:
    """What is recorded wakes the wait with what Veriff posted, and nothing is asked."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await turns()
    sandbox.decide(session.id, "approved")
    sandbox.webhook_url = "http://127.0.0.1:9/"  # the sandbox packs what it would post; it is recorded by hand here
    sandbox.resend(session.id)
    await sandbox.wait_idle()
    parcel = sandbox.deliveries[-1]
    await inbox.record(parse_webhook(parcel.headers, parcel.body, sandbox.credentials))
    decision = await waiting

    assert (True, DecisionSource.WEBHOOK) == (decision.is_approved, decision.source)
    assert 0 == asked(sandbox)
    assert session.status == Status.APPROVED


async def test_what_came_before_is_known(sandbox: Sandbox, inbox: MemoryInbox) -> None:
    """After a restart a wait returns at once what came while nobody ran, without asking Veriff anything."""
    await inbox.record(decided("8f0d1ab6"))
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as restarted:
        decision = await restarted.session("8f0d1ab6").wait_for_decision(timeout=900)

    assert (True, DecisionSource.KNOWN) == (decision.is_approved, decision.source)
    assert () == sandbox.requests


async def test_another_process_may_record_it(sandbox: Sandbox, tmp_path: Path) -> None:
    """Whoever shares the store may receive the webhook."""
    async with AsyncExitStack() as parts:
        mine = await parts.enter_async_context(SqliteInbox(tmp_path / "inbox"))
        other = await parts.enter_async_context(SqliteInbox(tmp_path / "inbox"))
        veriff = await parts.enter_async_context(VeriffClient.from_env(sandbox.environ, inbox=mine))
        waiting = asyncio.create_task(veriff.session("8f0d1ab6").wait_for_decision(timeout=900))
        await until(lambda: has_looked(veriff))
        await other.record(decided("8f0d1ab6"))
        decision = await waiting

    assert (True, DecisionSource.WEBHOOK) == (decision.is_approved, decision.source)


async def test_all_waits_of_all_sessions_wake(sandbox: Sandbox, veriff: VeriffClient, inbox: MemoryInbox) -> None:
    """However many wait, and however many for the same session, each is told, in one look or in several."""
    ids = [f"session-{number}" for number in range(MANY)]
    waits = [asyncio.create_task(veriff.session(one).wait_for_decision(timeout=900)) for one in (*ids, *ids[:50])]
    await turns(5)
    assert MANY + 50 == veriff.statistics().waiters
    for one in ids:
        await inbox.record(decided(one))

    assert [*ids, *ids[:50]] == [decision.session_id for decision in await asyncio.gather(*waits)]
    assert 0 == asked(sandbox)


async def test_a_review_announces_another(inbox: MemoryInbox, session: VerificationSession) -> None:
    """By default a review does not end the wait, and repetition changes nothing."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await turns()
    for _ in range(2):
        await inbox.record(decided(session.id, Status.REVIEW))
    await turns()
    assert not waiting.done()
    await inbox.record(decided(session.id, Status.DECLINED))

    assert Status.DECLINED == (await waiting).status


async def test_a_request_that_was_answered_is_no_news(
    sandbox: Sandbox, veriff: VeriffClient, inbox: MemoryInbox, advance_time: Callable[[float], None]
) -> None:
    """A new process does not take an old request for resubmission for an answer, though Veriff goes on to show it."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    first = await session.wait_for_decision(timeout=900, poll=PollPolicy())
    assert (DecisionSource.POLL, first) == (first.source, await restarted_wait(sandbox, inbox, session.id))
    await inbox.record(SessionEvent(session_id=session.id, attempt_id="the second", action=Status.STARTED))

    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as restarted:
        before = asked(sandbox)
        waiting = asyncio.create_task(restarted.session(session.id).wait_for_decision(timeout=900))
        await until(lambda: bool(restarted._waiters.sessions) and restarted.statistics().waiters == 1)
        await turns()
        advance_time(31)
        await until(lambda: asked(sandbox) == before + 1)
        await turns()
        assert not waiting.done()
        await inbox.record(decided(session.id, Status.RESUBMISSION_REQUESTED, "the second"))
        assert "the second" == (await waiting).attempt_id


async def restarted_wait(sandbox: Sandbox, inbox: Inbox, session_id: str) -> Decision:
    """Wait as a new process would."""
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as restarted:
        return await restarted.session(session_id).wait_for_decision(timeout=900)


async def test_a_submission_puts_the_request_behind(
    sandbox: Sandbox, veriff: VeriffClient, inbox: MemoryInbox, advance_time: Callable[[float], None]
) -> None:
    """Whoever submits again, in whichever process, waits for what is decided about that."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    assert (await session.wait_for_decision(timeout=900, poll=PollPolicy())).needs_resubmission

    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as restarted:
        again = restarted.session(session.id)
        await again.submit()
        waiting = asyncio.create_task(again.wait_for_decision(timeout=900))
        await turns()
        assert not waiting.done()
        sandbox.decide(session.id, "approved")
        advance_time(31)
        assert (await waiting).is_approved


async def test_a_lost_webhook_is_asked_for(
    sandbox: Sandbox,
    veriff: VeriffClient,
    inbox: MemoryInbox,
    session: VerificationSession,
    advance_time: Callable[[float], None],
) -> None:
    """Polling beside an inbox begins late; what it finds is recorded, so that every process learns of it."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    sandbox.decide(session.id, "approved")
    await turns()
    advance_time(29)
    await turns()
    assert 0 == asked(sandbox)
    advance_time(1)
    decision = await waiting
    assert (True, DecisionSource.POLL) == (decision.is_approved, decision.source)

    state = (await inbox.get_states([session.id]))[session.id]
    assert (decision, DecisionSource.POLL) == (state.decision, state.source)
    assert DecisionSource.KNOWN == (await veriff.session(session.id).wait_for_decision(timeout=900)).source
    assert 1 == asked(sandbox)


async def test_a_short_wait_asks_once(
    sandbox: Sandbox, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """Short waits in a row, as of a page that asks again and again, do not put off the question for ever."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=10))
    await turns()
    advance_time(5)
    await until(lambda: asked(sandbox) == 1)
    advance_time(5)
    with pytest.raises(DecisionTimeoutError):
        await waiting

    assert 1 == asked(sandbox)


async def test_a_further_wait_puts_no_question_off(
    sandbox: Sandbox, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """Whoever joins a wait does not begin its pauses anew."""
    waits = [asyncio.create_task(session.wait_for_decision(timeout=900))]
    for _ in range(3):
        await turns()
        advance_time(10)
        waits.append(asyncio.create_task(session.wait_for_decision(timeout=900)))
    sandbox.decide(session.id, "approved")
    for decision in await asyncio.gather(*waits):
        assert decision.is_approved

    assert 1 == asked(sandbox)


async def test_a_full_auto_webhook_makes_it_ask(
    sandbox: Sandbox, inbox: MemoryInbox, session: VerificationSession
) -> None:
    """A webhook of another form tells that there is a decision, so Veriff is asked for it at once."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await turns()
    sandbox.decide(session.id, "approved")
    found = FullAutoDecision(status=Status.APPROVED)
    await inbox.record(FullAutoEvent(session_id=session.id, attempt_id="the first", decision=found))
    decision = await waiting

    assert (True, DecisionSource.POLL) == (decision.is_approved, decision.source)


async def test_a_question_of_the_caller_is_recorded(
    sandbox: Sandbox, inbox: MemoryInbox, session: VerificationSession
) -> None:
    """What a caller asked for himself is told to every process too."""
    sandbox.decide(session.id, "approved")
    await session.decision()

    assert (await inbox.get_states([session.id]))[session.id].decision == await session.decision()
    assert 1 == len(await inbox.get_events(session.id))


@pytest.mark.parametrize("trouble", [InboxError("it is down"), OSError("connection of a user's own")])
async def test_a_failing_inbox_is_replaced_by_polling(
    sandbox: Sandbox, trouble: Exception, advance_time: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """While the inbox fails it is polled as without one, with a warning; when it is back, polling is seldom again."""
    inbox = Moody()
    inbox.trouble = trouble
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as veriff:
        first, second = [await veriff.create_session() for _ in range(2)]
        waits = [asyncio.create_task(one.wait_for_decision(timeout=9000)) for one in (first, second)]
        with caplog.at_level(logging.WARNING, logger="veriff_async.waiting"):
            await until(lambda: asked(sandbox) >= 2)
        assert f"the inbox failed with {type(trouble).__name__}; waits continue by polling" in caplog.text
        sandbox.decide(first.id, "approved")
        advance_time(5)
        assert DecisionSource.POLL == (await waits[0]).source

        inbox.trouble = None
        advance_time(31)
        await until(lambda: inbox.looks > 0 and veriff._waiters._is_inbox_healthy)
        await turns()
        before = asked(sandbox)
        await MemoryInbox.record(inbox, decided(second.id))
        advance_time(29)
        await turns()
        assert before == asked(sandbox)
        inbox.ends.set()  # a feed that ends is begun anew, with a look at everything
        await until(lambda: bool(caplog.records[-1:]) and "EOFError" in caplog.text)
        advance_time(1)
        assert DecisionSource.WEBHOOK == (await waits[1]).source


async def test_a_failing_inbox_stops_no_call(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Submitting and asking go on without an inbox that fails, and say so."""
    inbox = Moody()
    inbox.trouble = InboxError("it is down")
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as veriff:
        session = await veriff.create_session()
        with caplog.at_level(logging.WARNING, logger="veriff_async.waiting"):
            await session.submit()
            sandbox.decide(session.id, "approved")
            decision = await session.decision()

    assert decision is not None
    assert ["the recorded state of a session is not used", "a polled decision is not recorded"] == [
        record.getMessage().partition("; ")[2] for record in caplog.records
    ]


@pytest.fixture
async def endless(sandbox: Sandbox) -> AsyncIterator[tuple[Moody, VeriffClient]]:
    """Give a client beside an inbox whose feed tells nothing."""
    inbox = Moody()
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as veriff:
        yield inbox, veriff


async def test_one_feed_serves_all(endless: tuple[Moody, VeriffClient]) -> None:
    """A hundred waits follow the inbox once; with the last of them the feed ends, and begins again with the next."""
    inbox, veriff = endless
    for round_ in (1, 2):
        waits = [asyncio.create_task(veriff.session(f"s{n}").wait_for_decision(timeout=900)) for n in range(100)]
        await turns()
        assert round_ == inbox.feeds
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        await until(lambda: not [task for task in asyncio.all_tasks() if "veriff-async" in task.get_name()])


async def test_closing_ends_the_feed(endless: tuple[Moody, VeriffClient]) -> None:
    """A closed client follows nothing any more."""
    inbox, veriff = endless
    waiting = asyncio.create_task(veriff.session("8f0d1ab6").wait_for_decision(timeout=900))
    await until(lambda: inbox.looks > 0)
    await veriff.aclose()
    await asyncio.gather(waiting, return_exceptions=True)

    assert not [task for task in asyncio.all_tasks() if "veriff-async" in task.get_name()]
