"""The window of a run: how many jobs are on their way, how many wait, and what is told of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from anyio import create_memory_object_stream
from attrs import define, evolve, frozen

from veriff_async._protocol.arguments import type_name
from veriff_async.batch._fingerprint import undescribed
from veriff_async.batch._job_runner import Course, ends_run
from veriff_async.batch._records import JobState
from veriff_async.batch.job import JobResult, check_job
from veriff_async.errors import (
    BatchError,
    InvalidArgumentError,
    JobClaimedError,
    JobFailedError,
    JournalError,
    MediaSourceError,
    RateLimitedError,
    VeriffError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from anyio.streams.memory import MemoryObjectSendStream

    from veriff_async.batch._job_runner import Run
    from veriff_async.batch._records import JobRecord
    from veriff_async.batch.job import Job

    Tell: TypeAlias = MemoryObjectSendStream[JobResult]
    Jobs: TypeAlias = Iterable[Job] | AsyncIterable[Job]

__all__ = ("BatchProgress", "Window", "told")

_T = TypeVar("_T")

_ATTEMPTS: Final = 5
"""Attempts of one run at a step of a job, each with all the retries of its calls and with an outage in between."""


@frozen(kw_only=True)
class BatchProgress:
    """How far a run is.

    Attributes:
        accepted: Jobs that were taken from what was given.
        resumed: Jobs of them that an earlier run had settled.
        running: Jobs on their way to their submission now.
        waiting: Jobs whose decision is waited for now, or whose result is not taken yet.
        submitted: Jobs that this run has found or made submitted; those that are known to be decided not counted.
        decided: Jobs with a decision, known ones included.
        failed: Jobs that failed for good, known ones included.
        unknown: Jobs whose session may or may not exist.
        stopped: Jobs that stopped where they stood, and go on when they are given again.
        rate: Requests a second that the run allows itself now.
        paused: Whether requests to Veriff fail, so that no job goes on until a probe succeeds.
    """

    accepted: int = 0
    resumed: int = 0
    running: int = 0
    waiting: int = 0
    submitted: int = 0
    decided: int = 0
    failed: int = 0
    unknown: int = 0
    stopped: int = 0
    rate: float = 0.0
    paused: bool = False


class Window:
    """Takes jobs as there is room for them, and tells a result of each."""

    def __init__(
        self, run: Run, *, concurrency: int, max_waiting: int, progress: Callable[[BatchProgress], None] | None
    ) -> None:
        """Take what the jobs share, and how many there may be at once."""
        self._run = run
        self._open = asyncio.Semaphore(concurrency)
        self._waiting = asyncio.Semaphore(max_waiting)
        self._report = progress
        self._progress = BatchProgress()

    async def verify(self, jobs: Jobs, tell: Tell) -> None:
        """Bring jobs to their decision."""
        with self._watching():
            await _side_by_side(self._taken(jobs), lambda job: self._handle(job, tell, waits=True))

    async def submit(self, jobs: Jobs, tell: Tell) -> None:
        """Bring jobs to their submission."""
        with self._watching():
            await _side_by_side(self._taken(jobs), lambda job: self._handle(job, tell, waits=False))

    async def collect(self, timeout: float | None, tell: Tell) -> None:  # noqa: ASYNC109  of each wait
        """Wait for the decisions on all jobs of the journal that are submitted."""

        async def submitted() -> AsyncGenerator[JobRecord]:
            async for record in self._run.journal.iter_records(JobState.SUBMITTED):
                await self._waiting.acquire()
                self._count(accepted=1, submitted=1, waiting=1)
                yield record

        with self._watching():
            await _side_by_side(submitted(), lambda record: self._gather(record, timeout, tell))

    @contextmanager
    def _watching(self) -> Generator[None]:
        """Report pauses as progress, and begin slowly after each."""
        breaker = self._run.breaker

        def on_change() -> None:
            if breaker.is_paused:
                self._run.throttle.restart()
            self._count()

        breaker.on_change.add(on_change)
        try:
            yield
        finally:
            breaker.on_change.discard(on_change)

    async def _taken(self, jobs: Jobs) -> AsyncGenerator[Job]:
        async with aclosing(_each(jobs)) as given:
            async for job in given:
                check_job(job)
                await self._open.acquire()
                self._count(accepted=1, running=1)
                yield job

    async def _handle(self, job: Job, tell: Tell, *, waits: bool) -> None:
        place = _Place(self._count, self._open, "running")
        try:
            result = await self._outcome(job.id, lambda known, way: self._advance(job, known, way, place, waits=waits))
            self._settled(result)
            await tell.send(result)
        finally:
            place.leave()

    async def _advance(self, job: Job, known: JobRecord | None, way: _Way, place: _Place, *, waits: bool) -> None:
        way.course = course = Course(self._run, known or undescribed(job))
        await _alone(job.id, course.begin(job, known))
        way.known = course.is_settled
        if way.known:
            self._count(resumed=1)
            return
        await self._retried(course, job, lambda: _alone(job.id, course.submit(job)))
        self._count(submitted=1)
        if waits and not course.is_settled:
            await self._waiting.acquire()
            place.move(self._waiting, "waiting")
            await self._retried(course, None, lambda: course.decide(job.timeout))

    async def _retried(self, course: Course, job: Job | None, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step of a job, and again when an outage that made it fail is over."""
        run = self._run
        for attempt in range(1, _ATTEMPTS + 1):
            repeated = run.client.statistics().retries
            try:
                await step()
            except VeriffError as error:
                if attempt == _ATTEMPTS or not run.retries or not course.may_retry(error, job):
                    raise
                failed = error
            else:
                return
            # A 429 alone is the business of the pace.
            if isinstance(failed, RateLimitedError) and not run.breaker.is_open:
                raise failed
            # Requests that were repeated in vain may have met the end of an outage, so the step has a second attempt.
            is_doubtful = attempt == 1 and run.client.statistics().retries > repeated
            if not await run.breaker.outlast(run.patience) and not is_doubtful:
                raise failed

    async def _gather(self, record: JobRecord, timeout: float | None, tell: Tell) -> None:  # noqa: ASYNC109  of the wait
        place = _Place(self._count, self._waiting, "waiting")

        async def decide(known: JobRecord | None, way: _Way) -> None:
            way.course = course = Course(self._run, known or record)
            if course.record.state is JobState.SUBMITTED:  # otherwise another run was quicker
                await self._retried(course, None, lambda: course.decide(timeout))

        try:
            result = await self._outcome(record.job_id, decide)
            self._settled(result)
            await tell.send(result)
        finally:
            place.leave()

    async def _outcome(self, job_id: str, advance: Callable[[JobRecord | None, _Way], Awaitable[None]]) -> JobResult:
        """Hold a job while something is done about it, and tell what came of it; only what ends a run is raised."""
        way, error = _Way(), cast("VeriffError | None", None)
        journal = self._run.journal
        try:
            way.record = await journal.claim(job_id)
            try:
                await advance(way.record, way)
            finally:
                await journal.release(job_id)
        except JobClaimedError as taken:
            way.record = await journal.read(job_id)
            error = taken
        except JournalError:
            raise
        except VeriffError as failed:
            record = way.record if way.course is None else way.course.record
            # An outage that outlasts the patience of the run would meet every other job too.
            has_given_up = self._run.retries and self._run.breaker.is_given_up(failed)
            if record is None or has_given_up or ends_run(failed, record):
                raise
            error = failed
        return _result(job_id, way, error)

    def _settled(self, result: JobResult) -> None:
        counts = {JobState.DECIDED: "decided", JobState.FAILED: "failed", JobState.UNKNOWN: "unknown"}
        name = counts.get(result.state, "stopped" if result.error is not None else "")
        self._count(**({name: 1} if name else {}))

    def _count(self, **steps: int) -> None:
        now: dict[str, Any] = {name: getattr(self._progress, name) + step for name, step in steps.items()}
        self._progress = evolve(self._progress, **now, rate=self._run.throttle.rate, paused=self._run.breaker.is_paused)
        if self._report is not None:
            self._report(self._progress)


@define
class _Way:
    """What became of one job so far."""

    record: JobRecord | None = None
    course: Course | None = None
    known: bool = False


class _Place:
    """The seat of one job, which is given back once."""

    def __init__(self, count: Callable[..., None], seats: asyncio.Semaphore, name: str) -> None:
        self._count = count
        self._seats = seats
        self._name = name

    def move(self, seats: asyncio.Semaphore, name: str) -> None:
        """Take another seat, which was acquired before, and give back this one."""
        self._seats.release()
        before, self._seats, self._name = self._name, seats, name
        self._count(**{before: -1, name: 1})

    def leave(self) -> None:
        """Give the seat back."""
        self._seats.release()
        self._count(**{self._name: -1})


async def _alone(job_id: str, work: Awaitable[None]) -> None:
    """Make what a job's own streams and values raise an error of that job, and nobody else's."""
    try:
        await work
    except MediaSourceError as error:
        msg, media = f"Job {job_id} stopped, and goes on when it is given again. {error}", error.media
    except VeriffError:
        raise
    except Exception as error:  # noqa: BLE001  a stream of the caller's may raise anything
        kind = type(error).__name__  # its text may hold whatever was read
        msg = f"Job {job_id} stopped with {kind}, raised by what it was given: look at its media and options."
        media = None
    else:
        return
    failed = BatchError(msg)
    failed.media = media
    raise failed


async def told(work: Callable[[Tell], Awaitable[None]]) -> AsyncGenerator[JobResult]:
    """Do something in a task of its own, and yield what it tells; the task ends with the generator."""
    send, receive = create_memory_object_stream[JobResult](0)

    async def run() -> None:
        async with send:
            await work(send)

    task = asyncio.get_running_loop().create_task(run(), name="veriff-async batch")
    try:
        async with receive:
            async for result in receive:
                yield result
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _side_by_side(things: AsyncGenerator[_T], handle: Callable[[_T], Coroutine[None, None, None]]) -> None:
    """Handle things as they come, each in a task; the first error ends all, and is raised alone."""
    try:
        async with aclosing(things), asyncio.TaskGroup() as tasks:
            async for thing in things:
                tasks.create_task(handle(thing))
    except ExceptionGroup as group:
        first = group.exceptions[0]
    else:
        return
    raise first


def _result(job_id: str, way: _Way, error: VeriffError | None) -> JobResult:
    record = way.record if way.course is None else way.course.record
    if record is None:
        return JobResult(job_id=job_id, session_id=None, error=error, state=JobState.NEW)
    if error is None and record.failure is not None:
        msg = f"Job {job_id} failed in an earlier run, and is tried again on demand only: {record.failure.message}"
        error = JobFailedError(msg, error_type=record.failure.error_type)
    return JobResult(
        job_id=job_id,
        session_id=record.session_id,
        decision=record.decision if error is None else None,
        error=error,
        state=record.state,
        from_journal=way.known,
    )


async def _each(jobs: Jobs) -> AsyncGenerator[Job]:
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
    else:
        if not isinstance(cast("object", jobs), Iterable):
            msg = f"jobs must be an iterable of Job, not {type_name(jobs)}: pass for example a list."
            raise InvalidArgumentError(msg)
        for job in jobs:
            yield job
