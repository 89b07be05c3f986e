"""Copies streams that can be read only once, so that they can be signed before they are sent.

A short stream stays in memory. A longer one goes to a temporary file without a name, which a thread writes while the
next bytes arrive (`WriteBehind`). Type and size are checked on the way, so a stream of a wrong type is not read to its
end.

The event loop signs the pieces as they arrive (`StreamSigner`), 256 KiB in a quarter of a millisecond. A thread that
signed them was slower than the loop that received them: more bytes waited in memory, and the two competed for the GIL.

Only the wait for the next piece counts against `Timeouts.idle`. A source that exceeds it fails alone: it blocks no
thread that another upload needs.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, BinaryIO, Final, Self, TypeAlias, TypeVar, cast

from anyio import CancelScope

from veriff_async._event_loop import is_being_cancelled
from veriff_async._media.blocking_source import NoDescriptorError, PipeReader, run_abandonable
from veriff_async._media.source import (
    SMALL,
    BytesSource,
    FileSource,
    empty,
    not_bytes,
    reads_async,
    stalled,
    unreadable,
)
from veriff_async._media.write_behind import WriteBehind, write_all
from veriff_async._protocol.image_header import HEAD_SIZE
from veriff_async._protocol.media_rules import may_convert, size_limit, too_large, type_of
from veriff_async.errors import MediaSourceError, VeriffError

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator
    from types import TracebackType

    from anyio import CapacityLimiter
    from typing_extensions import Buffer

    from veriff_async._media.source import Source
    from veriff_async._media.stream_body import StreamSigner
    from veriff_async._media.worker_threads import WorkerThreads
    from veriff_async._media.write_behind import Piece
    from veriff_async.models.media import Media, MediaSource

__all__ = ("spool", "spool_bytes")

_T = TypeVar("_T")
_Read: TypeAlias = Callable[[int], Awaitable[object]]

# Bytes that are requested at a time: as many as a connection delivers, so that nothing is split or joined.
_READ_SIZE: Final = 256 * 1024

# Bytes that are gathered before a thread writes them.
_BATCH_SIZE: Final = 256 * 1024

# Bytes that are signed before other tasks run.
_SIGNED_AT_ONCE: Final = 256 * 1024

# Bytes from which on a piece is kept as it is, rather than copied into a larger one.
_LARGE_PIECE: Final = 16 * 1024

# Seconds until a source that had nothing yet is read again, if the loop cannot wait for it.
_RETRY_DELAY: Final = 0.01


async def spool(  # noqa: PLR0913  keyword-only
    media: Media,
    *,
    inspect: Callable[[Media, Source], _T],
    threads: CapacityLimiter,
    writers: WorkerThreads,
    idle: float,
    signer: StreamSigner | None = None,
) -> _T:
    """Copy the source of a media that can be read only once, and inspect the copy.

    Args:
        media: Its source is an async iterator, an async reader or a file that cannot seek.
        inspect: Called with the media and its copy, in the thread that writes the end of a file. If it raises, the copy
            is deleted.
        threads: Bounds the worker threads that read.
        writers: The threads that write.
        idle: Most seconds that the source may take for its next piece.
        signer: Signs what goes to the file, if the media is to be sent.

    Returns:
        The result of `inspect`.

    Raises:
        MediaUnsupportedError: Veriff does not accept this type.
        MediaTooLargeError: It has more bytes than Veriff accepts of its type; no more than that was read.
        MediaEmptyError: There are none.
        MediaSourceError: The source failed, gave nothing for `idle` seconds, or the temporary file cannot be written.
        InvalidArgumentError: The source gives something else than bytes.
    """
    try:
        async with (
            aclosing(_iter_source(media.source, threads)) as pieces,
            _TimedPieces(media.source, pieces, idle) as timed,
        ):
            return await _spool(media, timed, partial(inspect, media), _SpoolFile(writers, signer))
    except TimeoutError:
        pass
    raise stalled(idle)


async def _spool(media: Media, pieces: _TimedPieces, inspect: Callable[[Source], _T], file: _SpoolFile) -> _T:
    check, batch, size = _HeadCheck(media), _Batch(), 0
    try:
        while (piece := await pieces.next()) is not None:
            size += len(piece)
            batch.add(piece)
            check.update(piece, size)
            if size > SMALL and batch.size >= _BATCH_SIZE:
                await file.write(batch.pieces)
                batch = _Batch()
        if size == 0:
            raise empty()  # noqa: TRY301  the handler below is for the file alone
        if size <= SMALL:
            return inspect(BytesSource(memoryview(b"".join(batch.pieces)), constant=True))
        return await file.finish(batch.pieces, size, inspect)
    except BaseException:
        await file.aclose()
        raise


async def spool_bytes(content: bytes, writers: WorkerThreads) -> Source:
    """Write bytes to a temporary file without a name.

    Raises:
        MediaSourceError: The temporary file cannot be written.
    """
    file = _SpoolFile(writers, None)
    try:
        return await file.finish([content], len(content), _unchanged)
    except BaseException:
        await file.aclose()
        raise


def _unchanged(source: Source) -> Source:
    return source


class _HeadCheck:
    """Checks type and size of a stream as soon as enough bytes have arrived."""

    def __init__(self, media: Media) -> None:
        self._converts = media.convert is not None
        self._may_convert = may_convert(media)
        self._head = b""
        self._type: str | None = None
        self._limit = 0

    def update(self, piece: bytes, size: int) -> None:
        """Check the next piece; `size` counts the bytes of all pieces.

        Raises:
            MediaUnsupportedError: Veriff does not accept this type.
            MediaTooLargeError: There are too many bytes for the type.
        """
        if self._type is None:
            self._head += piece[: HEAD_SIZE - len(self._head)]
            if len(self._head) < HEAD_SIZE:
                return
            self._type = type_of(self._head, converts=self._converts)
            self._limit = size_limit(self._type, converted=self._may_convert)
        if size > self._limit:
            raise too_large(self._type, f"more than {self._limit} bytes", converted=self._may_convert)


class _Batch:
    """Pieces that are still to be written: large ones as they are, small ones joined."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        last = self.pieces[-1] if self.pieces else b""
        if len(piece) < _LARGE_PIECE and isinstance(last, bytearray) and len(last) < _LARGE_PIECE:
            last += piece
        else:
            self.pieces.append(piece if len(piece) >= _LARGE_PIECE else bytearray(piece))
        self.size += len(piece)


class _SpoolFile:
    """A temporary file without a name, which a thread creates and writes; the loop signs what it is given."""

    def __init__(self, writers: WorkerThreads, signer: StreamSigner | None) -> None:
        self._signer = signer
        self._is_signing = False
        self._file: BinaryIO | None = None
        self._writer = WriteBehind(writers)

    async def write(self, pieces: list[Piece]) -> None:
        """Sign a batch, and write it while the caller reads on; see `WriteBehind.start`."""
        if self._signer is not None:
            await self._sign(self._signer, pieces)
        await self._writer.start(partial(self._write, pieces))

    async def finish(self, pieces: list[Piece], size: int, inspect: Callable[[Source], _T]) -> _T:
        """Sign and write the last batch, and return the result of `inspect`, which the same thread calls."""
        results: list[_T] = []

        def write_and_inspect() -> None:
            file = self._write(pieces)
            results.append(inspect(FileSource(file, 0, size, spool=True)))

        if self._signer is not None:
            await self._sign(self._signer, pieces)
        await self._writer.start(write_and_inspect)
        await self._writer.flush()
        return results[0]

    async def aclose(self) -> None:
        """Delete the file, once no thread writes to it."""
        with CancelScope(shield=True):
            await self._writer.wait()
            if self._file is not None:
                self._file.close()

    async def _sign(self, signer: StreamSigner, pieces: list[Piece]) -> None:
        if not self._is_signing:
            self._is_signing = True
            signer.begin(b"".join(pieces)[:HEAD_SIZE])
        for piece in pieces:
            if len(piece) <= _SIGNED_AT_ONCE:
                signer.update(piece)
                continue
            for start in range(0, len(piece), _SIGNED_AT_ONCE):
                signer.update(memoryview(piece)[start : start + _SIGNED_AT_ONCE])
                await asyncio.sleep(0)

    def _write(self, pieces: list[Piece]) -> BinaryIO:
        try:
            return self._write_pieces(pieces)
        except (OSError, ValueError) as error:
            reason = type(error).__name__
            if isinstance(error, OSError) and error.errno is not None:
                reason = os.strerror(error.errno)
        msg = (
            f"The media cannot be kept in a temporary file ({reason}): make room there, or name another folder in the "
            "environment variable TMPDIR."
        )
        raise MediaSourceError(msg)

    def _write_pieces(self, pieces: list[Piece]) -> BinaryIO:
        if self._file is None:
            # It shows a person's documents, so it has no name and only this process can read it.
            self._file = cast("BinaryIO", tempfile.TemporaryFile(buffering=0))  # noqa: SIM115  closed by the source
        pieces.reverse()
        while pieces:  # each is freed as soon as it is written, because the next batch is arriving
            piece = pieces.pop()
            write_all(self._file, piece)
        return self._file


class _TimedPieces:
    """Asks a source for its pieces, each within the time limit, and turns its exceptions into errors of this library.

    One timer serves all pieces, because there may be thousands per second: when it fires, it reads when the last
    request was made.
    """

    def __init__(self, source: MediaSource, pieces: AsyncIterator[object], idle: float) -> None:
        self._source = source
        self._pieces = pieces
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._requested_at: float | None = None
        self._deadline = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._deadline.__aenter__()
        self._timer = self._loop.call_later(self._idle, self._check)
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
        self._requested_at = self._loop.time()
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            return None
        except VeriffError:
            raise
        except (Exception, asyncio.CancelledError) as error:  # a source of the caller may raise anything
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            failure = unreadable(error, self._source)
        else:
            if isinstance(piece, bytes | bytearray | memoryview):
                return bytes(cast("Buffer", piece))
            raise not_bytes(piece)
        finally:
            self._requested_at = None
        raise failure

    def _check(self) -> None:
        now = self._loop.time()
        due = (now if self._requested_at is None else self._requested_at) + self._idle
        if due <= now:
            self._deadline.reschedule(now)
        else:
            self._timer = self._loop.call_at(due, self._check)


def _iter_source(source: MediaSource, threads: CapacityLimiter) -> AsyncGenerator[object]:
    # An async read(n) takes precedence: aiohttp's StreamReader has both, and iterates by lines.
    if reads_async(source):
        return _iter_reads(cast("_Read", source.read))  # type: ignore[union-attr]
    if isinstance(source, AsyncIterable):
        return _iter_async(source)
    reader = _ThreadReader(cast("BinaryIO", source), threads)
    return _iter_reads(reader.read, reader.close)


async def _iter_async(source: AsyncIterable[bytes]) -> AsyncGenerator[object]:
    pieces = aiter(source)
    try:
        async for piece in pieces:
            item: object = piece
            if isinstance(item, bytes | bytearray) and not item:
                # Neither the end nor progress: the time limit keeps running, and other tasks must be able to run.
                await asyncio.sleep(0)
            else:
                yield piece
    finally:
        if isinstance(pieces, AsyncGenerator):
            with suppress(Exception):
                await pieces.aclose()


async def _iter_reads(read: _Read, close: Callable[[], None] | None = None) -> AsyncGenerator[object]:
    """Yield each result of `read`, to the end: ``b""``. As everywhere in `io`, ``None`` means "nothing yet"."""
    try:
        while piece := await _read_piece(read):
            yield piece
    finally:
        if close is not None:
            close()


async def _read_piece(read: _Read) -> object:
    while True:
        with suppress(BlockingIOError):
            if (piece := await read(_READ_SIZE)) is not None:
                return piece
        await asyncio.sleep(_RETRY_DELAY)


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
