"""Overwrites the remains of deleted rows in a SQLite file that is in use.

``PRAGMA secure_delete`` overwrites deleted rows and freed pages. It leaves copies of rows that SQLite has moved to
another page: when a page of a B-tree is split or merged, `rebuildPage` of SQLite's ``btree.c`` writes the rows that
stay, and does not clear the rest of the page. These copies stand in the part of the page that belongs to no row,
between the array of cell pointers and the first cell (https://sqlite.org/fileformat2.html, 1.6). ``VACUUM`` removes
them too, but writes the whole file, during which no process can write.

No connection of SQLite can clear that part, so it is overwritten in the file. This is safe while

* this process has the lock of the only writer, and the write-ahead log is empty: then no process writes to the file,
* only bytes that belong to no row are written: a process that reads the page at this moment ignores them,
* the pages have the plain format: a file with bytes that an extension reserves on each page, for example for a
  checksum (https://sqlite.org/cksumvfs.html), is rewritten by ``VACUUM`` instead, and so is one with ``auto_vacuum``,
  whose pages of pointers look like pages of a B-tree, and
* a commit follows, after which no other connection uses its copy of a page, with which it would bring the bytes back.

Another process can change the format between two portions, so it is read again for each. A process that is killed here
leaves a file that needs no repair.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

from veriff_async._storage.sqlite_file import close_database, connect, open_descriptor, real_path
from veriff_async._storage.sqlite_lock import busy_error
from veriff_async._storage.sqlite_log import try_empty_log

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ("empty_log", "is_plain_format", "remove_remains", "scrub", "unused_ranges")

# First bytes of the pages of B-trees; the first two have 4 more bytes before the array of cell pointers.
_INTERIOR: Final = frozenset((2, 5))
_LEAVES: Final = frozenset((10, 13))

_FILE_HEADER: Final = 100

# The beginning of a file of SQLite, and the versions of the format that say that it has a write-ahead log
# (https://sqlite.org/fileformat2.html, 1.3). Builds of SQLite that encrypt have another beginning.
_MAGIC: Final = b"SQLite format 3\0"
_WAL_VERSIONS: Final = b"\2\2"

# From this page on, the first byte of an overflow page, which is the first one of a page number, could be 2.
_MOST_PAGES: Final = 0x0200_0000

# Pages that are overwritten while other processes cannot write.
_PORTION: Final = 1_000

# Seconds to wait for others that read the file; a backup can take that long.
_TIMEOUT: Final = 20.0

# Bytes that are read at once.
_CHUNK: Final = 1 << 20

_PAUSE: Final = 0.01

# Seconds between two attempts to empty the log, of which each may keep others from writing for nearly as long.
_LOG_PAUSE: Final = 0.03


def empty_log(db: sqlite3.Connection, timeout: float) -> None:
    """Write the write-ahead log into the file, and empty it, waiting for those that read.

    Raises:
        sqlite3.OperationalError: Other connections have read for longer than the timeout, or written without pause.
    """
    deadline = time.monotonic() + timeout
    while not try_empty_log(db, timeout=timeout):
        if time.monotonic() > deadline:
            raise busy_error()
        time.sleep(_LOG_PAUSE)


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
    with open_descriptor(path, db) as file:
        pages = list(_find_pages(file, size)) if is_plain_format(file, size) else None
        if pages is None or not _overwrite_pages(db, path, change, file=file, size=size, pages=pages, timeout=timeout):
            db.execute("VACUUM")
    empty_log(db, timeout)


def _overwrite_pages(  # noqa: PLR0913  a part of `scrub`
    db: sqlite3.Connection, path: Path, change: str, *, file: int, size: int, pages: list[int], timeout: float
) -> bool:
    """Overwrite the unused parts of pages, and return whether the file has kept the plain format to the end."""
    deadline = time.monotonic() + timeout
    while pages:
        empty_log(db, timeout)
        db.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have written in between; then the log is not empty.
            if _has_log(path):
                if time.monotonic() > deadline:
                    raise busy_error()  # noqa: TRY301  undone below like any other error
                db.execute("ROLLBACK")
                continue
            if not is_plain_format(file, size):
                db.execute("ROLLBACK")
                return False
            portion, pages = pages[:_PORTION], pages[_PORTION:]
            _overwrite(file, portion, size)
            # This connection's own copies too: the page of the change may be one of these.
            db.execute("PRAGMA shrink_memory")
            db.execute(change)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        deadline = time.monotonic() + timeout
        time.sleep(_PAUSE)  # other processes that wait for the lock look for it at intervals
    return True


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


def is_plain_format(file: int, size: int) -> bool:
    """Return whether each byte of a page of a B-tree that belongs to no row may be overwritten.

    The write-ahead log must be empty, so that the header in the file is the current one.

    Args:
        file: The descriptor of the file.
        size: The size of a page, as the connection has it.
    """
    header = _read(file, _FILE_HEADER, 0)
    is_sqlite = len(header) == _FILE_HEADER and header.startswith(_MAGIC) and header[18:20] == _WAL_VERSIONS
    if not is_sqlite or (_number(header, 16) if size < 65_536 else 65_536) != size:  # noqa: PLR2004  stored as 1
        return False
    reserved, largest_root = header[20], header[52:56]
    # Only a file with `auto_vacuum` has a largest root page.
    return not reserved and not any(largest_root) and os.fstat(file).st_size // size < _MOST_PAGES


def unused_ranges(page: bytes, start: int, usable: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a page that belong to no row and are not empty.

    Args:
        page: The page.
        start: Where its header begins: after that of the file, on the first page.
        usable: The bytes of the page that SQLite uses: all, in a file of the plain format.
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


def _find_pages(file: int, size: int) -> Iterator[int]:
    """Yield the numbers of pages to overwrite, counted from 0."""
    number = 0
    while chunk := _read(file, _CHUNK // size * size, number * size):
        for offset in range(0, len(chunk) - size + 1, size):
            page = chunk[offset : offset + size]
            if next(unused_ranges(page, 0 if number else _FILE_HEADER, size), None) is not None:
                yield number
            number += 1
        time.sleep(0)  # other threads of this process need the interpreter too
        if len(chunk) < size:
            return


def _overwrite(file: int, pages: Sequence[int], size: int) -> None:
    for number in pages:
        page = _read(file, size, number * size)
        if len(page) < size:
            continue  # the file has become shorter
        for begin, end in unused_ranges(page, 0 if number else _FILE_HEADER, size):
            _write(file, bytes(end - begin), number * size + begin)
    os.fsync(file)


def _has_log(path: Path) -> bool:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _number(page: bytes, offset: int) -> int:
    return page[offset] << 8 | page[offset + 1]


if sys.platform == "win32":

    def _read(file: int, size: int, offset: int) -> bytes:
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, size)

    def _write(file: int, content: bytes, offset: int) -> None:
        os.lseek(file, offset, os.SEEK_SET)
        os.write(file, content)

else:

    def _read(file: int, size: int, offset: int) -> bytes:
        return os.pread(file, size, offset)

    def _write(file: int, content: bytes, offset: int) -> None:
        os.pwrite(file, content, offset)
