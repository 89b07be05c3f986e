"""What `MemoryInbox` keeps of one session."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field

from veriff_async._protocol.json.decode import decode_model, dump, load_object
from veriff_async._protocol.json.encode import to_json
from veriff_async._protocol.search_keys import event_search_values
from veriff_async._protocol.webhook import load_event
from veriff_async.inbox._memory_queue import SessionQueue
from veriff_async.models.decision import Decision
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.dedup import dedup_fields
from veriff_async.models.enums import Status
from veriff_async.models.json import digest
from veriff_async.models.state import OpenAttempt, SessionState

if TYPE_CHECKING:
    from veriff_async.models.events import WebhookEvent

__all__ = ("SessionLog", "StoredEvent", "StoredState", "dump_state", "load_state")

# A state: session, status, attempts, the JSON of its decision, the decision's source, and the undecided attempts.
StoredState: TypeAlias = tuple[
    str, Status, tuple[str, ...], bytes | None, DecisionSource | None, tuple[OpenAttempt, ...]
]

# An event: kind, body, number in the order of recording, time of day, and why it did not count. Only plain values: the
# garbage collector stops visiting such a tuple.
StoredEvent: TypeAlias = tuple[str, bytes, int, float, str | None]


@define(eq=False)
class SessionLog:
    """The events and the state of one session, as bytes: the garbage collector would visit models again and again.

    Attributes:
        session_id: The session, or ``None`` for all events without one.
        events: The events in the order of recording. They are found by the fields of their deduplication keys, and by
            whole keys from the first event on whose fields are taken. Most fields differ, and a whole key takes half
            as long as decoding an event.
        has_keys: Whether some events are found by whole keys.
        state: The state, if an event has set one.
        touched: The time of the last event.
        recorded_at: The time of day of the last event.
        number: The number of the last record in the order of recording.
        submission: See `SubmissionInbox.save_submission`.
        person: The values of ``vendor_data`` and ``end_user_id`` of its events, with these names.
        queue: The events that were queued for handlers, if any was.
    """

    session_id: str | None
    events: dict[object, StoredEvent] = field(factory=dict[object, StoredEvent])
    has_keys: bool = False
    state: StoredState | None = None
    touched: float = 0.0
    recorded_at: float | None = None
    number: int = 0
    submission: str | None = None
    person: tuple[tuple[str, str], ...] = ()
    queue: SessionQueue | None = None

    @property
    def is_pending(self) -> bool:
        """Whether events wait for handlers or are handled, so that the retention must not delete the session."""
        return self.queue is not None and bool(self.queue.pending)

    def choose_key(self, event: WebhookEvent, body: bytes) -> tuple[object, bool]:
        """Return the key of an event in `events`, and whether the event is new."""
        fields = dedup_fields(event)
        previous = self.events.get(fields)
        if previous is None:
            if event.raw and not self.has_keys:
                return fields, True
        elif event.raw and (previous[1] == body or digest(load_object(previous[1])) == digest(event.raw)):
            return fields, False
        self.has_keys = True
        key = event.dedup_key
        return key, key not in self.events

    def add_person(self, event: WebhookEvent) -> None:
        """Remember the values by which `SearchableInbox.find_sessions` finds the session of an event."""
        for item in event_search_values(event) if self.session_id is not None else ():
            if item not in self.person:
                self.person = (*self.person, item)

    def find_key(self, dedup_key: str) -> object | None:
        """Return the key in `events` of the event with a deduplication key."""
        if dedup_key in self.events:
            return dedup_key
        for key, event in self.events.items():
            if not isinstance(key, str) and load_event(event[0], event[1]).dedup_key == dedup_key:
                return key
        return None

    def open_queue(self) -> SessionQueue:
        """Return the queue of the session, which may be new."""
        if self.queue is None:
            self.queue = SessionQueue(self.session_id)
        return self.queue

    def find_old_event(self, limit: int) -> object | None:
        """Return the key of the oldest event beyond a limit; handlers must not wait for it.

        The newest event stays in each case.
        """
        queue = self.queue
        if len(self.events) <= limit:
            return None
        if queue is None:
            return next(iter(self.events))
        # Often all are pending: without this, the whole backlog would be searched at each record.
        if len(queue.pending) >= len(self.events) - 1:
            return None
        return next((key for key in self.events if key not in queue.pending), None)


def dump_state(state: SessionState, event: WebhookEvent, body: bytes) -> StoredState:
    """Return the state after an event for storing; the body of the event may be shared."""
    decision = state.decision
    if decision is None:
        text = None
    elif decision.raw and decision.raw is event.raw:
        text = body  # the decision's `raw` is the whole webhook
    else:
        text = dump(decision.raw or to_json(decision))
    return state.session_id, state.status, state.attempts, text, state.source, state.open_attempts


def load_state(state: StoredState, submission: str | None, recorded_at: float | None = None) -> SessionState:
    """Return a stored state, decoded for each reader, so that no two callers share a mutable object."""
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
