"""The rows of an inbox in SQLite; synchronous, each connection for one thread.

A session is a row with its state; its events are rows of another table. Each event has a number, and a session has the
number of the event that changed its state last, so "the sessions that changed after number N" is one query. Numbers are
taken inside write transactions, of which SQLite allows one at a time in all processes. So a reader that sees a number
sees every lower one too, and subscribers miss nothing.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async._logging import log_fields
from veriff_async._protocol.inbox_clock import InboxClock
from veriff_async._protocol.session_state import apply_event, dump_state, load_state
from veriff_async._protocol.webhook import dump_event, load_event
from veriff_async._storage.sqlite_file import Database, Schema
from veriff_async._storage.sqlite_worker import StoreErrors
from veriff_async.errors import DecodeError, InboxError
from veriff_async.models.state import RecordResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from veriff_async.config import Retention
    from veriff_async.inbox._pubsub import Broadcaster
    from veriff_async.models.decision_source import DecisionSource
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("ERRORS", "ChangePublisher", "EventReader", "EventWriter", "SqliteEventStore")

_LOG: Final = logging.getLogger("veriff_async.inbox")

# Seconds to wait for another process that writes; below the five in which Veriff wants an answer to a webhook.
_BUSY_TIMEOUT: Final = 3.0

# Ids in one query, and sessions that are deleted in one transaction: other processes want to write too.
_CHUNK_SIZE: Final = 500

# Seconds after which the write-ahead log is emptied of deleted content again, while further jobs wait.
_PURGE_INTERVAL: Final = 1.0

# How long emptying the log waits for readers; it is tried again later.
_PURGE_BUSY_MILLISECONDS: Final = 100

# Looks without a change after which the reader looks half as often, until something changes.
_IDLE_LOOKS: Final = 100

_DAY: Final = 86_400.0

# Seconds by which the time must have advanced before it is written again.
_CLOCK_STEP: Final = 60.0

_SUBMISSION: Final = "(SELECT text FROM submission WHERE submission.session = session.id)"

_VERSION: Final = 3
_SCHEMA: Final = Schema(
    owner="inbox",
    application_id=0,
    version=_VERSION,
    script=f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS session (
    id BLOB NOT NULL UNIQUE, -- as UTF-8; empty for events of no session
    state BLOB, -- NULL before the first event with a state
    changed INTEGER NOT NULL, -- number of the event that changed the state last
    events INTEGER NOT NULL,
    touched REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS session_changed ON session (changed);
CREATE INDEX IF NOT EXISTS session_touched ON session (touched);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, so that subscribers miss nothing
    session BLOB NOT NULL,
    key BLOB NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (session, key)
);
CREATE INDEX IF NOT EXISTS event_order ON event (session, number);
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    trusted REAL NOT NULL, -- see veriff_async/_protocol/inbox_clock.py
    suspect REAL
);
CREATE TABLE IF NOT EXISTS submission (
    session BLOB PRIMARY KEY, -- a session with a row of its own
    text BLOB NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
COMMIT;
""",
)

ERRORS: Final = StoreErrors(
    owner="inbox",
    error=InboxError,
    reopen="open it again with `async with`, or make another one",
    after_loss="find out what does that, and try again",
    after_failure="try again, a new thread is started",
    log=_LOG,
)


class SqliteEventStore(Database):
    """The sessions and events of an inbox, through one connection.

    Args:
        path: The file.
        retention: How much is kept.
        now: The time in seconds since 1970.
    """

    def __init__(self, path: Path, retention: Retention, now: Callable[[], float]) -> None:
        """Open the file; see `Database`."""
        super().__init__(path, _SCHEMA, timeout=_BUSY_TIMEOUT)
        self._retention = retention
        self._now = now
        self._next_count_at = 0
        self._time = self._reference_time = 0.0
        self._has_warned = False
        self._is_stale = False  # whether the write-ahead log still has deleted content

    def last_change(self) -> int:
        """Return the number of the last change of a state."""
        number: int | None = self._db.execute("SELECT max(changed) FROM session").fetchone()[0]
        return number or 0

    def changes_after(self, number: int) -> list[tuple[int, str]]:
        """Return the states that changed later: numbers and sessions."""
        rows = self._db.execute("SELECT changed, id FROM session WHERE changed > ? ORDER BY changed", (number,))
        return [(changed, _decode(session)) for changed, session in rows]

    def insert_event(self, event: WebhookEvent, source: DecisionSource) -> RecordResult:
        """Record an event, inside a transaction.

        Raises:
            InboxError: The stored state of its session cannot be read.
            InvalidArgumentError: Its ``raw`` is not JSON.
        """
        body = dump_event(event)  # first: the key is a digest of the same JSON, and its error would blame the file
        session, key, now = _encode(event.session_id or ""), _encode(event.dedup_key), self._time
        before, events, submission = self._get_session(session)
        # The key finds a repetition although other events came in between; a deleted event counts as new again.
        existing = self._db.execute("SELECT 1 FROM event WHERE session = ? AND key = ?", (session, key)).fetchone()
        state, ignored = apply_event(before, event, source, is_duplicate=existing is not None, recorded_at=now)
        text = None if state is None or state is before else dump_state(state)
        # All steps that can fail for this event alone are done: an error must not leave an event without its state.
        number = self._insert(session, event, body) if existing is None else self._next_number()
        self._db.execute(
            "INSERT INTO session (id, state, changed, events, touched) VALUES (?, ?, ?, 1, ?) "
            "ON CONFLICT DO UPDATE SET state = ifnull(excluded.state, state), "
            "changed = max(excluded.changed, changed), events = events + ?, touched = excluded.touched",
            (session, text, number if text else 0, now, existing is None),
        )
        if existing is None and events >= self._retention.max_events_per_session:
            self._delete_first_event(session)
        if state is not None and submission is not None:
            state = evolve(state, submission=submission)
        return RecordResult(event=event, state=state, ignored=ignored)

    def save_submission(self, session_id: str, text: str) -> None:
        """Store a text for a session, inside a transaction."""
        session = _encode(session_id)
        self._get_session(session)  # deletes it if it has expired: its old state must not become visible again
        self._db.execute(
            "INSERT INTO session (id, state, changed, events, touched) VALUES (?, NULL, 0, 0, ?) "
            "ON CONFLICT DO UPDATE SET touched = excluded.touched",
            (session, self._time),
        )
        self._db.execute("INSERT OR REPLACE INTO submission (session, text) VALUES (?, ?)", (session, _encode(text)))

    def states(self, session_ids: Sequence[str]) -> dict[str, SessionState]:
        """Return the states of those sessions that have one.

        Raises:
            InboxError: The stored state of one cannot be read.
        """
        oldest = self._oldest_kept()
        states: dict[str, SessionState] = {}
        for chunk in _chunks([_encode(session_id) for session_id in session_ids]):
            marks = ",".join("?" * len(chunk))
            columns = f"state, touched, {_SUBMISSION}"
            query = f"SELECT {columns} FROM session WHERE state NOT NULL AND touched > ? AND id IN ({marks})"  # noqa: S608  marks
            for text, touched, submission in self._db.execute(query, (oldest, *chunk)):
                state = _load_state(text)
                states[state.session_id] = evolve(
                    state, submission=_decode_or_none(submission), recorded_at=float(touched)
                )
        return states

    def events(self, session_id: str | None) -> tuple[WebhookEvent, ...]:
        """Return the events of a session in their order.

        Raises:
            InboxError: One of them cannot be read.
        """
        oldest = self._oldest_kept()
        rows = self._db.execute(
            "SELECT kind, body FROM event WHERE session = (SELECT id FROM session WHERE id = ? AND touched > ?) "
            "ORDER BY number",
            (_encode(session_id or ""), oldest),
        )
        return tuple(_load_event(kind, body) for kind, body in rows)

    def _insert(self, session: bytes, event: WebhookEvent, body: bytes) -> int:
        """Insert an event, and return its number."""
        row = (session, _encode(event.dedup_key), event.kind, body)
        return self._db.execute("INSERT INTO event (session, key, kind, body) VALUES (?, ?, ?, ?)", row).lastrowid or 0

    def _next_number(self) -> int:
        """Take a number of the sequence of events for a change that adds no event."""
        self._db.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'event'")
        number: int = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()[0]
        return number

    def _get_session(self, session: bytes) -> tuple[SessionState | None, int, str | None]:
        """Return the state of a session, the number of its events, and its submission."""
        query = f"SELECT state, events, touched, {_SUBMISSION} FROM session WHERE id = ?"  # noqa: S608  a fixed text
        row = self._db.execute(query, (session,)).fetchone()
        if row is None:
            return None, 0, None
        text, events, touched, submission = row
        # Expired, although no record has deleted it yet: its old state must not decide about a new event.
        if touched <= self._reference_time - self._retention.max_age:
            self._delete([session])
            return None, 0, None
        return None if text is None else _load_state(text), events, _decode_or_none(submission)

    def _delete_old(self) -> None:
        oldest = self._reference_time - self._retention.max_age
        self._delete_oldest("WHERE touched <= ?", (oldest,), _CHUNK_SIZE)
        last: int = self._db.execute("SELECT ifnull(max(rowid), 0) FROM session").fetchone()[0]
        if last < self._next_count_at:
            return
        # Row ids only grow, so their maximum bounds how many sessions were added since the last count.
        # Counting reads every row, so it is repeated only when so many may have been added that it matters.
        most = self._retention.max_sessions
        count: int = self._db.execute("SELECT count(*) FROM session").fetchone()[0]
        if count > most:
            # One per cent more than needed, so that not every record has to delete.
            self._delete_oldest("", (), min(_CHUNK_SIZE, count - most + most // 100))
        self._next_count_at = last + max(1, most - count)

    def _delete_oldest(self, which: str, values: tuple[float, ...], most: int) -> None:
        query = f"SELECT id FROM session {which} ORDER BY touched LIMIT ?"  # noqa: S608  a fixed text
        self._delete([session for (session,) in self._db.execute(query, (*values, most))])

    def _delete(self, sessions: list[bytes]) -> None:
        self._is_stale |= bool(sessions)
        for session in sessions:
            self._db.execute("DELETE FROM event WHERE session = ?", (session,))
            self._db.execute("DELETE FROM submission WHERE session = ?", (session,))
            self._db.execute("DELETE FROM session WHERE id = ?", (session,))

    def _delete_first_event(self, session: bytes) -> None:
        self._is_stale = True
        first = "SELECT min(number) FROM event WHERE session = ?"
        self._db.execute(f"DELETE FROM event WHERE number = ({first})", (session,))  # noqa: S608  a fixed text
        self._db.execute("UPDATE session SET events = events - 1 WHERE id = ?", (session,))

    def _observe_clock(self) -> None:
        """Set the time of this transaction, and the time that ages are measured against."""
        now, before = self._now(), self._load_clock()
        clock = InboxClock(now) if before is None else before.observe(now)
        self._reference_time = clock.reference(now)
        self._time = max(now, self._reference_time)
        # Not at every record: the row would be rewritten for each commit.
        if before is None or clock.suspect != before.suspect or abs(clock.trusted - before.trusted) >= _CLOCK_STEP:
            values = (clock.trusted, clock.suspect)
            self._db.execute("INSERT OR REPLACE INTO clock (id, trusted, suspect) VALUES (1, ?, ?)", values)
        if clock.suspect is not None and not self._has_warned:
            self._warn_of_clock(now - clock.trusted)

    def _warn_of_clock(self, ahead: float) -> None:
        """Warn once that the clock is suspect, unless no session is old enough to be affected."""
        oldest = self._reference_time + ahead - self._retention.max_age
        if ahead > 0 and not self._db.execute("SELECT 1 FROM session WHERE touched <= ?", (oldest,)).fetchone():
            return
        self._has_warned = True
        _LOG.warning(
            "The clock of this process is %.0f days %s the last record in the inbox: it deletes no session until it "
            "has advanced by a day; check the clock, unless nothing was recorded for so long.",
            abs(ahead) / _DAY,
            "after" if ahead > 0 else "before",
            extra=log_fields(days=ahead / _DAY),
        )

    def _load_clock(self) -> InboxClock | None:
        row = self._db.execute("SELECT trusted, suspect FROM clock").fetchone()
        return None if row is None else InboxClock(*row)

    def _oldest_kept(self) -> float:
        """Return the time after which a session must have been touched to be visible to a reader."""
        now, clock = self._now(), self._load_clock()
        return (now if clock is None else clock.observe(now).reference(now)) - self._retention.max_age


class ChangePublisher:
    """Publishes the sessions whose states changed, each change once; shared by the writer and the reader of an inbox.

    The writer reports after its commits, the reader when another connection has committed. Both publish "everything
    after the last number", so the reader does not have to know which changes the writer has published already.
    """

    def __init__(self, broadcaster: Broadcaster) -> None:
        """Take the subscribers."""
        self.broadcaster = broadcaster
        self._lock = Lock()
        self._last_number: int | None = None

    def start(self, store: SqliteEventStore) -> None:
        """Start with later changes; the first subscriber reads all states after this, earlier changes included."""
        with self._lock:
            self._last_number = store.last_change()

    def stop(self) -> None:
        """Publish nothing until the next start: without subscribers, the changes in between are of no use."""
        with self._lock:
            self._last_number = None

    def publish(self, store: SqliteEventStore) -> None:
        """Publish what has changed since the last call, unless the reader has not started the watch yet."""
        with self._lock:
            changes = [] if self._last_number is None else store.changes_after(self._last_number)
            if changes:
                self._last_number = changes[-1][0]
                self.broadcaster.publish(session_id for _, session_id in changes)


class EventWriter(SqliteEventStore):
    """The connection that records events."""

    def __init__(
        self, path: Path, retention: Retention, now: Callable[[], float], *, publisher: ChangePublisher
    ) -> None:
        """Open the file, and take who publishes changes."""
        super().__init__(path, retention, now)
        self._publisher = publisher
        self._purged_at = -_PURGE_INTERVAL

    @property
    def idle_seconds(self) -> float | None:
        """When to empty the log, if it has deleted content."""
        return _PURGE_INTERVAL if self._is_stale else None

    def begin(self, *, writes: bool) -> None:
        """Begin a transaction at the time of the clock."""
        super().begin(writes=writes)
        self._observe_clock()

    def commit(self) -> None:
        """Delete what is too old, and commit."""
        # Inside the transaction, so that retention needs no timer and no lock of its own.
        self._delete_old()
        super().commit()

    def after_commit(self, *, is_idle: bool) -> None:
        """Wake the subscribers, and keep deleted content out of the log."""
        if self._publisher.broadcaster.count:
            try:
                self._publisher.publish(self)
            except sqlite3.Error as error:  # the events are recorded all the same
                self._publisher.broadcaster.end(ERRORS.from_exception(error))
        # While other jobs wait the log is emptied once a second at most, since that takes another wait for the disk.
        if self._is_stale and (is_idle or time.monotonic() - self._purged_at >= _PURGE_INTERVAL):
            self.on_idle()

    def on_idle(self) -> None:
        """Empty the log."""
        with suppress(sqlite3.Error):
            self._purge()
        self._purged_at = time.monotonic()

    def close(self) -> None:
        """Empty the log, and close the file."""
        if self._is_stale:
            self.on_idle()
        super().close()

    def _purge(self) -> None:
        """Empty the write-ahead log, which has the pages as they were before something was deleted."""
        self._db.execute(f"PRAGMA busy_timeout = {_PURGE_BUSY_MILLISECONDS}")
        try:
            self._is_stale = bool(self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT * 1000)}")


class EventReader(SqliteEventStore):
    """The connection that reads, and that looks for commits of other processes while there are subscribers."""

    def __init__(
        self,
        path: Path,
        retention: Retention,
        now: Callable[[], float],
        *,
        publisher: ChangePublisher,
        watch: float,
    ) -> None:
        """Open the file, and take who publishes changes and the seconds between two looks."""
        super().__init__(path, retention, now)
        self._publisher = publisher
        self._watch = watch
        self._data_version: int | None = None
        self._idle_looks = 0

    @property
    def idle_seconds(self) -> float | None:
        """When to look again, if anyone subscribes."""
        if not self._publisher.broadcaster.count:
            return None
        return self._watch if self._idle_looks < _IDLE_LOOKS else 2 * self._watch

    def begin(self, *, writes: bool) -> None:  # noqa: ARG002  it never writes
        """Look for changes, without a transaction: each query has a snapshot of its own.

        A new subscriber relies on the watch as soon as its (empty) job is done, so the look comes before that job.
        """
        self.check_file()
        self._look()

    def commit(self) -> None:
        """Do nothing: `begin` has not begun a transaction."""

    def rollback(self) -> None:
        """Do nothing: `begin` has not begun a transaction."""

    def on_idle(self) -> None:
        """Look for changes."""
        self._idle_looks += 1
        self.check_file()
        self._look()

    def _look(self) -> None:
        if not self._publisher.broadcaster.count:
            self._data_version = None
            self._publisher.stop()
            return
        try:
            # It is another number after each commit of another connection, in any process, and cheap to ask for.
            version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                return
            if self._data_version is None:
                self._publisher.start(self)
            else:
                self._publisher.publish(self)
            self._data_version = version
            self._idle_looks = 0
        except Exception as error:  # noqa: BLE001  others may have written anything into the file
            self._data_version = None
            self._publisher.broadcaster.end(ERRORS.from_exception(error))


def _chunks(ids: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(ids), _CHUNK_SIZE):
        yield ids[start : start + _CHUNK_SIZE]


def _encode(text: str) -> bytes:
    # JSON can hold half a surrogate pair, SQLite's texts cannot.
    return text.encode("utf-8", "surrogatepass")


def _decode(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogatepass")


def _decode_or_none(stored: object) -> str | None:
    return _decode(stored) if isinstance(stored, bytes) else None


def _load_state(text: object) -> SessionState:
    # SQLite lets other programs put any kind of value into a column.
    with suppress(DecodeError):
        if isinstance(text, bytes):
            return load_state(text)
    raise _unreadable()


def _load_event(kind: object, body: object) -> WebhookEvent:
    with suppress(DecodeError):
        if isinstance(kind, str) and isinstance(body, bytes):
            return load_event(kind, body)
    raise _unreadable()


def _unreadable() -> InboxError:
    return InboxError(
        "A stored session or event cannot be read: check whether another program has written to the inbox's file."
    )
