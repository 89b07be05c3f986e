"""WriteBehind: one write at a time, in order, and no error or thread is lost."""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.conditions import run_loop
from veriff_async._media.worker_threads import WorkerThreads
from veriff_async._media.write_behind import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture
def workers() -> Iterator[WorkerThreads]:
    """Return worker threads that end with the test."""
    with closing(WorkerThreads(2)) as workers:
        yield workers


async def test_writes_run_in_order_one_at_a_time(workers: WorkerThreads) -> None:
    """A write waits for the previous one, and `flush` for the last."""
    written: list[int] = []
    release = Event()

    def write(number: int) -> None:
        release.wait(10)
        written.append(number)

    writer = WriteBehind(workers)
    await writer.start(partial(write, 1))
    second = asyncio.create_task(writer.start(partial(write, 2)))
    await run_loop()
    assert not second.done()
    release.set()
    await second
    await writer.flush()

    assert written == [1, 2]


async def test_error_of_a_write_is_raised_by_the_next_call(workers: WorkerThreads) -> None:
    """The error of a thread reaches the caller that writes or flushes next; `wait` only waits."""

    def write() -> None:
        raise BrokenPipeError

    writer = WriteBehind(workers)
    await writer.start(write)
    await writer.wait()
    with pytest.raises(BrokenPipeError):
        await writer.start(write)


async def test_cancelled_flush_leaves_the_thread_to_wait(workers: WorkerThreads) -> None:
    """A thread cannot be cancelled, so `wait` still waits for it after a cancelled `flush`."""
    ended, release = Event(), Event()

    def write() -> None:
        release.wait(10)
        ended.set()

    writer = WriteBehind(workers)
    await writer.start(write)
    flushing = asyncio.create_task(writer.flush())
    await run_loop()
    flushing.cancel()
    await asyncio.wait([flushing])
    assert flushing.cancelled()
    assert not ended.is_set()
    release.set()
    await writer.wait()

    assert ended.is_set()
