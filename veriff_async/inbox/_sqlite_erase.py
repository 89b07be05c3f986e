"""Removes what is left of erased sessions from the file of an inbox in SQLite, and from its write-ahead log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async._storage.sqlite_file import close_database, connect, real_path
from veriff_async._storage.sqlite_scrub import scrub
from veriff_async.inbox._sqlite_schema import BUSY_TIMEOUT, SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("remove_remains",)

# Seconds to wait for others that read the file; a backup can take that long.
_TIMEOUT: Final = 20.0

# Changes something each time, which makes other connections read their pages again. It is the key of no session.
_CHANGE: Final = "INSERT OR REPLACE INTO erased (key, until) VALUES (x'', -random())"


def remove_remains(path: Path) -> None:
    """Overwrite all that deleted rows have left in the file and in its log. Blocking.

    It does so in each call, also for remains of a call that was killed.

    Raises:
        sqlite3.Error: Another process keeps the file from being changed, or the disk is full.
        OSError: The file cannot be opened or written.
    """
    path = real_path(path, owner=SCHEMA.owner)
    db = connect(path, timeout=BUSY_TIMEOUT, owner=SCHEMA.owner)
    try:
        scrub(db, path, _CHANGE, timeout=_TIMEOUT)
    finally:
        close_database(db)
