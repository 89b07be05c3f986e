"""The tables of stores in PostgreSQL: plain SQL files, one for each version of a component, and what applies them.

The files are in the folder ``sql``. They use no schema names, so the ``search_path`` of the user decides where the
tables are. A process applies them in one transaction under an advisory lock, so that of several processes that start
at the same time one creates the tables, and the others wait for it.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from veriff_async._storage.postgres_queries import Connection, execute, fetch_one
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("SCHEMA_VERSIONS", "check_version", "installed_version", "migrate", "migration_script")

SCHEMA_VERSIONS: Final[Mapping[str, int]] = {"inbox": 1, "journal": 1}
"""The version of the tables that this version of the library uses, by component."""

# The key of the advisory lock: "veriff" in ASCII. Locks of other programs have other keys.
_LOCK: Final = "SELECT pg_advisory_xact_lock(130178083284582)"

_VERSION_TABLE: Final = """\
CREATE TABLE IF NOT EXISTS veriff_schema (
    component text PRIMARY KEY,
    version integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)"""

_STORE_VERSION: Final = """\
INSERT INTO veriff_schema (component, version) VALUES (%s, %s)
ON CONFLICT (component) DO UPDATE SET version = excluded.version, applied_at = excluded.applied_at"""


def migration_script(component: str, after: int = 0) -> str:
    """Return the SQL that creates the tables of a component, or upgrades them from a version. Reads files.

    psql can run it: it is one transaction, and stores the new version.
    """
    version = SCHEMA_VERSIONS[component]
    steps = (
        f"{_LOCK};",
        f"{_VERSION_TABLE};",
        *_read_scripts(component, after),
        f"{_STORE_VERSION};".replace("%s, %s", f"'{component}', {version}"),
    )
    return "\n\n".join(("BEGIN;", *(step.strip() for step in steps), "COMMIT;\n"))


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
    await execute(connection, _LOCK)
    # It makes this connection see what others have created meanwhile: to_regclass alone may remember that nothing was.
    await execute(connection, _VERSION_TABLE)
    before, wanted = await installed_version(connection, component), SCHEMA_VERSIONS[component]
    if before >= wanted:
        check_version(component, before, store=f"the {component}")
        return before, before
    for script in await asyncio.to_thread(_read_scripts, component, before):
        await execute(connection, script.encode())
    await execute(connection, _STORE_VERSION, (component, wanted))
    return before, wanted


def _read_scripts(component: str, after: int) -> list[str]:
    """Return the files of the versions after one, in their order."""
    folder = files("veriff_async._storage").joinpath("sql")
    numbers = range(after + 1, SCHEMA_VERSIONS[component] + 1)
    return [folder.joinpath(f"{component}-{number}.sql").read_text("utf-8") for number in numbers]
