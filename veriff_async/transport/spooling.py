"""What can be read only once is kept while it is signed and sent: in memory while small, then in an unnamed file."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from inspect import isawaitable
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from anyio import CancelScope, to_thread

from veriff_async.errors import ConfigurationError, MediaTooLargeError
from veriff_async.protocol.sniff import HEAD
from veriff_async.transport.sources import SMALL, BytesSource, FileSource, empty, reads_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio import CapacityLimiter
    from typing_extensions import Buffer

    from veriff_async.models.media import MediaSource
    from veriff_async.transport.early import EarlySignature
    from veriff_async.transport.sources import Source

__all__ = ("spool",)

_ASKED: Final = 256 * 1024
"""Bytes that are asked for at once: as many as a connection gives, so that nothing is cut or joined."""

_GATHERED: Final = 512 * 1024
"""Bytes that a thread writes and signs at once: fewer would be more hops, more would be more memory."""

_LARGE: Final = 16 * 1024
"""Bytes of a piece that is better kept as it is than copied."""


async def spool(source: MediaSource, *, limit: int, threads: CapacityLimiter, early: EarlySignature) -> Source:
    """Read a source that can be read only once, and keep its bytes.

    A thread writes and signs what came, while what follows is read.

    Args:
        source: An async iterator, async reader or file that cannot seek.
        limit: Most bytes that are taken.
        threads: Bounds the worker threads.
        early: Signs what does not stay in memory.

    Raises:
        MediaTooLargeError: There are more than `limit` bytes; no more than that was read.
        MediaEmptyError: There are none.
        ConfigurationError: The source gives something else than bytes.
    """
    kept = _Handful()
    spooling: _Spooling | None = None
    size = 0
    try:
        async for piece in _pieces(source, threads):
            if not isinstance(piece, bytes | bytearray | memoryview):
                msg = "The media's source gave something else than bytes: open it in binary mode."
                raise ConfigurationError(msg)  # noqa: TRY301  the handler below is for the file alone
            size += kept.add(cast("Buffer", piece))
            if size > limit:
                msg = f"The media has more than {limit} bytes, the most that Veriff takes: send a smaller picture."
                raise MediaTooLargeError(msg)  # noqa: TRY301
            if size > SMALL and spooling is None:
                spooling = _Spooling(threads, early)
            if spooling is not None and kept.size >= _GATHERED:
                await spooling.hand_over(kept.pieces)
                kept = _Handful()
        if size == 0:
            raise empty()  # noqa: TRY301
        if spooling is None:
            return BytesSource(memoryview(b"".join(kept.pieces)), constant=True)
        await spooling.hand_over(kept.pieces)
        return FileSource(await spooling.written(), 0, size, spool=True)
    except BaseException:
        if spooling is not None:
            await spooling.aclose()
        raise


class _Handful:
    """What came and is not written yet: large pieces as they are, small ones joined."""

    def __init__(self) -> None:
        self.pieces: list[bytes | bytearray] = []
        self.size = 0

    def add(self, piece: Buffer) -> int:
        """Keep a piece, which its owner may write to again, and return its size in bytes."""
        last, taken = self.pieces[-1] if self.pieces else b"", bytes(piece)
        if len(taken) < _LARGE and isinstance(last, bytearray) and len(last) < _LARGE:
            last += taken
        else:
            self.pieces.append(taken if len(taken) >= _LARGE else bytearray(taken))
        self.size += len(taken)
        return len(taken)


class _Spooling:
    """A file without a name, written and signed by a thread, one handful of pieces after another."""

    def __init__(self, threads: CapacityLimiter, early: EarlySignature) -> None:
        self._threads = threads
        self._early = early
        self._file: BinaryIO | None = None
        self._writing: asyncio.Task[None] | None = None

    async def hand_over(self, pieces: list[bytes | bytearray]) -> None:
        """Wait until what came before is written, and let a thread write these."""
        await self._wait()
        work = to_thread.run_sync(self._write, pieces, limiter=self._threads)
        self._writing = asyncio.get_running_loop().create_task(work)

    async def written(self) -> BinaryIO:
        """Return the file when all is in it."""
        await self._wait()
        return cast("BinaryIO", self._file)

    async def aclose(self) -> None:
        """Drop the file, once no thread writes to it any more."""
        with CancelScope(shield=True):
            if self._writing is not None:
                await asyncio.wait([self._writing])
                # Whoever closes has another reason; this one was told where it was waited for.
                if not self._writing.cancelled():
                    self._writing.exception()
            if self._file is not None:
                self._file.close()

    async def _wait(self) -> None:
        if self._writing is not None:
            # A thread goes on whatever happens to its waiter, so it is waited for again where the file is closed.
            await asyncio.shield(self._writing)
            self._writing = None

    def _write(self, pieces: list[bytes | bytearray]) -> None:
        if self._file is None:
            # Unnamed, and readable by this process alone: it is a picture of somebody's papers.
            self._file = cast("BinaryIO", tempfile.TemporaryFile(buffering=0))  # noqa: SIM115  closed by the source
            self._early.begin(b"".join(pieces)[:HEAD])
        pieces.reverse()
        while pieces:  # each is let go of as soon as it is written, since others come meanwhile
            piece = pieces.pop()
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]
            self._early.take(piece)


def _pieces(source: MediaSource, threads: CapacityLimiter) -> AsyncIterator[object]:
    # An async read(n) goes first: aiohttp's StreamReader has both, and iterates by lines.
    if reads_async(source):
        return _read_all(cast("Callable[[int], Awaitable[bytes]]", source.read))  # type: ignore[union-attr]
    if isinstance(source, AsyncIterable):
        return aiter(source)
    read = cast("BinaryIO", source).read

    async def read_in_thread(n: int) -> bytes:
        piece = await to_thread.run_sync(read, n, limiter=threads)
        return cast("bytes", await piece if isawaitable(piece) else piece)

    return _read_all(read_in_thread)


async def _read_all(read: Callable[[int], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    while piece := await read(_ASKED):
        yield piece
