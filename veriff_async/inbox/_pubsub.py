"""Changes on their way to whoever follows them, from any thread to any loop."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from attrs import Factory, define

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

__all__ = ("Feeds",)

_MOST_BEHIND: Final = 10_000
"""Changes that a slow follower may be behind before it is told to look at everything instead."""


@define(eq=False)
class _Follower:
    """Somebody who follows.

    Attributes:
        loop: Where it lives.
        wake: What it sleeps on.
        behind: What it is yet to be told.
        is_called: Whether it is about to wake.
        ended: Why there is nothing more.
    """

    loop: asyncio.AbstractEventLoop
    wake: asyncio.Event
    behind: deque[str | None] = Factory(deque[str | None])
    is_called: bool = False
    ended: Exception | None = None

    def call(self) -> None:
        """Wake it, from any thread; its loop may end at any moment, and nobody follows then."""
        if not self.is_called:
            self.is_called = True
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.wake.set)


class Feeds:
    """Everybody in this process who follows the changes of one inbox.

    No lock is needed, which a loop would wait for: what threads share are single steps of a set and of deques.
    """

    def __init__(self) -> None:
        """Begin with nobody."""
        self._followers: set[_Follower] = set()

    @property
    def count(self) -> int:
        """How many follow."""
        return len(self._followers)

    def tell(self, session_ids: Iterable[str | None]) -> None:
        """Tell all followers that sessions have changed, or with ``None`` that any may have; from any thread."""
        told = tuple(session_ids)
        for follower in tuple(self._followers):
            if len(follower.behind) + len(told) > _MOST_BEHIND:
                follower.behind.clear()
                follower.behind.append(None)
            else:
                follower.behind.extend(told)
            follower.call()

    def end(self, error: Exception) -> None:
        """End every feed with an error, because its source has broken off."""
        for follower in tuple(self._followers):
            follower.ended = error
            follower.call()

    async def follow(self) -> AsyncGenerator[str | None]:
        """Yield ``None`` once, and then every change from that moment on."""
        follower = _Follower(asyncio.get_running_loop(), asyncio.Event())
        self._followers.add(follower)
        try:
            yield None
            while True:
                await follower.wake.wait()
                follower.wake.clear()
                follower.is_called = False  # before it looks: what is told from now on calls it again
                while follower.behind:
                    try:
                        changed = follower.behind.popleft()
                    except IndexError:  # it has fallen too far behind in between
                        continue
                    yield changed
                if follower.ended is not None:
                    raise follower.ended
        finally:
            self._followers.discard(follower)
