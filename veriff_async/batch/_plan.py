"""Plans: what a run would do and cost, from its jobs, their files and the journal. Nothing is sent or written."""

from __future__ import annotations

from contextlib import aclosing
from math import ceil
from typing import TYPE_CHECKING, Final, TypeAlias, get_args

from anyio import to_thread
from attrs import define, evolve, field, frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._media.source import reusable_source
from veriff_async._protocol.arguments import check_choice
from veriff_async.batch._job_runner import OnUnknown
from veriff_async.batch._manifest_rows import InvalidRow, ManifestRow
from veriff_async.batch._records import FINISHED_STATES, JobState
from veriff_async.batch._runner import iterate
from veriff_async.batch._seen_ids import SeenIds
from veriff_async.batch._session_limits import HOUR, SessionLimits, SessionUsage
from veriff_async.batch.job import Job, check_job
from veriff_async.batch.journal import check_journal
from veriff_async.batch.manifest import media_problem
from veriff_async.errors import InvalidArgumentError, MediaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Sequence

    from veriff_async.batch._records import JobRecord
    from veriff_async.batch.journal import Journal

    Row: TypeAlias = Job | ManifestRow | InvalidRow

__all__ = ("BatchPlan", "PlanBuilder", "media_sizes", "plan_many")

_UPLOADED: Final = frozenset({JobState.SUBMITTING, JobState.SUBMITTED})


@frozen(kw_only=True)
class BatchPlan:
    """The work of a run with its jobs, as far as their files and the journal show.

    Attributes:
        new: Valid jobs without a session, each of which needs one.
        resumable: Valid jobs that have a session and continue with it.
        finished: Jobs that are decided, or failed without ``retry_failed``.
        unknown: Jobs that a person has to resolve first, because their session may exist.
        invalid: Jobs and rows that cannot be sent. For a `Job`, `InvalidRow.line` is its number in the input.
        files: Media files that would be uploaded, without those of the jobs that are left.
        bytes: Their size in bytes, before conversion; streams are not counted.
        sessions: Sessions that would be created: those of the new jobs, as far as `max_sessions` permits them.
        seconds: Seconds until the last of them may be created because of `max_per_hour`; `None` without that limit.
    """

    new: int = 0
    resumable: int = 0
    finished: int = 0
    unknown: int = 0
    invalid: tuple[InvalidRow, ...] = ()
    files: int = 0
    bytes: int = 0
    sessions: int = 0
    seconds: float | None = None

    @property
    def left(self) -> int:
        """New jobs for which `max_sessions` permits no session."""
        return self.new - self.sessions


@define
class PlanBuilder:
    """Adds jobs up to a plan, under limits of sessions. Pure."""

    limits: SessionLimits
    usage: SessionUsage
    on_unknown: OnUnknown = "hold"
    retry_failed: bool = False
    plan: BatchPlan = BatchPlan()
    _invalid: list[InvalidRow] = field(factory=list[InvalidRow])

    def add(self, job: Job, record: JobRecord | None, sizes: Sequence[int | None]) -> None:
        """Add a valid job with its record and the sizes of its files, which are `None` where they are unknown."""
        if record is not None and self.retry_failed:
            record = record.retry()
        indexes: Sequence[int] = range(len(job.media))
        if record is None or (record.session_id is None and record.state is JobState.NEW):
            kind = "new"
        elif record.state in FINISHED_STATES:
            kind, indexes = "finished", range(0)
        elif record.session_id is not None:
            kind = "resumable"
            missing = () if record.state in _UPLOADED else record.missing_indexes
            indexes = [index for index in missing if index < len(sizes)]
        elif self.on_unknown == "recreate":
            kind = "new"
        else:
            kind, indexes = "unknown", range(0)
        if kind == "new" and (most := self.usage.remaining(self.limits)[0]) is not None and self.plan.new >= most:
            indexes = range(0)  # the job is left, and its files with it
        self.plan = evolve(
            self.plan,
            **{kind: getattr(self.plan, kind) + 1},
            files=self.plan.files + len(indexes),
            bytes=self.plan.bytes + sum(sizes[index] or 0 for index in indexes),
        )

    def add_invalid(self, row: InvalidRow) -> None:
        """Add a job that cannot be sent."""
        self._invalid.append(row)

    def build(self) -> BatchPlan:
        """Return the plan."""
        most, now = self.usage.remaining(self.limits)
        sessions = self.plan.new if most is None else min(self.plan.new, most)
        seconds = None
        if now is not None and self.limits.max_per_hour is not None:
            seconds = HOUR * ceil(max(0, sessions - now) / self.limits.max_per_hour)
        return evolve(self.plan, sessions=sessions, seconds=seconds, invalid=tuple(self._invalid))


async def plan_many(  # noqa: PLR0913  the options of a batch; all but one have a default
    jobs: Iterable[Row] | AsyncIterable[Row],
    *,
    journal: Journal | None = None,
    on_unknown: OnUnknown = "hold",
    retry_failed: bool = False,
    max_sessions: int | None = None,
    max_per_hour: int | None = None,
) -> BatchPlan:
    """Check jobs, their files and the journal, and count what `verify_many` would do, without a request.

    The journal is only read, also while a run uses it. Files are not compared with those of an earlier run.

    Args:
        jobs: The jobs, or the rows of `read_manifest` (with ``check_media=False``, because this function checks them).
            An iterator is consumed step by step in the event loop.
        journal: The journal of the run; `None` for a new one.
        on_unknown: See `verify_many`.
        retry_failed: See `verify_many`.
        max_sessions: See `verify_many`; `None` for any number.
        max_per_hour: See `verify_many`; `None` for any number.

    Returns:
        The plan.

    Raises:
        InvalidArgumentError: An option is invalid, or an item of `jobs` is not a job or a row.
        JournalError: The journal cannot be read.

    Example:
        >>> plan = await plan_many(read_manifest("jobs.csv", check_media=False), max_sessions=500)
        >>> print(plan.sessions, plan.bytes, [row.reason for row in plan.invalid])
    """
    require_asyncio()
    limits = SessionLimits(max_sessions=max_sessions, max_per_hour=max_per_hour)
    if journal is not None:
        check_journal(journal)
    check_choice("on_unknown", on_unknown, get_args(OnUnknown), error=InvalidArgumentError)
    usage = SessionUsage(total=0, last_hour=0) if journal is None else await journal.session_usage(limits)
    builder, number = PlanBuilder(limits, usage, on_unknown=on_unknown, retry_failed=retry_failed), 0
    with await to_thread.run_sync(SeenIds) as seen:
        async with aclosing(iterate(jobs)) as items:
            async for item in items:
                number += 1
                if isinstance(item, InvalidRow):
                    builder.add_invalid(item)
                    continue
                job, line = (item.job, item.line) if isinstance(item, ManifestRow) else (item, number)
                check_job(job)
                record = None if journal is None else await journal.read(job.id)
                problem, sizes = await to_thread.run_sync(_check_job, job, line, seen)
                # The batch knows which files of a job with a session it still needs.
                if problem is not None and (record is None or record.session_id is None):
                    builder.add_invalid(InvalidRow(line, problem, job.id))
                else:
                    builder.add(job, record, sizes)
    return builder.build()


def media_sizes(job: Job) -> list[int | None]:
    """Return the size of each file of a job in bytes, or `None` for a stream or a missing file. Blocking."""
    sizes: list[int | None] = []
    for media in job.media:
        try:
            source = reusable_source(media.source)
        except MediaError:
            source = None
        sizes.append(None if source is None else source.size)
    return sizes


def _check_job(job: Job, line: int, seen: SeenIds) -> tuple[str | None, list[int | None]]:
    """Return the problem of a job without a session, if it has one, and the sizes of its files. Blocking."""
    first = seen.add(job.id, line)
    if first is not None:
        return f"The id was given in line or job {first} already: give each job its own.", media_sizes(job)
    return media_problem(job), media_sizes(job)
