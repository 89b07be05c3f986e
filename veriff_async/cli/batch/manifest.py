"""Reads a manifest twice: to check all rows before anything is sent, and again to send them."""

from __future__ import annotations

from contextlib import aclosing, closing, nullcontext
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from anyio import to_thread
from attrs import define, field

from veriff_async import ConfigurationError, MediaError, inspect_media
from veriff_async._media.concurrency import gather_bounded
from veriff_async._protocol.picture_verdicts import describe_failures
from veriff_async.batch import InvalidRow, ManifestRow, SqliteJournal, read_manifest
from veriff_async.batch._plan import media_sizes
from veriff_async.batch.manifest import media_problem
from veriff_async.cli._store_keys import read_store_keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
    from pathlib import Path

    from veriff_async import InspectionThresholds
    from veriff_async.batch import Job, JobRecord, Journal
    from veriff_async.batch._plan import PlanBuilder

__all__ = ("ManifestCheck", "check_manifest", "iter_jobs")

# Rows per read in a worker thread.
_PAGE_ROWS: Final = 32


@define
class ManifestCheck:
    """The result of checking a manifest."""

    version: tuple[int, ...] = ()
    valid: int = 0
    invalid: list[InvalidRow] = field(factory=list[InvalidRow])

    @property
    def total(self) -> int:
        """Number of all rows."""
        return self.valid + len(self.invalid)

    def document(self) -> dict[str, object]:
        """Return the JSON document."""
        rows = [{"line": row.line, "job_id": row.job_id, "reason": row.reason} for row in self.invalid]
        return {"rows": self.total, "valid": self.valid, "invalid_rows": rows}


async def check_manifest(  # noqa: PLR0913  the parts of a check
    manifest: Path,
    seconds: float,
    journal: Path | None,
    on_invalid: Callable[[InvalidRow], None],
    *,
    thresholds: InspectionThresholds | None = None,
    plan: PlanBuilder | None = None,
    on_progress: Callable[[ManifestCheck], None] = lambda _: None,
) -> ManifestCheck:
    """Check every row and its files.

    Args:
        manifest: The file.
        seconds: Default timeout of a row.
        journal: Journal of an earlier run, or `None`: files of jobs that have a session may be missing.
        on_invalid: Called with each invalid row.
        thresholds: If given, rows with a picture that fails a check of `inspect_media` are invalid too.
        plan: Gets the jobs of all valid rows.
        on_progress: Called after each page of rows.

    Raises:
        VeriffError: The file or the journal cannot be read.
    """
    result = ManifestCheck(version=await to_thread.run_sync(_version, manifest))
    async with (
        nullcontext() if journal is None else SqliteJournal(journal, encryption=read_store_keys()) as opened,
        aclosing(_pages(manifest, seconds, opened)) as pages,
    ):
        async for page in pages:
            rows = page if thresholds is None else await _inspect_rows(page, opened, thresholds)
            jobs = [row.job for row in rows if isinstance(row, ManifestRow)]
            result.valid += len(jobs)
            for row in rows:
                if isinstance(row, InvalidRow):
                    result.invalid.append(row)
                    on_invalid(row)
            if plan is not None:
                sizes = await to_thread.run_sync(lambda jobs: [media_sizes(job) for job in jobs], jobs)
                for job, job_sizes in zip(jobs, sizes, strict=True):
                    plan.add(job, await _read_record(opened, job.id), job_sizes)
            on_progress(result)
    return result


async def iter_jobs(
    manifest: Path,
    seconds: float,
    journal: Journal,
    on_changed: Callable[[InvalidRow], None],
    *,
    checked: ManifestCheck,
) -> AsyncGenerator[Job]:
    """Yield the jobs of all valid rows.

    Args:
        manifest: The file.
        seconds: Default timeout of a row.
        journal: The journal of the run.
        on_changed: Called with each row that has become invalid since `check_manifest`.
        checked: The result of `check_manifest`. The rows that it found invalid are skipped by their lines, so that
            their pictures are not inspected again.

    Raises:
        ConfigurationError: The manifest has changed since the check began.
    """
    reported = {row.line for row in checked.invalid}
    # In a file with other lines, an invalid row would be sent, and a valid one skipped in its place.
    if await to_thread.run_sync(_version, manifest) != checked.version:
        msg = "The manifest changed while it was checked, so nothing was sent: start the batch again."
        raise ConfigurationError(msg)
    async with aclosing(_pages(manifest, seconds, journal)) as pages:
        async for page in pages:
            for row in page:
                if row.line in reported:
                    continue
                if isinstance(row, ManifestRow):
                    yield row.job
                else:
                    on_changed(row)


def _version(manifest: Path) -> tuple[int, ...]:
    """Return what changes when a file is written or replaced; empty if the file is missing, as its reader reports."""
    try:
        status = manifest.stat()
    except (OSError, ValueError):
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


async def _pages(
    manifest: Path, seconds: float, journal: Journal | None
) -> AsyncGenerator[list[ManifestRow | InvalidRow]]:
    # `_read_page` checks the media instead: the files of a job that has a session may be missing.
    with closing(read_manifest(manifest, timeout=seconds, check_media=False)) as rows:
        while page := await to_thread.run_sync(_read_page, rows):
            yield [await _checked_row(row, problem, journal) for row, problem in page]


def _read_page(rows: Iterator[ManifestRow | InvalidRow]) -> list[tuple[ManifestRow | InvalidRow, str | None]]:
    return [(row, media_problem(row.job) if isinstance(row, ManifestRow) else None) for row in islice(rows, _PAGE_ROWS)]


async def _checked_row(
    row: ManifestRow | InvalidRow, problem: str | None, journal: Journal | None
) -> ManifestRow | InvalidRow:
    if not isinstance(row, ManifestRow) or problem is None or await _has_session(journal, row.job.id):
        return row
    return InvalidRow(row.line, problem, row.job.id)


async def _inspect_rows(
    rows: Sequence[ManifestRow | InvalidRow], journal: Journal | None, thresholds: InspectionThresholds
) -> list[ManifestRow | InvalidRow]:
    """Inspect the pictures of a page of rows; `inspect_media` bounds the threads."""
    inspections = [partial(_inspect_row, row, journal, thresholds) for row in rows]
    inspected, failure = await gather_bounded(inspections, concurrency=len(inspections))
    if failure is not None:
        raise failure
    return inspected


async def _inspect_row(
    row: ManifestRow | InvalidRow, journal: Journal | None, thresholds: InspectionThresholds
) -> ManifestRow | InvalidRow:
    if not isinstance(row, ManifestRow) or await _has_session(journal, row.job.id):
        return row
    problems: list[str] = []
    for media in row.job.media:
        try:
            inspection = await inspect_media(media, thresholds=thresholds)
        except MediaError as error:  # it is damaged, and only decoding shows that
            error.media = None  # it is always the first of its call; the context names the media of the row
            problems.append(f"{media.context}: {error}")
            continue
        if inspection.failed:
            problems.append(f"{describe_failures(inspection)}.")
    return InvalidRow(row.line, " ".join(problems), row.job.id) if problems else row


async def _has_session(journal: Journal | None, job_id: str) -> bool:
    """Return whether a job has a session: then the batch knows which of its files it still needs."""
    record = await _read_record(journal, job_id)
    return record is not None and record.session_id is not None


async def _read_record(journal: Journal | None, job_id: str) -> JobRecord | None:
    return None if journal is None else await journal.read(job_id)
