"""The poller of a client: polls every session that has waiters, in turn, at one rate.

A heap holds the schedules by the time at which each is due. Removing or moving an entry inside a heap is slow, so an
entry stays where it is and becomes *stale* when its schedule gets another time or is cancelled:

    an entry is current  ⇔  its time is that of its schedule (`schedule.due`)
    a schedule that is not in the heap, because it is being polled or was cancelled, has `due` = infinity

Stale entries are dropped when they reach the top, or all together once they outnumber the current ones, so the heap
stays proportional to the number of sessions. Loop timers instead of the heap were measured: 9 % more memory per waiter.

The loop (`_run`) takes a permit, waits until the first schedule is due and the rate allows a request, and polls in a
task of its own. However that task ends, `_on_poll_done` schedules the next poll while waiters need one. The poller runs
only while there are waiters.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from veriff_async._event_loop import is_being_cancelled
from veriff_async._logging import log_fields
from veriff_async._protocol.poll_interval import MAX_CONCURRENT_POLLS, next_slot
from veriff_async._waiting.failure_timer import FailureTimer
from veriff_async._waiting.task import RestartableTask
from veriff_async.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextvars import Context

    from veriff_async._waiting.registry import PollSchedule, SessionWaiters

__all__ = ("PollHandler", "Poller")

_LOG: Final = logging.getLogger("veriff_async.waiting")

# Seconds for which one ``Retry-After`` stops all polls; a larger value, even by mistake, would stall every wait.
_MAX_RETRY_AFTER: Final = 60.0

# Fewer stale entries than this are never removed together.
_MIN_STALE_ENTRIES: Final = 64

_NEVER: Final = float("inf")


class PollHandler(Protocol):
    """The owner of a poller: it polls one session and decides how polling continues."""

    async def poll(self, session_id: str) -> None:
        """Ask Veriff for the decision on a session, and notify its waiters."""
        ...

    def poll_interval(self, schedule: PollSchedule) -> float:
        """Return the seconds until a schedule is due again."""
        ...

    def on_poll_error(self, session: SessionWaiters, error: Exception) -> bool:
        """Handle a failed poll, and return whether the waiters of its session continue to wait."""
        ...

    def background_context(self) -> Context | None:
        """Return the context of the poller; ``None`` stands for that of the wait that starts it."""
        ...

    def poll_context(self, session: SessionWaiters) -> Context | None:
        """Return the context of a poll; ``None`` stands for that of the poller."""
        ...


class Poller:
    """Polls sessions in the order in which they are due, and never faster than the client's rate."""

    def __init__(self, handler: PollHandler, *, max_rate: float) -> None:
        """Start nothing yet."""
        self._handler = handler
        self._max_rate = max_rate
        self._other_rates: list[float] = []
        self._heap: list[tuple[float, int, PollSchedule]] = []
        self._stale_count = 0
        self._tie_breaker = count()
        self._next_slot = 0.0
        self._last_error: str | None = None
        self._outage = FailureTimer()
        self._wake = asyncio.Event()
        self._task = RestartableTask("veriff-async poller", self._run, handler.background_context)

    @contextmanager
    def at_rate(self, rate: float) -> Generator[None]:
        """Poll at another rate during the block, in polls per second; of several such blocks the highest counts."""
        self._other_rates.append(rate)
        try:
            yield
        finally:
            self._other_rates.remove(rate)

    def schedule(self, schedule: PollSchedule, delay: float) -> None:
        """Make a schedule due in `delay` seconds, instead of when it was due."""
        self.cancel(schedule)
        schedule.due = asyncio.get_running_loop().time() + delay
        heapq.heappush(self._heap, (schedule.due, next(self._tie_breaker), schedule))
        if self._heap[0][2] is schedule:  # otherwise the poller wakes earlier anyway
            self._wake.set()
        self._task.start()

    def poll_now(self, session: SessionWaiters) -> None:
        """Poll a session as soon as the rate allows, regardless of the schedules of its waiters."""
        session.is_announced = True
        schedule = session.needed_schedule
        if schedule is not None:
            self.schedule(schedule, 0.0)

    def cancel(self, schedule: PollSchedule) -> None:
        """Make a schedule never due, because its last waiter has gone."""
        if schedule.due == _NEVER:
            return
        schedule.due = _NEVER
        self._stale_count += 1
        if self._stale_count > _MIN_STALE_ENTRIES and 2 * self._stale_count > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[0] == entry[2].due]
            heapq.heapify(self._heap)
            self._stale_count = 0

    def stop(self) -> None:
        """Stop polling, because the last waiter has gone."""
        self._heap.clear()
        self._stale_count = 0
        self._task.stop()

    async def aclose(self) -> None:
        """Stop polling, and wait for the end of the polls in flight."""
        self.stop()
        await self._task.aclose()

    async def _run(self) -> None:
        permits = asyncio.Semaphore(MAX_CONCURRENT_POLLS)
        polls: set[asyncio.Task[None]] = set()
        in_flight: set[str] = set()
        loop = asyncio.get_running_loop()
        try:
            while True:
                # The permit comes first: an await between `_next` and the poll could be cancelled, and lose the
                # schedule.
                await permits.acquire()
                schedule = await self._next()
                context = self._handler.poll_context(schedule.session)
                poll = loop.create_task(self._poll(schedule, in_flight), name="veriff-async poll", context=context)
                polls.add(poll)
                poll.add_done_callback(partial(self._on_poll_done, schedule, in_flight))
                poll.add_done_callback(polls.discard)
                poll.add_done_callback(lambda _: permits.release())
        finally:  # the polls in flight are for waiters that have gone
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)

    async def _next(self) -> PollSchedule:
        """Return the next schedule, once it is due and the rate allows a poll."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            while self._heap and not self._is_current(self._heap[0]):
                heapq.heappop(self._heap)
            start = max(self._heap[0][0], self._next_slot) if self._heap else None
            if start is not None and start <= loop.time():
                spacing = 1 / max(self._other_rates, default=self._max_rate)
                self._next_slot = next_slot(self._next_slot, now=loop.time(), spacing=spacing)
                schedule = heapq.heappop(self._heap)[2]
                schedule.due = _NEVER
                return schedule
            try:
                async with asyncio.timeout_at(start):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _is_current(self, entry: tuple[float, int, PollSchedule]) -> bool:
        due, _, schedule = entry
        if due != schedule.due:
            self._stale_count = max(0, self._stale_count - 1)
            return False
        if not schedule.is_needed:  # its waiters are about to leave; the next one schedules it again
            schedule.due = _NEVER
            return False
        return True

    async def _poll(self, schedule: PollSchedule, in_flight: set[str]) -> None:
        session = schedule.session
        schedule.polls += 1
        if session.session_id in in_flight:  # for another schedule; that response serves this one too
            return
        in_flight.add(session.session_id)
        session.is_announced = False
        try:
            await self._handler.poll(session.session_id)
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            self._on_error(session, error)
        except Exception as error:  # noqa: BLE001  the handler decides for every kind of error
            if self._handler.on_poll_error(session, error):
                self._on_error(session, error)
        else:
            session.poll_failures = self._last_error = None
            self._log_success()
        finally:
            in_flight.discard(session.session_id)

    def _on_poll_done(self, schedule: PollSchedule, in_flight: set[str], poll: asyncio.Task[None]) -> None:
        if not poll.cancelled() and (error := poll.exception()) is not None:
            name = type(error).__name__
            _LOG.warning("A poll failed with %s; it is retried.", name, extra=log_fields(error=name))
        session = schedule.session
        if session.is_announced and session.session_id not in in_flight:
            self.poll_now(session)  # the decision was announced during the poll, whose response may be older
        if schedule.is_needed and schedule.due == _NEVER:
            self.schedule(schedule, self._handler.poll_interval(schedule))

    def _log_success(self) -> None:
        seconds = self._outage.failing_for
        if seconds:
            _LOG.info("Polls succeed again after %.0f s.", seconds, extra=log_fields(failing_for=seconds))
        self._outage.end()

    def _on_error(self, session: SessionWaiters, error: BaseException) -> None:
        """Log an error once per session and once per outage, and obey ``Retry-After``."""
        error_type = type(error).__name__
        previous_type, times = session.poll_failures or ("", 0)
        if error_type not in {previous_type, self._last_error}:
            fields = log_fields(error=error_type, session_id=session.session_id)
            _LOG.info("A poll failed with %s; it is retried.", error_type, extra=fields)
        self._outage.fail()
        if self._outage.must_report():
            seconds = self._outage.failing_for
            fields = log_fields(error=error_type, failing_for=seconds)
            _LOG.warning(
                "All polls have failed for %.0f s, at last with %s: check the network.",
                seconds,
                error_type,
                extra=fields,
            )
        session.poll_failures = error_type, times + 1 if error_type == previous_type else 1
        self._last_error = error_type
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        if retry_after is not None:
            resume_at = asyncio.get_running_loop().time() + min(retry_after, _MAX_RETRY_AFTER)
            self._next_slot = max(self._next_slot, resume_at)
