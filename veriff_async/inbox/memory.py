"""The inbox of one process: nothing to set up, and gone with the process."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import aclosing
from threading import Lock
from typing import TYPE_CHECKING, Final, Self

from attrs import define, field

from veriff_async.errors import InboxError
from veriff_async.inbox.feeds import Feeds
from veriff_async.models.decision import DecisionSource
from veriff_async.models.state import Ignored, Recorded
from veriff_async.protocol.events import dump_event, load_event
from veriff_async.protocol.ledger import advance, dump_state, load_state
from veriff_async.protocol.policies import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
    from types import TracebackType

    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("MemoryInbox",)

_IN_MEMORY: Final = Retention(sessions=100_000)


@define
class _Shelf:
    """What is kept of one session, as bytes: models would be gone through again at each collection of garbage.

    Attributes:
        events: Kinds and bodies by key, in the order of their recording.
        state: The state, if an event told one.
        touched: When the last event came.
    """

    events: dict[str, tuple[str, bytes]] = field(factory=dict[str, "tuple[str, bytes]"])
    state: bytes | None = None
    touched: float = 0.0


class MemoryInbox:
    """Keep events in the memory of this process; any of its threads and loops may use it.

    What is recorded does not survive a restart, and no other process sees it: for that there are `SqliteInbox` and
    `RedisInbox`.

    Args:
        retention: How much is kept; 100,000 sessions for 30 days when left out.
        now: The time in seconds, for tests in which days pass.

    Example:
        >>> inbox = MemoryInbox()
        >>> veriff = VeriffClient.from_env(inbox=inbox)
        >>> receiver = WebhookReceiver(veriff.credentials, inbox)
    """

    def __init__(self, *, retention: Retention | None = None, now: Callable[[], float] = time.time) -> None:
        """Begin empty."""
        self._retention = retention or _IN_MEMORY
        self._now = now
        self._shelves: OrderedDict[str | None, _Shelf] = OrderedDict()
        self._feeds = Feeds()
        self._lock = Lock()

    def __repr__(self) -> str:
        """Show how much is kept."""
        return f"<MemoryInbox of {len(self._shelves)} sessions>"

    async def __aenter__(self) -> Self:
        """Return the inbox itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Forget everything."""
        await self.aclose()

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> Recorded:
        """Keep an event; see `Inbox.record`."""
        with self._lock:
            recorded = self._keep(event, source)
        if recorded.ignored is None and recorded.state is not None:
            self._feeds.tell([recorded.state.session_id])
        return recorded

    async def look(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return what is known of sessions; see `Inbox.look`."""
        with self._lock:
            self._forget_old()
            found = ((session_id, self._shelves.get(session_id)) for session_id in session_ids)
            states = {session_id: shelf.state for session_id, shelf in found if shelf}
        return {session_id: load_state(state) for session_id, state in states.items() if state}

    async def changes(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change; see `Inbox.changes`."""
        async with aclosing(self._feeds.follow()) as feed:
            async for session_id in feed:
                yield session_id

    async def history(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.history`."""
        with self._lock:
            self._forget_old()
            shelf = self._shelves.get(session_id or None)
            events = tuple(shelf.events.values()) if shelf else ()
        return tuple(load_event(kind, body) for kind, body in events)

    async def aclose(self) -> None:
        """Forget everything, and end the feeds."""
        with self._lock:
            self._shelves.clear()
        self._feeds.end(InboxError("The inbox was closed: wait beside another one."))

    def _keep(self, event: WebhookEvent, source: DecisionSource) -> Recorded:
        self._forget_old()
        session_id, key = event.session_id or None, event.key
        shelf = self._shelves.setdefault(session_id, _Shelf())
        self._shelves.move_to_end(session_id)
        shelf.touched = self._now()
        state = None if shelf.state is None else load_state(shelf.state)
        if key in shelf.events:
            return Recorded(event=event, state=state, ignored=Ignored.REPEATED)
        shelf.events[key] = event.kind, dump_event(event)
        if len(shelf.events) > self._retention.events:
            del shelf.events[next(iter(shelf.events))]
        state, ignored = advance(state, event, source)
        if ignored is None and state is not None:
            shelf.state = dump_state(state)
        if len(self._shelves) > self._retention.sessions:
            self._shelves.popitem(last=False)
        return Recorded(event=event, state=state, ignored=ignored)

    def _forget_old(self) -> None:
        oldest = self._now() - self._retention.seconds
        while self._shelves and next(iter(self._shelves.values())).touched <= oldest:
            self._shelves.popitem(last=False)
