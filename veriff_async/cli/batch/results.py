"""The results file of a batch: one JSON object per line and job.

A crash can leave an incomplete last line. It is removed when the file is opened again, and the job gets its line from
the journal. Lines that the file already contains are not repeated.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread

from veriff_async import ConfigurationError, JobFailedError
from veriff_async._protocol.json.decode import dump, load_object
from veriff_async._storage.file_lock import try_lock
from veriff_async.batch import JobState
from veriff_async.batch._seen_ids import SeenIds
from veriff_async.cli._decision_format import decision_fields, person_fields
from veriff_async.errors import DecodeError
from veriff_async.models.json import EMPTY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence
    from pathlib import Path

    from veriff_async.batch import JobResult
    from veriff_async.models.json import JsonObject

__all__ = ("ResultsWriter", "error_type_of", "open_results", "wait_for_reader")

_FINISHED: Final = frozenset({JobState.DECIDED, JobState.FAILED})
_DECISION_FIELDS: Final = ("status", "code", "reason", "reason_code", "decision_time")
_LINE_START: Final = b'{"job_id":'
# Seconds between two checks for what the system reports no event for.
_POLL_SECONDS: Final = 0.05

# O_NOCTTY: opening a terminal must not make it the controlling terminal of this process.
_NEVER_BLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)  # Windows would write line ends of two bytes
# Limit of a line in bytes: a file with longer lines does not contain results.
_MAX_LINE: Final = 1024 * 1024


def error_type_of(result: JobResult) -> str | None:
    """Return the class name of the error that ended a job, in this run or an earlier one."""
    error = result.error
    if error is None:
        return None
    return error.error_type if isinstance(error, JobFailedError) else type(error).__name__


@asynccontextmanager
async def wait_for_reader(path: Path) -> AsyncGenerator[None]:
    """Wait until a named pipe has a reader, and keep it open; other files need no wait.

    Opening a pipe without a reader would block the event loop, and Ctrl-C would not work.
    """
    with ExitStack() as stack:
        while not await to_thread.run_sync(_has_reader, path, stack):  # noqa: ASYNC110  the system reports no event
            await anyio.sleep(_POLL_SECONDS)
        yield


@contextmanager
def open_results(path: Path, *, show_person: bool, other_files: Sequence[Path] = ()) -> Generator[ResultsWriter]:
    """Open the results file, read its lines, and remove an incomplete last one. Blocking.

    Pipes, terminals and other devices have no content, so they get a line for every job, including resumed ones.

    Raises:
        ConfigurationError: It is not usable, does not contain results, or another run writes to it.
    """
    for other in other_files:
        with suppress(FileNotFoundError):
            if path.samefile(other):
                msg = "--out names an input file of the batch: give the results their own file."
                raise ConfigurationError(msg)
    with SeenIds() as seen:
        descriptor, is_file = _open(path)
        try:
            if is_file:
                _lock(descriptor)
                _check_current(descriptor, path)
                _read_lines(descriptor, seen)
            yield ResultsWriter(descriptor, seen if is_file else None, show_person=show_person)
        finally:
            os.close(descriptor)


class ResultsWriter:
    """Appends a line for each finished job, unless the file has the same line.

    A failed job that is retried gets another line if its outcome changes; the last line counts.
    """

    def __init__(self, descriptor: int, seen: SeenIds | None, *, show_person: bool) -> None:
        """Take a file positioned at its end and its known lines, or a pipe or device."""
        self._descriptor = descriptor
        self._seen = seen
        self._show_person = show_person

    async def add(self, result: JobResult) -> None:
        """Append the result of a finished job as a whole line, or nothing at all. Unfinished jobs are ignored.

        Raises:
            ConfigurationError: Writing fails, for example because the disk is full or the pipe has no reader.
        """
        error_type = error_type_of(result)
        if result.state not in _FINISHED:
            return
        key = _line_key(result.job_id, result.state, error_type)
        if self._seen is None or await to_thread.run_sync(self._seen.add, key, 0) is None:
            line = dump(self._document(result, error_type)) + b"\n"
            with _translate_errors():
                await self._write(line)

    async def _write(self, line: bytes) -> None:
        """Write a whole line: wait for a slow reader of a pipe, and remove a partial line after an error."""
        is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        start = os.lseek(self._descriptor, 0, os.SEEK_END) if is_file else 0
        remaining = memoryview(line)
        try:
            while remaining:
                try:
                    remaining = remaining[os.write(self._descriptor, remaining) :]
                except BlockingIOError:
                    await _wait_writable(self._descriptor)
        except OSError:
            if is_file:
                with suppress(OSError):  # the next run removes the partial line
                    os.ftruncate(self._descriptor, start)
                    os.lseek(self._descriptor, start, os.SEEK_SET)
            raise

    def _document(self, result: JobResult, error_type: str | None) -> dict[str, object]:
        decision = result.decision
        fields = dict.fromkeys(_DECISION_FIELDS) if decision is None else decision_fields(decision)
        document: dict[str, object] = {
            "job_id": result.job_id,
            "session_id": result.session_id,
            "state": result.state,
            **{name: fields[name] for name in _DECISION_FIELDS},
            "error": error_type,
            "message": None if result.error is None else str(result.error),
        }
        if self._show_person and decision is not None:
            document["person"] = person_fields(decision)
        return document


def _line_key(job_id: str, state: object, error_type: object) -> str:
    return f"{job_id}\0{state}\0{error_type or ''}"


def _open(path: Path) -> tuple[int, bool]:
    """Open the file, and return its descriptor and whether it is a regular file of its own."""
    with _translate_errors():
        for number in (1, 2):
            if _is_file_of(number, path):
                # A second open file description has its own position, so printed text would overwrite results.
                return os.dup(number), False
        is_file = not path.exists() or path.is_file()
        # Never blocks: `wait_for_reader` and `_write` do the waiting, where Ctrl-C works.
        flags = os.O_APPEND | os.O_CREAT | _BINARY | _NEVER_BLOCK | (os.O_RDWR if is_file else os.O_WRONLY)
        # Only for its owner, since results may contain personal data.
        return os.open(path, flags, 0o600), is_file


def _is_file_of(number: int, path: Path) -> bool:
    """Return whether a standard descriptor is redirected to this file or socket."""
    try:
        status = os.fstat(number)
        is_same = os.path.samestat(status, path.stat())
    except OSError:
        return False
    return is_same and (stat.S_ISREG(status.st_mode) or stat.S_ISSOCK(status.st_mode))


def _has_reader(path: Path, stack: ExitStack) -> bool:
    """Return whether the file can be opened without blocking; a named pipe is then kept open."""
    if not path.is_fifo():
        return True
    with _translate_errors():
        try:
            descriptor = os.open(path, os.O_WRONLY | _NEVER_BLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return False
    stack.callback(os.close, descriptor)
    return True


async def _wait_writable(descriptor: int) -> None:
    """Wait until a pipe or device accepts bytes again."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_writer(descriptor, ready.set)
    except OSError:  # the selector knows no files of this kind: kqueue (macOS) refuses terminals and devices
        await anyio.sleep(_POLL_SECONDS)
        return
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)


def _lock(descriptor: int) -> None:
    """Lock the file: two runs with different journals would remove each other's incomplete lines."""
    try:
        try_lock(descriptor)
    except BlockingIOError:
        msg = "Another run writes results to this file: wait for its end, or give another file."
    except OSError:  # some file systems do not support locks
        return
    else:
        return
    raise ConfigurationError(msg)


def _check_current(descriptor: int, path: Path) -> None:
    """Refuse a file that an erasure has replaced between its opening and its lock: the results would be lost."""
    with _translate_errors():
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return
    msg = "Another program has replaced the results file at this moment: run the command again."
    raise ConfigurationError(msg)


@contextmanager
def _translate_errors() -> Generator[None]:
    try:
        yield
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return
    msg = f"The results cannot be written ({problem}): check the folder, its owner and the disk."
    raise ConfigurationError(msg)


def _read_lines(descriptor: int, seen: SeenIds) -> None:
    """Read the known lines. A last line without line end is incomplete, so it is removed and later written again."""
    with _translate_errors(), os.fdopen(descriptor, "rb", closefd=False) as reader:
        number, end = 0, 0
        while line := reader.readline(_MAX_LINE):
            number += 1
            # Only the beginning of a result is removed: a file of another kind may end without a line end too.
            if not line.endswith(b"\n") and (line.startswith(_LINE_START) or _LINE_START.startswith(line)):
                os.ftruncate(descriptor, end)
                return
            seen.add(_parse_line_key(line, number), 0)
            end += len(line)


def _parse_line_key(line: bytes, number: int) -> str:
    members: JsonObject = EMPTY
    with suppress(DecodeError):
        members = load_object(line)
    job_id, state = members.get("job_id"), members.get("state")
    if not isinstance(job_id, str) or not isinstance(state, str):
        msg = f"Line {number} of the results file is not a result: give the results their own file."
        raise ConfigurationError(msg)
    return _line_key(job_id, state, members.get("error"))
