"""Requirements on the event loop, and the meaning of a cancellation."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import Any

__all__ = ("current_caller", "forget_error", "is_being_cancelled", "require_asyncio", "set_caller")

_caller: Final = ContextVar[tuple[object, object]]("veriff_async_caller", default=(None, None))


def require_asyncio() -> asyncio.Task[Any]:
    """Return the running asyncio task, which runs on asyncio's loop or uvloop.

    Under trio there is none, even if trio runs as a guest in an asyncio loop. Connections, timers and waits would fail
    later, with errors that do not name the reason.

    Raises:
        ConfigurationError: No asyncio task is running.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None:
        msg = "veriff-async requires asyncio: use asyncio.run() or anyio's asyncio backend; trio is not supported."
        raise ConfigurationError(msg)
    return task


def set_caller(caller: object) -> None:
    """Let the running task act for a caller, for example for a thread that uses a blocking client."""
    _caller.set((asyncio.current_task(), caller))


def current_caller() -> object:
    """Return for which caller the running task acts, by default itself; in another thread, that of its context."""
    task, caller = _caller.get()
    try:
        current = asyncio.current_task()
    except RuntimeError:  # a thread without an event loop
        return caller
    return caller if current is task else current


def forget_error(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging the error of a future that has ended, whose result no caller may ask for."""
    if not future.cancelled():
        future.exception()


def is_being_cancelled() -> bool:
    """Return whether the running task has been asked to end.

    If not, a `CancelledError` in the task comes from something that it awaits: user code awaited a task that was
    cancelled.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
