"""A manifest looked through before anything is sent, and read again while it is."""

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

__all__ = ("Checked", "check", "jobs_of")

_PAGE: Final = 32
"""Rows read at once in a thread, while the loop goes on."""


@define
class Checked:
    """What a manifest holds.

    Attributes:
        good: Rows that jobs can be made of.
        bad: The others.
    """

    good: int = 0
    bad: list[InvalidRow] = field(factory=list[InvalidRow])

    @property
    def total(self) -> int:
        """All rows."""
        return self.good + len(self.bad)

    def document(self) -> dict[str, object]:
        """Return it for programs."""
        rows = [{"line": row.line, "job_id": row.job_id, "reason": row.reason} for row in self.bad]
        return {"rows": self.total, "good": self.good, "bad_rows": rows}


async def check(manifest: Path, seconds: float, journal: Path | None, tell: Callable[[InvalidRow], None]) -> Checked:
    """Look at every row and its files.

    Args:
        manifest: The file.
        seconds: The timeout of rows that give none.
        journal: What knows of jobs whose files may be gone, since they are up, or `None`.
        tell: Called with each bad row as it is found.

    Raises:
        VeriffError: The file or the journal cannot be read.
    """
    if journal is None:
        return await _checked(manifest, seconds, None, tell)
    async with SqliteJournal(journal) as known:
        return await _checked(manifest, seconds, known, tell)


async def jobs_of(
    manifest: Path, seconds: float, journal: Journal, changed: Callable[[InvalidRow], None]
) -> AsyncGenerator[Job]:
    """Yield the jobs of all good rows; a bad one is left out, and told to `changed`."""
    async with aclosing(_rows(manifest, seconds, journal)) as rows:
        async for row in rows:
            if isinstance(row, ManifestRow):
                yield row.job
            else:
                changed(row)


async def _checked(
    manifest: Path, seconds: float, journal: Journal | None, tell: Callable[[InvalidRow], None]
) -> Checked:
    checked = Checked()
    async with aclosing(_rows(manifest, seconds, journal)) as rows:
        async for row in rows:
            if isinstance(row, InvalidRow):
                checked.bad.append(row)
                tell(row)
            else:
                checked.good += 1
    return checked


async def _rows(manifest: Path, seconds: float, journal: Journal | None) -> AsyncGenerator[ManifestRow | InvalidRow]:
    with closing(read_manifest(manifest, timeout=seconds, check_media=False)) as rows:
        while page := await to_thread.run_sync(_page, rows):
            for row, problem in page:
                if not isinstance(row, ManifestRow) or problem is None or await _has_session(journal, row.job.id):
                    yield row
                else:
                    yield InvalidRow(row.line, problem, row.job.id)


def _page(rows: Iterator[ManifestRow | InvalidRow]) -> list[tuple[ManifestRow | InvalidRow, str | None]]:
    return [(row, media_problem(row.job) if isinstance(row, ManifestRow) else None) for row in islice(rows, _PAGE)]


async def _has_session(journal: Journal | None, job_id: str) -> bool:
    """Tell whether a job is past its creation: what became of its files then is the batch's own business."""
    record = None if journal is None else await journal.read(job_id)
    return record is not None and record.session_id is not None
