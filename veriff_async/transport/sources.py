"""Where the bytes of a media come from: anything a caller may hold, turned into something that can be read again.

A `Source` is opened afresh for every pass and every try, always in a worker thread. What can be read only once is
spooled first: in memory while it is small, then in an unnamed temporary file.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from anyio import to_thread
from attrs import frozen

from veriff_async.errors import ConfigurationError, MediaEmptyError, MediaError, MediaTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio import CapacityLimiter

    from veriff_async.models.media import MediaSource

__all__ = ("BytesSource", "FileSource", "PathSource", "Source", "SpooledSource", "reusable_source", "spool")

PIECE: Final = 192 * 1024
"""Bytes read at once: a multiple of three, so that pieces of base64 can be joined, and 256 KiB when encoded."""

_SPOOL_IN_MEMORY: Final = PIECE


class Source(Protocol):
    """Bytes of known size that can be read any number of times."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open the bytes at their beginning. Blocking; call it in a worker thread."""
        ...

    def close(self) -> None:
        """Give back what the source itself holds. Blocking."""
        ...


@frozen
class BytesSource:
    """Bytes in memory."""

    view: memoryview

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.view.nbytes

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open the bytes without copying them."""
        return nullcontext(cast("BinaryIO", _ViewReader(self.view)))

    def close(self) -> None:
        """Do nothing: the caller's bytes stay the caller's."""


class _ViewReader:
    """Read slices of a view; `io.BytesIO` would copy the whole."""

    __slots__ = ("_at", "_view")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def read(self, n: int) -> memoryview:
        piece = self._view[self._at : self._at + n]
        self._at += piece.nbytes
        return piece


@frozen
class PathSource:
    """A file that is opened afresh for each reading."""

    path: str
    size: int

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open the file, unbuffered: it is read in large pieces."""
        return _open(self.path)

    def close(self) -> None:
        """Do nothing: no handle is held between readings."""


@frozen
class FileSource:
    """A seekable file that the caller opened; read from where it stood, and never closed here."""

    file: BinaryIO
    start: int
    size: int

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Go back to where the file stood when it was given."""
        self.file.seek(self.start)
        yield self.file

    def close(self) -> None:
        """Do nothing: the file is the caller's."""


@frozen
class SpooledSource:
    """What could be read only once, kept until the upload has ended."""

    file: BinaryIO
    size: int

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Go back to the beginning."""
        self.file.seek(0)
        yield self.file

    def close(self) -> None:
        """Drop the bytes, which nobody else has a name for."""
        self.file.close()


def _open(path: str) -> BinaryIO:
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115, PTH123  the caller closes it; paths are plain texts here
    except FileNotFoundError:
        problem = "does not exist: check its path"
    except IsADirectoryError:
        problem = "is a directory: give a file in it"
    except PermissionError:
        problem = "may not be read by this process: check its permissions"
    except (OSError, ValueError):
        problem = "cannot be opened: check its path and the disk"
    else:
        return cast("BinaryIO", file)
    msg = f"The media file {problem}."
    raise MediaError(msg)


def reusable_source(source: MediaSource) -> Source | None:
    """Look at a source. Blocking; call it in a worker thread.

    Returns:
        The source, or ``None`` when it can be read only once and must be spooled.

    Raises:
        MediaError: It is missing, a directory, not a regular file, or may not be read.
        MediaEmptyError: It holds no bytes.
        ConfigurationError: It is nothing that can be read as bytes.
    """
    found: Source | None
    if isinstance(source, str | os.PathLike):
        found = _path_source(os.fspath(source))
    elif isinstance(source, bytes | bytearray | memoryview):
        found = BytesSource(memoryview(source).cast("B"))
    else:
        found = _file_source(source)
    if found is not None and found.size == 0:
        raise empty()
    return found


def empty() -> MediaEmptyError:
    """Return the error for a media without bytes."""
    return MediaEmptyError("The media holds no bytes: check that its file was written, or its stream not read before.")


def _path_source(path: str) -> Source:
    with _open(path) as file:
        described = os.fstat(file.fileno())
    if not stat.S_ISREG(described.st_mode):
        msg = "The media path is not a regular file: open it yourself and give the open file."
        raise MediaError(msg)
    return PathSource(path, described.st_size)


def _file_source(source: object) -> Source | None:
    if isinstance(source, io.TextIOBase):
        msg = 'The media is a file in text mode: open it with mode "rb".'
        raise ConfigurationError(msg)
    if isinstance(source, AsyncIterable) or _reads_async(source):
        return None
    if not callable(getattr(source, "read", None)):
        msg = "The media is nothing to read: give a path, bytes, a binary file, an async reader or an async iterator."
        raise ConfigurationError(msg)
    file = cast("BinaryIO", source)
    try:
        if not file.seekable():
            return None
        start = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(start)
    except AttributeError:
        return None
    except (OSError, ValueError):
        problem = "The media file is closed or cannot be read: give it open, at the place to read from."
    else:
        return FileSource(file, start, max(0, end - start))
    raise MediaError(problem)


def _reads_async(source: object) -> bool:
    return iscoroutinefunction(getattr(source, "read", None))


async def spool(source: MediaSource, *, limit: int, threads: CapacityLimiter) -> SpooledSource:
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
    file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY)  # noqa: SIM115  closed by the source
    size = 0
    try:
        async for piece in _gathered(_pieces(source, threads)):
            size += len(piece)
            if size > limit:
                msg = f"The media has more than {limit} bytes, the most that Veriff takes: send a smaller picture."
                raise MediaTooLargeError(msg)
            if size <= _SPOOL_IN_MEMORY:
                file.write(piece)
            else:
                await to_thread.run_sync(file.write, piece, limiter=threads)
        if size == 0:
            raise empty()
    except BaseException:
        file.close()
        raise
    return SpooledSource(cast("BinaryIO", file), size)


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
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


def _pieces(source: MediaSource, threads: CapacityLimiter) -> AsyncIterator[bytes]:
    # An async read(n) goes first: aiohttp's StreamReader has both, and iterates by lines.
    if _reads_async(source):
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
