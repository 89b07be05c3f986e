"""Streams that can be read only once: kept until they are sent, in memory while small, then in an unnamed file.

Only the wait for the next piece counts as the source's time. A source that takes too long for it fails, and holds up
nothing but itself.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, BinaryIO, Final, Self, TypeAlias, cast

from anyio import CancelScope, to_thread

from veriff_async._event_loop import is_being_cancelled
from veriff_async._media.blocking_source import NoDescriptorError, PipeReader, run_abandonable
from veriff_async._media.source import SMALL, BytesSource, FileSource
from veriff_async._media.source_errors import empty, not_bytes, stalled, unreadable
from veriff_async._media.source_kinds import reads_async
from veriff_async._protocol.file_type import HEAD
from veriff_async._protocol.media_rules import size_limit, too_large, type_of
from veriff_async.errors import MediaSourceError, VeriffError

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator
    from types import TracebackType

    from anyio import CapacityLimiter
    from typing_extensions import Buffer

    from veriff_async._media.source import Source
    from veriff_async._media.stream_body import StreamSigner
    from veriff_async.models.media import Media, MediaSource

__all__ = ("spool", "spool_bytes")

_Read: TypeAlias = Callable[[int], Awaitable[object]]

_ASKED: Final = 256 * 1024
"""Bytes that are asked for at once: as many as a connection gives, so that nothing is cut or joined."""

_GATHERED: Final = 512 * 1024
"""Bytes that a thread writes and signs at once: fewer would be more hops, more would be more memory."""

_LARGE: Final = 16 * 1024
"""Bytes of a piece that is better kept as it is than copied."""


_NOTHING_YET: Final = 0.01
"""Seconds until an object that had nothing yet, and that the loop cannot wait for, is asked again."""


async def spool(media: Media, *, threads: CapacityLimiter, idle: float, signer: StreamSigner | None = None) -> Source:
    """Read the source of a media that can be read only once, and keep its bytes.

    A thread writes and signs what came, while what follows is read. Type and size are checked while it comes, so that a
    stream of the wrong kind is not read to its end.

    Args:
        media: Its source is an async iterator, an async reader or a file that cannot seek.
        threads: Bounds the worker threads.
        idle: Most seconds that the source may take for its next piece.
        signer: Signs what does not stay in memory, if it is to be sent.

    Raises:
        MediaUnsupportedError: Veriff does not accept this type.
        MediaTooLargeError: It has more bytes than Veriff accepts of its type; no more than that was read.
        MediaEmptyError: There are none.
        MediaSourceError: The source failed, or gave nothing for `idle` seconds; or the
            temporary file cannot be written.
        InvalidArgumentError: The source gives something else than bytes.
    """
    try:
        async with aclosing(_pieces(media.source, threads)) as pieces, _Pieces(media.source, pieces, idle) as read:
            return await _spool(_Head(media), read, threads, signer)
    except TimeoutError:
        pass
    raise stalled(idle)


async def _spool(head: _Head, read: _Pieces, threads: CapacityLimiter, signer: StreamSigner | None) -> Source:
    kept, size = _Handful(), 0
    spooling: _Spooling | None = None
    try:
        while (piece := await read.next()) is not None:
            size += kept.add(piece)
            head.take(piece, size)
            if size > SMALL and spooling is None:
                spooling = _Spooling(threads, signer)
            if spooling is not None and kept.size >= _GATHERED:
                await spooling.hand_over(kept.pieces)
                kept = _Handful()
        if size == 0:
            raise empty()  # noqa: TRY301  the handler below is for the file alone
        if spooling is None:
            return BytesSource(memoryview(b"".join(kept.pieces)), constant=True)
        await spooling.hand_over(kept.pieces)
        return FileSource(await spooling.written(), 0, size, spool=True)
    except BaseException:
        if spooling is not None:
            await spooling.aclose()
        raise


async def spool_bytes(content: bytes, threads: CapacityLimiter) -> Source:
    """Keep bytes in an unnamed file.

    Raises:
        MediaSourceError: The temporary file cannot be written.
    """
    spooling = _Spooling(threads, None)
    try:
        await spooling.hand_over([content])
        return FileSource(await spooling.written(), 0, len(content), spool=True)
    except BaseException:
        await spooling.aclose()
        raise


class _Head:
    """The first bytes of a stream, and what they say about the rest."""

    def __init__(self, media: Media) -> None:
        self._scaled = media.max_side is not None
        self._start = b""
        self._type: str | None = None
        self._limit = 0

    def take(self, piece: bytes, size: int) -> None:
        """Look at the next piece; `size` counts the bytes of all pieces.

        Raises:
            MediaUnsupportedError: Veriff does not accept this type.
            MediaTooLargeError: There are too many bytes for the type.
        """
        if self._type is None:
            self._start += piece[: HEAD - len(self._start)]
            if len(self._start) < HEAD:
                return
            self._type = type_of(self._start)
            self._limit = size_limit(self._type, scaled=self._scaled)
        if size > self._limit:
            raise too_large(self._type, f"more than {self._limit} bytes", scaled=self._scaled)


class _Handful:
    """What came and is not written yet: large pieces as they are, small ones joined."""

    def __init__(self) -> None:
        self.pieces: list[bytes | bytearray] = []
        self.size = 0

    def add(self, taken: bytes) -> int:
        """Keep a piece, and return its size in bytes."""
        last = self.pieces[-1] if self.pieces else b""
        if len(taken) < _LARGE and isinstance(last, bytearray) and len(last) < _LARGE:
            last += taken
        else:
            self.pieces.append(taken if len(taken) >= _LARGE else bytearray(taken))
        self.size += len(taken)
        return len(taken)


class _Spooling:
    """A file without a name, written and signed by a thread, one handful of pieces after another."""

    def __init__(self, threads: CapacityLimiter, signer: StreamSigner | None) -> None:
        self._threads = threads
        self._signer = signer
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
        try:
            self._write_out(pieces)
        except (OSError, ValueError) as error:
            reason = type(error).__name__
            if isinstance(error, OSError) and error.errno is not None:
                reason = os.strerror(error.errno)
        else:
            return
        msg = (
            f"The media cannot be kept in a temporary file ({reason}): make room there, or name another folder in the "
            "environment variable TMPDIR."
        )
        raise MediaSourceError(msg)

    def _write_out(self, pieces: list[bytes | bytearray]) -> None:
        if self._file is None:
            # Unnamed, and readable by this process alone: it is a picture of somebody's papers.
            self._file = cast("BinaryIO", tempfile.TemporaryFile(buffering=0))  # noqa: SIM115  closed by the source
            if self._signer is not None:
                self._signer.begin(b"".join(pieces)[:HEAD])
        pieces.reverse()
        while pieces:  # each is let go of as soon as it is written, since others come meanwhile
            piece = pieces.pop()
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]
            if self._signer is not None:
                self._signer.update(piece)


class _Pieces:
    """Asks a source for its pieces: each must come in time, and whatever the source raises becomes an error of ours.

    One timer serves all pieces: it looks when the last question was asked, since there may be thousands of pieces a
    second.
    """

    def __init__(self, source: MediaSource, pieces: AsyncIterator[object], idle: float) -> None:
        self._source = source
        self._pieces = pieces
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._asked: float | None = None
        self._deadline = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._deadline.__aenter__()
        self._timer = self._loop.call_later(self._idle, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._deadline.__aexit__(kind, error, traceback)

    async def next(self) -> bytes | None:
        """Return the next piece, or ``None`` at the end.

        Raises:
            MediaSourceError: The source failed.
            InvalidArgumentError: It gave something else than bytes.
        """
        self._asked = self._loop.time()
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            return None
        except VeriffError:
            raise
        except (Exception, asyncio.CancelledError) as error:  # a source of the caller may raise anything
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            failed = unreadable(error, self._source)
        else:
            if isinstance(piece, bytes | bytearray | memoryview):
                return bytes(cast("Buffer", piece))
            raise not_bytes(piece)
        finally:
            self._asked = None
        raise failed

    def _look(self) -> None:
        now = self._loop.time()
        due = (now if self._asked is None else self._asked) + self._idle
        if due <= now:
            self._deadline.reschedule(now)
        else:
            self._timer = self._loop.call_at(due, self._look)


def _pieces(source: MediaSource, threads: CapacityLimiter) -> AsyncGenerator[object]:
    # An async read(n) goes first: aiohttp's StreamReader has both, and iterates by lines.
    if reads_async(source):
        return _read_all(cast("_Read", source.read))  # type: ignore[union-attr]
    if isinstance(source, AsyncIterable):
        return _iterate(source)
    reader = _ThreadReader(cast("BinaryIO", source), threads)
    return _read_all(reader.read, reader.close)


async def _iterate(source: AsyncIterable[bytes]) -> AsyncGenerator[object]:
    pieces = aiter(source)
    try:
        async for piece in pieces:
            found: object = piece
            if isinstance(found, bytes | bytearray) and not found:
                # Not the end and not progress: the source's time goes on, and the loop must get its turn.
                await asyncio.sleep(0)
            else:
                yield piece
    finally:
        if isinstance(pieces, AsyncGenerator):
            with suppress(Exception):
                await pieces.aclose()


async def _read_all(read: _Read, close: Callable[[], None] | None = None) -> AsyncGenerator[object]:
    """Yield what is read; ``None`` means "nothing yet", as everywhere in `io`, and only ``b""`` is the end."""
    try:
        while piece := await _read_or_none(read):
            yield piece
    finally:
        if close is not None:
            close()


async def _read_or_none(read: _Read) -> object:
    while True:
        with suppress(BlockingIOError):
            if (piece := await read(_ASKED)) is not None:
                return piece
        await asyncio.sleep(_NOTHING_YET)


class _ThreadReader:
    """Reads a file of the caller that cannot seek, without blocking a shared thread."""

    def __init__(self, file: BinaryIO, threads: CapacityLimiter) -> None:
        self._file = file
        self._threads = threads
        self._pipe: PipeReader | None = None
        self._opened = False

    async def read(self, size: int) -> object:
        if not self._opened:
            self._opened = True
            with suppress(NoDescriptorError):
                self._pipe = PipeReader(cast("io.BufferedIOBase", self._file), self._threads)
        if self._pipe is not None:
            try:
                return await self._pipe.read(size)
            except NoDescriptorError:
                self.close()
        piece: object = await run_abandonable(partial(self._file.read, size))
        return await piece if isawaitable(piece) else piece

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
