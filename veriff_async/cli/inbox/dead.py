"""The dead commands: events whose handlers have failed for the last time, and how they are tried again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from veriff_async._protocol.counts import format_count
from veriff_async.cli._options import json_lines_option, json_option
from veriff_async.cli._output import printable
from veriff_async.cli._runtime import print_json, run, stderr_output, stdout_output
from veriff_async.cli._stdio import print_stderr, print_stdout
from veriff_async.cli.inbox import display
from veriff_async.cli.inbox.opening import InboxAddress, open_inbox
from veriff_async.cli.inbox.options import inbox_options
from veriff_async.cli.sandbox.controls import OrderedGroup
from veriff_async.inbox import retry_dead
from veriff_async.inbox._operations import find_dead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from veriff_async.inbox import DeliveryRecord

    _F = TypeVar("_F", bound=Callable[..., Any])

__all__ = ("dead",)


def _filter_options(command: _F) -> _F:
    command = click.option("--error", metavar="TEXT", help="Events whose error contains this, for example its class.")(
        command
    )
    return click.option("--session", "session_id", metavar="ID", help="Events of this session.")(command)


@click.group(cls=OrderedGroup)
def dead() -> None:
    """List and retry events whose handlers gave up."""


@dead.command("list")
@inbox_options
@_filter_options
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Show so many, the latest first.")
@json_lines_option
def list_(  # noqa: PLR0913  one for each option
    *,
    address: str | None,
    prefix: str | None,
    session_id: str | None,
    error: str | None,
    limit: int,
    for_program: bool,
) -> None:
    """List dead events, the latest first.

    Personal data is not shown. With --json, one JSON object for each line.
    """
    # One more shows whether there are more.
    records = run(_find(InboxAddress.find(address, prefix), session_id, error, limit + 1))
    shown = records[:limit]
    if for_program:
        for record in shown:
            print_stdout(json.dumps(display.dead_document(record)))
        return
    output = stdout_output()
    if shown and output.is_live:
        rows, errors = display.dead_rows(shown, time.time())
        output.print_table(display.DEAD_COLUMNS, rows, whole=("session",))
        for line in errors:
            output.print(printable(line), indent=2)
    elif shown:
        output.print_table(display.DEAD_COLUMNS, list(map(display.dead_line, shown)))
    else:
        stderr_output().print("No event is dead.")
    if len(records) > limit:
        print_stderr(
            f"There are more than {format_count(limit, 'dead event')}: raise --limit, or give --session or --error."
        )


async def _find(store: InboxAddress, session_id: str | None, error: str | None, limit: int) -> Sequence[DeliveryRecord]:
    async with open_inbox(store) as inbox:
        return await find_dead(inbox, session_id=session_id, error=error, limit=limit)


@dead.command()
@inbox_options
@_filter_options
@click.option("--all", "every", is_flag=True, help="Retry all of them.")
@click.option("--dry-run", is_flag=True, help="Count them, and change nothing.")
@json_option
def retry(  # noqa: PLR0913  one for each option
    *,
    address: str | None,
    prefix: str | None,
    session_id: str | None,
    error: str | None,
    every: bool,
    dry_run: bool,
    for_program: bool,
) -> None:
    """Queue dead events for another round of attempts.

    The workers of the application take them, and count their attempts from zero. Repair the cause first, or the events
    fail again.
    """
    if every == (session_id is not None or error is not None):
        msg = "Give --session or --error, or --all for all dead events."
        raise click.UsageError(msg)
    count = run(_retry(InboxAddress.find(address, prefix), session_id, error, dry_run=dry_run))
    if for_program:
        print_json({"would_queue" if dry_run else "queued": count})
    else:
        stdout_output().print(
            f"{format_count(count, 'dead event')} {'would be queued' if dry_run else 'queued'} again."
        )


async def _retry(store: InboxAddress, session_id: str | None, error: str | None, *, dry_run: bool) -> int:
    async with open_inbox(store) as inbox:
        if dry_run:
            return len(await find_dead(inbox, session_id=session_id, error=error))
        with stderr_output().status("Queueing...") as show_progress:
            return await retry_dead(
                inbox,
                session_id=session_id,
                error=error,
                on_progress=lambda count: show_progress(f"Queueing: {format_count(count, 'event')}"),
            )
