"""The queue of calls of `on_event`: they run in the background, a few at a time, and may fail.

One task, the dispatcher, takes results from the queue in their order. It starts one call in each iteration of the event
loop, so that thousands of waiting results never keep the loop from other work, however quickly the function returns.
Each call has a task of its own, so a call that fails or is cancelled does not stop the others.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from contextlib import nullcontext
from functools import partial
from traceback import walk_tb
from typing import TYPE_CHECKING, Final

from attrs import define

from veriff_async._event_loop import is_being_cancelled
from veriff_async._logging import log_fields
from veriff_async._media import blocking_source
from veriff_async._protocol.arguments import accepts_arguments
from veriff_async._telemetry.setup import if_live
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from veriff_async._telemetry.webhooks import Context as SpanContext, ReceiverTelemetry
    from veriff_async.models.state import RecordResult

__all__ = ("CallbackCounters", "CallbackQueue", "OnEvent", "check_function")

_LOG: Final = logging.getLogger(__name__)

# Calls that may wait for a slow function; further ones are dropped, since memory must not grow without limit.
_MAX_WAITING: Final = 10_000

# The files whose frames are above the user's function in a traceback.
_OUR_FILES: Final = (__file__, blocking_source.__file__)

if TYPE_CHECKING:
    OnEvent = Callable[[RecordResult], object]
    """A function or a coroutine function; its result is ignored."""


@define
class CallbackCounters:
    """Calls of one function that failed or were dropped, over all event loops."""

    failed: int = 0
    callbacks_dropped: int = 0


class _ExitError(Exception):
    """The function raised SystemExit or KeyboardInterrupt in its thread; the cause is that exception."""


class CallbackQueue:
    """The calls of one function on one event loop; no call delays the caller of `add`, or fails it.

    Args:
        function: The function; unless it is a coroutine function it is called in a thread.
        max_running: Calls at the same time.
        tasks: The set of running tasks, through which the owner can end them.
        counters: Shared by the queues of all event loops.
        context: The context of the calls: the context of one request must not leak into calls for other events.
        telemetry: Exports a span for each call, if spans are exported.
    """

    def __init__(  # noqa: PLR0913  what all calls share
        self,
        function: OnEvent,
        *,
        max_running: int,
        tasks: set[asyncio.Task[object]],
        counters: CallbackCounters,
        context: Context,
        telemetry: ReceiverTelemetry | None = None,
    ) -> None:
        """Start with an empty queue."""
        self._function = function
        self._max_running = max_running
        self._tasks = tasks
        self._counters = counters
        self._context = context
        self._telemetry = telemetry
        self._queue: deque[tuple[RecordResult, SpanContext | None]] = deque()
        self._dispatcher: asyncio.Task[object] | None = None
        self._has_free_slot = asyncio.Event()
        self._is_closed = False
        self.running: int = 0

    @property
    def waiting(self) -> int:
        """The number of calls that have not started."""
        return len(self._queue)

    def add(self, result: RecordResult) -> None:
        """Queue a call; needs a running loop."""
        # The event is in the inbox either way, so dropping a call loses no data.
        if self._is_closed or len(self._queue) >= _MAX_WAITING:
            self._count_dropped(1)
            reason = "the receiver is closed" if self._is_closed else "it is too slow"
            fields = log_fields(cause=reason)
            _LOG.error("on_event was not called for an event, because %s; the event is recorded.", reason, extra=fields)
            return
        self._queue.append((result, None if self._telemetry is None else self._telemetry.capture()))
        self._ensure_dispatcher()

    def close(self) -> None:
        """Drop the calls that have not started, and all later ones."""
        self._is_closed = True
        if self._queue:
            count = len(self._queue)
            self._count_dropped(count)
            fields = log_fields(count=count)
            _LOG.error("Closed before on_event was called for %d events; they are recorded.", count, extra=fields)
            self._queue.clear()

    def _count_dropped(self, count: int) -> None:
        self._counters.callbacks_dropped += count
        if self._telemetry is not None:
            self._telemetry.on_dropped(count)

    def _ensure_dispatcher(self) -> None:
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = self._start(self._dispatch(), "veriff on_event dispatcher")

    def _start(self, work: Coroutine[None, None, object], name: str) -> asyncio.Task[object]:
        task = asyncio.get_running_loop().create_task(work, name=name, context=self._context.copy())
        self._tasks.add(task)  # the event loop holds weak references only
        task.add_done_callback(self._tasks.discard)
        return task

    async def _dispatch(self) -> None:
        # Yield before the first call, so that an eager task does not call the function within `add`.
        await asyncio.sleep(0)
        while self._queue:
            if self.running < self._max_running:
                self.running += 1
                self._start(self._call(*self._queue.popleft()), "veriff on_event").add_done_callback(self._on_call_done)
                await asyncio.sleep(0)
            else:
                self._has_free_slot.clear()
                await self._has_free_slot.wait()

    def _on_call_done(self, task: asyncio.Task[object]) -> None:
        self.running -= 1
        self._has_free_slot.set()
        if self._queue and not task.cancelled():  # when all are cancelled, the loop is ending
            self._ensure_dispatcher()

    async def _call(self, result: RecordResult, parent: SpanContext | None) -> None:
        telemetry = if_live(self._telemetry)
        try:
            with nullcontext() if telemetry is None else telemetry.callback(result, parent):
                if is_async(self._function):
                    returned = self._function(result)
                else:
                    # In a daemon thread: one that hangs must not keep the process alive after the server has stopped.
                    work = partial(_call_in_thread, self._function, result)
                    returned = await blocking_source.run_abandonable(work, name="veriff on_event")
                if inspect.isawaitable(returned):
                    await returned
        except (SystemExit, KeyboardInterrupt):  # on the loop, a signal handler may raise them in any coroutine
            raise
        except _ExitError as error:
            self._report(error.__cause__ or error)
        # The function may also raise a CancelledError of its own, from a task that it awaited.
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            self._report(error)

    def _report(self, error: BaseException) -> None:
        self._counters.failed += 1
        # Neither its text nor the lines of a traceback are logged: they may hold personal data.
        name = type(error).__name__
        fields = log_fields(error=name)
        _LOG.error("on_event failed with %s%s; the event is recorded.", name, _locations(error), extra=fields)


def check_function(function: object) -> None:
    """Check the `on_event` of a receiver when it is made, so that a mistake is not first noticed in production.

    Raises:
        ConfigurationError: It cannot be called with one argument, or it is a generator function, which does nothing
            when it is called.
    """
    if function is None:
        return
    if not callable(function):
        msg = (
            f"on_event must be a function, not {type(function).__name__}: pass the function itself, without calling it."
        )
        raise ConfigurationError(msg)
    # Calling a generator function runs nothing of it, so the mistake would never be noticed.
    if any(map(_is_generator, (function, getattr(function, "__call__", None)))):  # noqa: B004
        msg = "on_event is a generator function, of which nothing runs: leave out its yield."
        raise ConfigurationError(msg)
    if not accepts_arguments(function, 1):
        msg = "on_event must take one argument: it is called with a RecordResult alone."
        raise ConfigurationError(msg)


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _call_in_thread(function: OnEvent, result: RecordResult) -> object:
    try:
        return function(result)
    except (SystemExit, KeyboardInterrupt) as error:
        # They end a thread and nothing else. Raised on the event loop, they would end the server.
        raise _ExitError from error


def is_async(function: OnEvent) -> bool:
    """Return whether a function is called on the loop: a coroutine function, or an object with such a ``__call__``."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _locations(error: BaseException) -> str:
    """Return file and line where an error was raised, and the line of the user's function if that is another one."""
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    user_frames = [frame for frame in frames if not frame[0].startswith(_OUR_FILES)]
    if not user_frames:
        return ""
    raised_at, called_at = (f"{file}:{line}" for file, line in (user_frames[-1], user_frames[0]))
    return f" at {raised_at}" if raised_at == called_at else f" at {raised_at}, called from {called_at}"
