"""The write-ahead log of a SQLite file: how it is emptied although other processes read and write."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("LogLimit", "try_empty_log")

# How long emptying the log waits for those that read, while it keeps all others from writing: longer than a query of
# an inbox takes.
_READERS_MILLISECONDS: Final = 20

# Bytes of a write-ahead log above which a process empties it, and seconds between two attempts.
_MAX_LOG: Final = 64 << 20
_LOG_INTERVAL: Final = 0.25

# Pages after which SQLite copies the log by itself: its default (https://sqlite.org/pragma.html#pragma_wal_autocheckpoint).
_PAGES: Final = 1000


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
