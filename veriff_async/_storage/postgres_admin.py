"""Looks at the tables of all stores in a database, and creates or upgrades them, for administrators."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._storage.postgres_pool import ConnectionSource
from veriff_async._storage.postgres_problems import describe_problem
from veriff_async._storage.postgres_queries import PsycopgError, execute
from veriff_async._storage.postgres_schema import installed_version, migrate
from veriff_async._storage.postgres_scripts import SCHEMA_VERSIONS
from veriff_async.errors import InboxError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from veriff_async._storage.postgres_queries import Connection

__all__ = ("TableVersion", "migrate_tables", "read_versions")

# Seconds to connect. A migration has no limit: it may rewrite large tables.
_CONNECT_SECONDS: Final = 10.0


@frozen
class TableVersion:
    """The tables of one component.

    Attributes:
        component: Its name, such as ``inbox``.
        installed: The version in the database; 0 if it has none.
        needed: The version that this version of the library uses.
    """

    component: str
    installed: int
    needed: int


async def read_versions(server: str) -> list[TableVersion]:
    """Return the versions of the tables of each component.

    Raises:
        ConfigurationError: The URL cannot be read.
        InboxError: The server failed.
    """
    async with _connect(server) as connection:
        return [
            TableVersion(component, await installed_version(connection, component), needed)
            for component, needed in SCHEMA_VERSIONS.items()
        ]


async def migrate_tables(server: str, components: Sequence[str]) -> list[tuple[str, int, int]]:
    """Create or upgrade the tables of components, all in one transaction; return their versions before and after.

    Raises:
        ConfigurationError: The URL cannot be read, or tables are newer than this version of the library.
        InboxError: The server failed; nothing was changed.
    """
    async with _connect(server) as connection:
        await execute(connection, "BEGIN")
        changes = [(component, *await migrate(connection, component)) for component in components]
        await execute(connection, "COMMIT")
        return changes


@asynccontextmanager
async def _connect(server: str) -> AsyncGenerator[Connection]:
    """Yield a connection; its end rolls a transaction back that is not committed."""
    source = ConnectionSource(server, _CONNECT_SECONDS, store="PostgreSQL", max_connections=1)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            connection = await source.connect()
        try:
            yield connection
        finally:
            await connection.close()
    except (PsycopgError, OSError) as error:
        problem = describe_problem(error)
    else:
        return
    msg = f"PostgreSQL has failed: {problem}."
    raise InboxError(msg)
