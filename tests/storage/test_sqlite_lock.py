"""A connection takes its turn among other writers of a SQLite file, and readers never keep writers from writing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async._storage import sqlite_lock, sqlite_log
from veriff_async._storage.sqlite_lock import WriteLock, is_busy, retry_busy
from veriff_async._storage.sqlite_log import LogLimit, try_empty_log

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

TIMEOUT: Final = 3.0

# SQLite's own handler sleeps up to a tenth of a second.
LONGEST_SLEEP: Final = 0.001


class Clock:
    """A clock that sleeping advances.

    Attributes:
        sleeps: The seconds of each sleep.
        release_at: When the other connection ends its transaction.
    """

    def __init__(self, other: sqlite3.Connection) -> None:
        """Start at some time."""
        self.now = 1_000.0
        self.sleeps = list[float]()
        self.release_at: float | None = None
        self._other = other

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the time pass, and the transaction of the other connection end."""
        self.sleeps.append(seconds)
        self.now += seconds
        if self.release_at is not None and self.now >= self.release_at:
            self.release_at = None
            self._other.execute("COMMIT")

    def hold(self, seconds: float | None = None) -> None:
        """Let the other connection write for some seconds, or for ever."""
        self._other.execute("BEGIN IMMEDIATE")
        self.release_at = None if seconds is None else self.now + seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with a write-ahead log."""
    path = tmp_path / "file.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE counter (value)")
    return path


@pytest.fixture
def db(path: Path) -> Generator[sqlite3.Connection]:
    """Yield a connection."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


@pytest.fixture
def other(path: Path) -> Generator[sqlite3.Connection]:
    """Yield a connection of another writer."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        yield other


@pytest.fixture
def clock(other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of the lock."""
    clock = Clock(other)
    for module in (sqlite_lock, sqlite_log):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    return clock


@pytest.fixture
def lock(db: sqlite3.Connection) -> WriteLock:
    """Return the lock of the connection."""
    lock = WriteLock(db, TIMEOUT)
    lock.enable()
    return lock


def write(db: sqlite3.Connection, lock: WriteLock) -> None:
    """Commit a transaction."""
    lock.begin()
    db.execute("COMMIT")
    lock.on_release()


def test_waiting_writer_looks_for_the_lock_at_short_intervals_to_the_end(
    db: sqlite3.Connection, lock: WriteLock, clock: Clock
) -> None:
    """A writer that has waited long looks as often as one that has just come, or it would rarely find the lock free."""
    clock.hold(0.9 * TIMEOUT)
    write(db, lock)
    assert sum(clock.sleeps) < TIMEOUT
    assert max(clock.sleeps) <= LONGEST_SLEEP
    assert len(set(clock.sleeps)) > len(clock.sleeps) // 2  # at random times


def test_lock_that_is_never_free_fails_after_the_timeout(
    db: sqlite3.Connection, other: sqlite3.Connection, lock: WriteLock, clock: Clock
) -> None:
    """The error is SQLite's own, no transaction has begun, and the next attempt works."""
    clock.hold()
    with pytest.raises(sqlite3.OperationalError) as caught:
        lock.begin()
    assert is_busy(caught.value)
    assert TIMEOUT <= sum(clock.sleeps) < TIMEOUT + LONGEST_SLEEP
    assert not db.in_transaction
    other.execute("COMMIT")
    write(db, lock)


def test_writer_among_others_leaves_the_lock_to_them_after_each_transaction(
    db: sqlite3.Connection, lock: WriteLock, clock: Clock
) -> None:
    """The pause is longer than the sleep of a writer that waits, so that each of them looks for the lock once."""
    clock.hold(0.1)
    write(db, lock)
    clock.sleeps.clear()
    write(db, lock)
    (pause,) = clock.sleeps
    assert pause > LONGEST_SLEEP

    clock.now += pause  # the writer has done something else in the meantime
    clock.sleeps.clear()
    write(db, lock)
    assert not clock.sleeps


def test_writer_that_is_alone_never_waits(db: sqlite3.Connection, lock: WriteLock, clock: Clock) -> None:
    """Without others in the last second, a transaction follows the last one at once."""
    write(db, lock)
    write(db, lock)
    assert not clock.sleeps
    clock.hold(0.1)
    write(db, lock)
    clock.now += 2
    clock.sleeps.clear()
    for _ in range(3):
        write(db, lock)
    assert not clock.sleeps


def test_attempt_without_waiting_says_whether_it_has_the_lock(
    db: sqlite3.Connection, other: sqlite3.Connection, lock: WriteLock, clock: Clock
) -> None:
    """Work that can wait for another time does not occupy its thread with waiting."""
    clock.hold()
    assert not lock.try_begin()
    other.execute("COMMIT")
    assert lock.try_begin()
    assert db.in_transaction
    assert not clock.sleeps


def test_other_errors_are_not_repeated(lock: WriteLock, db: sqlite3.Connection, clock: Clock) -> None:
    """Only a lock of another connection is waited for."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        retry_busy(lambda: db.execute("SELECT * FROM missing"), TIMEOUT)
    db.execute("BEGIN")
    with pytest.raises(sqlite3.OperationalError, match="within a transaction"):
        lock.begin()
    assert not clock.sleeps


def test_reader_of_an_old_snapshot_never_keeps_others_from_writing(
    db: sqlite3.Connection, other: sqlite3.Connection, path: Path
) -> None:
    """The log is not emptied while a copy needs a part of it, since that would lock the file for all writers."""
    statements = list[str]()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        other.execute("INSERT INTO counter VALUES (1)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM counter").fetchall()
        other.execute("INSERT INTO counter VALUES (2)")
        db.set_trace_callback(statements.append)
        assert not try_empty_log(db, timeout=TIMEOUT)
        db.set_trace_callback(None)
        assert ["PRAGMA wal_checkpoint(PASSIVE)"] == statements
        reader.execute("COMMIT")
        assert try_empty_log(db, timeout=TIMEOUT)
    assert 0 == path.with_name("file.db-wal").stat().st_size


def test_reader_of_the_latest_snapshot_keeps_others_from_writing_for_a_moment_only(
    db: sqlite3.Connection, other: sqlite3.Connection, path: Path
) -> None:
    """Emptying the log waits for short queries, however long the connection waits for other things."""
    db.execute("PRAGMA busy_timeout = 60000")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        other.execute("INSERT INTO counter VALUES (1)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM counter").fetchall()
        assert not try_empty_log(db, timeout=60)  # waiting for a minute would end the test
        other.execute("INSERT INTO counter VALUES (2)")
    assert (60_000,) == db.execute("PRAGMA busy_timeout").fetchone()


@pytest.fixture
def limit(db: sqlite3.Connection, path: Path, monkeypatch: pytest.MonkeyPatch) -> LogLimit:
    """Return the limit of a log of one page."""
    monkeypatch.setattr(sqlite_log, "_MAX_LOG", 4096)
    return LogLimit(db, path, timeout=0)


def log_size(path: Path) -> int:
    """Return the bytes of the write-ahead log."""
    return path.with_name(f"{path.name}-wal").stat().st_size


def test_log_above_its_limit_is_emptied(db: sqlite3.Connection, path: Path, limit: LogLimit, clock: Clock) -> None:
    """One commit copies the log, and the next one empties it; looks at its size are rare."""
    for _ in range(2):
        for is_empty in (False, True, False, False):
            db.execute("INSERT INTO counter VALUES (1)")
            limit.apply()
            assert is_empty == (log_size(path) == 0)
        clock.now += 1


def test_log_that_is_read_is_left_to_a_later_attempt(
    db: sqlite3.Connection, other: sqlite3.Connection, path: Path, limit: LogLimit, clock: Clock
) -> None:
    """A connection that reads for long keeps no other from writing, and its end lets the log be emptied."""
    other.execute("BEGIN")
    other.execute("SELECT * FROM counter").fetchall()
    for _ in range(3):
        db.execute("INSERT INTO counter VALUES (1)")
        limit.apply()
        clock.now += 1
    assert log_size(path) > 0
    other.execute("COMMIT")
    for _ in range(2):
        db.execute("INSERT INTO counter VALUES (1)")
        limit.apply()
    assert log_size(path) == 0


def test_connection_copies_the_log_after_each_commit_again_once_it_is_small(
    db: sqlite3.Connection, path: Path, limit: LogLimit, clock: Clock
) -> None:
    """SQLite copies a small log by itself, in every process."""
    db.execute("INSERT INTO counter VALUES (1)")
    limit.apply()
    assert (0,) == db.execute("PRAGMA wal_autocheckpoint").fetchone()
    limit.apply()
    assert log_size(path) == 0
    clock.now += 1
    limit.apply()
    assert (1000,) == db.execute("PRAGMA wal_autocheckpoint").fetchone()
