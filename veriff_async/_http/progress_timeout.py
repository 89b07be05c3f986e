"""The time limits of one try, by progress."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from veriff_async._protocol.retry import progress_deadline

if TYPE_CHECKING:
    from types import TracebackType

    from veriff_async.config import Timeouts

__all__ = ("ProgressTimeout",)


class ProgressTimeout:
    """Ends a try with `TimeoutError` when no bytes move: a deadline that each piece of a body postpones.

    While the connection is established, aiohttp enforces `Timeouts.connect`, and this enforces only `Timeouts.total`.
    From the first byte that is sent, `count` records each piece. It does not reset the timer, since there may be
    thousands of pieces per second: the timer compares the record when it fires.

    `restart` does not reset it either, because a timer costs as much as the rest of a try's limits. That is correct
    because the timer always fires within `Timeouts.idle` from now, and no deadline that begins later is earlier.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        """Start the limits of one try."""
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._started = self._last = self._loop.time()
        self._bytes = 0
        self._due = self._end = self._started + timeouts.total
        self._deadline = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        """Start the timer."""
        await self._deadline.__aenter__()
        self._timer = self._loop.call_at(min(self._due, self._started + self._timeouts.idle), self._check)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the timer, and raise `TimeoutError` if it ended the try."""
        self._timer.cancel()
        await self._deadline.__aexit__(kind, error, traceback)

    def restart(self) -> None:
        """Start measuring again: the request begins to be sent, or the body of its response to arrive."""
        self._started = self._last = self._loop.time()
        self._bytes = 0
        self._due = min(self._end, self._started + self._timeouts.idle)

    def count(self, count: int) -> None:
        """Record that bytes were sent or received."""
        self._last = self._loop.time()
        # The rate counts from the first piece, since Veriff may need time before it answers.
        if self._bytes == 0:
            self._started = self._last
        self._bytes += count

    def _check(self) -> None:
        if self._bytes:
            until = progress_deadline(self._timeouts, started=self._started, now=self._last, moved=self._bytes)
            self._due = min(self._end, until)
        now = self._loop.time()
        if self._due > now:
            self._timer = self._loop.call_at(min(self._due, now + self._timeouts.idle), self._check)
        else:
            self._deadline.reschedule(self._due)
