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

import sqlite3
import time
from random import uniform
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("WriteLock", "busy_error", "is_busy", "retry_busy")

_T = TypeVar("_T")

# Seconds between two looks for the lock. Each takes some microseconds of processor time.
_SHORTEST_POLL: Final = 0.0005
_LONGEST_POLL: Final = 0.001

# Seconds for which a process leaves the lock to others that wait: each of them looks once in this time.
_YIELD: Final = 0.002

# Seconds for which a process expects other writers after it has waited for one.
_CONTENDED_SECONDS: Final = 1.0


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
