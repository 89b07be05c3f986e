"""The journal of one machine: a SQLite file. No server is needed.

Records that wait to be written share one statement and one `fsync`, see `veriff_async._storage.sqlite_worker`. The
`fsync` is what a journal costs: a fifth of a millisecond of processor time, and three of waiting, for one record or for
fifty. So a busy journal commits at most every ten milliseconds, and its jobs wait that long. A single job never waits:
its requests to Veriff take longer than that.

One process at a time may run jobs with a journal; any number of processes may read it.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from attrs import evolve

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.inbox_arguments import check_session_ids
from veriff_async._protocol.json.decode import dump
from veriff_async._storage.encrypted_text import TextCodec
from veriff_async._storage.sqlite_file import Database, Schema, close_database, connect, database_path
from veriff_async._storage.sqlite_guard import FileGuard
from veriff_async._storage.sqlite_scrub import remove_remains
from veriff_async._storage.sqlite_worker import StoreErrors, WorkerGroup
from veriff_async.batch._records import JobState, UnreadRecords, dump_record, load_record
from veriff_async.batch._session_limits import HOUR, CreationLog
from veriff_async.batch.memory import claimed_error
from veriff_async.errors import DecodeError, JournalError

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Collection, Container, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from veriff_async.batch._records import JobRecord
    from veriff_async.batch._session_limits import SessionLimits, SessionUsage
    from veriff_async.encryption import KeyRing

__all__ = ("SqliteJournal",)

_Row: TypeAlias = tuple[str, str, bytes]

# Seconds to wait for another process that holds the file for a moment.
_BUSY_TIMEOUT: Final = 10.0

# Records that `iter_records` reads in one transaction.
_PAGE_SIZE: Final = 256

# Seconds between two commits: fewer of them, and more records in each.
_COMMIT_INTERVAL: Final = 0.01

# Changes something each time, and nothing that counts: numbers of jobs need only grow.
_CHANGE: Final = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'job'"

_APPLICATION_ID: Final = 0x56665F4A
_VERSION: Final = 2
_SCHEMA: Final = Schema(
    owner="journal",
    application_id=_APPLICATION_ID,
    version=_VERSION,
    script="""
CREATE TABLE IF NOT EXISTS job (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which jobs were begun
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS job_state ON job (state, number);
CREATE TABLE IF NOT EXISTS creation ( -- each creation that a limit of sessions counts
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    time REAL NOT NULL, -- seconds since 1970
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
""",
)

_ERRORS: Final = StoreErrors(
    owner="journal",
    error=JournalError,
    reopen="make another one for the same file",
    after_loss="put it back, and start the run again",
    after_failure="continue with another journal for the same file",
    log=logging.getLogger("veriff_async.batch"),
)


class SqliteJournal:
    """Keep records in a file, so that a run that was killed at any point can be continued.

    When `write` returns, the record is on the disk (SQLite's write-ahead log, ``synchronous=FULL``). The first claim
    takes the file for this process, by a lock on a second file next to it, which the system releases when the process
    dies; other processes may still read. Symbolic links and other spellings of a path lead to the same lock; a file
    with hard links is refused. The file is readable for its owner only, since decisions hold personal data, and must be
    on a disk of this machine. While it is open, let nothing but SQLite open the file in this process: closing it again
    would release SQLite's locks (https://sqlite.org/howtocorrupt.html, 2.2). Use a journal in one event loop.

    Args:
        path: The file. It is created if it is missing, its folder is not.
        encryption: Keys with which the records are encrypted; without it they are readable. The ids and states of jobs
            always are. See `reencrypt`.

    Raises:
        ConfigurationError: The path names no file, or `encryption` is not a `KeyRing`. The first use raises it for a
            file that is not a journal, or that has several hard links.

    Example:
        >>> async with SqliteJournal("batch.db") as journal, VeriffClient.from_env() as veriff:
        ...     async for result in verify_many(veriff, jobs, journal=journal):
        ...         print(result.job_id, result.state)
    """

    def __init__(self, path: str | os.PathLike[str], *, encryption: KeyRing | None = None) -> None:
        """Check the options; nothing is opened yet."""
        file = database_path(path, owner="journal", memory="MemoryJournal")
        # A failed thread is not replaced: the claims on the file ended with it, and another run may have taken them.
        self._codec = TextCodec(encryption, error=JournalError, owner="journal")
        open_file = partial(_JournalFile, codec=self._codec)
        self._group = WorkerGroup(file, {"journal": open_file}, _ERRORS, reopens=False)
        self._claims: dict[str, int] = {}
        """The creations in the last record of each claimed job."""

    def __repr__(self) -> str:
        """Show whether it is open; a path may hold the name of a person."""
        return f"<SqliteJournal {'open' if self._group.is_open else 'not open'}>"

    def __del__(self) -> None:
        """Warn if it was left open, and end its thread."""
        if hasattr(self, "_group"):
            self._group.warn_if_open(self)

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            ConfigurationError: It is not a journal, or of a newer version.
            JournalError: It cannot be opened.
        """
        await self._group.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        await self.aclose()

    async def claim(self, job_id: str) -> JobRecord | None:
        """Take a job; see `Journal.claim`."""
        if job_id in self._claims:
            self._group.check_open()
            raise claimed_error(job_id)
        self._claims[job_id] = 0  # before anything is awaited, so that no other task takes it in between
        try:
            record = await self._group.run(lambda file: file.claim(job_id))
        except BaseException:
            self._claims.pop(job_id, None)
            raise
        if record is not None:
            self._claims[job_id] = record.creations
        return record

    async def release(self, job_id: str) -> None:
        """Give a claim back; see `Journal.release`."""
        require_asyncio()
        self._claims.pop(job_id, None)

    async def write(self, record: JobRecord) -> None:
        """Put a record on the disk; see `Journal.write`."""
        row, before = self._to_row(record)
        self._claims[record.job_id] = record.creations
        await self._group.run(lambda file: file.put(row, before, record.creations), writes=True)

    async def reserve(self, record: JobRecord, limits: SessionLimits) -> SessionUsage:
        """Put a record on the disk if the limits permit it; see `Journal.reserve`."""
        row, before = self._to_row(record)
        usage = await self._group.run(lambda file: file.reserve(row, before, record.creations, limits), writes=True)
        if not usage.retry_after:
            self._claims[record.job_id] = record.creations
        return usage

    async def session_usage(self, limits: SessionLimits) -> SessionUsage:
        """Count sessions; see `Journal.session_usage`."""
        return await self._group.run(lambda file: file.session_usage(limits))

    def _to_row(self, record: JobRecord) -> tuple[_Row, int]:
        """Return the row of a claimed job, and how many creations its last record has."""
        self._group.check_open()
        before = self._claims.get(record.job_id)
        if before is None:
            raise claimed_error(record.job_id)
        text = self._codec.encode(dump_record(record), "record", record.job_id)
        return (record.job_id, record.state.value, text), before

    async def read(self, job_id: str) -> JobRecord | None:
        """Return the record of a job; see `Journal.read`."""
        return await self._group.run(lambda file: file.get(job_id))

    async def iter_records(self, *states: JobState) -> AsyncGenerator[JobRecord]:
        """Yield records; see `Journal.iter_records`."""
        last, wanted, unread = 0, states or tuple(JobState), UnreadRecords()
        while page := await self._group.run(partial(_JournalFile.page, after=last, states=wanted, unread=unread)):
            for _, record in page:
                if record is not None:
                    yield record
            last = page[-1][0]
        unread.check()

    async def count_by_state(self) -> Mapping[JobState, int]:
        """Count jobs by state; see `Journal.count_by_state`."""
        return await self._group.run(lambda file: file.count_by_state())

    async def erase(self, session_ids: Collection[str]) -> int:
        """Delete the records of sessions; see `ErasableJournal.erase`. It holds the file as a claim does.

        Raises:
            JobClaimedError: This process has claimed one of the jobs.
            JournalError: Another run uses the file, or another process reads it for long.
        """
        wanted = check_session_ids(session_ids)
        erased = await self._group.run(lambda file: file.erase(wanted, self._claims))
        # Also without such a job: an earlier call may have been killed before this.
        await self._group.run_in_thread(partial(remove_remains, change=_CHANGE, owner=_SCHEMA.owner))
        return erased

    async def reencrypt(self) -> int:
        """Write every record again that is not encrypted with the first key of the ring, or is although it has no ring.

        Call it after a key was added, and before an old one is removed; it may be called again after an interruption.
        It holds the file as a claim does.

        Returns:
            How many records were written again.

        Raises:
            JournalError: Another run uses the file, or some records may not have been written; call it again.
        """
        total, last = 0, 0
        while True:
            written, end = await self._group.run(partial(_JournalFile.reencrypt, last=last))
            total += written
            if end is None:
                break
            last = end
        if total:
            await self._group.run_in_thread(partial(remove_remains, change=_CHANGE, owner=_SCHEMA.owner))
        return total

    async def aclose(self) -> None:
        """Finish the writes that were begun, and close the file for good; a second call does nothing."""
        self._claims.clear()
        await self._group.aclose()


class _JournalFile(Database):
    """The rows of a journal, and the lock of the process that runs jobs with it."""

    has_transactions = False

    def __init__(self, path: Path, codec: TextCodec) -> None:
        super().__init__(path, _SCHEMA, timeout=_BUSY_TIMEOUT)
        self._codec = codec
        self._lock: sqlite3.Connection | None = None
        self._rows: dict[str, _Row] = {}
        self._changes: list[tuple[str, int, int, float]] = []
        self._log: CreationLog | None = None

    @property
    def commit_interval(self) -> float:
        """How long the worker waits after a commit; see `Database.commit_interval`."""
        return _COMMIT_INTERVAL

    def begin(self, *, writes: bool) -> None:
        """Begin nothing: all records are written by one statement, which is a transaction of its own."""

    def commit(self) -> None:
        """Put the records of all jobs on the disk; see `Database.commit`."""
        self._write_rows()
        self.check_file()

    def rollback(self) -> None:
        """Drop the records that were not written."""
        self._rows.clear()
        self._changes.clear()
        self._log = None
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file, and then release the lock: the next run finds the file complete."""
        super().close()
        if self._lock is not None:
            close_database(self._lock)

    def claim(self, job_id: str) -> JobRecord | None:
        """Hold the file for this process, and return the record of a job.

        Raises:
            JournalError: Another process holds it, or the record cannot be read.
        """
        self._hold()
        return self.get(job_id)

    def erase(self, session_ids: Sequence[str], claims: Container[str]) -> int:
        """Delete the records of sessions.

        Raises:
            JournalError: Another process holds the file.
            JobClaimedError: One of the jobs is claimed.
        """
        self._hold()
        self._write_rows()
        jobs = dict.fromkeys(job_id for session_id in session_ids for job_id in self._find_jobs(session_id))
        for job_id in jobs:
            if job_id in claims:
                raise claimed_error(job_id)
        if jobs:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM job WHERE id = ?", [(job_id,) for job_id in jobs])
            self._db.executemany("UPDATE creation SET job = ? WHERE job = ?", [(token_hex(8), job) for job in jobs])
            self._db.execute("COMMIT")
            self._log = None
        return len(jobs)

    def _find_jobs(self, session_id: str) -> list[str]:
        """Return the jobs of a session. The search in bytes excludes nearly all records without decoding them."""
        query = "SELECT id, record FROM job WHERE instr(record, ?) OR substr(record, 1, 1) <> x'7b'"  # or is encrypted
        rows = self._db.execute(query, (dump(session_id),)).fetchall()
        return [job_id for job_id, record in rows if self._load(record, job_id).session_id == session_id]

    def _hold(self) -> None:
        """Hold the file for this process."""
        if self._lock is None:
            lock_path = self._path.with_name(f"{self._path.name}-run")
            self._lock = _lock(lock_path)
            self._guards.append(FileGuard(lock_path))
            self._log = None  # another process may have written since

    def put(self, row: _Row, before: int, after: int) -> None:
        """Insert or replace a record with the next commit: its job, its state, its JSON, and its creations."""
        self._rows[row[0]] = row
        if before != after:
            change = (row[0], before, after, time.time())
            self._changes.append(change)
            if self._log is not None:
                self._log.change(*change)

    def reserve(self, row: _Row, before: int, after: int, limits: SessionLimits) -> SessionUsage:
        """Put a record unless the limits forbid its creation."""
        usage = self.session_usage(limits)
        if usage.retry_after:
            return usage
        self.put(row, before, after)
        return evolve(self.session_usage(limits), retry_after=0.0)

    def session_usage(self, limits: SessionLimits) -> SessionUsage:
        """Return the usage, from memory if no other process may write."""
        now = time.time()
        if self._log is None or self._lock is None:
            self._write_rows()
            if self._lock is not None:  # times of a clock that was set back since: their hour begins now, once
                self._db.execute("UPDATE creation SET time = ? WHERE time > ?", (now, now))
            (total,) = self._db.execute("SELECT count(*) FROM creation").fetchone()
            recent = self._db.execute("SELECT * FROM creation WHERE time > ? ORDER BY time", (now - HOUR,)).fetchall()
            self._log = CreationLog(total - len(recent))
            for job_id, number, moment in recent:
                self._log.change(job_id, number, number + 1, moment)
        return self._log.usage(limits, now)

    def _write_rows(self) -> None:
        # One statement instead of one for each record: Python's lock is given back for each of them, and the event loop
        # does not return it soon.
        if self._changes:
            self._db.execute("BEGIN IMMEDIATE")
            for job_id, before, after, moment in self._changes:
                added = [(job_id, number, moment) for number in range(before, after)]
                self._db.executemany("INSERT OR IGNORE INTO creation VALUES (?, ?, ?)", added)
                self._db.execute("DELETE FROM creation WHERE job = ? AND number >= ?", (job_id, after))
        if self._rows:
            self._db.execute(
                f"INSERT INTO job (id, state, record) VALUES {', '.join(['(?, ?, ?)'] * len(self._rows))} "  # noqa: S608
                "ON CONFLICT (id) DO UPDATE SET state = excluded.state, record = excluded.record",
                [value for row in self._rows.values() for value in row],
            )
            self._rows.clear()
        if self._changes:
            self._db.execute("COMMIT")
            self._changes.clear()

    def get(self, job_id: str) -> JobRecord | None:
        """Return the record of a job.

        Raises:
            JournalError: It cannot be read.
        """
        row = self._rows.get(job_id)
        if row is not None:
            return self._load(row[2], job_id)
        found = self._db.execute("SELECT record FROM job WHERE id = ?", (job_id,)).fetchone()
        return None if found is None else self._load(found[0], job_id)

    def page(
        self, *, after: int, states: Sequence[JobState], unread: UnreadRecords
    ) -> list[tuple[int, JobRecord | None]]:
        """Return records with their numbers, from the one after a number on; ``None`` for those that are unread."""
        self._write_rows()
        marks = ", ".join("?" * len(states))
        rows = self._db.execute(
            f"SELECT number, id, record FROM job WHERE number > ? AND state IN ({marks}) ORDER BY number LIMIT ?",  # noqa: S608
            (after, *(state.value for state in states), _PAGE_SIZE),
        ).fetchall()  # all of them: a cursor that is not read to its end would keep its snapshot of the file
        return [(number, unread.load(partial(self._load, record, job_id))) for number, job_id, record in rows]

    def reencrypt(self, last: int) -> tuple[int, int | None]:
        """Write some records again that are not stored as they would be stored now.

        Args:
            last: The number of the last record of the part before.

        Returns:
            How many were written, and the last number, or ``None`` after the last part.

        Raises:
            JournalError: Another process holds the file, or a record cannot be decrypted.
        """
        self._hold()
        self._write_rows()
        query = "SELECT number, id, record FROM job WHERE number > ? ORDER BY number LIMIT ?"
        rows = self._db.execute(query, (last, _PAGE_SIZE)).fetchall()
        texts = [
            (self._codec.encode(self._codec.decode(record, "record", job_id), "record", job_id), number)
            for number, job_id, record in rows
            if isinstance(record, bytes) and not self._codec.is_current(record)
        ]
        if texts:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("UPDATE job SET record = ? WHERE number = ?", texts)
            self._db.execute("COMMIT")
        return len(texts), rows[-1][0] if rows else None

    def _load(self, text: object, job_id: str) -> JobRecord:
        # SQLite lets other programs put any kind of value into a column.
        try:
            return load_record(self._codec.decode(text, "record", job_id) if isinstance(text, bytes) else b"")
        except DecodeError:
            msg = "A record of the journal cannot be read: look for a newer veriff-async."
        raise JournalError(msg)

    def count_by_state(self) -> dict[JobState, int]:
        """Return how many jobs are in each state."""
        self._write_rows()
        rows = self._db.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall()
        return {JobState(state): count for state, count in rows}


def _lock(path: Path) -> sqlite3.Connection:
    """Hold a lock that ends with the process, however it ends: SQLite's own, on a file next to the journal."""
    lock = connect(path, timeout=0, owner="journal")
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        close_database(lock)
        # The lowest byte of an extended code is the primary one (https://sqlite.org/rescode.html).
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
    else:
        return lock
    msg = "Another run uses this journal: let it end, or give this one a journal of its own."
    raise JournalError(msg)
