"""The inbox of one process: nothing to set up, and gone with the process."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from contextlib import aclosing
from threading import Lock
from typing import TYPE_CHECKING, Final, Self

from attrs import define, field

from veriff_async.errors import InboxError
from veriff_async.inbox.feeds import Feeds
from veriff_async.models.decision import DecisionSource
from veriff_async.models.state import Ignored, Recorded
from veriff_async.protocol.ledger import advance
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
    """What is kept of one session."""

    events: deque[WebhookEvent]
    keys: set[str] = field(factory=set[str])
    state: SessionState | None = None
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
            return {session_id: shelf.state for session_id, shelf in found if shelf and shelf.state}

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
            return tuple(shelf.events) if shelf else ()

    async def aclose(self) -> None:
        """Forget everything, and end the feeds."""
        with self._lock:
            self._shelves.clear()
        self._feeds.end(InboxError("The inbox was closed: wait beside another one."))

    def _keep(self, event: WebhookEvent, source: DecisionSource) -> Recorded:
        self._forget_old()
        session_id = event.session_id or None
        shelf = self._shelves.setdefault(session_id, _Shelf(deque()))
        self._shelves.move_to_end(session_id)
        shelf.touched = self._now()
        if event.key in shelf.keys:
            return Recorded(event=event, state=shelf.state, ignored=Ignored.REPEATED)
        shelf.events.append(event)
        shelf.keys.add(event.key)
        if len(shelf.events) > self._retention.events:
            shelf.keys.discard(shelf.events.popleft().key)
        shelf.state, ignored = advance(shelf.state, event, source)
        if len(self._shelves) > self._retention.sessions:
            self._shelves.popitem(last=False)
        return Recorded(event=event, state=shelf.state, ignored=ignored)

    def _forget_old(self) -> None:
        oldest = self._now() - self._retention.seconds
        while self._shelves and next(iter(self._shelves.values())).touched <= oldest:
            self._shelves.popitem(last=False)
