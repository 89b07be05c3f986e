"""Limits of the sessions that a batch may create: in all, and in an hour, over restarts and several runs."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing, closing
from math import inf
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, strategies as st
from redis import Redis

from tests.batch.test_batches import QUICK, count_creations, job, jobs, results
from tests.loops import every_loop
from veriff_async import (
    InvalidArgumentError,
    Media,
    OutcomeUnknownError,
    PollPolicy,
    RetryPolicy,
    SessionLimitError,
    VeriffClient,
)
from veriff_async.batch import (
    BatchProgress,
    Job,
    JobResult,
    JobState,
    MemoryJournal,
    RedisJournal,
    SessionLimits,
    SqliteJournal,
    resolve_unknown,
    submit_many,
    verify_many,
    verify_one,
)
from veriff_async.batch._session_limits import HOUR, CreationLog
from veriff_async.sandbox import Fault, Sandbox
from veriff_async.testing._journal_cases import new_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers import RedisServer
    from veriff_async.client import ClientOptions

pytestmark = pytest.mark.anyio

NO_LIMITS: Final = SessionLimits()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run a sandbox that decides immediately."""
    async with Sandbox(decide_after=0) as sandbox:
        yield sandbox


@pytest.fixture
def client_options() -> ClientOptions:
    """Disable retries, and poll often."""
    poll = PollPolicy(interval=0.01, max_interval=0.01, backoff_factor=1, max_rate=1000)
    return {"retry": RetryPolicy(max_attempts=1), "poll": poll}


def age_creations(path: Path, seconds: float) -> None:
    """Make the creations of a journal older."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE creation SET time = time - ?", (seconds,))


def left_in(found: dict[str, JobResult]) -> set[str]:
    """Return the jobs that were left without a session."""
    return {name for name, result in found.items() if isinstance(result.error, SessionLimitError)}


@every_loop
async def test_spent_budget_leaves_jobs_to_a_later_run(sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path) -> None:
    """The limit is that of all runs with the journal; each job beyond it is yielded unchanged."""
    seen: list[BatchProgress] = []
    for limit, new in ((2, 2), (2, 0), (5, 3), (9, 0)):
        before = len(sandbox.sessions)
        async with SqliteJournal(tmp_path / "batch.db") as journal:
            run = verify_many(
                veriff, jobs(5), journal=journal, max_sessions=limit, rate_limits=QUICK, progress=seen.append
            )
            found = await results(run)
            left = left_in(found)

            assert len(sandbox.sessions) - before == new
            assert 5 - len(left) == min(limit, 5) == sum(result.decision is not None for result in found.values())
            assert (seen[-1].left, seen[-1].decided) == (len(left), 5 - len(left))
            assert seen[-1].sessions_left == max(0, limit - 5)
            for name in left:
                assert (found[name].state, found[name].session_id) == (JobState.NEW, None)
                assert await journal.read(name) is None


async def test_jobs_with_a_session_continue_without_budget(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A session that exists is paid for: its job resumes, also behind jobs that are left."""
    async with MemoryJournal() as journal:
        sandbox.inject(Fault.status(503), method="PATCH", path="/v1/sessions/*")
        stopped = await verify_one(veriff, job("last"), journal=journal)

        found = await results(verify_many(veriff, [*jobs(3), job("last")], journal=journal, max_sessions=0))

    assert stopped.decision is None
    assert found["last"].decision is not None
    assert left_in(found) == {"user-0", "user-1", "user-2"}
    assert len(sandbox.sessions) == 1


async def test_failed_job_that_is_left_has_not_failed_again(veriff: VeriffClient, tmp_path: Path) -> None:
    """With `retry_failed`, a job that failed before its creation is left as new, and its record does not change."""
    missing = Job("missing", [Media(tmp_path / "missing.jpg", "face")])
    async with MemoryJournal() as journal:
        failed = await verify_one(veriff, missing, journal=journal)
        left = await verify_one(veriff, missing, journal=journal, retry_failed=True, max_sessions=0)
        record = await journal.read("missing")

    assert (failed.state, left.state) == (JobState.FAILED, JobState.NEW)
    assert isinstance(left.error, SessionLimitError)
    assert record is not None
    assert record.state is JobState.FAILED


async def test_submit_many_returns_what_is_left(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """`submit_many` has the jobs that are left among those that could not be submitted."""
    async with MemoryJournal() as journal:
        unsubmitted = await submit_many(veriff, iter(jobs(4)), journal=journal, max_sessions=1, rate_limits=QUICK)

    assert [type(each.error) for each in unsubmitted] == [SessionLimitError] * 3
    assert len(sandbox.sessions) == 1


@every_loop
async def test_runs_of_several_processes_share_a_limit(
    sandbox: Sandbox, veriff: VeriffClient, redis_server: RedisServer
) -> None:
    """Three runs with one Redis journal, at the same time, create exactly as many sessions as are permitted."""

    async def run(name: str) -> dict[str, JobResult]:
        async with RedisJournal(redis_server.url) as journal:
            own = [job(f"{name}-{number}") for number in range(8)]
            return await results(verify_many(veriff, own, journal=journal, max_sessions=10, rate_limits=QUICK))

    found = await asyncio.gather(*map(run, "abc"))

    assert len(sandbox.sessions) == count_creations(sandbox) == 10
    assert sum(len(left_in(each)) for each in found) == 14


async def test_runs_in_one_process_share_a_limit(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Two runs with one journal, whose jobs race for the last sessions, never exceed the limit."""
    async with MemoryJournal() as journal:
        runs = [
            verify_many(veriff, [job(f"{name}-{number}") for number in range(6)], journal=journal, max_sessions=7)
            for name in "ab"
        ]
        found = await asyncio.gather(*map(results, runs))

    assert len(sandbox.sessions) == 7
    assert sum(len(left_in(each)) for each in found) == 5


async def test_job_that_fails_first_leaves_its_session_to_the_next(
    sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path
) -> None:
    """Neither a missing file nor a refused creation costs a session."""
    missing = Job("missing", [Media(tmp_path / "missing.jpg", "face")])
    sandbox.inject(Fault.status(400, code="1102"), method="POST", path="/v1/sessions")
    async with MemoryJournal() as journal:
        run = verify_many(veriff, [missing, *jobs(3)], journal=journal, max_sessions=1, rate_limits=QUICK)
        found = await results(run)
        usage = await journal.session_usage(NO_LIMITS)

    assert (usage.total, len(sandbox.sessions), len(left_in(found))) == (1, 1, 1)
    assert sum(result.decision is not None for result in found.values()) == 1


async def test_unknown_creation_is_spent_until_a_person_says_otherwise(
    sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path
) -> None:
    """A creation whose outcome is unknown counts, also after a restart, until a person says that it created nothing."""
    sandbox.inject(Fault.lose_response(), method="POST", path="/v1/sessions")
    async with SqliteJournal(tmp_path / "batch.db") as journal:
        found = await results(verify_many(veriff, jobs(1), journal=journal, max_sessions=1))
    async with SqliteJournal(tmp_path / "batch.db") as journal:
        later = await results(verify_many(veriff, [job("other"), *jobs(1)], journal=journal, max_sessions=1))
        await resolve_unknown(journal, "user-0", session_id=None)
        last = await results(verify_many(veriff, [job("other")], journal=journal, max_sessions=1))

    assert isinstance(found["user-0"].error, OutcomeUnknownError)
    assert left_in(later) == {"other"}
    assert isinstance(later["user-0"].error, OutcomeUnknownError)
    assert last["other"].decision is not None


async def test_recreation_counts_again(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """With `on_unknown="recreate"` a job may cost two sessions, and does not exceed the limit."""
    async with MemoryJournal() as journal:
        sandbox.inject(Fault.lose_response(), method="POST", path="/v1/sessions")
        for limit, is_decided in ((1, False), (2, True)):
            run = verify_many(veriff, jobs(1), journal=journal, on_unknown="recreate", max_sessions=limit)
            found = await results(run)

            assert (found["user-0"].decision is not None) is is_decided
            assert (await journal.session_usage(NO_LIMITS)).total == limit
    assert count_creations(sandbox) == 2


async def test_hourly_limit_makes_jobs_wait(sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path) -> None:
    """Jobs wait until a session, also of an earlier run, is an hour old; `verify_one` does not wait."""
    path, waiting = tmp_path / "batch.db", asyncio.Event()

    def on_progress(progress: BatchProgress) -> None:
        if progress.sessions_left_this_hour == 0 and progress.decided == 2:
            waiting.set()

    async with SqliteJournal(path) as journal:
        run = verify_many(veriff, jobs(4), journal=journal, max_per_hour=2, rate_limits=QUICK, progress=on_progress)
        async with aclosing(run):
            first = [await anext(run), await anext(run)]
            await waiting.wait()
        alone = await verify_one(veriff, job("alone"), journal=journal, max_per_hour=2)
    before = len(sandbox.sessions)
    # Nearly an hour later.
    await asyncio.to_thread(age_creations, path, HOUR - 0.5)
    async with SqliteJournal(path) as journal:
        later = await results(verify_many(veriff, jobs(4), journal=journal, max_per_hour=2, rate_limits=QUICK))

    assert all(result.decision is not None for result in first)
    assert before == 2
    assert isinstance(alone.error, SessionLimitError)
    assert HOUR / 2 < (alone.error.retry_after or 0) <= HOUR
    assert len(sandbox.sessions) == 4
    assert all(result.decision is not None for result in later.values())


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_clock_that_was_set_back_delays_sessions_by_an_hour(
    kind: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    """Times of creations that are in the future, because a clock was wrong, count for an hour, not until they come."""
    path, limits, year = tmp_path / "batch.db", SessionLimits(max_per_hour=1), 365 * 24 * HOUR

    def make_journal() -> SqliteJournal | RedisJournal:
        return SqliteJournal(path) if kind == "sqlite" else RedisJournal(redis_server.url)

    async def age(seconds: float) -> None:
        if kind == "sqlite":
            await asyncio.to_thread(age_creations, path, seconds)
        else:
            with closing(Redis.from_url(redis_server.url)) as redis:
                await asyncio.to_thread(redis.zincrby, "{veriff-batch}:creations", -seconds, "1:a")

    async with make_journal() as journal:
        await journal.claim("a")
        await journal.reserve(new_record("a").with_creation(), limits)
    await age(-year)
    async with make_journal() as journal:
        await journal.claim("b")
        refused = await journal.reserve(new_record("b").with_creation(), limits)
    await age(HOUR)
    async with make_journal() as journal:
        await journal.claim("b")
        permitted = await journal.reserve(new_record("b").with_creation(), limits)

    assert HOUR / 2 < refused.retry_after <= HOUR
    assert not permitted.retry_after


async def test_closed_run_ends_waits_for_the_hour(veriff: VeriffClient) -> None:
    """Closing the generator while all jobs wait for the hour ends the run at once."""
    waiting = asyncio.Event()

    def on_progress(progress: BatchProgress) -> None:
        if progress.sessions_left_this_hour == 0 and progress.running == 3:
            waiting.set()

    async with MemoryJournal() as journal:
        await verify_one(veriff, job("first"), journal=journal, wait=False)
        run = verify_many(veriff, jobs(3), journal=journal, max_per_hour=1, progress=on_progress)
        async with aclosing(run):
            ending = asyncio.ensure_future(anext(run))
            await waiting.wait()
            ending.cancel()
            await asyncio.wait([ending])

        assert dict(await journal.count_by_state()) == {JobState.SUBMITTED: 1}


@pytest.mark.parametrize(
    "limits", [{"max_sessions": -1}, {"max_per_hour": 0}, {"max_sessions": 1.5}, {"max_per_hour": True}]
)
async def test_wrong_limits_are_refused(veriff: VeriffClient, limits: dict[str, int]) -> None:
    """A limit is a whole number; the error names the argument and is raised before anything is done."""
    with pytest.raises(InvalidArgumentError, match=next(iter(limits))):
        await results(verify_many(veriff, jobs(1), journal=MemoryJournal(), **limits))  # type: ignore[arg-type]


@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.floats(-9000.0, 2000.0)), max_size=40),
    most=st.none() | st.integers(0, 8),
    hourly=st.none() | st.integers(1, 4),
)
def test_window_is_that_of_a_list_of_times(
    steps: list[tuple[int, int, float]], most: int | None, hourly: int | None
) -> None:
    """The log counts like a list of all times; jobs may give creations back, and the clock may be set back."""
    limits, log, now = SessionLimits(max_sessions=most, max_per_hour=hourly), CreationLog(), 1e9
    times: dict[int, list[float]] = {}
    for name, count, pause in steps:
        now += pause
        for all_times in times.values():
            # None is in the future, and one that has left the hour does not come back with the clock.
            all_times[:] = [-inf if each <= now - HOUR else min(each, now) for each in all_times]
        own = times.setdefault(name, [])
        log.change(str(name), len(own), count, now)
        times[name] = own[:count] + [now] * (count - len(own))

        recent = sorted(each for all_times in times.values() for each in all_times if each > now - HOUR)
        total, usage = sum(map(len, times.values())), log.usage(limits, now)
        expected = 0.0
        if most is not None and total >= most:
            expected = inf
        elif hourly is not None and len(recent) >= hourly:
            expected = recent[-hourly] + HOUR - now
        assert (usage.total, usage.last_hour) == (total, len(recent))
        assert usage.retry_after == pytest.approx(expected)
