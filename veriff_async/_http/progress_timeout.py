"""The time limit of one attempt, which each piece of a body postpones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veriff_async._http.interruption import Interruption
from veriff_async._protocol.retry import progress_deadline

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType
    from typing import Any

    from veriff_async.config import Timeouts

__all__ = ("ProgressTimeout",)


class ProgressTimeout(Interruption):
    """Ends an attempt with `TimeoutError` when no bytes move: a deadline that each piece of a body postpones.

    While the connection is established, aiohttp enforces `Timeouts.connect`, and this enforces only `Timeouts.total`.
    From the first byte that is sent, `count` records each piece. It does not reset the timer, since there may be
    thousands of pieces per second: the timer compares the record when it fires.

    `start_sending` and `start_receiving` do not reset it either, because a timer costs more than all the rest of this
    class. That is correct because the timer always fires within `Timeouts.idle` from now, and no deadline that begins
    later is earlier.
    """

    __slots__ = ("_begun", "_bytes", "_has_started", "_last", "_loop", "_sent", "_started", "_timeouts", "_timer")

    def __init__(self, timeouts: Timeouts, task: asyncio.Task[Any]) -> None:
        """Start the limits of one attempt, which `task` makes."""
        self.begin(task)
        self._loop = task.get_loop()
        self._timeouts = timeouts
        self._begun = self._loop.time()
        self._has_started = False
        self._bytes = 0
        # Bytes of the request's body, once the response has begun.
        self._sent: int | None = None

    def __enter__(self) -> None:
        """Start the timer."""
        limits = self._timeouts
        self._timer = self._loop.call_at(self._begun + min(limits.total, limits.idle), self._check)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the timer, and raise `TimeoutError` if it ended the attempt."""
        self._timer.cancel()
        if self.end(kind):
            raise TimeoutError from error

    @property
    def bytes_sent(self) -> int:
        """Bytes of the request's body that were handed to the connection."""
        return self._bytes if self._sent is None else self._sent

    @property
    def bytes_received(self) -> int:
        """Bytes of the response's body that have arrived."""
        return 0 if self._sent is None else self._bytes

    def start_sending(self) -> None:
        """Start measuring again: the request begins to be sent."""
        self._has_started = True
        self._started = self._loop.time()

    def start_receiving(self) -> None:
        """Start measuring again: the head of the response has arrived."""
        self._sent, self._bytes = self._bytes, 0
        self.start_sending()

    def count(self, count: int) -> None:
        """Record that bytes were sent or received."""
        self._last = self._loop.time()
        # The rate counts from the first piece, since Veriff may need time before it answers.
        if self._bytes == 0:
            self._started = self._last
        self._bytes += count

    def _check(self) -> None:
        limits = self._timeouts
        due = self._begun + limits.total
        if self._bytes:
            due = min(due, progress_deadline(limits, started=self._started, now=self._last, moved=self._bytes))
        elif self._has_started:
            due = min(due, self._started + limits.idle)
        now = self._loop.time()
        if due > now:
            self._timer = self._loop.call_at(min(due, now + limits.idle), self._check)
        else:
            self.interrupt()
