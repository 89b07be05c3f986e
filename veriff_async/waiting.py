"""Coroutines that wait for a decision, and the one poller that asks for all of them.

A wait is one future. Whoever learns of a decision shows it to all waits of its session (`Waits.observe`), and the
first that satisfies a wait resolves it: state, not messages, so order, repetition and lateness do not matter.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from itertools import count
from typing import TYPE_CHECKING, Final

from attrs import Factory, define

from veriff_async.errors import (
    ClientClosedError,
    DecisionTimeoutError,
    RateLimitedError,
    ServerError,
    TransportError,
)
from veriff_async.protocol.backoff import poll_pause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status
    from veriff_async.protocol.policies import PollPolicy

__all__ = ("Waits",)

_LOG: Final = logging.getLogger(__name__)

_ASKED_AT_ONCE: Final = 16
"""Questions in flight; a slow answer must not hold up the others, and they must not take the whole pool."""

_PASSING: Final = (TransportError, ServerError, RateLimitedError)


@define(eq=False)
class _Wait:
    """One waiting coroutine."""

    until: Callable[[Decision], bool]
    future: asyncio.Future[Decision]


@define(eq=False)
class _Watched:
    """One session that is waited for."""

    session_id: str
    poll: PollPolicy
    waits: list[_Wait] = Factory(list[_Wait])
    asked: int = 0
    due: float = 0.0
    last_status: Status | None = None


class Waits:
    """All waits of one client."""

    def __init__(self, ask: Callable[[str], Awaitable[Decision | None]], poll: PollPolicy) -> None:
        """Take how a session is asked for its decision, and how often."""
        self._poll = poll
        self._watched: dict[str, _Watched] = {}
        self._poller = _Poller(ask, poll.rate, self)
        self._closed = False

    @property
    def count(self) -> int:
        """How many coroutines wait."""
        return sum(len(watched.waits) for watched in self._watched.values())

    async def wait(
        self,
        session_id: str,
        *,
        until: Callable[[Decision], bool],
        timeout: float | None,  # noqa: ASYNC109  one timer on the future costs a quarter of a cancel scope
        poll: PollPolicy | None = None,
        last_status: Status | None = None,
    ) -> Decision:
        """Return the first decision on a session that satisfies `until`.

        Raises:
            DecisionTimeoutError: `timeout` seconds passed.
            ClientClosedError: The client was closed meanwhile.
            ApiError: Veriff refuses to tell, for example because it does not know the session.
        """
        if self._closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        wait = _Wait(until, loop.create_future())
        watched = self._watched.setdefault(session_id, _Watched(session_id, poll or self._poll))
        watched.waits.append(wait)
        watched.last_status = watched.last_status or last_status
        watched.poll, watched.asked = poll or self._poll, 0
        self._poller.schedule(watched, loop.time())
        timer = None
        if timeout is not None:
            timer = loop.call_later(max(0.0, timeout), self._expire, watched, wait, timeout)
        try:
            return await wait.future
        finally:
            if timer is not None:
                timer.cancel()
            watched.waits.remove(wait)
            if not watched.waits:
                self._watched.pop(session_id, None)
            if not self._watched:
                self._poller.stop()

    def observe(self, decision: Decision) -> None:
        """Show a decision to whoever waits for its session."""
        watched = self._watched.get(decision.session_id)
        if watched is None:
            return
        watched.last_status = decision.status
        for wait in watched.waits:
            if wait.future.done():
                continue
            try:
                if wait.until(decision):
                    wait.future.set_result(decision)
            except Exception as error:  # noqa: BLE001  the caller's own function: its error belongs to its wait alone
                wait.future.set_exception(error)

    def fail(self, session_id: str, error: Exception) -> None:
        """End the waits of a session with an error."""
        watched = self._watched.get(session_id)
        for wait in watched.waits if watched else ():
            if not wait.future.done():
                wait.future.set_exception(error)

    def is_wanted(self, watched: _Watched) -> bool:
        """Tell whether anybody still waits for this session."""
        return self._watched.get(watched.session_id) is watched and not all(w.future.done() for w in watched.waits)

    async def aclose(self) -> None:
        """End every wait and the poller."""
        self._closed = True
        for session_id in tuple(self._watched):
            self.fail(session_id, _closed())
        await self._poller.aclose()

    @staticmethod
    def _expire(watched: _Watched, wait: _Wait, timeout: float) -> None:
        if not wait.future.done():
            last = watched.last_status
            msg = (
                f"No decision on session {watched.session_id} came within {timeout:g} s "
                f"(last status: {last or 'unknown'}): wait again or later, the session goes on."
            )
            error = DecisionTimeoutError(msg, session_id=watched.session_id, last_status=last)
            wait.future.set_exception(error)


class _Poller:
    """Asks for every watched session in turn, never faster than the client's rate; runs only while somebody waits."""

    def __init__(self, ask: Callable[[str], Awaitable[Decision | None]], rate: float, waits: Waits) -> None:
        self._ask = ask
        self._interval = 1 / rate
        self._waits = waits
        self._queue: list[tuple[float, int, _Watched]] = []
        self._order = count()
        self._next_slot = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def schedule(self, watched: _Watched, due: float) -> None:
        """Ask for a session at `due`, on the loop's clock, instead of when it was to be asked."""
        watched.due = due
        heapq.heappush(self._queue, (due, next(self._order), watched))
        self._wake.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="veriff-async poller")
            self._ending.add(self._task)
            self._task.add_done_callback(self._ending.discard)

    def stop(self) -> None:
        """Stop asking, because nobody waits any more."""
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def aclose(self) -> None:
        """Stop, and see the end of it."""
        self.stop()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _run(self) -> None:
        seats = asyncio.Semaphore(_ASKED_AT_ONCE)
        async with asyncio.TaskGroup() as questions:
            while True:
                watched = await self._next()
                await seats.acquire()
                question = questions.create_task(self._question(watched))
                question.add_done_callback(lambda _: seats.release())

    async def _next(self) -> _Watched:
        """Return the session whose turn it is, when it is."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            while self._queue and not self._is_current(*self._queue[0]):
                heapq.heappop(self._queue)
            turn = max(self._queue[0][0], self._next_slot) if self._queue else None
            if turn is not None and turn <= loop.time():
                self._next_slot = max(self._next_slot, loop.time() - self._interval) + self._interval
                return heapq.heappop(self._queue)[2]
            try:
                async with asyncio.timeout_at(turn):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _is_current(self, due: float, _order: int, watched: _Watched) -> bool:
        return due == watched.due and self._waits.is_wanted(watched)

    async def _question(self, watched: _Watched) -> None:
        watched.asked += 1
        watched.due = float("inf")
        try:
            decision = await self._ask(watched.session_id)
        except _PASSING as error:
            _LOG.warning("asking for a decision failed with %s; it will be asked again", type(error).__name__)
        except Exception as error:  # noqa: BLE001  whatever it is, it must reach those who wait
            self._waits.fail(watched.session_id, error)
        else:
            if decision is not None:
                self._waits.observe(decision)
        if self._waits.is_wanted(watched) and watched.due == float("inf"):
            pause = poll_pause(watched.poll, asked=watched.asked)
            self.schedule(watched, asyncio.get_running_loop().time() + pause)


def _closed() -> ClientClosedError:
    return ClientClosedError("The client was closed while somebody waited: wait again with a new client.")
