"""The check that a test leaves no task behind, which must not blame a test for the tasks of its fixtures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.left_tasks import fail_on_left_tasks
from tests.loops import every_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.anyio, every_loop]


class Echo:
    """A server that starts a task of its own for each connection, and lets it run until the end."""

    def __init__(self) -> None:
        """Serve no connection yet."""
        self.port = 0
        self.ended = asyncio.Event()
        self.tasks = set[asyncio.Task[object]]()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Start a task, answer, and close."""
        self.tasks.add(asyncio.create_task(self.ended.wait()))
        writer.write(await reader.read(1))
        await writer.drain()
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    """Run the server."""
    echo = Echo()
    server = await asyncio.start_server(echo.accept, "127.0.0.1", 0)
    async with server:
        echo.port = server.sockets[0].getsockname()[1]
        yield echo
        echo.ended.set()
        await asyncio.wait(echo.tasks)


async def test_task_of_the_server_of_a_fixture_may_outlive_the_test(echo: Echo) -> None:
    """A test has no part in when such a task ends: the fixture waits for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"x")
    assert b"x" == await reader.read()
    writer.close()
    await writer.wait_closed()
    (task,) = echo.tasks
    assert not task.done()


async def test_task_that_a_test_starts_must_end() -> None:
    """A task that runs on fails its test."""
    ended = asyncio.Event()
    with pytest.raises(pytest.fail.Exception, match="test_task_that_a_test_starts_must_end"):
        async with fail_on_left_tasks():
            task = asyncio.create_task(ended.wait(), name="of test_task_that_a_test_starts_must_end")
    ended.set()
    await task


async def test_task_that_was_cancelled_has_time_to_end() -> None:
    """A cancelled task ends some iterations of the loop later."""

    async def end_late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async with fail_on_left_tasks():
        task = asyncio.create_task(end_late())
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
