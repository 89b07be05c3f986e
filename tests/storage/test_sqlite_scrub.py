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


def test_writer_without_pause_makes_the_scrub_fail(path: Path, db: sqlite3.Connection) -> None:
    """While others fill the log again and again, no page is written, and SQLite's own error follows the timeout."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        def write(statement: str) -> None:
            if statement == "BEGIN IMMEDIATE":
                other.execute(CHANGE)

        db.set_trace_callback(write)
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            sqlite_scrub.scrub(db, path, CHANGE, timeout=0)
        db.set_trace_callback(None)
        assert not db.in_transaction
    sqlite_scrub.scrub(db, path, CHANGE, timeout=30)
    check_scrubbed(path)


def test_pages_that_another_process_has_cut_off_are_skipped(path: Path, db: sqlite3.Connection) -> None:
    """A file that became shorter since its pages were listed does not grow again."""
    sizes = list[int]()

    def shorten(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE" and not sizes:
            sizes.append(path.stat().st_size)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("VACUUM")
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes.append(path.stat().st_size)

    db.set_trace_callback(shorten)
    sqlite_scrub.scrub(db, path, CHANGE, timeout=30)
    assert sizes[0] > sizes[1] == path.stat().st_size
    check_scrubbed(path)


def test_part_of_a_page_at_the_end_of_the_file_is_ignored(path: Path, db: sqlite3.Connection) -> None:
    """A disk that was full can leave a part of a page, which belongs to no table."""
    sqlite_scrub.empty_log(db, 30)
    with path.open("ab") as file:
        file.write(b"\r" * 100)
    sqlite_scrub.scrub(db, path, CHANGE, timeout=30)
    check_scrubbed(path)


def test_file_that_is_not_plain_sqlite_is_not_written_to(path: Path, db: sqlite3.Connection) -> None:
    """Encrypted files, which have another beginning, and pages of another size are left to SQLite."""
    sqlite_scrub.empty_log(db, 30)
    with path.open("rb") as file:
        assert sqlite_scrub.is_plain_format(file.fileno(), 512)
        assert not sqlite_scrub.is_plain_format(file.fileno(), 4096)
    other = path.with_name("other")
    for content in (b"", b"SQLite format 3\0", b"encrypted" * 100):
        other.write_bytes(content)
        with other.open("rb") as file:
            assert not sqlite_scrub.is_plain_format(file.fileno(), 512)
    assert not sqlite_scrub._has_log(other)


def page_of_leaf(*, cells: int, end: int, block: int = 0, content: dict[int, bytes] | None = None) -> bytes:
    """Return a page of a leaf with a number of cells, the begin of their content and the place of a deleted one."""
    page = bytearray(512)
    page[0] = 13
    page[1:3], page[3:5], page[5:7] = block.to_bytes(2), cells.to_bytes(2), end.to_bytes(2)
    for place, text in (content or {}).items():
        page[place : place + len(text)] = text
    return bytes(page)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page_of_leaf(cells=1, end=600, content={20: b"data"}), id="content after the end"),
        pytest.param(page_of_leaf(cells=250, end=100, content={20: b"data"}), id="cells over the content"),
        pytest.param(page_of_leaf(cells=0, end=400, block=400, content={400: b"\0\0\0\3"}), id="block too small"),
        pytest.param(page_of_leaf(cells=0, end=400, block=400, content={400: b"\0\0\2\0"}), id="block too large"),
        pytest.param(b"\1" + page_of_leaf(cells=0, end=400, content={20: b"data"})[1:], id="other kind"),
    ],
)
def test_page_that_contradicts_itself_is_not_written_to(page: bytes) -> None:
    """A page that is damaged, or only looks like one of a B-tree, keeps every byte."""
    assert [] == list(sqlite_scrub.unused_ranges(page, 0, 512))


def test_blocks_of_deleted_rows_end_where_they_go_back() -> None:
    """The list of deleted rows is followed in ascending order only, so a circle in a damaged page ends."""
    content = {400: b"\1\xa4\0\6ab", 420: b"\1\x90\0\6cd"}
    page = page_of_leaf(cells=0, end=400, block=400, content=content)
    assert [(404, 406), (424, 426)] == list(sqlite_scrub.unused_ranges(page, 0, 512))


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
