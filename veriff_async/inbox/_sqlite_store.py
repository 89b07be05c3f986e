"""What an inbox writes to SQLite and reads from it; synchronous, for one thread and one connection.

A session is a row with its state, which changed with the event of that number; its events are rows beside it.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.inbox_clock import Clock
from veriff_async._protocol.session_state import apply_event, dump_state, load_state
from veriff_async._protocol.webhook import dump_event, load_event
from veriff_async._storage.sqlite_file import FileGuard, close_database, open_database
from veriff_async.errors import ConfigurationError, DecodeError, InboxError
from veriff_async.models.state import RecordResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from veriff_async.config import Retention
    from veriff_async.models.decision import DecisionSource
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("Shelves", "opened")

_LOG: Final = logging.getLogger("veriff_async.inbox")

_VERSION: Final = 2
_BUSY: Final = 3.0
"""Seconds to wait for another process that writes; below the five in which a webhook is to be answered."""

_PAUSE: Final = 0.005
"""Seconds between two tries of what SQLite does not wait for itself."""

_AT_ONCE: Final = 500
"""Ids in one question, and sessions that are forgotten in one transaction: other processes want to write too."""

_PURGE_BUSY: Final = 100
"""Milliseconds to wait for readers before the write-ahead log is emptied; it is tried again later."""

_DAY: Final = 86_400.0

_STEP: Final = 60.0
"""Seconds by which the time must have gone on before it is written again."""

_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS session (
    id BLOB NOT NULL UNIQUE, -- as UTF-8; empty for events of no session
    state BLOB, -- NULL while no event has told one
    changed INTEGER NOT NULL, -- number of the event that changed the state last
    events INTEGER NOT NULL,
    touched REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS session_changed ON session (changed);
CREATE INDEX IF NOT EXISTS session_touched ON session (touched);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, so that whoever follows misses nothing
    session BLOB NOT NULL,
    key BLOB NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (session, key)
);
CREATE INDEX IF NOT EXISTS event_order ON event (session, number);
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    believed REAL NOT NULL, -- see veriff_async/_protocol/inbox_clock.py
    doubted REAL
);
PRAGMA user_version = 2;
COMMIT;
"""


def opened(path: Path) -> sqlite3.Connection:
    """Open the file of an inbox, or make it for its owner alone.

    Raises:
        ConfigurationError: It is no inbox, of a newer version, on a disk that cannot be shared, or was inherited open.
        sqlite3.Error: It cannot be opened.
        OSError: It cannot be made.
    """
    connection = open_database(path, timeout=_BUSY, owner="inbox")
    try:
        _prepare(connection)
    except BaseException:
        close_database(connection)
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    # In one statement, so that a file which another process makes at this moment is seen before or after that.
    look = "SELECT (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)"
    version, tables = connection.execute(look).fetchone()
    if version > _VERSION or (version == 0 and tables):
        msg = "The inbox's file is none, or of a newer veriff-async: give another path, or install the newer version."
        raise ConfigurationError(msg)
    if _journal(connection) != "wal":
        msg = "The inbox's file lies where processes cannot share it: put it on a disk of this machine."
        raise ConfigurationError(msg)
    connection.execute("PRAGMA synchronous = FULL")
    if version < _VERSION:
        connection.executescript(_SCHEMA)


def _journal(connection: sqlite3.Connection) -> str:
    """Turn the write-ahead log on; SQLite itself does not wait for others that do so at the same moment."""
    given_up = time.monotonic() + _BUSY
    while True:
        try:
            found: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > given_up:
                raise
            time.sleep(_PAUSE)
        else:
            return found


class Shelves:
    """The rows of an inbox, through one connection."""

    def __init__(
        self, connection: sqlite3.Connection, guard: FileGuard, retention: Retention, now: Callable[[], float]
    ) -> None:
        """Take an open connection."""
        self._db = connection
        self._guard = guard
        self._retention = retention
        self._now = now
        self._count_at = 0
        self._time = self._age_at = 0.0
        self._warned = False
        self.is_stale: bool = False
        """Whether the write-ahead log still has what was deleted."""
        self.changed: list[tuple[int, str]] = []
        """What the transaction under way has changed: numbers and sessions."""

    def close(self) -> None:
        """Close the connection."""
        if self.is_stale:
            with suppress(sqlite3.Error):
                self.purge()
        close_database(self._db)

    def begin(self) -> None:
        """Begin to write."""
        self.changed.clear()
        self._db.execute("BEGIN IMMEDIATE")
        self._observe()

    def commit(self) -> None:
        """Forget what is too old, and put everything on the disk.

        Raises:
            FileReplacedError: The file was deleted or replaced, so that nothing of it may be there.
        """
        self._forget_old()
        self._db.execute("COMMIT")
        self._guard.check()

    def check(self) -> None:
        """Look whether the file is still the one that was opened.

        Raises:
            FileReplacedError: It was deleted or replaced.
        """
        self._guard.check()

    def let_go(self) -> None:
        """Keep what was written here from a file that has replaced this one."""
        self._guard.let_go(self._db)

    def rollback(self) -> None:
        """Undo what was begun, if SQLite has not done so itself."""
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    def purge(self) -> None:
        """Empty the write-ahead log, which has the pages as they were before something was deleted."""
        self._db.execute(f"PRAGMA busy_timeout = {_PURGE_BUSY}")
        try:
            self.is_stale = bool(self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {int(_BUSY * 1000)}")

    def _observe(self) -> None:
        """Set the time of the transaction under way, and the one that ages are measured against."""
        now, before = self._now(), self._clock()
        clock = Clock(now) if before is None else before.observe(now)
        self._age_at = clock.reference(now)
        self._time = max(now, self._age_at)
        if before is None or clock.doubted != before.doubted or abs(clock.believed - before.believed) >= _STEP:
            values = (clock.believed, clock.doubted)
            self._db.execute("INSERT OR REPLACE INTO clock (id, believed, doubted) VALUES (1, ?, ?)", values)
        if clock.doubted is not None and not self._warned:
            self._warn(now - clock.believed)

    def _warn(self, ahead: float) -> None:
        """Say once that a clock is doubted, unless it would make no difference."""
        oldest = self._age_at + ahead - self._retention.max_age
        if ahead > 0 and not self._db.execute("SELECT 1 FROM session WHERE touched <= ?", (oldest,)).fetchone():
            return
        self._warned = True
        _LOG.warning(
            "the clock of this process is %.0f days %s the last record in the inbox: no session is forgotten by it "
            "before it has gone on for a day; check the clock, unless nothing was recorded for so long",
            abs(ahead) / _DAY,
            "after" if ahead > 0 else "before",
        )

    def _clock(self) -> Clock | None:
        row = self._db.execute("SELECT believed, doubted FROM clock").fetchone()
        return None if row is None else Clock(*row)

    def _oldest(self) -> float:
        """Return since when a session must have been touched to be kept, for a reader."""
        now, clock = self._now(), self._clock()
        return (now if clock is None else clock.observe(now).reference(now)) - self._retention.max_age

    def version(self) -> int:
        """Return a number that is another one after each commit of another connection."""
        found: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return found

    def last_change(self) -> int:
        """Return the number of the last change of a state."""
        found: int | None = self._db.execute("SELECT max(changed) FROM session").fetchone()[0]
        return found or 0

    def changes_after(self, number: int) -> list[tuple[int, str]]:
        """Return the states that changed later: numbers and sessions."""
        rows = self._db.execute("SELECT changed, id FROM session WHERE changed > ? ORDER BY changed", (number,))
        return [(changed, _text(session)) for changed, session in rows]

    def keep(self, event: WebhookEvent, source: DecisionSource) -> RecordResult:
        """Keep an event, inside a transaction.

        Raises:
            InboxError: What is kept of its session cannot be read.
        """
        session, key, now = _bytes(event.session_id or ""), _bytes(event.dedup_key), self._time
        before, events = self._found(session)
        kept = self._db.execute("SELECT 1 FROM event WHERE session = ? AND key = ?", (session, key)).fetchone()
        state, ignored = apply_event(before, event, source, is_duplicate=kept is not None, recorded_at=now)
        text = None if state is None or state is before else dump_state(state)
        # Everything that can fail for this event alone is behind: an error must not leave an event without its state.
        number = self._added(session, event) if kept is None else self._next_number()
        if state is not None and text is not None:
            self.changed.append((number, state.session_id))
        self._db.execute(
            "INSERT INTO session (id, state, changed, events, touched) VALUES (?, ?, ?, 1, ?) "
            "ON CONFLICT DO UPDATE SET state = ifnull(excluded.state, state), "
            "changed = max(excluded.changed, changed), events = events + ?, touched = excluded.touched",
            (session, text, number if text else 0, now, kept is None),
        )
        if kept is None and events >= self._retention.max_events_per_session:
            self._forget_first(session)
        return RecordResult(event=event, state=state, ignored=ignored)

    def states(self, session_ids: Sequence[str]) -> dict[str, SessionState]:
        """Return what is known of sessions.

        Raises:
            InboxError: What is kept of one cannot be read.
        """
        oldest = self._oldest()
        found: dict[str, SessionState] = {}
        for some in _portions([_bytes(session_id) for session_id in session_ids]):
            marks = ",".join("?" * len(some))
            query = f"SELECT state FROM session WHERE state NOT NULL AND touched > ? AND id IN ({marks})"  # noqa: S608  marks
            for (text,) in self._db.execute(query, (oldest, *some)):
                state = _read(text)
                found[state.session_id] = state
        return found

    def events(self, session_id: str | None) -> tuple[WebhookEvent, ...]:
        """Return the events of a session in their order.

        Raises:
            InboxError: One of them cannot be read.
        """
        oldest = self._oldest()
        rows = self._db.execute(
            "SELECT kind, body FROM event WHERE session = (SELECT id FROM session WHERE id = ? AND touched > ?) "
            "ORDER BY number",
            (_bytes(session_id or ""), oldest),
        )
        return tuple(_read_event(kind, body) for kind, body in rows)

    def _added(self, session: bytes, event: WebhookEvent) -> int:
        """Insert an event, and return its number."""
        row = (session, _bytes(event.dedup_key), event.kind, dump_event(event))
        return self._db.execute("INSERT INTO event (session, key, kind, body) VALUES (?, ?, ?, ?)", row).lastrowid or 0

    def _next_number(self) -> int:
        """Take a number of the sequence of events for a change that adds no event."""
        self._db.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'event'")
        found: int = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()[0]
        return found

    def _found(self, session: bytes) -> tuple[SessionState | None, int]:
        row = self._db.execute("SELECT state, events, touched FROM session WHERE id = ?", (session,)).fetchone()
        if row is None:
            return None, 0
        text, events, touched = row
        if touched <= self._age_at - self._retention.max_age:
            self._forget([session])
            return None, 0
        return None if text is None else _read(text), events

    def _forget_old(self) -> None:
        oldest = self._age_at - self._retention.max_age
        self._forget_oldest("WHERE touched <= ?", (oldest,), _AT_ONCE)
        last: int = self._db.execute("SELECT ifnull(max(rowid), 0) FROM session").fetchone()[0]
        if last < self._count_at:
            return
        # Counting takes a look at every row, so it is done again only when so many may have come that it matters.
        most = self._retention.max_sessions
        count: int = self._db.execute("SELECT count(*) FROM session").fetchone()[0]
        if count > most:
            self._forget_oldest("", (), min(_AT_ONCE, count - most + most // 100))
        self._count_at = last + max(1, most - count)

    def _forget_oldest(self, which: str, values: tuple[float, ...], most: int) -> None:
        query = f"SELECT id FROM session {which} ORDER BY touched LIMIT ?"  # noqa: S608  our own words
        self._forget([session for (session,) in self._db.execute(query, (*values, most))])

    def _forget(self, sessions: list[bytes]) -> None:
        self.is_stale |= bool(sessions)
        for session in sessions:
            self._db.execute("DELETE FROM event WHERE session = ?", (session,))
            self._db.execute("DELETE FROM session WHERE id = ?", (session,))

    def _forget_first(self, session: bytes) -> None:
        self.is_stale = True
        first = "SELECT min(number) FROM event WHERE session = ?"
        self._db.execute(f"DELETE FROM event WHERE number = ({first})", (session,))  # noqa: S608  our own words
        self._db.execute("UPDATE session SET events = events - 1 WHERE id = ?", (session,))


def _portions(ids: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]


def _bytes(text: str) -> bytes:
    # JSON can hold half a surrogate pair, SQLite's texts cannot.
    return text.encode("utf-8", "surrogatepass")


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogatepass")


def _read(text: object) -> SessionState:
    # SQLite lets other programs put any kind of value into a column.
    with suppress(DecodeError):
        if isinstance(text, bytes):
            return load_state(text)
    raise _damaged()


def _read_event(kind: object, body: object) -> WebhookEvent:
    with suppress(DecodeError):
        if isinstance(kind, str) and isinstance(body, bytes):
            return load_event(kind, body)
    raise _damaged()


def _damaged() -> InboxError:
    return InboxError("What the inbox keeps of a session cannot be read: look whether its file was written by others.")
