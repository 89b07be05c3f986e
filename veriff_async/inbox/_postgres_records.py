"""How `PostgresInbox` stores events: many records share one transaction, whose statements take arrays of rows.

The sessions are locked before, see `lock_statement`. One statement reads everything that the events meet,
`apply_event` is applied to them in their order, and one statement writes everything. Events of one session see each
other in memory, so the result is the same as if each had a transaction of its own.

A session with more events than retention permits loses its first ones with each record, and only the server knows
which of them handlers have finished. So the next event of such a session, and those after it, wait for another pass of
both statements.
"""

from __future__ import annotations

import secrets
from functools import cache
from typing import TYPE_CHECKING, Final

from attrs import Factory, define, evolve, field, frozen

from veriff_async._protocol.session_state import apply_event
from veriff_async._storage.postgres import execute, fetch_all
from veriff_async._storage.postgres_rows import RowParameters
from veriff_async.errors import InboxError
from veriff_async.inbox._postgres_codec import clean_text, digest_of, encode
from veriff_async.inbox._postgres_events import IS_PENDING, NOW
from veriff_async.models.state import IgnoredReason, RecordResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async._storage.postgres import Connection, Row
    from veriff_async._storage.postgres_rows import Value
    from veriff_async.inbox._postgres_events import EventTables
    from veriff_async.models.decision_source import DecisionSource
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("RecordCall", "RecordRequest", "Recorded", "record_events")

_WANTED: Final = RowParameters(
    "wanted", {"position": "integer", "session": "bytea", "key": "bytea", "is_first": "boolean"}
)
_NEW_SESSION: Final = RowParameters(
    "fresh", {"digest": "bytea", "id": "bytea", "state": "bytea", "status": "text", "added": "integer"}
)
_CHANGE: Final = RowParameters("change", {"number": "bigint", "state": "bytea", "status": "text", "added": "integer"})
_NEW_EVENT: Final = RowParameters(
    "record",
    {
        "number": "bigint", "session": "bytea", "digest": "bytea", "key": "bytea", "kind": "text", "body": "bytea",
        "ignored": "text",
    },
)  # fmt: skip
_PLACE: Final = RowParameters(
    "place", {"event": "bigint", "session": "bytea", "is_ordered": "boolean", "position": "bigint"}
)
_SEARCH_KEY: Final = RowParameters("search", {"field": "text", "key": "bytea", "session": "bytea"})

# The numbers of new events and of places in the queue are taken here, since one order holds for both. A number that
# is not needed leaves a gap.
_READ: Final = f"""
SELECT
    wanted.position, {NOW}, nextval('veriff_inbox_number'),
    CASE WHEN wanted.position = 0 THEN ARRAY(
        SELECT key FROM veriff_inbox_erased WHERE key = ANY (%(erased)s::bytea[]) AND expires_at > {NOW}) END,
    session.number, CASE WHEN wanted.is_first THEN session.state END,
    CASE WHEN wanted.is_first THEN session.submission END, session.events,
    greatest(session.touched, session.submitted_at),
    event.number, event.token, delivery.event IS NOT NULL
FROM {{wanted}}
LEFT JOIN veriff_inbox_session AS session ON session.digest = wanted.session
LEFT JOIN veriff_inbox_event AS event ON event.session = session.number AND event.digest = wanted.key
LEFT JOIN veriff_inbox_delivery AS delivery ON delivery.event = event.number
"""

_READ_ONE: Final = _READ.format(wanted=_WANTED.sql(is_one=True)).encode()
_READ_MANY: Final = _READ.format(wanted=_WANTED.sql(is_one=False)).encode()

_EXPIRED: Final = f"SELECT number FROM unnest(%(numbers)s::bigint[]) AS session (number) WHERE NOT {IS_PENDING}"

_DELETE_EXPIRED: Final = "DELETE FROM veriff_inbox_session WHERE number = ANY (%(numbers)s::bigint[])"

_INSERT_SESSIONS: Final = """inserted AS (
    INSERT INTO veriff_inbox_session (digest, id, state, status, changed, touched, events)
    SELECT digest, id, state, status, CASE WHEN state IS NOT NULL THEN pg_current_xact_id() END, %(time)s, added
    FROM {rows}
    RETURNING number, digest
)"""

_UPDATE_SESSIONS: Final = """updated AS (
    UPDATE veriff_inbox_session AS session SET
        state = coalesce(change.state, session.state), status = coalesce(change.status, session.status),
        changed = CASE WHEN change.state IS NULL THEN session.changed ELSE pg_current_xact_id() END,
        touched = %(time)s, events = session.events + change.added
    FROM {rows}
    WHERE session.number = change.number
    RETURNING session.number, session.digest
)"""

_INSERT_EVENTS: Final = """event AS (
    INSERT INTO veriff_inbox_event (number, session, digest, key, kind, body, recorded_at, ignored, token)
    SELECT record.number, session.number, record.digest, record.key, record.kind, record.body, %(time)s,
        record.ignored, %(token)s
    FROM {rows} JOIN session ON {condition}
)"""

_INSERT_DELIVERIES: Final = """delivery AS (
    INSERT INTO veriff_inbox_delivery (event, session, is_ordered, position, status, due_at, span)
    SELECT place.event, session.number, place.is_ordered, place.position, 'queued', %(time)s, 0
    FROM {rows} JOIN session ON {condition}
)"""

_INSERT_SEARCH_KEYS: Final = """search_key AS (
    INSERT INTO veriff_inbox_search_key (field, key, session)
    SELECT search.field, search.key, session.number
    FROM {rows} JOIN session ON {condition}
    ON CONFLICT DO NOTHING
)"""

_CONFIRM_EVENTS: Final = """confirmed AS (
    UPDATE veriff_inbox_event SET token = %(token)s WHERE number = ANY (%(confirmed)s::bigint[])
)"""

_DELETE_FIRST_EVENTS: Final = """
WITH deleted AS (
    DELETE FROM veriff_inbox_event WHERE number IN (
        SELECT event.number FROM veriff_inbox_event AS event
        LEFT JOIN veriff_inbox_delivery AS delivery ON delivery.event = event.number
        WHERE event.session = %(number)s AND (delivery.status IS NULL OR delivery.status IN ('handled', 'dead'))
        ORDER BY event.number LIMIT %(excess)s)
    RETURNING number
)
UPDATE veriff_inbox_session SET events = events - (SELECT count(*) FROM deleted) WHERE number = %(number)s
"""


@define(eq=False)
class RecordCall:
    """One call of `record`, whose transaction may be applied although its response is lost.

    Attributes:
        body: The event as JSON.
        token: Stored with the events that the last transaction of the call made count, so that a later transaction
            knows that this one was applied. All calls that shared it have the same token.
        sent: The result of the call if that transaction was applied; ``None`` before a commit was sent.
        is_left: Whether its caller has left a transaction that may still be committed.
    """

    body: bytes = field(repr=False)
    token: bytes = field(default=b"", repr=False)
    sent: RecordResult | None = None
    is_left: bool = False


def _digest_session(request: RecordRequest) -> bytes:
    return digest_of(request.event.session_id or "")


def _digest_key(request: RecordRequest) -> bytes:
    return digest_of(request.event.dedup_key)


@frozen(eq=False)
class RecordRequest:
    """An event to be recorded.

    Attributes:
        event: The event.
        source: See `DeliveryInbox.record`.
        deliver: See `DeliveryInbox.record`.
        call: The call that records it.
        session: The digest of the id of its session.
        key: The digest of its key.
    """

    event: WebhookEvent
    source: DecisionSource
    deliver: bool
    call: RecordCall
    session: bytes = field(init=False, default=Factory(_digest_session, takes_self=True))
    key: bytes = field(init=False, default=Factory(_digest_key, takes_self=True))


@define
class Recorded:
    """What a transaction has done with one event, once it is committed.

    Attributes:
        result: The result for the caller.
        token: That of the transaction; ``None`` if an earlier transaction of the call was applied.
        new_session: The number of the session, if the transaction has inserted it for this event.
    """

    result: RecordResult
    token: bytes | None = None
    new_session: int | None = None


@define(eq=False)
class _EventRow:
    """A stored event, or one that this transaction stores."""

    number: int
    token: bytes
    was_queued: bool


@define(eq=False)
class _SessionRow:
    """A session while events are applied to it.

    Attributes:
        number: The number of its row, if it has one.
        stored_id: Its id as it is stored.
        before: The stored state.
        state: The state after the events so far.
        submission: See `SubmissionInbox.save_submission`.
        count: How many events it has, with those of this pass.
        added: How many of them this pass adds.
        is_touched: Whether a row of it must be written.
        events: The events that this pass looks at, by the digests of their keys.
        first: What was recorded first, if the session is new.
    """

    number: int | None
    stored_id: bytes
    before: SessionState | None
    state: SessionState | None
    submission: str | None
    count: int
    added: int = 0
    is_touched: bool = False
    events: dict[bytes, _EventRow] = field(factory=dict[bytes, _EventRow])
    first: Recorded | None = None


async def record_events(
    connection: Connection, tables: EventTables, requests: Sequence[RecordRequest]
) -> list[Recorded]:
    """Record events whose sessions are locked, in their order."""
    token = secrets.token_bytes(8)
    recorded: dict[RecordRequest, Recorded] = {}
    while waiting := [request for request in requests if request not in recorded]:
        recorded |= await _RecordPass(tables, waiting, token).record(connection)
    return [recorded[request] for request in requests]


class _RecordPass:
    """One read and one write for some events."""

    def __init__(self, tables: EventTables, requests: Sequence[RecordRequest], token: bytes) -> None:
        self._tables = tables
        self._codec = tables.codec
        self._requests = requests
        self._token = token
        self._time = 0.0
        self._numbers: list[int] = []
        self._sessions: dict[bytes, _SessionRow] = {}
        self._erased: set[bytes] = set()
        self._expired: set[int] = set()
        self._events: list[tuple[Value, ...]] = []
        self._deliveries: list[tuple[Value, ...]] = []
        self._search_keys: list[tuple[Value, ...]] = []
        self._confirmed: list[int] = []

    async def record(self, connection: Connection) -> dict[RecordRequest, Recorded]:
        """Record the events, or the first of them if a session has too many."""
        rows = await self._read(connection)
        recorded: dict[RecordRequest, Recorded] = {}
        for request, row in zip(self._requests, rows, strict=True):
            done = self._apply(request, row)
            if done is None:  # the later ones wait too, so that all events are stored in their order
                break
            recorded[request] = done
        await self._write(connection)
        return recorded

    async def _read(self, connection: Connection) -> list[Row]:
        """Read what is stored about the events and their sessions, and delete sessions that have expired."""
        erased: dict[bytes, list[bytes]] = {}
        are_first: list[bool] = []
        for request in self._requests:
            are_first.append(request.session not in erased)
            if are_first[-1]:
                erased[request.session] = self._codec.find_erased(request.event.session_id)
        wanted = [
            (position, request.session, request.key, is_first)
            for position, (request, is_first) in enumerate(zip(self._requests, are_first, strict=True))
        ]
        values = self._tables.parameters(
            erased=[key for keys in erased.values() for key in keys], **_WANTED.values(wanted)
        )
        statement = _READ_ONE if len(wanted) == 1 else _READ_MANY
        rows = sorted(await fetch_all(connection, statement, values), key=lambda row: int(row[0]))
        if len(rows) != len(self._requests):
            msg = "PostgreSQL has returned other rows than were expected: check the server's log."
            raise InboxError(msg)
        self._time, refused = rows[0][1], frozenset(rows[0][3])
        self._numbers = sorted((row[2] for row in rows), reverse=True)
        self._erased = {session for session, keys in erased.items() if not refused.isdisjoint(keys)}
        kept_after = self._time - self._tables.retention.max_age
        old = {row[4] for row in rows if row[4] is not None and not row[8] > kept_after}
        if old:  # although no record has deleted it yet
            self._expired = {row[0] for row in await fetch_all(connection, _EXPIRED, {"numbers": list(old)})}
            await execute(connection, _DELETE_EXPIRED, {"numbers": list(self._expired)})
        return rows

    def _find_session(self, request: RecordRequest, row: Row) -> _SessionRow:
        session = self._sessions.get(request.session)
        if session is None:
            stored_id = encode(request.event.session_id or "")
            _, _, _, _, number, state, submission, count, *_ = row
            if number is None or number in self._expired:
                session = _SessionRow(None, stored_id, None, None, None, 0)
            else:
                before = None if state is None else self._codec.load_state(state, stored_id)
                text = self._codec.load_submission(submission, stored_id)
                session = _SessionRow(number, stored_id, before, before, text, count)
            self._sessions[request.session] = session
        return session

    def _apply(self, request: RecordRequest, row: Row) -> Recorded | None:
        """Apply an event in memory; return ``None`` if it must wait for the next pass."""
        event, call = request.event, request.call
        if request.session in self._erased:
            return Recorded(RecordResult(event=event, ignored=IgnoredReason.ERASED), self._token)
        session = self._find_session(request, row)
        most = self._tables.retention.max_events_per_session
        if session.added and session.count > most:
            return None
        number, token, was_queued = row[9:]
        if session.number is not None and number is not None:
            session.events.setdefault(request.key, _EventRow(number, token, was_queued))
        known = session.events.get(request.key)
        if known is not None and known.token == call.token and call.sent is not None:
            return Recorded(call.sent)
        call.sent = None  # an earlier transaction of this call was not applied
        state, ignored = apply_event(
            session.state, event, request.source, is_duplicate=known is not None, recorded_at=self._time
        )
        session.state, session.is_touched = state, True
        shown = state if state is None or session.submission is None else evolve(state, submission=session.submission)
        result = RecordResult(event=event, state=shown, ignored=ignored)
        recorded = Recorded(result, self._token)
        if known is None:
            self._add_event(request, session, ignored)
            if session.number is None and session.first is None:
                session.first = recorded
        else:
            self._repeat_event(request, known, counts=not result.is_duplicate)
        return recorded

    def _add_event(self, request: RecordRequest, session: _SessionRow, ignored: IgnoredReason | None) -> None:
        event, number = request.event, self._numbers.pop()
        session.events[request.key] = _EventRow(number, self._token, request.deliver)
        session.count += 1
        session.added += 1
        self._events.append(
            (
                number,
                request.session,
                request.key,
                encode(event.dedup_key),
                event.kind,
                self._codec.encode_body(request.call.body, session.stored_id),
                ignored and ignored.value,
            )
        )
        self._search_keys += ((name, key, request.session) for name, key in self._codec.new_search_keys(event))
        if request.deliver:
            self._deliveries.append((number, request.session, bool(event.session_id), number))

    def _repeat_event(self, request: RecordRequest, known: _EventRow, *, counts: bool) -> None:
        if counts:  # the first webhook about a polled decision
            known.token = self._token
            self._confirmed.append(known.number)
        if request.deliver and not known.was_queued:
            known.was_queued = True
            place = (known.number, request.session, bool(request.event.session_id), self._numbers.pop())
            self._deliveries.append(place)

    async def _write(self, connection: Connection) -> None:
        """Write the sessions, and everything that the events have added."""
        touched = {digest: session for digest, session in self._sessions.items() if session.is_touched}
        if not touched:
            return
        new: list[tuple[Value, ...]] = []
        known: list[tuple[Value, ...]] = []
        for digest, session in touched.items():
            state = session.state
            is_same = state is None or state is session.before
            encoded = None if state is None or is_same else self._codec.encode_state(state, session.stored_id)
            values = (encoded, None if state is None else clean_text(state.status.value), session.added)
            if session.number is None:
                new.append((digest, session.stored_id, *values))
            else:
                known.append((session.number, *values))
        parameters: dict[str, object] = {"time": self._time, "token": self._token, "confirmed": self._confirmed}
        tables = (new, known, self._events, self._deliveries, self._search_keys)
        for form, rows in zip(_FORMS, tables, strict=True):
            parameters |= form.values(rows) if rows else {}
        statement = _write_statement(tuple(min(len(rows), 2) for rows in tables), confirms=bool(self._confirmed))
        for number, digest in await fetch_all(connection, statement, parameters):
            inserted = touched[digest]
            inserted.number = number
            if inserted.first is not None:
                inserted.first.new_session = number
        for session in touched.values():
            excess = session.count - self._tables.retention.max_events_per_session
            if session.added and excess > 0:
                await execute(connection, _DELETE_FIRST_EVENTS, {"number": session.number, "excess": excess})


_FORMS: Final = (_NEW_SESSION, _CHANGE, _NEW_EVENT, _PLACE, _SEARCH_KEY)
_PARTS: Final = (_INSERT_SESSIONS, _UPDATE_SESSIONS, _INSERT_EVENTS, _INSERT_DELIVERIES, _INSERT_SEARCH_KEYS)


@cache
def _write_statement(counts: tuple[int, ...], *, confirms: bool) -> bytes:
    """Return the statement that writes sessions and events.

    Args:
        counts: The number of rows for each of `_FORMS`; 2 stands for several. Parts without rows are left out.
        confirms: Whether tokens of stored events are written.
    """
    parts = [
        part.format(
            rows=form.sql(is_one=count == 1),
            # With one session, the server plans faster without a comparison.
            condition="true" if counts[0] + counts[1] == 1 else f"session.digest = {form.name}.session",
        )
        if count
        else ""
        for part, form, count in zip(_PARTS, _FORMS, counts, strict=True)
    ]
    sources = [
        f"SELECT number, digest FROM {name}"
        for name, count in (("inserted", counts[0]), ("updated", counts[1]))
        if count
    ]
    parts.insert(2, f"session AS ({' UNION ALL '.join(sources)})")
    parts.append(_CONFIRM_EVENTS if confirms else "")
    result = "SELECT number, digest FROM inserted" if counts[0] else "SELECT NULL, NULL WHERE false"
    return f"WITH {', '.join(filter(None, parts))} {result}".encode()
