"""Overwrites the remains of deleted rows in a SQLite file that is in use.

``PRAGMA secure_delete`` overwrites deleted rows and freed pages. It leaves copies of rows that SQLite has moved to
another page: when a page of a B-tree is split or merged, `rebuildPage` of SQLite's ``btree.c`` writes the rows that
stay, and does not clear the rest of the page. These copies stand in the part of the page that belongs to no row,
between the array of cell pointers and the first cell (https://sqlite.org/fileformat2.html, 1.6). ``VACUUM`` removes
them too, but writes the whole file, during which no process can write.

No connection of SQLite can clear that part, so it is overwritten in the file. This is safe while

* this process has the lock of the only writer, and the write-ahead log is empty: then no process writes to the file,
* only bytes that belong to no row are written: a process that reads the page at this moment ignores them, and
* a commit follows, after which no other connection uses its copy of a page, with which it would bring the bytes back.

A process that is killed here leaves a file that needs no repair.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Final

from veriff_async._storage.sqlite_file import close_database, connect, open_descriptor, real_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ("empty_log", "remove_remains", "scrub", "unused_ranges")

# First bytes of the pages of B-trees; the first two have 4 more bytes before the array of cell pointers.
_INTERIOR: Final = frozenset((2, 5))
_LEAVES: Final = frozenset((10, 13))

_FILE_HEADER: Final = 100

# From this page on, the first byte of an overflow page, which is the first one of a page number, could be 2.
_MOST_PAGES: Final = 0x0200_0000

# Pages that are overwritten while other processes cannot write.
_PORTION: Final = 1_000

# Seconds to wait for others that read the file; a backup can take that long.
_TIMEOUT: Final = 20.0

# Bytes that are read at once.
_CHUNK: Final = 1 << 20

_PAUSE: Final = 0.01


def empty_log(db: sqlite3.Connection, timeout: float) -> None:
    """Write the write-ahead log into the file, and empty it, waiting for those that read.

    Raises:
        sqlite3.OperationalError: Another connection has read or written for longer than the timeout.
    """
    deadline = time.monotonic() + timeout
    while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            msg = "database is locked"
            raise sqlite3.OperationalError(msg)
        time.sleep(_PAUSE)


def scrub(db: sqlite3.Connection, path: Path, change: str, *, timeout: float) -> None:
    """Overwrite the remains of deleted rows.

    Args:
        db: A connection for this call alone, without a transaction.
        path: Its file.
        change: A statement that changes something each time.
        timeout: Seconds to wait for other connections that read or write.

    Raises:
        sqlite3.Error: Other connections do not let go of the file, or the disk is full.
        OSError: The file cannot be written.
    """
    empty_log(db, timeout)
    size: int = db.execute("PRAGMA page_size").fetchone()[0]
    count: int = db.execute("PRAGMA page_count").fetchone()[0]
    if db.execute("PRAGMA auto_vacuum").fetchone()[0] or count >= _MOST_PAGES:
        # Such files have pages that cannot be distinguished from those of B-trees by their content.
        db.execute("VACUUM")
        empty_log(db, timeout)
        return
    with open_descriptor(path) as file:
        usable = size - _read(file, 1, 20)[0]
        pages = list(_find_pages(file, size, usable))
        deadline = time.monotonic() + timeout
        while pages:
            empty_log(db, timeout)
            db.execute("BEGIN IMMEDIATE")
            try:
                # Another process may have written in between; then the log is not empty.
                if _has_log(path):
                    if time.monotonic() > deadline:
                        msg = "database is locked"
                        raise sqlite3.OperationalError(msg)  # noqa: TRY301  undone below like any other error
                    db.execute("ROLLBACK")
                    continue
                portion, pages = pages[:_PORTION], pages[_PORTION:]
                _overwrite(file, portion, size, usable)
                db.execute(change)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            deadline = time.monotonic() + timeout
            time.sleep(_PAUSE)  # other processes that wait for the lock look for it at intervals
    empty_log(db, timeout)


def remove_remains(path: Path, *, change: str, owner: str) -> None:
    """Overwrite all that deleted rows have left in a file and in its log. Blocking; it may be called again.

    Args:
        path: The file.
        change: See `scrub`.
        owner: The store that keeps the file, for error messages.

    Raises:
        sqlite3.Error: Another process uses the file without pause, or the disk is full.
        OSError: The file cannot be written.
    """
    path = real_path(path, owner=owner)
    db = connect(path, timeout=_TIMEOUT, owner=owner)
    try:
        db.execute("PRAGMA synchronous = FULL")
        scrub(db, path, change, timeout=_TIMEOUT)
    finally:
        close_database(db)


def unused_ranges(page: bytes, start: int, usable: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a page that belong to no row and are not empty.

    Args:
        page: The page.
        start: Where its header begins: after that of the file, on the first page.
        usable: The bytes that SQLite uses.
    """
    kind = page[start]
    if kind not in _LEAVES and kind not in _INTERIOR:
        return
    begin = start + (8 if kind in _LEAVES else 12) + 2 * _number(page, start + 3)
    end = _number(page, start + 5) or 65_536
    if not begin <= end <= usable:
        return
    if page[begin:end].strip(b"\0"):
        yield begin, end
    # Deleted rows between others; each begins with the place of the next one and its own size.
    block = _number(page, start + 1)
    while end <= block <= usable - 4:
        following, size = _number(page, block), _number(page, block + 2)
        if size < 4 or block + size > usable:  # noqa: PLR2004  the smallest one has just these two numbers
            return
        if page[block + 4 : block + size].strip(b"\0"):
            yield block + 4, block + size
        if following <= block:
            return
        block = following


def _find_pages(file: int, size: int, usable: int) -> Iterator[int]:
    """Yield the numbers of pages to overwrite, counted from 0."""
    number = 0
    while chunk := _read(file, _CHUNK // size * size, number * size):
        for offset in range(0, len(chunk) - size + 1, size):
            page = chunk[offset : offset + size]
            if next(unused_ranges(page, 0 if number else _FILE_HEADER, usable), None) is not None:
                yield number
            number += 1
        time.sleep(0)  # other threads of this process need the interpreter too
        if len(chunk) < size:
            return


def _overwrite(file: int, pages: Sequence[int], size: int, usable: int) -> None:
    for number in pages:
        page = _read(file, size, number * size)
        if len(page) < size:
            continue  # the file has become shorter
        for begin, end in unused_ranges(page, 0 if number else _FILE_HEADER, usable):
            _write(file, bytes(end - begin), number * size + begin)
    os.fsync(file)


def _has_log(path: Path) -> bool:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _number(page: bytes, offset: int) -> int:
    return page[offset] << 8 | page[offset + 1]


def _read(file: int, size: int, offset: int) -> bytes:
    if sys.platform == "win32":
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, size)
    return os.pread(file, size, offset)


def _write(file: int, content: bytes, offset: int) -> None:
    if sys.platform == "win32":
        os.lseek(file, offset, os.SEEK_SET)
        os.write(file, content)
    else:
        os.pwrite(file, content, offset)
