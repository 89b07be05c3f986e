"""Creates, upgrades and checks the tables of stores in PostgreSQL.

A process applies the files in one transaction under an advisory lock, so that of several processes that start at the
same time one creates the tables, and the others wait for it.
"""

from __future__ import annotations

import asyncio

from veriff_async._storage.postgres_queries import Connection, execute, fetch_one
from veriff_async._storage.postgres_scripts import LOCK, SCHEMA_VERSIONS, STORE_VERSION, VERSION_TABLE, read_scripts
from veriff_async.errors import ConfigurationError

__all__ = ("check_version", "installed_version", "migrate")


def check_version(component: str, installed: int, *, store: str) -> None:
    """Refuse tables that this version of the library cannot use.

    Args:
        component: Such as ``inbox``.
        installed: Their version.
        store: The class of the store, for the error message.

    Raises:
        ConfigurationError: The tables are older, newer or missing; the message names the remedy.
    """
    wanted = SCHEMA_VERSIONS[component]
    if installed > wanted:
        msg = (
            f"The tables of {store} have version {installed}, from a newer veriff-async, and this one knows version "
            f"{wanted}: upgrade veriff-async."
        )
        raise ConfigurationError(msg)
    if installed < wanted:
        state = f"have version {installed}, and {wanted} is needed" if installed else "do not exist"
        msg = f"The tables of {store} {state}: run veriff-async postgres migrate."
        raise ConfigurationError(msg)


async def installed_version(connection: Connection, component: str) -> int:
    """Return the version of the tables of a component in the database; 0 if it has none."""
    row = await fetch_one(connection, "SELECT to_regclass('veriff_schema') IS NOT NULL")
    if row != (True,):
        return 0
    row = await fetch_one(connection, "SELECT version FROM veriff_schema WHERE component = %s", (component,))
    return 0 if row is None else int(row[0])


async def migrate(connection: Connection, component: str) -> tuple[int, int]:
    """Create or upgrade the tables of a component, in the transaction of the connection.

    Returns:
        The versions before and after; they are equal if another process was faster.

    Raises:
        ConfigurationError: The tables are newer than this version of the library.
    """
    await execute(connection, LOCK)
    # It makes this connection see what others have just created: to_regclass alone may remember that nothing was.
    await execute(connection, VERSION_TABLE)
    before, wanted = await installed_version(connection, component), SCHEMA_VERSIONS[component]
    if before >= wanted:
        check_version(component, before, store=f"the {component}")
        return before, before
    for script in await asyncio.to_thread(read_scripts, component, before):
        await execute(connection, script.encode())
    await execute(connection, STORE_VERSION, (component, wanted))
    return before, wanted
