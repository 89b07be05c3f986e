"""Waits for the one lock under which a process may write to a SQLite file.

SQLite has no queue of writers. A connection that finds the lock taken sleeps, and looks again: after 1, 2, 5, 10 and
up to 100 milliseconds with the handler that ``PRAGMA busy_timeout`` installs (https://sqlite.org/c3ref/busy_timeout.html,
`sqliteDefaultBusyCallback` in SQLite's ``main.c``). A process that always has a next transaction leaves the lock for
microseconds between two of them. So the others look about forty times in three seconds, nearly always in vain, and some
fail with ``SQLITE_BUSY`` although no transaction was long.

`WriteLock` looks at least every millisecond instead, at random times so that two processes do not look in step. A
process that has seen another writer lately leaves the lock for longer than the others sleep before it takes it again.
One that is alone never waits.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from random import uniform
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ("LogLimit", "WriteLock", "busy_error", "is_busy", "retry_busy", "try_empty_log")

_T = TypeVar("_T")

# Seconds between two looks for the lock. Each takes some microseconds of processor time.
_SHORTEST_POLL: Final = 0.0005
_LONGEST_POLL: Final = 0.001

# Seconds for which a process leaves the lock to others that wait: each of them looks once in this time.
_YIELD: Final = 0.002

# Seconds for which a process expects other writers after it has waited for one.
_CONTENDED_SECONDS: Final = 1.0

# How long emptying the log waits for those that read, while it keeps all others from writing: longer than a query of
# an inbox takes.
_READERS_MILLISECONDS: Final = 20

# Bytes of a write-ahead log above which a process empties it, and seconds between two attempts.
_MAX_LOG: Final = 64 << 20
_LOG_INTERVAL: Final = 0.25

# Pages after which SQLite copies the log by itself: its default (https://sqlite.org/pragma.html#pragma_wal_autocheckpoint).
_PAGES: Final = 1000


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another connection has the file locked."""
    # The lowest byte of an extended code is the primary one (https://sqlite.org/rescode.html).
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def busy_error() -> sqlite3.OperationalError:
    """Return the error that SQLite raises for a file that is locked."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_BUSY, "SQLITE_BUSY"
    return error


def retry_busy(call: Callable[[], _T], timeout: float) -> _T:
    """Call a function until the file is not locked, and return its result. Blocking.

    Raises:
        sqlite3.OperationalError: Another connection had the lock at each attempt until the timeout in seconds.
    """
    deadline: float | None = None
    while True:
        try:
            return call()
        except sqlite3.OperationalError as error:
            now = time.monotonic()
            deadline = now + timeout if deadline is None else deadline
            if not is_busy(error) or now >= deadline:
                raise
        time.sleep(uniform(_SHORTEST_POLL, _LONGEST_POLL))  # noqa: S311  not for secrets


def try_empty_log(db: sqlite3.Connection, *, timeout: float) -> bool:
    """Write the write-ahead log into the file and empty it, unless others read for long; return whether it is empty.

    Args:
        db: A connection without a transaction.
        timeout: Its seconds of waiting for other statements.
    """
    return _copy_log(db) and _truncate_log(db, timeout=timeout)


def _copy_log(db: sqlite3.Connection) -> bool:
    """Write the log into the file while others write, and return whether no reader needs a part of it."""
    is_busy, frames, written = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return not is_busy and written == frames


def _truncate_log(db: sqlite3.Connection, *, timeout: float) -> bool:
    """Write the rest of the log into the file and empty it; return whether it is empty.

    This keeps all others from writing while it waits for those that read
    (https://sqlite.org/c3ref/wal_checkpoint_v2.html, ``SQLITE_CHECKPOINT_FULL``). A copy of the file can read for
    minutes, so it is waited for by repeating this.
    """
    db.execute(f"PRAGMA busy_timeout = {_READERS_MILLISECONDS}")
    try:
        return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        db.execute(f"PRAGMA busy_timeout = {round(timeout * 1000)}")


class LogLimit:
    """Keeps the write-ahead log from growing without end while several processes write without pause.

    SQLite copies the log into the file after each commit, but begins it again only if no process has written during the
    copy. So it grows, and slows each statement down ("checkpoint starvation",
    https://sqlite.org/wal.html#avoiding_excessively_large_wal_files). Above a limit, a process copies the log while
    others write. Right after its next commit, when it is most likely to get the lock, it copies the few pages that have
    been added, and empties the log.

    Args:
        db: A connection.
        path: Its file.
        timeout: Its seconds of waiting for other statements.
    """

    def __init__(self, db: sqlite3.Connection, path: Path, *, timeout: float) -> None:
        """Take the connection."""
        self._db = db
        self._log = f"{path}-wal"
        self._timeout = timeout
        self._next_look = 0.0
        self._is_above = False
        self._is_copied = False

    def apply(self) -> None:
        """Do the next step, after a commit; others may keep it from having an effect."""
        now = time.monotonic()
        if now < self._next_look and not self._is_copied:
            return
        with suppress(OSError, sqlite3.Error):  # the next commit fails, too, if the file is the cause
            if self._is_copied:
                self._is_copied = False
                _truncate_log(self._db, timeout=self._timeout)
                return
            self._next_look = now + _LOG_INTERVAL
            self._set_above(os.stat(self._log).st_size > _MAX_LOG)  # noqa: PTH116  a str is faster
            if self._is_above:
                self._is_copied = _copy_log(self._db)

    def _set_above(self, is_above: bool) -> None:  # noqa: FBT001  the value
        if is_above != self._is_above:
            self._is_above = is_above
            # The copies of all processes after all commits would leave no time for that of this class: only one
            # process can copy at a time.
            self._db.execute(f"PRAGMA wal_autocheckpoint = {0 if is_above else _PAGES}")


class WriteLock:
    """The lock of the only writer, as one connection takes it.

    Args:
        db: The connection. SQLite itself does not wait for its locks any more.
        timeout: Seconds to wait.
    """

    def __init__(self, db: sqlite3.Connection, timeout: float) -> None:
        """Take the connection and the time."""
        self._db = db
        self._timeout = timeout
        self._contended_until = 0.0
        self._yield_until = 0.0

    def enable(self) -> None:
        """Let SQLite return at once from a lock that is taken, since the waiting is done here."""
        self._db.execute("PRAGMA busy_timeout = 0")

    def disable(self) -> None:
        """Let SQLite wait for locks by itself again."""
        self._db.execute(f"PRAGMA busy_timeout = {round(self._timeout * 1000)}")

    def begin(self) -> None:
        """Begin a transaction that holds the lock.

        Raises:
            sqlite3.OperationalError: Others had it at each attempt until the timeout.
        """
        if self._yield_until and (pause := self._yield_until - time.monotonic()) > 0:
            time.sleep(pause)
        self._yield_until = 0.0
        if not self.try_begin():
            retry_busy(self._begin, self._timeout)
            self._contended_until = time.monotonic() + _CONTENDED_SECONDS

    def try_begin(self) -> bool:
        """Begin a transaction that holds the lock, unless another connection has it; return whether it did."""
        try:
            self._begin()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            return False
        return True

    def _begin(self) -> None:
        # A transaction that reads first and writes later fails as soon as another process has written in between
        # (SQLITE_BUSY_SNAPSHOT, https://sqlite.org/rescode.html#busy_snapshot).
        self._db.execute("BEGIN IMMEDIATE")

    def on_release(self) -> None:
        """Leave the lock to others for a moment, after the end of the transaction, if they have written lately."""
        if self._contended_until:
            now = time.monotonic()
            if now < self._contended_until:
                self._yield_until = now + _YIELD
            else:
                self._contended_until = 0.0
