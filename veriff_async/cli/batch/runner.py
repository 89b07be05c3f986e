"""Runs a batch for the command line: opens client, journal, results file and progress display, and closes them."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from anyio import to_thread
from attrs import frozen

from veriff_async.batch import (
    JobState,
    SessionLimits,
    SessionUsage,
    SqliteJournal,
    collect_many,
    resolve_unknown,
    submit_many,
    verify_many,
)
from veriff_async.batch._plan import PlanBuilder
from veriff_async.cli._store_keys import read_store_keys
from veriff_async.cli.batch.manifest import iter_jobs
from veriff_async.cli.batch.progress import ProgressDisplay
from veriff_async.cli.batch.results import open_results, wait_for_reader
from veriff_async.cli.batch.saved_options import save_options
from veriff_async.cli.batch.summary import JobCounts
from veriff_async.inbox import SqliteInbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from veriff_async import VeriffClient
    from veriff_async.batch import InvalidRow, Job, JobResult, OnUnknown
    from veriff_async.cli.batch.manifest import ManifestCheck
    from veriff_async.cli.batch.results import ResultsWriter
    from veriff_async.cli.batch.saved_options import RunLimits, SavedOptions

    Connect = Callable[..., VeriffClient]
    """Creates the client; takes the inbox as a keyword if there is one."""

__all__ = (
    "RunSummary",
    "count_jobs",
    "existing_journal",
    "resolve_job",
    "run_batch",
    "run_collection",
    "start_plan",
)

_LOCK_JOB_ID: Final = "veriff-async batch"


@frozen(kw_only=True)
class RunSummary:
    """The outcome of a run.

    Attributes:
        counts: The jobs, counted.
        seconds: Duration.
        bytes_sent: Bytes of media on the wire.
    """

    counts: JobCounts
    seconds: float
    bytes_sent: int


async def run_batch(  # noqa: PLR0913  the parts of a batch
    options: SavedOptions,
    connect: Connect,
    journal: Path,
    *,
    checked: ManifestCheck,
    retry_failed: bool,
    max_outage: float,
    on_changed: Callable[[InvalidRow], None],
    quiet: bool,
) -> RunSummary:
    """Verify or submit the jobs of a manifest, or resume them; see `iter_jobs` for `checked` and `on_changed`."""
    async with _connect(connect, options.inbox) as veriff:
        display = ProgressDisplay(checked.valid, veriff.statistics, is_submission=options.submit_only, quiet=quiet)
        async with _open_run(
            journal,
            options.out,
            veriff,
            display,
            show_person=options.show_person,
            other_files=[path for path in (options.manifest, options.inbox, options.env_file) if path is not None],
        ) as run:
            # After the journal is locked: a second run must not replace the options of the first one.
            await to_thread.run_sync(save_options, journal, options)
            rows = iter_jobs(options.manifest, options.timeout, run.journal, on_changed, checked=checked)
            async with aclosing(rows) as jobs:
                work = _submit if options.submit_only else _verify
                await work(run, options, jobs, retry_failed=retry_failed, max_outage=max_outage)
            return run.summary()


async def run_collection(  # noqa: PLR0913  the parts of a collection
    connect: Connect,
    inbox: Path | None,
    journal: Path,
    out: Path,
    *,
    timeout: float | None,  # noqa: ASYNC109  the timeout of each wait
    max_waiting: int,
    poll_rate: float | None,
    max_outage: float,
    show_person: bool,
    quiet: bool,
) -> RunSummary:
    """Collect the decisions on submitted jobs."""
    async with SqliteJournal(journal, encryption=read_store_keys()) as store:
        total = (await store.count_by_state()).get(JobState.SUBMITTED, 0)
    async with _connect(connect, inbox) as veriff:
        display = ProgressDisplay(total, veriff.statistics, quiet=quiet)
        async with _open_run(
            journal, out, veriff, display, show_person=show_person, other_files=[] if inbox is None else [inbox]
        ) as run:
            collected = collect_many(
                veriff,
                journal=run.journal,
                timeout=timeout,
                max_waiting=max_waiting,
                poll_rate=poll_rate,
                max_outage=max_outage,
                progress=display.update,
            )
            async with aclosing(collected) as results:
                async for result in results:
                    await run.add(result)
            return run.summary()


def existing_journal(journal: Path | None) -> Path | None:
    """Return the journal if it is there: opening it would create it, also in an empty file."""
    return journal if journal is not None and journal.exists() and journal.stat().st_size else None


async def start_plan(
    limits: RunLimits, journal: Path | None, *, on_unknown: OnUnknown, retry_failed: bool
) -> PlanBuilder:
    """Return the builder of the plan of a run, with the sessions that earlier runs have created."""
    session_limits = SessionLimits(max_sessions=limits.max_sessions, max_per_hour=limits.max_per_hour)
    usage = SessionUsage(total=0, last_hour=0)
    if (path := existing_journal(journal)) is not None:
        async with SqliteJournal(path, encryption=read_store_keys()) as store:
            usage = await store.session_usage(session_limits)
    return PlanBuilder(session_limits, usage, on_unknown=on_unknown, retry_failed=retry_failed)


async def count_jobs(journal: Path) -> tuple[JobCounts, SessionUsage]:
    """Count the jobs and sessions of a journal, which a run may be using at the same time."""
    counts = JobCounts()
    async with SqliteJournal(journal, encryption=read_store_keys()) as store, aclosing(store.iter_records()) as records:
        async for record in records:
            status = record.decision and str(record.decision.status)
            counts.count(record.state, status or (record.failure.error_type if record.failure else ""), record.job_id)
        usage = await store.session_usage(SessionLimits())
    return counts, usage


async def resolve_job(journal: Path, job_id: str, session_id: str | None) -> None:
    """Record the real outcome of a creation that got no response."""
    async with SqliteJournal(journal, encryption=read_store_keys()) as store:
        await resolve_unknown(store, job_id, session_id=session_id)


@frozen
class _BatchRun:
    """The open parts of one run."""

    journal: SqliteJournal
    results: ResultsWriter
    display: ProgressDisplay
    counts: JobCounts
    veriff: VeriffClient

    async def add(self, result: JobResult) -> None:
        await self.results.add(result)
        self.counts.add(result)

    def summary(self) -> RunSummary:
        return RunSummary(
            counts=self.counts, seconds=self.display.seconds, bytes_sent=self.veriff.statistics().bytes_sent
        )


@asynccontextmanager
async def _connect(connect: Connect, inbox: Path | None) -> AsyncGenerator[VeriffClient]:
    if inbox is None:
        async with connect() as veriff:
            yield veriff
    else:
        async with SqliteInbox(inbox, encryption=read_store_keys()) as opened, connect(inbox=opened) as veriff:
            yield veriff


@asynccontextmanager
async def _open_run(  # noqa: PLR0913  the parts of a run
    journal: Path,
    out: Path,
    veriff: VeriffClient,
    display: ProgressDisplay,
    *,
    show_person: bool,
    other_files: Sequence[Path],
) -> AsyncGenerator[_BatchRun]:
    async with SqliteJournal(journal, encryption=read_store_keys()) as store:
        # The first claim locks the journal for this process. Without the lock a second run could open the results file,
        # and remove a line that the first run is writing because it looks torn.
        await store.claim(_LOCK_JOB_ID)
        await store.release(_LOCK_JOB_ID)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(wait_for_reader(out))
            results_file = open_results(out, show_person=show_person, other_files=[journal, *other_files])
            # In a thread, because it reads all results of earlier runs.
            results = await to_thread.run_sync(stack.enter_context, results_file)
            await stack.enter_async_context(display.show())
            yield _BatchRun(store, results, display, JobCounts(is_submission=display.is_submission), veriff)


async def _verify(
    run: _BatchRun, options: SavedOptions, jobs: AsyncGenerator[Job], *, retry_failed: bool, max_outage: float
) -> None:
    verified = verify_many(
        run.veriff,
        jobs,
        journal=run.journal,
        concurrency=options.concurrency,
        max_waiting=options.max_waiting,
        on_unknown=options.on_unknown,
        retry_failed=retry_failed,
        max_outage=max_outage,
        max_sessions=options.limits.max_sessions,
        max_per_hour=options.limits.max_per_hour,
        poll_rate=options.limits.poll_rate,
        progress=run.display.update,
    )
    async with aclosing(verified) as results:
        async for result in results:
            await run.add(result)


async def _submit(
    run: _BatchRun, options: SavedOptions, jobs: AsyncGenerator[Job], *, retry_failed: bool, max_outage: float
) -> None:
    unsubmitted = await submit_many(
        run.veriff,
        jobs,
        journal=run.journal,
        concurrency=options.concurrency,
        on_unknown=options.on_unknown,
        retry_failed=retry_failed,
        max_outage=max_outage,
        max_sessions=options.limits.max_sessions,
        max_per_hour=options.limits.max_per_hour,
        progress=run.display.update,
    )
    for result in unsubmitted:
        await run.add(result)
    # `submit_many` returns only the jobs that were not submitted; the progress counts the others.
    now = run.display.progress
    run.counts.counts += Counter({(JobState.SUBMITTED, ""): now.submitted, (JobState.DECIDED, ""): now.decided})
