"""The options of a batch, saved next to its journal, so that ``batch resume`` needs only the journal."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, get_args

from attrs import asdict, evolve, frozen

from veriff_async import ConfigurationError
from veriff_async._protocol.json.decode import load_object
from veriff_async.batch import OnUnknown
from veriff_async.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from veriff_async.models.json import JsonObject

__all__ = ("RunLimits", "SavedOptions", "load_options", "read_limits", "save_options")

_N = TypeVar("_N", int, float)

_VERSION: Final = 1
_ON_UNKNOWN: Final[dict[str, OnUnknown]] = {word: word for word in get_args(OnUnknown)}


@frozen(kw_only=True)
class RunLimits:
    """Limits of sessions and of polls; see `veriff_async.batch.verify_many`."""

    max_sessions: int | None = None
    max_per_hour: int | None = None
    poll_rate: float | None = None

    def or_else(self, other: RunLimits) -> RunLimits:
        """Return these limits, with those of another object in the place of missing ones."""
        return evolve(other, **{name: value for name, value in asdict(self).items() if value is not None})


def read_limits(settings: Mapping[str, str]) -> RunLimits:
    """Return the limits in the variables.

    Raises:
        ConfigurationError: A variable is not a number that its option takes.
    """
    return RunLimits(
        max_sessions=_read_number(settings, "VERIFF_MAX_SESSIONS", int, 0),
        max_per_hour=_read_number(settings, "VERIFF_MAX_PER_HOUR", int, 1),
        poll_rate=_read_number(settings, "VERIFF_POLL_RATE", float, 1e-6),
    )


def _read_number(settings: Mapping[str, str], name: str, parse: Callable[[str], _N], lowest: float) -> _N | None:
    text = settings.get(name, "").strip()
    if not text:
        return None
    with suppress(ValueError):
        number = parse(text)
        if number >= lowest:  # NaN is not
            return number
    msg = f"{name} must be a number from {lowest:g} on: correct it, or leave it out."
    raise ConfigurationError(msg)


@frozen(kw_only=True)
class SavedOptions:
    """The options of a batch.

    Attributes:
        manifest: File with the jobs.
        out: File for the results.
        env_file: File with the credentials, or `None` for the environment. Only its path is saved.
        inbox: File where webhooks are recorded, or `None`.
        timeout: Default seconds to wait for a decision.
        concurrency: See `veriff_async.batch.verify_many`.
        max_waiting: See there.
        on_unknown: See there.
        skip_bad: Whether to skip invalid rows.
        submit_only: Whether to leave decisions to ``batch collect``.
        show_person: Whether results contain personal data.
        proxy: Value of ``--proxy``, which cannot contain a password.
        check_quality: Whether a row with a picture that fails a check of `inspect_media` is invalid.
        thresholds: File with the limits of these checks, or `None` for the defaults.
        limits: Limits of sessions and of polls.
    """

    manifest: Path
    out: Path
    env_file: Path | None
    inbox: Path | None
    timeout: float
    concurrency: int
    max_waiting: int
    on_unknown: OnUnknown
    skip_bad: bool
    submit_only: bool
    show_person: bool
    proxy: str | None = None
    check_quality: bool = False
    thresholds: Path | None = None
    limits: RunLimits = RunLimits()


def save_options(journal: Path, options: SavedOptions) -> None:
    """Save options next to a journal, and replace those of an earlier run.

    Raises:
        ConfigurationError: The folder is not writable.
    """
    document = {
        "version": _VERSION,
        # Absolute paths: ``batch resume`` may run in another folder.
        "manifest": str(options.manifest.absolute()),
        "out": str(options.out.absolute()),
        "env_file": None if options.env_file is None else str(options.env_file.absolute()),
        "inbox": None if options.inbox is None else str(options.inbox.absolute()),
        "timeout": options.timeout,
        "concurrency": options.concurrency,
        "max_waiting": options.max_waiting,
        "on_unknown": options.on_unknown,
        "skip_bad": options.skip_bad,
        "submit_only": options.submit_only,
        "show_person": options.show_person,
        "proxy": options.proxy,
        "check_quality": options.check_quality,
        "thresholds": None if options.thresholds is None else str(options.thresholds.absolute()),
        "limits": asdict(options.limits),
    }
    path = _path(journal)
    temporary = path.with_name(f"{path.name}-new")
    try:
        # Created first with its mode; `write_text` would use the umask.
        temporary.touch(0o600)
        temporary.write_text(json.dumps(document), encoding="utf-8")
        # Atomic: a killed process leaves either the old options or the new ones.
        temporary.replace(path)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return
    msg = f"The options cannot be saved next to the journal ({problem}): put the journal into a folder of your own."
    raise ConfigurationError(msg)


def load_options(journal: Path) -> SavedOptions | None:
    """Return the options next to a journal, or `None`: a program may have created the journal.

    Raises:
        ConfigurationError: They cannot be read.
    """
    try:
        options = _parse(load_object(_path(journal).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, DecodeError):
        options = None
    if options is None:
        msg = "The options next to the journal cannot be read: repeat batch run with the same manifest."
        raise ConfigurationError(msg)
    return options


def _path(journal: Path) -> Path:
    resolved = Path(os.path.realpath(journal))  # resolves links like the lock of the journal does
    return resolved.with_name(f"{resolved.name}-options.json")


def _parse(members: JsonObject) -> SavedOptions | None:
    match members:
        case {
            "version": 1,
            "manifest": str(manifest),
            "out": str(out),
            "env_file": str() | None as env_file,
            "inbox": str() | None as inbox,
            "timeout": int() | float() as timeout,
            "concurrency": int(concurrency),
            "max_waiting": int(max_waiting),
            "on_unknown": str(word),
            "skip_bad": bool(skip_bad),
            "submit_only": bool(submit_only),
            "show_person": bool(show_person),
            "check_quality": bool(check_quality),
            "thresholds": str() | None as thresholds,
            "limits": {
                "max_sessions": int() | None as max_sessions,
                "max_per_hour": int() | None as max_per_hour,
                "poll_rate": int() | float() | None as poll_rate,
            },
        } if on_unknown := _ON_UNKNOWN.get(word):
            return SavedOptions(
                manifest=Path(manifest),
                out=Path(out),
                env_file=None if env_file is None else Path(env_file),
                inbox=None if inbox is None else Path(inbox),
                timeout=float(timeout),
                concurrency=concurrency,
                max_waiting=max_waiting,
                on_unknown=on_unknown,
                skip_bad=skip_bad,
                submit_only=submit_only,
                show_person=show_person,
                proxy=proxy if isinstance(proxy := members.get("proxy"), str) else None,
                check_quality=check_quality,
                thresholds=None if thresholds is None else Path(thresholds),
                limits=RunLimits(max_sessions=max_sessions, max_per_hour=max_per_hour, poll_rate=poll_rate),
            )
        case _:
            return None
