"""The file that a batch writes results to: one JSON object in a line for each job, and what a crash tore is mended."""

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
from veriff_async.batch import JobState
from veriff_async.batch._dedup import SeenIds
from veriff_async.cli._output import decision_facts, personal_facts
from veriff_async.errors import DecodeError
from veriff_async.models.json import EMPTY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence
    from pathlib import Path

    from veriff_async.batch import JobResult
    from veriff_async.models.json import JsonObject

__all__ = ("Results", "kind_of", "reader_of", "results_in")

_SETTLED: Final = frozenset({JobState.DECIDED, JobState.FAILED})
_FACTS: Final = ("status", "code", "reason", "reason_code", "decision_time")
_BEGINNING: Final = b'{"job_id":'
_UNTIL_READ: Final = 0.05
"""Seconds between two looks whether somebody reads a named pipe."""

_NEVER_BLOCK: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_LONGEST: Final = 1024 * 1024
"""Bytes of a line; what has longer ones is another file."""


def kind_of(result: JobResult) -> str | None:
    """Return the name of the error that ended a job, also when that was in an earlier run."""
    error = result.error
    if error is None:
        return None
    return error.error_type if isinstance(error, JobFailedError) else type(error).__name__


@asynccontextmanager
async def reader_of(path: Path) -> AsyncGenerator[None]:
    """Wait until a named pipe has a reader, and keep that from its end; anything else is left alone.

    A pipe without a reader cannot be opened without blocking the loop, and then Ctrl-C would not end the wait.
    """
    with ExitStack() as held:
        while not await to_thread.run_sync(_is_read, path, held):  # noqa: ASYNC110  the system reports no reader
            await anyio.sleep(_UNTIL_READ)
        yield


@contextmanager
def results_in(path: Path, *, show_person: bool, apart_from: Sequence[Path] = ()) -> Generator[Results]:
    """Open a file of results, read what it holds, and remove a last line that was torn by a crash. Blocking.

    A pipe, a terminal or another device holds nothing, so it gets a line for every job, known ones included.

    Args:
        path: The file; it is made when it is missing.
        show_person: Whether results hold the person's data.
        apart_from: Files that must be others, under whatever name.

    Raises:
        ConfigurationError: It cannot be used, holds something else than results, or another run writes to it.
    """
    for other in apart_from:
        with suppress(FileNotFoundError):
            if path.samefile(other):
                msg = "--out names a file of the batch itself: give the results a file of their own."
                raise ConfigurationError(msg)
    with SeenIds() as seen:
        descriptor, is_file = _opened(path)
        try:
            if is_file:
                _lock(descriptor)
                _read(descriptor, seen)
            yield Results(descriptor, seen if is_file else None, show_person=show_person)
        finally:
            os.close(descriptor)


class Results:
    """Appends a line for each job that is settled, unless the file has it.

    A job that failed and is tried again gets another line when its outcome is another one; the last counts.
    """

    def __init__(self, descriptor: int, seen: SeenIds | None, *, show_person: bool) -> None:
        """Take a file that stands at its end and what it holds, or a pipe or device."""
        self._descriptor = descriptor
        self._seen = seen
        self._show_person = show_person

    async def add(self, result: JobResult) -> None:
        """Append what came of a job as a whole line, or not at all; what is not settled follows another time.

        Raises:
            ConfigurationError: The disk is full, the reader of the pipe has ended, or the like.
        """
        kind = kind_of(result)
        if result.state not in _SETTLED:
            return
        mark = _mark(result.job_id, result.state, kind)
        if self._seen is None or await to_thread.run_sync(self._seen.add, mark, 0) is None:
            line = dump(self._document(result, kind)) + b"\n"
            with _translated():
                await self._write(line)

    async def _write(self, line: bytes) -> None:
        """Write a whole line: wait for a slow reader of a pipe, and remove a part that a full disk has taken."""
        is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        begin = os.lseek(self._descriptor, 0, os.SEEK_END) if is_file else 0
        left = memoryview(line)
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:
                    await _writable(self._descriptor)
        except OSError:
            if is_file:
                with suppress(OSError):  # then the next run removes it
                    os.ftruncate(self._descriptor, begin)
                    os.lseek(self._descriptor, begin, os.SEEK_SET)
            raise

    def _document(self, result: JobResult, kind: str | None) -> dict[str, object]:
        decision = result.decision
        facts = dict.fromkeys(_FACTS) if decision is None else decision_facts(decision)
        document: dict[str, object] = {
            "job_id": result.job_id,
            "session_id": result.session_id,
            "state": result.state,
            **{name: facts[name] for name in _FACTS},
            "error": kind,
            "message": None if result.error is None else str(result.error),
        }
        if self._show_person and decision is not None:
            document["person"] = personal_facts(decision)
        return document


def _mark(job_id: str, state: object, kind: object) -> str:
    return f"{job_id}\0{state}\0{kind or ''}"


def _opened(path: Path) -> tuple[int, bool]:
    """Open the place for results, and return its descriptor and whether it is a file of its own."""
    with _translated():
        for number in (1, 2):
            if _is_file_of(number, path):
                # Opened anew it would have a position of its own, and what is printed would overwrite the results.
                return os.dup(number), False
        is_file = not path.exists() or path.is_file()
        # A pipe is not waited for here, but in `reader_of` and in `_write`, where Ctrl-C ends the wait.
        flags = os.O_APPEND | os.O_CREAT | _NEVER_BLOCK | (os.O_RDWR if is_file else os.O_WRONLY)
        # For its owner alone, since it may hold a person's data.
        return os.open(path, flags, 0o600), is_file


def _is_file_of(number: int, path: Path) -> bool:
    """Return whether a path names the file or socket that a standard descriptor is redirected to."""
    try:
        found = os.fstat(number)
        is_same = os.path.samestat(found, path.stat())
    except OSError:
        return False
    return is_same and (stat.S_ISREG(found.st_mode) or stat.S_ISSOCK(found.st_mode))


def _is_read(path: Path, held: ExitStack) -> bool:
    """Return whether results can be opened without blocking; a named pipe is then held open."""
    if not path.is_fifo():
        return True
    with _translated():
        try:
            descriptor = os.open(path, os.O_WRONLY | _NEVER_BLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return False
    held.callback(os.close, descriptor)
    return True


async def _writable(descriptor: int) -> None:
    """Return when a pipe or device takes bytes again."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)


def _lock(descriptor: int) -> None:
    """Hold the file for this process: two runs with journals of their own would repair each other's lines."""
    try:
        import fcntl  # noqa: PLC0415  there is none on Windows
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        msg = "Another run writes results to this file: let it end, or give this one a file of its own."
    except OSError:  # some file systems have no locks
        return
    else:
        return
    raise ConfigurationError(msg)


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return
    msg = f"The results cannot be written ({problem}): look at the folder, its owner and the disk."
    raise ConfigurationError(msg)


def _read(descriptor: int, seen: SeenIds) -> None:
    """Note what the file holds; a last line without its end was torn by a crash, so it is removed and written again."""
    with _translated(), os.fdopen(descriptor, "rb", closefd=False) as reader:
        number, whole = 0, 0
        while line := reader.readline(_LONGEST):
            number += 1
            if not line.endswith(b"\n") and (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
                os.ftruncate(descriptor, whole)
                return
            seen.add(_line_mark(line, number), 0)
            whole += len(line)


def _line_mark(line: bytes, number: int) -> str:
    found: JsonObject = EMPTY
    with suppress(DecodeError):
        found = load_object(line)
    job_id, state = found.get("job_id"), found.get("state")
    if not isinstance(job_id, str) or not isinstance(state, str):
        msg = f"Line {number} of the file for results is no result: give a file of its own, which need not be there."
        raise ConfigurationError(msg)
    return _mark(job_id, state, found.get("error"))
