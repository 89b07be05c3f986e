"""The journal of one machine: a SQLite file. No server is needed.

What waits to be written goes into one transaction, so that many jobs share one `fsync`. One process at a time may run
jobs with it; any number may look.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

from anyio import to_thread
from attrs import frozen

from veriff_async.batch.memory import taken
from veriff_async.batch.record import Step, dump_record, load_record
from veriff_async.errors import ConfigurationError, JournalError
from veriff_async.inbox.shelves import make
from veriff_async.protocol.codec import UnreadableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from types import TracebackType

    from veriff_async.batch.record import JobRecord

__all__ = ("SqliteJournal",)

_T = TypeVar("_T")
_Outcome: TypeAlias = "tuple[Any, Exception | None]"

_APPLICATION: Final = 0x56665F4A
"""SQLite's own mark for whose file it is (https://sqlite.org/pragma.html#pragma_application_id)."""

_VERSION: Final = 1
_BUSY: Final = 10.0
"""Seconds to wait for another process that holds the file for a moment."""

_AT_ONCE: Final = 256
"""Things done in one transaction, and records in one page of a long reading."""

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS job (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which jobs were begun
    id TEXT NOT NULL UNIQUE,
    step TEXT NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS job_step ON job (step, number);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
COMMIT;
"""

_PUT: Final = """
INSERT INTO job (id, step, record) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET step = excluded.step, record = excluded.record
"""


@frozen(eq=False)
class _Task:
    """Something to do with the file, and who waits for it."""

    do: Callable[[sqlite3.Connection], Any]
    writes: bool
    done: asyncio.Future[Any]


class SqliteJournal:
    """Keep records in a file, which a run that is killed at any point goes on with.

    What `write` has returned from is on the disk (SQLite's write-ahead log, ``synchronous=FULL``). The first claim
    takes the file for this process, by a lock on one beside it that the system gives back when the process dies; other
    processes may look meanwhile. Symbolic links and other spellings of a path lead to the same lock; a file with hard
    links is refused. It is made for its owner alone, since decisions hold personal data, and must lie on a disk of this
    machine. While it is open, let nothing in this process open the file but SQLite: closing it again would give back
    SQLite's locks (https://sqlite.org/howtocorrupt.html, 2.2). Use it in one event loop.

    Args:
        path: The file; it is made when it is missing, its folder is not.

    Raises:
        ConfigurationError: The path names no file. The first use raises it for a file that is no journal, or that has
            several hard links.

    Example:
        >>> async with SqliteJournal("batch.db") as journal, VeriffClient.from_env() as veriff:
        ...     async for result in verify_many(veriff, jobs, journal=journal):
        ...         print(result.job_id, result.step)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Check the path; nothing is opened yet."""
        name = os.fspath(path)
        if not name or name == ":memory:":
            msg = "The path of the journal names no file: give one, or use MemoryJournal."
            raise ConfigurationError(msg)
        self._path = Path(name)
        self._keeper: _Keeper | None = None
        self._claims: set[str] = set()
        self._process = os.getpid()
        self._closed = False

    def __repr__(self) -> str:
        """Show whether it is open; a path may hold the name of a person."""
        return f"<SqliteJournal {'open' if self._keeper and self._keeper.is_open else 'not open'}>"

    def __del__(self) -> None:
        """Warn when it was left open, and end its thread."""
        keeper = getattr(self, "_keeper", None)
        if keeper is None or self._process != os.getpid():
            return
        keeper.stop()
        if not self._closed and keeper.is_open:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            ConfigurationError: It is no journal, or of a newer version.
            JournalError: It cannot be opened.
        """
        await self._do(lambda _: None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        await self.aclose()

    async def claim(self, job_id: str) -> JobRecord | None:
        """Take a job; see `Journal.claim`."""
        keeper = self._kept()
        if job_id in self._claims:
            raise taken(job_id)
        self._claims.add(job_id)  # before anything is awaited, so that nobody takes it meanwhile
        try:
            return await self._do(lambda db: keeper.claimed(db, job_id))
        except BaseException:
            self._claims.discard(job_id)
            raise

    async def release(self, job_id: str) -> None:
        """Give a claim back; see `Journal.release`."""
        self._claims.discard(job_id)

    async def write(self, record: JobRecord) -> None:
        """Put a record on the disk; see `Journal.write`."""
        self._kept()
        if record.job_id not in self._claims:
            raise taken(record.job_id)
        row = (record.job_id, record.step.value, dump_record(record))
        await self._do(lambda db: db.execute(_PUT, row), writes=True)

    async def read(self, job_id: str) -> JobRecord | None:
        """Return what is written of a job; see `Journal.read`."""
        return await self._do(lambda db: _found(db, job_id))

    async def records(self, *steps: Step) -> AsyncGenerator[JobRecord]:
        """Yield records; see `Journal.records`."""
        last, wanted = 0, steps or tuple(Step)
        while page := await self._do(partial(_page, last, wanted)):
            for _, record in page:
                yield record
            last = page[-1][0]

    async def tally(self) -> Mapping[Step, int]:
        """Count jobs by step; see `Journal.tally`."""
        return await self._do(_tally)

    async def aclose(self) -> None:
        """Write what is under way, and close the file for good; a second call does nothing."""
        self._closed = True
        self._claims.clear()
        if self._keeper is not None and self._process == os.getpid():
            self._keeper.stop()
            await to_thread.run_sync(self._keeper.join)

    async def _do(self, do: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """Have something done by the thread, in its turn; cancelling leaves it to be done, and forgets it here."""
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._kept().tasks.put(_Task(do, writes, done))
        return await done

    def _kept(self) -> _Keeper:
        """Return the thread, which begins with the first thing to do."""
        if self._closed:
            msg = "The journal was closed: make another one for the same file."
            raise JournalError(msg)
        if self._process != os.getpid():
            # SQLite's locks do not survive a fork (https://sqlite.org/howtocorrupt.html).
            msg = "The journal was made before the process forked: make one in each process."
            raise ConfigurationError(msg)
        if self._keeper is None:
            keeper = _Keeper(self._path)
            keeper.start()
            self._keeper = keeper
        return self._keeper


class _Keeper(Thread):
    """The thread that owns the file: whatever becomes of those who ask, nobody closes it while SQLite is at work.

    It is a daemon and knows nothing of the journal, so a program that forgets to close that ends all the same.
    """

    def __init__(self, path: Path) -> None:
        """Take the path; the file is opened for the first task."""
        super().__init__(name="veriff-async journal", daemon=True)
        self.tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._lock: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has the file open."""
        return self._db is not None

    def stop(self) -> None:
        """End when everything that was put has been done."""
        self.tasks.put(None)

    def run(self) -> None:
        """Do what is asked, until stopped; what comes in the meantime is done together next."""
        try:
            while self._turn():
                pass
        finally:
            for connection in (self._db, self._lock):
                if connection is not None:
                    connection.close()
            self._db = self._lock = None

    def claimed(self, db: sqlite3.Connection, job_id: str) -> JobRecord | None:
        """Hold the file for this process, and return what is written of a job."""
        if self._lock is None:
            self._lock = _locked(self._path)
        return _found(db, job_id)

    def _file(self, *, is_writing: bool) -> sqlite3.Connection:
        """Return the open file, which is still the one that its path names if something is to be written."""
        if self._db is None:
            self._path = _real(self._path)
            self._db = _opened(self._path)
            self._identity = _identity(self._path)
        elif is_writing and _identity(self._path) != self._identity:
            msg = "The journal's file was removed or replaced while it was open: put it back, and begin again."
            raise JournalError(msg)
        return self._db

    def _turn(self) -> bool:
        """Wait for something to do, and do all that waits; nothing of it is held while the next wait lasts."""
        batch: list[_Task] = []
        task = self.tasks.get()
        while task is not None:
            batch.append(task)
            if len(batch) == _AT_ONCE or self.tasks.empty():
                break
            task = self.tasks.get()  # there is one, since nobody else takes any
        if batch:
            _answer(batch, self._together(batch))
        return task is not None

    def _together(self, batch: Sequence[_Task]) -> list[_Outcome]:
        """Do everything in one transaction."""
        try:
            db = self._file(is_writing=any(task.writes for task in batch))
            db.execute("BEGIN IMMEDIATE" if any(task.writes for task in batch) else "BEGIN")
            try:
                outcomes = [_outcome(task, db) for task in batch]
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have done so itself
                    db.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            return [(None, _failed(error))] * len(batch)
        except Exception as error:  # noqa: BLE001  whatever it is, it must reach whoever waits
            return [(None, error)] * len(batch)
        return outcomes


def _answer(batch: Sequence[_Task], outcomes: Sequence[_Outcome]) -> None:
    """Tell each loop at once of all that was done for it."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], _Outcome]]] = {}
    for task, outcome in zip(batch, outcomes, strict=True):
        loops.setdefault(task.done.get_loop(), []).append((task.done, outcome))
    for loop, answers in loops.items():
        with suppress(RuntimeError):  # it was closed, so nobody waits in it
            loop.call_soon_threadsafe(_settle, answers)


def _settle(answers: Sequence[tuple[asyncio.Future[Any], _Outcome]]) -> None:
    for done, (result, error) in answers:
        if done.done():
            continue
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)


def _real(path: Path) -> Path:
    """Return the one path of a file that SQLite names its own files after, whatever spelling was given.

    SQLite keeps its write-ahead log, and this module its lock, beside the file and under its name. Through another name
    of the same file neither is found, so a second run would not see the first
    (https://sqlite.org/howtocorrupt.html, 2.4). Symbolic links are resolved; a hard link and a file that is mounted by
    itself cannot be, so they are refused.

    Raises:
        ConfigurationError: The file has names in several folders.
    """
    real = Path(os.path.realpath(path))
    try:
        names = real.stat().st_nlink
    except FileNotFoundError:
        return real
    if names > 1:
        msg = (
            f"The journal's file has {names} hard links, and a second run under another of its names would not be "
            "noticed: copy the file, and use the copy."
        )
        raise ConfigurationError(msg)
    if _is_mounted_alone(real):
        msg = "The journal's file is mounted by itself, so that its lock is not shared: mount its folder instead."
        raise ConfigurationError(msg)
    return real


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what the system knows a file by, or `None` when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


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


def _opened(path: Path) -> sqlite3.Connection:
    make(path)
    db = sqlite3.connect(path, timeout=_BUSY, isolation_level=None)
    try:
        _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection) -> None:
    # In one statement, so that a file which another process makes at this moment is seen before or after that.
    look = (
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),"
        " (SELECT count(*) FROM sqlite_schema)"
    )
    mark, version, tables = db.execute(look).fetchone()
    if version > _VERSION or (tables and mark != _APPLICATION):
        msg = "The journal's file is none, or of a newer veriff-async: give another path, or install the newer version."
        raise ConfigurationError(msg)
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        msg = "The journal's file lies where processes cannot share it: put it on a disk of this machine."
        raise ConfigurationError(msg)
    db.execute("PRAGMA synchronous = FULL")
    if not tables:
        db.executescript(_SCHEMA)


def _locked(path: Path) -> sqlite3.Connection:
    """Hold a lock that ends with the process, however it ends: SQLite's own, on a file beside the journal."""
    beside = path.with_name(f"{path.name}-run")
    make(beside)
    lock = sqlite3.connect(beside, timeout=0, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
    else:
        return lock
    msg = "Another run uses this journal: let it end, or give this one a journal of its own."
    raise JournalError(msg)


def _outcome(task: _Task, db: sqlite3.Connection) -> _Outcome:
    """Do one thing; what is the matter with the file as a whole is not its own error."""
    try:
        return task.do(db), None
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it must reach whoever waits for it
        return None, error


def _found(db: sqlite3.Connection, job_id: str) -> JobRecord | None:
    row = db.execute("SELECT record FROM job WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else _loaded(row[0])


def _page(after: int, steps: Sequence[Step], db: sqlite3.Connection) -> list[tuple[int, JobRecord]]:
    places = ", ".join("?" * len(steps))
    rows = db.execute(
        f"SELECT number, record FROM job WHERE number > ? AND step IN ({places}) ORDER BY number LIMIT ?",  # noqa: S608
        (after, *(step.value for step in steps), _AT_ONCE),
    ).fetchall()  # all, since a reading that breaks off midway would keep its view of the file
    return [(number, _loaded(record)) for number, record in rows]


def _tally(db: sqlite3.Connection) -> dict[Step, int]:
    return {Step(step): count for step, count in db.execute("SELECT step, count(*) FROM job GROUP BY step")}


def _loaded(text: object) -> JobRecord:
    try:
        return load_record(text if isinstance(text, bytes) else b"")  # what is no bytes others have written
    except UnreadableError:
        msg = "What the journal keeps of a job cannot be read: look for a newer veriff-async."
    raise JournalError(msg)


def _failed(error: sqlite3.Error | OSError) -> JournalError:
    known = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None)
    problem = known or type(error).__name__
    return JournalError(f"The journal's file cannot be used ({problem}): look at its folder, its owner and the disk.")
