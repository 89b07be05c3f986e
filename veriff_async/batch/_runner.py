"""Runs a batch: admits jobs, drives each one through its states, and streams the results.

Who calls whom::

    verify_many ─► stream_results ─► BatchRunner.verify     one background task per run
                                       │ _admit             waits for a permit, then takes the next job
                                       ▼
                                     _run_job               one task per job: claim ─► advance ─► release ─► result
                                       │ _advance, _retry
                                       ▼
                                     JobRunner              the steps of one job; saves each state in the journal
                                       │ BatchContext.send
                                       ▼
                                     RateLimiter, CircuitBreaker, VeriffClient

States of a job, as the journal has them::

    new ─► creating ─► uploading ─► submitting ─► submitted ─► decided
              │            ▲           every state before decided can become failed; retry_failed resumes there
              └─► unknown ─┴─ created  resolve_unknown or on_unknown leads back to new, or to created

Order. Jobs run concurrently and finish in any order. Within one job the steps are sequential, except that its uploads
run concurrently.

Writes. A record is durable before the request whose repetition it has to prevent; that makes five writes for each job.
The process may end between any two instructions. The next run reads the last record, so it knows which requests may
have been sent::

    record        durable before   contains           a run that is killed after it
    creating      the creation     the fingerprints   may have a session, and Veriff has neither an idempotency key nor
                                                      a search for sessions: the job becomes ``unknown`` and is not
                                                      created again unless `on_unknown` says so
    uploading     the uploads      the session        asks Veriff which media it has, and uploads the others
    submitting    the submission   ids of the media   submits again; error 1304 means that the first one arrived
    submitted     the wait         -                  asks for the decision, which changes nothing
    decided       the result       the decision       yields the decision again

The session and the beginning of the uploads share a record: every media is prepared before the creation, so the uploads
follow without a pause. Receipts of uploads have no record of their own. If they are lost, Veriff's list of media
replaces them, and where that is ambiguous, a second upload of a picture does no harm. They are saved sooner where their
loss would cost time: if an upload fails, if the run is cancelled, and when the uploads of the job take longer than a
second. ``submitted`` prevents nothing that ``submitting`` does not, but `collect_many` finds the job by it.

Why nothing is created twice. Only the holder of a job's claim writes its record, and a journal refuses every other
write. A creation is sent only from state ``new``, after ``creating`` has been saved. The state returns to ``new`` only
if a response proves that nothing was created (see `error_classifier`), or if a person says so. When a run is cancelled,
creations that were sent get `JobRunner`'s grace period to finish, so that their sessions are saved.

Ends. An error of one job becomes its result. An error that every job would meet (`error_classifier`: fatal), or an
outage longer than the caller allows, ends the run: the task group cancels the other jobs, whose states are saved.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from anyio import CancelScope, create_memory_object_stream
from attrs import define, frozen

from veriff_async._protocol.arguments import type_name
from veriff_async._telemetry.setup import if_live
from veriff_async.batch._job_runner import JobRunner, ends_run
from veriff_async.batch._prepared_job import unprepared_record
from veriff_async.batch._records import JobState
from veriff_async.batch.job import JobResult, check_job
from veriff_async.client import runtime_of
from veriff_async.errors import (
    BatchError,
    InvalidArgumentError,
    JobClaimedError,
    JobFailedError,
    JournalError,
    MediaSourceError,
    RateLimitedError,
    SessionLimitError,
    VeriffError,
)
from veriff_async.models.base import Model

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
    from contextlib import AbstractContextManager

    from anyio.streams.memory import MemoryObjectSendStream

    from veriff_async._telemetry.batches import BatchTelemetry
    from veriff_async.batch._job_runner import BatchContext
    from veriff_async.batch._records import JobRecord
    from veriff_async.batch.job import Job

    ResultStream: TypeAlias = MemoryObjectSendStream[JobResult]
    Jobs: TypeAlias = Iterable[Job] | AsyncIterable[Job]

__all__ = ("BatchProgress", "BatchRunner", "iterate", "stream_results")

_T = TypeVar("_T")

# Attempts of one run at a step of a job, each with all the retries of its calls and with an outage in between.
_MAX_ATTEMPTS: Final = 5

_COUNTED_STATES: Final = {JobState.DECIDED: "decided", JobState.FAILED: "failed", JobState.UNKNOWN: "unknown"}


@frozen(kw_only=True)
class BatchProgress(Model):
    """The progress of a run.

    Attributes:
        accepted: Jobs taken from the input.
        resumed: Accepted jobs that an earlier run had finished, so that their outcome is in the journal.
        running: Jobs that are now being created, uploaded or submitted.
        waiting: Jobs that now wait for their decision, or whose result has not been taken yet.
        submitted: Jobs that this run submitted or found submitted; jobs that were already decided are not counted.
        decided: Jobs with a decision, resumed ones included.
        failed: Jobs that failed permanently, resumed ones included.
        unknown: Jobs whose session may or may not exist.
        stopped: Jobs that stopped early and resume when they are passed again.
        left: Jobs without a session, because the batch may create no more; pass them to a later run.
        sessions_left: Sessions that `max_sessions` still permits, or `None` without that limit.
        sessions_left_this_hour: Sessions that `max_per_hour` permits now, or `None` without that limit; 0 while jobs
            wait for it.
        rate: Requests per second that the run allows itself now.
        paused: Whether requests to Veriff fail, so that no job proceeds until a probe succeeds.
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
    left: int = 0
    sessions_left: int | None = None
    sessions_left_this_hour: int | None = None
    rate: float = 0.0
    paused: bool = False


class BatchRunner:
    """Runs the jobs of one call: how many at once, and their results and progress."""

    def __init__(
        self,
        context: BatchContext,
        *,
        concurrency: int,
        max_waiting: int,
        on_progress: Callable[[BatchProgress], None] | None,
    ) -> None:
        """Create a runner; nothing is started yet."""
        self._context = context
        self._running = asyncio.Semaphore(concurrency)
        self._waiting = asyncio.Semaphore(max_waiting)
        self._on_progress = on_progress
        self._counts = Counter[str]()
        self._telemetry: BatchTelemetry | None = None
        if context.budget is not None:
            context.budget.on_wait = self._count

    async def verify(self, jobs: Jobs, results: ResultStream) -> None:
        """Bring jobs to their decision."""
        await self._run_jobs(jobs, results, waits=True)

    async def submit(self, jobs: Jobs, results: ResultStream) -> None:
        """Bring jobs to their submission."""
        await self._run_jobs(jobs, results, waits=False)

    async def collect(self, timeout: float | None, results: ResultStream) -> None:  # noqa: ASYNC109  of each wait
        """Wait for the decisions on all submitted jobs of the journal."""

        def run(record: JobRecord) -> Coroutine[None, None, None]:
            permit = _Permit(self._waiting, "waiting", self._count)
            return self._run_job(record.job_id, permit, partial(self._collect, record, timeout), results)

        with self._observe_outages():
            await _run_concurrently(self._admit_submitted(), run)

    async def _run_jobs(self, jobs: Jobs, results: ResultStream, *, waits: bool) -> None:
        def run(job: Job) -> Coroutine[None, None, None]:
            permit = _Permit(self._running, "running", self._count)
            return self._run_job(job.id, permit, partial(self._advance, job, permit, waits=waits), results)

        if self._context.budget is not None:
            await self._context.budget.refresh()  # for the progress
        with self._observe_outages():
            await _run_concurrently(self._admit(jobs), run)

    @contextmanager
    def _observe_outages(self) -> Generator[None]:
        """Report pauses as progress, start slowly after each of them, and poll at the rate of the run."""
        breaker = self._context.breaker

        def on_change() -> None:
            # When the pause begins, not when it ends: the first requests after it must already be slow.
            if breaker.is_paused:
                self._context.limiter.restart()
            self._count()

        breaker.on_change.add(on_change)
        try:
            rate, at_poll_rate = self._context.poll_rate, runtime_of(self._context.client).waiters.at_poll_rate
            with self._observe_run(), nullcontext() if rate is None else at_poll_rate(rate):
                yield
        finally:
            breaker.on_change.discard(on_change)

    def _observe_run(self) -> AbstractContextManager[None]:
        """Run the batch in a span, if the client exports spans."""
        instrumentation = if_live(runtime_of(self._context.client).instrumentation)
        if instrumentation is None:
            return nullcontext()
        # Imported here: it imports OpenTelemetry.
        from veriff_async._telemetry.batches import BatchTelemetry  # noqa: PLC0415

        self._telemetry = BatchTelemetry(instrumentation)
        return self._telemetry.run(self._observe_load)

    def _observe_load(self) -> Mapping[str, float]:
        """Return the present load, by the names of metrics; called in the thread of an exporter."""
        context = self._context
        return {"veriff.batch.rate": context.limiter.rate, "veriff.batch.paused": context.breaker.is_paused}

    async def _observe_job(
        self, advance: Callable[[_JobProgress], Awaitable[None]], progress: _JobProgress, telemetry: BatchTelemetry
    ) -> None:
        """Advance a job in a span."""
        with telemetry.job() as report:
            is_stopped = True
            try:
                await advance(progress)
                is_stopped = False
            finally:
                record = progress.record
                if record is not None and not progress.was_finished:
                    report.session_id = record.session_id
                    default = "stopped" if is_stopped else str(record.state)
                    report.state = _COUNTED_STATES.get(record.state, default)

    async def _admit(self, jobs: Jobs) -> AsyncGenerator[Job]:
        # The job is taken first, so that a slow iterator holds no permit; one more job than `concurrency` is in memory.
        async with aclosing(iterate(jobs)) as items:
            async for job in items:
                check_job(job)
                await self._running.acquire()
                self._count(accepted=1, running=1)
                yield job

    async def _admit_submitted(self) -> AsyncGenerator[JobRecord]:
        async for record in self._context.journal.iter_records(JobState.SUBMITTED):
            await self._waiting.acquire()
            self._count(accepted=1, submitted=1, waiting=1)
            yield record

    async def _run_job(
        self, job_id: str, permit: _Permit, advance: Callable[[_JobProgress], Awaitable[None]], results: ResultStream
    ) -> None:
        """Claim a job, advance it, and send its result; only an error that ends the run is raised."""
        progress, error = _JobProgress(), cast("VeriffError | None", None)
        journal = self._context.journal
        try:
            try:
                # The claim returns the record: if it were read separately, another run could change it in between.
                progress.previous = await journal.claim(job_id)
                try:
                    if self._telemetry is None:
                        await advance(progress)
                    else:
                        await self._observe_job(advance, progress, self._telemetry)
                finally:
                    # Before the result is sent: a caller may pass the job again as soon as it has the result.
                    await journal.release(job_id)
            # Before JournalError, which is its base class: a claim concerns one job, a broken journal concerns all.
            except JobClaimedError as claimed:
                # The result still has the session and the state, which the other run may have reached by now.
                progress.previous = await journal.read(job_id)
                error = claimed
            except JournalError:
                raise
            except VeriffError as failure:
                if self._ends_run(failure, progress.record):
                    raise
                error = failure
            result = _to_result(job_id, progress, error)
            name = _COUNTED_STATES.get(result.state, "stopped" if result.error is not None else "")
            name = "left" if isinstance(result.error, SessionLimitError) else name
            self._count(**({name: 1} if name else {}))
            await results.send(result)  # waits until the caller takes it, with the permit held
        finally:
            permit.release()

    async def _advance(self, job: Job, permit: _Permit, progress: _JobProgress, *, waits: bool) -> None:
        """Bring a claimed job to its submission, and to its decision if `waits`."""
        previous = progress.previous
        progress.runner = runner = JobRunner(self._context, previous or unprepared_record(job))
        failure: BatchError | None = None
        try:
            await runner.take_turn(previous)
            await runner.prepare(job, previous)
            progress.was_finished = runner.is_finished
            if progress.was_finished:
                self._count(resumed=1)
                return
            await self._retry(runner, job, partial(runner.submit, job))
        except MediaSourceError as error:
            failure = BatchError(f"Job {job.id} stopped; it resumes when you pass it again. {error}")
            failure.media = error.media
        except VeriffError:
            raise
        except Exception as error:  # noqa: BLE001  streams and values of the caller may raise anything
            # The text of the exception is left out, since it may contain data that was read.
            failure = BatchError(
                f"Job {job.id} stopped with {type(error).__name__}, raised by its own input: check its media and "
                "options."
            )
        finally:
            runner.close()
        if failure is not None:  # raised here, so that it has no context that shows the text
            raise failure
        self._count(submitted=1)
        if waits and not runner.is_finished:
            await self._waiting.acquire()
            # Exchanged only now: while `max_waiting` jobs wait, submitted ones hold their running permits, and the run
            # admits no others.
            permit.exchange(self._waiting, "waiting")
            await self._retry(runner, None, partial(runner.wait_for_decision, job.timeout))

    async def _collect(self, record: JobRecord, timeout: float | None, progress: _JobProgress) -> None:  # noqa: ASYNC109
        """Wait for the decision on a claimed job."""
        progress.runner = runner = JobRunner(self._context, progress.previous or record)
        if runner.record.state is JobState.SUBMITTED:  # otherwise another run has finished it since
            await self._retry(runner, None, partial(runner.wait_for_decision, timeout))

    async def _retry(self, runner: JobRunner, job: Job | None, step: Callable[[], Awaitable[None]]) -> None:
        """Run a step of a job, and repeat it when the outage that made it fail is over."""
        context = self._context
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            retries = runtime_of(context.client).transport.counters.retries
            try:
                await step()
            except VeriffError as error:
                if attempt == _MAX_ATTEMPTS or not context.retries or not runner.may_retry(error, job):
                    raise
                failure = error
            else:
                return
            # The rate limiter alone deals with a 429, unless it is part of an outage.
            if isinstance(failure, RateLimitedError) and not context.breaker.is_open:
                raise failure
            # Retries that all failed may have met the end of an outage, so the step gets a second attempt.
            may_be_over = attempt == 1 and runtime_of(context.client).transport.counters.retries > retries
            if not await context.breaker.outlast(context.max_outage) and not may_be_over:
                raise failure

    def _ends_run(self, error: VeriffError, record: JobRecord | None) -> bool:
        """Return whether every other job would meet this error too."""
        has_given_up = self._context.retries and self._context.breaker.is_given_up(error)
        return record is None or has_given_up or ends_run(error, record)

    def _count(self, **changes: int) -> None:
        for name, change in changes.items():
            self._counts[name] += change
        if self._telemetry is not None:
            self._telemetry.on_change(changes)
        if self._on_progress is not None:
            counts: dict[str, Any] = dict(self._counts)
            context = self._context
            left, left_now = (None, None) if context.budget is None else context.budget.remaining
            counts |= {"sessions_left": left, "sessions_left_this_hour": left_now}
            self._on_progress(BatchProgress(**counts, rate=context.limiter.rate, paused=context.breaker.is_paused))


@define
class _JobProgress:
    """How far one job of a run has come."""

    previous: JobRecord | None = None
    runner: JobRunner | None = None
    was_finished: bool = False

    @property
    def record(self) -> JobRecord | None:
        """The newest record."""
        return self.previous if self.runner is None else self.runner.record


class _Permit:
    """The permit of one job: it counts as running or as waiting, and is released exactly once."""

    def __init__(self, semaphore: asyncio.Semaphore, name: str, count: Callable[..., None]) -> None:
        self._semaphore = semaphore
        self._name = name
        self._count = count

    def exchange(self, semaphore: asyncio.Semaphore, name: str) -> None:
        """Release this permit for another one, which has been acquired already."""
        self._semaphore.release()
        before, self._semaphore, self._name = self._name, semaphore, name
        # In one call, so that no progress shows the job in neither count.
        self._count(**{before: -1, name: 1})

    def release(self) -> None:
        """Release the permit."""
        self._semaphore.release()
        self._count(**{self._name: -1})


async def stream_results(work: Callable[[ResultStream], Awaitable[None]]) -> AsyncGenerator[JobResult]:
    """Run work in its own task and yield its results; closing the generator cancels the task."""
    # Without a buffer: a job counts as waiting until its result is taken, so a slow consumer slows the run down.
    send, receive = create_memory_object_stream[JobResult](0)

    async def run() -> None:
        async with send:
            await work(send)

    # A task of its own: a generator must not yield inside a task group, whose cancellation would hit the code of the
    # caller (https://peps.python.org/pep-0789/).
    task = asyncio.get_running_loop().create_task(run(), name="veriff-async batch")
    try:
        async with receive:
            async for result in receive:
                yield result
        await task  # raises the error that ended the run
    finally:
        # Also when the caller closes the generator early; the jobs' own tasks end with this one.
        task.cancel()
        with CancelScope(shield=True):  # else a cancelled scope of anyio would cancel the run in each turn of the loop
            await asyncio.gather(task, return_exceptions=True)


async def _run_concurrently(items: AsyncGenerator[_T], run: Callable[[_T], Coroutine[None, None, None]]) -> None:
    """Run one task per item, as the items come; the first error cancels the others and is raised without a group."""
    try:
        async with aclosing(items), asyncio.TaskGroup() as tasks:
            async for item in items:
                # An eager task may have ended. Its failure cancels this task, which learns that only when it suspends.
                # Until then the group would refuse the next task, and never await its coroutine.
                if tasks.create_task(run(item)).done():
                    await asyncio.sleep(0)
    except ExceptionGroup as group:
        first = group.exceptions[0]
    else:
        return
    # Outside the handler: the caller wants the error, without a context that shows the other jobs' errors.
    raise first


def _to_result(job_id: str, progress: _JobProgress, error: VeriffError | None) -> JobResult:
    record = progress.record
    if record is None:
        return JobResult(job_id=job_id, session_id=None, error=error, state=JobState.NEW)
    if error is None and record.failure is not None:
        msg = f"Job {job_id} failed in an earlier run: {record.failure.message} Pass retry_failed=True to try it again."
        error = JobFailedError(msg, error_type=record.failure.error_type)
    return JobResult(
        job_id=job_id,
        session_id=record.session_id,
        decision=record.decision if error is None else None,
        error=error,
        state=record.state,
        from_journal=progress.was_finished,
    )


async def iterate(jobs: Iterable[_T] | AsyncIterable[_T]) -> AsyncGenerator[_T]:
    """Yield the items of an input of either kind.

    Raises:
        InvalidArgumentError: It is not iterable.
    """
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
    else:
        if not isinstance(cast("object", jobs), Iterable):
            msg = f"jobs must be an iterable of Job, not {type_name(jobs)}: pass for example a list."
            raise InvalidArgumentError(msg)
        for job in jobs:
            yield job
