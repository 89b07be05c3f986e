"""The slow-down that all requests of a client share."""

from __future__ import annotations

import asyncio
from collections import deque

from veriff_async._protocol.slow_start import Recovery

__all__ = ("Pace",)


class Pace:
    """Lets requests start in the order in which they came, at the rate that `Recovery` allows.

    One timer releases the first request of the queue. A request that cannot start before its deadline is released with
    the news that it is too late, so that no call waits longer than its budget.
    """

    def __init__(self) -> None:
        """Begin without a limit."""
        self._recovery = Recovery()
        self._queue: deque[asyncio.Future[bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def cooldown_remaining(self) -> float:
        """Seconds until requests start again; zero when they do."""
        return 0.0 if self._loop is None else max(0.0, self._recovery.resumes - self._loop.time())

    def slow_down(self, seconds: float, *, started: float) -> None:
        """Hold all requests back, because one that was sent at `started` was refused."""
        self._loop = asyncio.get_running_loop()
        self._recovery.slow_down(self._loop.time(), seconds, started=started)

    async def wait(self, deadline: float) -> bool:
        """Return when a request may start: true, or false if that is not before the deadline."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._queue and self._recovery.next_start <= now:
            self._recovery.start(now, waited=False)
            return True
        if self._recovery.resumes > deadline:
            return False
        turn: asyncio.Future[bool] = loop.create_future()
        self._queue.append(turn)
        if self._timer is None:
            self._release()
        expiry = loop.call_at(deadline, _resolve, turn, False)  # noqa: FBT003  the answer to "may it start?"
        try:
            return await turn
        finally:
            expiry.cancel()

    def _release(self) -> None:
        """Let the requests start whose time has come, and wake up again for the next one."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._queue:
            if not self._queue[0].done():  # else it expired, or its call was cancelled
                now = loop.time()
                # A slow-down that came meanwhile is seen here: the timer of an earlier time only looks again.
                start = self._recovery.next_start
                if start > now:
                    self._timer = loop.call_at(start, self._release)
                    return
                self._recovery.start(now, waited=True)
                self._queue[0].set_result(True)
            self._queue.popleft()


def _resolve(turn: asyncio.Future[bool], result: bool) -> None:  # noqa: FBT001
    if not turn.done():
        turn.set_result(result)
