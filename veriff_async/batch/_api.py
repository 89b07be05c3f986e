"""Many verifications at once: what a program calls."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final, get_args

from attrs import evolve

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_choice, check_function, check_number, check_optional
from veriff_async._protocol.validation import check_id
from veriff_async.batch._circuit_breaker import breaker_of
from veriff_async.batch._job_runner import OnUnknown, Run
from veriff_async.batch._rate_limit import RateLimiter, RateLimits
from veriff_async.batch._records import JobRecord, JobState
from veriff_async.batch._runner import Window, told
from veriff_async.batch.job import JobResult
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
"""Seconds that an outage may last by default."""

_FEWEST_CREATIONS: Final = 4
"""Creations at once, or a quarter of the jobs if that is more: a creation is the shortest of a job's requests."""

_UNHURRIED: Final = RateLimits(initial=1000.0)
"""The pace of a single job: there is nothing to be careful with but the client's own slow-down."""


async def verify_many(  # noqa: PLR0913  what a batch is made of; all but three have a default
    client: VeriffClient,
    jobs: Iterable[Job] | AsyncIterable[Job],
    *,
    journal: Journal,
    concurrency: int = 32,
    max_waiting: int = 1000,
    on_unknown: OnUnknown = "hold",
    retry_failed: bool = False,
    rate_limits: RateLimits | None = None,
    max_outage: float | None = MAX_OUTAGE,
    progress: Callable[[BatchProgress], None] | None = None,
) -> AsyncGenerator[JobResult]:
    """Verify many people: create, upload, submit and wait, and yield what comes of each as it comes.

    Every step is in the journal before and after it is taken. Killed at any point and begun again with the same jobs
    and journal, the run goes on: no second session for a job that has one, no second upload of what is up, no decision
    lost. Jobs that are settled already are yielded again, as ``known``. The failure of one job stops no other.

    An outage fails no job. After three consecutive errors that may pass, or one creation whose outcome is unknown,
    nothing more is sent except probes, which only ask for a decision. When one succeeds, the jobs go on from where they
    stand, slowly at first. `BatchProgress.paused` shows it.

    Memory is that of the window, `concurrency` and `max_waiting`, however many jobs there are. To stop early, close the
    generator (`contextlib.aclosing`); a creation under way is awaited, so that its session is not lost.

    Args:
        client: Whom to ask with; with an inbox its waits are woken by webhooks. Uploads at once are its `max_uploads`.
        jobs: The jobs, any number of them; an iterator is taken as it comes, on the loop, so it must not block.
        journal: Where steps are written.
        concurrency: Most jobs at once on their way to their submission: sessions that are open.
        max_waiting: Most jobs at once whose decision is waited for, or whose result is not taken yet.
        on_unknown: How to treat a job whose session may have been created although no response arrived: ``"hold"``
            yields `OutcomeUnknownError` and leaves the job for `resolve_unknown`; ``"recreate"`` creates another
            session; ``"fail"`` ends the job.
        retry_failed: Whether jobs that failed for good in an earlier run are tried again, from the step that failed.
        rate_limits: Bounds of the pace.
        max_outage: Seconds that an outage may last before the run ends with its error; `None` for any time. It is 30 at
            most as long as no request has succeeded.
        progress: Called on the loop after each step of a job with the counts so far; it must not block.

    Yields:
        A result for each job, in the order of their decisions.

    Raises:
        InvalidArgumentError: An option cannot be right, or what was given is no `Job`.
        AuthenticationError: The key or secret is refused: no job could go on.
        PermissionDeniedError: The integration may not create sessions.
        NotFoundError: There is no such API at the client's base URL.
        JournalError: The journal cannot be written, or another run has it.
        ClientClosedError: The client was closed meanwhile.
        TransportError: Veriff could not be reached for `max_outage`; every job stands where it stood.
        ServerError: Likewise.

    Example:
        >>> async with SqliteJournal("batch.db") as journal:
        ...     async for result in verify_many(veriff, jobs, journal=journal):
        ...         print(result.job_id, result.decision.status if result.decision else result.error)
    """
    require_asyncio()
    window = _window(
        client, journal, concurrency, max_waiting, on_unknown, retry_failed, rate_limits, progress, patience=max_outage
    )
    async with aclosing(told(partial(window.verify, jobs))) as results:
        async for result in results:
            yield result


async def submit_many(  # noqa: PLR0913  what a batch is made of; all but three have a default
    client: VeriffClient,
    jobs: Iterable[Job] | AsyncIterable[Job],
    *,
    journal: Journal,
    concurrency: int = 32,
    on_unknown: OnUnknown = "hold",
    retry_failed: bool = False,
    rate_limits: RateLimits | None = None,
    max_outage: float | None = MAX_OUTAGE,
    progress: Callable[[BatchProgress], None] | None = None,
) -> list[JobResult]:
    """Submit many people's pictures, and leave the waiting to `collect_many`: a decision can take days.

    Args:
        client: Whom to ask with.
        jobs: The jobs; see `verify_many`.
        journal: Where steps are written.
        concurrency: Most jobs at once.
        on_unknown: See `verify_many`.
        retry_failed: See `verify_many`.
        rate_limits: Bounds of the pace.
        max_outage: See `verify_many`.
        progress: See `verify_many`.

    Returns:
        What is not submitted, with the errors; empty when everything is.

    Raises:
        VeriffError: What `verify_many` raises.

    Example:
        >>> for result in await submit_many(veriff, jobs, journal=journal):
        ...     print(result.job_id, result.error)
    """
    require_asyncio()
    window = _window(
        client, journal, concurrency, 1, on_unknown, retry_failed, rate_limits, progress, patience=max_outage
    )
    async with aclosing(told(partial(window.submit, jobs))) as results:
        return [result async for result in results if result.error is not None]


async def collect_many(  # noqa: PLR0913  what a batch is made of; all but two have a default
    client: VeriffClient,
    *,
    journal: Journal,
    timeout: float | None = 900.0,  # noqa: ASYNC109  the timeout of each wait, see wait_for_decision
    max_waiting: int = 1000,
    rate_limits: RateLimits | None = None,
    max_outage: float | None = MAX_OUTAGE,
    progress: Callable[[BatchProgress], None] | None = None,
) -> AsyncGenerator[JobResult]:
    """Gather the decisions on all jobs of a journal that are submitted, in this process or another, now or days later.

    Args:
        client: Whom to ask with; with an inbox, decisions that came by webhook are in it already.
        journal: Where the jobs are.
        timeout: Seconds to wait for each decision; ``0`` asks once for each, ``None`` waits as long as it takes.
        max_waiting: Most waits at once.
        rate_limits: Bounds of the pace of asking once; waits have the client's own.
        max_outage: See `verify_many`.
        progress: See `verify_many`.

    Yields:
        A result for each job that was submitted: its decision, or a `DecisionTimeoutError` while there is none, or why
        Veriff does not tell.

    Raises:
        VeriffError: What `verify_many` raises.

    Example:
        >>> async for result in collect_many(veriff, journal=journal, timeout=0):
        ...     print(result.job_id, result.decision)
    """
    require_asyncio()
    if timeout is not None and not timeout >= 0:
        msg = f"The timeout is {timeout!r}: give seconds, 0 to ask once, or None."
        raise InvalidArgumentError(msg)
    window = _window(
        client,
        journal,
        1,
        max_waiting,
        "hold",
        False,  # noqa: FBT003  retries nothing
        rate_limits,
        progress,
        patience=max_outage,
    )
    async with aclosing(told(partial(window.collect, timeout))) as results:
        async for result in results:
            yield result


async def verify_one(  # noqa: PLR0913  what a batch is made of; all but three have a default
    client: VeriffClient,
    job: Job,
    *,
    journal: Journal,
    on_unknown: OnUnknown = "hold",
    retry_failed: bool = False,
    wait: bool = True,
) -> JobResult:
    """Do one job, or go on with it: what a worker of a queue calls for each message.

    It repeats nothing, since the queue does, and does not wait for the end of an outage: while Veriff cannot be reached
    (for any call with this client), the result is the error of the last request, and nothing is created.

    It may be called again for the same job, after a crash or by a queue that delivers twice; see `verify_many`.

    Args:
        client: Whom to ask with; a worker keeps one.
        job: The job.
        journal: Where steps are written; workers of several processes share a `RedisJournal`.
        on_unknown: See `verify_many`.
        retry_failed: See `verify_many`.
        wait: Whether to wait for the decision, for the job's timeout; else the job ends as ``submitted``.

    Returns:
        The result; its ``error`` says why there is no decision, for example `JobClaimedError`: another worker has it.

    Raises:
        VeriffError: What `verify_many` raises.

    Example:
        >>> result = await verify_one(veriff, job, journal=journal, wait=False)
    """
    require_asyncio()
    return await attempt_one(
        client, job, journal=journal, on_unknown=on_unknown, retry_failed=retry_failed, wait=wait, patience=0.0
    )


async def attempt_one(  # noqa: PLR0913  what a single job is made of
    client: VeriffClient,
    job: Job,
    *,
    journal: Journal,
    on_unknown: OnUnknown,
    retry_failed: bool,
    wait: bool,
    patience: float,
) -> JobResult:
    """Do one job; see `verify_one`. `patience` is how many seconds to wait for the end of an outage before it."""
    window = _window(
        client, journal, 1, 1, on_unknown, retry_failed, _UNHURRIED, None, patience=patience, retries=False
    )
    async with aclosing(told(partial(window.verify if wait else window.submit, [job]))) as results:
        return await anext(results)


async def record_failure(journal: Journal, job_id: str, error: VeriffError) -> JobResult:
    """Record that a job cannot be made, so that a queue may forget its message; a settled job stays as it is.

    Raises:
        JournalError: The journal cannot be written, or another run has the job.
    """
    stored = await journal.claim(job_id)
    try:
        record = stored or JobRecord(job_id=job_id, options_digest="", media=())
        if record.state not in {JobState.DECIDED, JobState.FAILED}:
            record = record.with_failure(error)
            await journal.write(record)
    finally:
        await journal.release(job_id)
    return JobResult(
        job_id=job_id, session_id=record.session_id, decision=record.decision, error=error, state=record.state
    )


async def resolve_unknown(journal: Journal, job_id: str, *, session_id: str | None) -> None:
    """Say what became of a creation whose answer was lost, so that the job goes on when it is given again.

    A session that turns out to be wrong can be corrected in the same way: when the job has failed because Veriff
    refused its first upload with 400 or 404.

    Args:
        journal: Where the job is.
        job_id: The job.
        session_id: The session that was created, as the Customer Portal or a webhook shows it for the job's
            ``vendor_data``; ``None`` when there is none, so that it is created again.

    Raises:
        InvalidArgumentError: It is certain which session the job has, or the session's id cannot be one.
        JournalError: The journal cannot be written, or a run has the job.

    Example:
        >>> await resolve_unknown(journal, "user-42", session_id="8f0d1ab6-...")
    """
    require_asyncio()
    record = await journal.claim(job_id)
    try:
        if record is None:
            msg = f"The journal has no job {job_id}: compare the id with those of your jobs."
            raise InvalidArgumentError(msg)
        if not record.is_resolvable:
            msg = f"No creation of job {job_id} is in doubt: look at its step in the journal."
            raise InvalidArgumentError(msg)
        if session_id is None:
            await journal.write(evolve(record.retry(), state=JobState.NEW, session_id=None))
        else:
            await journal.write(record.retry().with_session(check_id("session_id", session_id)))
    finally:
        await journal.release(job_id)


def _window(  # noqa: PLR0913, PLR0917  what all three runs are made of
    client: VeriffClient,
    journal: Journal,
    concurrency: int,
    max_waiting: int,
    on_unknown: OnUnknown,
    retry_failed: bool,  # noqa: FBT001  it is the caller's own keyword
    rate_limits: RateLimits | None,
    progress: Callable[[BatchProgress], None] | None,
    *,
    patience: float | None,
    retries: bool = True,
) -> Window:
    if patience is not None:
        check_number(
            "max_outage", patience, remedy="give seconds, or None to wait for any time", error=InvalidArgumentError
        )
    for name, value in (("concurrency", concurrency), ("max_waiting", max_waiting)):
        check_number(name, value, lowest=1, whole=True, remedy="give 1 or more", error=InvalidArgumentError)
    check_choice("on_unknown", on_unknown, get_args(OnUnknown), error=InvalidArgumentError)
    check_optional(
        "rate_limits",
        rate_limits,
        RateLimits,
        remedy="pass RateLimits(...), or None for the default",
        error=InvalidArgumentError,
    )
    check_function("progress", progress, error=InvalidArgumentError)
    throttle = RateLimiter(rate_limits or RateLimits(), client.statistics)
    run = Run(
        client=client,
        journal=journal,
        throttle=throttle,
        breaker=breaker_of(client),
        creating=asyncio.Semaphore(max(_FEWEST_CREATIONS, concurrency // 4)),
        on_unknown=on_unknown,
        retry_failed=retry_failed,
        patience=patience,
        retries=retries,
    )
    return Window(run, concurrency=concurrency, max_waiting=max_waiting, progress=progress)
