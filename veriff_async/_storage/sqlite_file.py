"""SQLite files as inboxes and journals use them: how they are opened, locked and closed.

SQLite keeps its locks as POSIX locks. The system gives these back when a process closes any descriptor of the file, and
a child process does not inherit them although it inherits SQLite's memory of them
(https://sqlite.org/howtocorrupt.html, 2.2 and 2.6). So a file is opened through SQLite only, and a process refuses a
file that it inherited open.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Final, cast

from attrs import define, frozen

from veriff_async._protocol.arguments import check_path, type_name
from veriff_async._storage.sqlite_guard import FileGuard
from veriff_async._storage.sqlite_lock import WriteLock, retry_busy
from veriff_async._storage.sqlite_log import LogLimit
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator

    from veriff_async._storage.sqlite_guard import Identity

__all__ = (
    "Database",
    "Schema",
    "close_database",
    "connect",
    "database_path",
    "open_descriptor",
    "real_path",
)

_CREATION_LOCK: Final = Lock()


@define(eq=False)
class _OpenFile:
    """A file that this process has open.

    Attributes:
        identity: The file.
        connection: The connection to it, once it is open. A child process must never close it, not even as garbage.
    """

    identity: Identity
    connection: sqlite3.Connection | None = None


_open_files: set[_OpenFile] = set()
_inherited_files: list[_OpenFile] = []

# Descriptors that stay open while their file exists: the program may have connections of its own to it.
_descriptors: dict[Identity, int] = {}


def _remember_inherited() -> None:
    """Remember in a child process which files its parent had open; another thread can have held the lock."""
    global _CREATION_LOCK  # noqa: PLW0603  the copy of a lock that is held would never be released
    _CREATION_LOCK = Lock()  # type: ignore[misc]
    _inherited_files.extend(_open_files)
    _open_files.clear()
    _descriptors.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_remember_inherited)


@frozen
class Schema:
    """The kind of file that a store keeps.

    Attributes:
        owner: The store, for error messages, such as ``inbox``.
        application_id: SQLite's mark for whose file it is (https://sqlite.org/pragma.html#pragma_application_id).
        version: The version of the tables, which is also in the file.
        script: Creates what is missing, in a transaction. Each statement ends with a semicolon at the end of a line.
        upgrade: Statements that run before the script, in a file of an earlier version.
    """

    owner: str
    application_id: int
    version: int
    script: str
    upgrade: str = ""


class Database:
    """The open file of a store: one connection, used by one thread, and a guard that notices when the file is lost.

    A worker calls the methods below for each batch of jobs; subclasses add the queries that the jobs run, and what
    happens after a commit and between batches.
    """

    has_transactions: ClassVar[bool] = True
    """Whether `begin` and `commit` delimit transactions; without them, each statement waits for locks by itself."""

    def __init__(self, path: Path, schema: Schema, *, timeout: float) -> None:
        """Open the file, or create it for its owner alone.

        Args:
            path: The file, as the user named it, absolute.
            schema: Its tables.
            timeout: Seconds to wait for other processes that hold the file.

        Raises:
            ConfigurationError: It is another program's file, one of a newer version, on a disk that processes cannot
                share, or this process inherited it open.
            sqlite3.Error: It cannot be opened.
            OSError: It cannot be created.
        """
        self._path = real_path(path, owner=schema.owner)
        self._db = connect(self._path, timeout=timeout, owner=schema.owner)
        try:
            _prepare(self._db, schema, timeout)
            self._guards: list[FileGuard] = [FileGuard(path, self._db)]
            self._timeout = timeout
            self._write_lock = WriteLock(self._db, timeout)
            self._log_limit = LogLimit(self._db, self._path, timeout=0 if self.has_transactions else timeout)
            if self.has_transactions:
                self._write_lock.enable()
        except BaseException:
            close_database(self._db)
            raise

    @property
    def idle_seconds(self) -> float | None:
        """How long the worker waits for a job before it calls `on_idle`; ``None`` waits for as long as it takes."""
        return None

    @property
    def commit_interval(self) -> float:
        """How many seconds the worker waits between commits while records come concurrently, so that they share one."""
        return 0.0

    def begin(self, *, writes: bool) -> None:
        """Begin a transaction."""
        if writes:
            self._write_lock.begin()
            self._guards[0].note_size(self._db)
            return
        self._db.execute("BEGIN")
        # The first statement takes the snapshot of all. It finds the file locked while another process recovers a log.
        retry_busy(lambda: self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone(), self._timeout)

    def try_begin(self) -> bool:
        """Begin a transaction that writes, unless another process does; return whether it did."""
        return self._write_lock.try_begin()

    def commit(self) -> None:
        """Put everything on the disk.

        Raises:
            FileReplacedError: The file was deleted or replaced, so what was written may be lost.
        """
        self._db.execute("COMMIT")
        self._write_lock.on_release()
        self.check_file()

    def rollback(self) -> None:
        """Undo what was begun, if SQLite has not done so itself."""
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    def after_commit(self) -> None:
        """Do what follows a commit, before its jobs have their results."""
        self._log_limit.apply()

    def on_idle(self) -> None:
        """Do what is due when no job came for `idle_seconds`."""

    def check_file(self) -> None:
        """Check that the file is still the one that was opened.

        Raises:
            FileReplacedError: It was deleted or replaced.
        """
        for guard in self._guards:
            retry_busy(guard.check, self._timeout)

    def detach(self) -> None:
        """Keep the log of this file away from a file that has replaced it."""
        # Another process may write at this moment; what the log has then would be lost with it.
        self._write_lock.disable()
        self._guards[0].detach(self._db)

    def close(self) -> None:
        """Close the connection."""
        close_database(self._db)


def _create_private_file(path: str | Path) -> None:
    """Create an empty file that only its owner may read, unless it exists.

    Raises:
        OSError: It cannot be created.
    """
    # The lock, so that no other thread opens it through SQLite before its descriptor is closed here.
    with _CREATION_LOCK, suppress(FileExistsError):
        os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def connect(path: str | Path, *, timeout: float, owner: str) -> sqlite3.Connection:
    """Connect to a file, which is created if it is missing; deleted content is overwritten.

    Args:
        path: The file.
        timeout: Seconds to wait for another process that holds it.
        owner: The store that keeps it, for error messages, such as ``inbox``.

    Raises:
        ConfigurationError: This process inherited the file open.
        sqlite3.Error: It cannot be opened.
        OSError: It cannot be created.
    """
    _create_private_file(path)
    file = _OpenFile(_identity(path))
    if any(file.identity == inherited.identity for inherited in _inherited_files):
        msg = (
            f"The {owner}'s file was open when this process was forked, and SQLite's locks do not survive that: open "
            "it after the fork only, or start processes by another method, such as spawn."
        )
        raise ConfigurationError(msg)
    _open_files.add(file)  # before it is opened, since another thread can fork at any moment
    try:
        file.connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        # Many builds of SQLite leave deleted content in the file (https://sqlite.org/pragma.html#pragma_secure_delete).
        file.connection.execute("PRAGMA secure_delete = ON")
        # Otherwise a text that another program has stored as bytes is an error of each query that returns it.
        file.connection.text_factory = partial(str, encoding="utf-8", errors="backslashreplace")
    except BaseException:
        if file.connection is not None:
            file.connection.close()
        _open_files.discard(file)
        raise
    return file.connection


def close_database(connection: sqlite3.Connection) -> None:
    """Close what `connect` returned; in a child process that inherited it, do nothing."""
    for file in tuple(_open_files):
        if file.connection is connection:
            with _CREATION_LOCK:
                connection.close()
                _open_files.discard(file)
                _close_descriptors()


def _close_descriptors() -> None:
    """Close the descriptors of files that were deleted, so that the disk gets their space back."""
    for identity, descriptor in tuple(_descriptors.items()):
        is_used = any(file.identity == identity for file in _open_files)
        if not is_used and not os.fstat(descriptor).st_nlink:
            del _descriptors[identity]
            os.close(descriptor)


@contextmanager
def open_descriptor(path: Path, connection: sqlite3.Connection) -> Generator[int]:
    """Give a descriptor for the file of a connection, for reading and writing.

    Closing any descriptor of a file gives SQLite's locks back, except on Windows: also those of connections that the
    program has opened itself, for example for a backup. So it stays open for later calls, one for each file.

    Raises:
        OSError: The file cannot be opened, or another one has its name now.
    """
    if sys.platform == "win32":
        descriptor = os.open(path, os.O_RDWR | os.O_BINARY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    else:
        with _CREATION_LOCK:
            identity = _identity(path)
            if not any(file.connection is connection and file.identity == identity for file in _open_files):
                # Nothing locks this one.
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            _close_descriptors()
            if identity not in _descriptors:
                _descriptors[identity] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            descriptor = _descriptors[identity]
        yield descriptor


def _prepare(db: sqlite3.Connection, schema: Schema, timeout: float) -> None:
    """Refuse a file of another program, switch the write-ahead log on, and create the tables."""
    # One statement, so that a file which another process creates at this moment is seen either before or after that.
    query = (
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),"
        " (SELECT count(*) FROM sqlite_schema)"
    )
    application_id, version, tables = db.execute(query).fetchone()
    is_foreign = tables and (application_id != schema.application_id or not version)
    if is_foreign or version > schema.version:
        msg = (
            f"The {schema.owner}'s path names another program's file, or one of a newer veriff-async: give another "
            "path, or install the newer version."
        )
        raise ConfigurationError(msg)
    if _switch_to_wal(db, timeout) != "wal":
        msg = f"The {schema.owner}'s file is on a disk that processes cannot share: put it on a disk of this machine."
        raise ConfigurationError(msg)
    db.execute("PRAGMA synchronous = FULL")
    # On macOS, `fsync` leaves what was written in the cache of the disk, where a power cut loses it. Other systems
    # ignore this (https://sqlite.org/pragma.html#pragma_fullfsync).
    db.execute("PRAGMA fullfsync = ON")
    if version < schema.version:
        _create_tables(db, schema)


def _create_tables(db: sqlite3.Connection, schema: Schema) -> None:
    """Create the tables of a new file, or upgrade an earlier version, in one transaction."""
    # Not `executescript`, which would commit first: another process may upgrade the file at the same moment, so the
    # version must be read in the transaction that changes it.
    db.execute("BEGIN IMMEDIATE")
    try:
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if version < schema.version:
            script = f"{schema.upgrade if version else ''}\n{schema.script}"
            for statement in script.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {schema.application_id}")
            db.execute(f"PRAGMA user_version = {schema.version}")
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _switch_to_wal(db: sqlite3.Connection, timeout: float) -> str:
    """Switch the write-ahead log on; SQLite itself does not wait for others that do so at the same moment."""
    return str(retry_busy(lambda: db.execute("PRAGMA journal_mode = WAL").fetchone()[0], timeout))


def _identity(path: str | Path) -> Identity:
    status = os.stat(path)  # noqa: PTH116  a path may be a str
    return status.st_dev, status.st_ino


def real_path(path: Path, *, owner: str) -> Path:
    """Return the path that SQLite names its own files after, the same for every spelling of the path.

    SQLite keeps its write-ahead log, and a journal its lock, in the folder of the file and under its name. Through
    another name of the same file neither is found, so a second process would not see the first
    (https://sqlite.org/howtocorrupt.html, 2.4). Symbolic links are resolved. A hard link cannot be resolved, nor a file
    that is mounted by itself, so they are refused.

    Raises:
        ConfigurationError: It is not a file, or a file that has names in several folders.
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
    links = status.st_nlink
    if links > 1:
        msg = (
            f"The {owner}'s file has {links} hard links, and a process that uses another of its names would not be "
            "noticed: copy the file, and use the copy."
        )
        raise ConfigurationError(msg)
    if _is_mount_point(real):
        msg = f"The {owner}'s file is mounted by itself, so that its locks are not shared: mount its folder instead."
        raise ConfigurationError(msg)
    return real


def _is_mount_point(path: Path) -> bool:
    """Return whether the file itself, not its folder, is mounted, as containers can do; known on Linux only."""
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return False
    # The fifth field, with spaces and the like in octal (proc_pid_mountinfo(5)).
    mount_points = {fields[4] for line in table.splitlines() if len(fields := line.split()) > 4}  # noqa: PLR2004
    escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes((byte,)) for byte in os.fsencode(path))
    return escaped in mount_points


def database_path(path: object, *, owner: str, memory: str) -> Path:
    """Return the path of the file that a store is given.

    Args:
        path: The argument.
        owner: The store, for error messages, such as ``inbox``.
        memory: The class that needs no file.

    Raises:
        ConfigurationError: It cannot be the path of a file.
    """
    given = path  # kept, since only a part of its narrowed type is known
    name: object = os.fspath(cast("str | os.PathLike[str]", path)) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str):
        msg = f"The path of the {owner} must be a str or a Path, not {type_name(given)}."
        raise ConfigurationError(msg)
    if not name or name == ":memory:" or "\0" in name:
        msg = f"The path of the {owner} names no file: give one, or use {memory}."
        raise ConfigurationError(msg)
    return Path(check_path(f"The path of the {owner}", name))
