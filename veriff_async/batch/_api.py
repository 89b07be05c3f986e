"""The functions that run batches."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final, get_args

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_choice, check_function, check_number, check_optional
from veriff_async._protocol.validation import check_id
from veriff_async.batch._circuit_breaker import breaker_of
from veriff_async.batch._job_runner import BatchContext, OnUnknown
from veriff_async.batch._rate_limit import RateLimiter, RateLimits
from veriff_async.batch._records import FINISHED_STATES, JobRecord
from veriff_async.batch._runner import BatchRunner, stream_results
from veriff_async.batch._session_budget import SessionBudget
from veriff_async.batch._session_limits import SessionLimits
from veriff_async.batch.job import JobResult
from veriff_async.batch.journal import check_journal
from veriff_async.client import runtime_of
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

    from veriff_async.batch._runner import BatchProgress
    from veriff_async.batch.job import Job
    from veriff_async.batch.journal import Journal
    from veriff_async.client import VeriffClient
    from veriff_async.errors import VeriffError

__all__ = (
    "MAX_OUTAGE",
    "attempt_one",
    "collect_many",
    "record_failure",
    "resolve_unknown",
    "submit_many",
    "verify_many",
    "verify_one",
)

MAX_OUTAGE: Final = 300.0
"""Default for the seconds that an outage may last."""

# Concurrent creations, or a quarter of the concurrency if that is more.
#
# A creation is the shortest request of a job, so a few keep all uploads busy. Each creation that is in flight when an
# outage begins may end with an unknown outcome.
_MIN_CREATIONS: Final = 4

# A single job needs no limit of its own: the client already obeys ``Retry-After``.
_SINGLE_JOB_LIMITS: Final = RateLimits(initial=1000.0)


async def verify_many(  # noqa: PLR0913  the options of a batch; all but three have a default
    client: VeriffClient,
    jobs: Iterable[Job] | AsyncIterable[Job],
    *,
    journal: Journal,
    concurrency: int = 32,
    max_waiting: int = 1000,
    on_unknown: OnUnknown = "hold",
    retry_failed: bool = False,
    rate_limits: RateLimits | None = None,
    poll_rate: float | None = None,
    max_outage: float | None = MAX_OUTAGE,
    max_sessions: int | None = None,
    max_per_hour: int | None = None,
    progress: Callable[[BatchProgress], None] | None = None,
) -> AsyncGenerator[JobResult]:
    """Verify many people: create, upload, submit and wait, and yield the result of each job as soon as it is known.

    A record of the job is in the journal before each request that must not be repeated blindly. A run that was killed
    at any point resumes when you start it again with the same jobs and journal: it creates no second session, uploads
    no media that Veriff lists, and loses no decision. Jobs that are already finished are yielded again, with
    ``from_journal``. A job that fails does not stop the others.

    An outage fails no job. After three consecutive transient errors, or one creation with an unknown outcome, the run
    pauses and sends only probes, which ask for a decision. When one succeeds, the jobs resume, slowly at first.
    `BatchProgress.paused` shows a pause.

    Memory depends on `concurrency` and `max_waiting`, not on the number of jobs. To stop early, close the generator
    (`contextlib.aclosing`); creations that were sent are awaited, so that their sessions are not lost.

    Args:
        client: The client. With an inbox, webhooks wake its waits. Its `max_uploads` bounds concurrent uploads.
        jobs: The jobs, any number of them. An iterator is consumed step by step in the event loop, so it must not
            block.
        journal: Stores the state of each job.
        concurrency: Maximum of jobs that are created, uploaded or submitted at the same time.
        max_waiting: Maximum of jobs that wait for a decision, or whose result has not been taken yet.
        on_unknown: How to treat a job whose session may have been created although no response arrived: ``"hold"``
            yields `OutcomeUnknownError` and leaves the job for `resolve_unknown`; ``"recreate"`` creates another
            session; ``"fail"`` ends the job.
        retry_failed: Whether to retry jobs that failed permanently in an earlier run, from the step that failed.
        rate_limits: Bounds of the request rate; by default ``RateLimits()``.
        poll_rate: Polls per second for decisions during the run, for all waits of the client; `None` for the
            ``max_rate`` of its `PollPolicy`. With 1000 waiting jobs and 10 polls per second, each is asked about every
            100 seconds at best.
        max_outage: Seconds that an outage may last before the run ends with its error; `None` for any time. Until a
            request has succeeded it is at most 30.
        max_sessions: Maximum of sessions that all runs with this journal create together, those included that may have
            been created; `None` for any number. When it is reached, jobs that have a session continue, and each other
            job is yielded with a `SessionLimitError`, unchanged. A later run with a larger maximum continues with them.
        max_per_hour: Maximum of sessions that all runs with this journal create within any 60 minutes; `None` for any
            number. Further jobs wait.
        progress: Called in the event loop after each step of a job with the counts so far; it must not block.

    Yields:
        A result for each job, in the order of their decisions.

    Raises:
        InvalidArgumentError: An option is invalid, or an item of `jobs` is not a `Job`.
        AuthenticationError: Veriff refuses the API key or the signature, so that no job could proceed.
        PermissionDeniedError: The integration may not create sessions.
        NotFoundError: The client's base URL is not Veriff's API.
        JournalError: The journal cannot be written, or another run uses it.
        ClientClosedError: The client was closed during the run.
        TransportError: Veriff could not be reached for `max_outage`; every job keeps its state.
        ServerError: Likewise.

    Example:
        >>> async with SqliteJournal("batch.db") as journal:
        ...     async for result in verify_many(veriff, jobs, journal=journal):
        ...         print(result.job_id, result.decision.status if result.decision else result.error)
    """
    require_asyncio()
    runner = _make_runner(
        client,
        journal,
        concurrency,
        max_waiting,
        on_unknown,
        retry_failed,
        rate_limits,
        progress,
        poll_rate=poll_rate,
        max_outage=max_outage,
        max_sessions=max_sessions,
        max_per_hour=max_per_hour,
    )
    async with aclosing(stream_results(partial(runner.verify, jobs))) as results:
        async for result in results:
            yield result


async def submit_many(  # noqa: PLR0913  the options of a batch; all but three have a default
    client: VeriffClient,
    jobs: Iterable[Job] | AsyncIterable[Job],
    *,
    journal: Journal,
    concurrency: int = 32,
    on_unknown: OnUnknown = "hold",
    retry_failed: bool = False,
    rate_limits: RateLimits | None = None,
    max_outage: float | None = MAX_OUTAGE,
    max_sessions: int | None = None,
    max_per_hour: int | None = None,
    progress: Callable[[BatchProgress], None] | None = None,
) -> list[JobResult]:
    """Submit many people's media, and leave the waiting to `collect_many`: a decision can take days.

    Args:
        client: The client.
        jobs: The jobs; see `verify_many`.
        journal: Stores the state of each job.
        concurrency: Maximum of concurrent jobs.
        on_unknown: See `verify_many`.
        retry_failed: See `verify_many`.
        rate_limits: Bounds of the request rate; by default ``RateLimits()``.
        max_outage: See `verify_many`.
        max_sessions: See `verify_many`; `None` for any number.
        max_per_hour: See `verify_many`; `None` for any number.
        progress: See `verify_many`.

    Returns:
        The results of the jobs that could not be submitted, with their errors.

    Raises:
        VeriffError: What `verify_many` raises.

    Example:
        >>> for result in await submit_many(veriff, jobs, journal=journal):
        ...     print(result.job_id, result.error)
    """
    require_asyncio()
    runner = _make_runner(
        client,
        journal,
        concurrency,
        1,
        on_unknown,
        retry_failed,
        rate_limits,
        progress,
        max_outage=max_outage,
        max_sessions=max_sessions,
        max_per_hour=max_per_hour,
    )
    async with aclosing(stream_results(partial(runner.submit, jobs))) as results:
        return [result async for result in results if result.error is not None]


async def collect_many(  # noqa: PLR0913  the options of a batch; all but two have a default
    client: VeriffClient,
    *,
    journal: Journal,
    timeout: float | None = 900.0,  # noqa: ASYNC109  the timeout of each wait, see wait_for_decision
    max_waiting: int = 1000,
    rate_limits: RateLimits | None = None,
    poll_rate: float | None = None,
    max_outage: float | None = MAX_OUTAGE,
    progress: Callable[[BatchProgress], None] | None = None,
) -> AsyncGenerator[JobResult]:
    """Collect the decisions on all submitted jobs of a journal, also those that another process submitted.

    Args:
        client: The client. With an inbox, it finds decisions that arrived by webhook without asking Veriff.
        journal: The journal of the jobs.
        timeout: Seconds to wait for each decision; ``0`` asks once for each, ``None`` waits as long as it takes.
        max_waiting: Maximum of concurrent waits.
        rate_limits: Bounds of the request rate with ``timeout=0``, by default ``RateLimits()``; longer waits share the
            client's poller.
        poll_rate: Polls per second, see `verify_many`; `None` for the rate of the client.
        max_outage: See `verify_many`.
        progress: See `verify_many`.

    Yields:
        A result for each submitted job; its decision, a `DecisionTimeoutError` while there is none, or the error with
        which Veriff refuses the question.

    Raises:
        VeriffError: What `verify_many` raises.

    Example:
        >>> async for result in collect_many(veriff, journal=journal, timeout=0):
        ...     print(result.job_id, result.decision)
    """
    require_asyncio()
    if timeout is not None:
        remedy = "give seconds, 0 to ask once, or None to wait for any time"
        check_number("timeout", timeout, remedy=remedy, error=InvalidArgumentError)
    runner = _make_runner(
        client,
        journal,
        1,
        max_waiting,
        "hold",
        False,  # noqa: FBT003  retry_failed: a collection retries nothing
        rate_limits,
        progress,
        poll_rate=poll_rate,
        max_outage=max_outage,
    )
    async with aclosing(stream_results(partial(runner.collect, timeout))) as results:
        async for result in results:
            yield result


async def verify_one(  # noqa: PLR0913  the options of a batch; all but three have a default
    client: VeriffClient,
    job: Job,
    *,
    journal: Journal,
    on_unknown: OnUnknown = "hold",
    retry_failed: bool = False,
    max_sessions: int | None = None,
    max_per_hour: int | None = None,
    wait: bool = True,
) -> JobResult:
    """Run one job, or resume it: for the workers of a task queue, which call this for each message.

    It repeats nothing, because the queue delivers the message again, and does not wait for the end of an outage: while
    Veriff cannot be reached by this client, the result has the error of the last request, and nothing is created.

    It is safe to call it again for the same job, after a crash or when a queue delivers twice; see `verify_many`.

    Args:
        client: The client; a worker process needs only one.
        job: The job.
        journal: Stores the state of each job; workers of several processes share a `RedisJournal`.
        on_unknown: See `verify_many`.
        retry_failed: See `verify_many`.
        max_sessions: See `verify_many`; `None` for any number.
        max_per_hour: See `verify_many`; `None` for any number. The job does not wait, its result has a
            `SessionLimitError` with ``retry_after``.
        wait: Whether to wait for the decision, up to the job's timeout; otherwise the job ends as ``submitted``.

    Returns:
        The result. Its ``error`` says why the job has no decision; `JobClaimedError` means that another worker has the
        job.

    Raises:
        VeriffError: What `verify_many` raises.

    Example:
        >>> result = await verify_one(veriff, job, journal=journal, wait=False)
    """
    require_asyncio()
    return await attempt_one(
        client,
        job,
        journal=journal,
        on_unknown=on_unknown,
        retry_failed=retry_failed,
        max_sessions=max_sessions,
        max_per_hour=max_per_hour,
        wait=wait,
        max_outage=0.0,
    )


async def attempt_one(  # noqa: PLR0913  the options of `verify_one`
    client: VeriffClient,
    job: Job,
    *,
    journal: Journal,
    on_unknown: OnUnknown,
    retry_failed: bool,
    max_sessions: int | None,
    max_per_hour: int | None,
    wait: bool,
    max_outage: float,
) -> JobResult:
    """Run one job; see `verify_one`. It first waits up to `max_outage` seconds for the end of an outage."""
    runner = _make_runner(
        client,
        journal,
        1,
        1,
        on_unknown,
        retry_failed,
        _SINGLE_JOB_LIMITS,
        None,
        max_outage=max_outage,
        max_sessions=max_sessions,
        max_per_hour=max_per_hour,
        retries=False,
    )
    async with aclosing(stream_results(partial(runner.verify if wait else runner.submit, [job]))) as results:
        return await anext(results)


async def record_failure(journal: Journal, job_id: str, error: VeriffError) -> JobResult:
    """Save that a job cannot be loaded, so that a queue may drop its message; a finished job stays as it is.

    Raises:
        JournalError: The journal cannot be written, or another run has the job.
    """
    previous = await journal.claim(job_id)
    try:
        record = previous or JobRecord(job_id=job_id, options_digest="", media=())
        if record.state not in FINISHED_STATES:
            record = record.with_failure(error)
            await journal.write(record)
    finally:
        await journal.release(job_id)
    return JobResult(
        job_id=job_id, session_id=record.session_id, decision=record.decision, error=error, state=record.state
    )


async def resolve_unknown(journal: Journal, job_id: str, *, session_id: str | None) -> None:
    """Resolve a job in state ``unknown``, so that it resumes when it is passed again.

    A wrong session can be corrected in the same way, once the job has failed because Veriff refused its first upload
    with 400 or 404.

    Args:
        journal: The journal of the job.
        job_id: The job.
        session_id: The session that was created, as the Customer Portal or a webhook shows it for the job's
            ``vendor_data``; ``None`` if no session was created, so that the next run creates one.

    Raises:
        InvalidArgumentError: The job is not in the journal or its session is certain, or `session_id` is not an id.
        JournalError: The journal cannot be written, or a run has the job.

    Example:
        >>> await resolve_unknown(journal, "user-42", session_id="8f0d1ab6-...")
    """
    require_asyncio()
    check_journal(journal)
    record = await journal.claim(job_id)
    try:
        if record is None:
            msg = f"The journal has no job {job_id}: compare the id with those of your jobs."
            raise InvalidArgumentError(msg)
        if not record.is_resolvable:
            msg = f"Job {job_id} is in state {record.state!s}, so there is nothing to resolve."
            raise InvalidArgumentError(msg)
        if session_id is None:
            await journal.write(record.retry().without_creation())
        else:
            await journal.write(record.retry().with_session(check_id("session_id", session_id)))
    finally:
        await journal.release(job_id)


def _make_runner(  # noqa: PLR0913, PLR0917  the options that all runs share
    client: VeriffClient,
    journal: Journal,
    concurrency: int,
    max_waiting: int,
    on_unknown: OnUnknown,
    retry_failed: bool,  # noqa: FBT001  it is the caller's own keyword
    rate_limits: RateLimits | None,
    progress: Callable[[BatchProgress], None] | None,
    *,
    max_outage: float | None,
    poll_rate: float | None = None,
    max_sessions: int | None = None,
    max_per_hour: int | None = None,
    retries: bool = True,
) -> BatchRunner:
    if max_outage is not None:
        check_number(
            "max_outage", max_outage, remedy="give seconds, or None to wait for any time", error=InvalidArgumentError
        )
    for name, value in (("concurrency", concurrency), ("max_waiting", max_waiting)):
        check_number(name, value, lowest=1, whole=True, remedy="give 1 or more", error=InvalidArgumentError)
    if poll_rate is not None:
        remedy = "give polls per second above zero, or None for the rate of the client"
        check_number("poll_rate", poll_rate, above=True, remedy=remedy, error=InvalidArgumentError)
    check_choice("on_unknown", on_unknown, get_args(OnUnknown), error=InvalidArgumentError)
    check_optional(
        "rate_limits",
        rate_limits,
        RateLimits,
        remedy="pass RateLimits(...), or None for the default",
        error=InvalidArgumentError,
    )
    check_function("progress", progress, takes=("a BatchProgress",), error=InvalidArgumentError)
    check_journal(journal)
    limits = SessionLimits(max_sessions=max_sessions, max_per_hour=max_per_hour)
    context = BatchContext(
        client=client,
        journal=journal,
        limiter=RateLimiter(rate_limits or RateLimits(), lambda: runtime_of(client).transport),
        breaker=breaker_of(client),
        budget=SessionBudget(limits, journal, waits=retries) if limits else None,
        creations=asyncio.Semaphore(max(_MIN_CREATIONS, concurrency // 4)),
        on_unknown=on_unknown,
        retry_failed=retry_failed,
        max_outage=max_outage,
        poll_rate=poll_rate,
        retries=retries,
    )
    return BatchRunner(context, concurrency=concurrency, max_waiting=max_waiting, on_progress=progress)
