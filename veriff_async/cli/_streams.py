"""What the commands write: results to standard output, everything else to standard error.

A result that cannot be written is an error, `OutputError`, which the command reports on standard error with everything
that is needed to get the result again, such as the id of a session. Progress and warnings that cannot be written are
dropped: a terminal that is gone must not end a run.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import IO, Final, Literal, cast

from rich.console import Console

from veriff_async.errors import VeriffError

__all__ = ("OutputError", "print_result", "progress_console", "result_console", "say", "silence")

_CLOSED: Final = "it is closed"


class OutputError(VeriffError):
    """Standard output takes nothing more: it was closed, its disk is full, or the reader of a pipe has ended.

    Attributes:
        is_pipe: Whether the reader of a pipe has ended, as `head` does on purpose.
    """

    def __init__(self, problem: str, *, is_pipe: bool = False) -> None:
        """Take the system's words for the problem."""
        super().__init__(f"The result cannot be written to standard output ({problem}).")
        self.is_pipe = is_pipe


class _Stream:
    """One of the standard streams, looked up for each write: tests and rich exchange them."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name

    @property
    def _file(self) -> IO[str] | None:
        found = getattr(sys, self._name)
        # What rich puts in its place while something moves on a terminal would lead back to rich.
        return cast("IO[str] | None", getattr(found, "rich_proxied_file", found))

    @property
    def encoding(self) -> str:
        """Return what rich chooses its characters by."""
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


class _Progress(_Stream):
    """Standard error; what it does not take is dropped."""

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


class _Results(_Stream):
    """Standard output; what it does not take is an `OutputError`."""

    def write(self, text: str) -> int:
        """Write."""
        try:
            if self._file is not None:
                return self._file.write(text)
            problem, is_pipe = _CLOSED, False
        except (OSError, ValueError) as error:
            problem, is_pipe = _problem(error)
        silence()
        raise OutputError(problem, is_pipe=is_pipe)

    def flush(self) -> None:
        """Flush."""
        try:
            if self._file is not None:
                self._file.flush()
        except (OSError, ValueError) as error:
            problem, is_pipe = _problem(error)
        else:
            return
        silence()
        raise OutputError(problem, is_pipe=is_pipe)


def result_console() -> Console:
    """Return a console that writes results for people to standard output.

    Raises:
        OutputError: On each write, if standard output does not take it.
    """
    return Console(file=cast("IO[str]", _Results("stdout")))


def progress_console(*, quiet: bool = False) -> Console:
    """Return a console that shows progress on standard error, or nothing at all."""
    return Console(file=cast("IO[str]", _Progress("stderr")), stderr=True, quiet=quiet)


def print_result(text: str) -> None:
    """Write a line to standard output, and see that it has left the process.

    Raises:
        OutputError: It cannot be written.
    """
    results = _Results("stdout")
    results.write(f"{text}\n")
    results.flush()


def say(words: str | dict[str, object]) -> None:
    """Write a line, or a JSON object in a line, to standard error; what it does not take is dropped."""
    text = f"{words if isinstance(words, str) else json.dumps(words)}\n"
    # Not `_Progress`: while something moves on a terminal, rich puts its own stream here, which writes above that.
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()


def silence() -> None:
    """Send what is still in the buffer of standard output nowhere, so that Python does not fail once more at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, _Results("stdout").fileno())
        finally:
            os.close(nowhere)


def _problem(error: OSError | ValueError) -> tuple[str, bool]:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__, isinstance(error, BrokenPipeError)
    return _CLOSED if sys.stdout is None or sys.stdout.closed else type(error).__name__, False
