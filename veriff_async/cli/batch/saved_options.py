"""The options of a batch, saved next to its journal, so that ``batch resume`` needs only the journal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from attrs import frozen

from veriff_async import ConfigurationError
from veriff_async._protocol.json.decode import load_object
from veriff_async.batch import OnUnknown
from veriff_async.errors import DecodeError

if TYPE_CHECKING:
    from veriff_async.models.json import JsonObject

__all__ = ("SavedOptions", "load_options", "save_options")

_VERSION: Final = 1
_ON_UNKNOWN: Final[dict[str, OnUnknown]] = {word: word for word in get_args(OnUnknown)}


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
            )
        case _:
            return None
