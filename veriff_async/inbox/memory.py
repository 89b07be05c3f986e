"""The inbox of one process: nothing to set up, and nothing survives the process."""

from __future__ import annotations

import time
from collections import OrderedDict
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from attrs import define, evolve, field

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.inbox_arguments import check_record, check_session_id, check_session_ids, check_submission
from veriff_async._protocol.json.decode import decode_model, dump, load_object
from veriff_async._protocol.json.encode import to_json
from veriff_async._protocol.session_state import apply_event
from veriff_async._protocol.webhook import dump_event, load_event
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.errors import InboxError
from veriff_async.inbox._pubsub import Broadcaster
from veriff_async.models.decision import Decision
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.dedup import dedup_fields
from veriff_async.models.enums import Status
from veriff_async.models.json import digest
from veriff_async.models.state import OpenAttempt, RecordResult, SessionState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
    from types import TracebackType

    from veriff_async.models.events import WebhookEvent

__all__ = ("MemoryInbox",)

_IN_MEMORY: Final = Retention(max_sessions=100_000)


# A state: session, status, attempts, the JSON of its decision, the decision's source, and the undecided attempts.
_State: TypeAlias = tuple[str, Status, tuple[str, ...], bytes | None, DecisionSource | None, tuple[OpenAttempt, ...]]


@define
class _SessionLog:
    """The events and the state of one session, as bytes: the garbage collector would visit models again and again.

    Attributes:
        events: Kinds and bodies in the order of recording. They are found by the fields of their deduplication keys,
            and by whole keys from the first event on whose fields are taken. Most fields differ, and a whole key takes
            half as long as decoding an event.
        has_keys: Whether some events are found by whole keys.
        state: The state, if an event has set one.
        touched: The time of the last event.
        recorded_at: The time of day of the last event.
        submission: See `SubmissionInbox.save_submission`.
    """

    events: dict[object, tuple[str, bytes]] = field(factory=dict[object, "tuple[str, bytes]"])
    has_keys: bool = False
    state: _State | None = None
    touched: float = 0.0
    recorded_at: float | None = None
    submission: str | None = None

    def choose_key(self, event: WebhookEvent, body: bytes) -> object | None:
        """Return the key for a new event, or ``None`` for one that was recorded before."""
        fields = dedup_fields(event)
        previous = self.events.get(fields)
        if previous is None:
            if event.raw and not self.has_keys:
                return fields
        elif event.raw and (previous[1] == body or digest(load_object(previous[1])) == digest(event.raw)):
            return None
        self.has_keys = True
        return None if event.dedup_key in self.events else event.dedup_key


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
        self._logs: OrderedDict[str | None, _SessionLog] = OrderedDict()
        # No session has an earlier last event. Not exact, so that it need not change with each event.
        self._oldest = inf
        self._broadcaster = Broadcaster()
        self._lock = Lock()
        self._entered = 0

    def __repr__(self) -> str:
        """Show how many sessions are kept."""
        return f"<MemoryInbox of {len(self._logs)} sessions>"

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

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        """Record an event; see `Inbox.record`."""
        require_asyncio()
        return self.record_now(event, source=source)

    def record_now(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, body: bytes | None = None
    ) -> RecordResult:
        """Record an event synchronously; see `record`.

        Args:
            event: The event.
            source: Its source.
            body: The JSON that the event was decoded from, if the caller has it, so that it is not encoded again.
        """
        check_record(event, source)
        with self._lock:
            result, is_changed = self._record(event, source, body or dump_event(event))
        # Outside the lock: publishing wakes other event loops, which may read the inbox immediately.
        if is_changed and result.state is not None:
            self._broadcaster.publish((result.state.session_id,))
        return result

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return the states of sessions; see `Inbox.get_states`."""
        require_asyncio()
        wanted = check_session_ids(session_ids)
        stored: list[tuple[_State, str | None, float | None]] = []
        with self._lock:
            self._delete_old(self._now())
            for session_id in wanted:
                log = self._logs.get(session_id)
                if log is not None and log.state is not None:
                    stored.append((log.state, log.submission, log.recorded_at))
        states: dict[str, SessionState] = {}
        for stored_state in stored:  # decoded after the lock was released, which other threads may wait for
            state = _load_state(*stored_state)
            states[state.session_id] = state
        return states

    async def save_submission(self, session_id: str, submission: str) -> None:
        """Store a text for a session; see `SubmissionInbox.save_submission`."""
        require_asyncio()
        check_submission(session_id, submission)
        with self._lock:
            now = self._now()
            self._delete_old(now)
            log = self._logs.get(session_id)
            if log is None:
                log = _SessionLog()
                self._add(session_id, log, now)
            else:
                self._logs.move_to_end(session_id)
            log.touched, log.submission = now, submission

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
            log = self._logs.get(session_id or None)
            events = tuple(log.events.values()) if log else ()
        return tuple(load_event(kind, body) for kind, body in events)

    async def aclose(self) -> None:
        """Delete everything, and end the subscriptions."""
        require_asyncio()
        with self._lock:
            self._entered = 0
            self._logs.clear()
        self._broadcaster.end(InboxError("The inbox was closed: open it again with `async with`, or use another one."))

    def _record(self, event: WebhookEvent, source: DecisionSource, body: bytes) -> tuple[RecordResult, bool]:
        """Record an event; return the result, and whether the state has changed."""
        now = self._now()
        if self._oldest <= now - self._retention.max_age:
            self._delete_old(now)
        session_id = event.session_id or None
        log = self._logs.get(session_id)
        is_new = log is None
        if log is None:
            log = _SessionLog()
        before = None if log.state is None else _load_state(log.state, log.submission)
        key = log.choose_key(event, body)
        recorded_at = self._wall_clock()
        after, ignored = apply_event(before, event, source, is_duplicate=key is None, recorded_at=recorded_at)
        is_changed = after is not before
        state = log.state if after is None or not is_changed else _dump_state(after, event, body)
        # All steps that can fail are done: an error must leave neither an event without its state nor an empty session.
        if is_new:
            self._add(session_id, log, now)
        else:
            self._logs.move_to_end(session_id)
        log.touched, log.state, log.recorded_at = now, state, recorded_at
        if key is not None:
            log.events[key] = event.kind, body
            if len(log.events) > self._retention.max_events_per_session:
                del log.events[next(iter(log.events))]
        if after is not None and after.submission is not log.submission:  # the state is new
            after = evolve(after, submission=log.submission)
        return RecordResult(event=event, state=after, ignored=ignored), is_changed

    def _add(self, session_id: str | None, log: _SessionLog, now: float) -> None:
        self._logs[session_id] = log
        self._oldest = min(self._oldest, now)
        if len(self._logs) > self._retention.max_sessions:
            self._logs.popitem(last=False)

    def _delete_old(self, now: float) -> None:
        oldest = now - self._retention.max_age
        # The logs are in the order of their last event, so this stops at the first one that is young enough.
        while self._logs:
            self._oldest = next(iter(self._logs.values())).touched
            if self._oldest > oldest:
                return
            self._logs.popitem(last=False)
        self._oldest = inf


def _dump_state(state: SessionState, event: WebhookEvent, body: bytes) -> _State:
    decision = state.decision
    if decision is None:
        text = None
    elif decision.raw and decision.raw is event.raw:
        text = body  # the decision's `raw` is the whole webhook
    else:
        text = dump(decision.raw or to_json(decision))
    return state.session_id, state.status, state.attempts, text, state.source, state.open_attempts


def _load_state(state: _State, submission: str | None, recorded_at: float | None = None) -> SessionState:
    # Decoded for each reader, so that no two callers share a mutable object.
    session_id, status, attempts, text, source, open_attempts = state
    decision = None if text is None else decode_model(Decision, load_object(text))
    return SessionState(
        session_id=session_id,
        status=status,
        attempts=attempts,
        decision=decision,
        source=source,
        open_attempts=open_attempts,
        submission=submission,
        recorded_at=recorded_at,
    )
