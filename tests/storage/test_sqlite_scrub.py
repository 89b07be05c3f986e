"""The remains of deleted rows are overwritten in a file of SQLite, and the file stays sound for all who use it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from tests.conditions import needs_posix
from veriff_async._storage import sqlite_scrub
from veriff_async._storage.sqlite_file import close_database, connect, open_descriptor

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

CHANGE: Final = "UPDATE counter SET value = value + 1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "file.db"


def fill(db: sqlite3.Connection) -> None:
    """Store rows, and delete every second one, and some of them and one next to the counter without overwriting."""
    db.execute("BEGIN")
    db.execute("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT)")
    rows = [(number, f"{'erased' if number % 2 else 'stays'}-{number}" * 20) for number in range(400)]
    db.executemany("INSERT INTO person VALUES (?, ?)", rows)
    db.execute("CREATE TABLE counter (id INTEGER PRIMARY KEY, value)")
    db.executemany("INSERT INTO counter VALUES (?, ?)", [(0, 1), (1, "erased" * 20), (2, 2)])
    db.execute("COMMIT")
    db.execute("DELETE FROM person WHERE id % 2 AND id % 50 > 1")
    db.execute("PRAGMA secure_delete = OFF")
    db.execute("DELETE FROM person WHERE id % 2")
    db.execute("DELETE FROM counter WHERE id = 1")
    db.execute("PRAGMA secure_delete = ON")


@pytest.fixture
def db(path: Path) -> Generator[sqlite3.Connection]:
    """Return a connection to a file with remains of deleted rows in more than one portion of pages."""
    db = connect(path, timeout=30, owner="test")
    db.execute("PRAGMA page_size = 512")
    db.execute("PRAGMA journal_mode = WAL")
    fill(db)
    yield db
    close_database(db)


def check_scrubbed(path: Path) -> None:
    """Check that no deleted row is left, and that SQLite finds every other row and no fault."""
    assert b"erased" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    with closing(sqlite3.connect(path)) as db:
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
        assert (200,) == db.execute("SELECT count(*) FROM person WHERE name LIKE 'stays-' || id || '%'").fetchone()


def test_page_of_the_change_is_scrubbed_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change, which is written after each portion, does not bring back what it has read before its own portion."""
    monkeypatch.setattr(sqlite_scrub, "_PORTION", 1)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA secure_delete = OFF")
        rows = [(number, "erased" * 20 if number == 2 else "stays") for number in range(5)]
        for table in ("person", "counter"):
            db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, value TEXT)")
            db.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)  # noqa: S608  fixed
            db.execute(f"DELETE FROM {table} WHERE id = 2")  # noqa: S608  fixed
        db.commit()
    sqlite_scrub.remove_remains(path, change="UPDATE counter SET value = random() WHERE id = 0", owner="test")
    assert b"erased" not in path.read_bytes()


def test_file_with_automatic_vacuum_is_rewritten(path: Path, db: sqlite3.Connection) -> None:
    """Pages of pointers, which look like pages of a B-tree, are not written to."""
    db.execute("PRAGMA auto_vacuum = FULL")
    db.execute("VACUUM")
    sqlite_scrub.empty_log(db, 30)
    with open_descriptor(path, db) as file:
        assert not sqlite_scrub.is_plain_format(file, 512)
    db.execute("UPDATE person SET name = 'erased' || name")
    db.execute("UPDATE person SET name = substr(name, 7)")
    sqlite_scrub.scrub(db, path, CHANGE, timeout=30)
    check_scrubbed(path)


def test_format_that_changes_between_portions_is_noticed(
    path: Path, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that switches `auto_vacuum` on in the middle does not lose a page."""
    monkeypatch.setattr(sqlite_scrub, "_PORTION", 4)
    statements = list[str]()

    def switch(statement: str) -> None:
        statements.append(statement)
        if statement == "BEGIN IMMEDIATE" and statements.count(statement) == 2:
            with closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA auto_vacuum = FULL")
                other.execute("VACUUM")

    db.set_trace_callback(switch)
    sqlite_scrub.scrub(db, path, CHANGE, timeout=30)
    assert "VACUUM" in statements
    check_scrubbed(path)


def test_reserved_bytes_are_not_written_to(path: Path) -> None:
    """A file in which an extension keeps for example a checksum on each page is rewritten by SQLite alone."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA page_size = 512")
        db.execute("PRAGMA user_version = 1")
        db.commit()
    page = bytearray(path.read_bytes())
    page[20] = 8
    page[105:107] = (512 - 8).to_bytes(2)  # the end of the content, which is empty
    path.write_bytes(page)
    connection = connect(path, timeout=30, owner="test")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        fill(connection)
        sqlite_scrub.empty_log(connection, 30)
        with open_descriptor(path, connection) as file:
            assert not sqlite_scrub.is_plain_format(file, 512)
        sqlite_scrub.scrub(connection, path, CHANGE, timeout=30)
        check_scrubbed(path)
        assert 8 == path.read_bytes()[20]
    finally:
        close_database(connection)


@needs_posix
def test_file_that_was_replaced_is_not_written_to(path: Path, db: sqlite3.Connection) -> None:
    """Nothing locks the file that has the name now, so it stays as it is."""
    sqlite_scrub.empty_log(db, 30)
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"(?i)stale"):
        sqlite_scrub.scrub(db, path, CHANGE, timeout=30)
    assert before == path.read_bytes()


SWITCH: Final = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0)
try:
    print(db.execute("PRAGMA journal_mode = DELETE").fetchone()[0])
except sqlite3.OperationalError as error:
    print(error)
"""


@needs_posix
def test_connections_of_the_program_keep_their_locks(path: Path, db: sqlite3.Connection) -> None:
    """A connection that the program has opened itself still keeps other processes from removing the log."""
    with closing(sqlite3.connect(path)) as own:
        own.execute("SELECT count(*) FROM person").fetchone()
        sqlite_scrub.scrub(db, path, CHANGE, timeout=30)
        close_database(db)
        command = [sys.executable, "-c", SWITCH, str(path)]
        switched = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  our own
        assert "database is locked" == switched.stdout.strip()
