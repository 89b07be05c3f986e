"""Runs the calls of synchronous threads in one event loop, which has a thread of its own.

    any thread ──► call_soon_threadsafe ──► a task in the loop ──► _PendingCall.result returns or raises

anyio's `BlockingPortal` does nearly the same. It is not used for four reasons:

- it starts a task and then waits for it, so an interrupt between the two leaves a task that no one can cancel;
- a `SystemExit` of one call ends the loop, and with it the calls of all other threads;
- its end waits for the thread without a limit, so a callback that blocks could hang the end of the process;
- it takes four times as long for each call, because the calling thread waits for two answers of the loop.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import warnings
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from functools import partial
from threading import Lock, RLock, Thread, current_thread, get_ident
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast
from weakref import WeakSet

from veriff_async._event_loop import current_caller, require_asyncio, set_caller
from veriff_async._logging import log_fields
from veriff_async.errors import ClientClosedError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from veriff_async.client import VeriffClient

__all__ = ("Block", "CallTask", "Portal")

_T = TypeVar("_T")
_LOG: Final = logging.getLogger(__name__)

# Seconds in which the thread must run. A server such as uWSGI without ``--enable-threads`` never runs it.
_START: Final = 30.0
# Seconds that closing waits for the thread. Calls end within one; a callback that blocks the loop may take longer.
_CLOSE: Final = 5.0
# Seconds that an interrupted thread waits for its call to release files and connections.
_CANCEL: Final = 1.0
# On Windows, Ctrl+C does not interrupt a thread that waits for a lock without a timeout.
# https://docs.python.org/3/library/threading.html#threading.Lock.acquire
_CHECK_INTERVAL: Final = 0.1 if sys.platform == "win32" else -1


class _PendingCall(Generic[_T]):
    """One call: a thread waits for it, and a task of the loop performs it."""

    def __init__(self, function: Callable[[], Awaitable[_T]], calls: set[_PendingCall[object]]) -> None:
        self._function = function
        self._calls = calls
        # Of a callback that runs in another thread for a call: that of the call.
        self._caller = current_caller() or get_ident()
        self._own_task: asyncio.Task[None] | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancellations = 0
        # A lock, because an exception of a signal handler in `Event.wait`, which is Python code, can corrupt the event.
        self._running = Lock()
        self._running.acquire()
        self._has_ended = False
        self._value: _T | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Perform the call in a task of its own."""
        # The loop keeps weak references to tasks only. The task itself sets `_task`: `cancel` must not cancel one that
        # has not begun, because nothing would end the call then.
        self._own_task = asyncio.get_running_loop().create_task(self.perform())

    async def perform(self) -> None:
        """Await the result of the function."""
        if self._cancellations:
            return
        self._task = task = require_asyncio()
        set_caller(self._caller)
        try:
            self._value = await self._function()
        except BaseException as error:
            self._error = error
            # The end of the loop must end the task. Anything else is raised in the thread that called: here, a
            # `SystemExit` would end the loop.
            if isinstance(error, asyncio.CancelledError) and task.cancelling() > self._cancellations:
                self._error = _closed_error()
                raise
        finally:
            for _ in range(self._cancellations):
                task.uncancel()  # the task may have more calls to perform, see `CallTask`
            self._task = self._own_task = None
            self._end()

    def _end(self) -> None:
        self._calls.discard(cast("_PendingCall[object]", self))
        if not self._has_ended:
            self._has_ended = True
            self._running.release()

    def cancel(self) -> None:
        """Cancel the call, in the loop."""
        self._cancellations = 1
        if self._task is None:
            self._end()
        else:
            self._task.cancel()

    def fail(self, error: BaseException) -> None:
        """End the call, because its loop has ended."""
        self._error = error
        self._end()

    def wait(self, timeout: float = -1) -> None:
        """Wait until the call has ended, without a limit by default."""
        if not self._has_ended:
            self._running.acquire(timeout=timeout)

    def wait_interruptibly(self) -> None:
        """Wait until the call has ended, or a signal handler raises an exception."""
        while not self._has_ended:
            self.wait(_CHECK_INTERVAL)

    def result(self) -> _T:
        """Return the result, or raise the error of the call with its traceback."""
        error, self._error = self._error, None
        if error is None:
            return cast("_T", self._value)
        try:
            raise error
        finally:
            # The traceback holds this frame, and would keep files and buffers until a garbage collection.
            del error


class _LoopThread:
    """The thread and its loop. It does not know the `Portal`, so that an unclosed one can be collected."""

    def __init__(
        self, aclose: Callable[[], Awaitable[None]], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
    ) -> None:
        self.closed = False
        self.calls = set[_PendingCall[object]]()
        self.tasks = set[asyncio.Task[None]]()
        self.resources = AsyncExitStack()
        self.error: Exception | None = None
        self._failure: BaseException | None = None
        self._has_served = False
        # Reentrant: a garbage collection while it is held may end a `CallTask`.
        self._lock = RLock()
        self._thread: Thread | None = None
        self._is_copy = False
        self._aclose = aclose
        self._loop_factory = loop_factory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._claim = Lock()
        self._starting = Lock()
        self._starting.acquire()
        _threads.add(self)

    @property
    def runs(self) -> bool:
        """Whether the loop runs in this process, and was not asked to end."""
        return self._thread is not None and not self.closed and not self._is_copy

    def schedule(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, in a copy of the context of this thread; the first call starts the loop.

        Raises:
            ClientClosedError: The loop has ended.
            ConfigurationError: The thread cannot run, or has not survived a fork.
        """
        with self._lock:
            if self._is_copy:
                msg = (
                    "The blocking client was used before this process was forked, and threads do not survive a fork: "
                    "call open_client() in each worker process, or make no call before the fork."
                )
                raise ConfigurationError(msg)
            if self.closed:
                raise _closed_error()
            loop = self._loop or self._start()
            # In the lock, so that the loop cannot end before it has called the function.
            try:
                loop.call_soon_threadsafe(function)
            except RuntimeError:  # the loop is closed: a callback has ended it
                raise _closed_error() from None

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._thread is None:
            # A daemon: the interpreter would otherwise wait for it before it calls the functions of atexit.
            try:
                Thread(target=self._run, name="veriff-async loop", daemon=True).start()
            except RuntimeError as error:  # the system has no thread left, or the interpreter is ending
                msg = f"The blocking client cannot start its thread ({error}): call it earlier, or use fewer threads."
                raise ConfigurationError(msg) from error
        if self._starting.acquire(timeout=_START):
            self._starting.release()
        if self._loop is None:
            self.closed = True
            if self._failure is not None:
                msg = f"loop_factory raised {type(self._failure).__name__}: pass a function that returns an event loop."
                raise ConfigurationError(msg) from self._failure
            msg = "The event loop of the blocking client does not start: allow threads (uWSGI: --enable-threads)."
            raise ConfigurationError(msg)
        return self._loop

    def _run(self) -> None:
        # A signal handler may interrupt the start of a thread, and the next call starts another one.
        if not self._claim.acquire(blocking=False):
            return
        self._thread = current_thread()
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001  of a callback, for example SystemExit; it would only be printed
            self._failure, name = error, type(error).__name__
            # After the client is closed, Python 3.12 fails at the end of the process: it starts no thread then, and
            # asyncio wants one to wait for those that have resolved names.
            if not self._has_served:
                _LOG.error("The event loop of a blocking client ended with %s.", name, extra=log_fields(error=name))
        finally:
            self.closed = True
            if self._loop is None:
                self._starting.release()
            for call in tuple(self.calls):
                call.fail(_closed_error())

    async def _serve(self) -> None:
        self._stopping, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self._starting.release()
        try:
            if not self.closed:  # while it started
                await self._stopping.wait()
        finally:
            # The client first, because its waits read the inbox, which may be a resource.
            self.resources.push_async_callback(self._aclose)
            try:
                await self.resources.aclose()
            except Exception as error:  # noqa: BLE001  of a resource
                self.error = error
        self._has_served = True

    def stop(self) -> None:
        """Let the loop end."""
        with self._lock:
            self.closed = True
            if not self._is_copy and self._loop is not None and self._stopping is not None:
                with suppress(RuntimeError):  # it has ended
                    self._loop.call_soon_threadsafe(self._stopping.set)

    def join(self) -> None:
        """Wait until the thread has ended."""
        thread = self._thread
        if thread is None or self._is_copy or thread is current_thread():
            return
        thread.join(_CLOSE)
        if thread.is_alive():
            self._thread = None  # the end of the process must not wait again
            _LOG.warning("The event loop of a blocking client did not end: a callback blocks it.")

    def forget(self) -> None:
        """Do not wait for the thread any more, after a fork."""
        self._is_copy = self._thread is not None
        self._lock = RLock()


_threads: Final[WeakSet[_LoopThread]] = WeakSet()


def _close_all() -> None:
    """Close at the end of the process, while other threads can still run."""
    threads = tuple(_threads)
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join()


def _after_fork() -> None:
    for thread in tuple(_threads):
        thread.forget()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _closed_error() -> ClientClosedError:
    return ClientClosedError("The blocking client is closed: open_client() opens another one.")


class Portal:
    """The way of synchronous threads into an event loop, which the first call starts in a thread."""

    def __init__(
        self,
        client: VeriffClient,
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    ) -> None:
        """Start nothing yet, so that a server may fork before the first call.

        Args:
            client: The client to close in the loop before it ends.
            loop_factory: Creates the loop; by default asyncio does.
        """
        self.client = client
        self._thread = _LoopThread(client.aclose, loop_factory)
        self.tasks: set[asyncio.Task[None]] = self._thread.tasks

    def __del__(self) -> None:
        """Warn if the loop still runs, and let it end."""
        if self._thread.runs:
            warnings.warn("unclosed blocking client", ResourceWarning, source=self, stacklevel=2)
            self._thread.stop()

    @property
    def closed(self) -> bool:
        """Whether the loop has ended, or ends."""
        return self._thread.closed

    def check_open(self) -> None:
        """Raise `ClientClosedError` if the loop has ended, or ends."""
        if self.closed:
            raise _closed_error()

    def call(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """Call a coroutine function in the loop, and return its result when it is there.

        Raises:
            ClientClosedError: The loop has ended.
            ConfigurationError: This thread runs an event loop, or the loop cannot run.
        """
        return self.wait(function, lambda call: call.begin())

    def wait(self, function: Callable[[], Awaitable[_T]], begin: Callable[[_PendingCall[_T]], object]) -> _T:
        """Call `begin` in the loop, and wait until it or a task has performed the call.

        An exception in this thread, such as `KeyboardInterrupt`, cancels the call.
        """
        refuse_running_loop()
        thread = self._thread
        call = _PendingCall(function, thread.calls)
        try:
            # Before the loop knows it, so that the end of the loop ends it.
            thread.calls.add(cast("_PendingCall[object]", call))
            thread.schedule(lambda: begin(call))
            call.wait_interruptibly()
        except BaseException as error:
            try:
                thread.schedule(call.cancel)  # the loop calls it after `begin`
                call.wait(_CANCEL)
            except (ClientClosedError, ConfigurationError):
                call.fail(error)  # it has not begun
            raise
        return call.result()

    def schedule(self, function: Callable[[], object]) -> None:
        """Call a function in the loop without waiting, unless the loop has ended."""
        with suppress(ClientClosedError, ConfigurationError):
            self._thread.schedule(function)

    def enter(self, manager: AbstractAsyncContextManager[_T]) -> _T:
        """Enter an async context manager, which the end of the loop leaves."""
        block = Block(manager, self)
        value = block.__enter__()
        self._thread.resources.push_async_callback(block.leave)
        return value

    def close(self) -> None:
        """Close the client, end the loop, and wait for its thread. A second call does nothing.

        An exception of a resource is raised.
        """
        self._thread.stop()
        self._thread.join()
        error, self._thread.error = self._thread.error, None
        if error is not None:
            raise error


class CallTask:
    """One task of the loop that performs several calls one after another.

    A context manager must be left by the task that has entered it, if it holds a timeout or a task group, and an async
    generator must be continued by it.
    """

    def __init__(self, portal: Portal) -> None:
        """Start nothing before the first call."""
        self._portal = portal
        self._queue: asyncio.Queue[_PendingCall[object] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._has_ended = False

    async def _serve(self) -> None:
        while (call := await self._queue.get()) is not None:
            await call.perform()

    def _put(self, call: _PendingCall[object] | None) -> None:
        if self._has_ended:
            # A stream was used after its block: it raises its own error, in a task for this call alone.
            if call is not None:
                call.begin()
            return
        if self._task is None:
            # The end of the loop must find it, and the loop keeps weak references to tasks only.
            tasks = self._portal.tasks
            self._task = asyncio.get_running_loop().create_task(self._serve())
            tasks.add(self._task)
            self._task.add_done_callback(tasks.discard)
        self._has_ended = call is None
        self._queue.put_nowait(call)

    def call(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """Call a coroutine function in the task, see `Portal.call`."""
        return self._portal.wait(function, lambda call: self._put(cast("_PendingCall[object]", call)))

    def end(self, function: Callable[[], Awaitable[object]] | None = None) -> None:
        """End the task, after a last call if `function` is given. A garbage collection may call this in any thread."""
        if self._task is None or self._portal.closed:  # the interpreter may be ending, and imports nothing
            return
        if function is not None:
            last = _PendingCall[object](function, set())
            self._portal.schedule(lambda: self._put(last))
        self._portal.schedule(lambda: self._put(None))

    async def perform_last(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """Call a coroutine function in the task, from another task of the loop, and end the task."""
        call = _PendingCall(function, set())
        self._put(cast("_PendingCall[object]", call))
        self._put(None)
        if self._task is not None:
            await self._task
        return call.result()


class Block(AbstractContextManager[_T]):
    """An async context manager; one task of the loop enters and leaves it.

    Attributes:
        task: The task.
    """

    def __init__(self, manager: AbstractAsyncContextManager[_T], portal: Portal) -> None:
        """Do nothing yet."""
        self.task = CallTask(portal)  # another one for each time that it is entered
        self._manager = manager
        self._portal = portal
        self._is_entered = False

    def __enter__(self) -> _T:
        """Enter it. If a signal handler interrupts that, it is left."""
        self.task = CallTask(self._portal)
        try:
            return self.task.call(self._enter)
        except BaseException:
            self.task.end(self._leave)
            raise

    async def _enter(self) -> _T:
        value = await self._manager.__aenter__()
        self._is_entered = True
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Leave it."""
        try:
            return self.task.call(partial(self._leave, kind, error, traceback))
        except ClientClosedError:
            if self._portal.closed:
                return None  # the end of the loop has closed it
            raise
        finally:
            self.task.end()

    async def leave(self) -> None:
        """Leave it, in the loop."""
        await self.task.perform_last(self._leave)

    async def _leave(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> bool | None:
        if not self._is_entered:
            return None
        self._is_entered = False
        return await self._manager.__aexit__(kind, error, traceback)


def refuse_running_loop() -> None:
    """Raise `ConfigurationError` if an event loop runs in this thread, because a call would block it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = (
        "A blocking client was called in a thread that runs an event loop: await the method of VeriffClient there. "
        "A callback such as progress runs in the client's own loop, and must not call the client."
    )
    raise ConfigurationError(msg)
