"""The queue of erasures: a SQLite file, from which an erasure continues after a crash, and over days.

An erasure is a row, with a row for each of its sessions and stores. The id of a session is kept until the erasure is
complete, and then replaced by nothing: its digest stays for the receipt. Deletions that were sent to Veriff are rows
too, so that all processes which share the file keep to one quota.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Final, Self

from attrs import frozen

from veriff_async._storage.sqlite_file import Database, Schema, database_path
from veriff_async._storage.sqlite_scrub import remove_remains
from veriff_async._storage.sqlite_worker import StoreErrors, WorkerGroup
from veriff_async.config import check_clock
from veriff_async.erasure._quota import DAY, next_deletion_at
from veriff_async.erasure._receipt import ErasureReceipt, VeriffErasure, session_digest, to_datetime
from veriff_async.errors import ErasureError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ("ErasureQueue", "QueuedDeletion", "QueuedErasure")

_BUSY_TIMEOUT: Final = 10.0

# Seconds after which another process may send the deletion of a process that died.
_LEASE: Final = 300.0

# Changes something each time, and nothing that counts: numbers of erasures need only grow.
_CHANGE: Final = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'erasure'"

_APPLICATION_ID: Final = 0x56664551
_VERSION: Final = 1
_SCHEMA: Final = Schema(
    owner="erasure queue",
    application_id=_APPLICATION_ID,
    version=_VERSION,
    script="""
CREATE TABLE IF NOT EXISTS erasure (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which they were started
    id TEXT NOT NULL UNIQUE,
    integration TEXT NOT NULL, -- digest of the API key; empty without a client
    requested REAL NOT NULL,
    completed REAL
);
CREATE TABLE IF NOT EXISTS session (
    erasure TEXT NOT NULL,
    digest TEXT NOT NULL,
    id TEXT, -- until the erasure is complete
    veriff TEXT NOT NULL,
    due REAL NOT NULL,
    PRIMARY KEY (erasure, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS session_waiting ON session (due) WHERE veriff = 'waiting';
CREATE TABLE IF NOT EXISTS store (
    erasure TEXT NOT NULL,
    name TEXT NOT NULL,
    erased INTEGER NOT NULL,
    done INTEGER NOT NULL,
    PRIMARY KEY (erasure, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS problem (
    erasure TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (erasure, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deletion (integration TEXT NOT NULL, time REAL NOT NULL);
CREATE INDEX IF NOT EXISTS deletion_time ON deletion (integration, time);
CREATE TABLE IF NOT EXISTS pause (integration TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
""",
)

_ERRORS: Final = StoreErrors(
    owner="erasure queue",
    error=ErasureError,
    reopen="open it again with `async with`",
    after_loss="put it back, and resume the erasures",
    after_failure="try again, a new thread is started",
    log=logging.getLogger("veriff_async.erasure"),
)


@frozen(kw_only=True)
class QueuedErasure:
    """An erasure that is not complete.

    Attributes:
        erasure_id: The erasure.
        session_ids: Its sessions.
        stores: The stores that it must visit, with those it has visited.
    """

    erasure_id: str
    session_ids: tuple[str, ...]
    stores: Mapping[str, bool]


@frozen(kw_only=True)
class QueuedDeletion:
    """The deletion of a session at Veriff, which the quota permits now.

    Attributes:
        erasure_id: The erasure.
        session_id: The session.
    """

    erasure_id: str
    session_id: str


class ErasureQueue:
    """Keep erasures and their receipts in a file that all processes of this machine may share.

    Use one file for all erasures of an integration, so that they share Veriff's quota. The file holds ids of sessions
    until their erasure is complete, and is readable for its owner only. It must be on a disk of this machine.

    Args:
        path: The file. It is created if it is missing, its folder is not.
        now: The time in seconds since 1970, for tests in which days pass.

    Raises:
        ConfigurationError: The path names no file. The first use raises it for another program's file.

    Example:
        >>> async with ErasureQueue("erasures.db") as queue:
        ...     for receipt in await queue.get_receipts():
        ...         print(receipt.erasure_id, receipt.is_complete)
    """

    def __init__(self, path: str | os.PathLike[str], *, now: Callable[[], float] = time.time) -> None:
        """Check the arguments; nothing is opened yet."""
        file = database_path(path, owner="erasure queue", memory="no queue")
        self.now = check_clock(now)
        self._group = WorkerGroup(file, {"erasure queue": _QueueFile}, _ERRORS, reopens=True)

    def __repr__(self) -> str:
        """Show whether it is open."""
        return f"<ErasureQueue {'open' if self._group.is_open else 'not open'}>"

    def __del__(self) -> None:
        """Warn if it was left open, and end its thread."""
        if hasattr(self, "_group"):
            self._group.warn_if_open(self)

    async def __aenter__(self) -> Self:
        """Open the file, also after it was closed.

        Raises:
            ConfigurationError: It is another program's file, or of a newer version.
            ErasureError: It cannot be opened.
        """
        await self._group.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, unless another ``async with`` block uses this queue."""
        await self._group.leave()

    async def aclose(self) -> None:
        """Finish what was begun, and close the file; a second call does nothing."""
        await self._group.aclose()

    async def add(self, session_ids: Collection[str], stores: Collection[str], *, integration: str) -> str:
        """Store an erasure before its first step, and return its id."""
        erasure_id, ids, names, now = token_hex(8), tuple(session_ids), tuple(stores), self.now()
        await self._group.run(
            lambda file: file.insert(erasure_id, ids, names, integration=integration, now=now), writes=True
        )
        return erasure_id

    async def get_open(self) -> Sequence[QueuedErasure]:
        """Return the erasures that are not complete, the oldest first."""
        return await self._group.run(lambda file: file.open_erasures())

    async def get_receipt(self, erasure_id: str) -> ErasureReceipt:
        """Return the receipt of an erasure.

        Raises:
            ErasureError: The queue has no such erasure, or cannot be read.
        """
        receipts = await self._read_receipts(erasure_id)
        if not receipts:
            msg = "The queue has no erasure with this id: take it from a receipt of the same queue."
            raise ErasureError(msg)
        return receipts[0]

    async def get_receipts(self) -> Sequence[ErasureReceipt]:
        """Return the receipts of all erasures, the oldest first."""
        return await self._read_receipts(None)

    async def _read_receipts(self, erasure_id: str | None) -> Sequence[ErasureReceipt]:
        now = self.now()
        return await self._group.run(lambda file: file.receipts(erasure_id, now))

    async def save_store(self, erasure_id: str, name: str, erased: int) -> None:
        """Store that a store was visited, and how many items it has erased this time."""
        await self._group.run(lambda file: file.save_store(erasure_id, name, erased), writes=True)

    async def save_problem(self, erasure_id: str, name: str, text: str | None) -> None:
        """Store why a step is left, or that it is not."""
        await self._group.run(lambda file: file.save_problem(erasure_id, name, text), writes=True)

    async def reserve_deletion(self, integration: str) -> QueuedDeletion | float | None:
        """Take the next deletion that the quota permits, and count it.

        Returns:
            The deletion; or when one may be sent, in seconds since 1970; or ``None`` if none is left.
        """
        now = self.now()
        return await self._group.run(lambda file: file.reserve_deletion(integration, now), writes=True)

    async def save_deletion(
        self, deletion: QueuedDeletion, state: VeriffErasure, *, delay: float = 0.0, pause: float = 0.0
    ) -> None:
        """Store the outcome of a deletion.

        Args:
            deletion: The deletion.
            state: Its state.
            delay: Seconds until it may be sent again, if it waits.
            pause: Seconds in which no deletion of the integration may be sent.
        """
        now = self.now()

        def save(file: _QueueFile) -> None:
            file.save_deletion(deletion, state, now + delay, now + pause if pause else None)

        await self._group.run(save, writes=True)

    async def complete(self, erasure_id: str) -> bool:
        """Complete an erasure and delete the ids of its sessions, if every step has ended; return whether it has."""
        now = self.now()
        is_complete = await self._group.run(lambda file: file.complete(erasure_id, now), writes=True)
        if is_complete:
            await self._group.run_in_thread(partial(remove_remains, change=_CHANGE, owner=_SCHEMA.owner))
        return is_complete


class _QueueFile(Database):
    """The rows of a queue."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA, timeout=_BUSY_TIMEOUT)

    def insert(
        self, erasure_id: str, session_ids: Sequence[str], stores: Sequence[str], *, integration: str, now: float
    ) -> None:
        """Insert an erasure with its steps."""
        state = VeriffErasure.WAITING if integration else VeriffErasure.SKIPPED
        self._db.execute(
            "INSERT INTO erasure (id, integration, requested) VALUES (?, ?, ?)", (erasure_id, integration, now)
        )
        sessions = [(erasure_id, session_digest(session), session, state.value, now) for session in session_ids]
        self._db.executemany("INSERT OR IGNORE INTO session VALUES (?, ?, ?, ?, ?)", sessions)
        self._db.executemany("INSERT INTO store VALUES (?, ?, 0, 0)", [(erasure_id, name) for name in stores])

    def open_erasures(self) -> list[QueuedErasure]:
        """Return the erasures that are not complete."""
        rows = self._db.execute("SELECT id FROM erasure WHERE completed IS NULL ORDER BY number").fetchall()
        erasures: list[QueuedErasure] = []
        for (erasure_id,) in rows:
            ids = self._db.execute("SELECT id FROM session WHERE erasure = ? AND id NOT NULL", (erasure_id,)).fetchall()
            stores = self._db.execute("SELECT name, done FROM store WHERE erasure = ?", (erasure_id,)).fetchall()
            erasures.append(
                QueuedErasure(
                    erasure_id=erasure_id,
                    session_ids=tuple(session_id for (session_id,) in ids),
                    stores={name: bool(done) for name, done in stores},
                )
            )
        return erasures

    def receipts(self, erasure_id: str | None, now: float) -> list[ErasureReceipt]:
        """Return the receipts of one erasure, or of all."""
        rows = self._db.execute(
            "SELECT id, integration, requested, completed FROM erasure WHERE ? IN (id, '') ORDER BY number",
            (erasure_id or "",),
        ).fetchall()
        return [self._receipt(row, now) for row in rows]

    def _receipt(self, row: tuple[str, str, float, float | None], now: float) -> ErasureReceipt:
        erasure_id, integration, requested, completed = row
        db, one = self._db, (erasure_id,)
        digests = db.execute("SELECT digest FROM session WHERE erasure = ? ORDER BY digest", one).fetchall()
        veriff = db.execute("SELECT veriff, count(*) FROM session WHERE erasure = ? GROUP BY veriff", one).fetchall()
        (due,) = db.execute("SELECT min(due) FROM session WHERE erasure = ? AND veriff = 'waiting'", one).fetchone()
        next_attempt = None if due is None else max(due, self._next_deletion_at(integration, now))
        return ErasureReceipt(
            erasure_id=erasure_id,
            requested_at=to_datetime(requested),
            completed_at=None if completed is None else to_datetime(completed),
            sessions=tuple(digest for (digest,) in digests),
            veriff={VeriffErasure(state): count for state, count in veriff},
            erased=dict(db.execute("SELECT name, erased FROM store WHERE erasure = ? ORDER BY name", one).fetchall()),
            problems=dict(db.execute("SELECT name, text FROM problem WHERE erasure = ? ORDER BY name", one).fetchall()),
            next_attempt_at=None if next_attempt is None else to_datetime(next_attempt),
        )

    def save_store(self, erasure_id: str, name: str, erased: int) -> None:
        """Store that a store was visited."""
        self._db.execute(
            "UPDATE store SET erased = erased + ?, done = 1 WHERE erasure = ? AND name = ?", (erased, erasure_id, name)
        )
        self.save_problem(erasure_id, name, None)

    def save_problem(self, erasure_id: str, name: str, text: str | None) -> None:
        """Store or delete a problem."""
        if text is None:
            self._db.execute("DELETE FROM problem WHERE erasure = ? AND name = ?", (erasure_id, name))
        else:
            self._db.execute("INSERT OR REPLACE INTO problem VALUES (?, ?, ?)", (erasure_id, name, text))

    def reserve_deletion(self, integration: str, now: float) -> QueuedDeletion | float | None:
        """Take the next deletion, if the quota permits it."""
        row = self._db.execute(
            "SELECT erasure, digest, session.id, due FROM session JOIN erasure ON erasure.id = session.erasure "
            "WHERE veriff = 'waiting' AND integration = ? ORDER BY due, number LIMIT 1",
            (integration,),
        ).fetchone()
        if row is None:
            return None
        erasure_id, digest, session_id, due = row
        start = max(min(due, now + DAY), self._next_deletion_at(integration, now))  # a clock may have been set back
        if start > now:
            return float(start)
        self._db.execute("DELETE FROM deletion WHERE integration = ? AND time < ?", (integration, now - DAY))
        self._db.execute("INSERT INTO deletion VALUES (?, ?)", (integration, now))
        # Another process may send it when this one has died.
        lease = (now + _LEASE, erasure_id, digest)
        self._db.execute("UPDATE session SET due = ? WHERE erasure = ? AND digest = ?", lease)
        return QueuedDeletion(erasure_id=erasure_id, session_id=session_id)

    def _next_deletion_at(self, integration: str, now: float) -> float:
        rows = self._db.execute("SELECT time FROM deletion WHERE integration = ?", (integration,)).fetchall()
        pause = self._db.execute("SELECT until FROM pause WHERE integration = ?", (integration,)).fetchone()
        until = 0.0 if pause is None else min(pause[0], now + DAY)
        return max(until, next_deletion_at([sent for (sent,) in rows], now))

    def save_deletion(self, deletion: QueuedDeletion, state: VeriffErasure, due: float, pause: float | None) -> None:
        """Store the outcome of a deletion."""
        values = (state.value, due, deletion.erasure_id, session_digest(deletion.session_id))
        self._db.execute("UPDATE session SET veriff = ?, due = ? WHERE erasure = ? AND digest = ?", values)
        if pause is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO pause SELECT integration, ? FROM erasure WHERE id = ?",
                (pause, deletion.erasure_id),
            )

    def complete(self, erasure_id: str, now: float) -> bool:
        """Complete an erasure, unless a step is left."""
        left = self._db.execute(
            "SELECT (SELECT count(*) FROM session WHERE erasure = ?1 AND veriff = 'waiting')"
            " + (SELECT count(*) FROM store WHERE erasure = ?1 AND NOT done)",
            (erasure_id,),
        ).fetchone()[0]
        if left:
            return False
        self._db.execute("UPDATE erasure SET completed = ? WHERE id = ? AND completed IS NULL", (now, erasure_id))
        self._db.execute("UPDATE session SET id = NULL WHERE erasure = ?", (erasure_id,))
        self._db.execute("DELETE FROM problem WHERE erasure = ?", (erasure_id,))
        return True
