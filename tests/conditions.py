"""Waiting for conditions in tests, with a limit in real time, since tests move the time of the loop."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import asynccontextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ("needs_posix", "run_loop", "time_limit", "until", "until_in_thread", "until_still", "without_slow_steps")

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows lacks this signal, pipe, link, fork or mode")

SECONDS: Final = 30.0
"""Long enough for a busy machine, and shorter than the timeout of a test."""

TURNS: Final = 200
"""Iterations that suffice for what happens in the same loop."""

PAUSE: Final = 0.001
"""Seconds between two looks at a condition that another thread or process changes."""


async def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Run the loop until a condition is true, for what happens behind a socket, in a thread or in another task."""
    end, turns = monotonic() + seconds, 0
    while not condition():
        if monotonic() > end:
            pytest.fail(f"a condition was still false after {seconds:g} seconds")
        # A loop that never sleeps takes the processor from the thread or process that it waits for.
        await asyncio.sleep(0 if turns < TURNS else PAUSE)
        turns += 1


def until_in_thread(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Block a thread until a condition is true that another thread or process changes."""
    end = monotonic() + seconds
    while not condition():
        if monotonic() > end:
            pytest.fail(f"a condition was still false after {seconds:g} seconds")
        sleep(PAUSE)


async def until_still(count: Callable[[], int], turns: int = 500) -> None:
    """Run the loop until a count stops growing."""
    before = -1
    while before != count():
        before = count()
        await run_loop(turns)


async def run_loop(turns: int = 20) -> None:
    """Run the loop for some iterations, so that everything that is ready has run."""
    for _ in range(turns):
        await asyncio.sleep(0)


def without_slow_steps(stderr: str) -> str:
    """Return what a program wrote without the slow steps that asyncio's debug mode reports on a busy machine."""
    return re.sub(r"^Executing <.+> took [0-9.]+ seconds\n", "", stderr, flags=re.MULTILINE)


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncGenerator[None]:
    """Fail the running test when it takes too long.

    pytest-timeout alone does not suffice for coroutines: it raises in the task that happens to run. If that is not the
    task of the test, asyncio stores the exception in the wrong task, the test continues, and pytest hangs for ever.
    """
    loop = asyncio.get_running_loop()
    end = monotonic() + seconds
    timeout, is_over = asyncio.timeout(None), False

    def check() -> None:
        if is_over:
            return
        if monotonic() > end:
            timeout.reschedule(loop.time())
        else:
            loop.call_later(min(1.0, seconds), check)

    loop.call_later(min(1.0, seconds), check)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        pytest.fail(f"the test did not end within {seconds:g} seconds")
    finally:
        is_over = True
