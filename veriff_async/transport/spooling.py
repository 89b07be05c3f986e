"""What can be read only once is kept while it is hashed and sent: in memory while small, then in an unnamed file."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from inspect import isawaitable
from typing import TYPE_CHECKING, BinaryIO, cast

from anyio import to_thread

from veriff_async.errors import ConfigurationError, MediaTooLargeError
from veriff_async.transport.sources import PIECE, SMALL, BytesSource, FileSource, empty, reads_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio import CapacityLimiter

    from veriff_async.models.media import MediaSource
    from veriff_async.transport.sources import Source

__all__ = ("spool",)


async def spool(source: MediaSource, *, limit: int, threads: CapacityLimiter) -> Source:
    """Read a source that can be read only once, and keep its bytes.

    Args:
        source: An async iterator, async reader or file that cannot seek.
        limit: Most bytes that are taken.
        threads: Bounds the worker threads.

    Raises:
        MediaTooLargeError: There are more than `limit` bytes; no more than that was read.
        MediaEmptyError: There are none.
        ConfigurationError: The source gives something else than bytes.
    """
    kept = bytearray()
    file: BinaryIO | None = None
    size = 0
    try:
        async for piece in _gathered(_pieces(source, threads)):
            size += len(piece)
            if size > limit:
                msg = f"The media has more than {limit} bytes, the most that Veriff takes: send a smaller picture."
                raise MediaTooLargeError(msg)  # noqa: TRY301  the handler below is for the file alone
            if size <= SMALL:
                kept += piece
                continue
            if file is None:
                # Unnamed, and readable by this process alone: it is a picture of somebody's papers.
                file = await to_thread.run_sync(_temporary, bytes(kept), limiter=threads)
            await to_thread.run_sync(file.write, piece, limiter=threads)
        if size == 0:
            raise empty()  # noqa: TRY301
    except BaseException:
        if file is not None:
            file.close()
        raise
    return BytesSource(memoryview(kept), constant=True) if file is None else FileSource(file, 0, size, spool=True)


def _temporary(beginning: bytes) -> BinaryIO:
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  closed by the source
    file.write(beginning)
    return cast("BinaryIO", file)


async def _gathered(pieces: AsyncIterator[object]) -> AsyncIterator[bytes]:
    """Join small pieces, so that a thread is asked once for many of them."""
    gathered = bytearray()
    async for piece in pieces:
        if not isinstance(piece, bytes | bytearray | memoryview):
            msg = "The media's source gave something else than bytes: open it in binary mode."
            raise ConfigurationError(msg)
        gathered += piece
        if len(gathered) >= PIECE:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


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
    while piece := await read(PIECE):
        yield piece
