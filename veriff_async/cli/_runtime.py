"""How every command runs and ends: exit codes, errors, warnings, log records, signals.

A command calls `run` with its coroutine and lets exceptions through. `CommandLine.invoke` catches them in one place and
turns them into a message and an exit code, so commands contain no error handling of their own. While a command works it
keeps `CommandState.resume_hint` up to date: the command line that continues the work, which is shown with any error,
timeout or signal.

With ``--json`` standard error gets JSON objects only, one per line, in every case: an error of the library, wrong
usage, a warning, a log record, a signal, or a defect of this program.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import define, field

from veriff_async import ApiError, DecisionTimeoutError, MediaQualityError, VeriffError
from veriff_async._logging import fields_of, log_level_from
from veriff_async._waiting.signals import STOP_SIGNALS
from veriff_async.cli._output import Output
from veriff_async.cli._stdio import print_stderr, print_stdout, stderr_console, stdout_console

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Sequence
    from pathlib import Path
    from types import FrameType

__all__ = (
    "CommandLine",
    "CommandState",
    "ExitCode",
    "command_line",
    "current_command",
    "print_json",
    "run",
    "stderr_output",
    "stdout_output",
    "warn",
)

_T = TypeVar("_T")

_SIGNAL_MESSAGES: Final = {
    "SIGINT": "Interrupted.",
    "SIGTERM": "Terminated.",
    "SIGHUP": "Hung up.",
    "SIGBREAK": "Stopped.",  # Windows: Ctrl-Break, or the console was closed
}
# Commands that a resume hint may name and that have ``--proxy``; others would refuse the option.
_TAKES_PROXY: Final = ("batch collect", "batch resume", "certificates", "decision", "media", "verify")
# Texts of log records that are remembered, to show each once. Further texts are dropped.
_MAX_LOG_MESSAGES: Final = 1000


class ExitCode(IntEnum):
    """Every exit code of `veriff-async`, the same for all commands."""

    DONE = 0
    """The command succeeded; for a decision: it is ``approved``."""
    REFUSED = 1
    """The library or Veriff refused; one sentence on standard error says why, and what to do."""
    USAGE = 2
    """The command was used wrongly, or the extra ``[cli]`` is missing; nothing was sent."""
    NOT_APPROVED = 3
    """There is a decision, and it is not ``approved``."""
    UNDECIDED = 4
    """The session has no decision yet, or none came in time."""
    BUDGET_SPENT = 5
    """The batch has created all sessions that ``--max-sessions`` permits, and jobs are left."""
    PENDING = 6
    """An erasure is not complete, or one is overdue."""
    HUNG_UP = 129
    """The terminal was closed: 128 + SIGHUP, as in shells."""
    INTERRUPTED = 130
    """Ctrl-C: 128 + SIGINT."""
    TERMINATED = 143
    """Stopped by the system or a supervisor: 128 + SIGTERM."""
    STOPPED = 149
    """Windows only: Ctrl-Break, or the console was closed: 128 + SIGBREAK."""


@define
class CommandState:
    """State of the running command.

    Attributes:
        for_program: Whether ``--json`` was given.
        resume_hint: How to continue if the command ends now, as one sentence; empty if there is nothing to continue.
        facts: Members that error documents of ``--json`` get in addition, for example the ``session_id``.
        signal: The signal that stopped the command.
        proxy: The value of ``--proxy``.
        warned: Warnings shown so far: a command that reads a file twice warns once.
    """

    for_program: bool = False
    resume_hint: str = ""
    facts: dict[str, object] = field(factory=dict[str, object])
    signal: signal.Signals = signal.SIGINT
    proxy: str | None = None
    warned: set[str] = field(factory=set[str])

    def set_resume_hint(self, hint: str, **facts: object) -> None:
        """Replace the hint, which an error, a timeout or a signal shows, and add facts."""
        self.resume_hint = hint
        self.facts |= facts


def current_command() -> CommandState:
    """Return the state of the running command, or a new one outside of a command."""
    context = click.get_current_context(silent=True)
    return CommandState() if context is None else context.ensure_object(CommandState)


def command_line(command: str, env_file: Path | None) -> str:
    """Return a command line that continues the work with the same credentials and proxy."""
    options = "" if env_file is None else f" --env-file {shlex.quote(str(env_file))}"
    proxy = current_command().proxy
    if proxy is not None and command.startswith(_TAKES_PROXY):
        options += f" --proxy {shlex.quote(proxy)}"
    return f"veriff-async {command}{options}"


class CommandLine(click.Group):
    """The group of all commands, and the only place that reports errors.

    A `VeriffError` becomes one sentence on standard error and `ExitCode.REFUSED` (a `DecisionTimeoutError`:
    `ExitCode.UNDECIDED`). SIGINT, SIGTERM and SIGHUP become 128 plus their number.
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
        # After ``--`` every word is an argument, even ``--json``.
        options = words[: words.index("--")] if "--" in words else words
        # Read before click parses anything: a signal may arrive while the command is still being imported.
        self._for_program = "--json" in options
        if not standalone_mode or not self._for_program:
            return super().main(args, prog_name, complete_var, standalone_mode, **extra)
        try:
            # In its standalone mode click prints wrong usage as text and exits.
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            code = error.exit_code
            state = CommandState(for_program=True)
            _report(state, type(error).__name__, f"Error: {error.format_message()}", code, {})
        sys.exit(code if isinstance(code, int) else ExitCode.DONE)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        ctx.obj = state = CommandState(for_program=self._for_program)
        code: int
        with _show_warnings(state), _handle_signals(state):
            try:
                result = super().invoke(ctx)
                # A full disk or a closed pipe may show only now; an error at exit could not be reported.
                stdout_console().file.flush()
            except VeriffError as error:
                code = ExitCode.UNDECIDED if isinstance(error, DecisionTimeoutError) else ExitCode.REFUSED
                _report(state, type(error).__name__, f"Error: {error}", code, _error_facts(error))
            except KeyboardInterrupt:
                if state.signal is not signal.SIGINT:
                    state.facts["signal"] = state.signal.name
                code = 128 + state.signal
                _report(state, "Interrupted", _SIGNAL_MESSAGES[state.signal.name], code, {})
            # click reports wrong usage itself, and `main` reports it as JSON.
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except Exception as error:
                # People need the traceback to report the defect; programs expect JSON on standard error.
                if not state.for_program:
                    raise
                code = ExitCode.REFUSED
                _report(state, type(error).__name__, f"Error: {_describe_defect(error)}", code, {})
            else:
                return result
        sys.exit(code)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end; errors of the library and signals pass through to `CommandLine`."""
    return asyncio.run(work)


def warn(text: str) -> None:
    """Write a warning to standard error, once per text; with ``--json`` as a JSON object in a line."""
    state = current_command()
    if text not in state.warned:
        state.warned.add(text)
        _print_warning(state, text)


def print_json(document: dict[str, object]) -> None:
    """Write the one JSON document of a command to standard output."""
    print_stdout(json.dumps(document, indent=2))


def stderr_output() -> Output:
    """Return the output for progress: standard error, and nothing at all with ``--json``."""
    return Output(stderr_console(quiet=current_command().for_program))


def stdout_output() -> Output:
    """Return the output for results that people read: standard output."""
    return Output(stdout_console())


def confirm(question: str, refusal: str) -> None:
    """Ask a question on the terminal, and end the command with a sentence unless the answer is yes.

    Raises:
        click.UsageError: No person can answer: ``--json`` was given, or no terminal is there.
    """
    console = stderr_console()
    if current_command().for_program or not (sys.stdin and sys.stdin.isatty() and console.is_terminal):
        msg = "Without a terminal to ask for confirmation on, the command needs --yes."
        raise click.UsageError(msg)
    # On standard error, because standard output may be redirected. `click.confirm` cannot distinguish Ctrl-C.
    console.file.write(f"{question} [y/N]: ")
    console.file.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        print_stderr(refusal)
        raise SystemExit(ExitCode.REFUSED)


@contextmanager
def _handle_signals(state: CommandState) -> Generator[None]:
    """Make SIGTERM, SIGHUP and SIGBREAK stop the command like SIGINT, so that a running request is awaited."""

    def stop(number: int, frame: FrameType | None) -> None:
        state.signal = signal.Signals(number)
        handler = signal.getsignal(signal.SIGINT)  # asyncio's own while a loop runs: it cancels the main task
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:  # a shell starts background jobs with SIGINT ignored
            raise KeyboardInterrupt

    with ExitStack() as undo:
        # Python permits `signal.signal` in the main thread only.
        for number in STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ():
            # nohup ignores SIGHUP on purpose.
            if number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
                undo.callback(signal.signal, number, signal.signal(number, stop))
        yield


class _LogHandler(logging.Handler):
    """Shows log records of the library and of asyncio: warnings, each text once, and what ``VERIFF_LOG`` asks for."""

    def __init__(self, state: CommandState) -> None:
        super().__init__(min(logging.WARNING, log_level_from(os.environ) or logging.WARNING))
        self._state = state
        self._shown = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record without its traceback, which may contain anything."""
        text = record.getMessage()
        if record.levelno < logging.WARNING:
            prefix = f"{record.levelname.capitalize()}: "
            print_stderr({"log": text, **fields_of(record)} if self._state.for_program else prefix + text)
            return
        if text not in self._shown and len(self._shown) < _MAX_LOG_MESSAGES:
            self._shown.add(text)
            _print_warning(self._state, text)


@contextmanager
def _show_warnings(state: CommandState) -> Generator[None]:
    """Show warnings and log records in the format of the command."""
    handler, root = _LogHandler(state), logging.getLogger()
    with warnings.catch_warnings():

        def show(message: Warning | str, *_position: object, **_options: object) -> None:
            _print_warning(state, str(message))

        # `catch_warnings` restores it at the end of the block.
        warnings.showwarning = show
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)


def _print_warning(state: CommandState, text: str) -> None:
    print_stderr({"warning": text} if state.for_program else f"Warning: {text}")


def _describe_defect(error: Exception) -> str:
    """Name a defect of this program by its type and line; the exception's own text may contain anything."""
    frames = traceback.extract_tb(error.__traceback__)
    line = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""  # noqa: PTH119
    return f"veriff-async has a defect ({type(error).__name__}{line}): report it, please."


def _error_facts(error: VeriffError) -> dict[str, object]:
    facts: dict[str, object] = {}
    if isinstance(error, ApiError):
        facts = {"status": error.status, "code": error.code}
    if isinstance(error, MediaQualityError) and error.inspection is not None:
        facts = {"hints": list(error.inspection.hints)}
    session_id: object = getattr(error, "session_id", None)
    return facts if session_id is None else {**facts, "session_id": session_id}


def _report(state: CommandState, error_type: str, message: str, code: int, facts: dict[str, object]) -> None:
    facts = facts | state.facts
    if state.for_program:
        document: dict[str, object] = {
            "type": error_type,
            "message": message.removeprefix("Error: "),
            "exit_code": int(code),
            **facts,
        }
        if state.resume_hint:
            document["advice"] = state.resume_hint
        print_stderr({"error": document})
        return
    session_id = facts.get("session_id")
    lines = [message, state.resume_hint]
    if session_id is not None and not any(str(session_id) in line for line in lines):
        lines.append(f"The session is {session_id}.")
    print_stderr("\n".join(line for line in lines if line))
