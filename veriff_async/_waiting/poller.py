"""The one poller of a client: it asks for every session that is waited for, in turn, within one rate.

Theory of operation: a heap holds the paces by the time at which they are due. An entry counts only while its time is
still that of its pace; an entry that was replaced, or whose waits have ended, stays in the heap until its turn or until
such entries outnumber the others. The loop takes a free seat, sleeps until the first entry is due and the rate allows a
question, and asks in a task of its own. However a question ends, its pace is scheduled again while a wait needs it.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from veriff_async._event_loop import is_being_cancelled
from veriff_async._waiting.task import RestartableTask
from veriff_async.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async._waiting.registry import Pace, Watched

__all__ = ("Poller",)

_LOG: Final = logging.getLogger("veriff_async.waiting")

_ASKED_AT_ONCE: Final = 16
"""Questions in flight; a slow answer must not hold up the others, and they must not take the whole pool."""

_LONGEST_HOLD: Final = 60.0
"""Seconds for which one ``Retry-After`` stops all questions: a larger value, meant or not, would silence every wait."""

_FEW: Final = 64
"""Outdated entries of the heap that are never worth a cleaning."""

_NEVER: Final = float("inf")


class Poller:
    """Asks for every session in turn, never faster than the client's rate; runs only while a wait is open.

    Args:
        ask: Asks for a session and shows the decision to its waits.
        rate: Most questions in a second.
        pause: Returns the seconds until a pace asks again.
        fail: Called with a session and the error of its question; returns whether the waits go on.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[None]],
        *,
        rate: float,
        pause: Callable[[Pace], float],
        fail: Callable[[Watched, Exception], bool],
    ) -> None:
        """Start nothing yet."""
        self._ask = ask
        self._interval = 1 / rate
        self._pause = pause
        self._fail = fail
        self._queue: list[tuple[float, int, Pace]] = []
        self._outdated = 0
        self._order = count()
        self._next_slot = 0.0
        self._trouble: str | None = None
        self._wake = asyncio.Event()
        self._task = RestartableTask("veriff-async poller", self._run)

    def schedule(self, pace: Pace, pause: float) -> None:
        """Ask on behalf of a pace in `pause` seconds, instead of when it was due."""
        self._outdate(pace)
        pace.due = asyncio.get_running_loop().time() + pause
        heapq.heappush(self._queue, (pace.due, next(self._order), pace))
        if self._queue[0][2] is pace:  # else the poller sleeps until an earlier turn anyway
            self._wake.set()
        self._task.start()

    def forget(self, pace: Pace) -> None:
        """Ask no more on behalf of a pace, because its last wait has ended."""
        self._outdate(pace)

    def stop(self) -> None:
        """Stop asking, because no wait is open."""
        self._queue.clear()
        self._outdated = 0
        self._task.stop()

    async def aclose(self) -> None:
        """Stop, and wait for the end of the questions in flight."""
        self.stop()
        await self._task.aclose()

    def _outdate(self, pace: Pace) -> None:
        if pace.due == _NEVER:
            return
        pace.due = _NEVER
        self._outdated += 1
        if self._outdated > _FEW and 2 * self._outdated > len(self._queue):
            self._queue = [entry for entry in self._queue if entry[0] == entry[2].due]
            heapq.heapify(self._queue)
            self._outdated = 0

    async def _run(self) -> None:
        seats = asyncio.Semaphore(_ASKED_AT_ONCE)
        questions: set[asyncio.Task[None]] = set()
        asking: set[str] = set()
        loop = asyncio.get_running_loop()
        try:
            while True:
                # The seat first: between the taking of a turn and its question nothing may be awaited, or lost.
                await seats.acquire()
                pace = await self._next()
                question = loop.create_task(self._question(pace, asking), name="veriff-async question")
                questions.add(question)
                question.add_done_callback(partial(self._on_end, pace))
                question.add_done_callback(questions.discard)
                question.add_done_callback(lambda _: seats.release())
        finally:
            for question in questions:
                question.cancel()
            await asyncio.gather(*questions, return_exceptions=True)

    async def _next(self) -> Pace:
        """Return the pace whose turn it is, when it is."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            while self._queue and not self._is_current(self._queue[0]):
                heapq.heappop(self._queue)
            turn = max(self._queue[0][0], self._next_slot) if self._queue else None
            if turn is not None and turn <= loop.time():
                self._next_slot = max(self._next_slot, loop.time() - self._interval) + self._interval
                pace = heapq.heappop(self._queue)[2]
                pace.due = _NEVER
                return pace
            try:
                async with asyncio.timeout_at(turn):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _is_current(self, entry: tuple[float, int, Pace]) -> bool:
        due, _, pace = entry
        if due != pace.due:
            self._outdated = max(0, self._outdated - 1)
            return False
        if not pace.is_wanted:  # the next wait has to schedule it
            pace.due = _NEVER
            return False
        return True

    async def _question(self, pace: Pace, asking: set[str]) -> None:
        watched = pace.session
        pace.asked += 1
        if watched.session_id in asking:  # for another pace; that answer serves this one too
            return
        asking.add(watched.session_id)
        try:
            await self._ask(watched.session_id)
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            self._note(watched, error)
        except Exception as error:  # noqa: BLE001  whichever it is, the waits go on or end with it
            if self._fail(watched, error):
                self._note(watched, error)
        else:
            watched.trouble = self._trouble = None
        finally:
            asking.discard(watched.session_id)

    def _on_end(self, pace: Pace, question: asyncio.Task[None]) -> None:
        if not question.cancelled() and (error := question.exception()) is not None:
            _LOG.warning("asking for a decision failed with %s; it will be asked again", type(error).__name__)
        if pace.is_wanted and pace.due == _NEVER:
            self.schedule(pace, self._pause(pace))

    def _note(self, watched: Watched, error: BaseException) -> None:
        """Log a failure once for a session and once for an outage, and slow down when Veriff asks for it."""
        kind = type(error).__name__
        before, times = watched.trouble or ("", 0)
        if kind not in {before, self._trouble}:
            _LOG.warning("asking for a decision failed with %s; it will be asked again", kind)
        watched.trouble = kind, times + 1 if kind == before else 1
        self._trouble = kind
        pause = error.retry_after if isinstance(error, ApiError) else None
        if pause is not None:
            until = asyncio.get_running_loop().time() + min(pause, _LONGEST_HOLD)
            self._next_slot = max(self._next_slot, until)
