"""Requirements on the event loop, and the meaning of a cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import Any

__all__ = ("is_being_cancelled", "require_asyncio")


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


def is_being_cancelled() -> bool:
    """Return whether the running task has been asked to end.

    If not, a `CancelledError` in the task comes from something that it awaits: user code awaited a task that was
    cancelled.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
