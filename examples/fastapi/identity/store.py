"""The verification of each browser, in an SQLite file that all workers share.

In your application, these are columns of the table of users.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from secrets import token_hex

from anyio import to_thread

_CLAIM_SECONDS = 60.0
"""Time after which another request may create the session: a worker that was killed does not finish its creation."""

_KEEP_SECONDS = 30 * 24 * 3600.0

_TABLE = """
CREATE TABLE IF NOT EXISTS verifications (
    browser_id TEXT PRIMARY KEY,
    claim TEXT NOT NULL,
    claimed_at REAL NOT NULL,
    session_id TEXT,
    sent TEXT NOT NULL DEFAULT '',
    is_submitted INTEGER NOT NULL DEFAULT FALSE
)
"""


@dataclass(frozen=True)
class Record:
    """The stored state of a verification.

    Attributes:
        session_id: The session at Veriff, if there is one.
        sent: The pictures that Veriff has received and that are not submitted yet.
        is_submitted: Whether pictures were submitted at least once.
    """

    session_id: str | None = None
    sent: frozenset[str] = frozenset()
    is_submitted: bool = False


class Store:
    """Reads and changes the records.

    Each change is one statement, so requests that run at the same time, in any worker, lose no change of each other.
    """

    def __init__(self, path: str) -> None:
        """Open nothing yet."""
        self._path = path

    async def prepare(self) -> None:
        """Create the table, and delete old records."""
        await self._execute("PRAGMA journal_mode = WAL")  # readers do not wait for writers
        await self._execute(_TABLE)
        await self._execute("DELETE FROM verifications WHERE claimed_at < ?", time.time() - _KEEP_SECONDS)

    async def find(self, browser_id: str) -> Record:
        """Return the record of a browser, an empty one for an unknown browser."""
        return await to_thread.run_sync(self._find, browser_id)

    async def claim(self, browser_id: str) -> str | None:
        """Return a claim if the caller is to create the session.

        Returns:
            None if there is a session, or if another request is creating it.
        """
        claim, now = token_hex(), time.time()
        is_claimed = await self._execute(
            "INSERT INTO verifications (browser_id, claim, claimed_at) VALUES (?, ?, ?) "
            "ON CONFLICT (browser_id) DO UPDATE SET claim = excluded.claim, claimed_at = excluded.claimed_at "
            "WHERE session_id IS NULL AND claimed_at < ?",
            *(browser_id, claim, now, now - _CLAIM_SECONDS),
        )
        return claim if is_claimed else None

    async def begin(self, claim: str, session_id: str) -> None:
        """Store the session that was created with a claim."""
        await self._execute("UPDATE verifications SET session_id = ? WHERE claim = ?", session_id, claim)

    async def release(self, claim: str) -> None:
        """Let another request create the session, because the creation has failed."""
        await self._execute("DELETE FROM verifications WHERE claim = ? AND session_id IS NULL", claim)

    async def add_sent(self, session_id: str, context: str) -> None:
        """Store that Veriff has received a picture."""
        await self._execute(
            "UPDATE verifications SET sent = sent || ' ' || ? WHERE session_id = ? AND instr(sent, ?) = 0",
            *(context, session_id, context),
        )

    async def set_submitted(self, session_id: str) -> None:
        """Store that the pictures were submitted."""
        await self._execute("UPDATE verifications SET is_submitted = TRUE, sent = '' WHERE session_id = ?", session_id)

    async def forget(self, session_id: str) -> None:
        """Delete a record, so that the browser can begin again."""
        await self._execute("DELETE FROM verifications WHERE session_id = ?", session_id)

    async def _execute(self, statement: str, *values: object) -> bool:
        return await to_thread.run_sync(self._change, statement, values)

    def _change(self, statement: str, values: tuple[object, ...]) -> bool:
        with self._connect() as file, file:  # the inner block is a transaction
            return file.execute(statement, values).rowcount > 0

    def _find(self, browser_id: str) -> Record:
        with self._connect() as file:
            row = file.execute(
                "SELECT session_id, sent, is_submitted FROM verifications WHERE browser_id = ?", (browser_id,)
            ).fetchone()
        return Record() if row is None else Record(row[0], frozenset(row[1].split()), bool(row[2]))

    def _connect(self) -> closing[sqlite3.Connection]:
        # A connection takes less than a millisecond, and none is left open in a worker that is forked or stopped.
        return closing(sqlite3.connect(self._path))
