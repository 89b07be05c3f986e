"""WriteBehind: one batch at a time, in order, and no error or thread is lost."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest
from anyio import CapacityLimiter

from tests.conditions import run_loop
from veriff_async._media.write_behind import WriteBehind

pytestmark = pytest.mark.anyio


async def test_batches_are_written_in_order_one_at_a_time() -> None:
    """A batch waits for the previous one, and `flush` for the last."""
    written: list[bytes] = []
    release = Event()

    def write(pieces: list[bytes | bytearray]) -> None:
        release.wait(10)
        written.extend(map(bytes, pieces))

    writer = WriteBehind(write, threads=CapacityLimiter(2))
    await writer.write([b"1", b"2"])
    second = asyncio.create_task(writer.write([b"3"]))
    await run_loop()
    assert not second.done()
    release.set()
    await second
    await writer.flush()

    assert written == [b"1", b"2", b"3"]


async def test_error_of_a_write_is_raised_by_the_next_call() -> None:
    """The error of a thread reaches the caller that writes or flushes next; `wait` only waits."""

    def write(_: list[bytes | bytearray]) -> None:
        raise BrokenPipeError

    writer = WriteBehind(write, threads=CapacityLimiter(1))
    await writer.write([b"1"])
    await writer.wait()
    with pytest.raises(BrokenPipeError):
        await writer.write([b"2"])


async def test_cancelled_flush_leaves_the_thread_to_wait() -> None:
    """A thread cannot be cancelled, so `wait` still waits for it after a cancelled `flush`."""
    ended, release = Event(), Event()

    def write(_: list[bytes | bytearray]) -> None:
        release.wait(10)
        ended.set()

    writer = WriteBehind(write, threads=CapacityLimiter(1))
    await writer.write([b"1"])
    flushing = asyncio.create_task(writer.flush())
    await run_loop()
    flushing.cancel()
    await asyncio.wait([flushing])
    assert flushing.cancelled()
    assert not ended.is_set()
    release.set()
    await writer.wait()

    assert ended.is_set()
