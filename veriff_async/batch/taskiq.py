"""Batches on a taskiq queue: workers receive job ids from a broker and share a journal. Needs the extra ``taskiq``."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack, aclosing
from logging import getLogger
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from attrs import frozen

from veriff_async._logging import log_fields
from veriff_async._protocol.error_classifier import ErrorKind, classify_error
from veriff_async.batch._api import attempt_one, collect_many, record_failure
from veriff_async.batch._records import JobState
from veriff_async.batch.job import check_job
from veriff_async.errors import (
    ConfigurationError,
    DecisionTimeoutError,
    InvalidArgumentError,
    JobClaimedError,
    VeriffError,
)

try:
    from taskiq import Context, TaskiqDepends, TaskiqEvents
    from taskiq.exceptions import NoResultError
except ImportError:
    msg = 'BatchTasks needs taskiq, an extra of this package: pip install "veriff-async[taskiq]".'
    raise ConfigurationError(msg) from None

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, TaskiqState

    from veriff_async.batch._job_runner import OnUnknown
    from veriff_async.batch.job import Job, JobResult
    from veriff_async.batch.journal import Journal
    from veriff_async.client import VeriffClient

    Summary: TypeAlias = dict[str, str | None]
    JobTask: TypeAlias = AsyncTaskiqDecoratedTask[[str], Coroutine[None, None, Summary]]
    CollectTask: TypeAlias = AsyncTaskiqDecoratedTask[[], Coroutine[None, None, dict[str, int]]]

__all__ = ("BatchTasks",)

_LOGGER: Final = getLogger("veriff_async.batch")

# Seconds that a worker holds a message during an outage, so that it does not reject the whole queue.
_MAX_OUTAGE: Final = 30.0

# Default argument that taskiq replaces by the message's context.
_CONTEXT: Final[Context] = cast("Context", TaskiqDepends())


@frozen
class _WorkerState:
    """The client and the journal that all tasks of one worker process share."""

    client: VeriffClient
    journal: Journal


class BatchTasks:
    """Tasks of a taskiq broker that run jobs by their id.

    A message contains only a job's id. Pictures, options and decisions stay out of the broker, and a task's result has
    only the state of the job. Each worker process opens a client and a journal when it starts and closes them when it
    ends; workers of several processes share a `RedisJournal`.

    A message is acknowledged after its job has ended: decided, submitted if that was the task, failed permanently, or
    unknown, which needs a person. After an error that may pass (the network, a busy Veriff, a claim of another worker)
    the message stays with the broker, which delivers it again: ``RedisStreamBroker`` after its ``idle_timeout``. Until
    then the job has no result. With a broker without acknowledgements the error is raised instead, for taskiq's retry
    middlewares. Delivering a job twice does no harm.

    Args:
        broker: The broker. The tasks are registered with it, so create this object where the broker is created.
        client: Creates the client of a worker process, for example ``VeriffClient.from_env``.
        journal: Creates the journal of a worker process.
        load: Returns a job by its id, the same job each time. A `ConfigurationError` or `InvalidArgumentError`, for
            example of `Job`, ends the job: it is saved as failed, and `on_result` receives it. After any other
            exception, also one of this library such as `NotFoundError`, the message is delivered again.
        on_result: Called with the result of a job before its message is acknowledged, so possibly again after a crash:
            store the decision here. If it raises, the message is delivered again. If `collect` called it, the job gets
            its own `verify` message instead, and the other jobs continue.
        on_unknown: See `verify_many`.
        retry_failed: See `verify_many`.
        max_sessions: See `verify_many`; `None` for any number. A job that it leaves without a session stays
            with the broker, which delivers it again.
        max_per_hour: See `verify_many`; `None` for any number. Likewise.
        name: Prefix of the names of the tasks.

    Attributes:
        verify: Runs a job up to its decision, or to the job's timeout.
        submit: Runs a job up to its submission.
        collect: Asks once for the decision on each submitted job, and returns how many jobs are in each state; for a
            schedule.

    Example:
        >>> broker = RedisStreamBroker("redis://localhost:6379/0", idle_timeout=60_000)
        >>> tasks = BatchTasks(
        ...     broker,
        ...     client=VeriffClient.from_env,
        ...     journal=lambda: RedisJournal("redis://localhost:6379/0"),
        ...     load=load_job,
        ... )
        >>> await tasks.verify.kiq("user-42")  # where jobs come from; then: taskiq worker my_module:broker

    See https://taskiq-python.github.io/guide/message-acknowledgement.html.
    """

    verify: JobTask
    submit: JobTask
    collect: CollectTask

    def __init__(  # noqa: PLR0913  the options of a worker; all but four have a default
        self,
        broker: AsyncBroker,
        *,
        client: Callable[[], AbstractAsyncContextManager[VeriffClient]],
        journal: Callable[[], AbstractAsyncContextManager[Journal]],
        load: Callable[[str], Awaitable[Job]],
        on_result: Callable[[JobResult], Awaitable[None]] | None = None,
        on_unknown: OnUnknown = "hold",
        retry_failed: bool = False,
        max_sessions: int | None = None,
        max_per_hour: int | None = None,
        name: str = "veriff",
    ) -> None:
        """Register the tasks; the client and the journal are opened later."""
        self._make_client = client
        self._make_journal = journal
        self._load = load
        self._on_result = on_result
        self._on_unknown: OnUnknown = on_unknown
        self._retry_failed = retry_failed
        self._max_sessions = max_sessions
        self._max_per_hour = max_per_hour
        self._worker: _WorkerState | None = None
        self._open = AsyncExitStack()
        broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, self._start)
        broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, self._stop)
        self._register(broker, name)

    def __repr__(self) -> str:
        """Show whether this process is a worker."""
        return f"<BatchTasks {'started' if self._worker else 'not started'}>"

    def _register(self, broker: AsyncBroker, name: str) -> None:
        # Functions instead of methods: taskiq sets their names, which fails for methods, and reads their annotations.
        async def verify(job_id: str, context: Context = _CONTEXT) -> dict[str, str | None]:
            return await self._run_job(context, job_id, wait=True)

        async def submit(job_id: str, context: Context = _CONTEXT) -> dict[str, str | None]:
            return await self._run_job(context, job_id, wait=False)

        async def collect(context: Context = _CONTEXT) -> dict[str, int]:
            return await self._collect(context)

        self.verify = cast("JobTask", broker.register_task(verify, f"{name}:verify", ack_type="manual"))
        self.submit = cast("JobTask", broker.register_task(submit, f"{name}:submit", ack_type="manual"))
        self.collect = cast("CollectTask", broker.register_task(collect, f"{name}:collect", ack_type="manual"))

    async def _start(self, _state: TaskiqState) -> None:
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(self._make_journal())
            self._worker = _WorkerState(await stack.enter_async_context(self._make_client()), journal)
            # Only when both are open: if the client fails to open, the stack closes the journal.
            self._open = stack.pop_all()

    async def _stop(self, _state: TaskiqState) -> None:
        self._worker = None
        await self._open.aclose()

    @property
    def _started_worker(self) -> _WorkerState:
        if self._worker is None:
            msg = "BatchTasks is not started: run the broker as a taskiq worker."
            raise ConfigurationError(msg)
        return self._worker

    async def _run_job(self, context: Context, job_id: str, *, wait: bool) -> Summary:
        worker = self._started_worker
        try:
            result = await self._load_and_run(worker, job_id, wait=wait)
        except VeriffError as error:
            # Raised instead of returned, so it is not about this job: the journal, the credentials or `load` failed.
            raise _redeliver(context, error) from None
        if result.error is not None and _may_pass(result.error):
            raise _redeliver(context, result.error) from None
        if result.error is not None:
            name = type(result.error).__name__
            fields = log_fields(job_id=job_id, job_state=str(result.state), error=name, session_id=result.session_id)
            _LOGGER.warning("Job %s ends as %s: %s.", job_id, result.state, name, extra=fields)
        summary = _summarize(result)
        if self._on_result is not None:
            # Before the acknowledgement: after a crash in between, the message comes again and no result is missed.
            await self._on_result(result)
        await _acknowledge(context)
        return summary

    async def _load_and_run(self, worker: _WorkerState, job_id: str, *, wait: bool) -> JobResult:
        try:
            job = await self._load(job_id)
            check_job(job)
            _check_id(job, job_id)
        except (ConfigurationError, InvalidArgumentError) as error:
            return await record_failure(worker.journal, job_id, error)
        return await attempt_one(
            worker.client,
            job,
            journal=worker.journal,
            on_unknown=self._on_unknown,
            retry_failed=self._retry_failed,
            max_sessions=self._max_sessions,
            max_per_hour=self._max_per_hour,
            wait=wait,
            max_outage=_MAX_OUTAGE,
        )

    async def _collect(self, context: Context) -> dict[str, int]:
        worker, counts = self._started_worker, Counter[str]()
        try:
            async with aclosing(collect_many(worker.client, journal=worker.journal, timeout=0)) as results:
                async for result in results:
                    is_claimed = isinstance(result.error, JobClaimedError)
                    counts["claimed" if is_claimed else str(result.state)] += 1
                    if result.decision is not None or result.state is JobState.FAILED:
                        await self._report(result)
        except VeriffError as error:
            raise _redeliver(context, error) from None
        await _acknowledge(context)
        return dict(counts)

    async def _report(self, result: JobResult) -> None:
        """Call `on_result` for one of many jobs; if it raises, the others continue."""
        if self._on_result is None:
            return
        try:
            await self._on_result(result)
        except Exception as error:  # noqa: BLE001  a function of the user's
            # The journal has the decision already, so no later `collect` finds this job; its own message does.
            _LOGGER.warning(
                "on_result of job %s failed with %s; a verify message calls it again.",
                result.job_id,
                type(error).__name__,
                extra=log_fields(job_id=result.job_id, error=type(error).__name__),
            )
            await self.verify.kiq(result.job_id)


def _check_id(job: Job, job_id: str) -> None:
    if job.id != job_id:
        msg = "load returned a job with another id: create the Job with the id that load receives."
        raise InvalidArgumentError(msg)


def _redeliver(context: Context, error: VeriffError) -> Exception:
    """Return the exception that makes the broker deliver a message again."""
    if not context.is_ackable:
        return error
    # taskiq stores no result for NoResultError, so a caller that waits gets the result of a later delivery.
    task = context.message.task_name
    name = type(error).__name__
    fields = log_fields(task=task, error=name)
    _LOGGER.warning("%s is not acknowledged because of %s, so that it is delivered again.", task, name, extra=fields)
    return NoResultError()


async def _acknowledge(context: Context) -> None:
    if context.is_ackable:
        await context.ack()


def _may_pass(error: VeriffError) -> bool:
    """Return whether the same message may succeed later; late decisions are left to `collect`."""
    kinds = {ErrorKind.TRANSIENT, ErrorKind.FATAL}
    return classify_error(error) in kinds and not isinstance(error, DecisionTimeoutError)


def _summarize(result: JobResult) -> Summary:
    decision = result.decision
    return {
        "job_id": result.job_id,
        "session_id": result.session_id,
        "state": str(result.state),
        "status": None if decision is None else str(decision.status),
        "error": None if result.error is None else type(result.error).__name__,
    }
