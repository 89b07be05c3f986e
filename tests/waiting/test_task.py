"""A background task is restarted until it is stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.loops import every_loop
from veriff_async._waiting.task import RestartableTask

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


@every_loop
@pytest.mark.parametrize("error", [None, ValueError("secret"), asyncio.CancelledError("secret")])
async def test_work_that_ends_is_restarted(
    error: BaseException | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that returns, raises, or meets a foreign cancellation is restarted, and the log names the error."""
    monkeypatch.setattr("veriff_async._waiting.task._INITIAL_BACKOFF", 0.0)
    started, again = 0, asyncio.Event()

    async def work() -> None:
        nonlocal started
        started += 1
        if started == 3:
            again.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if error is not None:
            raise error

    task = RestartableTask("of a test", work)
    assert task.start()
    assert not task.start()
    async with asyncio.timeout(10):
        await again.wait()
    await task.aclose()

    assert started == 3
    problem = "an early end" if error is None else type(error).__name__
    assert [f"The task of a test failed with {problem}; it is restarted."] * 2 == [
        record.getMessage() for record in caplog.records if record.name == "veriff_async.waiting"
    ]


@every_loop
async def test_work_that_stops_itself_is_not_restarted() -> None:
    """A task whose first steps stop it ends, also if these steps run before `start` returns."""
    started: list[Callable[[], None]] = []

    async def work() -> None:
        started.append(task.stop)
        task.stop()
        await asyncio.Event().wait()

    task = RestartableTask("the task of a test", work)
    task.start()
    await anyio.wait_all_tasks_blocked()
    async with asyncio.timeout(10):
        await task.aclose()

    assert len(started) == 1
