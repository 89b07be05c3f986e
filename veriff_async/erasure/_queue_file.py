"""The rows of a queue of erasures, in a SQLite file.

An erasure is a row, with a row for each of its sessions and stores. The id of a session is kept until the erasure is
complete, and then replaced by nothing: its digest stays for the receipt. Deletions that were sent to Veriff are rows
too, so that all processes which share the file keep to one quota.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._storage.sqlite_file import Database, Schema
from veriff_async._storage.sqlite_worker import StoreErrors
from veriff_async.erasure._quota import DAY, HOUR, next_deletion_at
from veriff_async.erasure._receipt import ErasureReceipt, VeriffErasure, session_digest, to_datetime
from veriff_async.errors import ErasureError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ("CHANGE", "ERRORS", "SCHEMA", "QueueFile", "QueuedDeletion", "QueuedErasure")

_BUSY_TIMEOUT: Final = 10.0

# Seconds after which another process may send the deletion of a process that died.
_LEASE: Final = 300.0

# No deletion is delayed for longer. A later time is by a clock that was set back since.
_LONGEST_DELAY: Final = HOUR

# Changes something each time, and nothing that counts: numbers of erasures need only grow.
CHANGE: Final = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'erasure'"

_APPLICATION_ID: Final = 0x56664551
_VERSION: Final = 1
SCHEMA: Final = Schema(
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
CREATE INDEX IF NOT EXISTS erasure_open ON erasure (number) WHERE completed IS NULL;
CREATE TABLE IF NOT EXISTS store (
    erasure TEXT NOT NULL,
    name TEXT NOT NULL,
    erased INTEGER NOT NULL,
    done INTEGER NOT NULL, -- 1 if it was visited before Veriff, 2 if it was visited after Veriff
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

ERRORS: Final = StoreErrors(
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
        stores: The stores that it must visit: 1 for those it has visited, 2 for those it has visited after Veriff.
    """

    erasure_id: str
    session_ids: tuple[str, ...]
    stores: Mapping[str, int]


@frozen(kw_only=True)
class QueuedDeletion:
    """The deletion of a session at Veriff, which the quota permits now.

    Attributes:
        erasure_id: The erasure.
        session_id: The session.
    """

    erasure_id: str
    session_id: str


class QueueFile(Database):
    """The rows of a queue."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, timeout=_BUSY_TIMEOUT)

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

    def open_ids(self) -> list[str]:
        """Return the ids of the erasures that are not complete, the oldest first."""
        rows = self._db.execute("SELECT id FROM erasure WHERE completed IS NULL ORDER BY number").fetchall()
        return [erasure_id for (erasure_id,) in rows]

    def erasures_to_visit(self, *, again: bool) -> list[QueuedErasure]:
        """Return the erasures with a store to visit, the oldest first; those that only wait for Veriff cost no time.

        Args:
            again: Whether to return those that Veriff has done, rather than those with a store not visited yet.
        """
        condition = (
            "NOT EXISTS (SELECT 1 FROM session WHERE erasure = erasure.id AND veriff = 'waiting')"
            if again
            else "EXISTS (SELECT 1 FROM store WHERE erasure = erasure.id AND done = 0)"
        )
        rows = self._db.execute(
            f"SELECT id FROM erasure WHERE completed IS NULL AND {condition} ORDER BY number"  # noqa: S608  one of two
        ).fetchall()
        erasures: list[QueuedErasure] = []
        for (erasure_id,) in rows:
            ids = self._db.execute("SELECT id FROM session WHERE erasure = ? AND id NOT NULL", (erasure_id,)).fetchall()
            stores = self._db.execute("SELECT name, done FROM store WHERE erasure = ?", (erasure_id,)).fetchall()
            erasures.append(
                QueuedErasure(
                    erasure_id=erasure_id,
                    session_ids=tuple(session_id for (session_id,) in ids),
                    stores=dict(stores),
                )
            )
        return erasures

    def waiting_deletions(self, integration: str, erasure_id: str | None) -> list[QueuedDeletion]:
        """Return the deletions of an integration that wait, or those of one erasure."""
        rows = self._db.execute(
            "SELECT erasure, session.id FROM session JOIN erasure ON erasure.id = session.erasure "
            "WHERE veriff = 'waiting' AND integration = ? AND ? IN (erasure, '')",
            (integration, erasure_id or ""),
        ).fetchall()
        return [QueuedDeletion(erasure_id=erasure, session_id=session_id) for erasure, session_id in rows]

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
        start = None if due is None else min(due, now + _LONGEST_DELAY)
        next_attempt = None if start is None else max(start, self._next_deletion_at(integration, now))
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

    def save_store(self, erasure_id: str, name: str, erased: int, *, again: bool) -> None:
        """Store that a store was visited."""
        self._db.execute(
            "UPDATE store SET erased = erased + ?, done = max(done, ?) WHERE erasure = ? AND name = ?",
            (erased, 2 if again else 1, erasure_id, name),
        )
        self.save_problem(erasure_id, name, None)

    def save_problem(self, erasure_id: str, name: str, text: str | None) -> None:
        """Store or delete a problem."""
        if text is None:
            self._db.execute("DELETE FROM problem WHERE erasure = ? AND name = ?", (erasure_id, name))
        else:
            # Another process may have completed it.
            self._db.execute(
                "INSERT OR REPLACE INTO problem SELECT id, ?, ? FROM erasure WHERE id = ? AND completed IS NULL",
                (name, text, erasure_id),
            )

    def reserve_deletion(self, integration: str, now: float) -> QueuedDeletion | float | None:
        """Take the next deletion, if the quota permits it."""
        self._correct_times(integration, now)
        row = self._db.execute(
            "SELECT erasure, digest, session.id, due FROM session JOIN erasure ON erasure.id = session.erasure "
            "WHERE veriff = 'waiting' AND integration = ? ORDER BY due, number LIMIT 1",
            (integration,),
        ).fetchone()
        if row is None:
            return None
        erasure_id, digest, session_id, due = row
        start = max(due, self._next_deletion_at(integration, now))
        if start > now:
            return float(start)
        self._db.execute("DELETE FROM deletion WHERE integration = ? AND time < ?", (integration, now - DAY))
        self._db.execute("INSERT INTO deletion VALUES (?, ?)", (integration, now))
        # Another process may send it when this one has died.
        lease = (now + _LEASE, erasure_id, digest)
        self._db.execute("UPDATE session SET due = ? WHERE erasure = ? AND digest = ?", lease)
        return QueuedDeletion(erasure_id=erasure_id, session_id=session_id)

    def _correct_times(self, integration: str, now: float) -> None:
        """Replace times by a clock that was set back since, or nothing would be sent until they come."""
        latest = now + _LONGEST_DELAY
        self._db.execute("UPDATE session SET due = ? WHERE veriff = 'waiting' AND due > ?", (latest, latest))
        self._db.execute(
            "UPDATE pause SET until = ? WHERE integration = ? AND until > ?", (latest, integration, latest)
        )
        self._db.execute("UPDATE deletion SET time = ? WHERE integration = ? AND time > ?", (now, integration, now))

    def _next_deletion_at(self, integration: str, now: float) -> float:
        rows = self._db.execute("SELECT time FROM deletion WHERE integration = ?", (integration,)).fetchall()
        pause = self._db.execute("SELECT until FROM pause WHERE integration = ?", (integration,)).fetchone()
        until = 0.0 if pause is None else min(pause[0], now + _LONGEST_DELAY)
        return max(until, next_deletion_at([sent for (sent,) in rows], now))

    def save_deletion(self, deletion: QueuedDeletion, state: VeriffErasure, due: float, pause: float | None) -> None:
        """Store the outcome of a deletion."""
        values = (state.value, due, deletion.erasure_id, session_digest(deletion.session_id))
        # Another process may have sent it too, because this one took long, and have completed the erasure.
        self._db.execute(
            "UPDATE session SET veriff = ?, due = ? WHERE erasure = ? AND digest = ? AND veriff = 'waiting'", values
        )
        if pause is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO pause SELECT integration, ? FROM erasure WHERE id = ?",
                (pause, deletion.erasure_id),
            )

    def complete(self, erasure_id: str, now: float) -> bool:
        """Complete an erasure, unless a step is left."""
        left = self._db.execute(
            "SELECT (SELECT count(*) FROM session WHERE erasure = ? AND veriff = 'waiting')"
            " + (SELECT count(*) FROM store WHERE erasure = ? AND done < 2)",
            (erasure_id, erasure_id),
        ).fetchone()[0]
        if left:
            return False
        self._db.execute("UPDATE erasure SET completed = ? WHERE id = ? AND completed IS NULL", (now, erasure_id))
        self._db.execute("UPDATE session SET id = NULL WHERE erasure = ?", (erasure_id,))
        self._db.execute("DELETE FROM problem WHERE erasure = ?", (erasure_id,))
        return True
