"""Reads a manifest twice: to check all rows before anything is sent, and again to send them."""

from __future__ import annotations

from contextlib import aclosing, closing
from itertools import islice
from typing import TYPE_CHECKING, Final

from anyio import to_thread
from attrs import define, field

from veriff_async.batch import InvalidRow, ManifestRow, SqliteJournal, read_manifest
from veriff_async.batch.manifest import media_problem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from veriff_async.batch import Job, Journal

__all__ = ("ManifestCheck", "check_manifest", "iter_jobs")

_PAGE_ROWS: Final = 32
"""Rows per read in a worker thread."""


@define
class ManifestCheck:
    """The result of checking a manifest.

    Attributes:
        valid: Number of valid rows.
        invalid: The invalid rows.
    """

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


async def check_manifest(
    manifest: Path, seconds: float, journal: Path | None, on_invalid: Callable[[InvalidRow], None]
) -> ManifestCheck:
    """Check every row and its files.

    Args:
        manifest: The file.
        seconds: Default timeout of a row.
        journal: Journal of an earlier run, or `None`: files of jobs that have a session may be missing.
        on_invalid: Called with each invalid row.

    Raises:
        VeriffError: The file or the journal cannot be read.
    """
    if journal is None:
        return await _check_rows(manifest, seconds, None, on_invalid)
    async with SqliteJournal(journal) as opened:
        return await _check_rows(manifest, seconds, opened, on_invalid)


async def iter_jobs(
    manifest: Path, seconds: float, journal: Journal, on_invalid: Callable[[InvalidRow], None]
) -> AsyncGenerator[Job]:
    """Yield the jobs of all valid rows, and pass the others to `on_invalid`."""
    async with aclosing(_rows(manifest, seconds, journal)) as rows:
        async for row in rows:
            if isinstance(row, ManifestRow):
                yield row.job
            else:
                on_invalid(row)


async def _check_rows(
    manifest: Path, seconds: float, journal: Journal | None, on_invalid: Callable[[InvalidRow], None]
) -> ManifestCheck:
    result = ManifestCheck()
    async with aclosing(_rows(manifest, seconds, journal)) as rows:
        async for row in rows:
            if isinstance(row, InvalidRow):
                result.invalid.append(row)
                on_invalid(row)
            else:
                result.valid += 1
    return result


async def _rows(manifest: Path, seconds: float, journal: Journal | None) -> AsyncGenerator[ManifestRow | InvalidRow]:
    # `_read_page` checks the media instead: the files of a job that has a session may be missing.
    with closing(read_manifest(manifest, timeout=seconds, check_media=False)) as rows:
        while page := await to_thread.run_sync(_read_page, rows):
            for row, problem in page:
                if not isinstance(row, ManifestRow) or problem is None or await _has_session(journal, row.job.id):
                    yield row
                else:
                    yield InvalidRow(row.line, problem, row.job.id)


def _read_page(rows: Iterator[ManifestRow | InvalidRow]) -> list[tuple[ManifestRow | InvalidRow, str | None]]:
    return [(row, media_problem(row.job) if isinstance(row, ManifestRow) else None) for row in islice(rows, _PAGE_ROWS)]


async def _has_session(journal: Journal | None, job_id: str) -> bool:
    """Return whether a job has a session: then the batch knows which of its files it still needs."""
    record = None if journal is None else await journal.read(job_id)
    return record is not None and record.session_id is not None
