"""What `PostgresInbox` deletes: sessions beyond the limits of retention, and sessions that a program erases.

Both delete in small batches, each a transaction of its own, so that records of the same sessions wait only briefly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async._storage.postgres import execute, fetch_all, fetch_one
from veriff_async.inbox._postgres_codec import digest_of
from veriff_async.inbox._postgres_events import DURABLE, NOW, lock_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async._storage.postgres import Connection
    from veriff_async.inbox._postgres_events import EventTables

__all__ = ("BATCH_SIZE", "clear_files", "count_sessions", "delete_expired", "delete_oldest", "erase_sessions")

_TABLES: Final = (
    "veriff_inbox_session",
    "veriff_inbox_event",
    "veriff_inbox_delivery",
    "veriff_inbox_search_key",
    "veriff_inbox_erased",
)

# Bytes of all tables up to which they are rewritten after an erasure. That takes about a second, and locks them.
_MAX_REWRITTEN: Final = 64 * 2**20

# Milliseconds that a rewrite waits for transactions that use a table, while new ones wait behind it.
_LOCK_TIMEOUT: Final = 2_000

BATCH_SIZE: Final = 100
"""Sessions that are deleted in one transaction, which locks each of them; the server has room for some thousands."""

# A session that another process writes or deletes is skipped.
_LOCK: Final = """
WITH candidate AS MATERIALIZED (
    SELECT session.number, session.digest, session.touched FROM veriff_inbox_session AS session
    WHERE {condition} AND NOT EXISTS (
        SELECT FROM veriff_inbox_delivery AS pending
        WHERE pending.session = session.number AND pending.status IN ('queued', 'leased'))
    ORDER BY session.touched, session.number LIMIT %(limit)s
)
SELECT number, touched FROM candidate
WHERE pg_try_advisory_xact_lock(('x' || encode(substring(digest FROM 1 FOR 8), 'hex'))::bit(64)::bigint)
"""

_LOCK_EXPIRED: Final = _LOCK.format(
    condition=f"""session.touched <= {NOW} - %(max_age)s::float8
        AND coalesce(session.submitted_at, session.touched) <= {NOW} - %(max_age)s::float8"""
)
_LOCK_OLDEST: Final = _LOCK.format(condition="true")

# Another process may have recorded an event before the lock was taken, so this statement, with a snapshot of its own,
# looks again. The events are deleted by the foreign keys.
_DELETE: Final = """
DELETE FROM veriff_inbox_session AS session
USING unnest(%(numbers)s::bigint[], %(times)s::float8[]) AS locked (number, touched)
WHERE session.number = locked.number AND session.touched = locked.touched AND NOT EXISTS (
    SELECT FROM veriff_inbox_delivery AS pending
    WHERE pending.session = session.number AND pending.status IN ('queued', 'leased'))
"""

_ERASE: Final = f"""
WITH tombstone AS (
    INSERT INTO veriff_inbox_erased AS erased (key, expires_at)
    SELECT key, {NOW} + %(refuse_for)s FROM unnest(%(keys)s::bytea[]) AS keys (key)
    ON CONFLICT (key) DO UPDATE SET expires_at = greatest(erased.expires_at, excluded.expires_at)
), expired AS (
    DELETE FROM veriff_inbox_erased WHERE expires_at <= {NOW} AND key <> ALL (%(keys)s::bytea[])
), deleted AS (
    DELETE FROM veriff_inbox_session WHERE digest = ANY (%(digests)s::bytea[]) RETURNING number
)
SELECT count(*), {DURABLE} FROM deleted
"""

_SIZE: Final = """
SELECT sum(pg_total_relation_size(oid))::bigint, bool_and(pg_has_role(relowner, 'USAGE'))
FROM pg_class WHERE oid = ANY (%(tables)s::regclass[])
"""


async def delete_expired(connection: Connection, tables: EventTables) -> int:
    """Delete sessions that were without an event for too long, one batch at most, and return how many."""
    rows = await fetch_all(connection, _LOCK_EXPIRED, tables.parameters(limit=BATCH_SIZE))
    return await _delete(connection, rows)


async def delete_oldest(connection: Connection, tables: EventTables, count: int) -> int:
    """Delete the sessions without an event for longest, one batch at most, and return how many."""
    rows = await fetch_all(connection, _LOCK_OLDEST, tables.parameters(limit=min(count, BATCH_SIZE)))
    return await _delete(connection, rows)


async def count_sessions(connection: Connection) -> int:
    """Return the number of sessions, which reads each row of an index."""
    row = await fetch_one(connection, "SELECT count(*) FROM veriff_inbox_session")
    return row[0] if row else 0


async def erase_sessions(
    connection: Connection, tables: EventTables, session_ids: Sequence[str], refuse_for: float
) -> int:
    """Delete sessions and refuse their later events; return how many were stored."""
    digests = [digest_of(session_id) for session_id in session_ids]
    await lock_sessions(connection, digests)
    # An id is not empty here.
    keys = [tables.codec.find_erased(session_id)[0] for session_id in session_ids]
    rows = await fetch_all(connection, _ERASE, tables.parameters(keys=keys, digests=digests, refuse_for=refuse_for))
    return rows[0][0] if rows else 0


async def _delete(connection: Connection, rows: Sequence[tuple[int, float]]) -> int:
    if not rows:
        return 0
    values = {"numbers": [number for number, _ in rows], "times": [touched for _, touched in rows]}
    return await execute(connection, _DELETE, values)


async def clear_files(connection: Connection) -> bool:
    """Remove what was deleted from the files of the tables, and return whether nothing of it is left in them.

    ``VACUUM`` frees the space of deleted rows without overwriting it; only a table that is rewritten has none of it.
    ``VACUUM FULL`` cannot run in a transaction, and so needs a ``SET`` for its session, which PgBouncer in transaction
    mode would leave to other clients. ``CLUSTER`` rewrites a table too, see
    https://www.postgresql.org/docs/current/sql-cluster.html.

    Args:
        connection: In no transaction.
    """
    row = await fetch_one(connection, _SIZE, {"tables": list(_TABLES)})
    size, is_owner = row or (0, False)
    is_rewritten = size <= _MAX_REWRITTEN and bool(is_owner)
    for table in _TABLES:
        statement = f"VACUUM {table}"  # which delays no other transaction; the server skips tables of another owner
        if is_rewritten:
            statement = f"BEGIN; SET LOCAL lock_timeout = {_LOCK_TIMEOUT}; CLUSTER {table} USING {table}_pkey; COMMIT"
        await execute(connection, statement.encode())
    return is_rewritten
