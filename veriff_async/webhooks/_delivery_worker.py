"""Passes events from an inbox to the handlers of a receiver, on one event loop.

    lease     one task leases as many due events as can start now: when this process has recorded one, when an attempt
              has ended, and about once a second, for events of other processes and for retries
    handle    each event has a task of its own (`_delivery_attempt`), which also settles it
    extend    while attempts run, a timer extends their leases, three times in the duration of a lease

The inbox guarantees the rest: it stores the queue with the event, and leases one event of each session at a time.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Final

from veriff_async.webhooks._delivery_attempt import CURRENT_ATTEMPT, AttemptContext, DeliveryAttempt
from veriff_async.webhooks._delivery_queue import DeliveryQueue

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextvars import Context

    from veriff_async._telemetry.webhooks import ReceiverTelemetry
    from veriff_async.config import DeliveryPolicy
    from veriff_async.inbox._protocol import DeliveryInbox
    from veriff_async.webhooks._delivery_attempt import DeliveryCounters
    from veriff_async.webhooks._handlers import HandlerRegistry

__all__ = ("DeliveryWorker",)

# Seconds between two tries to lease while the inbox fails.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0


class DeliveryWorker:
    """Leases events and starts attempts; no method but `handle_pending` delays its caller.

    Args:
        inbox: The inbox.
        handlers: The handlers.
        policy: When events are leased and retried.
        max_running: Events that are handled at the same time.
        tasks: The set of running tasks, through which the owner can end them.
        counters: Shared by the workers of all event loops.
        context: The context of the calls: that of one request must not leak into calls for other events.
        is_shared: Whether other processes can handle the events that this one leaves.
        telemetry: Exports a span for each call, if spans are exported.
    """

    def __init__(  # noqa: PLR0913  what all attempts share
        self,
        inbox: DeliveryInbox,
        handlers: HandlerRegistry,
        *,
        policy: DeliveryPolicy,
        max_running: int,
        tasks: set[asyncio.Task[object]],
        counters: DeliveryCounters,
        context: Context,
        is_shared: bool,
        telemetry: ReceiverTelemetry | None = None,
    ) -> None:
        """Start idle."""
        self._queue = DeliveryQueue(inbox, policy.lease)
        self._policy = policy
        self._max_running = max_running
        self._tasks = tasks
        self._context = context
        self._is_shared = is_shared
        self._attempt_context = AttemptContext(inbox, self._queue, handlers, policy, counters, telemetry)
        self._attempts: dict[str, DeliveryAttempt] = {}
        # Those whose handlers call `handle_pending`, once for each call.
        self._waiting_attempts: list[DeliveryAttempt] = []
        self._leasing: asyncio.Task[object] | None = None
        self._has_work = asyncio.Event()
        self._heartbeat: asyncio.TimerHandle | None = None
        self._has_recorded = False
        self._is_polling = False
        self._is_closing = False
        self._is_closed = False

    @property
    def running(self) -> int:
        """The number of events that are being handled."""
        return len(self._attempts)

    def start(self) -> None:
        """Look for events that are due, now and from time to time, until `close`; needs a running loop."""
        if self._policy.background and not self._is_closing:
            self._is_polling = True
            self._ensure_leasing()

    def wake(self) -> None:
        """Handle the events that this process has recorded; needs a running loop."""
        if self._policy.background and not self._is_closed:
            self._has_recorded = True
            self._ensure_leasing()

    def stop_leasing(self) -> None:
        """Lease no more events from now on; may be called in another thread.

        Events that this process has just recorded are leased once more, and all events of an inbox that no other
        process shares.
        """
        self._is_closing = True

    def end_wait(self) -> None:
        """Let the task that leases notice `stop_leasing` now; in the loop of this worker."""
        self._has_work.set()

    def close(self) -> None:
        """Start nothing from now on."""
        self._is_closing = self._is_closed = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()

    async def handle_pending(self, limit: int | None) -> int:
        """Handle events that are due, wait for all that run, and return the number of attempts.

        Raises:
            Exception: The inbox failed; this was logged.
        """
        own = CURRENT_ATTEMPT.get()
        if own is None:
            return await self._handle_pending(limit)
        self._waiting_attempts.append(own)
        try:
            return await self._handle_pending(limit)
        finally:
            self._waiting_attempts.remove(own)

    async def _handle_pending(self, limit: int | None) -> int:
        count = 0
        while not self._is_closing:
            free = self._max_running - len(self._attempts)
            if limit is not None:
                free = min(free, limit - count)
            started = await self._lease(free) if free > 0 else 0
            count += started
            # An attempt that ends may free the next event of its session.
            if not started and not await self._wait_for_attempt():
                break
        while await self._wait_for_attempt():
            pass
        return count

    async def _wait_for_attempt(self) -> bool:
        """Wait until an attempt has ended, and return whether there was one."""
        # A handler may call `handle_pending`: it must not wait for itself, nor two of them for each other.
        ignored = () if CURRENT_ATTEMPT.get() is None else self._waiting_attempts
        running = [
            attempt.task for attempt in self._attempts.values() if attempt.task is not None and attempt not in ignored
        ]
        if not running:
            return False
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        # The callbacks of a task that has ended run in the next iteration.
        await asyncio.sleep(0)
        return True

    def _ensure_leasing(self) -> None:
        self._has_work.set()
        if self._leasing is None or self._leasing.done():
            self._leasing = self._start(self._run(), "veriff handler dispatcher")

    def _start(self, work: Coroutine[None, None, object], name: str) -> asyncio.Task[object]:
        task = asyncio.get_running_loop().create_task(work, name=name, context=self._context.copy())
        self._tasks.add(task)  # the event loop holds weak references only
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self) -> None:
        # An eager task must not lease within `wake`, which the response to a webhook waits for.
        await asyncio.sleep(0)
        pause = _FIRST_PAUSE
        while not self._is_closing or self._has_recorded or not self._is_shared:
            self._has_recorded = False
            self._has_work.clear()
            free, started = self._max_running - len(self._attempts), 0
            if free > 0:
                try:
                    started = await self._lease(free)
                except Exception:  # noqa: BLE001  logged by the queue
                    if self._is_closing:
                        return
                    self._has_work.clear()
                    await self._wait(pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                pause = _FIRST_PAUSE
            is_full = len(self._attempts) >= self._max_running
            if started == free and not is_full:
                continue  # more may be due, and some of those that started have ended already
            if self._has_work.is_set():
                continue
            if self._is_closing or not self._is_polling:
                return  # an attempt that ends starts this task again
            await self._wait(None if is_full else self._policy.poll_interval)

    async def _wait(self, seconds: float | None) -> None:
        """Wait for work, and no longer than some seconds."""
        loop = asyncio.get_running_loop()
        timer = None if seconds is None else loop.call_later(seconds, self._has_work.set)
        try:
            await self._has_work.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _lease(self, limit: int) -> int:
        """Lease events, start their attempts, and return how many."""
        loop = asyncio.get_running_loop()
        leased_at = loop.time()
        lease_ends, context = leased_at + self._policy.lease, self._attempt_context
        attempts = [DeliveryAttempt(delivery, lease_ends, context) for delivery in await self._queue.lease(limit)]
        try:
            for attempt in attempts:
                self._attempts[attempt.delivery.lease] = attempt
                attempt.task = self._start(attempt.run(), "veriff handler")
                attempt.task.add_done_callback(partial(self._on_done, attempt))
                self._schedule_heartbeat()
                # One in each iteration, so that other work of the loop runs in between.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            # A task that is cancelled before its first step does not run, so it cannot give its event back itself.
            await asyncio.gather(*(attempt.give_back() for attempt in attempts if not attempt.has_begun))
            raise
        return len(attempts)

    def _on_done(self, attempt: DeliveryAttempt, task: asyncio.Task[object]) -> None:
        is_full = len(self._attempts) >= self._max_running
        self._attempts.pop(attempt.delivery.lease, None)
        # When a program cancels all its tasks, the loop is ending, and a new task would never run.
        is_ending = self._is_closed or (task.cancelled() and not attempt.is_lost)
        must_lease = not is_ending and (not self._is_closing or not self._is_shared)
        # The next event of its session may be due now, or one for which no place was free.
        if must_lease and self._policy.background and (is_full or attempt.delivery.event.session_id is not None):
            self._ensure_leasing()

    def _schedule_heartbeat(self) -> None:
        if self._heartbeat is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._heartbeat = loop.call_later(self._policy.lease / 3, self._on_heartbeat)

    def _on_heartbeat(self) -> None:
        self._heartbeat = None
        if self._attempts:
            self._start(self._extend_leases(), "veriff handler heartbeat")

    async def _extend_leases(self) -> None:
        attempts = [attempt for attempt in self._attempts.values() if attempt.needs_lease]
        try:
            started_at = asyncio.get_running_loop().time()
            held = await self._queue.extend([attempt.delivery for attempt in attempts])
        except Exception:  # noqa: BLE001  logged by the queue; the next heartbeat tries again before the leases end
            return
        finally:
            self._schedule_heartbeat()
        for attempt in attempts:
            if attempt.delivery.lease in held:
                attempt.lease_ends = started_at + self._policy.lease
            elif attempt.needs_lease:
                attempt.cancel_lost()
