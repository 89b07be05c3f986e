"""The inbox commands that read: list, show, export, stats; replay and dead are in modules of their own."""

from __future__ import annotations

import json
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from anyio import to_thread
from attrs import asdict

from veriff_async import ConfigurationError
from veriff_async._protocol.counts import format_count
from veriff_async._protocol.webhook import dump_event
from veriff_async.cli._options import json_lines_option, json_option
from veriff_async.cli._output import printable
from veriff_async.cli._runtime import print_json, run, stderr_output, stdout_output
from veriff_async.cli._stdio import OutputError, print_stderr, print_stdout
from veriff_async.cli.inbox import display
from veriff_async.cli.inbox.dead import dead
from veriff_async.cli.inbox.export_file import ExportFile
from veriff_async.cli.inbox.opening import InboxAddress, open_inbox
from veriff_async.cli.inbox.options import inbox_options, make_search, search_options
from veriff_async.cli.inbox.replay import replay
from veriff_async.cli.sandbox.controls import OrderedGroup
from veriff_async.inbox import export_events, iter_sessions
from veriff_async.inbox._operations import events_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.inbox import InboxStatistics, SessionSearch, SessionState, SessionSummary, StoredEvent

__all__ = ("inbox",)

# Characters that are written to a file at once.
_CHUNK: Final = 262_144


@click.group(cls=OrderedGroup)
def inbox() -> None:
    """Find, show, export, replay and repair what an inbox has recorded.

    The application may keep running. Nothing is deleted, and no inbox is created. Use the version of veriff-async that
    the application uses: a newer one may upgrade a SQLite file, which older ones then refuse.
    """


@inbox.command("list")
@inbox_options
@search_options
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="Show so many, those with the latest event."
)
@json_lines_option
def list_(*, address: str | None, prefix: str | None, limit: int, for_program: bool, **options: Any) -> None:  # noqa: ANN401  the search
    """List sessions, the latest first.

    The latest is the one with the latest event; the column "last" is the age of that event. "queued" and "dead" count
    events by the progress of their handlers. Personal data is not shown. A pipe gets session, status, events, queued,
    dead and the time of the last event, separated by tabs; with --json, one JSON object for each line.
    """
    has_more = run(_list(InboxAddress.find(address, prefix), make_search(options), limit, for_program=for_program))
    if has_more and not for_program:
        print_stderr(f"There are more than {format_count(limit, 'session')}: raise --limit, or narrow the search.")


async def _list(store: InboxAddress, search: SessionSearch, limit: int, *, for_program: bool) -> bool:
    found: list[SessionSummary] = []
    has_more = False
    async with open_inbox(store) as inbox, aclosing(iter_sessions(inbox, search)) as sessions:
        async for session in sessions:
            if len(found) == limit:
                has_more = True
                break
            found.append(session)
    if for_program:
        for session in found:
            print_stdout(json.dumps(display.session_document(session)))
        return has_more
    output, now = stdout_output(), time.time()
    if found:
        rows = [display.session_row(each, now) if output.is_live else display.session_line(each) for each in found]
        output.print_table(display.SESSION_COLUMNS, rows, whole=("session",))
    else:
        stderr_output().print("No session matches.")
    return has_more


@inbox.command()
@click.argument("session_id", metavar="ID")
@inbox_options
@click.option("--raw", is_flag=True, help="Also print the webhooks as they were received, with all personal data.")
@json_option
def show(*, session_id: str, address: str | None, prefix: str | None, raw: bool, for_program: bool) -> None:
    """Show the state and events of session ID.

    The events are in the order of recording, with the progress of their handlers. Personal data is shown with --raw
    only. The exit code is 1 if the inbox has no event of the session.
    """
    state, events = run(_read_session(InboxAddress.find(address, prefix), session_id))
    if not events:
        msg = "The inbox has no event of this session: check the id, and that the inbox is that of its integration."
        raise ConfigurationError(msg)
    if for_program:
        documents = [
            display.event_document(each) | ({"event": json.loads(dump_event(each.event))} if raw else {})
            for each in events
        ]
        print_json({**display.state_document(session_id, state), "events": documents})
        return
    output = stdout_output()
    decision = None if state is None or state.decision is None else f"{state.decision.status} {state.decision.code}"
    shown: dict[str, str | int | None] = {
        "session": session_id,
        "status": None if state is None else str(state.status),
        "decision": decision,
        "attempts": len(state.attempts) if state is not None else 0,
        "events": len(events),
    }
    output.print_fields("State", shown)
    output.print_table(display.EVENT_COLUMNS, [display.event_row(each) for each in events], title="Events")
    for sentence in display.errors_of(events):
        output.print(printable(sentence), style="red", indent=2)
    if raw:
        for each in events:
            body = json.dumps(json.loads(dump_event(each.event)), indent=2, ensure_ascii=False)
            output.print("\n".join(map(printable, body.splitlines())))


async def _read_session(store: InboxAddress, session_id: str) -> tuple[SessionState | None, Sequence[StoredEvent]]:
    async with open_inbox(store) as inbox:
        states = await inbox.get_states([session_id])
        return states.get(session_id), await events_of(inbox, session_id)


@inbox.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), default="-")
@inbox_options
@search_options
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
def export(
    *,
    file: Path,
    address: str | None,
    prefix: str | None,
    force: bool,
    for_program: bool,
    **options: Any,  # noqa: ANN401  the search
) -> None:
    """Write events to FILE as JSON lines.

    Without FILE they go to standard output. Each line is a webhook with all its personal data, and the progress of its
    handlers. A new file can be read by its owner alone, and appears when it is complete.
    """
    store, search = InboxAddress.find(address, prefix), make_search(options)
    if str(file) == "-":
        run(_print_events(store, search))
        return
    if file.exists() and not force:
        msg = "FILE exists: give another name, or --force to replace it."
        raise click.UsageError(msg)
    with ExportFile(file) as target:
        count = run(_save_events(store, search, target))
        target.finish()
    if for_program:
        print_json({"events": count})
    else:
        stderr_output().print(f"{format_count(count, 'event')} written.")


async def _print_events(store: InboxAddress, search: SessionSearch) -> None:
    async with open_inbox(store) as inbox, aclosing(export_events(inbox, search)) as lines:
        try:
            async for line in lines:
                print_stdout(line)
        except OutputError as error:
            if not error.is_pipe:  # the reader of a pipe may end on purpose, like head
                raise


async def _save_events(store: InboxAddress, search: SessionSearch, target: ExportFile) -> int:
    count = size = 0
    waiting: list[str] = []
    async with open_inbox(store) as inbox:
        with stderr_output().status("Exporting...") as show_progress:
            async with aclosing(export_events(inbox, search)) as lines:
                async for line in lines:
                    waiting.append(line)
                    count, size = count + 1, size + len(line)
                    if size >= _CHUNK:
                        await to_thread.run_sync(target.write_lines, waiting)
                        waiting, size = [], 0
                        show_progress(f"Exporting: {format_count(count, 'event')}")
        await to_thread.run_sync(target.write_lines, waiting)
    return count


@inbox.command()
@inbox_options
@json_option
def stats(*, address: str | None, prefix: str | None, for_program: bool) -> None:
    """Count sessions, events and waiting events."""
    statistics = run(_statistics(InboxAddress.find(address, prefix)))
    if for_program:
        print_json(asdict(statistics))
    else:
        stdout_output().print_fields("Inbox", display.statistics_fields(statistics))


async def _statistics(store: InboxAddress) -> InboxStatistics:
    async with open_inbox(store) as inbox:
        return await inbox.statistics()


inbox.add_command(replay)
inbox.add_command(dead)
