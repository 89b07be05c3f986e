"""Batches as the command line runs them: a client and a journal that are closed at the end, results, progress."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from anyio import to_thread
from attrs import frozen

from veriff_async.batch import JobState, SqliteJournal, collect_many, resolve_unknown, submit_many, verify_many
from veriff_async.cli.batch.manifest import jobs_of
from veriff_async.cli.batch.progress import Gauge
from veriff_async.cli.batch.results import reader_of, results_in
from veriff_async.cli.batch.saved_options import remember
from veriff_async.cli.batch.summary import Outcomes
from veriff_async.inbox import SqliteInbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from veriff_async import VeriffClient
    from veriff_async.batch import InvalidRow, Job, JobResult
    from veriff_async.cli.batch.results import Results
    from veriff_async.cli.batch.saved_options import Plan

    Connect = Callable[..., VeriffClient]
    """Makes the client, given the inbox if there is one."""

__all__ = ("Told", "look", "run_collection", "run_plan", "settle_job")

_ANY: Final = "veriff-async batch"


@frozen(kw_only=True)
class Told:
    """What came of a run.

    Attributes:
        outcomes: The jobs, counted.
        seconds: How long it took.
        sent: Bytes of pictures that were sent, as they are on the wire.
    """

    outcomes: Outcomes
    seconds: float
    sent: int


async def run_plan(  # noqa: PLR0913  what a batch is made of
    plan: Plan,
    connect: Connect,
    journal: Path,
    *,
    total: int,
    retry_failed: bool,
    max_outage: float,
    changed: Callable[[InvalidRow], None],
    quiet: bool,
) -> Told:
    """Verify or submit what a manifest holds, or go on with it."""
    async with _connected(connect, plan.inbox) as veriff:
        gauge = Gauge(total, veriff.statistics, is_submission=plan.submit_only, quiet=quiet)
        async with _running(
            journal,
            plan.out,
            veriff,
            gauge,
            show_person=plan.show_person,
            apart_from=[path for path in (plan.manifest, plan.inbox, plan.env_file) if path is not None],
        ) as run:
            remember(journal, plan)
            async with aclosing(jobs_of(plan.manifest, plan.timeout, run.journal, changed)) as jobs:
                work = _submit if plan.submit_only else _verify
                await work(run, plan, jobs, retry_failed=retry_failed, max_outage=max_outage)
            return run.told()


async def run_collection(  # noqa: PLR0913  what a collection is made of
    connect: Connect,
    inbox: Path | None,
    journal: Path,
    out: Path,
    *,
    timeout: float | None,  # noqa: ASYNC109  the timeout of each wait
    max_waiting: int,
    max_outage: float,
    show_person: bool,
    quiet: bool,
) -> Told:
    """Gather the decisions on what is submitted."""
    async with SqliteJournal(journal) as store:
        total = (await store.count_by_state()).get(JobState.SUBMITTED, 0)
    async with _connected(connect, inbox) as veriff:
        gauge = Gauge(total, veriff.statistics, quiet=quiet)
        async with _running(
            journal, out, veriff, gauge, show_person=show_person, apart_from=[] if inbox is None else [inbox]
        ) as run:
            found = collect_many(
                veriff,
                journal=run.journal,
                timeout=timeout,
                max_waiting=max_waiting,
                max_outage=max_outage,
                progress=gauge.update,
            )
            async with aclosing(found) as results:
                async for result in results:
                    await run.add(result)
            return run.told()


async def look(journal: Path) -> Outcomes:
    """Count what a journal holds; a run may go on meanwhile."""
    outcomes = Outcomes()
    async with SqliteJournal(journal) as store, aclosing(store.iter_records()) as records:
        async for record in records:
            known = record.decision and str(record.decision.status)
            outcomes.count(record.state, known or (record.failure.error_type if record.failure else ""), record.job_id)
    return outcomes


async def settle_job(journal: Path, job_id: str, session_id: str | None) -> None:
    """Say what became of a creation in doubt."""
    async with SqliteJournal(journal) as store:
        await resolve_unknown(store, job_id, session_id=session_id)


@frozen
class _Run:
    """What one run writes to."""

    journal: SqliteJournal
    results: Results
    gauge: Gauge
    outcomes: Outcomes
    veriff: VeriffClient

    async def add(self, result: JobResult) -> None:
        await self.results.add(result)
        self.outcomes.add(result)

    def told(self) -> Told:
        return Told(outcomes=self.outcomes, seconds=self.gauge.seconds, sent=self.veriff.statistics().bytes_sent)


@asynccontextmanager
async def _connected(connect: Connect, inbox: Path | None) -> AsyncGenerator[VeriffClient]:
    if inbox is None:
        async with connect() as veriff:
            yield veriff
    else:
        async with SqliteInbox(inbox) as shared, connect(inbox=shared) as veriff:
            yield veriff


@asynccontextmanager
async def _running(  # noqa: PLR0913  what a run writes to
    journal: Path,
    out: Path,
    veriff: VeriffClient,
    gauge: Gauge,
    *,
    show_person: bool,
    apart_from: Sequence[Path],
) -> AsyncGenerator[_Run]:
    async with SqliteJournal(journal) as store:
        # The first claim takes the journal for this process; a second run would else mend results that are written.
        await store.claim(_ANY)
        await store.release(_ANY)
        async with AsyncExitStack() as parts:
            await parts.enter_async_context(reader_of(out))
            opened = results_in(out, show_person=show_person, apart_from=[journal, *apart_from])
            results = await to_thread.run_sync(parts.enter_context, opened)
            await parts.enter_async_context(gauge.shown())
            yield _Run(store, results, gauge, Outcomes(is_submission=gauge.is_submission), veriff)


async def _verify(run: _Run, plan: Plan, jobs: AsyncGenerator[Job], *, retry_failed: bool, max_outage: float) -> None:
    found = verify_many(
        run.veriff,
        jobs,
        journal=run.journal,
        concurrency=plan.concurrency,
        max_waiting=plan.max_waiting,
        on_unknown=plan.on_unknown,
        retry_failed=retry_failed,
        max_outage=max_outage,
        progress=run.gauge.update,
    )
    async with aclosing(found) as results:
        async for result in results:
            await run.add(result)


async def _submit(run: _Run, plan: Plan, jobs: AsyncGenerator[Job], *, retry_failed: bool, max_outage: float) -> None:
    left = await submit_many(
        run.veriff,
        jobs,
        journal=run.journal,
        concurrency=plan.concurrency,
        on_unknown=plan.on_unknown,
        retry_failed=retry_failed,
        max_outage=max_outage,
        progress=run.gauge.update,
    )
    for result in left:
        await run.add(result)
    now = run.gauge.progress
    run.outcomes.counts += Counter({(JobState.SUBMITTED, ""): now.submitted, (JobState.DECIDED, ""): now.decided})
