"""The sessions and events of `PostgresInbox` in its tables; each function runs inside a transaction of the caller.

Writers of one session exclude each other by an advisory lock, which also holds for a session without a row. They read
in a later statement, whose snapshot therefore has everything that the previous holder of the lock committed.

Each change of a state stores the number of its transaction. Such numbers become visible in another order than the one
in which they were given, so "all numbers after N" would miss some. A subscriber keeps a snapshot instead, and asks for
the changes by transactions that were not finished in it: those that began later, and those that were running.
See https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field, frozen

from veriff_async._protocol.session_state import apply_event
from veriff_async._storage.postgres import execute, fetch_all, fetch_one
from veriff_async.errors import InboxError
from veriff_async.inbox._postgres_codec import decode, digest_of, encode
from veriff_async.models.state import IgnoredReason, RecordResult

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from veriff_async._storage.postgres import Connection
    from veriff_async.config import Retention
    from veriff_async.inbox._postgres_codec import PostgresCodec
    from veriff_async.models.decision_source import DecisionSource
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = (
    "DURABLE",
    "IS_VISIBLE",
    "NOW",
    "ChangePosition",
    "EventTables",
    "RecordCall",
    "lock_sessions",
    "lock_statement",
)

# A subquery is computed once for each statement, so that conditions on times can use indexes.
NOW: Final = "(SELECT coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8))"
"""The time in SQL; the parameter is the time of a test, or NULL."""

# OFFSET 0 keeps the server from collecting all pending rows in order to look at a few sessions.
_IS_PENDING: Final = """EXISTS (
    SELECT FROM veriff_inbox_delivery AS pending
    WHERE pending.session = session.number AND pending.status IN ('queued', 'leased') OFFSET 0)"""

IS_VISIBLE: Final = f"""(greatest(session.touched, session.submitted_at) > {NOW} - %(max_age)s::float8
    OR {_IS_PENDING})"""
"""The condition in SQL that retention keeps a session."""

DURABLE: Final = """CASE current_setting('synchronous_commit')
    WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END"""
"""An expression in SQL that lets the commit of this transaction wait for the disk.

See https://www.postgresql.org/docs/current/wal-async-commit.html.
"""

_LOCK: Final = f"SELECT pg_advisory_xact_lock(lock), {DURABLE} FROM unnest('{{%s}}'::bigint[]) AS locks (lock)"

_READ: Final = f"""
SELECT
    {NOW},
    (SELECT max(expires_at) FROM veriff_inbox_erased WHERE key = ANY (%(erased)s::bytea[])),
    session.number, session.state, session.submission, session.events, {IS_VISIBLE},
    event.number, event.token, delivery.event IS NOT NULL
FROM (SELECT) AS one
LEFT JOIN veriff_inbox_session AS session ON session.digest = %(session)s
LEFT JOIN veriff_inbox_event AS event ON event.session = session.number AND event.digest = %(key)s
LEFT JOIN veriff_inbox_delivery AS delivery ON delivery.event = event.number
"""

_CHANGED: Final = "CASE WHEN %(state)s::bytea IS NULL THEN {other} ELSE pg_current_xact_id() END"

_INSERT_SESSION: Final = f"""
INSERT INTO veriff_inbox_session (digest, id, state, status, changed, touched, events)
VALUES (%(session)s, %(id)s, %(state)s, %(status)s, {_CHANGED.format(other="NULL")}, %(time)s, %(added)s)
RETURNING number
"""

_UPDATE_SESSION: Final = f"""
UPDATE veriff_inbox_session SET state = coalesce(%(state)s::bytea, state), status = coalesce(%(status)s::text, status),
    changed = {_CHANGED.format(other="changed")}, touched = %(time)s, events = events + %(added)s
WHERE number = %(number)s
RETURNING number
"""

_INSERT_EVENT: Final = """
WITH session AS ({session}), event AS (
    INSERT INTO veriff_inbox_event (session, digest, key, kind, body, recorded_at, ignored, token)
    SELECT number, %(key)s, %(full_key)s, %(kind)s, %(body)s, %(time)s, %(ignored)s, %(token)s FROM session
    RETURNING number, session
), delivery AS (
    INSERT INTO veriff_inbox_delivery (event, session, is_ordered, position, status, due_at, span)
    SELECT number, session, %(is_ordered)s, number, 'queued', %(time)s, 0 FROM event WHERE %(deliver)s
), search_key AS (
    INSERT INTO veriff_inbox_search_key (field, key, session)
    SELECT field, key, number FROM session, unnest(%(fields)s::text[], %(keys)s::bytea[]) AS keys (field, key)
    ON CONFLICT DO NOTHING
)
SELECT number FROM session
"""

_INSERT_EVENT_OF_NEW_SESSION: Final = _INSERT_EVENT.format(session=_INSERT_SESSION)
_INSERT_EVENT_OF_KNOWN_SESSION: Final = _INSERT_EVENT.format(session=_UPDATE_SESSION)

_UPDATE_DUPLICATE: Final = f"""
WITH session AS ({_UPDATE_SESSION}), event AS (
    UPDATE veriff_inbox_event SET token = %(token)s WHERE number = %(event)s AND %(counts)s
)
INSERT INTO veriff_inbox_delivery (event, session, is_ordered, position, status, due_at, span)
SELECT %(event)s, number, %(is_ordered)s, nextval('veriff_inbox_number'), 'queued', %(time)s, 0
FROM session WHERE %(deliver)s
"""

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

_STATES: Final = f"""
SELECT session.id, session.state, session.touched, session.submission FROM veriff_inbox_session AS session
WHERE session.digest = ANY (%(sessions)s::bytea[]) AND session.state IS NOT NULL AND {IS_VISIBLE}
"""

_EVENTS: Final = f"""
SELECT event.kind, event.body, session.id FROM veriff_inbox_event AS event
JOIN veriff_inbox_session AS session ON session.number = event.session
WHERE session.digest = %(session)s AND {IS_VISIBLE}
ORDER BY event.number
"""

_SAVE_SUBMISSION: Final = f"""
INSERT INTO veriff_inbox_session AS session (digest, id, touched, submission, submitted_at, events)
SELECT %(session)s, %(id)s, {NOW}, %(submission)s, {NOW}, 0
WHERE NOT EXISTS (SELECT FROM veriff_inbox_erased WHERE key = ANY (%(erased)s::bytea[]) AND expires_at > {NOW})
ON CONFLICT (digest) DO UPDATE SET submission = excluded.submission, submitted_at = excluded.submitted_at
"""

_DELETE_EXPIRED: Final = f"DELETE FROM veriff_inbox_session AS session WHERE digest = %(session)s AND NOT {IS_VISIBLE}"

_POSITION: Final = "SELECT extract(epoch FROM pg_postmaster_start_time())::text, pg_current_snapshot()::text"

# The limit bounds what one look reads; with more changes the subscriber reads all states instead.
_MAX_CHANGES: Final = 1_000
# Sorted, so that the index is used even if the server misjudges the number of changes.
_CHANGES: Final = """
(SELECT id FROM veriff_inbox_session
 WHERE changed >= pg_snapshot_xmax(%(position)s::pg_snapshot)
 ORDER BY changed LIMIT %(limit)s)
UNION ALL
(SELECT id FROM veriff_inbox_session
 WHERE changed = ANY (ARRAY(SELECT pg_snapshot_xip(%(position)s::pg_snapshot)))
 ORDER BY changed LIMIT %(limit)s)
"""


@frozen
class ChangePosition:
    """Until when a subscriber knows the changes.

    Attributes:
        server: The process of the server: after a failover, numbers of transactions may be used again.
        snapshot: The transactions that had finished.
    """

    server: str
    snapshot: str


@define
class RecordCall:
    """One call of `record`, whose transaction may be applied although its response is lost.

    Attributes:
        body: The event as JSON.
        token: Stored with the event, so that a later call knows that the event is from this call.
        sent: The result of the call if its last transaction was applied; ``None`` before a commit was sent.
    """

    body: bytes = field(repr=False)
    token: bytes = field(factory=lambda: secrets.token_bytes(8), repr=False)
    sent: RecordResult | None = None


@frozen
class _Row:
    """The stored session and event that a new event meets.

    Attributes:
        time: The time of this record.
        number: The number of the session, if it has a row.
        state: Its state.
        submission: See `SubmissionInbox.save_submission`.
        events: How many events it has.
        event: The number of the same event, if it was recorded before.
        token: The call that recorded that event.
        was_queued: Whether that event was ever queued for handlers.
    """

    time: float
    number: int | None = None
    state: SessionState | None = None
    submission: str | None = None
    events: int = 0
    event: int | None = None
    token: bytes | None = None
    was_queued: bool = False


class EventTables:
    """The statements about sessions and events.

    Args:
        retention: How much is kept.
        now: The time in seconds since 1970; the time of the server if it is ``None``.
        codec: Encodes and decodes the texts.
    """

    def __init__(self, retention: Retention, now: Callable[[], float] | None, codec: PostgresCodec) -> None:
        """Keep the arguments."""
        self.retention = retention
        self.codec = codec
        self._now = now

    def parameters(self, **others: object) -> dict[str, object]:
        """Return the parameters of a statement, with those of `NOW` and `IS_VISIBLE`."""
        return {"now": self._now and self._now(), "max_age": self.retention.max_age, **others}

    async def insert_event(
        self, connection: Connection, event: WebhookEvent, source: DecisionSource, call: RecordCall, *, deliver: bool
    ) -> tuple[RecordResult, int | None]:
        """Record an event whose session is locked; return the result, and the number of the session if it is new."""
        session, key = digest_of(event.session_id or ""), digest_of(event.dedup_key)
        row = await self._read(connection, event, session, key)
        if row is None:
            return RecordResult(event=event, ignored=IgnoredReason.ERASED), None
        if row.token == call.token and call.sent is not None:
            return call.sent, None
        call.sent = None  # an earlier transaction of this call was not applied
        state, ignored = apply_event(row.state, event, source, is_duplicate=row.event is not None, recorded_at=row.time)
        shown = state if state is None or row.submission is None else evolve(state, submission=row.submission)
        result = RecordResult(event=event, state=shown, ignored=ignored)
        search_keys, stored_id = self.codec.new_search_keys(event), encode(event.session_id or "")
        values = {
            "session": session,
            "id": stored_id,
            "number": row.number,
            "state": None if state is None or state is row.state else self.codec.encode_state(state, stored_id),
            "status": None if state is None else state.status.value,
            "time": row.time,
            "added": int(row.event is None),
            "key": key,
            "full_key": encode(event.dedup_key),
            "kind": event.kind,
            "body": self.codec.encode_body(call.body, stored_id),
            "ignored": ignored and ignored.value,
            "token": call.token,
            "event": row.event,
            "counts": not result.is_duplicate,
            "deliver": deliver and not row.was_queued,
            "is_ordered": bool(event.session_id),
            "fields": [name for name, _ in search_keys],
            "keys": [value for _, value in search_keys],
        }
        if row.event is not None:
            await execute(connection, _UPDATE_DUPLICATE, values)
            return result, None
        statement = _INSERT_EVENT_OF_NEW_SESSION if row.number is None else _INSERT_EVENT_OF_KNOWN_SESSION
        inserted = await fetch_one(connection, statement, values)
        excess = row.events + 1 - self.retention.max_events_per_session
        if excess > 0:
            await execute(connection, _DELETE_FIRST_EVENTS, {"number": row.number, "excess": excess})
        return result, inserted[0] if inserted and row.number is None else None

    async def states(self, connection: Connection, session_ids: Collection[str]) -> dict[str, SessionState]:
        """Return the states of those sessions that have one."""
        digests = [digest_of(session_id) for session_id in session_ids]
        rows = await fetch_all(connection, _STATES, self.parameters(sessions=digests))
        states = (self.codec.load_state(state, id_, submission, touched) for id_, state, touched, submission in rows)
        return {state.session_id: state for state in states}

    async def events(self, connection: Connection, session_id: str | None) -> tuple[WebhookEvent, ...]:
        """Return the events of a session in the order of recording."""
        rows = await fetch_all(connection, _EVENTS, self.parameters(session=digest_of(session_id or "")))
        return tuple(self.codec.load_event(*row) for row in rows)

    async def save_submission(self, connection: Connection, session_id: str, submission: str) -> None:
        """Store a text for a session."""
        session = digest_of(session_id)
        await lock_sessions(connection, [session])
        values = self.parameters(
            session=session,
            id=encode(session_id),
            submission=self.codec.encode_submission(submission, encode(session_id)),
            erased=self.codec.find_erased(session_id),
        )
        await execute(connection, _DELETE_EXPIRED, values)  # its old state must not become visible again
        await execute(connection, _SAVE_SUBMISSION, values)

    async def changes_after(
        self, connection: Connection, position: ChangePosition | None
    ) -> tuple[ChangePosition, list[str | None]]:
        """Return the present position, and the sessions that changed after an earlier one.

        ``[None]`` stands for too many, and for those that are unknown: without an earlier position, or if it is of
        another server.
        """
        # The position is taken first: a change between the two statements is returned now and at the next look.
        row = await fetch_one(connection, _POSITION)
        after = ChangePosition(*row) if row else ChangePosition("", "")
        if position is None or position.server != after.server:
            return after, [None]
        rows = await fetch_all(connection, _CHANGES, {"position": position.snapshot, "limit": _MAX_CHANGES + 1})
        return after, [None] if len(rows) > _MAX_CHANGES else [decode(session) for (session,) in rows]

    async def _read(self, connection: Connection, event: WebhookEvent, session: bytes, key: bytes) -> _Row | None:
        """Return what is stored about an event and its session; ``None`` if the session was erased."""
        erased, stored_id = self.codec.find_erased(event.session_id), encode(event.session_id or "")
        row = await fetch_one(connection, _READ, self.parameters(session=session, key=key, erased=erased))
        if row is None:
            msg = "PostgreSQL has returned no row where one was expected: check the server's log."
            raise InboxError(msg)
        time, refused_until, number, state, submission, events, is_visible, found, token, was_queued = row
        if refused_until is not None and refused_until > time:
            return None
        if number is None:
            return _Row(time)
        if not is_visible:  # expired, although no record has deleted it yet
            await execute(connection, "DELETE FROM veriff_inbox_session WHERE number = %(number)s", {"number": number})
            return _Row(time)
        return _Row(
            time,
            number,
            None if state is None else self.codec.load_state(state, stored_id),
            self.codec.load_submission(submission, stored_id),
            events,
            found,
            token,
            was_queued,
        )


def lock_statement(digests: Collection[bytes]) -> bytes:
    """Return the statement of `lock_sessions`, which has no parameters."""
    # Sorted, so that two transactions never wait for each other.
    locks = sorted({int.from_bytes(digest[:8], "big", signed=True) for digest in digests})
    return (_LOCK % ",".join(map(str, locks))).encode()


async def lock_sessions(connection: Connection, digests: Collection[bytes]) -> None:
    """Wait until no other transaction writes these sessions, and keep others waiting until this one ends."""
    await fetch_all(connection, lock_statement(digests))
