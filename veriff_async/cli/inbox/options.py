"""Options of the inbox commands: which inbox, and which of its sessions."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import fields

from veriff_async import Status
from veriff_async.cli._options import WordOrOther
from veriff_async.models.delivery import DeliveryStatus
from veriff_async.models.inbox_search import SessionSearch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("inbox_options", "is_limited", "make_search", "search_options")

_F = TypeVar("_F", bound="Callable[..., Any]")

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)


class _TimeType(click.types.StringParamType):
    """A point in time, in seconds since 1970: ISO 8601, in the local zone without another one, or an age such as 2h."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  click's
        """Parse it."""
        if isinstance(value, float):
            return value
        age = _AGE.fullmatch(str(value))
        if age is not None:
            return time.time() - int(age[1]) * _SECONDS[age[2]]
        try:
            return datetime.fromisoformat(str(value)).timestamp()
        except (ValueError, OverflowError, OSError):  # OverflowError, OSError: a year that the system cannot handle
            return self.fail("give a time such as 2026-11-29T12:00, or an age such as 30m, 2h or 7d.", param, ctx)


_TIME: Final = _TimeType()


def inbox_options(command: _F) -> _F:
    """Add ``--inbox`` and ``--prefix``, as the arguments `address` and `prefix`, for `InboxAddress.find`."""
    command = click.option("--prefix", metavar="TEXT", help="Prefix of keys in Redis.  [default: {veriff}]")(command)
    return click.option(
        "--inbox",
        "address",
        metavar="FILE|URL",
        help="An existing SQLite file, or redis:// or postgresql://.  [default: VERIFF_INBOX]",
    )(command)


def search_options(command: _F) -> _F:
    """Add the options that select sessions, for `make_search`."""
    options = (
        click.option("--session", "session_id", metavar="ID", help="This session."),
        click.option("--vendor-data", metavar="TEXT", help="Sessions with exactly this vendor data."),
        click.option("--end-user-id", metavar="TEXT", help="Sessions with exactly this end-user id."),
        click.option(
            "--status",
            type=WordOrOther(tuple(each.value for each in Status)),
            metavar="STATUS",
            help="Sessions in this status, for example declined.",
        ),
        click.option(
            "--delivery",
            type=click.Choice([each.value for each in DeliveryStatus]),
            help="Sessions with an event in this state of its handlers.",
        ),
        click.option("--since", type=_TIME, metavar="TIME", help="Last event at this time or later: ISO 8601, or 2h."),
        click.option("--until", type=_TIME, metavar="TIME", help="Last event before this time."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def make_search(options: dict[str, Any]) -> SessionSearch:
    """Return the search of the options that `search_options` adds."""
    status, delivery = options["status"], options["delivery"]
    return SessionSearch(
        session_id=options["session_id"],
        vendor_data=options["vendor_data"],
        end_user_id=options["end_user_id"],
        status=None if status is None else Status(status),
        delivery=None if delivery is None else DeliveryStatus(delivery),
        since=options["since"],
        until=options["until"],
    )


def is_limited(search: SessionSearch) -> bool:
    """Return whether a search has a condition."""
    return any(getattr(search, each.name) is not None for each in fields(SessionSearch))
