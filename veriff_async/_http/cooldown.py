"""The pause that all requests of a client share after a 429 or 503."""

from __future__ import annotations

import asyncio
from collections import deque

from veriff_async._protocol.slow_start import SlowStart

__all__ = ("Cooldown",)


class Cooldown:
    """Lets requests start in the order in which they came, at the rate that `SlowStart` allows.

    One timer releases the first request of the queue. A request that cannot start before its deadline is released with
    the result false, so that no call waits longer than its budget.
    """

    def __init__(self) -> None:
        """Start without a limit."""
        self._slow_start = SlowStart()
        self._queue: deque[asyncio.Future[bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paused = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of all pauses so far."""
        return self._paused - self.remaining

    @property
    def remaining(self) -> float:
        """Seconds until requests start again; zero when they do."""
        return 0.0 if self._loop is None else max(0.0, self._slow_start.resumes - self._loop.time())

    @property
    def waiting(self) -> int:
        """Number of requests that wait for the pause, or for the rate after it."""
        return sum(not ready.done() for ready in tuple(self._queue))

    def pause(self, seconds: float, *, started: float) -> None:
        """Hold all requests back, because one that was sent at `started` was refused."""
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        # A pause may begin during another one, whose rest counts only once.
        self._paused -= max(now, self._slow_start.resumes)
        self._slow_start.pause(now, seconds, started=started)
        self._paused += self._slow_start.resumes

    def start(self, now: float) -> bool:
        """Start a request and return true, unless requests wait; then call `wait`."""
        if self._queue or self._slow_start.next_start > now:
            return False
        self._slow_start.start(now, waited=False)
        return True

    async def wait(self, deadline: float) -> bool:
        """Return true as soon as a request may start, or false if that is not before the deadline."""
        loop = asyncio.get_running_loop()
        if self._slow_start.resumes > deadline:
            return False
        ready: asyncio.Future[bool] = loop.create_future()
        self._queue.append(ready)
        if self._timer is None:
            self._release()
        # Its own timer: a pause may keep `_release` from looking at the queue until after the deadline.
        expiry = loop.call_at(deadline, _resolve, ready, False)  # noqa: FBT003  the answer to "may it start?"
        try:
            return await ready
        finally:
            expiry.cancel()

    def _release(self) -> None:
        """Start the requests that are due, and set the timer for the next one."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._queue:
            if not self._queue[0].done():  # else it expired, or its call was cancelled
                now = loop.time()
                # A pause may have begun since the timer was set; then this sets it again.
                start = self._slow_start.next_start
                if start > now:
                    self._timer = loop.call_at(start, self._release)
                    return
                self._slow_start.start(now, waited=True)
                self._queue[0].set_result(True)
            self._queue.popleft()


def _resolve(ready: asyncio.Future[bool], result: bool) -> None:  # noqa: FBT001
    if not ready.done():
        ready.set_result(result)
