"""Batches over taskiq: workers take job ids from a broker, and share the journal. taskiq is an extra."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack, aclosing
from logging import getLogger
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from attrs import frozen

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

    Outcome: TypeAlias = dict[str, str | None]
    JobTask: TypeAlias = AsyncTaskiqDecoratedTask[[str], Coroutine[None, None, Outcome]]
    CollectTask: TypeAlias = AsyncTaskiqDecoratedTask[[], Coroutine[None, None, dict[str, int]]]

__all__ = ("BatchTasks",)

_LOGGER: Final = getLogger("veriff_async.batch")

_MAX_OUTAGE: Final = 30.0
"""Seconds that a message is held during an outage, so that a worker does not run through the whole queue."""

_HERE: Final[Context] = cast("Context", TaskiqDepends())
"""What taskiq knows of the message that a task is run for."""


@frozen
class _Worker:
    """What all tasks of one worker process share."""

    client: VeriffClient
    journal: Journal


class BatchTasks:
    """Tasks of a taskiq broker that do jobs by their id.

    A message holds a job's id and nothing else; pictures, options and decisions stay out of the broker, and a result
    says where the job stands. Each worker process opens a client and a journal when it starts and closes them when it
    ends; workers of several processes share a `RedisJournal`.

    A message is acknowledged when its job is done, not before: decided, submitted where that was asked for, failed for
    good, or in need of a person. What may go well later (the network, a busy Veriff, a claim of another worker) is left
    with the broker, which delivers it again: with ``RedisStreamBroker`` after its ``idle_timeout``. Until then there is
    no result. With a broker that knows no acknowledgement the error is raised instead, for taskiq's retry middlewares.
    Delivering a job twice does no harm.

    Args:
        broker: The broker; the tasks are registered with it, so make this where the broker is made.
        client: Makes the client of a worker process, for example ``VeriffClient.from_env``.
        journal: Makes its journal.
        load: Returns a job by its id, the same each time. An `InvalidArgumentError`, for example of `Job`, ends the
            job: the journal has it as failed, and `on_result` gets it. Any other exception, also one of this library
            like `NotFoundError`, leaves the message to be delivered again.
        on_result: Called with what came of a job before its message is acknowledged, so perhaps again after a crash:
            where your program takes the decision. What it raises leaves the message to be delivered again; if
            `collect` called it, the job gets a `verify` message of its own, and the other jobs go on.
        on_unknown: See `verify_many`.
        retry_failed: See `verify_many`.
        name: What the names of the tasks begin with.

    Attributes:
        verify: Does a job up to its decision, or to the job's timeout.
        submit: Does a job up to its submission.
        collect: Asks once for the decision on each job that is submitted, and returns how many stand at each step; for
            a schedule.

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

    def __init__(  # noqa: PLR0913  what a worker is made of; all but four have a default
        self,
        broker: AsyncBroker,
        *,
        client: Callable[[], AbstractAsyncContextManager[VeriffClient]],
        journal: Callable[[], AbstractAsyncContextManager[Journal]],
        load: Callable[[str], Awaitable[Job]],
        on_result: Callable[[JobResult], Awaitable[None]] | None = None,
        on_unknown: OnUnknown = "hold",
        retry_failed: bool = False,
        name: str = "veriff",
    ) -> None:
        """Register the tasks; nothing is opened yet."""
        self._make_client = client
        self._make_journal = journal
        self._load = load
        self._on_result = on_result
        self._on_unknown: OnUnknown = on_unknown
        self._retry_failed = retry_failed
        self._worker: _Worker | None = None
        self._open = AsyncExitStack()
        broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, self._start)
        broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, self._stop)
        self._register(broker, name)

    def __repr__(self) -> str:
        """Show whether this is a worker."""
        return f"<BatchTasks {'at work' if self._worker else 'not at work'}>"

    def _register(self, broker: AsyncBroker, name: str) -> None:
        # taskiq renames the functions that it is given, which no method bears, and reads their annotations.
        async def verify(job_id: str, context: Context = _HERE) -> dict[str, str | None]:
            return await self._do(context, job_id, wait=True)

        async def submit(job_id: str, context: Context = _HERE) -> dict[str, str | None]:
            return await self._do(context, job_id, wait=False)

        async def collect(context: Context = _HERE) -> dict[str, int]:
            return await self._gather(context)

        self.verify = cast("JobTask", broker.register_task(verify, f"{name}:verify", ack_type="manual"))
        self.submit = cast("JobTask", broker.register_task(submit, f"{name}:submit", ack_type="manual"))
        self.collect = cast("CollectTask", broker.register_task(collect, f"{name}:collect", ack_type="manual"))

    async def _start(self, _state: TaskiqState) -> None:
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(self._make_journal())
            self._worker = _Worker(await stack.enter_async_context(self._make_client()), journal)
            self._open = stack.pop_all()

    async def _stop(self, _state: TaskiqState) -> None:
        self._worker = None
        await self._open.aclose()

    @property
    def _here(self) -> _Worker:
        if self._worker is None:
            msg = "BatchTasks is not at work: let taskiq start the broker as a worker."
            raise ConfigurationError(msg)
        return self._worker

    async def _do(self, context: Context, job_id: str, *, wait: bool) -> Outcome:
        worker = self._here
        try:
            result = await self._result(worker, job_id, wait=wait)
        except VeriffError as error:
            # Raised instead of returned, so it is not the job's: the journal, the credentials or `load` failed.
            raise _left(context, error) from None
        if result.error is not None and _is_for_later(result.error):
            raise _left(context, result.error) from None
        if result.error is not None:
            _LOGGER.warning("Job %s ends as %s: %s.", job_id, result.state, type(result.error).__name__)
        outcome = _told(result)
        if self._on_result is not None:
            await self._on_result(result)
        await _acknowledge(context)
        return outcome

    async def _result(self, worker: _Worker, job_id: str, *, wait: bool) -> JobResult:
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
            wait=wait,
            max_outage=_MAX_OUTAGE,
        )

    async def _gather(self, context: Context) -> dict[str, int]:
        worker, counts = self._here, Counter[str]()
        try:
            async with aclosing(collect_many(worker.client, journal=worker.journal, timeout=0)) as results:
                async for result in results:
                    is_taken = isinstance(result.error, JobClaimedError)
                    counts["claimed" if is_taken else str(result.state)] += 1
                    if result.decision is not None or result.state is JobState.FAILED:
                        await self._hand_over(result)
        except VeriffError as error:
            raise _left(context, error) from None
        await _acknowledge(context)
        return dict(counts)

    async def _hand_over(self, result: JobResult) -> None:
        """Call `on_result` for one of many jobs; when it fails, the others go on."""
        if self._on_result is None:
            return
        try:
            await self._on_result(result)
        except Exception as error:  # noqa: BLE001  a function of the user's
            # The journal has the decision, so that no later `collect` finds this job: a message of its own does.
            _LOGGER.warning(
                "on_result of job %s failed with %s: verify does it again.", result.job_id, type(error).__name__
            )
            await self.verify.kiq(result.job_id)


def _check_id(job: Job, job_id: str) -> None:
    if job.id != job_id:
        msg = "load returned a job with another id than it was asked for: make the Job with the id that load is given."
        raise InvalidArgumentError(msg)


def _left(context: Context, error: VeriffError) -> Exception:
    """Return the exception that leaves a message with the broker, which delivers it again."""
    if not context.is_ackable:
        return error
    task = context.message.task_name
    _LOGGER.warning("%s is left to be delivered again, since it met %s.", task, type(error).__name__)
    return NoResultError()


async def _acknowledge(context: Context) -> None:
    if context.is_ackable:
        await context.ack()


def _is_for_later(error: VeriffError) -> bool:
    """Return whether the same message may succeed later; `collect` asks for decisions that took too long."""
    kinds = {ErrorKind.TRANSIENT, ErrorKind.FATAL}
    return classify_error(error) in kinds and not isinstance(error, DecisionTimeoutError)


def _told(result: JobResult) -> Outcome:
    decision = result.decision
    return {
        "job_id": result.job_id,
        "session_id": result.session_id,
        "state": str(result.state),
        "status": None if decision is None else str(decision.status),
        "error": None if result.error is None else type(result.error).__name__,
    }
