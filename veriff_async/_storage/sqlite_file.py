"""Files of SQLite as inboxes and journals use them.

SQLite keeps its locks as POSIX locks, which the system gives back when a process closes any descriptor of the file, and
which a child process does not inherit although SQLite's memory of them is copied (https://sqlite.org/howtocorrupt.html,
2.2 and 2.6). So a file is opened through SQLite only, and a process refuses one that it inherited open.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias, cast

from attrs import define

from veriff_async._protocol.arguments import check_path, type_name
from veriff_async.errors import ConfigurationError

__all__ = (
    "FileGuard",
    "FileReplacedError",
    "close_database",
    "database_path",
    "make",
    "open_database",
    "real_path",
)

_Identity: TypeAlias = tuple[int, int]
"""The device and the number of a file on it, which stay the same under every name of the file."""

_MAKING: Final = Lock()


@define(eq=False)
class _Opened:
    """A file that this process has open.

    Attributes:
        identity: The file.
        connection: What opened it, once that is done. A child process must never close it, not even as garbage.
    """

    identity: _Identity
    connection: sqlite3.Connection | None = None


_opened: set[_Opened] = set()
_inherited: list[_Opened] = []


def _inherit() -> None:
    """Remember in a child process what its parent had open; another thread can have held the lock."""
    global _MAKING  # noqa: PLW0603  the copy of a lock that is held would never be released
    _MAKING = Lock()  # type: ignore[misc]
    _inherited.extend(_opened)
    _opened.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inherit)


def make(path: str | Path) -> None:
    """Make a file of SQLite for its owner alone, unless it is there.

    Raises:
        OSError: It cannot be made.
    """
    # The lock, so that no other thread gives it to SQLite before it is closed here.
    with _MAKING, suppress(FileExistsError):
        os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def open_database(path: str | Path, *, timeout: float, owner: str) -> sqlite3.Connection:
    """Open a file, or make it; what is deleted from it is overwritten.

    Args:
        path: The file.
        timeout: Seconds to wait for another process that holds it.
        owner: Whose file it is, for the error, such as ``inbox``.

    Raises:
        ConfigurationError: This process inherited the file open.
        sqlite3.Error: It cannot be opened.
        OSError: It cannot be made.
    """
    make(path)
    opened = _Opened(_identity(path))
    if any(opened.identity == inherited.identity for inherited in _inherited):
        msg = (
            f"The {owner}'s file was open when this process was forked, and SQLite's locks do not survive that: open "
            "it after the fork only, or start processes by another method, such as spawn."
        )
        raise ConfigurationError(msg)
    _opened.add(opened)  # before it is opened, since another thread can fork at any moment
    try:
        opened.connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        # Many builds of SQLite leave deleted content in the file (https://sqlite.org/pragma.html#pragma_secure_delete).
        opened.connection.execute("PRAGMA secure_delete = ON")
    except BaseException:
        if opened.connection is not None:
            opened.connection.close()
        _opened.discard(opened)
        raise
    return opened.connection


def close_database(connection: sqlite3.Connection) -> None:
    """Close what `open_database` returned; in a child process that inherited it, do nothing."""
    for opened in tuple(_opened):
        if opened.connection is connection:
            connection.close()
            _opened.discard(opened)


def _identity(path: str | Path) -> _Identity:
    status = os.stat(path)  # noqa: PTH116  a text is quicker, and this is done for every commit
    return status.st_dev, status.st_ino


def real_path(path: Path, *, owner: str) -> Path:
    """Return the one path of a file that SQLite names its own files after, whatever spelling was given.

    SQLite keeps its write-ahead log, and a journal its lock, beside the file and under its name. Through another name
    of the same file neither is found, so a second process would not see the first
    (https://sqlite.org/howtocorrupt.html, 2.4). Symbolic links are resolved; a hard link and a file that is mounted by
    itself cannot be, so they are refused.

    Raises:
        ConfigurationError: It is no file, or one that has names in several folders.
    """
    real = Path(os.path.realpath(path))
    try:
        status = real.stat()
    except FileNotFoundError:
        return real
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "device"
        msg = f"The {owner}'s path names a {kind}: give the path of a file."
        raise ConfigurationError(msg)
    names = status.st_nlink
    if names > 1:
        msg = (
            f"The {owner}'s file has {names} hard links, and a process that uses another of its names would not be "
            "noticed: copy the file, and use the copy."
        )
        raise ConfigurationError(msg)
    if _is_mounted_alone(real):
        msg = f"The {owner}'s file is mounted by itself, so that its locks are not shared: mount its folder instead."
        raise ConfigurationError(msg)
    return real


def _is_mounted_alone(real: Path) -> bool:
    """Return whether a file, not its folder, is a mount point, as containers can have it; known on Linux only."""
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return False
    # The fifth field, with spaces and the like in octal (proc_pid_mountinfo(5)).
    mounts = {fields[4] for line in table.splitlines() if len(fields := line.split()) > 4}  # noqa: PLR2004
    name = b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes((byte,)) for byte in os.fsencode(real))
    return name in mounts


class FileReplacedError(Exception):
    """An open file was deleted or replaced; its store says so in an error of its own."""


class FileGuard:
    """Notices that an open file was deleted, replaced or made shorter, or that its write-ahead log or index was.

    SQLite goes on with a file that has no name any more: what is written then is gone when the last process closes it.
    It never makes a file shorter by itself, so another program did: by copying over it, for example.
    """

    def __init__(self, path: str | Path) -> None:
        """Remember the files as they are; the database is open, so its log and index stay until it is closed."""
        real = os.path.realpath(path)
        self._names = (os.path.abspath(path), f"{real}-wal", f"{real}-shm")  # noqa: PTH100  follows no link
        self._known = [self._found(name) for name in self._names]
        self._size = 0

    def check(self) -> None:
        """Look whether the files are still those that were opened.

        Raises:
            FileReplacedError: Another file, or none, has one of the names, or the file is shorter than before.
        """
        for place, name in enumerate(self._names):
            found = self._found(name)
            if self._known[place] is None:  # the log and the index are made when they are first needed
                self._known[place] = found
            elif found != self._known[place]:
                raise FileReplacedError
        size = self._size_of_file()
        if size < self._size:
            raise FileReplacedError
        self._size = size

    def let_go(self, connection: sqlite3.Connection) -> None:
        """Keep the log of the file that was opened from the file that has taken its name, if another one has.

        SQLite would apply the log to that file, and overwrite it (https://sqlite.org/howtocorrupt.html, 1.4). So what
        the log has is written into the file that was opened, and the log is removed.
        """
        found = self._found(self._names[0])
        if found is None or found == self._known[0]:
            return
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        for name, known in zip(self._names[1:], self._known[1:], strict=True):
            if known is not None and self._found(name) == known:
                with suppress(OSError):
                    os.unlink(name)  # noqa: PTH108  a text, as everywhere here

    def _size_of_file(self) -> int:
        try:
            return os.stat(self._names[0]).st_size  # noqa: PTH116  as in `_identity`
        except OSError:
            return 0

    def _found(self, name: str) -> _Identity | None:
        try:
            return _identity(name)
        except OSError:
            return None


def database_path(path: object, *, owner: str, memory: str) -> Path:
    """Return the path of a file that a store is given.

    Args:
        path: What was given.
        owner: Whose file it is, for the error, such as ``inbox``.
        memory: The class that needs no file.

    Raises:
        ConfigurationError: It can be the path of no file.
    """
    given = path  # kept, since its narrowed type is not known whole
    name: object = os.fspath(cast("str | os.PathLike[str]", path)) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str):
        msg = f"The path of the {owner} must be a str or a Path, got {type_name(given)}."
        raise ConfigurationError(msg)
    if not name or name == ":memory:" or "\0" in name:
        msg = f"The path of the {owner} names no file: give one, or use {memory}."
        raise ConfigurationError(msg)
    return Path(check_path(f"The path of the {owner}", name))
