"""Changes on their way to whoever follows them, from any thread to any loop."""

from __future__ import annotations

import asyncio
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Final

from attrs import Factory, define

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

__all__ = ("Feeds",)

_MOST_BEHIND: Final = 10_000
"""Changes that a slow follower may be behind before it is told to look at everything instead."""


@define(eq=False)
class _Follower:
    loop: asyncio.AbstractEventLoop
    wake: asyncio.Event
    behind: deque[str | None] = Factory(deque[str | None])
    ended: Exception | None = None


class Feeds:
    """Everybody in this process who follows the changes of one inbox."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._followers: set[_Follower] = set()
        self._lock = Lock()

    @property
    def count(self) -> int:
        """How many follow."""
        return len(self._followers)

    def tell(self, session_ids: Iterable[str | None]) -> None:
        """Tell all followers that sessions have changed, or with ``None`` that any may have; from any thread."""
        told = tuple(session_ids)
        with self._lock:
            for follower in self._followers:
                is_asleep = not follower.behind
                if len(follower.behind) + len(told) > _MOST_BEHIND:
                    follower.behind.clear()
                    follower.behind.append(None)
                else:
                    follower.behind.extend(told)
                if is_asleep:
                    self._wake(follower)

    def end(self, error: Exception) -> None:
        """End every feed with an error, because its source has broken off."""
        with self._lock:
            for follower in self._followers:
                follower.ended = error
                self._wake(follower)

    async def follow(self) -> AsyncGenerator[str | None]:
        """Yield ``None`` once, and then every change from that moment on."""
        follower = _Follower(asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._followers.add(follower)
        try:
            yield None
            while True:
                await follower.wake.wait()
                follower.wake.clear()
                while follower.behind:
                    with self._lock:
                        changed = follower.behind.popleft()
                    yield changed
                if follower.ended is not None:
                    raise follower.ended
        finally:
            with self._lock:
                self._followers.discard(follower)

    @staticmethod
    def _wake(follower: _Follower) -> None:
        if not follower.loop.is_closed():
            follower.loop.call_soon_threadsafe(follower.wake.set)
