"""The events of `MemoryInbox` that wait for handlers.

Each session has a queue, and only its first event can be leased: so events of one session are handled in their order.
Events without a session are all first. The first events are in one of two heaps: those that are due, by their position,
and the others, by the time at which they become due. An entry of a heap that was replaced stays there, and is skipped
when it comes up, because its ticket is not the ticket of its event.
"""

from __future__ import annotations

import secrets
from collections import deque
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import define, field

from veriff_async._protocol.delivery_schedule import is_due
from veriff_async.models.delivery import DeliveryStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.models.delivery import DeliveryOutcome

__all__ = ("MemoryQueue", "QueuedEvent", "SessionQueue", "StoredAttempt")

# An attempt: its number, the handlers that have finished, and its lease.
StoredAttempt: TypeAlias = tuple[int, frozenset[str], str]

# An event that is handled or dead: status, attempts, the handlers that have finished, and why the last attempt failed.
# Only plain values: the garbage collector stops visiting such a tuple.
StoredOutcome: TypeAlias = tuple[str, int, tuple[str, ...], str | None]

# Entries in the heap of waiting events above which those that were replaced are deleted.
_MAX_REPLACED: Final = 1_000


@define(eq=False)
class QueuedEvent:
    """An event that waits for handlers, or is handled.

    Attributes:
        session: The queue of its session.
        key: The key by which the session stores it.
        position: Its place in the order of queueing.
        attempts: The attempts that counted.
        due_at: When it is due, or its lease ends.
        span: The delay or the lease from which `due_at` was computed.
        lease: The token of the present attempt.
        handled_by: The handlers that have finished.
        error: Why the last attempt failed.
        ticket: The number of its entry in a heap.
        waits_until: The time by which its entry in the heap of waiting events is sorted, if it is there.
    """

    session: SessionQueue
    key: object
    position: int
    due_at: float
    attempts: int = 0
    span: float = 0.0
    lease: str | None = None
    handled_by: frozenset[str] = frozenset()
    error: str | None = None
    ticket: int = 0
    waits_until: float | None = None

    @property
    def status(self) -> DeliveryStatus:
        """How far the handlers are."""
        return DeliveryStatus.QUEUED if self.lease is None else DeliveryStatus.LEASED

    def read_attempt(self) -> StoredAttempt:
        """Return the present attempt."""
        return self.attempts, self.handled_by, self.lease or ""


@define(eq=False)
class SessionQueue:
    """The events of a session that were queued at least once.

    Attributes:
        session_id: The session, or ``None`` for all events without one, which do not wait for each other.
        pending: The events that wait for handlers or are handled, by their keys.
        order: The same in the order of queueing; ``None`` if there are none, and for events without a session.
        settled: The outcomes of the other events, by their keys.
    """

    session_id: str | None
    pending: dict[object, QueuedEvent] = field(factory=dict[object, QueuedEvent])
    order: deque[QueuedEvent] | None = None
    settled: dict[object, StoredOutcome] = field(factory=dict[object, StoredOutcome])

    def find_status(self, key: object) -> DeliveryStatus | None:
        """Return how far the handlers are with an event, or ``None`` if it was never queued."""
        queued, outcome = self.pending.get(key), self.settled.get(key)
        if queued is not None:
            return queued.status
        return None if outcome is None else DeliveryStatus(outcome[0])

    def count(self, status: DeliveryStatus) -> int:
        """Return the number of events in a status."""
        if status in {DeliveryStatus.QUEUED, DeliveryStatus.LEASED}:
            return sum(queued.status is status for queued in self.pending.values())
        return sum(outcome[0] == status for outcome in self.settled.values())


@define(eq=False)
class MemoryQueue:
    """The events of all sessions that were queued; the caller holds a lock.

    Attributes:
        pending: Those that wait for handlers or are handled, by their positions.
        dead: The number of those whose last attempt has failed.
    """

    pending: dict[int, QueuedEvent] = field(factory=dict[int, QueuedEvent])
    dead: int = 0
    _leases: dict[str, QueuedEvent] = field(factory=dict[str, QueuedEvent])
    _due: list[tuple[int, int, QueuedEvent]] = field(factory=list[tuple[int, int, QueuedEvent]])
    _waiting: list[tuple[float, int, QueuedEvent]] = field(factory=list[tuple[float, int, QueuedEvent]])
    _last_ticket: int = 0
    _last_position: int = 0
    _last_time: float = -inf

    @property
    def leased(self) -> int:
        """The number of events with a lease."""
        return len(self._leases)

    def add(self, session: SessionQueue, key: object, now: float) -> bool:
        """Queue an event for the first time, and return whether it was never queued before."""
        if key in session.pending or key in session.settled:
            return False
        self._append(session, key, now)
        return True

    def requeue(self, session: SessionQueue, key: object, now: float) -> bool:
        """Queue an event that waits for no handler, with all its handlers still to call."""
        if key in session.pending:
            return False
        self.drop_outcome(session, key)
        self._append(session, key, now)
        return True

    def lease(self, limit: int, seconds: float, now: float) -> Sequence[QueuedEvent]:
        """Begin attempts of events that are due."""
        self._observe(now)
        while self._waiting and self._waiting[0][0] <= now:
            _, ticket, queued = heappop(self._waiting)
            if ticket == queued.ticket:
                queued.waits_until = None
                self._schedule(queued, now)
        leased: list[QueuedEvent] = []
        while self._due and len(leased) < limit:
            _, ticket, queued = heappop(self._due)
            if ticket != queued.ticket:
                continue
            if queued.lease is not None:
                del self._leases[queued.lease]
            queued.lease = secrets.token_hex(16)
            self._leases[queued.lease] = queued
            queued.attempts += 1
            queued.due_at, queued.span = now + seconds, seconds
            self._schedule(queued, now)
            leased.append(queued)
        return leased

    def extend(self, lease: str, seconds: float, now: float) -> bool:
        """Let a lease end later or earlier, and return whether it is held."""
        self._observe(now)
        queued = self._leases.get(lease)
        if queued is None:
            return False
        queued.due_at, queued.span = now + seconds, seconds
        self._schedule(queued, now)
        return True

    def settle(self, lease: str, outcome: DeliveryOutcome, now: float) -> bool:
        """Store the outcome of an attempt, and return whether its lease was held."""
        self._observe(now)
        queued = self._leases.get(lease)
        if queued is None:
            return False
        queued.handled_by = outcome.handled_by
        if outcome.status is DeliveryStatus.LEASED:
            return True
        del self._leases[lease]
        queued.lease, queued.error = None, outcome.error
        if not outcome.counts:
            queued.attempts -= 1
        if outcome.status is DeliveryStatus.QUEUED:
            queued.due_at, queued.span = now + outcome.delay, outcome.delay
            self._schedule(queued, now)
        else:
            self._remove(queued, outcome.status, now)
        return True

    def drop(self, session: SessionQueue) -> None:
        """Forget the events of a session that is deleted."""
        for queued in session.pending.values():
            del self.pending[queued.position]
            queued.ticket = 0
            if queued.lease is not None:
                del self._leases[queued.lease]
        for key in tuple(session.settled):
            self.drop_outcome(session, key)

    def drop_outcome(self, session: SessionQueue, key: object) -> None:
        """Forget an event that waits for no handler."""
        outcome = session.settled.pop(key, None)
        if outcome is not None and outcome[0] == DeliveryStatus.DEAD:
            self.dead -= 1

    def _append(self, session: SessionQueue, key: object, now: float) -> None:
        self._last_position += 1
        queued = QueuedEvent(session, key, self._last_position, now)
        self.pending[queued.position] = session.pending[key] = queued
        if session.session_id is not None:
            if session.order is not None:
                session.order.append(queued)
                return  # it is scheduled when it becomes the first
            session.order = deque((queued,))
        self._schedule(queued, now)

    def _remove(self, queued: QueuedEvent, status: DeliveryStatus, now: float) -> None:
        """Take an event that was leased out of its queue; the next one becomes the first."""
        session = queued.session
        # Plain texts, as members of enums and sets would keep the garbage collector visiting the tuple.
        session.settled[queued.key] = status.value, queued.attempts, tuple(queued.handled_by), queued.error
        self.dead += status is DeliveryStatus.DEAD
        queued.ticket = 0
        del self.pending[queued.position], session.pending[queued.key]
        self._delete_replaced()
        if session.order is not None:
            session.order.popleft()
            if session.order:
                self._schedule(session.order[0], now)
            else:
                session.order = None

    def _schedule(self, queued: QueuedEvent, now: float) -> None:
        """Put an event into the heap that it belongs to."""
        if is_due(queued.due_at, queued.span, now):
            queued.ticket, queued.waits_until = self._take_ticket(), None
            heappush(self._due, (queued.position, queued.ticket, queued))
        # An entry that comes up too early is put back then: so the extensions of a lease do not fill the heap.
        elif queued.waits_until is None or queued.due_at < queued.waits_until:
            queued.ticket, queued.waits_until = self._take_ticket(), queued.due_at
            heappush(self._waiting, (queued.due_at, queued.ticket, queued))

    def _delete_replaced(self) -> None:
        """Delete the entries of settled events, which would otherwise stay until the ends of their leases."""
        if len(self._waiting) > _MAX_REPLACED and len(self._waiting) > 2 * len(self.pending):
            self._waiting = [entry for entry in self._waiting if entry[1] == entry[2].ticket]
            heapify(self._waiting)

    def _observe(self, now: float) -> None:
        """Find the events that are due because the clock was set back."""
        if now < self._last_time:
            waiting, self._waiting = self._waiting, []
            for _, ticket, queued in waiting:
                if ticket == queued.ticket:
                    queued.waits_until = None
                    self._schedule(queued, now)
        self._last_time = now

    def _take_ticket(self) -> int:
        self._last_ticket += 1
        return self._last_ticket
