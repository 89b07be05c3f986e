"""The sessions and events of `PostgresInbox` in its tables; each function runs inside a transaction of the caller.

Writers of one session exclude each other by an advisory lock, which also holds for a session without a row. They read
in a later statement, whose snapshot therefore has everything that the previous holder of the lock committed.

Each change of a state stores the number of its transaction. Such numbers become visible in another order than the one
in which they were given, so "all numbers after N" would miss some. A subscriber keeps a snapshot instead, and asks for
the changes by transactions that were not finished in it: those that began later, and those that were running.
See https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._storage.postgres import execute, fetch_all, fetch_one
from veriff_async.inbox._postgres_codec import decode, digest_of, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from veriff_async._storage.postgres import Connection
    from veriff_async.config import Retention
    from veriff_async.inbox._postgres_codec import PostgresCodec
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = (
    "DURABLE",
    "IS_PENDING",
    "IS_VISIBLE",
    "NOW",
    "ChangePosition",
    "EventTables",
    "lock_of",
    "lock_sessions",
    "lock_statement",
)

# A subquery is computed once for each statement, so that conditions on times can use indexes.
NOW: Final = "(SELECT coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8))"
"""The time in SQL; the parameter is the time of a test, or NULL."""

# OFFSET 0 keeps the server from collecting all pending rows in order to look at a few sessions.
IS_PENDING: Final = """EXISTS (
    SELECT FROM veriff_inbox_delivery AS pending
    WHERE pending.session = session.number AND pending.status IN ('queued', 'leased') OFFSET 0)"""
"""The condition in SQL that handlers wait for an event of a session, or handle one."""

IS_VISIBLE: Final = f"""(greatest(session.touched, session.submitted_at) > {NOW} - %(max_age)s::float8
    OR {IS_PENDING})"""
"""The condition in SQL that retention keeps a session."""

DURABLE: Final = """CASE current_setting('synchronous_commit')
    WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END"""
"""An expression in SQL that lets the commit of this transaction wait for the disk.

See https://www.postgresql.org/docs/current/wal-async-commit.html.
"""

_LOCKS: Final = "unnest('{%s}'::bigint[]) AS locks (lock)"
_LOCK: Final = f"SELECT NULL, {DURABLE}, pg_advisory_xact_lock(lock) FROM {_LOCKS}"
_TRY_LOCK: Final = f"""
SELECT array_agg(lock) FILTER (WHERE NOT pg_try_advisory_xact_lock(lock)), {DURABLE} FROM {_LOCKS}
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


def lock_of(digest: bytes) -> int:
    """Return the number of the lock of a session."""
    return int.from_bytes(digest[:8], "big", signed=True)


def lock_statement(digests: Collection[bytes], *, waits: bool = True) -> bytes:
    """Return the statement of `lock_sessions`, which has no parameters.

    Args:
        digests: Of the ids of the sessions.
        waits: Whether it waits for locks that others hold. Otherwise the first column of its row has these locks, or
            NULL.
    """
    # Sorted, so that two transactions never wait for each other.
    locks = sorted({lock_of(digest) for digest in digests})
    return ((_LOCK if waits else _TRY_LOCK) % ",".join(map(str, locks))).encode()


async def lock_sessions(connection: Connection, digests: Collection[bytes]) -> None:
    """Wait until no other transaction writes these sessions, and keep others waiting until this one ends."""
    await fetch_all(connection, lock_statement(digests))
