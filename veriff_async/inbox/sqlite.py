"""The inbox of one machine: a SQLite file that all its processes share. No server is needed.

One thread writes and one reads, each with its own connection; see `veriff_async._storage.sqlite_worker`. The reader
looks for commits of other processes at short intervals, and only while there are subscribers.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from veriff_async._protocol.arguments import check_number
from veriff_async._protocol.inbox_arguments import check_record, check_session_id, check_session_ids, check_submission
from veriff_async._storage.sqlite_file import database_path
from veriff_async._storage.sqlite_worker import WorkerGroup
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.inbox._pubsub import Broadcaster
from veriff_async.inbox._sqlite_store import ERRORS, ChangePublisher, EventReader, EventWriter
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from veriff_async.inbox._sqlite_store import SqliteEventStore
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("SqliteInbox",)

# Seconds between two looks for commits of other processes. One look takes 50 to 200 microseconds of processor time:
# about one per cent of one core, and half of that after a second without changes.
_WATCH: Final = 0.01

_WRITER: Final = 0
_READER: Final = 1


class SqliteInbox:
    """Keep events in a file that all processes of this machine may share.

    When `record` returns, the event is on the disk (SQLite's write-ahead log, ``synchronous=FULL``), and waits in every
    process wake. The file is readable for its owner only; like every inbox, it holds personal data. It must be on a
    disk of this machine, not on a network drive.

    It is opened at its first use, so it may be made before a server forks its workers (gunicorn's ``--preload``), but
    not used before that: a process refuses a file that it inherited open. It belongs to no event loop. When the file is
    deleted or replaced while it is open, records fail with an `InboxError` instead of being lost, and the next use
    opens the file that is there then.

    Args:
        path: The file. It is created if it is missing, its folder is not.
        retention: How much is kept; by default a million sessions for 30 days.
        watch: Seconds between two looks for commits of other processes; twice as long when nothing has come for a
            while.
        now: The time in seconds since 1970, for tests in which days pass. A clock that is more than a day away from the
            last record is trusted only after it has advanced by a day: until then it deletes nothing.

    Raises:
        ConfigurationError: The path names no file, or `watch` is not above zero.

    Example:
        >>> async with SqliteInbox("veriff.db") as inbox, VeriffClient.from_env(inbox=inbox) as veriff:
        ...     decision = await veriff.session(session_id).wait_for_decision()

    See https://sqlite.org/wal.html.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retention: Retention | None = None,
        watch: float = _WATCH,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Check the options; nothing is opened yet."""
        file = database_path(path, owner="inbox", memory="MemoryInbox")
        retention = Retention() if retention is None else check_retention(retention)
        check_number("watch", watch, above=True, remedy="give seconds above zero")
        check_clock(now)
        # The functions below must not refer to this object, or it would never be collected and never warn.
        self._broadcaster = Broadcaster()
        publisher = ChangePublisher(self._broadcaster)
        opens: Mapping[str, Callable[[Path], SqliteEventStore]] = {
            "inbox writer": partial(EventWriter, retention=retention, now=now, publisher=publisher),
            "inbox reader": partial(EventReader, retention=retention, now=now, publisher=publisher, watch=watch),
        }
        self._group = WorkerGroup(file, opens, ERRORS, reopens=True, on_end=self._broadcaster.end)

    def __repr__(self) -> str:
        """Show whether it is open; a path may hold the name of a person."""
        return f"<SqliteInbox {'open' if self._group.is_open else 'not open'}>"

    def __del__(self) -> None:
        """Warn if it was left open, and end its threads."""
        if hasattr(self, "_group"):
            self._group.warn_if_open(self)

    async def __aenter__(self) -> Self:
        """Open the file, also after it was closed: a framework may start and stop an application many times.

        Raises:
            ConfigurationError: It is not an inbox, or of a newer version.
            InboxError: It cannot be opened.
        """
        await self._group.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, unless another ``async with`` block uses this inbox."""
        await self._group.leave()

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        """Record an event; see `Inbox.record`."""
        check_record(event, source)
        return await self._group.run(lambda store: store.insert_event(event, source), worker=_WRITER, writes=True)

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return the states of sessions; see `Inbox.get_states`."""
        wanted = check_session_ids(session_ids)
        return await self._group.run(lambda store: store.states(wanted), worker=_READER)

    async def save_submission(self, session_id: str, submission: str) -> None:
        """Store a text for a session; see `SubmissionInbox.save_submission`."""
        check_submission(session_id, submission)
        await self._group.run(lambda store: store.save_submission(session_id, submission), worker=_WRITER, writes=True)

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change in any process; see `Inbox.subscribe`."""
        self._group.check_open()
        async with aclosing(self._broadcaster.subscribe()) as changes:
            await anext(changes)
            await self._group.run(lambda _: None, worker=_READER)  # when this returns, the reader watches
            yield None
            async for session_id in changes:
                yield session_id

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.get_events`."""
        check_session_id(session_id)
        return await self._group.run(lambda store: store.events(session_id), worker=_READER)

    async def aclose(self) -> None:
        """Finish the records that were begun, and close the file.

        A second call does nothing. ``async with`` opens the file again.
        """
        await self._group.aclose()
