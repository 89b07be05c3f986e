"""Sources of media: everything a caller may pass, as bytes of known size that can be read several times.

`reusable_source` returns a `Source` for a path, bytes, or a file that can seek, and ``None`` for a stream that must be
spooled first. A `Source` is opened again for each pass and each attempt, in a worker thread. The rest of the upload
sees a `Source` only.

Exceptions of the caller's objects become a `MediaError` here, so that no other module takes an `OSError` of a file for
an error of the network. The messages never include the text of the exception, which may quote what was read.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
import time
from asyncio import CancelledError
from collections.abc import AsyncIterable
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from inspect import iscoroutinefunction
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from attrs import Factory, define, field

from veriff_async._media.memory_budget import MemoryBudget
from veriff_async._protocol.encoded_text import decode_base64, decode_data_url
from veriff_async._protocol.limits import TOO_MANY_FILES
from veriff_async._protocol.source_mistakes import explain_path, missing_file_remedy
from veriff_async._records import record
from veriff_async.errors import (
    InvalidArgumentError,
    MediaChangedError,
    MediaEmptyError,
    MediaError,
    MediaSourceError,
    MediaUnsupportedError,
    VeriffError,
)
from veriff_async.models.media import EncodedText

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Buffer

    from veriff_async._media.memory_budget import Reservation
    from veriff_async.models.media import MediaSource

__all__ = (
    "PIECE",
    "PRIVATE",
    "SMALL",
    "SOURCE_TIME",
    "TINY",
    "BytesSource",
    "FileSource",
    "PathSource",
    "Reader",
    "Source",
    "SourceOpener",
    "SourceTime",
    "empty",
    "is_async",
    "is_closed",
    "may_block",
    "media_changed",
    "not_bytes",
    "raw_of",
    "reads_async",
    "reusable_source",
    "seeks_async",
    "source_failed",
    "source_time",
    "stalled",
    "unreadable",
)

PIECE: Final = 96 * 1024
"""Bytes that are read at a time: a multiple of three, so that pieces of base64 can be joined.

Encoded they are 128 KiB, the largest block that the C library's allocator reuses. For a larger one it asks the system
for fresh pages each time, which was measured to cost more than hashing the content.
"""

SMALL: Final = 256 * 1024
"""Bytes that may be held in memory: to hash and encode them takes less time than a hop to a thread."""

# Bytes of files that one client holds in memory while they wait to be sent.
_MAX_HELD: Final = 16 * 1024 * 1024

# Bytes of the largest file that is held: nearly every picture of a phone is smaller.
_MAX_HELD_OF_ONE: Final = 4 * 1024 * 1024

TINY: Final = 64 * 1024
"""Bytes whose whole request body is held in memory. A larger body would need fresh pages, see `PIECE`."""

PRIVATE: Final = "only this process can write to it"
"""The stamp of bytes that cannot change."""

# Seconds since the last change after which the times of a file prove that nothing has written to it.
#
# File systems count time in ticks, and a program that writes through a memory map changes the times of the file only
# when Linux writes the page back, which it does within 35 s by default
# (https://docs.kernel.org/admin-guide/sysctl/vm.html, dirty_expire_centisecs and dirty_writeback_centisecs).
_SETTLED: Final = 60.0

# Flag of `os.preadv` for "only if it does not block". Linux has it; elsewhere threads read.
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)

_BUFFERED: Final = (io.BufferedReader, io.BufferedRandom)


# ---- Which kind of object the caller passed -------------------------------------------------------------------------


def sync_file(source: object) -> object:
    """Return the plain file inside an async one that can seek, or the source itself.

    Starlette's and Litestar's ``UploadFile`` and aiohttp's ``FileField`` have it as ``file``, anyio's ``AsyncFile`` as
    ``wrapped``. A plain file can be read twice in one thread; the async methods would cost a hop for each piece.
    """
    if callable(getattr(source, "read", None)) and not seeks_async(source):
        return source
    for name in ("file", "wrapped"):
        inner: object = getattr(source, name, None)
        if callable(getattr(inner, "read", None)) and callable(getattr(inner, "seek", None)):
            return source if reads_async(inner) else inner
    return source


def may_block(source: object) -> bool:
    """Return whether reading a source in a thread may block forever: whether it is an object of an unknown class."""
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | AsyncIterable | EncodedText):
        return False
    file = sync_file(source)
    if reads_async(file) or type(file) in {io.BytesIO, tempfile.SpooledTemporaryFile}:
        return False
    return not isinstance(raw_of(file), io.FileIO)


def raw_of(file: object) -> object:
    """Return the raw file that a buffered file reads from, or the file itself."""
    if not issubclass(type(file), _BUFFERED):
        return file
    try:
        return getattr(file, "raw", file)
    except ValueError:  # it was detached
        return file


def is_closed(file: object) -> bool:
    """Return whether an open file was closed by its owner, or detached from its raw file."""
    try:
        return getattr(file, "closed", False) is True
    except ValueError:  # it was detached
        return True


def is_http_response(source: object) -> bool:
    """Return whether a source is a response of httpx, aiohttp or requests, whose body is read in another way."""
    if not hasattr(source, "headers") or isinstance(source, io.IOBase):
        return False
    return any(hasattr(source, name) for name in ("aiter_bytes", "iter_content", "iter_bytes")) or (
        reads_async(source) and hasattr(getattr(source, "content", None), "iter_chunked")
    )


def reads_async(source: object) -> bool:
    """Return whether a source has an async ``read(n)``."""
    return iscoroutinefunction(getattr(source, "read", None))


def is_async(source: object) -> bool:
    """Return whether a source is an async stream, which is not opened in a thread."""
    file = sync_file(source)
    return isinstance(file, AsyncIterable) or reads_async(file)


def seeks_async(source: object) -> bool:
    """Return whether a source has an async ``read(n)`` and an async ``seek(n)``, so that it can be read again."""
    return reads_async(source) and iscoroutinefunction(getattr(source, "seek", None))


# ---- Errors, each with a remedy -------------------------------------------------------------------------------------


def source_failed(error: BaseException) -> MediaSourceError:
    """Return the error for an exception of the caller's object; its text may hold the bytes that were read."""
    if isinstance(error, OSError) and error.errno in TOO_MANY_FILES:
        return _too_many_files()
    reason = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        reason += f": {os.strerror(error.errno)}"
    return MediaSourceError(f"The media's source failed ({reason}): check what it reads from, and pass a new one.")


def not_bytes(piece: object) -> InvalidArgumentError:
    """Return the error for a source that returns text, for example."""
    return InvalidArgumentError(
        f"The media's source must return bytes, not {type(piece).__name__}: open it in binary mode."
    )


def unreadable(error: BaseException, file: object) -> MediaSourceError:
    """Return the error for an open file of the caller that cannot be read."""
    if is_closed(file):
        return MediaSourceError(
            "The media file was closed before it was read to its end: keep the file open until the upload has ended."
        )
    if isinstance(error, BlockingIOError):
        return MediaSourceError(
            "The media file is in non-blocking mode and has no data yet: set it to blocking, or pass an async reader."
        )
    return source_failed(error)


def empty() -> MediaEmptyError:
    """Return the error for a media without bytes."""
    return MediaEmptyError(
        "The media is empty: check that its file was written, or that its stream was not read before."
    )


def media_changed() -> MediaChangedError:
    """Return the error for a media that was written to."""
    return MediaChangedError("The media changed while it was uploaded: upload it again when nothing writes to it.")


def stalled(seconds: float) -> MediaSourceError:
    """Return the error for a source that returned nothing for so long."""
    return MediaSourceError(
        f"The media's source returned nothing for {seconds:g} s: check what it reads from, or pass a larger "
        "Timeouts.idle."
    )


def _too_many_files() -> MediaSourceError:
    return MediaSourceError(
        "The media cannot be opened, because too many files are open: raise the limit (ulimit -n), or lower "
        "max_uploads and max_connections."
    )


# ---- Time that the caller's object takes ----------------------------------------------------------------------------


@define
class SourceTime:
    """When the thread of a call began to wait for the caller's object, by `time.monotonic`; ``None`` if it does not."""

    since: float | None = None


SOURCE_TIME: Final[ContextVar[SourceTime | None]] = ContextVar("veriff_async_source_time", default=None)
"""Where the current thread notes it; set by `run_abandonable`, which enforces the limit."""


@contextmanager
def source_time() -> Generator[None]:
    """Count the time of the block as the source's, which `run_abandonable` limits."""
    measured = SOURCE_TIME.get()
    if measured is None:
        yield
        return
    measured.since = monotonic()
    try:
        yield
    finally:
        measured.since = None


# ---- Sources that can be read again ---------------------------------------------------------------------------------


class Source(Protocol):
    """Bytes of known size that can be read any number of times."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    @property
    def may_block(self) -> bool:
        """Whether reading it may block forever, so that it must not be read in a shared thread."""
        ...

    def open(self) -> Reader:
        """Open the bytes at their beginning. Blocking; call it in a worker thread.

        Raises:
            MediaError: They cannot be opened.
        """
        ...

    def keep(self) -> None:
        """Make sure that the bytes can be read until `close`. Blocking; call it in a worker thread.

        Raises:
            MediaError: They cannot be opened.
        """
        ...

    def close(self) -> None:
        """Release what the source itself holds; the caller's file stays open."""
        ...


class Reader(Protocol):
    """One pass over a source, into a buffer of the caller."""

    def fill(self, buffer: memoryview) -> int:
        """Read until the buffer is full or the source ends; return the bytes read. Blocking, for a worker thread."""
        ...

    def skip(self, count: int) -> None:
        """Skip so many bytes without reading them."""
        ...

    def restart(self) -> None:
        """Go back to the beginning of the same bytes, also when their path now leads to another file."""
        ...

    def fill_now(self, buffer: memoryview) -> bool:
        """Fill the buffer if that does not block, else change nothing and return false."""
        ...

    def stamp(self) -> object:
        """Return what the file system says about the file: it differs once the file was written to.

        Raises:
            MediaError: The file is closed.
        """
        ...

    def is_settled(self) -> bool:
        """Return whether an equal `stamp` proves equal bytes; if not, the bytes must be compared."""
        ...

    def close(self) -> None:
        """End the pass."""
        ...


@record
class BytesSource:
    """Bytes in memory.

    Attributes:
        view: The bytes.
        constant: Whether they cannot change.
        reservation: Their part of the memory budget of the client, if they were read or copied for one upload.
        size: How many they are; asked several times for each upload.
    """

    view: memoryview
    constant: bool
    reservation: Reservation | None = field(default=None, repr=False, eq=False)
    may_block: bool = field(default=False, init=False)
    size: int = field(init=False, default=Factory(lambda self: self.view.nbytes, takes_self=True))

    def open(self) -> Reader:
        """Open the bytes without copying them."""
        return _ViewReader(self.view, constant=self.constant)

    def keep(self) -> None:
        """Do nothing: the bytes are in memory."""

    def close(self) -> None:
        """Free the bytes that were read for one upload, and let the caller resize a buffer of its own.

        Otherwise an error would keep them: its traceback refers to the frames that sent them, which may refer to it.
        """
        with suppress(BufferError):  # a thread that was abandoned still reads them
            self.view.release()
        if self.reservation is not None:
            self.reservation.release()


@define
class PathSource:
    """A file that is opened for each pass, so that another file in its place is noticed."""

    path: str
    size: int
    may_block: bool = field(default=False, init=False)
    _kept: BinaryIO | None = field(default=None, init=False, repr=False, eq=False)

    def open(self) -> Reader:
        """Open the file, unbuffered: it is read in large pieces."""
        try:
            file = _open(self.path)
        except MediaError:
            if self._kept is None:
                raise
            # It was renamed or deleted after `keep`, and the open file still has the same bytes.
            return _FileReader(self._kept, self._kept.fileno(), start=0)
        return _FileReader(file, file.fileno(), start=0, closing=True)

    def keep(self) -> None:
        """Keep the file open until `close`, because it may be renamed or deleted before it is sent."""
        if self._kept is None:
            self._kept = _open(self.path)

    def close(self) -> None:
        """Close the file that was kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


class _Position:
    """The position of an open file, which several readers of it use one after the other.

    A reader whose attempt has failed may still read in its thread, and close, when that of the next attempt has begun.
    """

    __slots__ = ("lock", "owner")

    def __init__(self) -> None:
        self.lock = Lock()
        self.owner: _FileReader | None = None
        """The reader that has set the position, and whose next byte is there."""


@record
class FileSource:
    """An open file that can seek: the caller's, or our temporary one.

    Attributes:
        file: The file; the caller's is never closed here.
        start: Offset of its first byte to send.
        size: Bytes from there.
        spool: Whether it is our temporary file, which is closed with the source.
    """

    file: BinaryIO
    start: int
    size: int
    spool: bool = False
    _position: _Position = field(factory=_Position, init=False, repr=False, eq=False)

    @property
    def may_block(self) -> bool:
        """Whether it is an object that is not known to read from memory or disk."""
        return not self.spool and may_block(self.file)

    def open(self) -> Reader:
        """Start at the first byte to send."""
        try:
            return _FileReader(self.file, _descriptor(self.file), self._position, start=self.start, private=self.spool)
        except (OSError, ValueError) as error:
            failure = unreadable(error, self.file)
        raise failure

    def keep(self) -> None:
        """Do nothing: the file is open."""

    def close(self) -> None:
        """Close a temporary file, which deletes it."""
        if self.spool:
            self.file.close()


class _ViewReader:
    """Reads a view. `io.BytesIO` would copy it first."""

    __slots__ = ("_constant", "_rest", "_view")

    def __init__(self, view: memoryview, *, constant: bool) -> None:
        self._view = self._rest = view
        self._constant = constant

    def fill(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def skip(self, count: int) -> None:
        self._rest = self._rest[count:]

    def restart(self) -> None:
        self._rest = self._view

    def fill_now(self, buffer: memoryview) -> bool:
        return len(self._rest) >= len(buffer) and self.fill(buffer) > 0

    def stamp(self) -> object:
        return PRIVATE

    def is_settled(self) -> bool:
        return self._constant

    def close(self) -> None:
        self._view = self._rest = memoryview(b"")  # a slice of the buffer would keep its owner from resizing it


class _FileReader:
    """Reads a file by its descriptor where it has one, without moving the position of the caller's file."""

    __slots__ = ("_closing", "_descriptor", "_file", "_has_seeked", "_offset", "_position", "_private", "_start")

    def __init__(  # noqa: PLR0913  keyword-only
        self,
        file: BinaryIO,
        descriptor: int | None,
        position: _Position | None = None,
        *,
        start: int,
        closing: bool = False,
        private: bool = False,
    ) -> None:
        self._file = file
        self._position = position or _Position()
        self._closing = closing
        self._private = private
        self._offset = self._start = start
        self._descriptor = descriptor if _NOWAIT else None
        self._has_seeked = False
        """Whether this reader has set the position of the file, and must restore it unless another one will."""

    def fill(self, buffer: memoryview) -> int:
        filled = 0
        try:
            # An unbuffered file may return fewer bytes than it was asked for.
            while filled < len(buffer) and (count := self._read_into(buffer[filled:])):
                filled += count
        except VeriffError:
            raise
        except (Exception, CancelledError) as error:  # noqa: BLE001  an object of the caller may raise anything
            failure = unreadable(error, self._file)
        else:
            return filled
        raise failure

    def skip(self, count: int) -> None:
        self._move(self._offset + count)

    def restart(self) -> None:
        self._move(self._start)

    def _move(self, offset: int) -> None:
        self._offset = offset
        if self._position.owner is self:  # the next read sets the position
            self._position.owner = None

    def _read_into(self, buffer: memoryview) -> int:
        # The system may have given the number of a closed descriptor to another file.
        if sys.platform != "win32" and self._descriptor is not None and not is_closed(self._file):
            count = os.preadv(self._descriptor, [buffer], self._offset)
            self._offset += count
            return count
        with source_time(), self._position.lock:
            if self._position.owner is not self:
                self._file.seek(self._offset)
                self._position.owner, self._has_seeked = self, True
            piece = cast("object", self._file.read(len(buffer)))
        if piece is None:
            raise BlockingIOError
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise not_bytes(piece)
        content = bytes(cast("Buffer", piece))
        buffer[: len(content)] = content
        self._offset += len(content)
        return len(content)

    def fill_now(self, buffer: memoryview) -> bool:
        """Read from the page cache, which has the file right after the pass that signs."""
        count = 0
        if sys.platform != "win32" and self._descriptor is not None and not is_closed(self._file):
            # OSError: not in the cache (EAGAIN), or a file system that does not support the flag (EOPNOTSUPP).
            with suppress(OSError):
                count = os.preadv(self._descriptor, [buffer], self._offset, _NOWAIT)
        if count < len(buffer):
            return False
        self._offset += count
        return True

    def stamp(self) -> object:
        if self._private or self._descriptor is None:
            return PRIVATE
        status = self._stat(self._descriptor)
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def is_settled(self) -> bool:
        if self._private:
            return True
        if sys.platform != "win32" and self._descriptor is not None:
            status = self._stat(self._descriptor)
            # A file system without a device (in memory, over a network, in a container) gives no such guarantee: one in
            # memory never updates the times for a write through a memory map.
            has_device = os.major(status.st_dev) != 0
            return has_device and time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED
        return False

    def _stat(self, descriptor: int) -> os.stat_result:
        try:
            if not is_closed(self._file):
                return os.fstat(descriptor)
            failure = unreadable(ValueError(), self._file)
        except (OSError, ValueError) as error:
            failure = unreadable(error, self._file)
        raise failure

    def close(self) -> None:
        if self._closing:
            self._file.close()
        # Not while another reader reads: that one restores the position when it closes.
        elif self._has_seeked and self._position.lock.acquire(blocking=False):
            try:
                if self._position.owner is None or self._position.owner is self:
                    # Restore the position, so that the caller can pass the file again.
                    with suppress(Exception), source_time():
                        self._file.seek(self._start)
                    self._position.owner = None
            finally:
                self._position.lock.release()


def _descriptor(file: BinaryIO) -> int | None:
    """Return the descriptor of a plain file; that of others (a gzip file, for one) leads to other bytes."""
    raw = raw_of(file)
    return raw.fileno() if isinstance(raw, io.FileIO) else None


def _open_nonblocking(path: str, flags: int) -> int:
    """Open without waiting: opening a named pipe would block until another process writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _open(path: str) -> BinaryIO:
    try:
        file = open(path, "rb", buffering=0, opener=_open_nonblocking)  # noqa: SIM115  the caller closes it; paths are plain texts here
    except (IsADirectoryError, PermissionError):  # Windows raises the latter for a directory, too
        problem = "may not be read by this process: check its permissions"
        if Path(path).is_dir():
            problem = "is a directory: pass a file in it"
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in TOO_MANY_FILES:
            raise _too_many_files() from None
        if (mistake := explain_path(path)) is not None:
            msg = f"The media {mistake}."
            raise MediaUnsupportedError(msg) from None
        problem = "cannot be opened: check its path and the disk"
        if isinstance(error, FileNotFoundError):
            problem = f"does not exist: {missing_file_remedy(path, os.sep)}"
    else:
        return cast("BinaryIO", file)
    msg = f"The media file {problem}."
    raise MediaError(msg)


class SourceOpener:
    """Opens the sources of one client, and reads files into memory while the total of all that live is bounded.

    A file in memory is read once instead of twice, and cannot change between its signature and its last byte.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._budget = MemoryBudget(_MAX_HELD, largest=_MAX_HELD_OF_ONE)

    def open(self, source: MediaSource) -> Source | None:
        """Return a source that can be read again; see `reusable_source`. Blocking."""
        return reusable_source(source, budget=self._budget)


_NO_MEMORY: Final = MemoryBudget(0, largest=0)


def reusable_source(source: MediaSource, *, budget: MemoryBudget = _NO_MEMORY) -> Source | None:
    """Return a source that can be read again. Blocking; call it in a worker thread.

    Args:
        source: The source of a `Media`.
        budget: Memory for files that are read now.

    Returns:
        The source, or ``None`` when it can be read only once and must be spooled.

    Raises:
        MediaError: It is missing, a directory, not a regular file, or may not be read.
        MediaEmptyError: It holds no bytes.
        MediaChangedError: Its length changed while it was read.
        InvalidArgumentError: It cannot be read as bytes.
    """
    reusable: Source | None
    if isinstance(source, str | os.PathLike):
        reusable = _path_source(_path_of(source), budget)
    elif isinstance(source, bytes | bytearray | memoryview):
        reusable = _bytes_source(source, budget)
    elif isinstance(source, EncodedText):
        decode = decode_data_url if source.is_data_url else decode_base64
        content = decode(source.text)
        reusable = BytesSource(memoryview(content), constant=True, reservation=budget.take(len(content)))
    else:
        reusable = _file_source(sync_file(source))
        if reusable is not None and reusable.size and (reservation := budget.reserve(reusable.size)) is not None:
            with closing(reusable.open()) as reader:
                reusable = _read_whole(reader, reusable.size, reservation)
    if reusable is not None and reusable.size == 0:
        raise empty()
    return reusable


def _bytes_source(source: bytes | bytearray | memoryview, budget: MemoryBudget) -> BytesSource:
    content: bytes | None = None
    try:
        view = memoryview(source)
        try:
            # Single bytes, so that lengths and slices count bytes, also for an array of larger items.
            view = view.cast("B")
        except (TypeError, ValueError):  # bytes that are not contiguous, or of a foreign byte order
            content = view.tobytes()
    except ValueError:
        msg = "The media is a memoryview that was released: pass it before its release, or pass bytes."
        raise InvalidArgumentError(msg) from None
    if content is not None:
        return BytesSource(memoryview(content), constant=True, reservation=budget.take(len(content)))
    if isinstance(source, bytes) or (reservation := budget.reserve(view.nbytes)) is None:
        return BytesSource(view, constant=isinstance(source, bytes))
    # A copy is cheaper than a second pass that compares.
    return BytesSource(memoryview(bytes(view)), constant=True, reservation=reservation)


def _read_whole(reader: Reader, size: int, reservation: Reservation) -> BytesSource:
    # One byte more than expected, to notice a file that has grown since its size was read.
    content = memoryview(bytearray(size + 1))
    if reader.fill(content) != size:
        raise media_changed()
    return BytesSource(content[:size], constant=True, reservation=reservation)


def _path_of(source: str | os.PathLike[str]) -> str:
    try:
        return os.fsdecode(source)
    except Exception as error:  # noqa: BLE001  an object of the caller may raise anything
        failure = source_failed(error)
    raise failure


def _path_source(path: str, budget: MemoryBudget) -> Source:
    with _open(path) as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            msg = "The media path is not a regular file: open it yourself and pass the open file."
            raise MediaError(msg)
        if size == 0 or (reservation := budget.reserve(size)) is None:
            return PathSource(path, size)
        # Nearly every file comes with one call. The reader takes the rest, and explains an error.
        with suppress(OSError):
            content = file.read(size + 1)  # see `_read_whole`
            if len(content) == size:
                return BytesSource(memoryview(content), constant=True, reservation=reservation)
        return _read_whole(_FileReader(file, file.fileno(), start=0), size, reservation)


def _file_source(source: object) -> Source | None:
    if isinstance(source, io.TextIOBase):
        msg = 'The media is a file in text mode: open it with mode "rb".'
        raise InvalidArgumentError(msg)
    if is_http_response(source):
        msg = (
            f"The media is a response of an HTTP client ({type(source).__name__}): pass its body, which is "
            "response.aiter_bytes() of httpx, response.content of aiohttp, response.raw of requests."
        )
        raise InvalidArgumentError(msg)
    if isinstance(source, AsyncIterable) or reads_async(source):
        return None
    if not callable(getattr(source, "read", None)):
        msg = (
            f"The media cannot be read ({type(source).__name__}): pass a path, bytes, a binary file, an async reader "
            "or an async iterator."
        )
        raise InvalidArgumentError(msg)
    file = cast("BinaryIO", source)
    try:
        with source_time():
            if not file.seekable():
                return None
            start = file.tell()
            file.seek(0, os.SEEK_END)
            end = file.tell()
            file.seek(start)
        return FileSource(file, start, max(0, end - start))
    except AttributeError:
        return None
    except (Exception, CancelledError) as error:  # noqa: BLE001  an object of the caller may raise anything
        failure = source_failed(error)
    if is_closed(file):
        closed = "The media file is closed or cannot be read: pass it open, at the position to read from."
        raise MediaError(closed)
    raise failure
