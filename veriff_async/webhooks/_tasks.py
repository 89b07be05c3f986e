"""The tasks of a receiver on one event loop: records in the inbox, and attempts to handle events.

A framework may start and stop its application many times, each time in a new loop. Tasks cannot outlive their loop, so
they are kept by loop, and those of a loop that has ended are dropped.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from veriff_async._logging import log_fields
from veriff_async.errors import InboxError
from veriff_async.webhooks._delivery_attempt import CURRENT_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from veriff_async.models.state import RecordResult
    from veriff_async.webhooks._delivery_worker import DeliveryWorker

__all__ = ("LoopTasks",)

_LOG: Final = logging.getLogger(__name__)

# Requests that may wait for the inbox at the same time, and records that may continue after their response.
_MAX_RECORDS: Final = 1000

# Seconds that cancelled tasks have to end, so that a task that ignores it does not block the process.
_CANCEL_SECONDS: Final = 1.0


class LoopTasks:
    """The running records and attempts of one event loop.

    Args:
        tasks: The set of running tasks, which the worker shares.
        worker: Passes events to the handlers.
        is_closed: Whether webhooks are refused.
    """

    def __init__(self, tasks: set[asyncio.Task[object]], worker: DeliveryWorker, *, is_closed: bool) -> None:
        """Start without tasks."""
        self.worker: DeliveryWorker = worker
        self.is_closed: bool = is_closed
        self._tasks = tasks
        self.recording: int = 0
        """Requests that wait for the inbox."""
        # Records whose request has its response already, the oldest first.
        self._overdue: dict[asyncio.Task[RecordResult | InboxError], None] = {}
        self._has_warned = False

    async def record(self, recording: Coroutine[None, None, RecordResult | InboxError], timeout: float) -> RecordResult:  # noqa: ASYNC109  waiting ends, the record does not
        """Record an event in a task of its own, and wait for it.

        A server that cancels its request, or an inbox that is late, must not separate the record from what follows it:
        the counters, and the handlers, which would otherwise begin about a second later.

        A record occupies a slot only while its request waits. If it hangs, it continues without a slot, until there are
        too many such records: then the oldest is cancelled.

        Raises:
            InboxError: The inbox failed, is busy, or was slower than `timeout`.
        """
        # Waiting requests hold their bodies: beyond this limit 503 is better, since Veriff sends them again.
        if self.recording >= _MAX_RECORDS:
            recording.close()
            msg = f"The inbox is busy with {self.recording} events already: check why it is slow."
            raise InboxError(msg)
        self.recording += 1
        task = asyncio.create_task(recording, name="veriff record")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            # `wait` and not `wait_for`, which would cancel the record at the timeout.
            done, _ = await asyncio.wait({task}, timeout=timeout)
        finally:
            self.recording -= 1
            if not task.done():
                self._track_overdue(task)
        if not done:
            msg = f"The inbox has not recorded an event in {timeout:g} seconds: check why it is slow."
            raise InboxError(msg)
        if task.cancelled():
            msg = "The record of an event was cancelled: answer 503, so that Veriff sends it again."
            raise InboxError(msg)
        result = task.result()
        if isinstance(result, InboxError):
            raise result
        self._has_warned = False
        return result

    async def aclose(self, timeout: float) -> None:  # noqa: ASYNC109  what has not ended by then is cancelled
        """Wait for all tasks, and cancel the rest after some seconds; attempts are then given back to the inbox."""
        self.stop()
        self.worker.end_wait()
        own = {asyncio.current_task()}
        if (attempt := CURRENT_ATTEMPT.get()) is not None:
            own.add(attempt.task)  # a handler may close the receiver, and must not wait for its own task
        try:
            async with asyncio.timeout(timeout):
                # Again, since a record that ends may start an attempt.
                while running := self._tasks - own:
                    await asyncio.wait(running)
        except TimeoutError:
            count = len(self._tasks - own)
            fields = log_fields(count=count)
            _LOG.warning("Closed while %d records or handlers were running.", count, extra=fields)
        finally:
            self.worker.close()
            unfinished = self._tasks - own
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished, timeout=_CANCEL_SECONDS)

    def stop(self) -> None:
        """Refuse webhooks, and lease no events; may be called in another thread."""
        self.is_closed = True
        self.worker.stop_leasing()

    def _track_overdue(self, task: asyncio.Task[RecordResult | InboxError]) -> None:
        self._overdue[task] = None
        task.add_done_callback(self._on_overdue_done)
        if len(self._overdue) > _MAX_RECORDS:
            oldest = next(iter(self._overdue))
            del self._overdue[oldest]
            oldest.cancel()
            if not self._has_warned:
                self._has_warned = True
                count = _MAX_RECORDS + 1
                fields = log_fields(count=count)
                _LOG.error("The inbox does not finish its records: the oldest of %d is cancelled.", count, extra=fields)

    def _on_overdue_done(self, task: asyncio.Task[RecordResult | InboxError]) -> None:
        self._overdue.pop(task, None)
