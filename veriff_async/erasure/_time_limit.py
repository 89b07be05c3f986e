"""The time limit of a call of a store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from anyio import CancelScope

from veriff_async._event_loop import forget_error
from veriff_async._protocol.arguments import check_number
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ("DEFAULT_STORE_TIMEOUT", "StoreTimeout", "call_store", "check_store_timeout")

_T = TypeVar("_T")

DEFAULT_STORE_TIMEOUT: Final = 900.0
"""Seconds for one call of a store. A vacuum of large tables, or reading the file of a large inbox, takes minutes."""

# Seconds in which a store must end after its call was cancelled.
_CANCEL_SECONDS: Final = 5.0

# Calls that do not end although they were cancelled; asyncio itself keeps no strong reference to a task.
_abandoned: Final = set[asyncio.Task[object]]()


class StoreTimeout(Exception):  # noqa: N818  callers make an error of the library of it
    """A call of a store has taken too long."""


def check_store_timeout(seconds: object) -> float:
    """Return the option `store_timeout`.

    Raises:
        InvalidArgumentError: It is not above zero.
    """
    remedy = "give seconds above zero"
    return check_number("store_timeout", seconds, above=True, remedy=remedy, error=InvalidArgumentError)


async def call_store(call: Coroutine[object, object, _T], seconds: float) -> _T:
    """Await a call of a store, and cancel it after some seconds.

    It runs in a task of its own. A store may not end when it is cancelled, for example while a thread waits for a
    network drive; then the task is left running, and neither the other stores nor a cancellation wait for it.

    Raises:
        StoreTimeout: It has not ended in time.
    """
    task = asyncio.get_running_loop().create_task(call, name="veriff erasure")
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            await _cancel(task)
    if done or (task.done() and not task.cancelled() and task.exception() is None):
        return task.result()
    raise StoreTimeout


async def _cancel(task: asyncio.Task[_T]) -> None:
    """Cancel a task, and wait some seconds for its end, also if the caller was cancelled."""
    _abandoned.add(task)
    task.add_done_callback(_abandoned.discard)
    task.add_done_callback(forget_error)
    task.cancel()
    with CancelScope(shield=True):
        await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
