"""The inbox of one process: nothing to set up, and gone with the process."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import aclosing
from threading import Lock
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from attrs import define, field

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.json.decode import dump, load_object, read
from veriff_async._protocol.json.encode import to_json
from veriff_async._protocol.session_state import apply_event
from veriff_async._protocol.webhook import dump_event, load_event
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.errors import InboxError
from veriff_async.inbox._pubsub import Broadcaster
from veriff_async.models.decision import Decision, DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.events import dedup_prefix
from veriff_async.models.json import digest
from veriff_async.models.state import OpenAttempt, RecordResult, SessionState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
    from types import TracebackType

    from veriff_async.models.events import WebhookEvent

__all__ = ("MemoryInbox",)

_IN_MEMORY: Final = Retention(max_sessions=100_000)


_State: TypeAlias = tuple[str, str, tuple[str, ...], bytes | None, DecisionSource | None, tuple[OpenAttempt, ...]]
"""A state: session, status, attempts, the decision as it came, who reported it, and the undecided attempts."""


@define
class _Shelf:
    """What is kept of one session, as bytes: models would be gone through again at each collection of garbage.

    Attributes:
        events: Kinds and bodies in the order of their recording, by what they told, or by key from the first on that
            told what another did. Most differ in what they tell, and a key takes as long as half of reading a message.
        by_key: Whether some are there by their keys.
        state: The state, if an event told one.
        touched: When the last event came.
    """

    events: dict[str, tuple[str, bytes]] = field(factory=dict[str, "tuple[str, bytes]"])
    by_key: bool = False
    state: _State | None = None
    touched: float = 0.0

    def name(self, event: WebhookEvent, body: bytes) -> str | None:
        """Return under which name an event is to be kept, or ``None`` when it is kept already."""
        short = dedup_prefix(event)
        kept = self.events.get(short)
        if kept is not None and event.raw and (kept[1] == body or digest(load_object(kept[1])) == digest(event.raw)):
            return None
        if kept is None and event.raw and not self.by_key:
            return short
        self.by_key = True
        return None if event.dedup_key in self.events else event.dedup_key


class MemoryInbox:
    """Keep events in the memory of this process; any of its threads and loops may use it.

    What is recorded does not survive a restart, and no other process sees it: for that there are `SqliteInbox` and
    `RedisInbox`.

    Args:
        retention: How much is kept; 100,000 sessions for 30 days when left out.
        now: The time in seconds since 1970, for tests in which days pass. Without it, age is measured by a clock that
            cannot be set, so that a change of the system's time forgets nothing.

    Example:
        >>> inbox = MemoryInbox()
        >>> veriff = VeriffClient.from_env(inbox=inbox)
        >>> receiver = WebhookReceiver(veriff.credentials, inbox)
    """

    def __init__(self, *, retention: Retention | None = None, now: Callable[[], float] | None = None) -> None:
        """Begin empty."""
        self._retention = _IN_MEMORY if retention is None else check_retention(retention)
        self._now = time.monotonic if now is None else check_clock(now)
        self._wall_clock = time.time if now is None else now
        self._shelves: OrderedDict[str | None, _Shelf] = OrderedDict()
        self._broadcaster = Broadcaster()
        self._lock = Lock()
        self._entered = 0

    def __repr__(self) -> str:
        """Show how much is kept."""
        return f"<MemoryInbox of {len(self._shelves)} sessions>"

    async def __aenter__(self) -> Self:
        """Return the inbox itself."""
        require_asyncio()
        with self._lock:
            self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Forget everything, unless another ``async with`` block uses this inbox."""
        with self._lock:
            self._entered = max(0, self._entered - 1)
            is_used = self._entered > 0
        if not is_used:
            await self.aclose()

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        """Keep an event; see `Inbox.record`."""
        require_asyncio()
        return self.record_now(event, source=source)

    def record_now(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, body: bytes | None = None
    ) -> RecordResult:
        """Keep an event without a coroutine, since nothing is waited for; otherwise as `record`.

        Args:
            event: What was verified and read.
            source: Who told it.
            body: The JSON that it was read from, where that is at hand: it is kept then, and not written again.
        """
        with self._lock:
            recorded, is_changed = self._keep(event, source, body or dump_event(event))
        if is_changed and recorded.state is not None:
            self._broadcaster.publish([recorded.state.session_id])
        return recorded

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return what is known of sessions; see `Inbox.get_states`."""
        require_asyncio()
        with self._lock:
            self._forget_old()
            found = ((session_id, self._shelves.get(session_id)) for session_id in session_ids)
            states = {session_id: shelf.state for session_id, shelf in found if shelf}
        return {session_id: _loaded(state) for session_id, state in states.items() if state}

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change; see `Inbox.subscribe`."""
        require_asyncio()
        async with aclosing(self._broadcaster.subscribe()) as feed:
            async for session_id in feed:
                yield session_id

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.get_events`."""
        require_asyncio()
        with self._lock:
            self._forget_old()
            shelf = self._shelves.get(session_id or None)
            events = tuple(shelf.events.values()) if shelf else ()
        return tuple(load_event(kind, body) for kind, body in events)

    async def aclose(self) -> None:
        """Forget everything, and end the feeds."""
        require_asyncio()
        with self._lock:
            self._entered = 0
            self._shelves.clear()
        self._broadcaster.end(InboxError("The inbox was closed: wait beside another one."))

    def _keep(self, event: WebhookEvent, source: DecisionSource, body: bytes) -> tuple[RecordResult, bool]:
        """Keep an event; return the result, and whether the state is another one than before."""
        self._forget_old()
        session_id, now = event.session_id or None, self._now()
        shelf = self._shelves.get(session_id) or _Shelf()
        before = None if shelf.state is None else _loaded(shelf.state)
        name = shelf.name(event, body)
        after, ignored = apply_event(before, event, source, is_duplicate=name is None, recorded_at=self._wall_clock())
        state = shelf.state if after is None or after is before else _dumped(after, event, body)
        # Everything that can fail is behind: an error must not leave an event without its state.
        self._shelves[session_id] = shelf
        self._shelves.move_to_end(session_id)
        shelf.touched, shelf.state = now, state
        if name is not None:
            shelf.events[name] = event.kind, body
        if len(shelf.events) > self._retention.max_events_per_session:
            del shelf.events[next(iter(shelf.events))]
        if len(self._shelves) > self._retention.max_sessions:
            self._shelves.popitem(last=False)
        return RecordResult(event=event, state=after, ignored=ignored), after is not before

    def _forget_old(self) -> None:
        oldest = self._now() - self._retention.max_age
        while self._shelves and next(iter(self._shelves.values())).touched <= oldest:
            self._shelves.popitem(last=False)


def _dumped(state: SessionState, event: WebhookEvent, body: bytes) -> _State:
    decision = state.decision
    if decision is None:
        text = None
    elif decision.raw and decision.raw is event.raw:
        text = body  # a decision keeps the whole message that told it
    else:
        text = dump(decision.raw or to_json(decision))
    return state.session_id, state.status.value, state.attempts, text, state.source, state.open_attempts


def _loaded(state: _State) -> SessionState:
    session_id, status, attempts, text, source, open_attempts = state
    decision = None if text is None else read(Decision, load_object(text))
    return SessionState(
        session_id=session_id,
        status=Status(status),
        attempts=attempts,
        decision=decision,
        source=source,
        open_attempts=open_attempts,
    )
