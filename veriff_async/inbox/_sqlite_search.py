"""Searches in an inbox in SQLite.

The table ``search`` has a row for each session and each value by which it can be found. A session's row lists its keys,
so that they are written once and deleted with the session. The keys of events that an earlier version has stored are
added by the first search for a value, in small transactions. Keys of an encrypted inbox are made with a secret, and the
table also has a key of each secret for each session: without that secret, a search would silently miss the session.

All other searches walk the index by age. Each query looks at some sessions only, because other readers of this process
wait for it.
"""

from __future__ import annotations

from contextlib import suppress
from math import isnan
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._protocol.inbox_arguments import unknown_page_error
from veriff_async._protocol.search_keys import event_search_keys, other_secret_ranges, search_key, secret_key
from veriff_async.errors import InboxError
from veriff_async.inbox._sqlite_schema import decode, encode, split_keys, to_number
from veriff_async.models.delivery import DeliveryStatus
from veriff_async.models.enums import Status
from veriff_async.models.inbox_search import SessionSummary

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from veriff_async.inbox._sqlite_schema import RowCodec
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.inbox_search import SessionSearch

__all__ = ("PageStart", "SearchTable", "parse_page")

# Sessions that one query looks at; about 5 milliseconds. Some builds of SQLite take 999 parameters at most.
_MOST_EXAMINED: Final = 500

# Events of an earlier version whose keys one transaction adds; about 20 milliseconds.
_MOST_INDEXED: Final = 200

# SQLite numbers rows with 64 bits.
_LARGEST_ROW: Final = 2**63

_DELIVERED: Final = {
    DeliveryStatus.QUEUED: "stage <= 2 AND lease IS NULL",
    DeliveryStatus.LEASED: "stage <= 2 AND lease IS NOT NULL",
    DeliveryStatus.HANDLED: "stage = 3",
    DeliveryStatus.DEAD: "stage = 4",
}


@frozen
class PageStart:
    """Where a page of sessions begins: after the session with this time and row.

    Another program may have stored a text or bytes instead of the time.
    """

    touched: float | str | bytes
    row: int

    @property
    def order(self) -> tuple[int, float, bytes, int]:
        """A value that sorts as in SQLite: numbers, texts, then bytes (https://sqlite.org/datatype3.html, 4.1)."""
        if isinstance(self.touched, str):
            return 1, 0.0, self.touched.encode(), self.row
        if isinstance(self.touched, bytes):
            return 2, 0.0, self.touched, self.row
        return 0, self.touched, b"", self.row

    def __str__(self) -> str:
        """Return it as the text of `SessionPage.next_page`."""
        if isinstance(self.touched, str):
            return f"t{self.touched.encode().hex()},{self.row}"
        if isinstance(self.touched, bytes):
            return f"b{self.touched.hex()},{self.row}"
        return f"{float(self.touched).hex()},{self.row}"


class SearchTable:
    """The keys of values, through the connection of a store."""

    def __init__(self, db: sqlite3.Connection, codec: RowCodec) -> None:
        """Take the connection, and the codec of its rows."""
        self._db = db
        self._codec = codec

    def add(self, session: bytes, event: WebhookEvent, keys: bytes | None) -> bytes | None:
        """Add the keys of an event, and return all keys of its session, or ``None`` if there is none.

        Args:
            session: The session.
            event: The event.
            keys: The keys that the session has.
        """
        for key in self._keys_of(event):
            if key not in split_keys(keys):
                self._db.execute("INSERT OR IGNORE INTO search (key, session) VALUES (?, ?)", (key, session))
                keys = (keys or b"") + key
        return keys

    def _keys_of(self, event: WebhookEvent) -> Iterator[bytes]:
        """Yield the keys that an event adds to those of its session."""
        secret = self._codec.search_secrets[0]
        if (key := secret_key(secret)) is not None:
            yield key
        for _, key in event_search_keys(event, secret=secret):
            yield key

    def check_secrets(self) -> None:
        """Check that the keys of all sessions were made with secrets that this process has.

        Raises:
            InboxError: A search for a value would be incomplete.
        """
        for ends in other_secret_ranges(self._codec.search_secrets):
            if self._db.execute("SELECT 1 FROM search WHERE key > ? AND key < ? LIMIT 1", ends).fetchone():
                raise self._codec.incomplete_search_error()

    def renew(self, session: bytes, events: Sequence[WebhookEvent], keys: bytes | None) -> None:
        """Replace the keys of a session, which other secrets may have made, by those of its events."""
        renewed: bytes | None = None
        for event in events:
            for key in self._keys_of(event):
                if key not in split_keys(renewed):
                    renewed = (renewed or b"") + key
        if renewed == keys:
            return
        for key in split_keys(keys):
            self._db.execute("DELETE FROM search WHERE key = ? AND session = ?", (key, session))
        for key in split_keys(renewed):
            self._db.execute("INSERT OR IGNORE INTO search (key, session) VALUES (?, ?)", (key, session))
        self._db.execute("UPDATE session SET keys = ? WHERE id = ?", (renewed, session))

    def is_complete(self) -> bool:
        """Return whether the events of earlier versions are in the table."""
        return self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'unindexed'").fetchone() is None

    def index_earlier_events(self) -> bool:
        """Add the keys of some events of an earlier version, and return whether none is left."""
        if self.is_complete():
            return True
        row = self._db.execute("SELECT next, last FROM unindexed").fetchone()
        start, last = (0, -1) if row is None else row
        query = "SELECT number, session, kind, body FROM event WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?"
        rows = self._db.execute(query, (start, last, _MOST_INDEXED)).fetchall()
        for _, session, kind, body in rows:
            if self._codec.lacks_key(body):  # another process can read it, and must not find that all were added
                raise self._codec.incomplete_search_error()
            with suppress(InboxError):  # an event that cannot be read has no values
                event = self._codec.load_event(kind, body, session)
                before = self._db.execute("SELECT keys FROM session WHERE id = ?", (session,)).fetchone()
                if before is not None and (keys := self.add(session, event, before[0])) != before[0]:
                    self._db.execute("UPDATE session SET keys = ? WHERE id = ?", (keys, session))
        if len(rows) < _MOST_INDEXED:
            self._db.execute("DROP TABLE unindexed")
            return True
        self._db.execute("UPDATE unindexed SET next = ?", (rows[-1][0] + 1,))
        return False

    def find(
        self, search: SessionSearch, limit: int, start: PageStart | None, *, oldest: float
    ) -> tuple[list[tuple[SessionSummary, PageStart]], PageStart | None]:
        """Find sessions among the next ones; return them with where a page after each begins, and where to continue.

        Args:
            search: Which sessions.
            limit: How many to find.
            start: Where the search begins.
            oldest: The time after which a session must have been touched, unless handlers wait for its events.
        """
        conditions, values = _conditions(search)
        candidates = self._candidates(search, start, oldest)
        if not candidates:
            return [], None
        rows = [candidate.row for candidate in candidates]
        marks = ",".join("?" * len(rows))
        columns = (
            "rowid, touched, id, events, queued, status, CASE WHEN status IS NULL THEN state END,"
            " (SELECT count(*) FROM delivery WHERE delivery.session = session.id AND stage = 4)"
        )
        which = f"rowid IN ({marks}) AND events > 0 {conditions}"
        query = f"SELECT {columns} FROM session WHERE {which} ORDER BY touched DESC, rowid DESC"  # noqa: S608  fixed texts
        found: list[tuple[SessionSummary, PageStart]] = []
        sessions = self._db.execute(query, (*rows, *values)).fetchall()
        for row, touched, session, events, queued, name, state, dead in sessions:
            if name is None and search.status is not None and self._codec.lacks_key(state):
                raise self._codec.incomplete_search_error()
            status = self._load_status(name, state, session)
            if search.status is not None and status != search.status:
                continue
            summary = SessionSummary(
                session_id=decode(session) or None,
                status=status,
                events=events,
                queued=queued,
                dead=dead,
                recorded_at=to_number(touched) or 0.0,
            )
            found.append((summary, PageStart(touched, row)))
            if len(found) == limit:
                return found, found[-1][1]
        return found, candidates[-1] if len(candidates) == _MOST_EXAMINED else None

    def _load_status(self, name: object, state: object, session: bytes) -> Status | None:
        """Return the status of a session; an earlier version has stored it in the state only."""
        if isinstance(name, str):
            with suppress(ValueError):
                return Status(name)
        if state is None:
            return None
        with suppress(InboxError):
            return self._codec.load_state(state, session).status
        return None

    def _candidates(self, search: SessionSearch, start: PageStart | None, oldest: float) -> list[PageStart]:
        """Return the times and rows of sessions to look at, the latest first."""
        conditions: list[str] = []
        values: list[object] = []
        for field in ("vendor_data", "end_user_id"):
            value = getattr(search, field)
            if value is not None:
                secrets = self._codec.search_secrets
                marks = ",".join("?" * len(secrets))
                conditions.append(f"id IN (SELECT session FROM search WHERE key IN ({marks}))")  # noqa: S608  marks
                values += [search_key(field, value, secret=secret) for secret in secrets]
        if search.session_id is not None:
            conditions.append("id = ?")
            values.append(encode(search.session_id))
        for text, time in (("touched >= ?", search.since), ("touched < ?", search.until)):
            if time is not None:
                conditions.append(text)
                values.append(time)
        if start is not None:
            conditions.append("(touched < ? OR touched = ? AND rowid < ?)")
            values += (start.touched, start.touched, start.row)
            conditions.append("touched <= ?")  # the part of the condition above that an index can use
            values.append(start.touched)
        rows: list[PageStart] = []
        for is_pending in (0, 1):
            age = "" if is_pending else "AND touched > ?"
            query = (
                f"SELECT touched, rowid FROM session WHERE (queued > 0) = {is_pending}"  # noqa: S608  fixed texts
                f" {''.join(f' AND {condition}' for condition in conditions)} {age}"
                " ORDER BY touched DESC, rowid DESC LIMIT ?"
            )
            found = self._db.execute(query, (*values, *(() if is_pending else (oldest,)), _MOST_EXAMINED))
            rows += [PageStart(touched, row) for touched, row in found]
        return sorted(rows, key=lambda row: row.order, reverse=True)[:_MOST_EXAMINED]


def parse_page(page: str | None) -> PageStart | None:
    """Return where a page begins.

    Raises:
        InvalidArgumentError: It is not the `SessionPage.next_page` of this kind of inbox.
    """
    if page is None:
        return None
    text, _, row = page.partition(",")
    with suppress(ValueError, OverflowError):
        start = PageStart(_parse_time(text), int(row))
        if abs(start.row) < _LARGEST_ROW:
            return start
    raise unknown_page_error()


def _parse_time(text: str) -> float | str | bytes:
    """Return the time of a page.

    Raises:
        ValueError: It is none.
        OverflowError: It is too large.
    """
    kind, digits = text[:1], text[1:]
    if kind in {"t", "b"}:
        stored = bytes.fromhex(digits)
        return stored if kind == "b" else stored.decode()
    number = float.fromhex(text)
    if isnan(number):
        msg = "Nothing can be compared with this."
        raise ValueError(msg)
    return number


def _conditions(search: SessionSearch) -> tuple[str, list[object]]:
    """Return the conditions for which the rows of sessions, or those of deliveries, are read."""
    conditions: list[str] = []
    values: list[object] = []
    if search.status is not None:
        conditions.append("AND (status = ? OR status IS NULL)")
        values.append(search.status.value)
    if search.delivery is not None:
        which = _DELIVERED[search.delivery]
        if search.delivery is DeliveryStatus.HANDLED:
            table = "event JOIN delivery USING (number) WHERE event.session = session.id"
        else:
            table = "delivery WHERE delivery.session = session.id"
        conditions.append(f"AND EXISTS (SELECT 1 FROM {table} AND {which})")  # noqa: S608  fixed texts
    return " ".join(conditions), values
