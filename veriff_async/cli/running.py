"""How every command runs and ends: work, errors, warnings, Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import define, field
from rich.console import Console

from veriff_async import ApiError, DecisionTimeoutError, VeriffError
from veriff_async.cli.exits import Exit
from veriff_async.cli.show import Screen

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ("CommandLine", "Course", "course", "print_json", "progress_screen", "result_screen", "run", "warn")

_T = TypeVar("_T")


@define
class Course:
    """How this run of a command speaks, and how far it came.

    Attributes:
        for_program: Whether ``--json`` was given.
        advice: How to go on from here when the command breaks off now, as one sentence; empty when there is nothing
            to go on from.
        facts: What a program needs for that, for example the ``session_id``.
    """

    for_program: bool = False
    advice: str = ""
    facts: dict[str, object] = field(factory=dict[str, object])

    def reached(self, advice: str, **facts: object) -> None:
        """Note how far the work has come; it is told with an error, a timeout or Ctrl-C."""
        self.advice = advice
        self.facts |= facts


def course() -> Course:
    """Return the course of the command that runs now; call it from the command, not from its coroutines."""
    return click.get_current_context().ensure_object(Course)


class CommandLine(click.Group):
    """The group of all commands: what goes wrong in any of them is told here, and nowhere else.

    A `VeriffError` becomes one sentence on standard error and `Exit.REFUSED` (a `DecisionTimeoutError` becomes
    `Exit.UNDECIDED`), Ctrl-C becomes `Exit.INTERRUPTED`. With ``--json`` standard error gets one JSON object in one
    line instead.
    """

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        ctx.obj = course = Course()
        try:
            return super().invoke(ctx)
        except VeriffError as error:
            code = Exit.UNDECIDED if isinstance(error, DecisionTimeoutError) else Exit.REFUSED
            _tell(course, type(error).__name__, f"Error: {error}", code, _facts(error))
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
            _tell(course, "Interrupted", "Interrupted.", code, {})
        sys.exit(code)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end; errors of the library and Ctrl-C pass through to `CommandLine`."""
    return asyncio.run(work)


def warn(words: str) -> None:
    """Say something on standard error that does not stop the command; with ``--json`` as a JSON object in a line."""
    click.echo(json.dumps({"warning": words}) if course().for_program else f"Warning: {words}", err=True)


def print_json(document: dict[str, object]) -> None:
    """Write the one JSON document of a command to standard output."""
    click.echo(json.dumps(document, indent=2))


def progress_screen() -> Screen:
    """Return where to show what goes on: standard error, and nothing at all with ``--json``."""
    return Screen(Console(stderr=True, quiet=course().for_program))


def result_screen() -> Screen:
    """Return where to show what came of it to people: standard output."""
    return Screen(Console())


def _facts(error: VeriffError) -> dict[str, object]:
    if isinstance(error, ApiError):
        return {"status": error.status, "code": error.code}
    return {}


def _tell(course: Course, kind: str, words: str, code: Exit, facts: dict[str, object]) -> None:
    if not course.for_program:
        click.echo(f"{words}\n{course.advice}" if course.advice else words, err=True)
        return
    document: dict[str, object] = {"type": kind, "message": words.removeprefix("Error: "), "exit_code": int(code)}
    document |= facts | course.facts
    if course.advice:
        document["advice"] = course.advice
    click.echo(json.dumps({"error": document}), err=True)
