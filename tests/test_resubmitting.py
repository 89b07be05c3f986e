"""Submitting again: every later wait expects the next decision, through whichever object, client or process."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.loops import every_loop
from tests.servers import RedisServer, one_server
from veriff_async import (
    ApiError,
    BadRequestError,
    DecisionSource,
    DecisionTimeoutError,
    Media,
    PollPolicy,
    ResponseError,
    RetryPolicy,
    Status,
    TransportError,
    VeriffClient,
)
from veriff_async._protocol.webhook import event_from_decision
from veriff_async._waiting.waiters import DecisionWaiters
from veriff_async.inbox import MemoryInbox, RedisInbox, SqliteInbox
from veriff_async.models.decision import Decision
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from veriff_async import WebhookEvent
    from veriff_async.client import ClientOptions
    from veriff_async.inbox import Inbox, RecordResult
    from veriff_async.sandbox import Sandbox

    OurInbox = MemoryInbox | SqliteInbox | RedisInbox

pytestmark = [pytest.mark.anyio, every_loop]

__all__ = ("one_server",)  # a fixture

JPEG = b"\xff\xd8\xff\xe0"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OFTEN = PollPolicy(interval=0.001, max_interval=0.001, backoff_factor=1, max_rate=100_000)
RESUBMIT = Status.RESUBMISSION_REQUESTED


@pytest.fixture
def client_options() -> ClientOptions:
    """Ask often, and do not repeat what fails."""
    return {"retry": RetryPolicy(max_attempts=1), "poll": OFTEN}


def client(sandbox: Sandbox, inbox: Inbox | None = None) -> VeriffClient:
    """Make another client, as another process would."""
    return VeriffClient.from_env(sandbox.environ, poll=OFTEN, retry=RetryPolicy(max_attempts=1), inbox=inbox)


def asked(sandbox: Sandbox) -> int:
    """Return how often a decision was asked for."""
    return sum(seen.path.endswith("/decision") for seen in sandbox.requests)


async def requested(sandbox: Sandbox, veriff: VeriffClient) -> str:
    """Return a session whose end-user was asked to try again, as an application learned by a wait."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    assert (await session.wait_for_decision(timeout=20)).needs_resubmission
    return session.id


async def submit_again(veriff: VeriffClient, session_id: str) -> None:
    """Submit through a session object of its own, as a web application does in each request."""
    session = veriff.session(session_id)
    await session.upload(Media(JPEG, "face"))
    await session.submit()


async def expect_next(sandbox: Sandbox, veriff: VeriffClient, session_id: str) -> None:
    """Wait through a new session object, and see that only the next decision ends it."""
    waiting = asyncio.create_task(veriff.session(session_id).wait_for_decision(timeout=20))
    before = asked(sandbox)
    while asked(sandbox) < before + 3 and not waiting.done():  # noqa: ASYNC110  the sandbox is on the other side of a socket
        await asyncio.sleep(0)
    assert not waiting.done()
    sandbox.decide(session_id, "approved")
    assert (await waiting).is_approved


async def test_another_object_of_the_client_submits(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A submission through one object of a session is known to the waits through every other."""
    session_id = await requested(sandbox, veriff)
    await submit_again(veriff, session_id)
    with pytest.raises(DecisionTimeoutError):
        await veriff.session(session_id).wait_for_decision(timeout=0)

    await expect_next(sandbox, veriff, session_id)


async def test_a_request_that_is_not_answered_stands(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Until a submission answers it, every object of the client returns the request."""
    session_id = await requested(sandbox, veriff)
    for timeout in (20, 0):
        assert (await veriff.session(session_id).wait_for_decision(timeout=timeout)).needs_resubmission


async def test_a_request_that_this_client_never_saw(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A client that learned of the request elsewhere asks for it before it submits, and waits for the next decision."""
    async with client(sandbox) as other:
        session_id = await requested(sandbox, other)
    await submit_again(veriff, session_id)

    await expect_next(sandbox, veriff, session_id)


async def test_the_object_that_created_it_submits_again(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A request that was learned of by a webhook of the application's own is known to the object that created it."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    await session.upload(Media(JPEG, "face"))
    await session.submit()

    await expect_next(sandbox, veriff, session.id)


async def test_a_first_submission_costs_no_question(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The client that created a session submits it without a question, through any object."""
    session = await veriff.create_session()
    await veriff.session(session.id).submit()

    assert 0 == asked(sandbox)


async def test_a_submission_goes_on_when_the_question_fails(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A question before the submission that fails does not stop the submission."""
    async with client(sandbox) as other:
        session = await other.create_session()
    sandbox.inject(Fault.status(403), path="/v1/sessions/*/decision")
    await veriff.session(session.id).submit()

    assert 1 == asked(sandbox)


async def test_several_attempts(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Each of several requests is returned once it stands, and never again once it is answered."""
    session_id = await requested(sandbox, veriff)
    seen = {(await veriff.session(session_id).wait_for_decision(timeout=20)).attempt_id}
    for _ in range(3):
        await submit_again(veriff, session_id)
        waiting = asyncio.create_task(veriff.session(session_id).wait_for_decision(timeout=20))
        await asyncio.sleep(0)
        sandbox.decide(session_id, "resubmission_requested")
        decision = await waiting
        assert decision.needs_resubmission
        assert decision.attempt_id not in seen
        seen.add(decision.attempt_id)


@pytest.fixture(params=["memory", "sqlite", "redis"])
def open_inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], OurInbox]:
    """Make handles on one inbox, as several processes would."""
    if request.param == "memory":
        memory = MemoryInbox()
        return lambda: memory
    if request.param == "sqlite":
        return lambda: SqliteInbox(tmp_path / "inbox.db")
    server: RedisServer = request.getfixturevalue("one_server")
    server.flush()
    return lambda: RedisInbox(server.url)


@pytest.mark.parametrize("learned", ["webhook", "poll", "neither"])
async def test_another_process_submits(sandbox: Sandbox, open_inbox: Callable[[], OurInbox], learned: str) -> None:
    """A submission in one process is known to the waits of every process, however the request came to the inbox."""
    inboxes = [open_inbox() for _ in range(3)]
    async with (
        client(sandbox) as alone,
        client(sandbox, inboxes[0]) as first,
        client(sandbox, inboxes[1]) as second,
        client(sandbox, inboxes[2]) as third,
    ):
        session_id = await requested(sandbox, first if learned == "poll" else alone)
        if learned == "webhook":
            decision = await alone.session(session_id).decision()
            assert decision is not None
            await inboxes[2].record(event_from_decision(decision))
            # A process that returned the request before is no exception.
            assert (await third.session(session_id).wait_for_decision(timeout=20)).needs_resubmission
        await submit_again(second, session_id)
        await expect_next(sandbox, third, session_id)
        assert (await first.session(session_id).wait_for_decision(timeout=0)).source == DecisionSource.KNOWN
    for inbox in inboxes:
        await inbox.aclose()


async def test_the_inbox_fails_at_the_submission(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A submission that the inbox did not take is known to the waits of the client all the same."""

    class Full(MemoryInbox):
        is_full = False

        async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
            if self.is_full:
                raise OSError
            return await super().record(event, source=source)

    inbox = Full()
    async with client(sandbox, inbox) as veriff:
        session_id = await requested(sandbox, veriff)
        inbox.is_full = True
        await submit_again(veriff, session_id)
        inbox.is_full = False
        assert "OSError; other processes do not know of a submission" in caplog.text
        await expect_next(sandbox, veriff, session_id)


async def expect_request(veriff: VeriffClient, session_id: str) -> None:
    """See that the request stands: a wait returns it at once, and asking does too."""
    for timeout in (20, 0):
        assert (await veriff.session(session_id).wait_for_decision(timeout=timeout)).needs_resubmission


@pytest.mark.parametrize("fault", [Fault.lose_response(), Fault.forge_signature()])
async def test_an_answer_that_is_lost(sandbox: Sandbox, open_inbox: Callable[[], OurInbox], fault: Fault) -> None:
    """A submission that was carried out although the call failed is known to every later wait."""
    async with (
        open_inbox() as mine,
        open_inbox() as theirs,
        client(sandbox, mine) as veriff,
        client(sandbox, theirs) as other,
    ):
        session_id = await requested(sandbox, veriff)
        sandbox.inject(fault, method="PATCH")
        with pytest.raises((TransportError, ResponseError)):
            await submit_again(veriff, session_id)
        with pytest.raises(BadRequestError, match="1304"):
            await veriff.session(session_id).submit()
        with pytest.raises(DecisionTimeoutError):
            await veriff.session(session_id).wait_for_decision(timeout=0)
        await expect_next(sandbox, other, session_id)


async def test_an_answer_that_is_lost_without_an_inbox(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The client itself remembers such a submission, also when it could not connect again after that."""
    session_id = await requested(sandbox, veriff)
    sandbox.inject(Fault.lose_response(), method="PATCH")
    with pytest.raises(TransportError):
        await submit_again(veriff, session_id)

    await expect_next(sandbox, veriff, session_id)


KILLED = """
import asyncio, json, sys
from veriff_async import Media, VeriffClient
from veriff_async.inbox import SqliteInbox

async def main(path, session_id):
    async with SqliteInbox(path) as inbox, VeriffClient.from_env(json.load(sys.stdin), inbox=inbox) as veriff:
        session = veriff.session(session_id)
        await session.upload(Media(bytes.fromhex("ffd8ffe0"), "face"))
        await session.submit()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_process_that_is_killed_while_it_submits(sandbox: Sandbox, tmp_path: Path) -> None:
    """A process that is killed after Veriff took its submission, and before it knows, has let the others know."""
    path = tmp_path / "inbox.db"
    async with SqliteInbox(path) as inbox, client(sandbox, inbox) as veriff:
        session_id = await requested(sandbox, veriff)
        sandbox.inject(Fault.stall_response(), method="PATCH")
        arguments = (sys.executable, "-c", KILLED, str(path), session_id)
        process = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(json.dumps(dict(sandbox.environ)).encode())
        process.stdin.close()
        while sandbox.session(session_id).status != Status.SUBMITTED:  # noqa: ASYNC110  in another process
            await asyncio.sleep(0.001)
        process.kill()
        await process.wait()

        await expect_next(sandbox, veriff, session_id)


@pytest.mark.parametrize("status", [400, 429])
async def test_a_submission_that_is_refused(sandbox: Sandbox, open_inbox: Callable[[], OurInbox], status: int) -> None:
    """The request stands again, here and in other processes, until a submission succeeds; however often that fails."""
    async with (
        open_inbox() as mine,
        open_inbox() as theirs,
        client(sandbox, mine) as veriff,
        client(sandbox, theirs) as other,
    ):
        session_id = await requested(sandbox, veriff)
        for _ in range(2):
            sandbox.inject(Fault.status(status), method="PATCH")
            with pytest.raises(ApiError):
                await submit_again(veriff, session_id)
            await expect_request(veriff, session_id)
            await expect_request(other, session_id)
        await submit_again(veriff, session_id)
        await expect_next(sandbox, other, session_id)


@pytest.mark.parametrize("first", ["the refusal", "the success"])
async def test_two_submissions_at_the_same_time(sandbox: Sandbox, first: str) -> None:
    """When one of two submissions of a session succeeds, the refusal of the other lets no request stand again."""
    inbox = MemoryInbox()
    async with client(sandbox, inbox) as veriff, client(sandbox, inbox) as other:
        session_id = await requested(sandbox, veriff)
        waiters, answered = veriff._waiters, await veriff.session(session_id).decision()
        refusal = BadRequestError("refused", status=400)

        async def refused() -> None:
            async with waiters.submissions.track(session_id, answered):
                begun.set()
                await asyncio.wait_for(proceed.wait(), 20)
                raise refusal

        begun, proceed = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(refused())
        await begun.wait()
        async with waiters.submissions.track(session_id, answered):
            await veriff._api.submit_session(session_id)
            if first == "the refusal":
                proceed.set()
                await asyncio.wait([task])
        proceed.set()
        await asyncio.wait([task])
        assert refusal is task.exception()

        await expect_next(sandbox, other, session_id)


async def test_a_submission_that_is_refused_without_an_inbox(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The client itself returns the request again after a refusal, and not after the submission that succeeds."""
    session_id = await requested(sandbox, veriff)
    sandbox.inject(Fault.status(403), method="PATCH")
    with pytest.raises(ApiError):
        await submit_again(veriff, session_id)
    await expect_request(veriff, session_id)
    await submit_again(veriff, session_id)

    await expect_next(sandbox, veriff, session_id)


def decided(status: Status, *, attempt: str | None = "a1", minute: float | None = 0) -> Decision:
    """Make a decision of a session."""
    moment = None if minute is None else NOW + timedelta(minutes=minute)
    return Decision(session_id="s", status=status, attempt_id=attempt, decision_time=moment)


async def told(waits: DecisionWaiters, last: Decision | None = None) -> Decision:
    """Wait for any decision."""
    return await waits.wait("s", until=lambda _: True, timeout=None, last=last)


@pytest.mark.parametrize("minute", [1.0, None])
async def test_a_slow_answer_replaces_no_newer_decision(minute: float | None) -> None:
    """An answer to a question that began before a newer decision was learned of is shown to no wait."""
    slow = decided(RESUBMIT, minute=None if minute is None else 0)
    newer = decided(RESUBMIT, attempt="a2", minute=minute)
    answers: list[asyncio.Future[Decision]] = []

    async def ask(_: str) -> Decision:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    waits = DecisionWaiters(
        ask, poll=PollPolicy(interval=0.001, max_interval=0.001, backoff_factor=1, max_rate=100_000)
    )
    first, waiting = asyncio.create_task(told(waits)), asyncio.create_task(told(waits, last=newer))
    while not answers:  # noqa: ASYNC110  the poller is a task of its own
        await asyncio.sleep(0)
    assert await waits.publish(newer, waits.sequence)
    assert newer == await first
    answers[0].set_result(slow)
    while len(answers) < 2:  # noqa: ASYNC110  asked again
        await asyncio.sleep(0)
    assert not waiting.done()
    answers[1].set_result(decided(Status.APPROVED, attempt="a2", minute=2))

    assert (await waiting).is_approved
    await waits.aclose()


async def test_submission_after_waits_were_ended_is_recorded(sandbox: Sandbox) -> None:
    """A client whose waits were ended still records its submissions, so that no process returns the old request."""
    inbox = MemoryInbox()
    async with client(sandbox, inbox) as veriff, client(sandbox, inbox) as other:
        session_id = await requested(sandbox, veriff)
        veriff.end_waits()
        await submit_again(veriff, session_id)

        await expect_next(sandbox, other, session_id)
