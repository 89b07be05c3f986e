"""A user's function that is called with what was recorded: in the background, a few at once, and free to fail."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from anyio import CapacityLimiter, to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.models.state import Recorded

__all__ = ("Calls", "OnEvent")

_LOG: Final = logging.getLogger(__name__)

_MOST_BEHIND: Final = 10_000
"""Events that a slow function may be behind before further ones are left out: memory must not grow without end."""

if TYPE_CHECKING:
    OnEvent = Callable[[Recorded], object]
    """A function or a coroutine function; what it returns is not looked at."""


class Calls:
    """The calls of one function, none of which delays or fails whoever asks for it.

    Args:
        function: What to call; one that is not a coroutine function is called in a thread.
        most: Calls at once.
        tasks: Where running tasks are kept, for whoever ends them.
    """

    def __init__(self, function: OnEvent, *, most: int, tasks: set[asyncio.Task[object]]) -> None:
        """Begin with nothing to do."""
        self._function = function
        self._most = most
        self._tasks = tasks
        self._behind: deque[Recorded] = deque()
        # What a request has in its context is not for the calls of later events.
        self._context = copy_context()
        self._threads = CapacityLimiter(most)
        self.running: int = 0
        self.failed: int = 0
        self.left_out: int = 0

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return len(self._behind)

    def add(self, recorded: Recorded) -> None:
        """Have the function called, as soon as others are done; needs a running loop."""
        if len(self._behind) >= _MOST_BEHIND:
            self.left_out += 1
            _LOG.error("on_event is too slow: left out for an event, which is recorded all the same")
            return
        self._behind.append(recorded)
        if self.running < self._most:
            self.running += 1
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._work(), name="veriff on_event", context=self._context.copy())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def give_up(self) -> None:
        """Leave out what has not begun, because nobody will be there to do it."""
        if self._behind:
            self.left_out += len(self._behind)
            _LOG.error("closed before on_event was called for %d events; they are recorded", len(self._behind))
            self._behind.clear()

    async def _work(self) -> None:
        try:
            while self._behind:
                await self._call(self._behind.popleft())
        finally:
            self.running -= 1

    async def _call(self, recorded: Recorded) -> None:
        try:
            if is_async(self._function):
                found = self._function(recorded)
            else:
                found = await to_thread.run_sync(
                    self._function, recorded, abandon_on_cancel=True, limiter=self._threads
                )
            if inspect.isawaitable(found):
                await found
        except asyncio.CancelledError as error:
            if _is_ended():
                raise
            self._blame(error)
        except Exception as error:  # noqa: BLE001  whatever a user's function raises
            self._blame(error)

    def _blame(self, error: BaseException) -> None:
        self.failed += 1
        # Neither its text nor a traceback: what a user's function raises may tell of the person it was about.
        _LOG.error("on_event failed with %s; the event is recorded", type(error).__name__)


def is_async(function: OnEvent) -> bool:
    """Tell whether a function is to be called on the loop: a coroutine function, or an object that is called as one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _is_ended() -> bool:
    """Tell whether the running task is to end, rather than that something it awaited was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
