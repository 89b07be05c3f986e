"""A file of SQLite is opened, created and upgraded as a whole or not at all, and its guard notices when it is lost."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

import pytest

from tests.conditions import needs_posix
from veriff_async import ConfigurationError
from veriff_async._storage import sqlite_file, sqlite_guard
from veriff_async._storage.sqlite_file import (
    Database,
    Schema,
    close_database,
    connect,
    open_descriptor,
)
from veriff_async._storage.sqlite_guard import FileGuard, FileReplacedError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA: Final = Schema(owner="test", application_id=7, version=1, script="CREATE TABLE first (id INTEGER);\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "file.db"


def test_path_that_cannot_be_opened_is_not_kept_as_open(tmp_path: Path) -> None:
    """A failed opening raises SQLite's error and leaves no trace, so a later one is judged by itself."""
    before = set(sqlite_file._open_files)
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        connect(tmp_path, timeout=0, owner="test")
    assert before == sqlite_file._open_files


@needs_posix
def test_descriptor_of_a_deleted_file_is_closed_with_its_last_connection(path: Path) -> None:
    """The disk gets the space of a deleted file back as soon as no store uses the file."""
    db, other = (connect(path, timeout=30, owner="test") for _ in range(2))
    with open_descriptor(path, db) as descriptor:
        pass
    path.unlink()
    close_database(other)
    assert descriptor in sqlite_file._descriptors.values()
    close_database(db)
    assert descriptor not in sqlite_file._descriptors.values()


def test_database_without_a_shared_log_is_refused() -> None:
    """A database whose processes could not see each other's log is refused, and the error says where to put it."""
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as db,
        pytest.raises(ConfigurationError, match="put it on a disk of this machine"),
    ):
        sqlite_file._prepare(db, SCHEMA, 0)


def test_upgrade_that_fails_changes_nothing(path: Path) -> None:
    """All statements of an upgrade are one transaction, so that the earlier version still opens the file."""
    Database(path, SCHEMA, timeout=30).close()
    script = "CREATE TABLE second (id INTEGER);\nCREATE NONSENSE;\n"
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        Database(path, Schema(owner="test", application_id=7, version=2, script=script), timeout=30)
    with closing(sqlite3.connect(path)) as db:
        assert [("first",)] == db.execute("SELECT name FROM sqlite_schema").fetchall()
        assert (1,) == db.execute("PRAGMA user_version").fetchone()
    Database(path, SCHEMA, timeout=30).close()


def test_opening_waits_for_another_writer_before_it_switches_the_log_on(path: Path) -> None:
    """A process that holds a new file for a moment delays the switch to the write-ahead log, and does not fail it."""
    statements = list[str]()
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as db,
    ):
        other.execute("CREATE TABLE first (id INTEGER)")
        other.execute("BEGIN IMMEDIATE")

        def release(statement: str) -> None:
            statements.append(statement)
            if len(statements) == 2:
                other.execute("ROLLBACK")

        db.set_trace_callback(release)
        assert "wal" == sqlite_file._switch_to_wal(db, 30)
    assert ["PRAGMA journal_mode = WAL"] * 2 == statements[:2]


def test_opening_gives_up_when_the_timeout_is_over(path: Path) -> None:
    """A writer that never lets go of the file makes the opening fail with SQLite's error."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            Database(path, SCHEMA, timeout=0)
        other.execute("ROLLBACK")
        Database(path, SCHEMA, timeout=30).close()


@needs_posix
def test_log_that_is_created_later_is_guarded_too(path: Path) -> None:
    """The guard accepts the log when SQLite creates it, and notices when it is deleted after that."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE first (id INTEGER)")
        guard = FileGuard(path, db)
        guard.check()
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("INSERT INTO first VALUES (1)")
        guard.check()
        path.with_name(f"{path.name}-wal").unlink()
        with pytest.raises(FileReplacedError):
            guard.check()


def test_file_without_a_connection_may_not_become_shorter(path: Path) -> None:
    """A file that only grows was copied over if it is shorter than before."""
    path.write_bytes(b"x" * 100)
    guard = FileGuard(path)
    path.write_bytes(b"x" * 200)
    guard.check()
    path.write_bytes(b"x" * 199)
    with pytest.raises(FileReplacedError):
        guard.check()


@needs_posix
def test_shorter_file_that_is_no_database_is_noticed(path: Path) -> None:
    """A file that was overwritten with other content is lost, although SQLite cannot say how long it was."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE first (id INTEGER)")
        db.execute("INSERT INTO first VALUES (zeroblob(20000))")
        guard = FileGuard(path, db)
        path.write_bytes(b"another program's" * 500)
        with pytest.raises(FileReplacedError):
            guard.check()


def vacuum(path: Path) -> None:
    """Make the database smaller as another program does, and write that into the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("VACUUM")
        other.execute("PRAGMA wal_checkpoint(PASSIVE)")


def commit(database: Database, statement: str = "INSERT INTO first VALUES (1)") -> None:
    """Commit a statement."""
    database.begin(writes=True)
    database._db.execute(statement)
    database.commit()


FILL: Final = "INSERT INTO first VALUES (zeroblob(100000))"


def test_file_that_became_shorter_may_have_its_former_size_at_the_next_look(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a transaction adds after `VACUUM` of another program does not make the file look lost."""
    monkeypatch.setattr(sqlite_guard, "_NOTE_INTERVAL", 0.0)
    with closing(Database(path, SCHEMA, timeout=30)) as database:
        commit(database, FILL)
        commit(database, "DELETE FROM first")
        vacuum_size = path.stat().st_size
        database._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        commit(database)
        assert path.stat().st_size > 100_000 > vacuum_size
        vacuum(path)
        assert path.stat().st_size < 100_000
        for _ in range(2):
            commit(database, FILL)


@needs_posix
def test_file_that_is_overwritten_some_time_after_it_became_shorter_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that SQLite has made shorter may not become shorter again for another reason."""
    monkeypatch.setattr(sqlite_guard, "_NOTE_INTERVAL", 0.0)
    monkeypatch.setattr(sqlite_guard, "_CHECKPOINT_SECONDS", 0.0)
    with closing(Database(path, SCHEMA, timeout=30)) as database:
        commit(database, FILL)
        commit(database, "DELETE FROM first")
        database._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        commit(database)
        vacuum(path)
        commit(database)
        database._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        commit(database)
        os.truncate(path, 512)
        with pytest.raises(FileReplacedError):
            commit(database)


@needs_posix
def test_log_of_a_replaced_file_keeps_what_another_process_writes(path: Path) -> None:
    """The log is removed only when the old file has everything, also a transaction that has not ended yet."""
    old, new = path.with_name("old.db"), path.with_name("new.db")
    new.touch()
    has_begun = Event()
    with (
        closing(Database(path, SCHEMA, timeout=30)) as database,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
    ):
        commit(database, FILL)
        other.execute("BEGIN IMMEDIATE")
        other.execute(FILL)
        os.link(path, old)
        new.replace(path)

        def end_transaction() -> None:
            has_begun.wait()
            other.execute("COMMIT")

        thread = Thread(target=end_transaction)
        thread.start()
        database._db.set_trace_callback(lambda statement: has_begun.set() if "checkpoint" in statement else None)
        database.detach()
        thread.join()
    with closing(sqlite3.connect(old)) as db:
        assert (2,) == db.execute("SELECT count(*) FROM first").fetchone()
