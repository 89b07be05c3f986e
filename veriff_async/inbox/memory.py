"""The inbox of one process: nothing to set up, and nothing survives the process."""

from __future__ import annotations

import time
from collections import OrderedDict
from itertools import chain
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Final, Self

from attrs import evolve

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.counts import format_count
from veriff_async._protocol.inbox_arguments import (
    check_delivery_query,
    check_erasure,
    check_extension,
    check_lease,
    check_record,
    check_requeue,
    check_search,
    check_session_id,
    check_session_ids,
    check_settlement,
    check_submission,
)
from veriff_async._protocol.search_keys import ERASED, search_key
from veriff_async._protocol.session_state import apply_event
from veriff_async._protocol.webhook import dump_event, load_event
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.errors import InboxError
from veriff_async.inbox._memory_log import SessionLog, dump_state, load_state
from veriff_async.inbox._memory_queue import MemoryQueue
from veriff_async.inbox._memory_search import find_page, find_records, load_records
from veriff_async.inbox._pubsub import Broadcaster
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.delivery import Delivery
from veriff_async.models.inbox_search import InboxStatistics
from veriff_async.models.state import IgnoredReason, RecordResult, SessionState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
    from types import TracebackType

    from veriff_async.inbox._memory_log import StoredEvent, StoredState
    from veriff_async.inbox._memory_queue import QueuedEvent, StoredAttempt
    from veriff_async.models.delivery import DeliveryOutcome, DeliveryRecord, DeliveryStatus
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.inbox_search import SessionPage, SessionSearch

__all__ = ("MemoryInbox",)

_IN_MEMORY: Final = Retention(max_sessions=100_000)


class MemoryInbox:
    """Keep events in the memory of this process; any of its threads and loops may use it.

    Events do not survive a restart, and no other process sees them: use `SqliteInbox` or `RedisInbox` for that.

    Args:
        retention: How much is kept; by default 100,000 sessions for 30 days.
        now: The time in seconds since 1970, for tests in which days pass. By default age is measured by a monotonic
            clock, so a change of the system's time deletes nothing.

    Example:
        >>> inbox = MemoryInbox()
        >>> veriff = VeriffClient.from_env(inbox=inbox)
        >>> receiver = WebhookReceiver(veriff.credentials, inbox)
    """

    def __init__(self, *, retention: Retention | None = None, now: Callable[[], float] | None = None) -> None:
        """Start empty."""
        self._retention = _IN_MEMORY if retention is None else check_retention(retention)
        # Ages use a clock that cannot be set; recorded states show the time of day.
        self._now = time.monotonic if now is None else check_clock(now)
        self._wall_clock = time.time if now is None else now
        self._logs: OrderedDict[str | None, SessionLog] = OrderedDict()
        # No session has an earlier last event. Not exact, so that it need not change with each event.
        self._oldest = inf
        # Sessions beyond the limits of the retention with events that are pending: they are deleted after these.
        self._overdue: dict[str | None, SessionLog] = {}
        self._queue = MemoryQueue()
        self._number = 0
        # Digests of the ids of erased sessions, and when each may be recorded again.
        self._erased: dict[bytes, float] = {}
        self._broadcaster = Broadcaster()
        self._lock = Lock()
        self._entered = 0

    def __repr__(self) -> str:
        """Show how many sessions are kept."""
        return f"<MemoryInbox of {format_count(len(self._logs) + len(self._overdue), 'session')}>"

    async def __aenter__(self) -> Self:
        """Return the inbox itself."""
        require_asyncio()
        with self._lock:
            self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Delete everything, unless another ``async with`` block uses this inbox."""
        with self._lock:
            self._entered = max(0, self._entered - 1)
            is_used = self._entered > 0
        if not is_used:
            await self.aclose()

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Record an event; see `DeliveryInbox.record`."""
        require_asyncio()
        return self.record_now(event, source=source, deliver=deliver)

    def record_now(
        self,
        event: WebhookEvent,
        *,
        source: DecisionSource = DecisionSource.WEBHOOK,
        deliver: bool = False,
        body: bytes | None = None,
    ) -> RecordResult:
        """Record an event synchronously; see `record`.

        Args:
            event: The event.
            source: Its source.
            deliver: Whether to queue it for the handlers.
            body: The JSON that the event was decoded from, if the caller has it, so that it is not encoded again.
        """
        check_record(event, source, deliver)
        with self._lock:
            result, is_changed = self._record(event, source, body or dump_event(event), deliver=deliver)
        # Outside the lock: publishing wakes other event loops, which may read the inbox immediately.
        if is_changed and result.state is not None:
            self._broadcaster.publish((result.state.session_id,))
        return result

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return the states of sessions; see `Inbox.get_states`."""
        require_asyncio()
        wanted = check_session_ids(session_ids)
        stored: list[tuple[StoredState, str | None, float | None]] = []
        with self._lock:
            self._delete_old(self._now())
            for session_id in wanted:
                log = self._find(session_id)
                if log is not None and log.state is not None:
                    stored.append((log.state, log.submission, log.recorded_at))
        states: dict[str, SessionState] = {}
        for stored_state in stored:  # decoded after the lock was released, which other threads may wait for
            state = load_state(*stored_state)
            states[state.session_id] = state
        return states

    async def save_submission(self, session_id: str, submission: str) -> None:
        """Store a text for a session; see `SubmissionInbox.save_submission`."""
        require_asyncio()
        check_submission(session_id, submission)
        with self._lock:
            now = self._now()
            self._delete_old(now)
            if self._is_erased(session_id, now):
                return
            log = self._find(session_id)
            if log is None:
                log = SessionLog(session_id)
            self._touch(log, now)
            log.submission = submission

    def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change; see `Inbox.subscribe`."""
        require_asyncio()
        return self._broadcaster.subscribe()

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.get_events`."""
        require_asyncio()
        check_session_id(session_id)
        with self._lock:
            self._delete_old(self._now())
            log = self._find(session_id or None)
            events = tuple(log.events.values()) if log else ()
        return tuple(load_event(event[0], event[1]) for event in events)

    async def lease(self, limit: int, *, seconds: float) -> Sequence[Delivery[WebhookEvent]]:
        """Lease events that are due; see `DeliveryInbox.lease`."""
        require_asyncio()
        check_lease(limit, seconds)
        with self._lock:
            leased = [self._read_attempt(queued) for queued in self._queue.lease(limit, seconds, self._now())]
        # Decoded after the lock was released, which other threads may wait for.
        return [_load_delivery(*parts) for parts in leased]

    async def extend_leases(self, deliveries: Collection[Delivery[WebhookEvent]], *, seconds: float) -> frozenset[str]:
        """Let leases end later; see `DeliveryInbox.extend_leases`."""
        require_asyncio()
        leases = [delivery.lease for delivery in check_extension(deliveries, seconds)]
        with self._lock:
            now = self._now()
            return frozenset(lease for lease in leases if self._queue.extend(lease, seconds, now))

    async def settle(self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        """Store the outcome of an attempt; see `DeliveryInbox.settle`."""
        require_asyncio()
        check_settlement(delivery, outcome)
        with self._lock:
            is_held = self._queue.settle(delivery.lease, outcome, self._now())
            if is_held:
                self._restore(delivery.event.session_id or None)
        return is_held

    async def get_deliveries(
        self, *, session_id: str | None = None, status: DeliveryStatus | None = None, limit: int = 100
    ) -> Sequence[DeliveryRecord]:
        """Return how far the handlers are; see `DeliveryInbox.get_deliveries`."""
        require_asyncio()
        check_delivery_query(session_id, status, limit)
        with self._lock:
            now = self._now()
            self._delete_old(now)
            offset = self._wall_clock() - now
            log = None if session_id is None else self._find(session_id or None)
            logs = self._all_logs() if session_id is None else (() if log is None else (log,))
            records = find_records(logs, status, limit, offset)
        # The keys are computed after the lock was released: each takes as long as decoding the event.
        return load_records(records)

    async def requeue(self, session_id: str | None, dedup_key: str) -> bool:
        """Queue a stored event again; see `DeliveryInbox.requeue`."""
        require_asyncio()
        check_requeue(session_id, dedup_key)
        with self._lock:
            now = self._now()
            self._delete_old(now)
            log = self._find(session_id or None)
            key = None if log is None else log.find_key(dedup_key)
            if log is None or key is None:
                return False
            return self._queue.requeue(log.open_queue(), key, now)

    async def find_sessions(self, search: SessionSearch, *, limit: int = 100, page: str | None = None) -> SessionPage:
        """Find sessions; see `SearchableInbox.find_sessions`."""
        require_asyncio()
        check_search(search, limit, page)
        with self._lock:
            self._delete_old(self._now())
            return find_page(self._all_logs(), search, limit, page)

    async def statistics(self) -> InboxStatistics:
        """Count what is stored and what waits; see `SearchableInbox.statistics`."""
        require_asyncio()
        with self._lock:
            now = self._now()
            self._delete_old(now)
            stored = [log for log in self._all_logs() if log.events]
            waiting_since = min(
                (self._find_log(queued).events[queued.key][3] for queued in self._queue.pending.values()), default=None
            )
            leased = self._queue.leased
            return InboxStatistics(
                sessions=len(stored),
                events=sum(len(log.events) for log in stored),
                queued=len(self._queue.pending) - leased,
                leased=leased,
                dead=self._queue.dead,
                oldest_queued_age=None if waiting_since is None else max(0.0, self._wall_clock() - waiting_since),
                oldest_session_age=max((max(0.0, now - log.touched) for log in stored), default=None),
            )

    async def erase(self, session_ids: Collection[str], *, refuse_for: float = 30 * 86_400.0) -> int:
        """Delete everything about sessions; see `ErasableInbox.erase`."""
        require_asyncio()
        ids = check_erasure(session_ids, refuse_for)
        with self._lock:
            now = self._now()
            self._delete_old(now)
            self._erased = {key: until for key, until in self._erased.items() if until > now}
            logs = [log for log in map(self._find, ids) if log is not None]
            for log in logs:
                self._logs.pop(log.session_id, None)
                self._overdue.pop(log.session_id, None)
                if log.queue is not None:
                    self._queue.drop(log.queue)
            for session_id in ids if refuse_for > 0 else ():
                key = search_key(ERASED, session_id)
                self._erased[key] = max(now + refuse_for, self._erased.get(key, now))
        return len(logs)

    async def aclose(self) -> None:
        """Delete everything, and end the subscriptions."""
        require_asyncio()
        with self._lock:
            self._entered = 0
            self._logs.clear()
            self._overdue.clear()
            self._queue = MemoryQueue()
            self._erased.clear()
        self._broadcaster.end(InboxError("The inbox was closed: open it again with `async with`, or use another one."))

    def _record(
        self, event: WebhookEvent, source: DecisionSource, body: bytes, *, deliver: bool
    ) -> tuple[RecordResult, bool]:
        """Record an event; return the result, and whether the state has changed."""
        now = self._now()
        if self._oldest <= now - self._retention.max_age:
            self._delete_old(now)
        session_id = event.session_id or None
        if self._is_erased(session_id, now):
            return RecordResult(event=event, ignored=IgnoredReason.ERASED), False
        log = self._find(session_id)
        if log is None:
            log = SessionLog(session_id)
        before = None if log.state is None else load_state(log.state, log.submission)
        key, is_new = log.choose_key(event, body)
        recorded_at = self._wall_clock()
        after, ignored = apply_event(before, event, source, is_duplicate=not is_new, recorded_at=recorded_at)
        is_changed = after is not before
        state = log.state if after is None or not is_changed else dump_state(after, event, body)
        # All steps that can fail are done: an error must leave neither an event without its state nor an empty session.
        self._touch(log, now)
        log.state, log.recorded_at = state, recorded_at
        if is_new:
            # The text of a reason, as an enum member would keep the garbage collector visiting the tuple.
            log.events[key] = event.kind, body, log.number, recorded_at, None if ignored is None else ignored.value
            log.add_person(event)
        if deliver:
            self._queue.add(log.open_queue(), key, now)
        if is_new and len(log.events) > self._retention.max_events_per_session:
            self._delete_events(log)
        if after is not None and after.submission is not log.submission:  # the state is new
            after = evolve(after, submission=log.submission)
        return RecordResult(event=event, state=after, ignored=ignored), is_changed

    def _find(self, session_id: str | None) -> SessionLog | None:
        log = self._logs.get(session_id)
        return self._overdue.get(session_id) if log is None and self._overdue else log

    def _all_logs(self) -> Iterable[SessionLog]:
        return chain(self._logs.values(), self._overdue.values())

    def _touch(self, log: SessionLog, now: float) -> None:
        """Make a session the latest one; it may be new."""
        session_id = log.session_id
        self._number += 1
        log.touched, log.number = now, self._number
        if session_id in self._logs:
            self._logs.move_to_end(session_id)
            return
        self._overdue.pop(session_id, None)
        self._logs[session_id] = log
        self._oldest = min(self._oldest, now)
        while len(self._logs) > self._retention.max_sessions:
            self._delete_oldest()

    def _delete_old(self, now: float) -> None:
        oldest = now - self._retention.max_age
        # The logs are in the order of their last event, so this stops at the first one that is young enough.
        while self._logs:
            self._oldest = next(iter(self._logs.values())).touched
            if self._oldest > oldest:
                return
            self._delete_oldest()
        self._oldest = inf

    def _delete_oldest(self) -> None:
        session_id, log = self._logs.popitem(last=False)
        if log.is_pending:
            self._overdue[session_id] = log
        elif log.queue is not None:
            self._queue.drop(log.queue)

    def _restore(self, session_id: str | None) -> None:
        """Let the retention delete an overdue session when its last event is settled."""
        log = self._overdue.get(session_id)
        if log is not None and not log.is_pending:
            del self._overdue[session_id]
            self._logs[session_id] = log
            self._logs.move_to_end(session_id, last=False)
            self._oldest = min(self._oldest, log.touched)

    def _delete_events(self, log: SessionLog) -> None:
        while (key := log.find_old_event(self._retention.max_events_per_session)) is not None:
            del log.events[key]
            if log.queue is not None:
                self._queue.drop_outcome(log.queue, key)

    def _is_erased(self, session_id: str | None, now: float) -> bool:
        if not self._erased or session_id is None:
            return False
        return self._erased.get(search_key(ERASED, session_id), now) > now

    def _read_attempt(self, queued: QueuedEvent) -> tuple[StoredAttempt, StoredEvent, StoredState | None, str | None]:
        log = self._find_log(queued)
        return queued.read_attempt(), log.events[queued.key], log.state, log.submission

    def _find_log(self, queued: QueuedEvent) -> SessionLog:
        # A session with pending events is deleted by `erase` alone, which takes them out of the queue.
        session_id = queued.session.session_id
        return self._logs[session_id] if session_id in self._logs else self._overdue[session_id]


def _load_delivery(
    attempt: StoredAttempt, event: StoredEvent, state: StoredState | None, submission: str | None
) -> Delivery[WebhookEvent]:
    kind, body, _, recorded_at, ignored = event
    number, handled_by, lease = attempt
    return Delivery(
        event=load_event(kind, body),
        attempt=number,
        state=None if state is None else load_state(state, submission),
        ignored=None if ignored is None else IgnoredReason(ignored),
        recorded_at=recorded_at,
        handled_by=handled_by,
        lease=lease,
    )
