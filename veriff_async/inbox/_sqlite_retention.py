"""Deletes what an inbox in SQLite need not keep, a few sessions in each transaction, and measures age.

A transaction that deletes many sessions lets all other records wait, in every process. So each commit deletes as many
as it adds and a few more, and an idle writer continues with larger portions. Sessions of which handlers wait for an
event have their own part of the index by age, so that a search for old sessions does not pass through them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from veriff_async._logging import log_fields
from veriff_async._protocol.inbox_clock import InboxClock
from veriff_async.inbox._sqlite_schema import split_keys, to_number

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from veriff_async.config import Retention

__all__ = ("IDLE_PORTION", "SessionRetention")

_LOG: Final = logging.getLogger("veriff_async.inbox")

# Sessions that a record deletes beyond those that it has added. The commit waits for the disk to write their pages:
# about 50 kilobytes for a session with five events.
_PORTION: Final = 4

IDLE_PORTION: Final = 20
"""Sessions that an idle writer deletes in one transaction; records come in between."""

# Events of one session that a record deletes at most: more than one, so that a session shrinks again after handlers
# have waited for many of its events.
_MOST_EVENTS: Final = 4

# Marks of erased sessions that a record deletes when they have expired: many can expire at the same moment.
_MOST_EXPIRED: Final = 500

_DAY: Final = 86_400.0

# Seconds by which the time must have advanced before it is written again.
_CLOCK_STEP: Final = 60.0


class SessionRetention:
    """Applies the limits of age and number; its methods run in the transactions of a store.

    Attributes:
        time: The time of the transaction.
        reference_time: The time against which ages are measured.
        is_stale: Whether the write-ahead log has deleted content.
        has_more: Whether the last `delete_old` has left something to delete.
        added: Sessions that the transaction has added.
    """

    def __init__(self, db: sqlite3.Connection, retention: Retention, now: Callable[[], float]) -> None:
        """Take the connection, the limits and the clock."""
        self._db = db
        self._retention = retention
        self._now = now
        self._next_count_at = 0
        self._excess = 0
        self._has_warned = False
        self._has_erased: bool | None = None
        self.time = self.reference_time = 0.0
        self.is_stale = False
        self.has_more = False
        self.added = 0

    def begin(self) -> None:
        """Set the times of a transaction that writes."""
        now, before = self._now(), self._load_clock()
        clock = InboxClock(now) if before is None else before.observe(now)
        self.reference_time = clock.reference(now)
        self.time = max(now, self.reference_time)
        self.added = 0
        self._has_erased = None
        # Not at every record: the row would be rewritten for each commit.
        if before is None or clock.suspect != before.suspect or abs(clock.trusted - before.trusted) >= _CLOCK_STEP:
            values = (clock.trusted, clock.suspect)
            self._db.execute("INSERT OR REPLACE INTO clock (id, trusted, suspect) VALUES (1, ?, ?)", values)
            query = "DELETE FROM erased WHERE key IN (SELECT key FROM erased WHERE until <= ? ORDER BY until LIMIT ?)"
            self._db.execute(query, (self.reference_time, _MOST_EXPIRED))
        if clock.suspect is not None and not self._has_warned:
            self._warn_of_clock(now - clock.trusted)

    def oldest_kept(self) -> float:
        """Return the time after which a session must have been touched to be visible to a reader."""
        now, clock = self._now(), self._load_clock()
        return (now if clock is None else clock.observe(now).reference(now)) - self._retention.max_age

    def is_expired(self, touched: float, queued: int) -> bool:
        """Return whether a session is too old, although no record has deleted it yet."""
        return not queued and touched <= self.reference_time - self._retention.max_age

    def has_erased(self) -> bool:
        """Return whether sessions were erased, so that the id of each new one must be looked for."""
        if self._has_erased is None:  # once in a transaction: most inboxes erase rarely
            self._has_erased = self._db.execute("SELECT 1 FROM erased LIMIT 1").fetchone() is not None
        return self._has_erased

    def refuse(self, keys: Iterable[bytes], seconds: float) -> None:
        """Store nothing about sessions for some time; `keys` are those of their ids."""
        if not seconds:
            return
        until = self.reference_time + seconds
        self._db.executemany(
            "INSERT INTO erased (key, until) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET until = max(until, excluded.until)",
            [(key, until) for key in keys],
        )
        self._has_erased = None

    def delete_old(self, most: int = _PORTION) -> None:
        """Delete some sessions beyond the limits, if there are any.

        Args:
            most: How many at most, besides as many as the transaction has added.
        """
        portion = most + self.added
        oldest = self.reference_time - self._retention.max_age
        deleted = self._delete_oldest("AND touched <= ?", (oldest,), portion)
        self.has_more = deleted == portion
        self._count_excess()
        if self._excess > 0 and not self.has_more:
            deleted = self._delete_oldest("", (), min(self._excess, portion))
            # Without a session to delete, handlers wait for all of them, or another process has deleted some.
            self._excess = self._excess - deleted if deleted else 0
            self.has_more = self._excess > 0

    def delete(self, sessions: Iterable[bytes]) -> int:
        """Delete sessions with everything about them, and return how many were stored."""
        found = 0
        for session in sessions:
            row = self._db.execute("SELECT keys FROM session WHERE id = ?", (session,)).fetchone()
            if row is None:
                continue
            found += 1
            for key in split_keys(row[0]):
                self._db.execute("DELETE FROM search WHERE key = ? AND session = ?", (key, session))
            numbers = self._db.execute("SELECT number FROM event WHERE session = ?", (session,)).fetchall()
            self._db.executemany("DELETE FROM delivery WHERE number = ?", numbers)
            self._db.execute("DELETE FROM event WHERE session = ?", (session,))
            self._db.execute("DELETE FROM submission WHERE session = ?", (session,))
            self._db.execute("DELETE FROM session WHERE id = ?", (session,))
        self.is_stale |= found > 0
        return found

    def delete_first_events(self, session: bytes, newest: int, *, events: int, queued: int) -> None:
        """Delete the first events of a session beyond the limit, but none that handlers wait for.

        Args:
            session: The session.
            newest: The number of its newest event, which stays.
            events: How many it has.
            queued: For how many of them handlers wait.
        """
        most = min(events - self._retention.max_events_per_session, events - queued, _MOST_EVENTS)
        if most <= 0:
            return
        pending = "SELECT 1 FROM delivery WHERE delivery.number = event.number AND stage <= 2"
        which = f"AND NOT EXISTS ({pending})" if queued else ""
        query = f"SELECT number FROM event WHERE session = ? AND number < ? {which} ORDER BY number LIMIT ?"  # noqa: S608  fixed texts
        numbers = self._db.execute(query, (session, newest, most)).fetchall()
        self._db.executemany("DELETE FROM event WHERE number = ?", numbers)
        self._db.executemany("DELETE FROM delivery WHERE number = ?", numbers)
        self._db.execute("UPDATE session SET events = events - ? WHERE id = ?", (len(numbers), session))
        self.is_stale |= bool(numbers)

    def _count_excess(self) -> None:
        last: int = self._db.execute("SELECT ifnull(max(rowid), 0) FROM session").fetchone()[0]
        if last < self._next_count_at:
            return
        # Row ids only grow, so their maximum bounds how many sessions were added since the last count.
        # Counting reads a whole index, so it is repeated only when so many may have been added that it matters.
        most = self._retention.max_sessions
        count: int = self._db.execute("SELECT count(*) FROM session").fetchone()[0]
        # One per cent more than needed, so that the next count is needed after as many further sessions.
        self._excess = count - most + most // 100 if count > most else 0
        self._next_count_at = last + max(1, most - (count - self._excess))

    def _delete_oldest(self, which: str, values: tuple[float, ...], most: int) -> int:
        query = f"SELECT id FROM session WHERE (queued > 0) = 0 {which} ORDER BY touched LIMIT ?"  # noqa: S608  fixed texts
        return self.delete([session for (session,) in self._db.execute(query, (*values, most))])

    def _warn_of_clock(self, ahead: float) -> None:
        """Warn once that the clock is suspect, unless no session is old enough to be affected."""
        oldest = self.reference_time + ahead - self._retention.max_age
        query = "SELECT 1 FROM session WHERE (queued > 0) = 0 AND touched <= ?"
        if ahead > 0 and not self._db.execute(query, (oldest,)).fetchone():
            return
        self._has_warned = True
        _LOG.warning(
            "The clock of this process is %.0f days %s the last record in the inbox: it deletes no session until it "
            "has advanced by a day; check the clock, unless nothing was recorded for so long.",
            abs(ahead) / _DAY,
            "after" if ahead > 0 else "before",
            extra=log_fields(days=ahead / _DAY),
        )

    def _load_clock(self) -> InboxClock | None:
        row = self._db.execute("SELECT trusted, suspect FROM clock").fetchone()
        trusted, suspect = row or (None, None)
        time = to_number(trusted)  # another program may have stored anything
        return None if time is None else InboxClock(time, to_number(suspect))
