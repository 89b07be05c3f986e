"""The event loop that this library needs, and what a cancellation in it means."""

from __future__ import annotations

import asyncio

from veriff_async.errors import ConfigurationError

__all__ = ("is_being_cancelled", "require_asyncio")


def require_asyncio() -> None:
    """Return if a task of asyncio runs, uvloop included.

    Under trio there is none, also where trio is a guest in a loop of asyncio: connections, timers and waits would fail
    later, with errors that do not name the reason.

    Raises:
        ConfigurationError: No task of asyncio runs.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None:
        msg = "veriff-async requires asyncio: use asyncio.run() or anyio's asyncio backend; trio is not supported."
        raise ConfigurationError(msg)


def is_being_cancelled() -> bool:
    """Return whether the running task was asked to end.

    If not, a `CancelledError` that it meets comes from elsewhere: the caller's code awaited a task that was cancelled.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
