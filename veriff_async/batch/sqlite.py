"""The journal of one machine: a SQLite file. No server is needed.

What waits to be written goes into one transaction, so that many jobs share one `fsync`. One process at a time may run
jobs with it; any number may look.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import warnings
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

from anyio import to_thread
from attrs import frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._storage.sqlite_file import (
    FileGuard,
    FileReplacedError,
    close_database,
    database_path,
    open_database,
    real_path,
)
from veriff_async.batch._records import JobState, dump_record, load_record
from veriff_async.batch.memory import claimed_error
from veriff_async.errors import ConfigurationError, JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from veriff_async.batch._records import JobRecord

__all__ = ("SqliteJournal",)

_LOG: Final = logging.getLogger("veriff_async.batch")

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
    state TEXT NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS job_state ON job (state, number);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
COMMIT;
"""

_PUT: Final = """
INSERT INTO job (id, state, record) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, record = excluded.record
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
        ...         print(result.job_id, result.state)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Check the path; nothing is opened yet."""
        self._path = database_path(path, owner="journal", memory="MemoryJournal")
        self._keeper: _Keeper | None = None
        self._claims: set[str] = set()
        self._process = 0
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
        require_asyncio()
        try:
            await self._do(lambda _: None)
        except BaseException:  # there is no block to leave, so the thread would stay
            await self._stop()
            raise
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
            raise claimed_error(job_id)
        self._claims.add(job_id)  # before anything is awaited, so that nobody takes it meanwhile
        try:
            return await self._do(lambda db: keeper.claimed(db, job_id))
        except BaseException:
            self._claims.discard(job_id)
            raise

    async def release(self, job_id: str) -> None:
        """Give a claim back; see `Journal.release`."""
        require_asyncio()
        self._claims.discard(job_id)

    async def write(self, record: JobRecord) -> None:
        """Put a record on the disk; see `Journal.write`."""
        require_asyncio()
        self._kept()
        if record.job_id not in self._claims:
            raise claimed_error(record.job_id)
        row = (record.job_id, record.state.value, dump_record(record))
        await self._do(lambda db: db.execute(_PUT, row), writes=True)

    async def read(self, job_id: str) -> JobRecord | None:
        """Return what is written of a job; see `Journal.read`."""
        return await self._do(lambda db: _found(db, job_id))

    async def iter_records(self, *states: JobState) -> AsyncGenerator[JobRecord]:
        """Yield records; see `Journal.iter_records`."""
        last, wanted = 0, states or tuple(JobState)
        while page := await self._do(partial(_page, last, wanted)):
            for _, record in page:
                yield record
            last = page[-1][0]

    async def count_by_state(self) -> Mapping[JobState, int]:
        """Count jobs by step; see `Journal.count_by_state`."""
        return await self._do(_tally)

    async def aclose(self) -> None:
        """Write what is under way, and close the file for good; a second call does nothing."""
        require_asyncio()
        self._closed = True
        self._claims.clear()
        await self._stop()

    async def _stop(self) -> None:
        keeper = self._keeper
        if keeper is not None and self._process == os.getpid():
            keeper.stop()
            await to_thread.run_sync(keeper.join)
            if self._keeper is keeper:
                self._keeper = None

    async def _do(self, do: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """Have something done by the thread, in its turn; cancelling leaves it to be done, and forgets it here."""
        require_asyncio()
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._kept().put(_Task(do, writes, done))
        return await done

    def _kept(self) -> _Keeper:
        """Return the thread, which begins with the first thing to do."""
        if self._closed:
            raise _closed()
        if self._keeper is not None and self._process != os.getpid():
            # SQLite's locks do not survive a fork (https://sqlite.org/howtocorrupt.html).
            msg = "The journal was open before the process forked: make one in each process, or open it after the fork."
            raise ConfigurationError(msg)
        if self._keeper is None:
            keeper = _Keeper(self._path)
            keeper.start()
            self._keeper, self._process = keeper, os.getpid()
        return self._keeper


class _Keeper(Thread):
    """The thread that owns the file: whatever becomes of those who ask, nobody closes it while SQLite is at work.

    It is a daemon and knows nothing of the journal, so a program that forgets to close that ends all the same.
    """

    def __init__(self, path: Path) -> None:
        """Take the path; the file is opened for the first task."""
        super().__init__(name="veriff-async journal", daemon=True)
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._in_hand: list[_Task] = []
        self._putting = Lock()
        self._error: JournalError | None = None
        self._path = path
        self._guards: list[FileGuard] = []
        self._db: sqlite3.Connection | None = None
        self._lock: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has the file open."""
        return self._db is not None

    def put(self, task: _Task) -> None:
        """Have something done.

        Raises:
            JournalError: The thread has ended.
        """
        with self._putting:
            if self._error is not None:
                raise self._error
            self._tasks.put(task)

    def stop(self) -> None:
        """End when everything that was put has been done."""
        self._tasks.put(None)

    def run(self) -> None:
        """Do what is asked, until stopped; whatever ends the thread otherwise is logged, and answered to all who wait.

        It is not started again: the claim on the file has ended with it, and another run may have taken that.
        """
        error = _closed()
        try:
            while self._turn():
                pass
        except BaseException as problem:  # noqa: BLE001  nothing else sees what ends a thread
            msg = (
                f"The journal's thread failed with {type(problem).__name__}: go on with another one for the same file."
            )
            error = JournalError(msg)
            _LOG.error("%s", error)
        finally:
            self._end(error)

    def _end(self, error: JournalError) -> None:
        with self._putting:
            self._error = error
        left = [*self._in_hand]  # some may have their answer already, and keep it
        with suppress(Empty):
            while True:
                left += filter(None, [self._tasks.get_nowait()])
        _answer(left, [(None, error)] * len(left))
        for connection in (self._db, self._lock):
            if connection is not None:
                close_database(connection)
        self._db = self._lock = None

    def claimed(self, db: sqlite3.Connection, job_id: str) -> JobRecord | None:
        """Hold the file for this process, and return what is written of a job."""
        if self._lock is None:
            self._lock, guard = _locked(self._path)
            self._guards.append(guard)
        return _found(db, job_id)

    def _turn(self) -> bool:
        """Wait for something to do, and do all that waits; nothing of it is held while the next wait lasts."""
        batch = self._in_hand = list[_Task]()
        task = self._tasks.get()
        while task is not None:
            batch.append(task)
            if len(batch) == _AT_ONCE or self._tasks.empty():
                break
            task = self._tasks.get()  # there is one, since nobody else takes any
        if batch:
            _answer(batch, self._together(batch))
        return task is not None

    def _together(self, batch: Sequence[_Task]) -> list[_Outcome]:
        """Do everything in one transaction."""
        try:
            db = self._db or self._open()
            db.execute("BEGIN IMMEDIATE" if any(task.writes for task in batch) else "BEGIN")
            try:
                outcomes = [_outcome(task, db) for task in batch]
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have done so itself
                    db.execute("ROLLBACK")
                raise
            for guard in self._guards:
                guard.check()
        except FileReplacedError:
            if self._db is not None:
                self._guards[0].let_go(self._db)
            return [(None, _replaced())] * len(batch)
        except (sqlite3.Error, OSError) as error:
            return [(None, _failed(error))] * len(batch)
        except Exception as error:  # noqa: BLE001  whatever it is, it must reach whoever waits
            return [(None, error)] * len(batch)
        return outcomes

    def _open(self) -> sqlite3.Connection:
        given, self._path = self._path, real_path(self._path, owner="journal")
        db = self._db = _opened(self._path)
        self._guards.append(FileGuard(given))
        return db


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


def _opened(path: Path) -> sqlite3.Connection:
    db = open_database(path, timeout=_BUSY, owner="journal")
    try:
        _prepare(db)
    except BaseException:
        close_database(db)
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


def _locked(path: Path) -> tuple[sqlite3.Connection, FileGuard]:
    """Hold a lock that ends with the process, however it ends: SQLite's own, on a file beside the journal."""
    beside = path.with_name(f"{path.name}-run")
    lock = open_database(beside, timeout=0, owner="journal")
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        close_database(lock)
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
    else:
        return lock, FileGuard(beside)
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
    return None if row is None else _load(row[0])


def _page(after: int, states: Sequence[JobState], db: sqlite3.Connection) -> list[tuple[int, JobRecord]]:
    places = ", ".join("?" * len(states))
    rows = db.execute(
        f"SELECT number, record FROM job WHERE number > ? AND state IN ({places}) ORDER BY number LIMIT ?",  # noqa: S608
        (after, *(state.value for state in states), _AT_ONCE),
    ).fetchall()  # all, since a reading that breaks off midway would keep its view of the file
    return [(number, _load(record)) for number, record in rows]


def _tally(db: sqlite3.Connection) -> dict[JobState, int]:
    return {JobState(state): count for state, count in db.execute("SELECT state, count(*) FROM job GROUP BY state")}


def _load(value: object) -> JobRecord:
    return load_record(value if isinstance(value, bytes) else b"")  # another program may have written a text


def _replaced() -> JournalError:
    msg = "The journal's file was removed or replaced while it was open: put it back, and begin again."
    return JournalError(msg)


def _closed() -> JournalError:
    return JournalError("The journal was closed: make another one for the same file.")


def _failed(error: sqlite3.Error | OSError) -> JournalError:
    known = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None)
    problem = known or type(error).__name__
    return JournalError(f"The journal's file cannot be used ({problem}): look at its folder, its owner and the disk.")
