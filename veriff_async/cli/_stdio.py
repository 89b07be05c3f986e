"""Standard output for results, standard error for everything else.

A result that cannot be written raises `OutputError`, and the command reports it on standard error together with what is
needed to get the result again, such as the id of a session. Progress and warnings that cannot be written are dropped: a
closed terminal must not end a run.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from contextlib import suppress
from typing import IO, Final, Literal, cast

from rich.console import Console

from veriff_async.errors import VeriffError

__all__ = (
    "OutputError",
    "discard_buffered_stdout",
    "is_broken_pipe",
    "print_stderr",
    "print_stdout",
    "replace_unencodable",
    "stderr_console",
    "stdout_console",
)

_CLOSED: Final = "it is closed"


class OutputError(VeriffError):
    """Standard output cannot be written: it is closed, its disk is full, or the reader of a pipe has ended."""

    def __init__(self, problem: str, *, is_pipe: bool = False) -> None:
        """Take the operating system's description of the problem."""
        super().__init__(f"The result cannot be written to standard output ({problem}).")
        self.is_pipe = is_pipe


class _Stream:
    """A standard stream, looked up in `sys` for each write because tests and rich replace it."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name

    @property
    def _file(self) -> IO[str] | None:
        stream = getattr(sys, self._name)
        # While a live display runs, rich replaces the stream by a proxy that writes to rich: that would be a loop.
        return cast("IO[str] | None", getattr(stream, "rich_proxied_file", stream))

    @property
    def encoding(self) -> str:
        """Return the encoding, from which rich decides which characters it may use."""
        return getattr(self._file, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        with suppress(OSError, ValueError):
            return self._file is not None and self._file.isatty()
        return False

    def fileno(self) -> int:
        """Return its descriptor."""
        if self._file is None:
            raise OSError(_CLOSED)
        return self._file.fileno()


class _StderrStream(_Stream):
    """Standard error; failed writes are ignored."""

    def write(self, text: str) -> int:
        """Write, if possible."""
        with suppress(OSError, ValueError):
            if self._file is not None:
                self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if possible."""
        with suppress(OSError, ValueError):
            if self._file is not None:
                self._file.flush()


class _StdoutStream(_Stream):
    """Standard output; failed writes raise `OutputError`."""

    def write(self, text: str) -> int:
        """Write."""
        try:
            # None if descriptor 1 was closed when Python started; `main` opens the null device only later.
            if self._file is not None:
                return self._file.write(text)
            problem, is_pipe = _CLOSED, False
        except (OSError, ValueError) as error:
            problem, is_pipe = _describe(error)
        discard_buffered_stdout()
        raise OutputError(problem, is_pipe=is_pipe)

    def flush(self) -> None:
        """Flush."""
        try:
            if self._file is not None:
                self._file.flush()
        except (OSError, ValueError) as error:
            problem, is_pipe = _describe(error)
        else:
            return
        discard_buffered_stdout()
        raise OutputError(problem, is_pipe=is_pipe)


def stdout_console() -> Console:
    """Return a console on standard output."""
    return Console(file=cast("IO[str]", _StdoutStream("stdout")))


def stderr_console(*, quiet: bool = False) -> Console:
    """Return a console on standard error, which writes nothing if `quiet`."""
    return Console(file=cast("IO[str]", _StderrStream("stderr")), stderr=True, quiet=quiet)


def print_stdout(text: str) -> None:
    """Write a line to standard output and flush it."""
    stream = _StdoutStream("stdout")
    stream.write(f"{text}\n")
    stream.flush()


def print_stderr(message: str | dict[str, object]) -> None:
    """Write a line, or a JSON object in a line, to standard error; a failed write is ignored."""
    text = f"{message if isinstance(message, str) else json.dumps(message)}\n"
    # Not `_StderrStream`: during a live display `sys.stderr` is rich's proxy, which writes above the moving lines.
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()


def discard_buffered_stdout() -> None:
    """Redirect standard output to the null device, so that flushing its buffer at exit does not fail again."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, _StdoutStream("stdout").fileno())
        finally:
            os.close(null)


def is_broken_pipe(error: OSError, platform: str) -> bool:
    """Return whether a write failed because the reader of a pipe has ended.

    Args:
        error: The error.
        platform: ``sys.platform``. The C library of Windows reports EINVAL (https://github.com/python/cpython/issues/79935).
    """
    return isinstance(error, BrokenPipeError) or (platform == "win32" and error.errno == errno.EINVAL)


def replace_unencodable() -> None:
    """Write characters that the standard streams cannot encode as escapes, as in Python strings.

    A name with one of them would otherwise be lost with its whole result, in a Windows console (cp1252), for example.
    """
    for stream in (sys.stdout, sys.stderr):
        # In the C locale, Python lets the bytes of a file name through, as long as the encoding is UTF-8.
        if isinstance(stream, io.TextIOWrapper) and not (
            stream.errors == "surrogateescape" and stream.encoding.lower() == "utf-8"
        ):
            stream.reconfigure(errors="backslashreplace")


def _describe(error: OSError | ValueError) -> tuple[str, bool]:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__, is_broken_pipe(error, sys.platform)
    return _CLOSED if sys.stdout is None or sys.stdout.closed else type(error).__name__, False
