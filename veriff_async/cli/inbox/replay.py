"""The replay command: recorded events once more, to a URL or to the handlers of the application."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click
from anyio import to_thread
from attrs import define, field

from veriff_async import ConfigurationError, Credentials
from veriff_async._protocol.base_url import insecure_host
from veriff_async._protocol.counts import format_count
from veriff_async.cli._env_file import load_settings
from veriff_async.cli._http import check_url
from veriff_async.cli._options import env_file_option, json_option
from veriff_async.cli._runtime import ExitCode, current_command, print_json, run, stderr_output, stdout_output, warn
from veriff_async.cli._stdio import print_stderr
from veriff_async.cli.inbox.opening import InboxAddress, open_inbox
from veriff_async.cli.inbox.options import inbox_options, is_limited, make_search, search_options
from veriff_async.inbox import iter_events, replay_events, requeue_events
from veriff_async.inbox._operations import was_received

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO

    from veriff_async.inbox import ReplayedEvent, SessionSearch

__all__ = ("replay",)

# After so many events in a row that were not accepted, the receiver is certainly not ready.
_MAX_FAILURES: Final = 10
_MAX_SHOWN: Final = 20


@click.command()
@click.option("--to", "url", callback=check_url, metavar="URL", help="Post them to this address, signed again.")
@click.option("--through-handlers", is_flag=True, help="Queue them for the handlers of the application.")
@inbox_options
@search_options
@click.option("--all", "every", is_flag=True, help="Replay every session of the inbox.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    metavar="RATE",
    help="Events per second, with --to.",
)
@click.option(
    "--resume",
    "resume_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Remember finished sessions in this file, and skip those that are in it; with --to.",
)
@click.option("--dry-run", is_flag=True, help="Count the events, and send nothing.")
@env_file_option
@json_option
def replay(  # noqa: PLR0913  one for each option
    *,
    url: str | None,
    through_handlers: bool,
    address: str | None,
    prefix: str | None,
    every: bool,
    rate: float,
    resume_file: Path | None,
    dry_run: bool,
    env_file: Path | None,
    for_program: bool,
    **options: Any,  # noqa: ANN401  the search
) -> None:
    """Send recorded events once more.

    With --to, they are posted as Veriff posts them, signed with VERIFF_API_KEY and VERIFF_SHARED_SECRET, so a receiver
    with these credentials accepts them. It answers 200 for those that it has recorded before, and calls no handler for
    them. With --through-handlers they are queued in the inbox, and the workers of the application call all handlers.

    The exit code is 1 if the receiver did not accept every event.
    """
    if (url is None) != through_handlers:
        msg = "Give either --to with the address of a receiver, or --through-handlers."
        raise click.UsageError(msg)
    store, search = InboxAddress.find(address, prefix), make_search(options)
    if every == is_limited(search):
        msg = "Choose sessions, for example with --session or --since, or give --all for every session."
        raise click.UsageError(msg)
    if resume_file is not None and url is None:
        msg = "--resume is for --to only: leave it out."
        raise click.UsageError(msg)
    # Before the inbox is opened, so that a missing variable is noticed by a dry run too.
    credentials = None if url is None else Credentials.from_env(load_settings(env_file))
    if dry_run:
        _show_count(run(_count(store, search)), for_program=for_program)
    elif url is None or credentials is None:
        count = run(_requeue(store, search))
        if for_program:
            print_json({"queued": count})
        else:
            stdout_output().print(f"{format_count(count, 'event')} queued for the handlers of the application.")
    else:
        if insecure_host(url) is not None:
            warn("The events contain personal data, and http sends them unencrypted: use https.")
        progress = _ReplayProgress()
        hint = "Continue with the same command" + (
            "." if resume_file is not None else "; with --resume FILE it would skip the finished sessions."
        )
        current_command().set_resume_hint(hint)
        with _Finished(resume_file, url) as finished:
            run(_replay(progress, finished, store, search, url=url, credentials=credentials, rate=rate))
        current_command().set_resume_hint("")
        _show_result(progress, for_program=for_program)


@define
class _ReplayProgress:
    sent: int = 0
    accepted: int = 0
    in_row: int = 0
    refused: list[ReplayedEvent] = field(factory=list["ReplayedEvent"])

    @property
    def is_hopeless(self) -> bool:
        return self.in_row >= _MAX_FAILURES

    def add(self, event: ReplayedEvent) -> None:
        self.sent += 1
        if event.is_accepted:
            self.accepted += 1
            self.in_row = 0
        else:
            self.in_row += 1
            self.refused.append(event)


async def _count(store: InboxAddress, search: SessionSearch) -> tuple[int, int]:
    sessions: set[str | None] = set()
    events = 0
    async with open_inbox(store) as inbox:
        with stderr_output().status("Counting...") as show_progress:
            async with aclosing(iter_events(inbox, search)) as found:
                async for stored in found:
                    if was_received(stored.event):
                        sessions.add(stored.event.session_id)
                        events += 1
                        show_progress(f"Counting: {format_count(events, 'event')}")
    return len(sessions), events


def _show_count(count: tuple[int, int], *, for_program: bool) -> None:
    sessions, events = count
    if for_program:
        print_json({"sessions": sessions, "events": events})
    else:
        stdout_output().print(f"{format_count(events, 'event')} of {format_count(sessions, 'session')} would be sent.")


async def _requeue(store: InboxAddress, search: SessionSearch) -> int:
    async with open_inbox(store) as inbox:
        with stderr_output().status("Queueing...") as show_progress:
            return await requeue_events(
                inbox, search, on_progress=lambda count: show_progress(f"Queueing: {format_count(count, 'event')}")
            )


async def _replay(  # noqa: PLR0913  one for each option
    progress: _ReplayProgress,
    finished: _Finished,
    store: InboxAddress,
    search: SessionSearch,
    *,
    url: str,
    credentials: Credentials,
    rate: float,
) -> None:
    async with open_inbox(store) as inbox:
        with stderr_output().status("Sending...") as show_progress:
            events = replay_events(inbox, url, credentials, search=search, done=finished.sessions, rate=rate)
            async with aclosing(events):
                async for event in events:
                    progress.add(event)
                    show_progress(f"Sending: {progress.accepted} of {format_count(progress.sent, 'event')} accepted")
                    if event.is_last and event.is_accepted:
                        await to_thread.run_sync(finished.add, event.session_id)
                    if progress.is_hopeless:
                        break


class _Finished:
    """The sessions of a replay that are finished, in a file: a JSON text for each, after one that identifies the URL.

    A digest identifies the URL, because an address may contain a token. Without a path nothing is kept.
    """

    def __init__(self, path: Path | None, url: str) -> None:
        """Take the path; nothing is opened yet."""
        self._path = path
        self._head = f"veriff-async replay {hashlib.sha256(url.encode()).hexdigest()[:16]}"
        self._file: TextIO | None = None
        self.sessions: set[str | None] = set()

    def __enter__(self) -> Self:
        """Read the file, or create it for its owner alone."""
        if self._path is None:
            return self
        if self._path.exists() and not self._path.is_file():
            msg = "The file of --resume is a pipe or a device: give another one."
            raise ConfigurationError(msg)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = open(descriptor, "r+", encoding="utf-8", newline="\n")  # noqa: PTH123  `__exit__` closes it
            content = self._file.read()
        except (OSError, UnicodeDecodeError) as error:
            self._close()
            raise _resume_error(error) from None
        head, *lines = content.split("\n")
        if content and head != self._head:
            self._close()
            msg = "The file of --resume belongs to a replay to another address: give another file, or delete it."
            raise ConfigurationError(msg)
        for line in lines:
            # A killed run may have left half a line, which names no session.
            with suppress(ValueError, TypeError):
                self.sessions.add(json.loads(line))
        if not content:
            self._write(self._head)
        elif lines and lines[-1]:
            self._write("")  # ends the half line
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        self._close()

    def add(self, session_id: str | None) -> None:
        """Remember a session. Blocking.

        Raises:
            ConfigurationError: The file cannot be written.
        """
        self._write(json.dumps(session_id))

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(f"{line}\n")
            self._file.flush()
        except OSError as error:
            self._close()
            raise _resume_error(error) from None

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk, which `_write` has reported
                self._file.close()


def _resume_error(error: OSError | UnicodeDecodeError) -> ConfigurationError:
    reason = getattr(error, "strerror", None) or "it is no text"
    return ConfigurationError(f"The file of --resume cannot be used ({reason}): give another one, or make space.")


def _show_result(progress: _ReplayProgress, *, for_program: bool) -> None:
    if for_program:
        refused = [
            {
                "session_id": each.session_id,
                "kind": each.kind,
                "dedup_key": each.dedup_key,
                "http_status": each.status,
                "problem": each.problem or None,
            }
            for each in progress.refused
        ]
        print_json({"sent": progress.sent, "accepted": progress.accepted, "not_accepted": refused})
    else:
        output = stdout_output()
        for each in progress.refused[:_MAX_SHOWN]:
            reason = each.problem if each.status is None else f"HTTP {each.status}"
            output.print(f"{each.session_id or '(no session)'}  {each.kind}: {reason}", style="red")
        output.print(f"{progress.accepted} of {format_count(progress.sent, 'event')} accepted.")
    if progress.refused:
        if not for_program:
            end = f"Stopped after {_MAX_FAILURES} in a row. " if progress.is_hopeless else ""
            print_stderr(f"{end}Only a response with status 200 counts; later events of such a session were not sent.")
        raise SystemExit(ExitCode.REFUSED)
