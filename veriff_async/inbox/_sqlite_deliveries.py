"""The events of an inbox in SQLite that handlers wait for, as rows of the table ``delivery``.

A delivery is in one of these stages:

    0 ready     It is due, or its lease has ended. `lease` takes these in the order of queueing.
    1 waiting   It is leased, or delayed until its next attempt, until ``due``.
    2 blocked   An earlier event of its session is in stage 0, 1 or 2.
    3 handled
    4 dead

Each stage that is searched has a partial index (https://sqlite.org/partialindex.html), so no query reads the backlog:
`lease` first moves to stage 0 the deliveries of stage 1 whose time has come, and settling an event moves the next one
of its session from stage 2 to 0. Events without a session are never in stage 2.

A lease that has ended keeps its token until the next attempt, so the outcome of a slow handler still counts.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Final, TypeAlias

from veriff_async._protocol.delivery import load_names
from veriff_async.inbox._sqlite_schema import decode, to_number
from veriff_async.models.delivery import DeliveryRecord, DeliveryStatus

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from veriff_async.models.delivery import DeliveryOutcome

__all__ = ("DeliveryTable", "LeasedRow")

_READY: Final = 0
_WAITING: Final = 1
_BLOCKED: Final = 2
_HANDLED: Final = 3
_DEAD: Final = 4

# Deliveries that one `lease` moves to the ready ones: a transaction must not take long, although many can become due
# at the same moment.
_MOST_MOVED: Final = 1_000

# SQLite's integers have 64 bits, and another program may have stored the largest one.
_MOST_ATTEMPTS: Final = 2**62

# A leased delivery: its lease, attempt, handlers that have finished, the event's kind, body, time and reason, and the
# id of its session.
LeasedRow: TypeAlias = "tuple[str, int, str | None, object, object, float | None, str | None, bytes]"

_PENDING: Final = (DeliveryStatus.QUEUED, DeliveryStatus.LEASED)

_CONDITIONS: Final = {
    None: "",
    DeliveryStatus.QUEUED: "AND delivery.stage <= 2 AND delivery.lease IS NULL",
    DeliveryStatus.LEASED: "AND delivery.stage <= 2 AND delivery.lease IS NOT NULL",
    DeliveryStatus.HANDLED: "AND delivery.stage = 3",
    DeliveryStatus.DEAD: "AND delivery.stage = 4",
}


class DeliveryTable:
    """The deliveries, through the connection of a store; all methods run in its transactions."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Take the connection."""
        self._db = db

    def add(self, session: bytes, number: int, position: int, *, is_first: bool, now: float) -> None:
        """Queue an event that was never queued.

        Args:
            session: Its session.
            number: The number of the event.
            position: Its place in the order of queueing.
            is_first: Whether no other event of the session is queued or leased.
            now: The time.
        """
        stage = _READY if is_first or not session else _BLOCKED
        self._db.execute(
            "INSERT INTO delivery (number, session, position, stage, due, earliest) VALUES (?, ?, ?, ?, ?, ?)",
            (number, session, position, stage, now, now),
        )

    def contains(self, number: int) -> bool:
        """Return whether an event was queued before."""
        return self._db.execute("SELECT 1 FROM delivery WHERE number = ?", (number,)).fetchone() is not None

    def is_pending(self, number: int) -> bool:
        """Return whether an event is queued or leased."""
        query = "SELECT 1 FROM delivery WHERE number = ? AND stage <= 2"
        return self._db.execute(query, (number,)).fetchone() is not None

    def delete(self, number: int) -> None:
        """Delete the delivery of an event that is deleted."""
        self._db.execute("DELETE FROM delivery WHERE number = ?", (number,))

    def has_due(self, now: float) -> bool:
        """Return whether `lease` would find an event."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM delivery WHERE stage = 0)"
            " OR EXISTS (SELECT 1 FROM delivery WHERE stage = 1 AND due <= ?)"
            " OR EXISTS (SELECT 1 FROM delivery WHERE stage = 1 AND earliest > ?)"
        )
        return bool(self._db.execute(query, (now, now)).fetchone()[0])

    def lease(self, limit: int, seconds: float, now: float) -> list[LeasedRow]:
        """Begin attempts of events that are due."""
        most = max(limit, _MOST_MOVED)
        for condition in ("due <= ? ORDER BY due", "earliest > ?"):
            query = f"SELECT number FROM delivery WHERE stage = 1 AND {condition} LIMIT ?"  # noqa: S608  fixed texts
            due = self._db.execute(query, (now, most)).fetchall()
            self._db.executemany("UPDATE delivery SET stage = 0 WHERE number = ?", due)
        query = "SELECT number FROM delivery WHERE stage = 0 ORDER BY position LIMIT ?"
        numbers: list[int] = [number for (number,) in self._db.execute(query, (limit,))]
        return [row for number in numbers if (row := self._begin_attempt(number, seconds, now)) is not None]

    def extend(self, leases: Iterable[str], seconds: float, now: float) -> frozenset[str]:
        """Let leases end later, and return those that are held."""
        query = "UPDATE delivery SET stage = 1, due = ?, earliest = ? WHERE number = ? AND lease = ?"
        return frozenset(
            lease
            for lease in leases
            if self._db.execute(query, (now + seconds, now - seconds, _number_of(lease), lease)).rowcount
        )

    def settle(self, lease: str, outcome: DeliveryOutcome, now: float) -> bool:
        """Store the outcome of an attempt, and return whether its lease was held."""
        query = "SELECT number, session FROM delivery WHERE number = ? AND lease = ?"
        row = self._db.execute(query, (_number_of(lease), lease)).fetchone()
        if row is None:
            return False
        number: int = row[0]
        session: bytes = row[1]
        names = _dump_names(outcome.handled_by)
        if outcome.status is DeliveryStatus.LEASED:
            self._db.execute("UPDATE delivery SET handled_by = ? WHERE number = ?", (names, number))
            return True
        if outcome.status is DeliveryStatus.QUEUED:
            stage = _WAITING if outcome.delay > 0 else _READY
        else:
            stage = _HANDLED if outcome.status is DeliveryStatus.HANDLED else _DEAD
        self._db.execute(
            "UPDATE delivery SET stage = ?, due = ?, earliest = ?, attempts = attempts - ?, lease = NULL,"
            " handled_by = ?, error = ? WHERE number = ?",
            (stage, now + outcome.delay, now - outcome.delay, not outcome.counts, names, outcome.error, number),
        )
        if stage > _BLOCKED:
            self._db.execute("UPDATE session SET queued = queued - 1 WHERE id = ?", (session,))
            self._unblock_next(session)
        return True

    def requeue(self, session: bytes, number: int, position: int, now: float) -> bool:
        """Queue an event again, unless it is queued or leased; the session must be stored."""
        if self.is_pending(number):
            return False
        queued: int = self._db.execute("SELECT queued FROM session WHERE id = ?", (session,)).fetchone()[0]
        self.delete(number)
        self.add(session, number, position, is_first=not queued, now=now)
        self._db.execute("UPDATE session SET queued = queued + 1 WHERE id = ?", (session,))
        return True

    def records(
        self, session: bytes | None, status: DeliveryStatus | None, limit: int, *, oldest: float
    ) -> Iterator[DeliveryRecord]:
        """Yield how far the handlers are with events, the latest first.

        Args:
            session: Only those of this session.
            status: Only those in this status.
            limit: How many at most.
            oldest: The time after which a session must have been touched, unless handlers wait for its events.
        """
        columns = (
            "event.session, event.key, event.kind, ifnull(event.recorded, session.touched), delivery.stage,"
            " delivery.due, delivery.attempts, delivery.lease, delivery.handled_by, delivery.error"
        )
        # CROSS JOIN keeps the order of the tables (https://sqlite.org/optoverview.html#crossjoin): deliveries of one
        # status are few, while every event may have a delivery.
        if status is None or session is not None:
            tables = "event CROSS JOIN session ON session.id = event.session LEFT JOIN delivery USING (number)"
        else:
            tables = "delivery CROSS JOIN event USING (number) CROSS JOIN session ON session.id = event.session"
        which = "" if session is None else "AND event.session = ?"
        query = (
            f"SELECT {columns} FROM {tables} WHERE (session.touched > ? OR session.queued > 0)"  # noqa: S608  fixed texts
            f" {which} {_CONDITIONS[status]} ORDER BY number DESC LIMIT ?"
        )
        values = (oldest, *(() if session is None else (session,)), limit)
        rows = self._db.execute(query, values).fetchall()
        for owner, key, kind, recorded, stage, due, attempts, lease, names, error in rows:
            status = _status_of(stage, lease)
            yield DeliveryRecord(
                session_id=decode(owner) or None,
                dedup_key=decode(key),
                kind=kind if isinstance(kind, str) else "unknown",
                status=status,
                attempts=_to_count(attempts),
                recorded_at=to_number(recorded) or 0.0,
                due_at=to_number(due) if status in _PENDING else None,
                error=None if error is None else decode(error),
                handled_by=load_names(names),
            )

    def count(self) -> tuple[int, int, int]:
        """Return how many deliveries are queued, leased and dead."""
        query = "SELECT count(*), count(lease) FROM delivery WHERE stage <= 2"
        pending, leased = self._db.execute(query).fetchone()
        dead: int = self._db.execute("SELECT count(*) FROM delivery WHERE stage = 4").fetchone()[0]
        return pending - leased, leased, dead

    def _begin_attempt(self, number: int, seconds: float, now: float) -> LeasedRow | None:
        query = (
            "SELECT attempts, handled_by, kind, body, recorded, ignored, event.session"
            " FROM delivery JOIN event USING (number) WHERE number = ?"
        )
        row = self._db.execute(query, (number,)).fetchone()
        if row is None:  # another program has deleted the event
            (session,) = self._db.execute("SELECT session FROM delivery WHERE number = ?", (number,)).fetchone()
            self.delete(number)
            self._db.execute("UPDATE session SET queued = max(0, queued - 1) WHERE id = ?", (session,))
            self._unblock_next(session)
            return None
        lease = f"{number}-{secrets.token_hex(8)}"
        attempt = _to_count(row[0]) + 1
        self._db.execute(
            "UPDATE delivery SET stage = 1, due = ?, earliest = ?, attempts = ?, lease = ? WHERE number = ?",
            (now + seconds, now - seconds, attempt, lease, number),
        )
        return (lease, attempt, *row[1:])

    def _unblock_next(self, session: bytes) -> None:
        """Make the next event of a session the first one."""
        if not session:
            return
        query = "SELECT number FROM delivery WHERE session = ? AND stage <= 2 ORDER BY position LIMIT 1"
        row = self._db.execute(query, (session,)).fetchone()
        if row is not None:
            self._db.execute("UPDATE delivery SET stage = 0 WHERE number = ? AND stage = 2", row)


def _dump_names(names: frozenset[str]) -> str | None:
    return json.dumps(sorted(names)) if names else None


def _number_of(lease: str) -> int:
    """Return the number of the event that a lease belongs to, or 0, which no event has."""
    digits = lease.partition("-")[0]
    # SQLite's integers have 64 bits.
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else 0  # noqa: PLR2004


def _to_count(attempts: object) -> int:
    """Return a number of attempts; another program may have stored anything."""
    return min(attempts, _MOST_ATTEMPTS) if isinstance(attempts, int) else 0


def _status_of(stage: object, lease: object) -> DeliveryStatus | None:
    if stage is None:
        return None
    if isinstance(stage, int) and stage <= _BLOCKED:
        return DeliveryStatus.QUEUED if lease is None else DeliveryStatus.LEASED
    return DeliveryStatus.HANDLED if stage == _HANDLED else DeliveryStatus.DEAD
