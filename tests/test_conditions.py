"""The limits that turn a test that hangs into a failure."""

from __future__ import annotations

import asyncio

import pytest

from tests.conditions import time_limit, until
from tests.loops import every_loop

pytestmark = [pytest.mark.anyio, every_loop]


async def test_until_fails_after_its_limit() -> None:
    """A condition that stays false fails the test."""
    with pytest.raises(pytest.fail.Exception, match=r"still false after 0\.05 seconds"):
        await until(lambda: False, 0.05)


async def test_time_limit_fails_a_test_that_spins() -> None:
    """A test that never sleeps fails, also if another task is busy, which would swallow the error of pytest-timeout."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110  it must spin
            await asyncio.sleep(0)

    other = asyncio.create_task(spin())
    with pytest.raises(pytest.fail.Exception, match=r"within 0\.05 seconds"):
        async with time_limit(0.05):
            await spin()
    other.cancel()
    await asyncio.wait({other})


async def test_time_limit_raises_other_timeouts_unchanged() -> None:
    """A `TimeoutError` of the test itself is raised as it is."""
    with pytest.raises(TimeoutError, match="mine"):
        async with time_limit(30):
            raise TimeoutError("mine")
