"""A file with one job in each row, read as a stream: CSV or JSON Lines."""

from __future__ import annotations

import csv
from collections import deque
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from veriff_async._media.prepare import inspect
from veriff_async._media.resize import import_pillow
from veriff_async._media.source import reusable_source
from veriff_async._protocol.arguments import check_number, check_path
from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.limits import MAX_VENDOR_DATA
from veriff_async.batch._dedup import SeenIds
from veriff_async.batch._manifest_rows import (
    Columns,
    InvalidRow,
    ManifestRow,
    RefusedError,
    columns_of,
    is_text,
    job_of,
)
from veriff_async.errors import DecodeError, InvalidArgumentError, VeriffError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator, Mapping

    from veriff_async.batch.job import Job

    Found: TypeAlias = Mapping[str, object] | str
    Lines: TypeAlias = Iterator[tuple[int, bytes | None]]

__all__ = ("InvalidRow", "ManifestRow", "media_problem", "read_manifest")

_LONGEST: Final = 1024 * 1024
"""Bytes of a line that is held in memory."""

_MOST_LINES: Final = 64
"""Lines of one row of CSV: an open quotation mark would else take in the whole rest of the file."""

_MARK: Final = b"\xef\xbb\xbf"
_UTF8: Final = 'save the file as UTF-8 (spreadsheets call it "CSV UTF-8")'

_can_scale = cache(import_pillow)


def read_manifest(
    path: str | os.PathLike[str],
    *,
    timeout: float | None = 900.0,
    check_media: bool = True,
) -> Generator[ManifestRow | InvalidRow]:
    """Read a file of jobs, row by row, and say of each row whether a job can be made of it. Blocking.

    Everything that the library would refuse later is found here, before anything is sent. However many rows there are,
    one at a time is in memory; ids are compared by digests on the disk.

    A ``.csv`` file has a header of the columns ``id``, `MediaContext` words such as ``document-front`` and ``face`` (a
    cell is a path, or several parted by semicolons), ``vendor_data``, ``end_user_id``, ``callback``, ``timeout``,
    ``max_side``, ``full_address``, ``proof_of_address_types``, the fields of `Person` such as ``first_name``, and
    those of `Document` with ``document_`` before them. A ``.jsonl`` or ``.ndjson`` file has an object in each line,
    with ``id``, ``media`` (a list of objects with ``path``, ``context`` and perhaps ``mimetype``, ``timestamp``,
    ``max_side``), ``person``, ``document``, ``address``, ``consents``, ``extra`` and the rest of what `create_session`
    takes, in the same names. Paths are relative to the folder of the file.

    Args:
        path: The file.
        timeout: Seconds to wait for a decision, where a row gives no ``timeout`` of its own.
        check_media: Whether to look if each media file is there and is one that Veriff takes.

    Returns:
        A generator of rows, in the file's order; close it when you stop early.

    Raises:
        InvalidArgumentError: The file has another ending, or cannot be read.

    Example:
        >>> rows = list(read_manifest("jobs.csv"))
        >>> for bad in rows:
        ...     if isinstance(bad, InvalidRow):
        ...         print(bad.line, bad.reason)
    """
    file = Path(check_path("path", path, error=InvalidArgumentError))
    readers = {".csv": _csv_members, ".jsonl": _json_members, ".ndjson": _json_members}
    if (reader := readers.get(file.suffix.lower())) is None:
        msg = "A manifest is CSV or JSON Lines: give a file that ends in .csv, .jsonl or .ndjson."
        raise InvalidArgumentError(msg)
    if timeout is not None:
        check_number(
            "The timeout", timeout, above=True, remedy="give seconds above zero, or None", error=InvalidArgumentError
        )
    return _rows(file, reader, timeout, check_media=check_media)


def media_problem(job: Job) -> str | None:
    """Look at the files of a job, and say what Veriff would not take of them. Blocking."""
    for media in job.media:
        try:
            source = reusable_source(media.source)
            if media.max_side is not None:
                _can_scale()
            if source is not None:
                inspect(media, source)
        except VeriffError as error:
            return f"{media.context}: {error}"
    return None


def _rows(
    path: Path,
    reader: Callable[[Lines], Iterator[tuple[int, Found]]],
    timeout: float | None,
    *,
    check_media: bool,
) -> Generator[ManifestRow | InvalidRow]:
    folder = path.parent
    with _opened(path) as file, SeenIds() as seen:
        for line, found in reader(_lines(file)):
            if isinstance(found, str):
                yield InvalidRow(line, found)
                continue
            row = _made(line, found, folder, timeout)
            job_id = row.job.id if isinstance(row, ManifestRow) else row.job_id
            # An id counts as given even when the rest of its row is bad, so that mending that row reveals nothing new.
            if job_id is not None and (first := seen.add(job_id, line)) is not None:
                yield InvalidRow(line, f"The id was given on line {first} already: give each row its own.", job_id)
            elif isinstance(row, ManifestRow) and check_media and (problem := media_problem(row.job)) is not None:
                yield InvalidRow(line, problem, job_id)
            else:
                yield row


def _made(line: int, found: Mapping[str, object], folder: Path, timeout: float | None) -> ManifestRow | InvalidRow:
    try:
        return ManifestRow(line, job_of(found, folder, timeout))
    except RefusedError as error:
        job_id = found.get("id")
        is_shown = isinstance(job_id, str) and 0 < len(job_id) <= MAX_VENDOR_DATA and job_id.isprintable()
        return InvalidRow(line, str(error), str(job_id) if is_shown else None)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except (OSError, ValueError) as error:  # the second is a path with a NUL in it
        reason = error
    raise _unreadable(reason)


def _lines(file: BinaryIO) -> Generator[tuple[int, bytes | None]]:
    """Yield lines with their numbers, and ``None`` for one that is too long to be one."""
    number = 0
    while line := _line(file):
        number += 1
        is_whole = len(line) < _LONGEST or line.endswith(b"\n")
        rest = line
        while not is_whole and rest and not rest.endswith(b"\n"):
            rest = _line(file)
        yield number, (line.removeprefix(_MARK) if number == 1 else line) if is_whole else None


def _line(file: BinaryIO) -> bytes:
    try:
        return file.readline(_LONGEST)
    except OSError as error:
        reason = error
    raise _unreadable(reason)


def _unreadable(reason: OSError | ValueError) -> InvalidArgumentError:
    """Tell what is the matter without the path, which may hold a person's name."""
    problem = (reason.strerror if isinstance(reason, OSError) else None) or type(reason).__name__
    return InvalidArgumentError(f"The manifest cannot be read ({problem}): give the path of a file that you may read.")


def _json_members(lines: Lines) -> Generator[tuple[int, Found]]:
    for number, line in lines:
        if line is None:
            yield number, _too_long()
        elif line.strip():
            yield number, _json_object(line)


def _json_object(line: bytes) -> Mapping[str, object] | str:
    try:
        return load_object(line)
    except DecodeError as error:
        if "UTF-8" in error.problems[0]:
            return f"The line is not UTF-8: {_UTF8}."
    return "The line is no JSON object: put each job into one line, as {...} and no comma after it."


def _csv_members(lines: Lines) -> Generator[tuple[int, Found]]:
    script = _Script(lines)
    columns: Columns | None = None
    for number, cells in script.rows():
        found: Found = ""
        try:
            if isinstance(cells, str):
                found = cells
            elif columns is None:
                columns = columns_of(cells)
            else:
                found = columns.members(cells)
        except RefusedError as error:
            found = str(error)
        if found:
            yield number, found
        if columns is None:  # without a header nothing can be said of a row
            return
    if columns is None:
        yield 1, "The file is empty: begin it with a header such as id,document-front,face,first_name."


class _Script:
    """The lines of a CSV file, some of which are read again: where a quotation mark was left open, no row is lost."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._again: deque[tuple[int, bytes | None]] = deque()
        self._taken: list[tuple[int, bytes | None]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self._taken) == _MOST_LINES:
            raise StopIteration
        self._taken.append(self._again.popleft() if self._again else next(self._lines))
        line = self._taken[-1][1]
        return "" if line is None else line.decode("utf-8", "surrogateescape")

    def rows(self) -> Generator[tuple[int, list[str] | str]]:
        """Yield rows that hold anything, each with its first line; a text says why one cannot be read."""
        width: int | None = None
        while True:
            self._taken.clear()
            try:
                cells = next(csv.reader(self, strict=True), None)
                problem = None if cells is None else self._problem(cells)
            except csv.Error:
                cells = []
                problem = (
                    "The row is no CSV: put a cell with commas, quotation marks or line breaks into quotation marks, "
                    "and double those that it holds."
                )
            if not self._taken or cells is None:
                return
            number = self._taken[0][0]
            if len(self._taken) > 1 and (problem is not None or (width is not None and len(cells) != width)):
                self._again.extendleft(reversed(self._taken[1:]))
            if problem is not None:
                yield number, problem
            elif any(cells):
                width = len(cells) if width is None else width
                yield number, cells

    def _problem(self, cells: list[str]) -> str | None:
        if any(line is None for _, line in self._taken):
            return _too_long()
        if all(map(is_text, cells)):
            return None
        return f"The row is not UTF-8: {_UTF8}."


def _too_long() -> str:
    return f"The line has more than {_LONGEST} bytes: make each job one line."
