"""Notices when an open SQLite file is lost: deleted, replaced, or overwritten by another program."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from veriff_async._storage.sqlite_lock import is_busy

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("FileGuard", "FileReplacedError", "Identity")

# Seconds in which a checkpoint makes the file as short as the database was: others read and write in the meantime.
_CHECKPOINT_SECONDS: Final = 60.0

# Seconds between two looks for the size of the database, which take two microseconds of processor time each.
_NOTE_INTERVAL: Final = 0.005

Identity: TypeAlias = tuple[int, int]
"""The device and the inode of a file, which stay the same under every name of the file."""


class FileReplacedError(Exception):
    """An open file was deleted or replaced; its store raises an error of its own for it."""


class FileGuard:
    """Notices that an open file, its write-ahead log or its index was deleted or replaced, or that it became shorter.

    SQLite keeps writing to a file that no longer has a name; what is written then is lost when the last process closes
    it. A file that is shorter than before was copied over, for example, unless ``VACUUM`` or `auto_vacuum` did that.
    """

    def __init__(self, path: str | Path, connection: sqlite3.Connection | None = None) -> None:
        """Remember the files as they are; the database is open, so its log and index stay until it is closed.

        Args:
            path: The file.
            connection: The connection to it, or ``None`` for a file without a log, which is never made shorter.
        """
        real = os.path.realpath(path)
        self._name = os.path.abspath(path)  # noqa: PTH100  follows no link
        self._identity, self._size = _status(self._name)
        self._connection = connection
        self._page_size: int = 0 if connection is None else connection.execute("PRAGMA page_size").fetchone()[0]
        self._commits = self._read_commits()
        self._has_committed = False
        self._smaller_until = 0.0
        self._next_note = 0.0
        self._log_names = () if connection is None else (f"{real}-wal", f"{real}-shm")
        self._logs = [_status(name)[0] for name in self._log_names]

    def check(self) -> None:
        """Check that the files are still those that were opened.

        Raises:
            FileReplacedError: Another file, or none, has one of the names, or the file is shorter than before.
        """
        identity, size = _status(self._name)
        if identity != self._identity or (size < self._size and not self._was_made_shorter()):
            raise FileReplacedError
        self._has_committed = True
        if size != self._size:
            self._size, self._commits = size, self._read_commits()
        for index, name in enumerate(self._log_names):
            log, _ = _status(name)
            if self._logs[index] is None:  # the log and the index are created when they are first needed
                self._logs[index] = log
            elif log != self._logs[index]:
                raise FileReplacedError

    def note_size(self, connection: sqlite3.Connection) -> None:
        """Remember in a transaction whether the database is smaller than the file, which becomes shorter later.

        After ``VACUUM``, the file stays as it is until a checkpoint has ended. Others write in the meantime, and the
        database may be as large as before when the file becomes shorter.
        """
        now = time.monotonic()
        # Before the first commit, SQLite may take the number of pages from the file.
        if now < self._next_note or not self._has_committed:
            return
        self._next_note = now + _NOTE_INTERVAL
        pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
        # A disk that was full can leave a part of a page at the end of the file.
        if (pages + 1) * self._page_size <= self._size:
            self._smaller_until = now + _CHECKPOINT_SECONDS

    def _was_made_shorter(self) -> bool:
        """Return whether SQLite itself may have made the file shorter."""
        return time.monotonic() < self._smaller_until or self._has_fewer_pages()

    def _has_fewer_pages(self) -> bool:
        """Return whether a commit has made the database smaller than the file was.

        Without a commit, SQLite may take the number of pages from the file. After one, it is in the index of the log,
        where another program does not change it.
        """
        if self._connection is None:
            return False
        try:
            query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            size: int = self._connection.execute(query).fetchone()[0]
        except sqlite3.Error as error:
            if is_busy(error):
                raise
            return False  # the content is another one
        return size < self._size and self._commits != self._read_commits()

    def _read_commits(self) -> tuple[int, int] | None:
        """Return numbers that change with each commit of other connections, and of this one."""
        if self._connection is None:
            return None
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version, self._connection.total_changes

    def detach(self, connection: sqlite3.Connection) -> None:
        """Keep the log of the file that was opened away from the file that has taken its name, if another one has.

        SQLite would apply the log to that file, and overwrite it (https://sqlite.org/howtocorrupt.html, 1.4). So the
        content of the log is written into the file that was opened, and the log is removed.
        """
        identity, _ = _status(self._name)
        if identity is None or identity == self._identity:
            return
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        for name, expected in zip(self._log_names, self._logs, strict=True):
            if expected is not None and _status(name)[0] == expected:
                with suppress(OSError):
                    os.unlink(name)  # noqa: PTH108  a str, as everywhere here


def _status(name: str) -> tuple[Identity | None, int]:
    """Return the identity and the size of the file with a name, or ``None`` and 0 if there is none."""
    try:
        status = os.stat(name)  # noqa: PTH116  a str is quicker, and this is done for every commit
    except OSError:
        return None, 0
    return (status.st_dev, status.st_ino), status.st_size
