"""An outage pauses a batch: it fails no job, leaves few creations unknown, and the batch resumes by itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, strategies as st

from veriff_async import (
    InvalidArgumentError,
    Media,
    OutcomeUnknownError,
    PollPolicy,
    RetryPolicy,
    ServerError,
    TransportError,
    VeriffClient,
)
from veriff_async.batch import (
    BatchProgress,
    Job,
    JobResult,
    JobState,
    MemoryJournal,
    RateLimits,
    collect_many,
    submit_many,
    verify_many,
    verify_one,
)
from veriff_async.batch._circuit_breaker import THRESHOLD, Schedule, breaker_of
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from veriff_async.client import ClientOptions

pytestmark = pytest.mark.anyio

PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(500) + b"\xff\xd9"
QUICK: Final = RateLimits(initial=1000.0)
LONG: Final = 10**6


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run a sandbox that decides immediately."""
    async with Sandbox(decide_after=0) as sandbox:
        yield sandbox


@pytest.fixture
def client_options() -> ClientOptions:
    """Disable retries, and poll often."""
    return {
        "retry": RetryPolicy(max_attempts=1),
        "poll": PollPolicy(interval=0.01, max_interval=0.01, backoff_factor=1, max_rate=1000),
    }


def job(name: str) -> Job:
    """Return a job of one picture."""
    return Job(name, [Media(PICTURE, "face")], timeout=None)


def jobs(count: int) -> list[Job]:
    """Return some jobs."""
    return [job(f"user-{number}") for number in range(count)]


@asynccontextmanager
async def skip_pauses(advance_time: Callable[[float], None], veriff: VeriffClient) -> AsyncIterator[None]:
    """Advance the time to each next probe inside the block."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.002)
            state = breaker_of(veriff)._state
            if state.is_open:
                advance_time(max(0.0, state.next_probe - asyncio.get_running_loop().time()))

    task = asyncio.ensure_future(tick())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def count_creations(sandbox: Sandbox) -> int:
    """Return how many creations the sandbox received."""
    return sum(seen.path == "/v1/sessions" and seen.method == "POST" for seen in sandbox.requests)


@pytest.mark.parametrize(
    "fault",
    [Fault.status(502), Fault.status(408), Fault.status(403), Fault.status(302), Fault.drop()],
    ids=["502", "408", "403", "302", "drop"],
)
@pytest.mark.parametrize("method", [None, "after creation"])
async def test_outage_pauses_the_batch(
    sandbox: Sandbox,
    veriff: VeriffClient,
    advance_time: Callable[[float], None],
    fault: Fault,
    method: str | None,
) -> None:
    """After an outage of any kind each job is decided, except creations that were in flight when it began."""
    if method is None and fault.http_status == 403:
        pytest.skip("a creation that is refused with 403 ends the run: the integration may not create sessions")
    seen: list[BatchProgress] = []
    found: list[JobResult] = []
    journal = MemoryJournal()
    run = verify_many(
        veriff, jobs(16), journal=journal, concurrency=4, rate_limits=QUICK, max_outage=None, progress=seen.append
    )
    async with skip_pauses(advance_time, veriff):
        async for result in run:
            found.append(result)
            if len(found) == 5:
                path = None if method is None else "/v1/sessions/*"
                sandbox.inject(fault, path=path, times=30)

    assert 16 == len(found)
    unknown = [result for result in found if isinstance(result.error, OutcomeUnknownError)]
    assert len(unknown) <= 4, "no more than were in flight"
    assert {JobState.DECIDED, JobState.UNKNOWN} >= {result.state for result in found}
    assert any(now.paused for now in seen)
    assert not seen[-1].paused
    assert (0, 0) == (seen[-1].failed, seen[-1].stopped)


async def test_outage_pauses_submit_many_and_collect_many(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """`submit_many` and `collect_many` wait for the end of an outage as `verify_many` does."""
    journal = MemoryJournal()
    async with skip_pauses(advance_time, veriff):
        sandbox.inject(Fault.status(504), path="/v1/sessions/*", times=20)
        assert [] == await submit_many(veriff, jobs(6), journal=journal, rate_limits=QUICK, max_outage=None)
        sandbox.inject(Fault.status(500), times=20)
        found = [
            result
            async for result in collect_many(veriff, journal=journal, timeout=0, rate_limits=QUICK, max_outage=None)
        ]

    assert [True] * 6 == [result.decision is not None for result in found]
    assert 6 == count_creations(sandbox)


async def test_outage_longer_than_max_outage_ends_the_run(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """After `max_outage` seconds the run ends with the error, and no job has failed."""
    journal = MemoryJournal()
    assert [] == await submit_many(veriff, jobs(1), journal=journal, rate_limits=QUICK)
    sandbox.inject(Fault.status(502), path="/v1/sessions/*", times=LONG)
    async with skip_pauses(advance_time, veriff):
        with pytest.raises(ServerError):
            await submit_many(veriff, jobs(8), journal=journal, rate_limits=QUICK, max_outage=20)

    assert {JobState.SUBMITTED, JobState.CREATED, JobState.UPLOADING, JobState.NEW} >= set(
        await journal.count_by_state()
    )
    assert breaker_of(veriff).is_paused
    with pytest.raises(InvalidArgumentError, match="max_outage"):
        await submit_many(veriff, [], journal=journal, max_outage=-1)


async def test_single_job_creates_nothing_during_an_outage(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A queue that delivers job after job during an outage leaves one creation unknown."""
    journal = MemoryJournal()
    sandbox.inject(Fault.status(502), times=LONG)

    found = [await verify_one(veriff, job(f"user-{number}"), journal=journal) for number in range(20)]

    assert isinstance(found[0].error, OutcomeUnknownError)
    assert all(isinstance(result.error, ServerError) and result.state is JobState.NEW for result in found[1:])
    assert 1 == count_creations(sandbox)


async def test_error_of_one_job_does_not_pause_the_batch(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A job that fails while a probe succeeds stops with its error, and the others continue."""
    seen: list[BatchProgress] = []
    sandbox.inject(Fault.drop(), method="PATCH")
    found = [
        r async for r in verify_many(veriff, jobs(6), journal=MemoryJournal(), rate_limits=QUICK, progress=seen.append)
    ]

    assert 1 == sum(isinstance(result.error, TransportError) for result in found)
    assert 5 == sum(result.decision is not None for result in found)
    assert not any(now.paused for now in seen)


async def test_consumed_stream_is_not_sent_again(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """A job whose picture can be read only once stops with the outage's error; it does not fail for good."""

    async def stream() -> AsyncIterator[bytes]:
        yield PICTURE

    sandbox.inject(Fault.status(502), method="POST", path="/v1/sessions/*", times=2)
    given = [Job("user-42", [Media(stream(), "face")])]
    async with skip_pauses(advance_time, veriff):
        [found] = [result async for result in verify_many(veriff, given, journal=MemoryJournal(), rate_limits=QUICK)]

    assert isinstance(found.error, ServerError)
    assert JobState.UPLOADING is found.state


async def test_cancelling_a_paused_run_sends_nothing(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Cancelling a run that is paused neither waits for the next probe nor sends anything."""
    paused = asyncio.Event()
    sandbox.inject(Fault.status(502), times=LONG)

    def progress(now: BatchProgress) -> None:
        if now.paused:
            paused.set()

    async def run() -> None:
        await submit_many(veriff, jobs(20), journal=MemoryJournal(), rate_limits=QUICK, progress=progress)

    task = asyncio.ensure_future(run())
    await paused.wait()
    task.cancel()
    asked = len(sandbox.requests)
    with pytest.raises(asyncio.CancelledError):
        await task

    assert len(sandbox.requests) <= asked + 1
    assert 1 == count_creations(sandbox), "before the first success, creations are sent one at a time"


steps = st.sampled_from(["success", "failure", "unknown", "probe failed", "probe succeeded"])


@given(st.lists(steps, max_size=40))
def test_breaker_follows_its_states(events: list[str]) -> None:
    """It opens after an unknown creation or enough failures, and a successful probe half-opens it."""
    state, now, in_a_row = Schedule(), 0.0, 0
    for event in events:
        before = (state.is_open, state.is_half_open)
        now += 1
        match event:
            case "success":
                state.on_success()
                in_a_row = in_a_row if before[0] else 0
                assert state.is_open is before[0]
            case "failure" | "unknown":
                state.on_failure(now, is_unknown=event == "unknown")
                in_a_row += 1
                assert state.is_open is (event == "unknown" or in_a_row >= THRESHOLD or any(before))
            case "probe failed":
                state.on_probe(now, has_failed=True)
                assert state.is_open
                assert now < state.next_probe <= now + 30
            case _:
                state.on_probe(now, has_failed=False)
                assert not state.is_open
                in_a_row = 0 if before[0] else in_a_row
        assert not (state.is_open and state.is_half_open)
        assert not state.is_outage or state.is_open
