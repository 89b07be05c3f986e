"""What runs for a receiver on one event loop: records in the inbox, and the calls that follow them.

A framework may start and stop its application many times, each time in a loop of its own. Tasks cannot outlive their
loop, so everything that runs is kept by loop, and what a loop that ended left behind does not count any more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from veriff_async.errors import InboxError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from veriff_async.models.state import RecordResult
    from veriff_async.webhooks._callbacks import Calls

__all__ = ("LoopWork",)

_LOG: Final = logging.getLogger(__name__)

_MOST_RECORDING: Final = 1000
"""Requests that may wait for the inbox at once, and records that may run on after their request was answered."""

_CANCEL_SECONDS: Final = 1.0
"""Seconds that cancelled tasks have to end, so that one that will not does not hold up the process."""


class LoopWork:
    """Records and calls on one event loop.

    Args:
        tasks: Where running tasks are kept; the calls keep theirs there too.
        calls: The calls of ``on_event``, if there are any.
        is_closed: Whether webhooks are refused from the beginning.
    """

    def __init__(self, tasks: set[asyncio.Task[object]], calls: Calls | None, *, is_closed: bool) -> None:
        """Begin with nothing to do."""
        self.calls = calls
        self.is_closed: bool = is_closed
        self._tasks = tasks
        self._recording = 0
        # Records whose request was answered, the oldest first.
        self._late: dict[asyncio.Task[RecordResult | InboxError], None] = {}
        self._has_warned = False

    def check_open(self) -> None:
        """Check that webhooks are taken.

        Raises:
            InboxError: They are not.
        """
        if self.is_closed:
            msg = "The receiver is closed: answer 503, and close it only after the server."
            raise InboxError(msg)

    async def record(self, work: Coroutine[None, None, RecordResult | InboxError], timeout: float) -> RecordResult:  # noqa: ASYNC109  waiting ends, the record does not
        """Record an event in a task of its own, and wait for it.

        A server that cancels its request, or an inbox that is late, must not separate the record from what follows it:
        the event would stand in the inbox, its repetition would be known, and `on_event` would never be called.

        A record occupies a slot only while its request waits. If it hangs, it runs on without a slot, until too many
        such records do: then the oldest is cancelled.

        Raises:
            InboxError: The inbox failed, is busy, or was slower than `timeout`.
        """
        if self._recording >= _MOST_RECORDING:
            work.close()
            msg = f"The inbox is busy with {self._recording} events already: find out why it is slow."
            raise InboxError(msg)
        self._recording += 1
        task = asyncio.create_task(work, name="veriff record")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout)
        finally:
            self._recording -= 1
            if not task.done():
                self._leave_running(task)
        if not done:
            msg = f"The inbox has not recorded an event in {timeout:g} seconds: find out why it is slow."
            raise InboxError(msg)
        if task.cancelled():
            msg = "The record of an event was cancelled: answer 503, so that Veriff sends it again."
            raise InboxError(msg)
        found = task.result()
        if isinstance(found, InboxError):
            raise found
        self._has_warned = False
        return found

    async def aclose(self, timeout: float) -> None:  # noqa: ASYNC109  what has not ended by then is cancelled
        """Wait for everything that runs, and cancel the rest after some seconds."""
        self.is_closed = True
        own = {asyncio.current_task()}  # on_event may close the receiver, and must not wait for itself
        try:
            async with asyncio.timeout(timeout):
                while running := self._tasks - own:
                    await asyncio.wait(running)
        except TimeoutError:
            _LOG.warning("closed while %d records or calls of on_event were running", len(self._tasks - own))
        finally:
            self.give_up()
            left = self._tasks - own
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=_CANCEL_SECONDS)

    def give_up(self) -> None:
        """Leave out the calls that have not begun."""
        if self.calls is not None:
            self.calls.give_up()

    def _leave_running(self, task: asyncio.Task[RecordResult | InboxError]) -> None:
        self._late[task] = None
        task.add_done_callback(self._forget)
        if len(self._late) > _MOST_RECORDING:
            oldest = next(iter(self._late))
            del self._late[oldest]
            oldest.cancel()
            if not self._has_warned:
                self._has_warned = True
                _LOG.error("the inbox does not finish its records: cancelling the oldest of %d", _MOST_RECORDING + 1)

    def _forget(self, task: asyncio.Task[RecordResult | InboxError]) -> None:
        self._late.pop(task, None)
