"""Publishes the ids of sessions that changed to the subscribers of an inbox, from any thread to any event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from attrs import Factory, define

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

__all__ = ("Broadcaster",)

# Changes that a slow subscriber may have waiting; with more, it is asked to read all states instead.
_MAX_BACKLOG: Final = 10_000


@define(eq=False)
class _Subscriber:
    """One subscription."""

    loop: asyncio.AbstractEventLoop
    wake: asyncio.Event
    backlog: deque[str | None] = Factory(deque[str | None])
    is_waking: bool = False
    error: Exception | None = None

    def notify(self) -> None:
        """Wake the subscriber, from any thread; its loop may be closed at any moment, and then nothing reads it."""
        if not self.is_waking:
            self.is_waking = True
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.wake.set)


class Broadcaster:
    """The subscribers of one inbox in this process.

    It has no lock, for which an event loop would have to wait: threads share a set and deques, whose single
    operations are atomic.
    """

    def __init__(self) -> None:
        """Start without subscribers."""
        self._subscribers: set[_Subscriber] = set()

    @property
    def count(self) -> int:
        """The number of subscribers."""
        return len(self._subscribers)

    def publish(self, session_ids: Iterable[str | None]) -> None:
        """Report that sessions have changed, or with ``None`` that any may have; from any thread."""
        if not self._subscribers:
            return
        changes = tuple(session_ids)
        for subscriber in tuple(self._subscribers):
            # Dropping changes is safe: they are hints, and the subscriber reads the states themselves after None.
            if len(subscriber.backlog) + len(changes) > _MAX_BACKLOG:
                subscriber.backlog.clear()
                subscriber.backlog.append(None)
            else:
                subscriber.backlog.extend(changes)
            subscriber.notify()

    def end(self, error: Exception) -> None:
        """End every subscription with an error, because the source of changes has failed."""
        for subscriber in tuple(self._subscribers):
            subscriber.error = error
            subscriber.notify()

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield ``None`` once, and then every change from that moment on."""
        # Registered before the first None is yielded, so that no change is missed after it.
        subscriber = _Subscriber(asyncio.get_running_loop(), asyncio.Event())
        self._subscribers.add(subscriber)
        try:
            yield None
            while True:
                await subscriber.wake.wait()
                subscriber.wake.clear()
                # Before the backlog is read: a change that is published from now on sets `wake` again.
                subscriber.is_waking = False
                while subscriber.backlog:
                    try:
                        session_id = subscriber.backlog.popleft()
                    except IndexError:  # `publish` has cleared a backlog that was too long, and is about to add None
                        continue
                    yield session_id
                if subscriber.error is not None:
                    raise subscriber.error
        finally:
            self._subscribers.discard(subscriber)
