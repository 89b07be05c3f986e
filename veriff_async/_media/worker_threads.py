"""The threads in which a client reads, encodes, signs and writes files.

    call ──► queue ──► one thread takes call after call ──► results, together ──► event loop
                       └── others join it when calls have to wait

Most calls take a tenth of a millisecond. A thread for each would cost more than that: threads and the event loop would
take the interpreter's lock from each other at every system call, and each result would wake the loop. So one thread
takes all calls that are there, and wakes the loop once for all of them. A call that takes long, because the file is
large or its disk is slow, delays only those that came in the first milliseconds: then further threads take them, and
the loop collects the results that are ready.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from attrs import define, field

from veriff_async._media.concurrency import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any

__all__ = ("WorkerThreads",)

_T = TypeVar("_T")

# Seconds that a result waits for other results, so that they wake the loop together.
_MAX_WAIT: Final = 0.002
# Seconds after which calls that wait get another thread, and in which a thread should end a call.
_CHECK_INTERVAL: Final = 0.005
_PROCESSORS: Final = os.cpu_count() or 1


@define(eq=False)
class _ThreadCall(Generic[_T]):
    """One call of a function.

    Attributes:
        function: The function.
        future: Its result, unless the caller cancelled it.
        context: The caller's context variables, for example the current span.
        claim: Taken by the first of two: the thread that runs the function, and the cancellation that prevents it.
        result: The result, once it has ended.
        error: The exception that ended it.
        has_ended: Whether it has ended, which the loop knows.
        ended: Resolved when it has ended, if a cancelled caller waits for that.
    """

    function: Callable[[], _T]
    future: asyncio.Future[_T]
    context: Context = field(factory=copy_context)
    claim: Lock = field(factory=Lock)
    result: _T | None = None
    error: BaseException | None = None
    has_ended: bool = False
    ended: asyncio.Future[None] | None = None

    def run(self) -> None:
        """Call the function, in a worker thread."""
        try:
            self.result = self.context.run(self.function)
        except StopIteration as error:
            self.error = RuntimeError(f"a worker thread raised {type(error).__name__}")  # no future accepts that one
        except BaseException as error:  # noqa: BLE001  raised where the result is awaited
            self.error = error
        finally:
            # The traceback of an error holds this frame, and the future holds the error. Without this, the call, its
            # buffers and its file would live until the garbage collector finds the cycle.
            del self

    def finish(self) -> None:
        """Resolve the futures, in the loop."""
        self.has_ended = True
        if self.ended is not None:
            self.ended.set_result(None)
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(cast("_T", self.result))
        else:
            self.future.set_exception(self.error)


class _Queue:
    """The calls of one event loop that wait for a thread or have ended, and how many threads take them."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limit: int, start_thread: Callable[[Callable[[], None]], None]
    ) -> None:
        """Begin without a call.

        Args:
            loop: The loop.
            limit: Most threads at once.
            start_thread: Runs a function in a thread, or raises if the system has none left.
        """
        self.loop: asyncio.AbstractEventLoop = loop
        self._start_thread = start_thread
        self._limit = limit
        # Protects the next two, so that a thread that ends leaves no call behind.
        self._lock = Lock()
        self._waiting: deque[_ThreadCall[Any]] = deque()
        # When each thread took its present call.
        self._threads: dict[object, float] = {}
        self._ended: deque[_ThreadCall[Any]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, call: _ThreadCall[Any]) -> None:
        """Add a call, and start a thread if none will take it soon."""
        with self._lock:
            self._waiting.append(call)
            thread = self._count_thread(enough=0)
        if thread is not None:
            try:
                self._start_thread(partial(self._run_calls, thread))
            except BaseException as error:
                with self._lock:
                    del self._threads[thread]
                    is_alone = not self._threads
                    if is_alone:
                        self._waiting.remove(call)
                if is_alone or not isinstance(error, RuntimeError):
                    raise
        if self._timer is None:
            self._timer = self.loop.call_later(_CHECK_INTERVAL, self._check)

    def _count_thread(self, enough: int) -> object | None:
        """Count another thread if calls wait, and `enough` are not running or all of them take long. Needs the lock."""
        now, count = monotonic(), len(self._threads)
        if not self._waiting or count >= self._limit:
            return None
        if count >= enough and any(now - began < _CHECK_INTERVAL for began in self._threads.values()):
            return None
        thread = object()
        self._threads[thread] = now
        return thread

    def _run_calls(self, thread: object) -> None:
        """Take calls until none waits. Runs in a worker thread."""
        oldest: float | None = None
        while (call := self._take(thread)) is not None:
            if call.claim.acquire(blocking=False):
                call.run()
            self._ended.append(call)
            now = monotonic()
            if oldest is None:
                oldest = now
            elif now - oldest >= _MAX_WAIT:
                self._wake_loop()
                oldest = None
        if oldest is not None:
            self._wake_loop()

    def _take(self, thread: object) -> _ThreadCall[Any] | None:
        with self._lock:
            if self._waiting:
                self._threads[thread] = monotonic()
                return self._waiting.popleft()
            del self._threads[thread]
            return None

    def _wake_loop(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and no caller is left
            self.loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        while self._ended:
            self._ended.popleft().finish()

    def _check(self) -> None:
        """Start another thread if calls wait: up to the number of processors, and beyond that if all take long."""
        with self._lock:
            waits = bool(self._waiting)
            thread = self._count_thread(enough=_PROCESSORS)
        if thread is not None:
            try:
                self._start_thread(partial(self._run_calls, thread))
            except RuntimeError:  # the system has no thread left, and those that run take the calls
                with self._lock:
                    del self._threads[thread]
        self._timer = self.loop.call_later(_CHECK_INTERVAL, self._check) if waits else None
        # After the look at the waiting calls: a thread that has taken the last one has put its results here before.
        self._collect()


class WorkerThreads:
    """Worker threads, which start when they are needed and end with `close`.

    The threads are not shared with the application, whose work could block uploads.
    """

    def __init__(self, limit: int) -> None:
        """Start no thread yet; `limit` is the largest number of them."""
        self._limit = limit
        self._executor: ThreadPoolExecutor | None = None
        self._queue: _Queue | None = None
        self._process = 0
        self._is_closed = False

    def close(self) -> None:
        """End the threads when their work ends. A call that is still running may start others, which end likewise."""
        self._is_closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None

    def start(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """Call a function in a worker thread, which still runs when the future is cancelled."""
        return self._submit(function).future

    async def run(self, function: Callable[[], _T]) -> _T:
        """Call a function in a worker thread.

        A cancellation is raised when the function has ended, so that it uses nothing that its caller then closes. A
        function that has not begun never begins.
        """
        call = self._submit(function)
        try:
            return await call.future
        except asyncio.CancelledError:
            if not call.claim.acquire(blocking=False) and not call.has_ended:
                call.ended = asyncio.get_running_loop().create_future()
                await wait_for_end([call.ended])
            raise
        finally:
            del call  # as in `_ThreadCall.run`

    def _submit(self, function: Callable[[], _T]) -> _ThreadCall[_T]:
        loop = asyncio.get_running_loop()
        # A fork copies the executor without its threads, so that it would never run anything.
        if self._process != os.getpid():
            self._process, self._executor, self._queue = os.getpid(), None, None
        if self._queue is None or self._queue.loop is not loop:
            self._queue = _Queue(loop, self._limit, self._start_thread)
        call: _ThreadCall[_T] = _ThreadCall(function, loop.create_future())
        self._queue.put(call)
        return call

    def _start_thread(self, function: Callable[[], None]) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._limit, thread_name_prefix="veriff-async")
        # The executor queues the function even if it cannot start a thread for it, and then raises. A thread that has
        # just ended its work may take it nevertheless.
        claim = Lock()

        def call_once() -> None:
            if claim.acquire(blocking=False):
                function()

        try:
            self._executor.submit(call_once)
        except RuntimeError:
            if claim.acquire(blocking=False):
                raise
        finally:
            if self._is_closed:
                self.close()
