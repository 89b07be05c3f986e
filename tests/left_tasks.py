"""The check that a test leaves no task behind."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Final

import pytest
from anyio import get_running_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("fail_on_left_tasks", "find_left_tasks")

_IS_TEST: Final = ContextVar("_IS_TEST", default=False)
"""Set while a test runs, so that each task has it that the test, or an object which it made, has started."""

_TURNS: Final = 10
"""Loop iterations that a cancelled task may need to end."""


@asynccontextmanager
async def fail_on_left_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind."""
    before = asyncio.all_tasks()
    token = _IS_TEST.set(True)
    try:
        yield
    finally:
        _IS_TEST.reset(token)
    for _ in range(_TURNS):
        left = find_left_tasks(before)
        if not left:
            break
        await asyncio.sleep(0)
    if left:
        pytest.fail(f"the test left {len(left)} tasks behind: {left}")


def find_left_tasks(before: set[asyncio.Task[object]]) -> list[asyncio.Task[object]]:
    """Return the tasks that a test left behind, without those that end with a fixture.

    A sandbox or an application of a fixture, for instance, may still post or handle a webhook. Its server accepts
    connections in the context of the fixture, which the tasks inherit that a connection starts.

    Args:
        before: The tasks that ran when the test started.
    """
    fixtures = {id(task) for task in before if task is not asyncio.current_task()}
    of_fixtures = {task.id for task in get_running_tasks() if task.parent_id in fixtures}
    started = asyncio.all_tasks() - before
    of_test = [task for task in started if id(task) not in of_fixtures and _get_context(task).get(_IS_TEST)]
    return [task for task in of_test if not _is_server_connection(task)]


def _is_server_connection(task: asyncio.Task[object]) -> bool:
    """Return whether a task of aiohttp serves a connection; it ends after its server, which a test may have started."""
    return getattr(task.get_coro(), "__qualname__", "").startswith("RequestHandler.")


def _get_context(task: asyncio.Task[object]) -> Context:
    """Return the context in which a task runs."""
    if sys.version_info >= (3, 12):
        return task.get_context()
    # CPython 3.11 shows it to the garbage collector alone.
    return next(found for found in gc.get_referents(task) if isinstance(found, Context))
