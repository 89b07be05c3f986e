"""Copies of a session in the store of an inbox: what as many calls of `record` would leave, in minutes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from psycopg import AsyncConnection
from redis.asyncio import Redis

from veriff_async.inbox._redis_layout import SEARCH_KEY_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ("FILLERS", "stored_bytes")

_BATCH: Final = 2_000
_PREFIX: Final = "{veriff}"

# The copies get ids of their own, of the same length, in their state too.
_COPY_ID: Final = "printf('00000000-0000-4000-9000-%012d', n)"


async def fill_sqlite(address: str, session_id: str, count: int) -> None:
    """Copy a session in a file."""
    await asyncio.to_thread(_fill_sqlite, address, session_id.encode(), count)


def _fill_sqlite(address: str, session_id: bytes, count: int) -> None:
    more = f"SELECT n + 1 FROM numbers WHERE n < {count}"  # noqa: S608  a number
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL {more})"
    with closing(sqlite3.connect(address, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        state = f"CAST(replace(CAST(state AS TEXT), CAST(? AS TEXT), {_COPY_ID}) AS BLOB)"
        db.execute(
            f"{numbers} INSERT INTO session (id, state, changed, events, touched, queued, status, keys) "  # noqa: S608
            f"SELECT CAST({_COPY_ID} AS BLOB), {state}, changed, events, touched - (n % 86400), queued, status, keys "
            "FROM numbers, session WHERE id = ?",
            (session_id, session_id),
        )
        db.execute(
            f"{numbers} INSERT INTO event (session, key, kind, body, recorded, ignored) "  # noqa: S608
            f"SELECT CAST({_COPY_ID} AS BLOB), key, kind, body, recorded, ignored "
            "FROM numbers, event WHERE session = ?",
            (session_id,),
        )
        db.execute(
            f"{numbers} INSERT INTO search (key, session) SELECT key, CAST({_COPY_ID} AS BLOB) "  # noqa: S608
            "FROM numbers, search WHERE session = ?",
            (session_id,),
        )
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def fill_redis(address: str, session_id: str, count: int) -> None:
    """Copy a session in a server."""
    async with Redis.from_url(address) as client:
        fields = cast("dict[Any, Any]", await client.hgetall(f"{_PREFIX}:session:{session_id}"))
        search, events = fields[b"search"], int(fields[b"after"]) - int(fields[b"first"])
        hours = Counter[int]()
        now = time.time()
        for start in range(1, count + 1, _BATCH):
            async with client.pipeline(transaction=False) as pipe:
                for number in range(start, min(start + _BATCH, count + 1)):
                    copy = f"00000000-0000-4000-9000-{number:012d}"
                    state = fields[b"state"].replace(session_id.encode(), copy.encode())
                    key = f"{_PREFIX}:session:{copy}"
                    pipe.hset(key, mapping={**fields, b"state": state, b"touched": f"{now - number % 86_400:.6f}"})
                    pipe.pexpire(key, 30 * 86_400_000)
                    touched = now - number % 86_400
                    pipe.zadd(f"{_PREFIX}:touched", {f"session:{copy}": touched})
                    hours[int(touched // 3600)] += 1
                    for at in range(0, len(search), SEARCH_KEY_SIZE):
                        member = search[at : at + SEARCH_KEY_SIZE] + f"session:{copy}".encode()
                        pipe.zadd(f"{_PREFIX}:search", {member: 0})
                await pipe.execute()
        for hour, sessions in hours.items():
            await client.hincrby(f"{_PREFIX}:counts", f"sessions:{hour}", sessions)
            await client.hincrby(f"{_PREFIX}:counts", f"events:{hour}", sessions * events)


async def fill_postgres(address: str, session_id: str, count: int) -> None:
    """Copy a session in a database."""
    copy = "('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::bytea"
    async with await AsyncConnection.connect(address) as connection:
        cursor = await connection.execute(
            "SELECT number, id FROM veriff_inbox_session WHERE id = %s", (session_id.encode(),)
        )
        row = await cursor.fetchone()
        assert row is not None
        await connection.execute(
            "INSERT INTO veriff_inbox_session (digest, id, state, status, changed, touched, events) "  # noqa: S608
            f"SELECT sha256({copy}), {copy}, convert_to(replace(convert_from(state, 'UTF8'), %s, "
            f"convert_from({copy}, 'UTF8')), 'UTF8'), status, changed, touched - (n %% 86400), events "
            "FROM generate_series(1, %s) n, veriff_inbox_session WHERE number = %s",
            (session_id, count, row[0]),
        )
        await connection.execute(
            "INSERT INTO veriff_inbox_event (session, digest, key, kind, body, recorded_at, ignored, token) "
            "SELECT s.number, e.digest, e.key, e.kind, e.body, e.recorded_at, e.ignored, e.token "
            "FROM veriff_inbox_session s, veriff_inbox_event e WHERE e.session = %s AND s.number <> %s",
            (row[0], row[0]),
        )
        await connection.execute(
            "INSERT INTO veriff_inbox_search_key (field, key, session) SELECT k.field, k.key, s.number "
            "FROM veriff_inbox_session s, veriff_inbox_search_key k WHERE k.session = %s AND s.number <> %s",
            (row[0], row[0]),
        )
        await connection.commit()
        await connection.set_autocommit(True)
        for table in ("session", "event", "search_key"):
            await connection.execute(f"ANALYZE veriff_inbox_{table}")


async def stored_bytes(store: str, address: str) -> int:
    """Return the bytes on disk, or in the memory of Redis."""
    if store == "sqlite":
        return sum(path.stat().st_size for path in Path(address).parent.iterdir())
    if store == "redis":
        async with Redis.from_url(address) as client:
            return int((await client.info("memory"))["used_memory"])
    async with await AsyncConnection.connect(address) as connection:
        row = await (await connection.execute("SELECT pg_database_size(current_database())")).fetchone()
        assert row is not None
        return int(row[0])


FILLERS: Final[Mapping[str, Callable[[str, str, int], Awaitable[None]]]] = {
    "sqlite": fill_sqlite,
    "redis": fill_redis,
    "postgres": fill_postgres,
}
