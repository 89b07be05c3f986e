"""The events of `MemoryInbox` that wait for handlers.

Each session has a queue, and only its first event can be leased: so events of one session are handled in their order.
Events without a session are all first. The first events are in one of two heaps: those that are due, by their position,
and the others, by the time at which they become due. An entry of a heap that was replaced stays there, and is skipped
when it comes up, because its ticket is not the ticket of its event.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field

from veriff_async._protocol.delivery_schedule import is_due
from veriff_async.models.delivery import DeliveryStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.models.delivery import DeliveryOutcome

__all__ = ("DeliveryQueue", "QueuedEvent", "SessionQueue", "StoredAttempt")

# An attempt: its number, the handlers that have finished, and its lease.
StoredAttempt: TypeAlias = tuple[int, frozenset[str], str]


@define(eq=False)
class QueuedEvent:
    """An event that was queued at least once, and how far the handlers are with it.

    Attributes:
        session: The queue of its session.
        key: The key by which the session stores it.
        status: How far the handlers are.
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
    status: DeliveryStatus = DeliveryStatus.QUEUED
    position: int = 0
    attempts: int = 0
    due_at: float = 0.0
    span: float = 0.0
    lease: str | None = None
    handled_by: frozenset[str] = frozenset()
    error: str | None = None
    ticket: int = 0
    waits_until: float | None = None

    @property
    def is_pending(self) -> bool:
        """Whether it waits for handlers, or is handled."""
        return self.status is DeliveryStatus.QUEUED or self.status is DeliveryStatus.LEASED

    def read_attempt(self) -> StoredAttempt:
        """Return the present attempt."""
        return self.attempts, self.handled_by, self.lease or ""


@define(eq=False)
class SessionQueue:
    """The events of a session that were queued at least once.

    Attributes:
        session_id: The session, or ``None`` for all events without one, which do not wait for each other.
        events: The events by their keys.
        order: Those that are pending, in the order of queueing; empty for events without a session.
        size: The number of those that are pending.
    """

    session_id: str | None
    events: dict[object, QueuedEvent] = field(factory=dict[object, QueuedEvent])
    order: deque[QueuedEvent] = field(factory=deque[QueuedEvent])
    size: int = 0

    def is_pending(self, key: object) -> bool:
        """Return whether an event waits for handlers, or is handled."""
        queued = self.events.get(key)
        return queued is not None and queued.is_pending


@define(eq=False)
class DeliveryQueue:
    """The pending events of all sessions; the caller holds a lock."""

    counts: Counter[DeliveryStatus] = field(factory=Counter[DeliveryStatus])
    pending: dict[int, QueuedEvent] = field(factory=dict[int, QueuedEvent])
    _due: list[tuple[int, int, QueuedEvent]] = field(factory=list[tuple[int, int, QueuedEvent]])
    _waiting: list[tuple[float, int, QueuedEvent]] = field(factory=list[tuple[float, int, QueuedEvent]])
    _leases: dict[str, QueuedEvent] = field(factory=dict[str, QueuedEvent])
    _last_ticket: int = 0
    _last_position: int = 0
    _last_time: float = -inf

    def add(self, session: SessionQueue, key: object, now: float) -> bool:
        """Queue an event for the first time, and return whether it was never queued before."""
        if key in session.events:
            return False
        queued = session.events[key] = QueuedEvent(session, key)
        self.counts[queued.status] += 1
        self._append(queued, now)
        return True

    def requeue(self, session: SessionQueue, key: object, now: float) -> bool:
        """Queue an event that waits for no handler, with all its handlers still to call."""
        queued = session.events.get(key)
        if queued is None:
            return self.add(session, key, now)
        if queued.is_pending:
            return False
        self._set_status(queued, DeliveryStatus.QUEUED)
        queued.attempts, queued.handled_by, queued.error = 0, frozenset(), None
        self._append(queued, now)
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
            self._set_status(queued, DeliveryStatus.LEASED)
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
        self._set_status(queued, outcome.status)
        queued.error = outcome.error
        if not outcome.counts:
            queued.attempts -= 1
        del self._leases[lease]
        queued.lease = None
        if outcome.status is DeliveryStatus.QUEUED:
            queued.due_at, queued.span = now + outcome.delay, outcome.delay
            self._schedule(queued, now)
        else:
            self._remove(queued, now)
        return True

    def drop(self, session: SessionQueue) -> None:
        """Forget the events of a session that is deleted."""
        for key in tuple(session.events):
            self.drop_event(session, key)

    def drop_event(self, session: SessionQueue, key: object) -> None:
        """Forget an event that is deleted with its session, or that is not pending."""
        queued = session.events.pop(key, None)
        if queued is not None:
            self.counts[queued.status] -= 1
            self.pending.pop(queued.position, None)
            queued.ticket = 0
            if queued.lease is not None:
                del self._leases[queued.lease]

    def _append(self, queued: QueuedEvent, now: float) -> None:
        session = queued.session
        self._last_position += 1
        queued.position, queued.due_at, queued.span = self._last_position, now, 0.0
        self.pending[queued.position] = queued
        session.size += 1
        if session.session_id is not None:
            session.order.append(queued)
            if session.size > 1:
                return  # it is scheduled when it becomes the first
        self._schedule(queued, now)

    def _remove(self, queued: QueuedEvent, now: float) -> None:
        """Take an event that was leased out of its queue; the next one becomes the first."""
        queued.ticket, queued.waits_until = 0, None
        del self.pending[queued.position]
        session = queued.session
        session.size -= 1
        if session.session_id is not None:
            session.order.popleft()
            if session.order:
                self._schedule(session.order[0], now)

    def _schedule(self, queued: QueuedEvent, now: float) -> None:
        """Put an event into the heap that it belongs to."""
        if is_due(queued.due_at, queued.span, now):
            queued.ticket, queued.waits_until = self._take_ticket(), None
            heappush(self._due, (queued.position, queued.ticket, queued))
        # An entry that comes up too early is put back then: so the extensions of a lease do not fill the heap.
        elif queued.waits_until is None or queued.due_at < queued.waits_until:
            queued.ticket, queued.waits_until = self._take_ticket(), queued.due_at
            heappush(self._waiting, (queued.due_at, queued.ticket, queued))

    def _observe(self, now: float) -> None:
        """Find the events that are due because the clock was set back."""
        if now < self._last_time:
            waiting, self._waiting = self._waiting, []
            for _, ticket, queued in waiting:
                if ticket == queued.ticket:
                    queued.waits_until = None
                    self._schedule(queued, now)
        self._last_time = now

    def _set_status(self, queued: QueuedEvent, status: DeliveryStatus) -> None:
        self.counts[queued.status] -= 1
        self.counts[status] += 1
        queued.status = status

    def _take_ticket(self) -> int:
        self._last_ticket += 1
        return self._last_ticket
