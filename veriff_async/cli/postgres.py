"""The postgres commands: create, upgrade and show the tables of PostgresInbox and PostgresJournal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from veriff_async._storage.postgres_scripts import SCHEMA_VERSIONS, migration_script
from veriff_async.cli._options import json_option
from veriff_async.cli._runtime import ExitCode, print_json, run, stderr_output, stdout_output
from veriff_async.cli._stdio import print_stdout

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("postgres",)

_F = TypeVar("_F", bound="Callable[..., Any]")

_DATABASE_VARIABLE: Final = "VERIFF_POSTGRES"

_COMPONENTS: Final = tuple(SCHEMA_VERSIONS)


def _database_option(command: _F) -> _F:
    return click.option(
        "--database",
        metavar="URL",
        help=f"A URL with postgresql://, without a password.  [default: {_DATABASE_VARIABLE}]",
    )(command)


def _component_option(command: _F) -> _F:
    return click.option(
        "--component",
        "components",
        type=click.Choice(_COMPONENTS),
        multiple=True,
        help="Only the tables of this store; may be repeated.  [default: all]",
    )(command)


def _find_database(database: str | None) -> str:
    found = database or os.environ.get(_DATABASE_VARIABLE, "").strip()
    if not found:
        msg = f"Give the database with --database, or set {_DATABASE_VARIABLE}: a URL with postgresql://."
        raise click.UsageError(msg)
    return found


@click.group()
def postgres() -> None:
    """Create, upgrade or show the tables of PostgresInbox and PostgresJournal.

    The first use of a store does so by itself, unless the application passes migrate=False because its user must not
    create tables. The search path of the user decides in which schema they are. Other users can read the password in an
    argument, so set VERIFF_POSTGRES, or use PGPASSWORD or a password file of libpq.
    """


@postgres.command()
@_database_option
@_component_option
@json_option
def migrate(*, database: str | None, components: tuple[str, ...], for_program: bool) -> None:
    """Create or upgrade tables, all in one transaction.

    Upgrade while no application of an older version runs. Every user that creates nothing needs SELECT, INSERT, UPDATE
    and DELETE on the tables, and USAGE on the sequences.
    """
    from veriff_async._storage.postgres_admin import migrate_tables

    changes = run(migrate_tables(_find_database(database), components or _COMPONENTS))
    if for_program:
        print_json({"tables": [{"component": name, "before": old, "after": new} for name, old, new in changes]})
        return
    for name, old, new in changes:
        stdout_output().print(
            f"{name}: version {new} already" if old == new else f"{name}: version {old or 'none'} -> {new}"
        )


@postgres.command()
@_component_option
@click.option(
    "--from",
    "after",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The version of the tables in the database; 0 if there are none.",
)
def show_sql(*, components: tuple[str, ...], after: int) -> None:
    """Print the SQL of migrate, for psql and for people who review it. Nothing is connected."""
    scripts = [
        migration_script(component, after)
        for component in components or _COMPONENTS
        if after < SCHEMA_VERSIONS[component]
    ]
    print_stdout("\n".join(scripts).rstrip())


@postgres.command()
@_database_option
@json_option
def status(*, database: str | None, for_program: bool) -> None:
    """Show the versions of the tables. The exit code is 1 if those of a store are older, newer or missing."""
    from veriff_async._storage.postgres_admin import read_versions

    versions = run(read_versions(_find_database(database)))
    if for_program:
        document = [
            {"component": each.component, "installed": each.installed, "needed": each.needed} for each in versions
        ]
        print_json({"tables": document})
    else:
        rows = [(each.component, str(each.installed or "none"), str(each.needed)) for each in versions]
        stdout_output().print_table(("component", "installed", "needed"), rows)
    if any(each.installed < each.needed for each in versions):
        stderr_output().print("To create or upgrade them: veriff-async postgres migrate")
    elif any(each.installed > each.needed for each in versions):
        stderr_output().print("The tables are newer than this veriff-async: upgrade it.")
    if any(each.installed != each.needed for each in versions):
        raise SystemExit(ExitCode.REFUSED)
