"""Waiting for a decision: one poller for all, right under every order of events, and nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.loops import every_loop
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

JPEG = b"\xff\xd8\xff\xe0"
DECISION = "/v1/sessions/*/decision"


@pytest.fixture
def client_options() -> ClientOptions:
    """Do not repeat what fails."""
    return {"retry": RetryPolicy(max_attempts=1)}


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Give a submitted session."""
    session = await veriff.create_session()
    await session.submit()
    return session


def asked(sandbox: Sandbox) -> int:
    """Return how often a decision was asked for."""
    return sum(seen.path.endswith("/decision") for seen in sandbox.requests)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    while not holds():  # noqa: ASYNC110  what is waited for is on the other side of a socket
        await asyncio.sleep(0)


async def idle(veriff: VeriffClient, sandbox: Sandbox) -> None:
    """Let the loop turn until the poller has asked and sleeps."""
    before = -1
    while before != veriff.statistics().requests or asked(sandbox) == 0:
        before = veriff.statistics().requests
        for _ in range(200):
            await asyncio.sleep(0)


async def test_a_decision_that_stands_is_returned_at_once(sandbox: Sandbox, session: VerificationSession) -> None:
    """A decision that came before the wait needs one question."""
    sandbox.decide(session.id, "declined")

    assert Status.DECLINED == (await session.wait_for_decision(timeout=900)).status
    assert 1 == asked(sandbox)


async def test_a_decision_that_comes_later_wakes_the_wait(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """The poller asks again after the policy's pause, and the wait ends with the answer."""
    waiting = asyncio.create_task(
        session.wait_for_decision(timeout=900, poll=PollPolicy(interval=100, max_interval=100))
    )
    await idle(veriff, sandbox)
    advance_time(80)
    await idle(veriff, sandbox)
    assert 1 == asked(sandbox)
    sandbox.decide(session.id, "approved")
    advance_time(20)

    assert (await waiting).is_approved
    assert 2 == asked(sandbox)


async def test_pauses_grow_up_to_the_longest(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """Without an answer the questions become rarer, as the policy says."""
    poll = PollPolicy(interval=100, backoff_factor=10, max_interval=2000)
    waiting = asyncio.create_task(session.wait_for_decision(timeout=None, poll=poll))
    await idle(veriff, sandbox)
    for pause in (100, 1000, 2000, 2000):
        before = asked(sandbox)
        advance_time(pause * 0.8)
        await idle(veriff, sandbox)
        assert before == asked(sandbox)
        advance_time(pause * 0.2)
        await until(lambda before=before: asked(sandbox) == before + 1)  # type: ignore[misc]
        await idle(veriff, sandbox)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_many_waits_share_one_rate(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """However many sessions are waited for, each gets its turn and the rate of the client is kept."""
    sessions = [await veriff.create_session() for _ in range(30)]
    waits = [asyncio.create_task(one.wait_for_decision(timeout=900)) for one in sessions]
    loop = asyncio.get_running_loop()
    began = loop.time()
    while asked(sandbox) < 40:
        advance_time(0.1)
        await idle(veriff, sandbox)
        assert asked(sandbox) <= 10 * (loop.time() - began) + 2

    first_round = [seen.path for seen in sandbox.requests if seen.path.endswith("/decision")][:30]
    assert 30 == len(set(first_round))
    for one in sessions:
        sandbox.decide(one.id, "approved")
    while not all(wait.done() for wait in waits):
        advance_time(1.0)
        await idle(veriff, sandbox)
    assert {Status.APPROVED} == {(await wait).status for wait in waits}


async def test_waits_that_come_while_others_go_are_asked_for() -> None:
    """A wait that begins just when the last ones of its session end is asked for like the first."""
    rng = random.Random(1)  # noqa: S311  the same moments in every run

    async def turns(most: int) -> None:
        for _ in range(rng.randrange(most)):
            await asyncio.sleep(0)

    async def ask(session_id: str) -> Decision:
        await turns(4)
        return Decision(session_id=session_id, status=Status.APPROVED)

    waits = DecisionWaiters(
        ask, poll=PollPolicy(interval=0.001, max_interval=0.001, backoff_factor=1, max_rate=100_000)
    )

    async def wait() -> None:
        await turns(400)
        await waits.wait("8f0d1ab6", until=lambda _: True, timeout=20)

    await asyncio.gather(*(wait() for _ in range(200)))
    await waits.aclose()


async def test_waits_for_one_session_share_its_questions(sandbox: Sandbox, session: VerificationSession) -> None:
    """Ten coroutines that wait for the same session all wake, and cost no ten questions."""
    waits = [asyncio.create_task(session.wait_for_decision(timeout=900)) for _ in range(10)]
    await asyncio.sleep(0)
    sandbox.decide(session.id, "approved")
    found = await asyncio.gather(*waits)

    assert [True] * 10 == [decision.is_approved for decision in found]
    assert 2 >= asked(sandbox)


async def test_a_review_announces_another_decision(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """By default a review does not end the wait; `until` can say otherwise."""
    sandbox.decide(session.id, "review")
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    reviewed = await session.wait_for_decision(timeout=900, until=lambda found: found.status == Status.REVIEW)
    assert Status.REVIEW == reviewed.status
    await idle(veriff, sandbox)
    assert not waiting.done()
    sandbox.decide(session.id, "approved")
    advance_time(3)

    assert (await waiting).is_approved


async def test_a_resubmission_is_waited_for_anew(
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


async def test_a_question_of_the_caller_wakes_the_waits_too(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """Whoever learns of a decision first tells everybody."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await idle(veriff, sandbox)
    sandbox.decide(session.id, "approved")
    await session.decision()

    assert (await waiting).is_approved


async def test_the_timeout_names_the_session(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """A wait that ends without a decision says for which session, and what was known last."""
    waiting = asyncio.create_task(session.wait_for_decision(timeout=60))
    await idle(veriff, sandbox)
    advance_time(61)
    with pytest.raises(DecisionTimeoutError, match=r"within 60 s \(last status: submitted\): wait again") as caught:
        await waiting

    assert (session.id, "submitted") == (caught.value.session_id, caught.value.last_status)
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("seconds", [float("nan"), -1.0, "5", True])
async def test_a_timeout_must_be_a_time(session: VerificationSession, seconds: float) -> None:
    """A timeout that is no time is refused at once."""
    with pytest.raises(InvalidArgumentError, match="timeout must be seconds from zero on"):
        await session.wait_for_decision(timeout=seconds)


async def test_a_wait_needs_no_timeout(sandbox: Sandbox, session: VerificationSession) -> None:
    """`None` waits for as long as it takes."""
    sandbox.decide(session.id, "approved")

    assert (await session.wait_for_decision(timeout=None)).is_approved


async def test_passing_trouble_does_not_end_a_wait(
    sandbox: Sandbox,
    veriff: VeriffClient,
    session: VerificationSession,
    advance_time: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A question that fails is asked again at its next turn, and told in the log without any detail."""
    sandbox.inject(Fault.status(500), path=DECISION)
    # aiohttp itself asks once more on a connection that it kept, so one drop would go unnoticed.
    sandbox.inject(Fault.drop(), path=DECISION, times=2)
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    with caplog.at_level(logging.WARNING, logger="veriff_async.waiting"):
        for kind in ("ServerError", "TransportError"):
            told = f"failed with {kind}; it is retried"
            await until(lambda told=told: told in caplog.text)  # type: ignore[misc]
            advance_time(5)
    sandbox.decide(session.id, "approved")
    while not waiting.done():
        advance_time(5)
        await idle(veriff, sandbox)

    assert (await waiting).is_approved


async def test_a_slow_down_holds_for_all_waits(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """When Veriff says for how long nobody should ask, no session is asked for until then."""
    sessions = [await veriff.create_session() for _ in range(3)]
    sandbox.inject(Fault.status(429, retry_after=50), path=DECISION)
    waits = [asyncio.create_task(one.wait_for_decision(timeout=900)) for one in sessions]
    await until(lambda: asked(sandbox) > 0)
    advance_time(0.5)
    await idle(veriff, sandbox)
    before = asked(sandbox)
    for one in sessions:
        sandbox.decide(one.id, "approved")
    advance_time(45)
    await idle(veriff, sandbox)
    assert before == asked(sandbox)
    while not all(wait.done() for wait in waits):
        advance_time(2)
        await idle(veriff, sandbox)

    assert [True] * 3 == [(await wait).is_approved for wait in waits]


async def test_a_refusal_ends_every_wait_for_the_session(veriff: VeriffClient) -> None:
    """When Veriff knows no such session, whoever waits for it is told."""
    unknown = veriff.session(str(uuid.uuid4()))
    found = await asyncio.gather(
        unknown.wait_for_decision(timeout=900), unknown.wait_for_decision(timeout=900), return_exceptions=True
    )

    assert ["NotFoundError", "NotFoundError"] == [type(error).__name__ for error in found]


class _Failed(BaseException):
    """What pytest raises, for example."""


@pytest.mark.parametrize("kind", [StopIteration, asyncio.CancelledError, GeneratorExit, _Failed])
async def test_nothing_that_until_raises_reaches_other_waits(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, kind: type[BaseException]
) -> None:
    """An `until` that raises ends its own wait, also with what a future or a task would take for something else."""

    def broken(_: Decision) -> bool:
        raise kind

    waits = [
        asyncio.create_task(veriff.session(session.id).wait_for_decision(timeout=900, until=each))
        for each in (None, broken, None)
    ]
    await asyncio.sleep(0)
    sandbox.decide(session.id, "approved")
    first, failed, last = await asyncio.gather(*waits, return_exceptions=True)

    assert isinstance(first, Decision)
    assert isinstance(last, Decision)
    assert isinstance(failed, _Failed if kind is _Failed else RuntimeError)


async def _later(_: Decision) -> bool:
    return False


class _Later:
    async def __call__(self, _: Decision) -> bool:
        return False


@pytest.mark.parametrize("given", [5, "approved", Status.APPROVED, _later, _Later()])
async def test_until_is_a_plain_function(session: VerificationSession, given: object) -> None:
    """What cannot decide is refused when the wait begins, not when the decision comes."""
    with pytest.raises(InvalidArgumentError, match="until must be a"):
        await session.wait_for_decision(until=given)  # type: ignore[arg-type]


async def test_an_error_of_until_belongs_to_its_wait(sandbox: Sandbox, session: VerificationSession) -> None:
    """A predicate that raises ends its own wait with its own error, and no other."""

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


async def test_cancelling_leaves_nothing_behind(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A cancelled wait takes its future, its timer and its part of the poller along."""
    sessions = [await veriff.create_session() for _ in range(5)]
    waits = [asyncio.create_task(one.wait_for_decision(timeout=900)) for one in sessions]
    await until(lambda: asked(sandbox) > 0)
    assert 5 == veriff.statistics().waiters
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)

    assert 0 == veriff.statistics().waiters
    await until(lambda: not any("poller" in task.get_name() for task in asyncio.all_tasks()))


async def test_closing_the_client_ends_its_waits(sandbox: Sandbox) -> None:
    """A wait does not outlive its client, and none can begin after it."""
    veriff = VeriffClient(sandbox.credentials, base_url=sandbox.base_url)
    session = await veriff.create_session()
    waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
    await until(lambda: asked(sandbox) == 1)
    await veriff.aclose()
    with pytest.raises(ClientClosedError, match="client was closed"):
        await waiting
    with pytest.raises(ClientClosedError):
        await session.wait_for_decision(timeout=900)


async def test_a_wait_can_begin_while_another_ends(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The poller that ends with its last wait does not take a new one along."""
    for _ in range(5):
        session = await veriff.create_session()
        sandbox.decide(session.id, "approved")
        assert (await session.wait_for_decision(timeout=900)).is_approved
        waiting = asyncio.create_task(session.wait_for_decision(timeout=900))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
