"""How every command runs and ends: work, errors, warnings, log records, signals.

With ``--json`` standard error gets nothing but JSON objects, one in each line, whatever goes wrong: an error of the
library, wrong usage, a warning, a log record, a signal, or a defect of this program.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import define, field

from veriff_async import ApiError, DecisionTimeoutError, VeriffError
from veriff_async.cli._exits import Exit
from veriff_async.cli._output import Screen
from veriff_async.cli._streams import print_result, progress_console, result_console, say

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Sequence
    from types import FrameType

__all__ = ("CommandLine", "Course", "course", "print_json", "progress_screen", "result_screen", "run", "warn")

_T = TypeVar("_T")

_STOPPED: Final = {"SIGINT": "Interrupted.", "SIGTERM": "Terminated.", "SIGHUP": "Hung up."}


@define
class Course:
    """How this run of a command speaks, and how far it came.

    Attributes:
        for_program: Whether ``--json`` was given.
        advice: How to go on from here when the command breaks off now, as one sentence; empty when there is nothing
            to go on from.
        facts: What a program needs for that, for example the ``session_id``.
        signal: The signal that stopped it.
        proxy: What ``--proxy`` was given.
        warned: What `warn` has said: a command that reads a file twice warns of it once.
    """

    for_program: bool = False
    advice: str = ""
    facts: dict[str, object] = field(factory=dict[str, object])
    signal: signal.Signals = signal.SIGINT
    proxy: str | None = None
    warned: set[str] = field(factory=set[str])

    def reached(self, advice: str, **facts: object) -> None:
        """Note how far the work has come; it is shown with an error, a timeout or a signal."""
        self.advice = advice
        self.facts |= facts


def course() -> Course:
    """Return the course of the command that runs now; outside of a command it is a new one."""
    context = click.get_current_context(silent=True)
    return Course() if context is None else context.ensure_object(Course)


class CommandLine(click.Group):
    """The group of all commands: what goes wrong in any of them is reported here, and nowhere else.

    A `VeriffError` becomes one sentence on standard error and `Exit.REFUSED` (a `DecisionTimeoutError` becomes
    `Exit.UNDECIDED`), SIGINT, SIGTERM and SIGHUP become 128 and their number.
    """

    _for_program = False

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  click's own signature
        **extra: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Run the command line; with ``--json`` wrong usage is reported as JSON too."""
        words = sys.argv[1:] if args is None else list(args)
        options = words[: words.index("--")] if "--" in words else words
        # Before the command is even imported: a signal may come as early as that.
        self._for_program = "--json" in options
        if not standalone_mode or not self._for_program:
            return super().main(args, prog_name, complete_var, standalone_mode, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            code = error.exit_code
            _tell(Course(for_program=True), type(error).__name__, f"Error: {error.format_message()}", code, {})
        sys.exit(code if isinstance(code, int) else Exit.DONE)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        ctx.obj = course = Course(for_program=self._for_program)
        code: int
        with _reported(course), _stopped_by_signals(course):
            try:
                result = super().invoke(ctx)
                result_console().file.flush()
            except VeriffError as error:
                code = Exit.UNDECIDED if isinstance(error, DecisionTimeoutError) else Exit.REFUSED
                _tell(course, type(error).__name__, f"Error: {error}", code, _facts(error))
            except KeyboardInterrupt:
                if course.signal is not signal.SIGINT:
                    course.facts["signal"] = course.signal.name
                code = 128 + course.signal
                _tell(course, "Interrupted", _STOPPED[course.signal.name], code, {})
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except Exception as error:
                if not course.for_program:
                    raise
                code = Exit.REFUSED
                _tell(course, type(error).__name__, f"Error: {_defect(error)}", code, {})
            else:
                return result
        sys.exit(code)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end; errors of the library and signals pass through to `CommandLine`."""
    return asyncio.run(work)


def warn(words: str) -> None:
    """Write a warning to standard error, once for each text; with ``--json`` as a JSON object in a line."""
    if words not in course().warned:
        course().warned.add(words)
        _warn(course(), words)


def print_json(document: dict[str, object]) -> None:
    """Write the one JSON document of a command to standard output.

    Raises:
        OutputError: It cannot be written.
    """
    print_result(json.dumps(document, indent=2))


def progress_screen() -> Screen:
    """Return where to show what goes on: standard error, and nothing at all with ``--json``."""
    return Screen(progress_console(quiet=course().for_program))


def result_screen() -> Screen:
    """Return where to show results to people: standard output."""
    return Screen(result_console())


@contextmanager
def _stopped_by_signals(course: Course) -> Generator[None]:
    """Let SIGTERM and SIGHUP stop the command as SIGINT does, so that what is under way at Veriff is awaited."""

    def stop(number: int, frame: FrameType | None) -> None:
        course.signal = signal.Signals(number)
        handler = signal.getsignal(signal.SIGINT)  # asyncio's own while a loop runs: it cancels the main task
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:  # a shell starts background jobs with SIGINT ignored
            raise KeyboardInterrupt

    with ExitStack() as undo:
        for name in ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ():
            number = getattr(signal, name, None)
            # nohup has SIGHUP ignored on purpose.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                undo.callback(signal.signal, number, signal.signal(number, stop))
        yield


class _Records(logging.Handler):
    """Shows log records of the library and of asyncio as warnings, each text once."""

    def __init__(self, course: Course) -> None:
        super().__init__(logging.WARNING)
        self._course = course
        self._seen = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record; a traceback in it may hold anything, so it is left out."""
        text = record.getMessage()
        if text not in self._seen and len(self._seen) < 1000:  # noqa: PLR2004  many lines help nobody
            self._seen.add(text)
            _warn(self._course, text)


@contextmanager
def _reported(course: Course) -> Generator[None]:
    """Show warnings and log records in the form of the command."""
    records, root = _Records(course), logging.getLogger()
    with warnings.catch_warnings():

        def show(message: Warning | str, *_where: object, **_more: object) -> None:
            _warn(course, str(message))

        warnings.showwarning = show
        root.addHandler(records)
        try:
            yield
        finally:
            root.removeHandler(records)


def _warn(course: Course, words: str) -> None:
    say({"warning": words} if course.for_program else f"Warning: {words}")


def _defect(error: Exception) -> str:
    """Name a defect of this program by its kind and place; its own text may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""  # noqa: PTH119
    return f"veriff-async has a defect ({type(error).__name__}{place}): report it, please."


def _facts(error: VeriffError) -> dict[str, object]:
    facts: dict[str, object] = {}
    if isinstance(error, ApiError):
        facts = {"status": error.status, "code": error.code}
    session_id: object = getattr(error, "session_id", None)
    return facts if session_id is None else {**facts, "session_id": session_id}


def _tell(course: Course, kind: str, words: str, code: int, facts: dict[str, object]) -> None:
    known = facts | course.facts
    if course.for_program:
        document: dict[str, object] = {"type": kind, "message": words.removeprefix("Error: "), "exit_code": int(code)}
        document |= known
        if course.advice:
            document["advice"] = course.advice
        say({"error": document})
        return
    session_id = known.get("session_id")
    lines = [words, course.advice]
    if session_id is not None and not any(str(session_id) in line for line in lines):
        lines.append(f"The session is {session_id}.")
    say("\n".join(line for line in lines if line))
