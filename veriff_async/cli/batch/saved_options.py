"""What a batch was begun with, kept beside its journal, so that it is gone on with by naming the journal alone."""

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

__all__ = ("Plan", "plan_of", "remember")

_VERSION: Final = 1
_ON_UNKNOWN: Final[dict[str, OnUnknown]] = {word: word for word in get_args(OnUnknown)}


@frozen(kw_only=True)
class Plan:
    """How a batch is run.

    Attributes:
        manifest: Its jobs.
        out: Where results go.
        env_file: Where the credentials are, or `None` for the environment; it is their place that is kept.
        inbox: Where webhooks are recorded, or `None`.
        timeout: Seconds to wait for a decision, where a row gives none.
        concurrency: See `veriff_async.batch.verify_many`.
        max_waiting: Likewise.
        on_unknown: Likewise.
        skip_bad: Whether bad rows are left out.
        submit_only: Whether decisions are left to ``batch collect``.
        show_person: Whether results hold the person's data.
        proxy: What ``--proxy`` was given; it holds no password.
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


def remember(journal: Path, plan: Plan) -> None:
    """Keep a plan beside a journal, in the place of the last one.

    Raises:
        ConfigurationError: The folder cannot be written to.
    """
    document = {
        "version": _VERSION,
        "manifest": str(plan.manifest.absolute()),
        "out": str(plan.out.absolute()),
        "env_file": None if plan.env_file is None else str(plan.env_file.absolute()),
        "inbox": None if plan.inbox is None else str(plan.inbox.absolute()),
        "timeout": plan.timeout,
        "concurrency": plan.concurrency,
        "max_waiting": plan.max_waiting,
        "on_unknown": plan.on_unknown,
        "skip_bad": plan.skip_bad,
        "submit_only": plan.submit_only,
        "show_person": plan.show_person,
        "proxy": plan.proxy,
    }
    place = _place(journal)
    fresh = place.with_name(f"{place.name}-new")
    try:
        fresh.touch(0o600)
        fresh.write_text(json.dumps(document), encoding="utf-8")
        fresh.replace(place)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return
    msg = f"How to go on cannot be kept beside the journal ({problem}): put the journal into a folder of your own."
    raise ConfigurationError(msg)


def plan_of(journal: Path) -> Plan | None:
    """Return the plan that is kept beside a journal, or `None`: it may have been begun by a program.

    Raises:
        ConfigurationError: What is there cannot be read.
    """
    try:
        plan = _plan(load_object(_place(journal).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, DecodeError):
        plan = None
    if plan is None:
        msg = "How the batch was begun cannot be read beside its journal: begin it again with the same manifest."
        raise ConfigurationError(msg)
    return plan


def _place(journal: Path) -> Path:
    real = Path(os.path.realpath(journal))  # as the journal names its lock, so that a link leads to the same plan
    return real.with_name(f"{real.name}-plan.json")


def _plan(found: JsonObject) -> Plan | None:
    match found:
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
        } if on_unknown := _ON_UNKNOWN.get(word):
            return Plan(
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
                proxy=proxy if isinstance(proxy := found.get("proxy"), str) else None,
            )
        case _:
            return None
