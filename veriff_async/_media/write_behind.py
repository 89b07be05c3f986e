"""A file that a thread writes while its reader fetches what follows.

Streams that are spooled and media that are downloaded share this: both read from a connection and write to a disk, and
neither should wait for the other.

    reader   gathers a batch ──► start(write) ──► gathers the next batch ──► start(write) waits for the first
    thread                           └──────────────── writes ────────────────┘

One write is under way at most, so memory is bounded by two such batches. A thread cannot be cancelled: when its caller
is, it still writes. So call `wait` before you close the file.

Few threads write for all streams of a client, because each keeps memory of its own for what it allocates.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from veriff_async._event_loop import forget_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from veriff_async._media.worker_threads import WorkerThreads

__all__ = ("Piece", "WriteBehind", "write_all")

Piece: TypeAlias = "bytes | bytearray"


class WriteBehind:
    """Runs blocking writes in a thread, one at a time, and reports the error of one to the next caller."""

    def __init__(self, threads: WorkerThreads) -> None:
        """Prepare to write in these threads."""
        self._threads = threads
        self._running: asyncio.Future[object] | None = None

    async def start(self, write: Callable[[], object]) -> None:
        """Start a write, once the previous one has ended.

        Raises:
            Exception: The previous write failed.
        """
        await self.flush()
        self._running = self._threads.start(write)
        # `flush` raises the exception, unless the caller fails earlier for another reason. Then it must not be logged.
        self._running.add_done_callback(forget_error)

    async def flush(self) -> None:
        """Wait until everything is written.

        Raises:
            Exception: The last write failed.
        """
        if self._running is not None:
            # If this wait is cancelled, the thread still runs: the future is kept for `wait`.
            await asyncio.shield(self._running)
            self._running = None

    async def wait(self) -> None:
        """Wait until no thread is writing, and ignore errors."""
        if self._running is not None:
            await asyncio.wait([self._running])


def write_all(file: BinaryIO, piece: Piece) -> None:
    """Write a whole piece to an unbuffered file, which may accept a part of it at a time."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]
