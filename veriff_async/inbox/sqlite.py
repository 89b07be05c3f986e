"""The inbox of one machine: a SQLite file that all its processes share. No server is needed.

One thread writes and one reads, each with its own connection; see `veriff_async._storage.sqlite_worker`. The reader
looks for commits of other processes at short intervals, and only while there are subscribers.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from veriff_async._event_loop import forget_error
from veriff_async._protocol.arguments import check_number
from veriff_async._protocol.delivery import give_back, load_names
from veriff_async._protocol.delivery_schedule import MISSING_KEY, UNREADABLE
from veriff_async._protocol.inbox_arguments import (
    check_delivery_query,
    check_erasure,
    check_extension,
    check_lease,
    check_record,
    check_requeue,
    check_search,
    check_session_id,
    check_session_ids,
    check_settlement,
    check_submission,
)
from veriff_async._storage.encrypted_text import TextCodec
from veriff_async._storage.sqlite_file import database_path
from veriff_async._storage.sqlite_scrub import remove_remains
from veriff_async._storage.sqlite_worker import WorkerGroup
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.errors import InboxError, VeriffError
from veriff_async.inbox._pubsub import Broadcaster
from veriff_async.inbox._sqlite_schema import CHANGE, ERRORS, SCHEMA
from veriff_async.inbox._sqlite_search import parse_page
from veriff_async.inbox._sqlite_watch import ChangePublisher, EventReader, EventWriter
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.inbox_search import SessionPage

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from veriff_async.encryption import KeyRing
    from veriff_async.inbox._sqlite_deliveries import LeasedRow
    from veriff_async.inbox._sqlite_search import PageStart
    from veriff_async.inbox._sqlite_store import LoadedDeliveries, SqliteEventStore
    from veriff_async.models.delivery import Delivery, DeliveryOutcome, DeliveryRecord, DeliveryStatus
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.inbox_search import InboxStatistics, SessionSearch, SessionSummary
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("SqliteInbox",)

# Seconds between two looks for commits of other processes. One look takes 50 to 200 microseconds of processor time:
# about one per cent of one core, and half of that after a second without changes.
_WATCH: Final = 0.01

_WRITER: Final = 0
_READER: Final = 1

# Sessions that one transaction erases.
_ERASED_AT_ONCE: Final = 50


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
        encryption: Keys with which the bodies of events, states and submissions are encrypted; without it they are
            readable. The ids of sessions, kinds, times and statuses always are. See `reencrypt`.

    Raises:
        ConfigurationError: The path names no file, `watch` is not above zero, or `encryption` is not a `KeyRing`.

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
        encryption: KeyRing | None = None,
    ) -> None:
        """Check the options; nothing is opened yet."""
        file = database_path(path, owner="inbox", memory="MemoryInbox")
        retention = Retention() if retention is None else check_retention(retention)
        check_number("watch", watch, above=True, remedy="give seconds above zero")
        check_clock(now)
        codec = TextCodec(encryption, error=InboxError, owner="inbox")
        # The functions below must not refer to this object, or it would never be collected and never warn.
        self._broadcaster = Broadcaster()
        publisher = ChangePublisher(self._broadcaster)
        opens: Mapping[str, Callable[[Path], SqliteEventStore]] = {
            "inbox writer": partial(EventWriter, retention=retention, now=now, codec=codec, publisher=publisher),
            "inbox reader": partial(
                EventReader, retention=retention, now=now, codec=codec, publisher=publisher, watch=watch
            ),
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

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Record an event; see `DeliveryInbox.record`."""
        check_record(event, source, deliver)
        return await self._group.run(
            lambda store: store.insert_event(event, source, deliver=deliver), worker=_WRITER, writes=True
        )

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

    async def lease(self, limit: int, *, seconds: float) -> Sequence[Delivery[WebhookEvent]]:
        """Lease events that are due; see `DeliveryInbox.lease`."""
        check_lease(limit, seconds)
        # Called about once a second by each process: the lock of the writer is only taken when an event is due.
        if not await self._group.run(lambda store: store.has_due(), worker=_READER):
            return []
        rows: list[LeasedRow] = []
        try:
            await self._group.run(lambda store: rows.extend(store.lease(limit, seconds)), worker=_WRITER, writes=True)
            # Decoded by the reader, so that other processes can write in the meantime.
            loaded = await self._group.run(lambda store: store.load_deliveries(rows), worker=_READER)
            if loaded.missing or loaded.unreadable:
                # These would come back with each lease, and keep the later events of their sessions waiting.
                await self._group.run(partial(_settle_unread, loaded=loaded), worker=_WRITER, writes=True)
        except (InboxError, asyncio.CancelledError):
            self._give_back(rows)
            raise
        if loaded.problem is not None and not loaded.found:
            raise loaded.problem
        return loaded.found

    def _give_back(self, rows: Sequence[LeasedRow]) -> None:
        """End the leases of a call that failed or was cancelled: the thread has begun them, or still will."""
        with suppress(VeriffError):  # the inbox was closed
            if workers := self._group.workers:
                # Not awaited: the caller may have been cancelled. If it fails, the leases end later.
                settling = workers[_WRITER].submit(lambda store: _give_back(store, rows), writes=True)
                settling.add_done_callback(forget_error)

    async def extend_leases(self, deliveries: Collection[Delivery[WebhookEvent]], *, seconds: float) -> frozenset[str]:
        """Let leases end later; see `DeliveryInbox.extend_leases`."""
        leases = [delivery.lease for delivery in check_extension(deliveries, seconds)]
        return await self._group.run(lambda store: store.extend_leases(leases, seconds), worker=_WRITER, writes=True)

    async def settle(self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        """Store the outcome of an attempt; see `DeliveryInbox.settle`."""
        check_settlement(delivery, outcome)
        leases = [delivery.lease]
        return await self._group.run(lambda store: store.settle(leases, outcome), worker=_WRITER, writes=True)

    async def get_deliveries(
        self, *, session_id: str | None = None, status: DeliveryStatus | None = None, limit: int = 100
    ) -> Sequence[DeliveryRecord]:
        """Return how far the handlers are; see `DeliveryInbox.get_deliveries`."""
        check_delivery_query(session_id, status, limit)
        return await self._group.run(lambda store: store.delivery_records(session_id, status, limit), worker=_READER)

    async def requeue(self, session_id: str | None, dedup_key: str) -> bool:
        """Queue a stored event again; see `DeliveryInbox.requeue`."""
        check_requeue(session_id, dedup_key)
        return await self._group.run(lambda store: store.requeue(session_id, dedup_key), worker=_WRITER, writes=True)

    async def find_sessions(self, search: SessionSearch, *, limit: int = 100, page: str | None = None) -> SessionPage:
        """Find sessions; see `SearchableInbox.find_sessions`.

        The first search for a value in a file of an earlier version adds the values of its events to the index, which
        takes about a minute for a million events. Records and other readers continue in the meantime.
        """
        check_search(search, limit, page)
        start = parse_page(page)
        has_value = search.vendor_data is not None or search.end_user_id is not None
        if has_value:
            is_complete = await self._group.run(lambda store: store.can_search_values(), worker=_READER)
            while not is_complete:
                is_complete = await self._group.run(
                    lambda store: store.index_earlier_events(), worker=_WRITER, writes=True
                )
        found: list[tuple[SessionSummary, PageStart]] = []
        # One more than the page has, since the last page must be known as the last one.
        while len(found) <= limit:
            look = partial(_find_sessions, search=search, limit=limit + 1 - len(found), start=start)
            sessions, start = await self._group.run(look, worker=_READER)
            found += sessions
            if start is None:
                break
        if has_value:  # afterwards: a process with other keys may have written sessions again in the meantime
            await self._group.run(lambda store: store.check_search_secrets(), worker=_READER)
        next_page = str(found[limit - 1][1]) if len(found) > limit else None
        return SessionPage(sessions=tuple(summary for summary, _ in found[:limit]), next_page=next_page)

    async def statistics(self) -> InboxStatistics:
        """Count what is stored and what waits; see `SearchableInbox.statistics`."""
        return await self._group.run(lambda store: store.statistics(), worker=_READER)

    async def erase(self, session_ids: Collection[str], *, refuse_for: float = 30 * 86_400.0) -> int:
        """Delete everything about sessions; see `ErasableInbox.erase`.

        It reads the whole file, for some seconds for each gigabyte, while others continue to read and write.
        """
        ids = check_erasure(session_ids, refuse_for)
        found = 0
        for start in range(0, len(ids), _ERASED_AT_ONCE):
            part = ids[start : start + _ERASED_AT_ONCE]
            found += await self._group.run(
                partial(_erase, ids=part, refuse_for=refuse_for), worker=_WRITER, writes=True
            )
        if ids:
            await self._group.run_in_thread(partial(remove_remains, change=CHANGE, owner=SCHEMA.owner))
        return found

    async def reencrypt(self) -> int:
        """Write everything again that is not encrypted with the first key of the ring, or is although it has no ring.

        Call it after a key was added, and before an old one is removed. It works in small transactions, so other
        processes continue; it may be called again after an interruption. All processes must have the new key.

        Returns:
            How many texts were written again.

        Raises:
            InboxError: Some may not have been written; call it again.
        """
        total = 0
        for table in ("event", "session"):
            start: int | None = 0
            while start is not None:
                part = partial(_reencrypt, table=table, start=start)
                written, start = await self._group.run(part, worker=_WRITER, writes=True)
                total += written
        if total:
            await self._group.run_in_thread(partial(remove_remains, change=CHANGE, owner=SCHEMA.owner))
        return total

    async def aclose(self) -> None:
        """Finish the records that were begun, and close the file.

        A second call does nothing. ``async with`` opens the file again.
        """
        await self._group.aclose()


def _find_sessions(
    store: SqliteEventStore, *, search: SessionSearch, limit: int, start: PageStart | None
) -> tuple[list[tuple[SessionSummary, PageStart]], PageStart | None]:
    return store.find_sessions(search, limit, start)


def _erase(store: SqliteEventStore, *, ids: Sequence[str], refuse_for: float) -> int:
    return store.erase(ids, refuse_for)


def _reencrypt(store: SqliteEventStore, *, table: str, start: int) -> tuple[int, int | None]:
    return store.reencrypt(table, start)


def _give_back(store: SqliteEventStore, rows: Sequence[LeasedRow], error: str | None = None) -> None:
    """End leases as if they had not begun, inside a transaction."""
    for lease, _, names, *_ in rows:
        store.settle([lease], give_back(load_names(names), error))


def _settle_unread(store: SqliteEventStore, *, loaded: LoadedDeliveries) -> None:
    """End the leases of events that this process cannot decode, inside a transaction."""
    store.settle(loaded.unreadable, UNREADABLE)
    _give_back(store, loaded.missing, MISSING_KEY)
