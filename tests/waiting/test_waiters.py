"""Waits without an inbox: polls are shared, every order of events is handled, and nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.conditions import until
from tests.loops import every_loop
from tests.waiting.helpers import JPEG, OFTEN, count_polls
from veriff_async import (
    ClientClosedError,
    Decision,
    DecisionTimeoutError,
    InvalidArgumentError,
    Media,
    PollPolicy,
    RetryPolicy,
    Status,
    VeriffClient,
)
from veriff_async._waiting.waiters import DecisionWaiters
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async import VerificationSession
    from veriff_async.client import ClientOptions

pytestmark = [pytest.mark.anyio, every_loop]

DECISION = "/v1/sessions/*/decision"


@pytest.fixture
def client_options() -> ClientOptions:
    """Disable retries."""
    return {"retry": RetryPolicy(max_attempts=1)}


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Return a submitted session."""
    session = await veriff.create_session()
    await session.submit()
    return session


async def idle(veriff: VeriffClient, sandbox: Sandbox) -> None:
    """Run the loop until the poller has polled and sleeps."""
    before = -1
    while before != veriff.statistics().requests or count_polls(sandbox) == 0:
        before = veriff.statistics().requests
        for _ in range(200):
            await asyncio.sleep(0)


async def test_existing_decision_is_returned_after_one_poll(sandbox: Sandbox, session: VerificationSession) -> None:
    """A decision that came before the wait needs one poll."""
    sandbox.decide(session.id, "declined")

    assert Status.DECLINED == (await session.wait_for_decision(timeout=900)).status
    assert 1 == count_polls(sandbox)


async def test_later_decision_ends_the_wait(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """The poller polls again after the interval of the policy, and the response ends the wait."""
    waiting = asyncio.create_task(
        session.wait_for_decision(timeout=900, poll=PollPolicy(interval=100, max_interval=100))
    )
    await idle(veriff, sandbox)
    advance_time(80)
    await idle(veriff, sandbox)
    assert 1 == count_polls(sandbox)
    sandbox.decide(session.id, "approved")
    advance_time(20)

    assert (await waiting).is_approved
    assert 2 == count_polls(sandbox)


async def test_interval_grows_up_to_the_maximum(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """Without a decision, polls become rarer as the policy says."""
    poll = PollPolicy(interval=100, backoff_factor=10, max_interval=2000)
    waiting = asyncio.create_task(session.wait_for_decision(timeout=None, poll=poll))
    await idle(veriff, sandbox)
    for pause in (100, 1000, 2000, 2000):
        before = count_polls(sandbox)
        advance_time(pause * 0.8)
        await idle(veriff, sandbox)
        assert before == count_polls(sandbox)
        advance_time(pause * 0.2)
        await until(lambda before=before: count_polls(sandbox) == before + 1)  # type: ignore[misc]
        await idle(veriff, sandbox)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_many_waits_share_one_rate(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """Each of many sessions is polled in turn, within the rate of the client."""
    sessions = [await veriff.create_session() for _ in range(30)]
    waits = [asyncio.create_task(session.wait_for_decision(timeout=900)) for session in sessions]
    loop = asyncio.get_running_loop()
    start = loop.time()
    while count_polls(sandbox) < 40:
        advance_time(0.1)
        await idle(veriff, sandbox)
        assert count_polls(sandbox) <= 10 * (loop.time() - start) + 2

    first_round = [seen.path for seen in sandbox.requests if seen.path.endswith("/decision")][:30]
    assert 30 == len(set(first_round))
    for session in sessions:
        sandbox.decide(session.id, "approved")
    while not all(wait.done() for wait in waits):
        advance_time(1.0)
        await idle(veriff, sandbox)
    assert {Status.APPROVED} == {(await wait).status for wait in waits}


async def test_wait_that_starts_while_others_end_is_polled() -> None:
    """A wait that starts just when the last ones of its session end is polled like the first."""
    rng = random.Random(1)  # noqa: S311  the same moments in every run

    async def run_loop_randomly(max_turns: int) -> None:
        for _ in range(rng.randrange(max_turns)):
            await asyncio.sleep(0)

    async def ask(session_id: str) -> Decision:
        await run_loop_randomly(4)
        return Decision(session_id=session_id, status=Status.APPROVED)

    waits = DecisionWaiters(ask, poll=OFTEN)

    async def wait() -> None:
        await run_loop_randomly(400)
        await waits.wait("8f0d1ab6", until=lambda _: True, timeout=20)

    await asyncio.gather(*(wait() for _ in range(200)))
    await waits.aclose()


async def test_waits_for_one_session_share_polls(sandbox: Sandbox, session: VerificationSession) -> None:
    """Ten coroutines that wait for the same session all wake, and do not cost ten polls."""
    waits = [asyncio.create_task(session.wait_for_decision(timeout=900)) for _ in range(10)]
    await asyncio.sleep(0)
    sandbox.decide(session.id, "approved")
    results = await asyncio.gather(*waits)

    assert [True] * 10 == [decision.is_approved for decision in results]
    assert 2 >= count_polls(sandbox)


async def test_review_does_not_end_a_wait(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """By default a review does not end the wait, and `until` can change that."""
    sandbox.decide(session.id, "review")
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    reviewed = await session.wait_for_decision(timeout=900, until=lambda decision: decision.status == Status.REVIEW)
    assert Status.REVIEW == reviewed.status
    await idle(veriff, sandbox)
    assert not waiting.done()
    sandbox.decide(session.id, "approved")
    advance_time(3)

    assert (await waiting).is_approved


async def test_second_wait_expects_a_newer_decision(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """After a request for resubmission, a second wait waits for a newer decision."""
    sandbox.decide(session.id, "resubmission_requested")
    first = await session.wait_for_decision(timeout=900)
    assert first.needs_resubmission
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await idle(veriff, sandbox)
    assert not waiting.done()
    await session.upload(Media(JPEG, "face"))
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    advance_time(3)
    second = await waiting

    assert second.needs_resubmission
    assert first.attempt_id != second.attempt_id


async def test_decision_call_ends_waits(sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession) -> None:
    """A decision that `session.decision()` returns also ends the waits for it."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await idle(veriff, sandbox)
    sandbox.decide(session.id, "approved")
    await session.decision()

    assert (await waiting).is_approved


async def test_timeout_names_the_session_and_its_status(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """A wait that ends without a decision names the session and its last known status."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=60))
    await idle(veriff, sandbox)
    advance_time(61)
    with pytest.raises(DecisionTimeoutError, match=r"within 60 s \(last status: submitted\): wait again") as caught:
        await waiting

    assert (session.id, "submitted") == (caught.value.session_id, caught.value.last_status)
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("seconds", [float("nan"), -1.0, "5", True])
async def test_invalid_timeout_is_rejected(session: VerificationSession, seconds: float) -> None:
    """A timeout that is not a number of seconds is rejected immediately."""
    with pytest.raises(InvalidArgumentError, match="timeout must be a number of seconds"):
        await session.wait_for_decision(timeout=seconds)


async def test_timeout_is_optional(sandbox: Sandbox, session: VerificationSession) -> None:
    """`None` waits for as long as it takes."""
    sandbox.decide(session.id, "approved")

    assert (await session.wait_for_decision(timeout=None)).is_approved


async def test_transient_errors_do_not_end_a_wait(
    sandbox: Sandbox,
    veriff: VeriffClient,
    session: VerificationSession,
    advance_time: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failed poll is repeated after the next interval, and logged without details."""
    sandbox.inject(Fault.status(500), path=DECISION)
    # aiohttp itself retries once on a kept connection, so a single drop would go unnoticed.
    sandbox.inject(Fault.drop(), path=DECISION, times=2)
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    with caplog.at_level(logging.INFO, logger="veriff_async.waiting"):
        for error_type in ("ServerError", "TransportError"):
            message = f"failed with {error_type}; it is retried"
            await until(lambda message=message: message in caplog.text)  # type: ignore[misc]
            advance_time(5)
    sandbox.decide(session.id, "approved")
    while not waiting.done():
        advance_time(5)
        await idle(veriff, sandbox)

    assert (await waiting).is_approved


async def test_retry_after_pauses_all_polls(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """When Veriff asks for a pause, no session is polled until it ends."""
    sessions = [await veriff.create_session() for _ in range(3)]
    sandbox.inject(Fault.status(429, retry_after=50), path=DECISION)
    waits = [asyncio.create_task(session.wait_for_decision(timeout=900)) for session in sessions]
    await until(lambda: count_polls(sandbox) > 0)
    advance_time(0.5)
    await idle(veriff, sandbox)
    before = count_polls(sandbox)
    for session in sessions:
        sandbox.decide(session.id, "approved")
    advance_time(45)
    await idle(veriff, sandbox)
    assert before == count_polls(sandbox)
    while not all(wait.done() for wait in waits):
        advance_time(2)
        await idle(veriff, sandbox)

    assert [True] * 3 == [(await wait).is_approved for wait in waits]


async def test_rejection_ends_every_wait_for_its_session(veriff: VeriffClient) -> None:
    """When Veriff does not know a session, all its waits end."""
    unknown = veriff.session(str(uuid.uuid4()))
    results = await asyncio.gather(
        unknown.wait_for_decision(timeout=900), unknown.wait_for_decision(timeout=900), return_exceptions=True
    )

    assert ["NotFoundError", "NotFoundError"] == [type(error).__name__ for error in results]


class _Failed(BaseException):
    """An exception that is not an `Exception`, such as those of pytest."""


@pytest.mark.parametrize("error_type", [StopIteration, asyncio.CancelledError, GeneratorExit, _Failed])
async def test_odd_errors_of_until_do_not_reach_other_waits(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, error_type: type[BaseException]
) -> None:
    """An `until` that raises ends only its own wait, also with exceptions that futures and tasks treat specially."""

    def broken(_: Decision) -> bool:
        raise error_type

    waits = [
        asyncio.create_task(veriff.session(session.id).wait_for_decision(timeout=900, until=each))
        for each in (None, broken, None)
    ]
    await asyncio.sleep(0)
    sandbox.decide(session.id, "approved")
    first, failed, last = await asyncio.gather(*waits, return_exceptions=True)

    assert isinstance(first, Decision)
    assert isinstance(last, Decision)
    assert isinstance(failed, _Failed if error_type is _Failed else RuntimeError)


async def _later(_: Decision) -> bool:
    return False


class _Later:
    async def __call__(self, _: Decision) -> bool:
        return False


@pytest.mark.parametrize("given", [5, "approved", Status.APPROVED, _later, _Later()])
async def test_until_must_be_a_plain_function(session: VerificationSession, given: object) -> None:
    """A condition that cannot decide is rejected when the wait starts, not when the decision comes."""
    with pytest.raises(InvalidArgumentError, match="until must be a"):
        await session.wait_for_decision(until=given)  # type: ignore[arg-type]


async def test_error_of_until_ends_only_its_wait(sandbox: Sandbox, session: VerificationSession) -> None:
    """A condition that raises ends its own wait with its own error."""

    def broken(_: Decision) -> bool:
        msg = "mine"
        raise LookupError(msg)

    sandbox.decide(session.id, "approved")
    mine, other = await asyncio.gather(
        session.wait_for_decision(timeout=900, until=broken),
        session.wait_for_decision(timeout=900),
        return_exceptions=True,
    )

    assert isinstance(mine, LookupError)
    assert not isinstance(other, BaseException)


async def test_cancelled_wait_leaves_nothing_behind(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Cancelling a wait removes its future, its timer and its poll schedule."""
    sessions = [await veriff.create_session() for _ in range(5)]
    waits = [asyncio.create_task(session.wait_for_decision(timeout=900)) for session in sessions]
    await until(lambda: count_polls(sandbox) > 0)
    assert 5 == veriff.statistics().waiters
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)

    assert 0 == veriff.statistics().waiters
    await until(lambda: not any("poller" in task.get_name() for task in asyncio.all_tasks()))


async def test_closing_the_client_ends_its_waits(sandbox: Sandbox) -> None:
    """A wait ends with its client, and none can start after it."""
    veriff = VeriffClient(sandbox.credentials, base_url=sandbox.base_url)
    session = await veriff.create_session()
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await until(lambda: count_polls(sandbox) == 1)
    await veriff.aclose()
    with pytest.raises(ClientClosedError, match="client was closed"):
        await waiting
    with pytest.raises(ClientClosedError):
        await session.wait_for_decision(timeout=900)


async def test_wait_can_start_while_the_poller_stops(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The poller that stops with its last wait does not take a new one with it."""
    for _ in range(5):
        session = await veriff.create_session()
        sandbox.decide(session.id, "approved")
        assert (await session.wait_for_decision(timeout=900)).is_approved
        waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
