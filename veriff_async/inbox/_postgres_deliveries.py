"""The deliveries of `PostgresInbox` in their table; each function runs inside a transaction of the caller.

A lease is taken with ``FOR UPDATE SKIP LOCKED``, so that processes that lease at the same time get different events and
do not wait for each other. The rows of one session are queued in the order of `position`, a number that is taken while
the session is locked. An event therefore never becomes the second of its session after it was the first one, and a
lease needs no lock of the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from veriff_async._protocol.delivery import give_back
from veriff_async._protocol.delivery_schedule import MISSING_KEY, UNREADABLE
from veriff_async._storage.postgres import execute, fetch_all, fetch_one
from veriff_async.errors import InboxError
from veriff_async.inbox._postgres_codec import clean_text, decode, digest_of
from veriff_async.inbox._postgres_events import DURABLE, IS_VISIBLE, NOW, lock_sessions
from veriff_async.models.delivery import Delivery, DeliveryRecord, DeliveryStatus
from veriff_async.models.state import IgnoredReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from veriff_async._storage.postgres import Connection
    from veriff_async.inbox._postgres_events import EventTables
    from veriff_async.models.delivery import DeliveryOutcome
    from veriff_async.models.events import WebhookEvent

__all__ = ("extend_leases", "find_deliveries", "give_back_events", "lease_events", "requeue_event", "settle_event")

# A due time that is further away than twice the delay from which it was computed is one of a clock that was set back.
_LEASE: Final = f"""
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), due AS (
    SELECT delivery.event FROM veriff_inbox_delivery AS delivery, clock
    WHERE delivery.status IN ('queued', 'leased')
        AND (delivery.due_at <= clock.now OR delivery.due_at - clock.now > 2 * delivery.span)
        AND (NOT delivery.is_ordered OR NOT EXISTS (
            SELECT FROM veriff_inbox_delivery AS earlier
            WHERE earlier.session = delivery.session AND earlier.status IN ('queued', 'leased')
                AND earlier.position < delivery.position))
    ORDER BY delivery.position LIMIT %(limit)s
    FOR UPDATE OF delivery SKIP LOCKED
), leased AS (
    UPDATE veriff_inbox_delivery AS delivery
    SET status = 'leased', attempts = least(attempts, 2147483646) + 1, lease = %(lease)s,
        due_at = clock.now + %(seconds)s, span = %(seconds)s
    FROM due, clock WHERE delivery.event = due.event
    RETURNING delivery.event, delivery.position, delivery.attempts, delivery.handled_by
)
SELECT leased.event, leased.attempts, leased.handled_by, event.kind, event.body, event.recorded_at, event.ignored,
    session.id, session.state, session.submission, session.touched
FROM leased
JOIN veriff_inbox_event AS event ON event.number = leased.event
JOIN veriff_inbox_session AS session ON session.number = event.session
ORDER BY leased.position
"""

# A row that another transaction has locked is skipped: it belongs to a handler with a transaction, or is being leased.
_EXTEND: Final = f"""
WITH held AS (
    SELECT delivery.event FROM veriff_inbox_delivery AS delivery
    JOIN unnest(%(events)s::bigint[], %(leases)s::bytea[]) AS wanted (event, lease)
        ON delivery.event = wanted.event AND delivery.lease = wanted.lease
    WHERE delivery.status = 'leased'
    FOR UPDATE OF delivery SKIP LOCKED
)
UPDATE veriff_inbox_delivery AS delivery SET due_at = {NOW} + %(seconds)s, span = %(seconds)s
FROM held WHERE delivery.event = held.event
RETURNING delivery.event, delivery.lease
"""

_GIVE_BACK: Final = f"""
UPDATE veriff_inbox_delivery
SET status = 'queued', attempts = attempts - 1, lease = NULL, due_at = {NOW}, span = 0
WHERE status = 'leased' AND lease = %(lease)s
"""

_SETTLE_LEASED: Final = f"""
UPDATE veriff_inbox_delivery SET handled_by = %(handled_by)s
WHERE event = %(event)s AND lease = %(lease)s AND status = 'leased'
RETURNING {DURABLE}
"""

_SETTLE: Final = f"""
UPDATE veriff_inbox_delivery
SET status = %(status)s, handled_by = %(handled_by)s, error = %(error)s, lease = NULL,
    attempts = attempts - %(uncounted)s, due_at = {NOW} + %(delay)s, span = %(delay)s
WHERE event = %(event)s AND lease = %(lease)s AND status = 'leased'
RETURNING {DURABLE}
"""

_RECORDS: Final = """
SELECT session.id, event.key, event.kind, delivery.status, delivery.attempts, event.recorded_at, delivery.due_at,
    delivery.error, delivery.handled_by
FROM veriff_inbox_event AS event
JOIN veriff_inbox_session AS session ON session.number = event.session
{join} JOIN veriff_inbox_delivery AS delivery ON delivery.event = event.number
WHERE {conditions}
ORDER BY event.number DESC LIMIT %(limit)s
"""

_REQUEUE: Final = f"""
INSERT INTO veriff_inbox_delivery AS delivery (event, session, is_ordered, position, status, due_at, span)
SELECT event.number, event.session, session.id <> '', nextval('veriff_inbox_number'), 'queued', {NOW}, 0
FROM veriff_inbox_event AS event JOIN veriff_inbox_session AS session ON session.number = event.session
WHERE session.digest = %(session)s AND event.digest = %(key)s AND {IS_VISIBLE}
ON CONFLICT (event) DO UPDATE SET status = 'queued', attempts = 0, due_at = excluded.due_at, span = 0,
    position = excluded.position, error = NULL, handled_by = '{{}}'
    WHERE delivery.status NOT IN ('queued', 'leased')
"""

_IS_QUEUED: Final = """
SELECT FROM veriff_inbox_delivery AS delivery
JOIN veriff_inbox_event AS event ON event.number = delivery.event
JOIN veriff_inbox_session AS session ON session.number = event.session
WHERE session.digest = %(session)s AND event.digest = %(key)s AND delivery.status IN ('queued', 'leased')
"""


async def lease_events(
    connection: Connection, tables: EventTables, limit: int, seconds: float, token: bytes
) -> list[Delivery[WebhookEvent]]:
    """Lease events that are due, one of each session; the token is new for each call.

    An event that cannot be read becomes a dead letter: it would come back with each lease, and keep all others waiting.

    Raises:
        InboxError: This process lacks the keys of all of them; the leases end with the transaction.
    """
    values = tables.parameters(limit=limit, seconds=seconds, lease=token)
    deliveries: list[Delivery[WebhookEvent]] = []
    problem: InboxError | None = None
    for row in await fetch_all(connection, _LEASE, values):
        event, attempt, handled_by, kind, body, recorded_at, ignored, id_, state, submission, touched = row
        lease = f"{event}:{token.hex()}"
        try:
            delivery = Delivery(
                event=tables.codec.load_event(kind, body, id_),
                attempt=attempt,
                state=None if state is None else tables.codec.load_state(state, id_, submission, touched),
                ignored=None if ignored is None else IgnoredReason(ignored),
                recorded_at=recorded_at,
                handled_by=frozenset(handled_by),
                lease=lease,
            )
        except (InboxError, ValueError) as error:
            outcome = UNREADABLE
            if isinstance(error, InboxError) and tables.codec.lacks_key(body, state, submission):
                # Another process, or this one with the right ring, can handle it.
                problem, outcome = error, give_back(handled_by, MISSING_KEY)
            await settle_event(connection, tables, lease, outcome)
        else:
            deliveries.append(delivery)
    if problem is not None and not deliveries:
        raise problem
    return deliveries


async def give_back_events(connection: Connection, tables: EventTables, token: bytes) -> None:
    """End the attempts of one call of `lease_events` as if they had not begun."""
    await execute(connection, _GIVE_BACK, tables.parameters(lease=token))


async def extend_leases(
    connection: Connection, tables: EventTables, leases: Iterable[str], seconds: float
) -> frozenset[str]:
    """Let leases end later, and return those that are still held."""
    parts = [part for lease in leases if (part := _split(lease)) is not None]
    values = tables.parameters(
        events=[event for event, _ in parts], leases=[token for _, token in parts], seconds=seconds
    )
    rows = await fetch_all(connection, _EXTEND, values)
    return frozenset(f"{event}:{token.hex()}" for event, token in rows)


async def settle_event(connection: Connection, tables: EventTables, lease: str, outcome: DeliveryOutcome) -> bool:
    """Store the outcome of an attempt, and return whether its lease was still held."""
    parts = _split(lease)
    if parts is None:
        return False
    event, token = parts
    values = tables.parameters(
        event=event,
        lease=token,
        status=outcome.status.value,
        handled_by=sorted(map(clean_text, outcome.handled_by)),
        error=None if outcome.error is None else clean_text(outcome.error),
        uncounted=int(not outcome.counts),
        delay=outcome.delay,
    )
    statement = _SETTLE_LEASED if outcome.status is DeliveryStatus.LEASED else _SETTLE
    return await fetch_one(connection, statement, values) is not None


async def find_deliveries(
    connection: Connection, tables: EventTables, session_id: str | None, status: DeliveryStatus | None, limit: int
) -> Sequence[DeliveryRecord]:
    """Return how far the handlers are with events, the latest first."""
    conditions: list[LiteralString] = [IS_VISIBLE]
    if session_id is not None:
        conditions.append("session.digest = %(session)s")
    if status is not None:
        conditions.append("delivery.status = %(status)s")
    statement = _RECORDS.format(join="LEFT" if status is None else "INNER", conditions=" AND ".join(conditions))
    values = tables.parameters(session=digest_of(session_id or ""), status=status and status.value, limit=limit)
    return [
        DeliveryRecord(
            session_id=decode(session) or None,
            dedup_key=decode(key),
            kind=kind,
            status=None if stored is None else DeliveryStatus(stored),
            attempts=attempts or 0,
            recorded_at=recorded_at,
            due_at=due_at if stored in {DeliveryStatus.QUEUED, DeliveryStatus.LEASED} else None,
            error=error,
            handled_by=frozenset(handled_by or ()),
        )
        for session, key, kind, stored, attempts, recorded_at, due_at, error, handled_by in await fetch_all(
            connection, statement, values
        )
    ]


async def requeue_event(connection: Connection, tables: EventTables, session_id: str | None, dedup_key: str) -> bool:
    """Queue an event again, behind those of its session, and return whether it was done."""
    session = digest_of(session_id or "")
    values = tables.parameters(session=session, key=digest_of(dedup_key))
    # Read before anything is locked: a handler with a transaction may hold the row for long.
    if await fetch_one(connection, _IS_QUEUED, values) is not None:
        return False
    await lock_sessions(connection, [session])
    return await execute(connection, _REQUEUE, values) > 0


def _split(lease: str) -> tuple[int, bytes] | None:
    """Return the number of the event and the token of a lease; ``None`` for a text that is not from this inbox."""
    event, _, token = lease.partition(":")
    try:
        return int(event), bytes.fromhex(token)
    except ValueError:
        return None
