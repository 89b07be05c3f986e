"""Statements on a connection of psycopg, which may come from a user's pool and have any settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString, TypeAlias

from veriff_async.errors import ConfigurationError

try:
    from psycopg import AsyncConnection, AsyncCursor, AsyncTransaction, DataError, Error as PsycopgError, capabilities
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.errors import ConnectionFailure, InFailedSqlTransaction, InvalidTransactionTermination
    from psycopg.rows import tuple_row
except ImportError:
    msg = (
        "PostgresInbox and PostgresJournal need psycopg, an extra of this package, and libpq: "
        'pip install "veriff-async[postgres]" "psycopg[binary]".'
    )
    raise ConfigurationError(msg) from None

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Parameters: TypeAlias = Sequence[object] | Mapping[str, object]

__all__ = (
    "AsyncConnection",
    "AsyncTransaction",
    "Connection",
    "ConnectionFailure",
    "DataError",
    "InFailedSqlTransaction",
    "InvalidTransactionTermination",
    "PsycopgError",
    "Row",
    "conninfo_to_dict",
    "execute",
    "execute_many",
    "fetch_all",
    "fetch_last",
    "fetch_one",
    "has_cancel_safe",
    "make_conninfo",
    "notify",
)

Connection: TypeAlias = AsyncConnection[Any]
Row: TypeAlias = tuple[Any, ...]


def _cursor(connection: Connection) -> AsyncCursor[Row]:
    """Return a cursor that ignores the row factory and the cursor factory of the connection."""
    return AsyncCursor(connection, row_factory=tuple_row)


def has_cancel_safe() -> bool:
    """Return whether psycopg can cancel a statement without blocking, which libpq 17 has brought."""
    return capabilities.has_cancel_safe()


async def execute(connection: Connection, sql: LiteralString | bytes, parameters: Parameters = ()) -> int:
    """Run a statement; without parameters, several. Return the number of rows that it changed or returned."""
    async with _cursor(connection) as cursor:
        # A prepared statement belongs to one connection of the server, which PgBouncer gives to other clients.
        await cursor.execute(sql, parameters or None, prepare=False)
        return cursor.rowcount


async def fetch_last(connection: Connection, sql: LiteralString | bytes) -> Row | None:
    """Run several statements without parameters, and return the first row of the last one."""
    async with _cursor(connection) as cursor:
        await cursor.execute(sql, prepare=False)
        while cursor.nextset():
            pass
        return await cursor.fetchone()


async def execute_many(connection: Connection, sql: LiteralString | bytes, rows: Iterable[Parameters]) -> None:
    """Run a statement for each row of parameters."""
    for row in rows:
        await execute(connection, sql, row)


async def fetch_all(connection: Connection, sql: LiteralString | bytes, parameters: Parameters = ()) -> list[Row]:
    """Run a statement and return its rows."""
    async with _cursor(connection) as cursor:
        await cursor.execute(sql, parameters or None, prepare=False)
        return await cursor.fetchall()


async def fetch_one(connection: Connection, sql: LiteralString | bytes, parameters: Parameters = ()) -> Row | None:
    """Run a statement and return its first row."""
    async with _cursor(connection) as cursor:
        await cursor.execute(sql, parameters or None, prepare=False)
        return await cursor.fetchone()


async def notify(connection: Connection, channel: str, payload: str) -> None:
    """Notify the listeners of a channel when the transaction is committed.

    Args:
        connection: In a transaction that stores nothing, or in none.
        channel: At most 63 bytes.
        payload: At most 7,999 bytes, without NUL.
    """
    # Nothing is stored. A commit that waits for the disk would keep every other NOTIFY, and the commit of a record that
    # comes at the same time, waiting: https://www.postgresql.org/docs/current/wal-async-commit.html
    query = "SELECT pg_notify(%s, %s), set_config('synchronous_commit', 'off', true)"
    await execute(connection, query, (channel, payload))
