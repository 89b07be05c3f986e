"""The commands retention plan and retention overdue: what must be erased, and when."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from veriff_async.cli._options import json_lines_option
from veriff_async.cli._runtime import ExitCode, run, stdout_output
from veriff_async.cli._stdio import print_stdout
from veriff_async.cli.erasure.stores import store_options
from veriff_async.erasure import plan_retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.cli.erasure.stores import StoreOptions
    from veriff_async.erasure import RetentionItem

__all__ = ("retention",)

_F = TypeVar("_F", bound="Callable[..., Any]")

_COLUMNS: Final = ("store", "session", "last used", "due")
_UNKNOWN: Final = "unknown"


def _plan_options(command: _F) -> _F:
    command = click.option(
        "--max-age",
        type=click.FloatRange(min=0, min_open=True, max=100_000),
        required=True,
        metavar="DAYS",
        help="Days for which data of a session may be kept after its last use.",
    )(command)
    return store_options(json_lines_option(command))


@click.group()
def retention() -> None:
    """List what must be erased, and when. Nothing is erased: see forget."""


@retention.command()
@_plan_options
def plan(*, max_age: float, stores: StoreOptions, for_program: bool) -> None:
    """List what each store holds of each session, and when that is due."""
    _list(stores, max_age, for_program=for_program, is_overdue=False)


@retention.command()
@_plan_options
def overdue(*, max_age: float, stores: StoreOptions, for_program: bool) -> None:
    """List what is due already, and end with 6 if there is any, for a monitor or a cron job.

    The journal knows the time of a decision only, so jobs without one are listed in the plan alone.
    """
    if _list(stores, max_age, for_program=for_program, is_overdue=True):
        raise SystemExit(ExitCode.PENDING)


def _list(stores: StoreOptions, max_age: float, *, for_program: bool, is_overdue: bool) -> int:
    """Show the items, all or those that are overdue, and return how many there are."""

    async def work() -> int:
        rows: list[tuple[str, ...]] = []
        count = 0
        async with stores.open() as named:
            if not named:
                msg = "Name at least one store: --inbox, --journal or --files."
                raise click.UsageError(msg)
            async for item in plan_retention(named, max_age=timedelta(days=max_age)):
                if is_overdue and not item.is_overdue:
                    continue
                count += 1
                if for_program:
                    print_stdout(json.dumps(_to_document(item)))
                else:
                    rows.append(_to_row(item))
        if rows:
            stdout_output().print_table(_COLUMNS, rows, whole=("session", "due"))
        elif not for_program:
            stdout_output().print("Nothing is overdue." if is_overdue else "The stores hold no sessions.")
        return count

    return run(work())


def _to_document(item: RetentionItem) -> dict[str, object]:
    return {
        "store": item.store,
        "session_id": item.session_id,
        "last_used_at": item.last_used_at and item.last_used_at.isoformat(),
        "due_at": item.due_at and item.due_at.isoformat(),
        "overdue": item.is_overdue,
    }


def _to_row(item: RetentionItem) -> tuple[str, ...]:
    times = ("" if time is None else f"{time:%Y-%m-%d}" for time in (item.last_used_at, item.due_at))
    used, due = (text or _UNKNOWN for text in times)
    return item.store, item.session_id, used, due
