"""The time limits of one try, by progress."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from veriff_async._protocol import backoff

if TYPE_CHECKING:
    from types import TracebackType

    from veriff_async.config import Timeouts

__all__ = ("Watch",)


class Watch:
    """Ends a try with `TimeoutError` when nothing moves: a deadline that each piece of a body puts off.

    While the connection is made, aiohttp keeps `Timeouts.connect`, and only `Timeouts.total` is kept here. From the
    first byte that is sent, each piece that moves is noted. A piece does not move the timer, since there may be
    thousands per second: the timer reads the note when it fires.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        """Begin a try."""
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._began = self._last = self._loop.time()
        self._moved = 0
        self._due = self._end = self._began + timeouts.total
        self._deadline = asyncio.timeout(None)
        self._ended = False

    async def __aenter__(self) -> None:
        """Start the timer."""
        await self._deadline.__aenter__()
        self._timer = self._loop.call_at(self._due, self._check)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the timer, and raise `TimeoutError` if it ended the try."""
        self._ended = True
        self._timer.cancel()
        await self._deadline.__aexit__(kind, error, traceback)

    def restart(self) -> None:
        """Measure anew: the request begins to be sent, or the body of its answer to come."""
        if self._ended:  # a writer that aiohttp is still cancelling
            return
        self._began = self._last = self._loop.time()
        self._moved = 0
        self._put_off()
        # The timer of an earlier phase may be later than this deadline.
        self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._check)

    def moved(self, count: int) -> None:
        """Note that bytes were sent or received."""
        self._last = self._loop.time()
        if self._moved == 0:
            self._began = self._last
        self._moved += count

    def _put_off(self) -> None:
        until = backoff.progress_deadline(self._timeouts, began=self._began, now=self._last, moved=self._moved)
        self._due = min(self._end, until)

    def _check(self) -> None:
        if self._moved:
            self._put_off()
        if self._due > self._loop.time():
            self._timer = self._loop.call_at(self._due, self._check)
        else:
            self._deadline.reschedule(self._due)
