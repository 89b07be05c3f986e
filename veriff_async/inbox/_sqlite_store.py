"""The sessions and events of an inbox in SQLite; synchronous, each connection for one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import evolve, frozen

from veriff_async._protocol.delivery import load_names
from veriff_async._protocol.search_keys import ERASED, search_key
from veriff_async._protocol.session_state import apply_event, dump_state
from veriff_async._protocol.webhook import dump_event
from veriff_async._storage.sqlite_file import Database
from veriff_async.errors import InboxError
from veriff_async.inbox._sqlite_deliveries import DeliveryTable
from veriff_async.inbox._sqlite_retention import SessionRetention
from veriff_async.inbox._sqlite_schema import BUSY_TIMEOUT, SCHEMA, RowCodec, decode, encode, to_number
from veriff_async.inbox._sqlite_search import SearchTable
from veriff_async.models.delivery import Delivery
from veriff_async.models.inbox_search import InboxStatistics
from veriff_async.models.state import IgnoredReason, RecordResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from veriff_async._storage.encrypted_text import TextCodec
    from veriff_async.config import Retention
    from veriff_async.inbox._sqlite_deliveries import LeasedRow
    from veriff_async.inbox._sqlite_search import PageStart
    from veriff_async.models.decision_source import DecisionSource
    from veriff_async.models.delivery import DeliveryOutcome, DeliveryRecord, DeliveryStatus
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.inbox_search import SessionSearch, SessionSummary
    from veriff_async.models.state import SessionState

__all__ = ("LoadedDeliveries", "SqliteEventStore")

# Rows of which one transaction encrypts the texts again.
_RENEWED_AT_ONCE: Final = 100

# Ids in one query.
_CHUNK_SIZE: Final = 500

# A stored session: its row, its state, its number of events, how many of them are queued, its keys and its submission.
_Stored: TypeAlias = "tuple[int | None, SessionState | None, int, int, bytes | None, str | None]"

_NEW_SESSION: Final[_Stored] = (None, None, 0, 0, None, None)

_SUBMISSION: Final = "(SELECT text FROM submission WHERE submission.session = session.id)"


@frozen
class LoadedDeliveries:
    """The deliveries of leased events.

    Attributes:
        found: Those that can be read.
        unreadable: The leases of events that another program has damaged.
        missing: Those whose key this process lacks.
        problem: The error of one of the latter.
    """

    found: list[Delivery[WebhookEvent]]
    unreadable: list[str]
    missing: list[LeasedRow]
    problem: InboxError | None


class SqliteEventStore(Database):
    """The sessions and events of an inbox, through one connection.

    All rows of a query are fetched before any is decoded. An error of decoding refers to the cursor, and a cursor that
    is not read to its end keeps the connection at its snapshot for as long as a caller keeps the error.

    Args:
        path: The file.
        retention: How much is kept.
        now: The time in seconds since 1970.
        codec: Encodes and decodes stored texts.
    """

    def __init__(self, path: Path, retention: Retention, now: Callable[[], float], codec: TextCodec) -> None:
        """Open the file; see `Database`."""
        super().__init__(path, SCHEMA, timeout=BUSY_TIMEOUT)
        self._now = now
        self._max_events = retention.max_events_per_session
        self._retention = SessionRetention(self._db, retention, now)
        self._deliveries = DeliveryTable(self._db)
        self._codec = RowCodec(codec)
        self._search = SearchTable(self._db, self._codec)

    def last_change(self) -> int:
        """Return the number of the last change of a state."""
        number: int | None = self._db.execute("SELECT max(changed) FROM session").fetchone()[0]
        return number or 0

    def changes_after(self, number: int) -> list[tuple[int, str]]:
        """Return the states that changed later: numbers and sessions."""
        rows = self._db.execute(
            "SELECT changed, id FROM session WHERE changed > ? ORDER BY changed", (number,)
        ).fetchall()
        return [(changed, decode(session)) for changed, session in rows]

    def insert_event(self, event: WebhookEvent, source: DecisionSource, *, deliver: bool = False) -> RecordResult:
        """Record an event, inside a transaction.

        Raises:
            InboxError: The stored state of its session cannot be read.
            InvalidArgumentError: Its ``raw`` is not JSON.
        """
        body = dump_event(event)  # first: the key is a digest of the same JSON, and its error would blame the file
        session, key, now = encode(event.session_id or ""), encode(event.dedup_key), self._retention.time
        stored = self._get_session(session)
        if stored is None and self._is_erased(session):
            return RecordResult(event=event, ignored=IgnoredReason.ERASED)
        row, before, events, queued, keys, submission = stored or _NEW_SESSION
        # The key finds a repetition although other events came in between; a deleted event counts as new again.
        query = "SELECT number FROM event WHERE session = ? AND key = ?"
        existing: tuple[int] | None = self._db.execute(query, (session, key)).fetchone()
        state, ignored = apply_event(before, event, source, is_duplicate=existing is not None, recorded_at=now)
        text = None
        if state is not None and state is not before:
            text = self._codec.encode("state", dump_state(state), session)
        # All steps that can fail for this event alone are done: an error must not leave an event without its state.
        if existing is None:
            number = position = self._insert(session, event, body, ignored)
            events += 1
            keys = self._search.add(session, event, keys)
        else:
            number, position = existing[0], self._next_number() if text or deliver else 0
        if deliver and (existing is None or not self._deliveries.contains(number)):
            self._deliveries.add(session, number, position, is_first=not queued, now=self._now())
            queued += 1
        self._write_session(row, session, (events, now, queued, keys), (text, position, state) if text else None)
        if existing is None and events > self._max_events:
            self._retention.delete_first_events(session, number, events=events, queued=queued)
        if state is not None and submission is not None:
            state = evolve(state, submission=submission)
        return RecordResult(event=event, state=state, ignored=ignored)

    def save_submission(self, session_id: str, text: str) -> None:
        """Store a text for a session, inside a transaction."""
        session = encode(session_id)
        # This deletes the session if it has expired: its old state must not become visible again.
        is_new = self._get_session(session) is None
        if is_new and self._is_erased(session):
            return
        self._db.execute(
            "INSERT INTO session (id, state, changed, events, touched) VALUES (?, NULL, 0, 0, ?) "
            "ON CONFLICT DO UPDATE SET touched = excluded.touched",
            (session, self._retention.time),
        )
        self._retention.added += is_new
        stored = self._codec.encode("submission", encode(text), session)
        self._db.execute("INSERT OR REPLACE INTO submission (session, text) VALUES (?, ?)", (session, stored))

    def states(self, session_ids: Sequence[str]) -> dict[str, SessionState]:
        """Return the states of those sessions that have one.

        Raises:
            InboxError: The stored state of one cannot be read.
        """
        oldest = self._retention.oldest_kept()
        states: dict[str, SessionState] = {}
        for chunk in _chunks([encode(session_id) for session_id in session_ids]):
            marks = ",".join("?" * len(chunk))
            columns = f"id, state, touched, {_SUBMISSION}"
            kept = "state NOT NULL AND (touched > ? OR queued > 0)"
            query = f"SELECT {columns} FROM session WHERE {kept} AND id IN ({marks})"  # noqa: S608  marks
            for session, text, touched, stored in self._db.execute(query, (oldest, *chunk)).fetchall():
                state = self._codec.load_state(text, session)
                submission = self._codec.load_submission(stored, session)
                states[state.session_id] = evolve(state, submission=submission, recorded_at=to_number(touched) or 0.0)
        return states

    def events(self, session_id: str | None) -> tuple[WebhookEvent, ...]:
        """Return the events of a session in their order.

        Raises:
            InboxError: One of them cannot be read.
        """
        session = encode(session_id or "")
        rows = self._db.execute(
            "SELECT kind, body FROM event WHERE session = "
            "(SELECT id FROM session WHERE id = ? AND (touched > ? OR queued > 0)) ORDER BY number",
            (session, self._retention.oldest_kept()),
        ).fetchall()
        return tuple(self._codec.load_event(kind, body, session) for kind, body in rows)

    def has_due(self) -> bool:
        """Return whether `lease` would find an event, without a transaction that writes."""
        return self._deliveries.has_due(self._now())

    def lease(self, limit: int, seconds: float) -> list[LeasedRow]:
        """Begin attempts of events that are due, inside a transaction; `load_deliveries` decodes them outside of it."""
        return self._deliveries.lease(limit, seconds, self._now())

    def load_deliveries(self, rows: Sequence[LeasedRow]) -> LoadedDeliveries:
        """Decode leased events."""
        found: list[Delivery[WebhookEvent]] = []
        unreadable: list[str] = []
        missing: list[LeasedRow] = []
        problem: InboxError | None = None
        for row in rows:
            lease, attempt, names, kind, body, recorded, ignored, session = row
            session_id = decode(session)
            try:
                delivery = Delivery(
                    event=self._codec.load_event(kind, body, session),
                    attempt=attempt,
                    state=self.states([session_id]).get(session_id),
                    ignored=None if ignored is None else IgnoredReason(ignored),
                    recorded_at=self._recorded_at(session) if (time := to_number(recorded)) is None else time,
                    handled_by=load_names(names),
                    lease=lease,
                )
            except (InboxError, ValueError) as error:
                if isinstance(error, InboxError) and self._lacks_key(body, session):
                    # Another process, or this one with the right ring, can handle it.
                    problem = error
                    missing.append(row)
                else:
                    unreadable.append(lease)
                continue
            found.append(delivery)
        return LoadedDeliveries(found=found, unreadable=unreadable, missing=missing, problem=problem)

    def _lacks_key(self, body: object, session: bytes) -> bool:
        """Return whether an event, or the state of its session, can be read by another process only."""
        query = f"SELECT state, {_SUBMISSION} FROM session WHERE id = ?"  # noqa: S608  a fixed text
        texts = self._db.execute(query, (session,)).fetchone() or ()
        return any(self._codec.lacks_key(text) for text in (body, *texts))

    def extend_leases(self, leases: Sequence[str], seconds: float) -> frozenset[str]:
        """Let leases end later, inside a transaction, and return those that are held."""
        return self._deliveries.extend(leases, seconds, self._now())

    def settle(self, leases: Sequence[str], outcome: DeliveryOutcome) -> bool:
        """Store the outcome of attempts, inside a transaction, and return whether all leases were held."""
        now = self._now()
        held = [self._deliveries.settle(lease, outcome, now) for lease in leases]
        return all(held)

    def requeue(self, session_id: str | None, dedup_key: str) -> bool:
        """Queue a stored event again, inside a transaction, and return whether it did."""
        session = encode(session_id or "")
        query = "SELECT number FROM event WHERE session = ? AND key = ?"
        row = self._db.execute(query, (session, encode(dedup_key))).fetchone()
        if row is None or self._get_session(session) is None:
            return False
        return self._deliveries.requeue(session, row[0], self._next_number(), self._now())

    def delivery_records(
        self, session_id: str | None, status: DeliveryStatus | None, limit: int
    ) -> tuple[DeliveryRecord, ...]:
        """Return how far the handlers are with events, the latest first."""
        session = None if session_id is None else encode(session_id)
        return tuple(self._deliveries.records(session, status, limit, oldest=self._retention.oldest_kept()))

    def check_search_secrets(self) -> None:
        """Check that a search for a value has found all sessions; see `SearchTable.check_secrets`."""
        self._search.check_secrets()

    def can_search_values(self) -> bool:
        """Return whether the events that an earlier version has stored can be found by their values."""
        return self._search.is_complete()

    def index_earlier_events(self) -> bool:
        """Add some events of an earlier version to the search, inside a transaction; return whether none is left."""
        return self._search.index_earlier_events()

    def find_sessions(
        self, search: SessionSearch, limit: int, start: PageStart | None
    ) -> tuple[list[tuple[SessionSummary, PageStart]], PageStart | None]:
        """Look at some sessions; see `SearchTable.find`."""
        return self._search.find(search, limit, start, oldest=self._retention.oldest_kept())

    def statistics(self) -> InboxStatistics:
        """Count what is stored and what waits."""
        queued, leased, dead = self._deliveries.count()
        sessions, events = self._count_rows()
        oldest = self._db.execute(
            "SELECT event.recorded FROM event WHERE number = (SELECT min(number) FROM delivery WHERE stage <= 2)"
        ).fetchone()
        oldest_session: float | None = min(
            (
                time
                for is_pending, least in ((0, self._retention.oldest_kept()), (1, float("-inf")))
                for (touched,) in self._db.execute(
                    "SELECT min(touched) FROM session WHERE (queued > 0) = ? AND touched > ?", (is_pending, least)
                )
                if (time := to_number(touched)) is not None
            ),
            default=None,
        )
        oldest_queued = None if oldest is None else to_number(oldest[0])
        now = self._now()
        return InboxStatistics(
            sessions=sessions,
            events=events,
            queued=queued,
            leased=leased,
            dead=dead,
            oldest_queued_age=None if oldest_queued is None else max(0.0, now - oldest_queued),
            oldest_session_age=None if oldest_session is None else max(0.0, now - oldest_session),
            bytes=self._read_size(),
        )

    def erase(self, session_ids: Sequence[str], refuse_for: float) -> int:
        """Delete sessions and refuse their later events, inside a transaction; return how many were stored."""
        sessions = [encode(session_id) for session_id in session_ids]
        secret = self._codec.search_secrets[0]
        keys = [search_key(ERASED, session_id, secret=secret) for session_id in session_ids]
        self._retention.refuse(keys, refuse_for)
        return self._retention.delete(sessions)

    def reencrypt(self, table: str, start: int) -> tuple[int, int | None]:
        """Write some texts again that are not stored as they would be stored now, inside a transaction.

        Args:
            table: ``event``, or ``session`` for states, submissions and keys of the search.
            start: The first row; each part returns the start of the next one.

        Returns:
            How many texts were written, and where the next part begins, or ``None`` after the last one.
        """
        if table == "event":
            query = "SELECT number, session, body FROM event WHERE number >= ? ORDER BY number LIMIT ?"
        else:
            query = (
                f"SELECT rowid, id, state, {_SUBMISSION}, keys FROM session"  # noqa: S608  a fixed text
                " WHERE rowid >= ? ORDER BY rowid LIMIT ?"
            )
        rows = self._db.execute(query, (start, _RENEWED_AT_ONCE)).fetchall()
        renew = self._renew_event if table == "event" else self._renew_session
        written = sum(renew(*row) for row in rows)
        self._retention.is_stale |= written > 0
        return written, rows[-1][0] + 1 if len(rows) == _RENEWED_AT_ONCE else None

    def _renew_event(self, number: int, session: bytes, body: object) -> int:
        text = self._codec.renew("event", body, session)
        if text is not None:
            self._db.execute("UPDATE event SET body = ? WHERE number = ?", (text, number))
        return text is not None

    def _renew_session(self, row: int, session: bytes, state: object, submission: object, keys: bytes | None) -> int:
        text = self._codec.renew("state", state, session)
        if text is not None:
            # An earlier version has stored no status, and a process without the key cannot read it in the state.
            status = self._codec.load_state(text, session).status.value
            self._db.execute("UPDATE session SET state = ?, status = ? WHERE rowid = ?", (text, status, row))
        other = self._codec.renew("submission", submission, session)
        if other is not None:
            self._db.execute("UPDATE submission SET text = ? WHERE session = ?", (other, session))
        events = self._db.execute("SELECT kind, body FROM event WHERE session = ?", (session,)).fetchall()
        self._search.renew(session, [self._codec.load_event(kind, body, session) for kind, body in events], keys)
        return (text is not None) + (other is not None)

    def _count_rows(self) -> tuple[int, int]:
        """Return the number of sessions with events, and of events."""
        oldest = self._retention.oldest_kept()
        # The index of sessions has their numbers of events; that of the events is ten times as large.
        query = "SELECT count(*), ifnull(sum(events), 0) FROM session WHERE (queued > 0) = ? AND touched > ?"
        kept, kept_events = self._db.execute(query, (0, oldest)).fetchone()
        pending, pending_events = self._db.execute(query, (1, float("-inf"))).fetchone()
        # Only a session without a state can be without events, and few of these exist.
        query = "SELECT count(*) FROM session WHERE changed = 0 AND events = 0 AND (touched > ? OR queued > 0)"
        empty: int = self._db.execute(query, (oldest,)).fetchone()[0]
        return kept + pending - empty, kept_events + pending_events

    def _read_size(self) -> int:
        """Return the bytes of the file and its log."""
        log = self._path.with_name(f"{self._path.name}-wal")
        return sum(file.stat().st_size for file in (self._path, log) if file.exists())

    def _insert(self, session: bytes, event: WebhookEvent, body: bytes, ignored: IgnoredReason | None) -> int:
        """Insert an event, and return its number."""
        reason = None if ignored is None else ignored.value
        stored = self._codec.encode("event", body, session)
        row = (session, encode(event.dedup_key), event.kind, stored, self._retention.time, reason)
        query = "INSERT INTO event (session, key, kind, body, recorded, ignored) VALUES (?, ?, ?, ?, ?, ?)"
        return self._db.execute(query, row).lastrowid or 0

    def _write_session(
        self,
        row: int | None,
        session: bytes,
        values: tuple[int, float, int, bytes | None],
        change: tuple[bytes, int, SessionState | None] | None,
    ) -> None:
        """Insert or update a session.

        Args:
            row: Its row, unless it is new.
            session: Its id.
            values: Its number of events, the time, how many of them are queued, and its keys.
            change: Its new state as text, the number of the change, and the state, unless that is as before.
        """
        # Not one statement with ON CONFLICT, which would look for the session again.
        if row is None:
            text, number, state = change or (None, 0, None)
            status = None if state is None else state.status.value
            self._db.execute(
                "INSERT INTO session (events, touched, queued, keys, id, state, changed, status)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, session, text, number, status),
            )
            self._retention.added += 1
        elif change is None:
            query = "UPDATE session SET events = ?, touched = ?, queued = ?, keys = ? WHERE rowid = ?"
            self._db.execute(query, (*values, row))
        else:
            text, number, state = change
            query = (
                "UPDATE session SET events = ?, touched = ?, queued = ?, keys = ?, state = ?, changed = ?, status = ?"
                " WHERE rowid = ?"
            )
            status = None if state is None else state.status.value
            self._db.execute(query, (*values, text, number, status, row))

    def _next_number(self) -> int:
        """Take a number of the sequence of events for a change that adds no event."""
        self._db.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'event'")
        number: int = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()[0]
        return number

    def _get_session(self, session: bytes) -> _Stored | None:
        """Return a session, unless it is new or has expired."""
        query = f"SELECT rowid, state, events, touched, queued, keys, {_SUBMISSION} FROM session WHERE id = ?"  # noqa: S608  a fixed text
        found = self._db.execute(query, (session,)).fetchone()
        if found is None:
            return None
        row, text, events, touched, queued, keys, submission = found
        are_counts = all(isinstance(count, int) and count >= 0 for count in (events, queued))
        if not are_counts or to_number(touched) is None:
            events, touched, queued = self._repair_session(row, session)
        # Expired, although no record has deleted it yet: its old state must not decide about a new event.
        if self._retention.is_expired(touched, queued):
            self._retention.delete([session])
            return None
        state = None if text is None else self._codec.load_state(text, session)
        known = keys if isinstance(keys, bytes) else None
        return row, state, events, queued, known, self._codec.load_submission(submission, session)

    def _repair_session(self, row: int, session: bytes) -> tuple[int, float, int]:
        """Replace the numbers of a session that another program has damaged, inside a transaction, and return them."""
        events: int = self._db.execute("SELECT count(*) FROM event WHERE session = ?", (session,)).fetchone()[0]
        query = "SELECT count(*) FROM delivery WHERE session = ? AND stage <= 2"
        queued: int = self._db.execute(query, (session,)).fetchone()[0]
        values = (events, self._retention.time, queued)
        self._db.execute("UPDATE session SET events = ?, touched = ?, queued = ? WHERE rowid = ?", (*values, row))
        return values

    def _recorded_at(self, session: bytes) -> float:
        """Return when the last event of a session was recorded, for events of an earlier version."""
        row = self._db.execute("SELECT touched FROM session WHERE id = ?", (session,)).fetchone()
        return 0.0 if row is None else to_number(row[0]) or 0.0

    def _is_erased(self, session: bytes) -> bool:
        if not session or not self._retention.has_erased():
            return False
        query = "SELECT 1 FROM erased WHERE key = ? AND until > ?"
        keys = (search_key(ERASED, decode(session), secret=secret) for secret in self._codec.search_secrets)
        return any(self._db.execute(query, (key, self._retention.reference_time)).fetchone() for key in keys)


def _chunks(ids: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(ids), _CHUNK_SIZE):
        yield ids[start : start + _CHUNK_SIZE]
