"""Manifests: files with one job per row, CSV or JSON Lines, read as a stream.

    file ──► _read_lines ──► _read_csv / _read_json ──► job_from_members ──► media_problem ──► ManifestRow or InvalidRow

A bad row never ends the reading, so that one run shows everything that has to be corrected.
"""

from __future__ import annotations

import csv
from collections import deque
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from veriff_async._media.decode import import_pillow
from veriff_async._media.prepare import inspect
from veriff_async._media.source import reusable_source
from veriff_async._protocol.arguments import check_number, check_path
from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.limits import MAX_VENDOR_DATA
from veriff_async._protocol.media_rules import may_convert
from veriff_async.batch._manifest_rows import (
    Columns,
    InvalidRow,
    ManifestRow,
    RowError,
    is_utf8,
    job_from_members,
    parse_header,
)
from veriff_async.batch._seen_ids import SeenIds
from veriff_async.errors import DecodeError, InvalidArgumentError, VeriffError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator, Mapping

    from veriff_async.batch.job import Job

    Members: TypeAlias = Mapping[str, object]
    Lines: TypeAlias = Iterator[tuple[int, bytes | None]]

__all__ = ("InvalidRow", "ManifestRow", "media_problem", "read_manifest")

# Bytes of the longest line that is read into memory.
_MAX_LINE: Final = 1024 * 1024

# Lines of one row of CSV. Without a limit, an open quotation mark would swallow the rest of the file.
_MAX_ROW_LINES: Final = 64

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_UTF8: Final = 'save the file as UTF-8 (spreadsheets call it "CSV UTF-8")'

_TOO_LONG: Final = f"The line has more than {_MAX_LINE} bytes: make each job one line."

_check_pillow = cache(partial(import_pillow, "convert"))


def read_manifest(
    path: str | os.PathLike[str],
    *,
    timeout: float | None = 900.0,
    check_media: bool = True,
) -> Generator[ManifestRow | InvalidRow]:
    """Read a file of jobs, row by row, and report each row that cannot become a job. Blocking.

    Everything that the library would refuse later is found here, before anything is sent. Only one row at a time is in
    memory; ids are compared by digests on disk.

    A ``.csv`` file has a header with the columns ``id``, values of `MediaContext` such as ``document-front`` and
    ``face`` (a cell is a path, or several separated by semicolons), ``vendor_data``, ``end_user_id``, ``callback``,
    ``timeout``, ``max_side``, ``max_bytes``, ``convert``, ``full_address``, ``proof_of_address_types``, the fields of
    `Person` such as ``first_name``, and those of `Document` with the prefix ``document_``. A ``.jsonl`` or ``.ndjson``
    file has an object in each line, with ``id``, ``media`` (a list of objects with ``path``, ``context`` and
    optionally ``mimetype``, ``timestamp``, ``max_side``, ``max_bytes``, ``convert``), ``person``, ``document``,
    ``address``, ``consents``, ``extra`` and the other arguments of `create_session`, under the same names. Paths are
    relative to the folder of the file.

    Args:
        path: The file.
        timeout: Seconds to wait for a decision, for rows without a ``timeout``.
        check_media: Whether to check that each media file exists and that Veriff accepts its type and size.

    Returns:
        A generator of rows, in the file's order; close it if you stop early.

    Raises:
        InvalidArgumentError: The file has another ending, or cannot be read.

    Example:
        >>> rows = list(read_manifest("jobs.csv"))
        >>> for bad in rows:
        ...     if isinstance(bad, InvalidRow):
        ...         print(bad.line, bad.reason)
    """
    file = Path(check_path("path", path, error=InvalidArgumentError))
    readers = {".csv": _read_csv, ".jsonl": _read_json, ".ndjson": _read_json}
    if (reader := readers.get(file.suffix.lower())) is None:
        msg = "A manifest is CSV or JSON Lines: give a file that ends in .csv, .jsonl or .ndjson."
        raise InvalidArgumentError(msg)
    if timeout is not None:
        check_number(
            "The timeout", timeout, above=True, remedy="give seconds above zero, or None", error=InvalidArgumentError
        )
    return _rows(file, reader, timeout, check_media=check_media)


def media_problem(job: Job) -> str | None:
    """Return why Veriff would refuse a media of a job, or ``None``. Blocking."""
    for media in job.media:
        try:
            source = reusable_source(media.source)
            if may_convert(media):
                _check_pillow()
            if source is not None:
                inspect(media, source)
        except VeriffError as error:
            return f"{media.context}: {error}"
    return None


def _rows(
    path: Path,
    reader: Callable[[Lines], Iterator[tuple[int, Members | str]]],
    timeout: float | None,
    *,
    check_media: bool,
) -> Generator[ManifestRow | InvalidRow]:
    folder = path.parent
    with _open(path) as file, SeenIds() as seen:
        for line, members in reader(_read_lines(file)):
            if isinstance(members, str):
                yield InvalidRow(line, members)
                continue
            row = _to_row(line, members, folder, timeout)
            job_id = row.job.id if isinstance(row, ManifestRow) else row.job_id
            # The id of an invalid row counts too: otherwise correcting that row would reveal a new error.
            if job_id is not None and (first := seen.add(job_id, line)) is not None:
                yield InvalidRow(line, f"The id was given on line {first} already: give each row its own.", job_id)
            elif isinstance(row, ManifestRow) and check_media and (problem := media_problem(row.job)) is not None:
                yield InvalidRow(line, problem, job_id)
            else:
                yield row


def _to_row(line: int, members: Members, folder: Path, timeout: float | None) -> ManifestRow | InvalidRow:
    try:
        return ManifestRow(line, job_from_members(members, folder, timeout))
    except RowError as error:
        job_id = members.get("id")
        is_shown = isinstance(job_id, str) and 0 < len(job_id) <= MAX_VENDOR_DATA and job_id.isprintable()
        return InvalidRow(line, str(error), str(job_id) if is_shown else None)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL
        reason = error
    raise _read_error(reason)


def _read_lines(file: BinaryIO) -> Generator[tuple[int, bytes | None]]:
    """Yield each line with its number, and ``None`` in place of a line that is too long."""
    number = 0
    while line := _read_line(file):
        number += 1
        is_whole = len(line) < _MAX_LINE or line.endswith(b"\n")
        rest = line
        # The rest of a line that is too long is read in pieces and dropped, so that memory stays bounded.
        while not is_whole and rest and not rest.endswith(b"\n"):
            rest = _read_line(file)
        # Spreadsheets write a byte order mark, which would become part of the name of the first column.
        yield number, (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line) if is_whole else None


def _read_line(file: BinaryIO) -> bytes:
    try:
        return file.readline(_MAX_LINE)
    except OSError as error:
        reason = error
    raise _read_error(reason)


def _read_error(reason: OSError | ValueError) -> InvalidArgumentError:
    """Return the error without the path, which may contain a person's name."""
    problem = (reason.strerror if isinstance(reason, OSError) else None) or type(reason).__name__
    return InvalidArgumentError(f"The manifest cannot be read ({problem}): pass the path of a readable file.")


def _read_json(lines: Lines) -> Generator[tuple[int, Members | str]]:
    """Yield the members of each object, or the reason why a line cannot be read."""
    for number, line in lines:
        if line is None:
            yield number, _TOO_LONG
        elif line.strip():
            yield number, _load_object(line)


def _load_object(line: bytes) -> Members | str:
    try:
        return load_object(line)
    except DecodeError as error:
        if "UTF-8" in error.problems[0]:
            return f"The line is not UTF-8: {_UTF8}."
    return "The line is not a JSON object: put each job into one line, as {...} without a comma after it."


def _read_csv(lines: Lines) -> Generator[tuple[int, Members | str]]:
    """Yield the members that each row has as JSON, or the reason why it cannot be read."""
    columns: Columns | None = None
    for number, cells in _CsvReader(lines).rows():
        result: Members | str = ""
        try:
            if isinstance(cells, str):
                result = cells
            elif columns is None:
                columns = parse_header(cells)
            else:
                result = columns.to_members(cells)
        except RowError as error:
            result = str(error)
        if result:
            yield number, result
        if columns is None:  # rows have no meaning without a header
            return
    if columns is None:
        yield 1, "The file is empty: begin it with a header such as id,document-front,face,first_name."


class _CsvReader:
    """Reads rows of CSV, and reads lines again that an open quotation mark has swallowed, so that no row is lost.

    It is the iterator of lines that `csv.reader` reads one row from; a new `csv.reader` reads each row.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._pushed_back: deque[tuple[int, bytes | None]] = deque()
        self._row_lines: list[tuple[int, bytes | None]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self._row_lines) == _MAX_ROW_LINES:
            raise StopIteration
        self._row_lines.append(self._pushed_back.popleft() if self._pushed_back else next(self._lines))
        line = self._row_lines[-1][1]
        # Invalid bytes become lone surrogates, which `_find_problem` reports: a decoding error would end the reading.
        return "" if line is None else line.decode("utf-8", "surrogateescape")

    def rows(self) -> Generator[tuple[int, list[str] | str]]:
        """Yield each row that is not empty with the number of its first line, or the reason why it cannot be read."""
        width: int | None = None
        while True:
            self._row_lines.clear()
            try:
                # Strict: otherwise csv accepts a quotation mark that is never closed, and text after a closing one.
                cells = next(csv.reader(self, strict=True), None)
                problem = None if cells is None else self._find_problem(cells)
            except csv.Error:
                cells = []
                problem = (
                    "The row is not CSV: put a cell with commas, quotation marks or line breaks into quotation marks, "
                    "and double the quotation marks in it."
                )
            if not self._row_lines or cells is None:
                return
            number = self._row_lines[0][0]
            # A row of several lines that is invalid, or has another width, probably has an open quotation mark.
            if len(self._row_lines) > 1 and (problem is not None or (width is not None and len(cells) != width)):
                self._pushed_back.extendleft(reversed(self._row_lines[1:]))
            if problem is not None:
                yield number, problem
            elif any(cells):
                width = len(cells) if width is None else width
                yield number, cells

    def _find_problem(self, cells: list[str]) -> str | None:
        if any(line is None for _, line in self._row_lines):
            return _TOO_LONG
        if all(map(is_utf8, cells)):
            return None
        return f"The row is not UTF-8: {_UTF8}."
