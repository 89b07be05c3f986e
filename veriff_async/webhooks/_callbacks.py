"""A user's function that is called with what was recorded: in the background, a few at once, and free to fail.

Events wait in a queue. One task, the dispatcher, takes them out in their order and starts one call in each turn of the
event loop, so that thousands of waiting events never keep the loop from other work, however quickly the function
returns. Each call has a task of its own: none that fails or is cancelled stops the others.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from functools import partial
from traceback import walk_tb
from typing import TYPE_CHECKING, Final

from attrs import define

from veriff_async._media import blocking_source
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from veriff_async.models.state import RecordResult

__all__ = ("CallCounters", "Calls", "OnEvent", "check_function")

_LOG: Final = logging.getLogger(__name__)

_MOST_BEHIND: Final = 10_000
"""Events that a slow function may be behind before further ones are left out: memory must not grow without end."""

_NOT_THE_USERS: Final = (__file__, blocking_source.__file__)
"""The files whose frames stand above the user's function in a traceback."""

if TYPE_CHECKING:
    OnEvent = Callable[[RecordResult], object]
    """A function or a coroutine function; what it returns is not looked at."""


@define
class CallCounters:
    """Calls of one function that failed, and events that it was not called for, over all event loops."""

    failed: int = 0
    callbacks_dropped: int = 0


class _ExitError(Exception):
    """The function raised SystemExit or KeyboardInterrupt in its thread; the cause is that exception."""


class Calls:
    """The calls of one function on one event loop, none of which delays or fails the caller of `add`.

    Args:
        function: What to call; one that is not a coroutine function is called in a thread.
        most: Calls at once.
        tasks: Where running tasks are kept, so that the owner can end them.
        counters: What is counted.
        context: The context that calls run in: that of a request is not for the calls of later events.
    """

    def __init__(
        self,
        function: OnEvent,
        *,
        most: int,
        tasks: set[asyncio.Task[object]],
        counters: CallCounters,
        context: Context,
    ) -> None:
        """Begin with nothing to do."""
        self._function = function
        self._most = most
        self._tasks = tasks
        self._counters = counters
        self._context = context
        self._behind: deque[RecordResult] = deque()
        self._dispatcher: asyncio.Task[object] | None = None
        self._has_room = asyncio.Event()
        self._is_over = False
        self.running: int = 0

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return len(self._behind)

    def add(self, recorded: RecordResult) -> None:
        """Have the function called, as soon as others are done; needs a running loop."""
        if self._is_over or len(self._behind) >= _MOST_BEHIND:
            self._counters.callbacks_dropped += 1
            why = "the receiver is closed" if self._is_over else "it is too slow"
            _LOG.error("on_event was not called for an event, because %s; the event is recorded", why)
            return
        self._behind.append(recorded)
        self._ensure_dispatcher()

    def give_up(self) -> None:
        """Leave out the calls that have not begun, and all later ones."""
        self._is_over = True
        if self._behind:
            self._counters.callbacks_dropped += len(self._behind)
            _LOG.error("closed before on_event was called for %d events; they are recorded", len(self._behind))
            self._behind.clear()

    def _ensure_dispatcher(self) -> None:
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = self._start(self._dispatch(), "veriff on_event dispatcher")

    def _start(self, work: Coroutine[None, None, object], name: str) -> asyncio.Task[object]:
        task = asyncio.get_running_loop().create_task(work, name=name, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _dispatch(self) -> None:
        # The first turn comes before the first call, so that an eager task does not call the function within `add`.
        await asyncio.sleep(0)
        while self._behind:
            if self.running < self._most:
                self.running += 1
                self._start(self._call(self._behind.popleft()), "veriff on_event").add_done_callback(self._leave)
                await asyncio.sleep(0)
            else:
                self._has_room.clear()
                await self._has_room.wait()

    def _leave(self, task: asyncio.Task[object]) -> None:
        self.running -= 1
        self._has_room.set()
        if self._behind and not task.cancelled():  # when all are cancelled, the loop is ending
            self._ensure_dispatcher()

    async def _call(self, recorded: RecordResult) -> None:
        try:
            if is_async(self._function):
                found = self._function(recorded)
            else:
                # In a daemon thread: one that hangs must not keep the process alive after the server has stopped.
                work = partial(_call_in_thread, self._function, recorded)
                found = await blocking_source.run_abandonable(work, name="veriff on_event")
            if inspect.isawaitable(found):
                await found
        except (SystemExit, KeyboardInterrupt):  # on the loop, a signal handler may raise them in any coroutine
            raise
        except _ExitError as error:
            self._report(error.__cause__ or error)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_ended():
                raise
            self._report(error)

    def _report(self, error: BaseException) -> None:
        self._counters.failed += 1
        # Neither its text nor the lines of a traceback: they may hold data of the person it was about.
        _LOG.error("on_event failed with %s%s; the event is recorded", type(error).__name__, _places(error))


def check_function(function: object) -> None:
    """Check a function that is to be called with what was recorded, so that a mistake is not first seen in production.

    Raises:
        ConfigurationError: It cannot be called with one argument, or it is a generator function, which does nothing
            when it is called.
    """
    if function is None:
        return
    if not callable(function):
        msg = (
            f"on_event must be a function, got {type(function).__name__}: pass the function itself, without calling it."
        )
        raise ConfigurationError(msg)
    if any(map(_is_generator, (function, getattr(function, "__call__", None)))):  # noqa: B004
        msg = "on_event is a generator function, of which nothing runs: leave out its yield."
        raise ConfigurationError(msg)
    try:
        expected = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have none
        return
    try:
        expected.bind(None)
    except TypeError:
        problem = ConfigurationError("on_event must take one argument: it is called with a RecordResult alone.")
    else:
        return
    raise problem


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _call_in_thread(function: OnEvent, recorded: RecordResult) -> object:
    try:
        return function(recorded)
    except (SystemExit, KeyboardInterrupt) as error:
        # They end a thread and nothing else. Raised on the event loop, they would end the server.
        raise _ExitError from error


def is_async(function: OnEvent) -> bool:
    """Tell whether a function is to be called on the loop: a coroutine function, or an object that is called as one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _is_ended() -> bool:
    """Tell whether the running task is to end, rather than that something it awaited was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _places(error: BaseException) -> str:
    """Return file and line where an error was raised, and the user's function's own line where that is another."""
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    users = [frame for frame in frames if not frame[0].startswith(_NOT_THE_USERS)]
    if not users:
        return ""
    places = [f"{file}:{line}" for file, line in (users[-1], users[0])]
    return f" at {places[0]}" if places[0] == places[1] else f" at {places[0]}, called from {places[1]}"
