"""After a submission, every later wait expects the next decision, in any object, client or process."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.conditions import until
from tests.loops import every_loop
from tests.waiting.helpers import JPEG, OFTEN, count_polls, make_client
from veriff_async import (
    ApiError,
    BadRequestError,
    DecisionSource,
    DecisionTimeoutError,
    Media,
    ResponseError,
    RetryPolicy,
    Status,
    TransportError,
    VeriffClient,
)
from veriff_async._protocol import endpoints
from veriff_async._protocol.webhook import event_from_decision
from veriff_async._waiting.waiters import DecisionWaiters
from veriff_async.inbox import MemoryInbox, RedisInbox, SqliteInbox
from veriff_async.models.decision import Decision
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import RedisServer
    from veriff_async import WebhookEvent
    from veriff_async.client import ClientOptions
    from veriff_async.inbox import RecordResult
    from veriff_async.sandbox import Sandbox

    OurInbox = MemoryInbox | SqliteInbox | RedisInbox

pytestmark = [pytest.mark.anyio, every_loop]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RESUBMIT = Status.RESUBMISSION_REQUESTED


@pytest.fixture
def client_options() -> ClientOptions:
    """Ask often, and do not repeat what fails."""
    return {"retry": RetryPolicy(max_attempts=1), "poll": OFTEN}


async def request_resubmission(sandbox: Sandbox, veriff: VeriffClient) -> str:
    """Return a session with a request for resubmission that the client has received."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    assert (await session.wait_for_decision(timeout=20)).needs_resubmission
    return session.id


async def submit_again(veriff: VeriffClient, session_id: str) -> None:
    """Submit through a new session object, as a web application does in each request."""
    session = veriff.session(session_id)
    await session.upload(Media(JPEG, "face"))
    await session.submit()


async def expect_next(sandbox: Sandbox, veriff: VeriffClient, session_id: str) -> None:
    """Wait through a new session object, and check that only the next decision ends the wait."""
    waiting = asyncio.create_task(veriff.session(session_id).wait_for_decision(timeout=20))
    before = count_polls(sandbox)
    await until(lambda: count_polls(sandbox) >= before + 3 or waiting.done())
    assert not waiting.done()
    sandbox.decide(session_id, "approved")
    assert (await waiting).is_approved


async def test_submission_is_known_to_other_session_objects(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A submission through one object of a session is known to waits through every other."""
    session_id = await request_resubmission(sandbox, veriff)
    await submit_again(veriff, session_id)
    with pytest.raises(DecisionTimeoutError):
        await veriff.session(session_id).wait_for_decision(timeout=0)

    await expect_next(sandbox, veriff, session_id)


async def test_unanswered_request_is_returned_by_every_object(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Until a submission answers it, every object of the client returns the request."""
    session_id = await request_resubmission(sandbox, veriff)
    for timeout in (20, 0):
        assert (await veriff.session(session_id).wait_for_decision(timeout=timeout)).needs_resubmission


async def test_request_unknown_to_the_client_is_polled_before_submission(
    sandbox: Sandbox, veriff: VeriffClient
) -> None:
    """A client that does not know the request polls it before it submits, and waits for the next decision."""
    async with make_client(sandbox, poll=OFTEN) as other:
        session_id = await request_resubmission(sandbox, other)
    await submit_again(veriff, session_id)

    await expect_next(sandbox, veriff, session_id)


async def test_second_submission_through_the_creating_object(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A request that the application learned of by its own webhook is known to the object that created the session."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    await session.upload(Media(JPEG, "face"))
    await session.submit()

    await expect_next(sandbox, veriff, session.id)


async def test_first_submission_does_not_poll(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The client that created a session submits it without a poll, through any object."""
    session = await veriff.create_session()
    await veriff.session(session.id).submit()

    assert 0 == count_polls(sandbox)


async def test_failed_poll_does_not_stop_a_submission(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A poll that fails before the submission does not stop the submission."""
    async with make_client(sandbox, poll=OFTEN) as other:
        session = await other.create_session()
    sandbox.inject(Fault.status(403), path="/v1/sessions/*/decision")
    await veriff.session(session.id).submit()

    assert 1 == count_polls(sandbox)


async def test_each_of_several_requests_is_returned_once(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Each of several requests is returned once it is current, and never after it was answered."""
    session_id = await request_resubmission(sandbox, veriff)
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
    """Return a function that opens one inbox, as several processes would."""
    if request.param == "memory":
        memory = MemoryInbox()
        return lambda: memory
    if request.param == "sqlite":
        return lambda: SqliteInbox(tmp_path / "inbox.db")
    server: RedisServer = request.getfixturevalue("single_redis_server")
    server.flush()
    return lambda: RedisInbox(server.url)


@pytest.mark.parametrize("source", ["webhook", "poll", "neither"])
async def test_submission_of_one_process_is_known_to_all(
    sandbox: Sandbox, open_inbox: Callable[[], OurInbox], source: str
) -> None:
    """A submission in one process is known to the waits of every process, however the inbox learned of the request."""
    inboxes = [open_inbox() for _ in range(3)]
    async with (
        make_client(sandbox, poll=OFTEN) as alone,
        make_client(sandbox, inboxes[0], OFTEN) as first,
        make_client(sandbox, inboxes[1], OFTEN) as second,
        make_client(sandbox, inboxes[2], OFTEN) as third,
    ):
        session_id = await request_resubmission(sandbox, first if source == "poll" else alone)
        if source == "webhook":
            decision = await alone.session(session_id).decision()
            assert decision is not None
            await inboxes[2].record(event_from_decision(decision))
            # This also holds for a process that has returned the request before.
            assert (await third.session(session_id).wait_for_decision(timeout=20)).needs_resubmission
        await submit_again(second, session_id)
        await expect_next(sandbox, third, session_id)
        assert (await first.session(session_id).wait_for_decision(timeout=0)).source == DecisionSource.KNOWN
    for inbox in inboxes:
        await inbox.aclose()


async def test_submission_that_the_inbox_rejected_is_known_to_its_client(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A submission that the inbox did not record is still known to the waits of the client."""

    class FullInbox(MemoryInbox):
        is_full = False

        async def record(
            self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
        ) -> RecordResult:
            if self.is_full:
                raise OSError
            return await super().record(event, source=source, deliver=deliver)

    caplog.set_level(logging.INFO, "veriff_async.waiting")
    inbox = FullInbox()
    async with make_client(sandbox, inbox, OFTEN) as veriff:
        session_id = await request_resubmission(sandbox, veriff)
        inbox.is_full = True
        await submit_again(veriff, session_id)
        inbox.is_full = False
        assert "OSError; other processes do not know of a submission" in caplog.text
        await expect_next(sandbox, veriff, session_id)


async def expect_request(veriff: VeriffClient, session_id: str) -> None:
    """Check that the request is current: a wait returns it immediately, and so does a poll."""
    for timeout in (20, 0):
        assert (await veriff.session(session_id).wait_for_decision(timeout=timeout)).needs_resubmission


@pytest.mark.parametrize("fault", [Fault.lose_response(), Fault.forge_signature()])
async def test_submission_with_lost_response_is_known_to_all(
    sandbox: Sandbox, open_inbox: Callable[[], OurInbox], fault: Fault
) -> None:
    """A submission that succeeded although the call failed is known to every later wait."""
    async with (
        open_inbox() as mine,
        open_inbox() as theirs,
        make_client(sandbox, mine, OFTEN) as veriff,
        make_client(sandbox, theirs, OFTEN) as other,
    ):
        session_id = await request_resubmission(sandbox, veriff)
        sandbox.inject(fault, method="PATCH")
        with pytest.raises((TransportError, ResponseError)):
            await submit_again(veriff, session_id)
        with pytest.raises(BadRequestError, match="1304"):
            await veriff.session(session_id).submit()
        with pytest.raises(DecisionTimeoutError):
            await veriff.session(session_id).wait_for_decision(timeout=0)
        await expect_next(sandbox, other, session_id)


async def test_submission_with_lost_response_is_known_without_an_inbox(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The client itself remembers such a submission."""
    session_id = await request_resubmission(sandbox, veriff)
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


async def test_submission_of_a_killed_process_is_known(sandbox: Sandbox, tmp_path: Path) -> None:
    """A process that is killed after Veriff accepted its submission has already recorded it."""
    path = tmp_path / "inbox.db"
    async with SqliteInbox(path) as inbox, make_client(sandbox, inbox, OFTEN) as veriff:
        session_id = await request_resubmission(sandbox, veriff)
        sandbox.inject(Fault.stall_response(), method="PATCH")
        arguments = (sys.executable, "-c", KILLED, str(path), session_id)
        process = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(json.dumps(dict(sandbox.environ)).encode())
        process.stdin.close()
        await until(lambda: sandbox.session(session_id).status == Status.SUBMITTED)
        process.kill()
        await process.wait()

        await expect_next(sandbox, veriff, session_id)


@pytest.mark.parametrize("status", [400, 429])
async def test_rejected_submission_restores_the_request(
    sandbox: Sandbox, open_inbox: Callable[[], OurInbox], status: int
) -> None:
    """After a rejection the request is current again, in every process, until a submission succeeds."""
    async with (
        open_inbox() as mine,
        open_inbox() as theirs,
        make_client(sandbox, mine, OFTEN) as veriff,
        make_client(sandbox, theirs, OFTEN) as other,
    ):
        session_id = await request_resubmission(sandbox, veriff)
        for _ in range(2):
            sandbox.inject(Fault.status(status), method="PATCH")
            with pytest.raises(ApiError):
                await submit_again(veriff, session_id)
            await expect_request(veriff, session_id)
            await expect_request(other, session_id)
        await submit_again(veriff, session_id)
        await expect_next(sandbox, other, session_id)


@pytest.mark.parametrize("first", ["the refusal", "the success"])
async def test_rejection_does_not_undo_a_concurrent_success(sandbox: Sandbox, first: str) -> None:
    """When one of two submissions of a session succeeds, the rejection of the other does not restore the request."""
    inbox = MemoryInbox()
    async with make_client(sandbox, inbox, OFTEN) as veriff, make_client(sandbox, inbox, OFTEN) as other:
        session_id = await request_resubmission(sandbox, veriff)
        waiters, answered = veriff._runtime.waiters, await veriff.session(session_id).decision()
        refusal = BadRequestError("refused", status=400)

        async def refuse() -> None:
            async with waiters.submissions.track(session_id, answered):
                begun.set()
                await asyncio.wait_for(proceed.wait(), 20)
                raise refusal

        begun, proceed = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(refuse())
        await begun.wait()
        async with waiters.submissions.track(session_id, answered):
            await veriff._runtime.transport.send(endpoints.submit_session(session_id))
            if first == "the refusal":
                proceed.set()
                await asyncio.wait([task])
        proceed.set()
        await asyncio.wait([task])
        assert refusal is task.exception()

        await expect_next(sandbox, other, session_id)


async def test_rejected_submission_restores_the_request_without_an_inbox(
    sandbox: Sandbox, veriff: VeriffClient
) -> None:
    """The client itself returns the request again after a rejection, and not after a submission that succeeds."""
    session_id = await request_resubmission(sandbox, veriff)
    sandbox.inject(Fault.status(403), method="PATCH")
    with pytest.raises(ApiError):
        await submit_again(veriff, session_id)
    await expect_request(veriff, session_id)
    await submit_again(veriff, session_id)

    await expect_next(sandbox, veriff, session_id)


def make_decision(status: Status, *, attempt: str | None = "a1", minute: float | None = 0) -> Decision:
    """Make a decision of a session."""
    moment = None if minute is None else NOW + timedelta(minutes=minute)
    return Decision(session_id="s", status=status, attempt_id=attempt, decision_time=moment)


async def wait_for_any(waits: DecisionWaiters, last: Decision | None = None) -> Decision:
    """Wait for any decision."""
    return await waits.wait("s", until=lambda _: True, timeout=None, last=last)


@pytest.mark.parametrize("minute", [1.0, None])
async def test_late_response_does_not_replace_a_newer_decision(minute: float | None) -> None:
    """A response to a poll that started before a newer decision was known does not reach any wait."""
    late = make_decision(RESUBMIT, minute=None if minute is None else 0)
    newer = make_decision(RESUBMIT, attempt="a2", minute=minute)
    answers: list[asyncio.Future[Decision]] = []

    async def ask(_: str) -> Decision:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    waits = DecisionWaiters(ask, poll=OFTEN)
    first, waiting = asyncio.create_task(wait_for_any(waits)), asyncio.create_task(wait_for_any(waits, last=newer))
    await until(lambda: bool(answers))
    assert await waits.publish(newer, waits.sequence)
    assert newer == await first
    answers[0].set_result(late)
    await until(lambda: len(answers) == 2)
    assert not waiting.done()
    answers[1].set_result(make_decision(Status.APPROVED, attempt="a2", minute=2))

    assert (await waiting).is_approved
    await waits.aclose()


async def test_submission_after_waits_were_ended_is_recorded(sandbox: Sandbox) -> None:
    """A client whose waits were ended still records its submissions, so that no process returns the old request."""
    inbox = MemoryInbox()
    async with make_client(sandbox, inbox, OFTEN) as veriff, make_client(sandbox, inbox, OFTEN) as other:
        session_id = await request_resubmission(sandbox, veriff)
        veriff.end_waits()
        await submit_again(veriff, session_id)

        await expect_next(sandbox, other, session_id)
