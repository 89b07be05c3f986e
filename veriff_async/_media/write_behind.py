"""A file that a thread writes while its reader fetches what follows.

Streams that are spooled and media that are downloaded share this: both read from a connection and write to a disk, and
neither should wait for the other.

    reader   gathers 512 KiB ──► write(pieces) ──► gathers the next 512 KiB ──► write(pieces) waits for the first
    thread                           └────────── writes, signs or verifies ──────────┘

One write is under way at most, so memory is bounded by two such batches. A thread cannot be cancelled: when its caller
is, it still writes. So call `wait` before you close the file.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from anyio import CapacityLimiter

__all__ = ("BATCH_SIZE", "Piece", "WriteBehind", "write_all")

Piece: TypeAlias = "bytes | bytearray"

BATCH_SIZE: Final = 512 * 1024
"""Bytes that are gathered before a thread writes them. A hop to a thread costs as much as writing 200 KiB.

They stay in the pieces in which they arrived: joining them would need fresh pages, which cost more than hashing them.
"""


class WriteBehind:
    """Runs a blocking write in a worker thread, one at a time, and reports its error to the next caller."""

    def __init__(self, write: Callable[[list[Piece]], None], *, threads: CapacityLimiter) -> None:
        """Prepare to write.

        Args:
            write: Writes a batch. Blocking; it may empty the list, to free each piece as soon as it is written.
            threads: Bounds the worker threads.
        """
        self._write = write
        self._threads = threads
        self._task: asyncio.Task[None] | None = None

    async def write(self, pieces: list[Piece]) -> None:
        """Start to write a batch, once the previous one is written.

        Raises:
            Exception: The previous batch could not be written.
        """
        await self.flush()
        work = to_thread.run_sync(self._write, pieces, limiter=self._threads)
        self._task = asyncio.get_running_loop().create_task(work)
        # `flush` raises the exception, unless the caller fails earlier for another reason. Then it must not be logged.
        self._task.add_done_callback(_mark_retrieved)

    async def flush(self) -> None:
        """Wait until everything is written.

        Raises:
            Exception: The last batch could not be written.
        """
        if self._task is not None:
            # If this wait is cancelled, the thread still runs: the task is kept for `wait`.
            await asyncio.shield(self._task)
            self._task = None

    async def wait(self) -> None:
        """Wait until no thread is writing, and ignore errors."""
        if self._task is not None:
            await asyncio.wait([self._task])


def write_all(file: BinaryIO, piece: Piece) -> None:
    """Write a whole piece to an unbuffered file, which may accept a part of it at a time."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def _mark_retrieved(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
