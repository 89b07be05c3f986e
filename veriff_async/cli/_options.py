"""Options that several commands share."""

from __future__ import annotations

import math
import os
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from veriff_async import ConfigurationError, InspectionThresholds, InvalidArgumentError, MediaContext
from veriff_async.cli._http import check_url
from veriff_async.cli._runtime import current_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

__all__ = (
    "CONTEXT",
    "FILE",
    "InputFile",
    "Seconds",
    "SecondsOrNone",
    "WordOrOther",
    "check_quality_option",
    "env_file_option",
    "inbox_option",
    "json_lines_option",
    "json_option",
    "limit_options",
    "load_thresholds",
    "outage_option",
    "poll_rate_option",
    "proxy_option",
    "read_thresholds",
    "require_check_quality",
    "show_person_option",
    "thresholds_option",
    "timeout_option",
    "use_proxy",
)

_F = TypeVar("_F", bound="Callable[..., Any]")

FROM_ENVIRONMENT: Final = "env"
# Both cases: aiohttp asks urllib, which prefers the names in lower case.
_PROXIES: Final = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_MAX_THRESHOLDS_BYTES: Final = 1024 * 1024
_NO_PROXY: Final = ("no_proxy", "NO_PROXY")

FILE: Final = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
"""An existing file."""


class _Context(click.types.StringParamType):
    """A context of Veriff, such as document-front."""

    name = "context"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401  click's
        """Refuse a word that Veriff does not document."""
        if MediaContext(str(value)).known:
            return str(value)
        words = get_close_matches(str(value), [context.value for context in MediaContext]) or ["document-front", "face"]
        return self.fail(f"this is not a context of Veriff: use {' or '.join(words)}, for example.", param, ctx)


CONTEXT: Final = _Context()
"""A context of Veriff."""


class WordOrOther(click.types.StringParamType):
    """A word of which Veriff may add more: the known ones are completed, and others are sent too."""

    name = "word"

    def __init__(self, words: tuple[str, ...]) -> None:
        """Take the known words."""
        self._known = click.Choice(words)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the known words."""
        return self._known.shell_complete(ctx, param, incomplete)


class InputFile(click.File):
    """A file or ``-`` for standard input. If that is closed, click would raise RuntimeError.

    A user may give the content instead, which can be personal, so the error does not repeat the value as click's does.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  click's
        """Open the file."""
        if value == "-" and sys.stdin is None:
            self.fail("standard input is closed: give a file.", param, ctx)
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            reason = getattr(error.__context__, "strerror", None) or "it cannot be opened"
        return self.fail(f"{reason}: give the path of a file, or - for standard input.", param, ctx)


class Seconds(click.FloatRange):
    """A number of seconds. NaN is refused: it passes every range check and would fail only after the session exists."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  click's
        """Parse the number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return number


class SecondsOrNone(Seconds):
    """A number of seconds, or the word none, whose value is `None`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  click's
        """Parse the number."""
        return None if value == "none" else super().convert(value, param, ctx)


def _set_format(_ctx: click.Context, _parameter: click.Parameter, for_program: bool) -> bool:  # noqa: FBT001
    current_command().for_program = for_program
    return for_program


def inbox_option(command: _F) -> _F:
    """Add ``--inbox``, as the argument `inbox`: a path or `None`, for `inbox_of`."""
    help_text = "Use the webhooks that `listen --inbox` records in this file; polling finds missing ones."
    return click.option("--inbox", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=help_text)(
        command
    )


def check_quality_option(command: _F) -> _F:
    """Add ``--check-quality``, as the argument `check_quality`."""
    return click.option(
        "--check-quality",
        is_flag=True,
        help="Refuse blurred, dark, tilted or cut-off pictures before anything is sent.",
    )(command)


def thresholds_option(command: _F) -> _F:
    """Add ``--thresholds``, as the argument `thresholds`: a path or `None`, for `load_thresholds`."""
    help_text = "Limits of the quality checks, from media calibrate.  [default: those of the library]"
    return click.option("--thresholds", type=FILE, metavar="FILE", help=help_text)(command)


def require_check_quality(thresholds: Path | None, *, check_quality: bool) -> None:
    """Refuse ``--thresholds`` without ``--check-quality``, which would check nothing."""
    if thresholds is not None and not check_quality:
        msg = "--thresholds needs --check-quality: give both, or none of them."
        raise click.UsageError(msg)


def read_thresholds(path: Path) -> InspectionThresholds:
    """Return the thresholds in a file, of which no more is read than thresholds take: a device may never end."""
    with path.open("rb") as file:
        return InspectionThresholds.from_json(file.read(_MAX_THRESHOLDS_BYTES))


def load_thresholds(path: Path | None) -> InspectionThresholds:
    """Return the thresholds in a file, or the defaults."""
    if path is None:
        return InspectionThresholds()
    try:
        return read_thresholds(path)
    except (OSError, InvalidArgumentError) as error:
        reason = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
    msg = f"The file of --thresholds cannot be used ({reason.rstrip('.')}): write a new one with media calibrate."
    raise ConfigurationError(msg)


def outage_option(command: _F) -> _F:
    """Add ``--max-outage``, as the argument `max_outage`: seconds."""
    return click.option(
        "--max-outage",
        type=Seconds(min=0),
        default=3600.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to pause while requests to Veriff fail.",
    )(command)


def limit_options(command: _F) -> _F:
    """Add ``--max-sessions`` and ``--max-per-hour``, as arguments with these names."""
    command = click.option(
        "--max-per-hour",
        type=click.IntRange(1),
        metavar="COUNT",
        help="Create at most so many sessions in any 60 minutes; others wait.  [default: VERIFF_MAX_PER_HOUR]",
    )(command)
    return click.option(
        "--max-sessions",
        type=click.IntRange(0),
        metavar="COUNT",
        help="Create at most so many sessions in all runs with the journal.  [default: VERIFF_MAX_SESSIONS]",
    )(command)


def poll_rate_option(command: _F) -> _F:
    """Add ``--poll-rate``, as the argument `poll_rate`."""
    return click.option(
        "--poll-rate",
        type=Seconds(min=0, min_open=True),
        metavar="RATE",
        help="Polls per second for decisions.  [default: VERIFF_POLL_RATE, or 10]",
    )(command)


def json_option(command: _F, *, help_text: str = "Print one JSON document and nothing else.") -> _F:
    """Add ``--json``, as the argument `for_program`; it also makes errors and warnings JSON."""
    # Eager, so that the callbacks of other options know the format already.
    return click.option("--json", "for_program", is_flag=True, is_eager=True, callback=_set_format, help=help_text)(
        command
    )


def json_lines_option(command: _F) -> _F:
    """Add ``--json`` to a command that runs until it is stopped, as the argument `for_program`."""
    return json_option(command, help_text="Print one JSON object for each line, and nothing else.")


def env_file_option(command: _F) -> _F:
    """Add ``--env-file``, as the argument `env_file`: a path or `None`, for `create_client`."""
    help_text = "Read the VERIFF_ variables from this file of KEY=VALUE lines, not from the environment."
    return click.option("--env-file", type=FILE, metavar="FILE", help=help_text)(command)


def _apply_proxy(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    use_proxy(value if value == FROM_ENVIRONMENT else check_url(ctx, parameter, value))
    return value


def use_proxy(value: str | None) -> None:
    """Make the running command use a proxy, by setting the variables that its client reads with ``trust_env``."""
    current_command().proxy = value
    if value is None or value == FROM_ENVIRONMENT:
        return
    before = {name: os.environ.get(name) for name in (*_PROXIES, *_NO_PROXY)}
    os.environ.update(dict.fromkeys(_PROXIES, value))
    for name in _NO_PROXY:
        os.environ.pop(name, None)  # --proxy overrides them

    def restore() -> None:
        for name, previous in before.items():
            os.environ.pop(name, None)
            if previous is not None:
                os.environ[name] = previous

    # The process may outlive the command, for example in tests.
    click.get_current_context().call_on_close(restore)


def proxy_option(command: _F) -> _F:
    """Add ``--proxy``, which `create_client` applies."""
    help_text = "Connect through the HTTP proxy http://host:port; env uses HTTPS_PROXY, which may contain a password."
    # Not an argument of the commands: `create_client` finds it in the state of the command.
    return click.option("--proxy", metavar="URL", expose_value=False, callback=_apply_proxy, help=help_text)(command)


def show_person_option(command: _F) -> _F:
    """Add ``--show-person``, as the argument `show_person`."""
    return click.option("--show-person", is_flag=True, help="Also show personal data of the decision.")(command)


def timeout_option(command: _F) -> _F:
    """Add ``--timeout``, as the argument `timeout`: seconds to wait for a decision."""
    return click.option(
        "--timeout",
        type=Seconds(min=0, min_open=True),
        default=900.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for the decision.",
    )(command)
