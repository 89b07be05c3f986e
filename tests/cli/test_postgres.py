"""`veriff-async postgres`: create, upgrade and show the tables of the stores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from veriff_async._storage.postgres_scripts import SCHEMA_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from tests.postgres_server import PostgresDatabase

    Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def database(postgres: PostgresDatabase, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> PostgresDatabase:
    """Name an empty schema in the variable of the commands, after `invoke` has removed those of the developer."""
    monkeypatch.setenv("VERIFF_POSTGRES", postgres.url)
    return postgres


def versions(database: PostgresDatabase) -> dict[str, int]:
    """Return the versions that the database has stored."""
    return dict(database.execute("SELECT component, version FROM veriff_schema"))


def test_tables_are_created_once(database: PostgresDatabase, invoke: Invoke) -> None:
    """`migrate` creates all tables, and says what it did; afterwards `status` is satisfied."""
    before = invoke("postgres", "status")
    assert 1 == before.exit_code
    assert "To create or upgrade them: veriff-async postgres migrate" in before.stderr
    assert f"journal: version none -> {SCHEMA_VERSIONS['journal']}" in invoke("postgres", "migrate").stdout
    assert SCHEMA_VERSIONS == versions(database)
    again = invoke("postgres", "migrate", "--component", "journal", "--json")
    expected = {"component": "journal", "before": SCHEMA_VERSIONS["journal"], "after": SCHEMA_VERSIONS["journal"]}
    assert {"tables": [expected]} == json.loads(again.stdout)
    after = invoke("postgres", "status", "--json")
    assert 0 == after.exit_code
    assert {(each["installed"], each["needed"]) for each in json.loads(after.stdout)["tables"]} == {
        (version, version) for version in SCHEMA_VERSIONS.values()
    }


def test_printed_sql_creates_the_same_tables(database: PostgresDatabase, invoke: Invoke) -> None:
    """An administrator can run the SQL instead of the command."""
    for component in SCHEMA_VERSIONS:
        database.execute(invoke("postgres", "show-sql", "--component", component).stdout)
    assert SCHEMA_VERSIONS == versions(database)
    assert 0 == invoke("postgres", "status").exit_code
    assert "" == invoke("postgres", "show-sql", "--from", "1000").stdout.strip()


def test_newer_tables_are_refused(database: PostgresDatabase, invoke: Invoke) -> None:
    """Tables of a newer version are left alone."""
    invoke("postgres", "migrate")
    database.execute("UPDATE veriff_schema SET version = 1000 WHERE component = 'journal'")
    status = invoke("postgres", "status")
    assert 1 == status.exit_code
    assert "upgrade it" in status.stderr
    refused = invoke("postgres", "migrate")
    assert 1 == refused.exit_code
    assert "upgrade veriff-async" in refused.stderr
    assert 1000 == versions(database)["journal"]


def test_database_is_required_and_its_error_explained(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or unreachable database is named, without its password."""
    refused = invoke("postgres", "status", "--database", "postgresql://me:sesame@127.0.0.1:1/")
    assert 1 == refused.exit_code
    assert "check its address and whether it runs" in refused.stderr
    assert "sesame" not in refused.output
    monkeypatch.delenv("VERIFF_POSTGRES")
    missing = invoke("postgres", "migrate")
    assert 2 == missing.exit_code
    assert "set VERIFF_POSTGRES" in missing.stderr
