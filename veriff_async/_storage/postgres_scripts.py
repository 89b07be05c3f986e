"""The SQL files of the tables in PostgreSQL, one for each version of a component, without a connection.

The files are in the folder ``sql``. They use no schema names, so the ``search_path`` of the user decides where the
tables are.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("LOCK", "SCHEMA_VERSIONS", "STORE_VERSION", "VERSION_TABLE", "migration_script", "read_scripts")

SCHEMA_VERSIONS: Final[Mapping[str, int]] = {"inbox": 1, "journal": 1}
"""The version of the tables that this version of the library uses, by component."""

# The key of the advisory lock: "veriff" in ASCII. Locks of other programs have other keys.
LOCK: Final = "SELECT pg_advisory_xact_lock(130178083284582)"

VERSION_TABLE: Final = """\
CREATE TABLE IF NOT EXISTS veriff_schema (
    component text PRIMARY KEY,
    version integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)"""

STORE_VERSION: Final = """\
INSERT INTO veriff_schema (component, version) VALUES (%s, %s)
ON CONFLICT (component) DO UPDATE SET version = excluded.version, applied_at = excluded.applied_at"""


def migration_script(component: str, after: int = 0) -> str:
    """Return the SQL that creates the tables of a component, or upgrades them from a version. Reads files.

    psql can run it: it is one transaction, and stores the new version.
    """
    version = SCHEMA_VERSIONS[component]
    steps = (
        f"{LOCK};",
        f"{VERSION_TABLE};",
        *read_scripts(component, after),
        f"{STORE_VERSION};".replace("%s, %s", f"'{component}', {version}"),
    )
    return "\n\n".join(("BEGIN;", *(step.strip() for step in steps), "COMMIT;\n"))


def read_scripts(component: str, after: int) -> list[str]:
    """Return the files of the versions after one, in their order."""
    folder = files("veriff_async._storage").joinpath("sql")
    numbers = range(after + 1, SCHEMA_VERSIONS[component] + 1)
    return [folder.joinpath(f"{component}-{number}.sql").read_text("utf-8") for number in numbers]
