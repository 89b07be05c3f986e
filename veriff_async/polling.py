"""The one poller of a client: it asks for every session that is waited for, in turn, within one rate."""

from __future__ import annotations

import asyncio
import heapq
import logging
from itertools import count
from typing import TYPE_CHECKING, Final

from veriff_async.errors import ApiError, RateLimitedError, ServerError, TransportError
from veriff_async.lone import Lone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.errors import VeriffError
    from veriff_async.models.decision import Decision
    from veriff_async.watched import Watched

__all__ = ("Poller",)

_LOG: Final = logging.getLogger("veriff_async.waiting")

_ASKED_AT_ONCE: Final = 16
"""Questions in flight; a slow answer must not hold up the others, and they must not take the whole pool."""

_PASSING: Final = (TransportError, ServerError, RateLimitedError)


class Poller:
    """Asks for every watched session in turn, never faster than the client's rate; runs only while somebody waits."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Decision | None]],
        *,
        rate: float,
        pause: Callable[[Watched], float],
        learn: Callable[[Decision], Awaitable[None]],
    ) -> None:
        """Take how a session is asked for, how often in a second, after which pause again, and who learns of it."""
        self._ask = ask
        self._interval = 1 / rate
        self._pause = pause
        self._learn = learn
        self._queue: list[tuple[float, int, Watched]] = []
        self._order = count()
        self._next_slot = 0.0
        self._wake = asyncio.Event()
        self._task = Lone("veriff-async poller")

    def schedule(self, watched: Watched, pause: float) -> None:
        """Ask for a session in `pause` seconds, instead of when it was to be asked."""
        loop = asyncio.get_running_loop()
        watched.due = loop.time() + pause
        heapq.heappush(self._queue, (watched.due, next(self._order), watched))
        if self._queue[0][2] is watched:  # else whoever sleeps until the first turn need not wake for this one
            self._wake.set()
        self._task.begin(self._run)

    def stop(self) -> None:
        """Stop asking, because nobody waits any more."""
        self._queue.clear()
        self._task.stop()

    async def aclose(self) -> None:
        """Stop, and see the end of it."""
        self.stop()
        await self._task.aclose()

    async def _run(self) -> None:
        seats = asyncio.Semaphore(_ASKED_AT_ONCE)
        async with asyncio.TaskGroup() as questions:
            while True:
                watched = await self._next()
                await seats.acquire()
                question = questions.create_task(self._question(watched))
                question.add_done_callback(lambda _: seats.release())

    async def _next(self) -> Watched:
        """Return the session whose turn it is, when it is."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            while self._queue and not _is_current(*self._queue[0]):
                due, _, watched = heapq.heappop(self._queue)
                if due == watched.due:  # nobody waits for it any more; whoever comes now has to schedule it
                    watched.due = float("inf")
            turn = max(self._queue[0][0], self._next_slot) if self._queue else None
            if turn is not None and turn <= loop.time():
                self._next_slot = max(self._next_slot, loop.time() - self._interval) + self._interval
                return heapq.heappop(self._queue)[2]
            try:
                async with asyncio.timeout_at(turn):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _question(self, watched: Watched) -> None:
        watched.asked += 1
        watched.due = float("inf")
        try:
            decision = await self._ask(watched.session_id)
            if decision is not None:
                await self._learn(decision)
        except _PASSING as error:
            _LOG.warning("asking for a decision failed with %s; it will be asked again", type(error).__name__)
            self._hold(error)
        except Exception as error:  # noqa: BLE001  whatever it is, it must reach those who wait
            watched.fail(error)
        if watched.is_wanted and watched.due == float("inf"):
            self.schedule(watched, self._pause(watched))

    def _hold(self, error: VeriffError) -> None:
        """Ask for no session before Veriff wants to be asked again, however long that is."""
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is not None:
            self._next_slot = max(self._next_slot, asyncio.get_running_loop().time() + asked)


def _is_current(due: float, _order: int, watched: Watched) -> bool:
    return due == watched.due and watched.is_wanted
