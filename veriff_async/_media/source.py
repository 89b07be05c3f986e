"""Where the bytes of a media come from: anything a caller may hold, turned into something that can be read again.

A `Source` is opened afresh for every pass and every try, always in a worker thread. Whatever a file or an object of the
caller raises becomes a `MediaError` here, so that nothing above takes it for an error of the network.
"""

from __future__ import annotations

import io
import os
import stat
import time
from asyncio import CancelledError
from collections.abc import AsyncIterable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from attrs import define, field, frozen

from veriff_async._media.blocking_source import source_time
from veriff_async._media.source_errors import (
    TOO_MANY_FILES,
    empty,
    not_bytes,
    source_failed,
    too_many_files,
    unreadable,
)
from veriff_async._media.source_kinds import is_closed, is_http_response, may_block, raw_of, reads_async, sync_file
from veriff_async._protocol.source_mistakes import explain_path
from veriff_async.errors import InvalidArgumentError, MediaError, MediaUnsupportedError, VeriffError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from veriff_async.models.media import MediaSource

__all__ = (
    "PIECE",
    "PRIVATE",
    "SMALL",
    "TINY",
    "BytesSource",
    "FileSource",
    "PathSource",
    "Reader",
    "Source",
    "reusable_source",
)

PIECE: Final = 96 * 1024
"""Bytes read at once: a multiple of three, so that pieces of base64 can be joined.

Encoded they are 128 KiB, the most that the C library's allocator hands out again without asking the system for fresh
pages, which were measured to cost more than the hashing of what is put into them.
"""

SMALL: Final = 256 * 1024
"""Bytes that may be held whole: asking a thread for less than that takes longer than doing it."""

TINY: Final = 64 * 1024
"""Bytes whose request body is held whole too: it needs no fresh pages yet, which a larger one would, see `PIECE`."""

PRIVATE: Final = "nobody else can write to it"
"""The stamp of what cannot change."""

_SETTLED: Final = 60.0
"""Seconds since the last change after which the times of a file are proof that nothing writes to it.

File systems count time in ticks, and a program that writes through a memory map changes the times of the file only when
Linux writes the page back, which it does within 35 s unless told otherwise
(https://docs.kernel.org/admin-guide/sysctl/vm.html, dirty_expire_centisecs and dirty_writeback_centisecs).
"""

_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
"""Flag of `os.preadv` for "only if it takes no waiting"; Linux has it, elsewhere threads read."""


class Source(Protocol):
    """Bytes of known size that can be read any number of times."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    @property
    def may_block(self) -> bool:
        """Whether reading it may block for ever, so that it must not be read in a shared thread."""
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
        """Give back what the source itself holds."""
        ...


class Reader(Protocol):
    """One reading of a source, into a buffer of the caller's."""

    def fill(self, buffer: memoryview) -> int:
        """Read until the buffer is full or the source ends; return the bytes read. Blocking, for a worker thread."""
        ...

    def skip(self, count: int) -> None:
        """Go on so many bytes later, without reading what is between."""
        ...

    def restart(self) -> None:
        """Go back to the beginning of the same bytes, also when their path has become that of another file."""
        ...

    def fill_now(self, buffer: memoryview) -> bool:
        """Fill the buffer if that takes no waiting, else leave everything as it is and return false."""
        ...

    def stamp(self) -> object:
        """Return what the file system says about the bytes: it differs once they were written to.

        Raises:
            MediaError: The file is closed.
        """
        ...

    def is_settled(self) -> bool:
        """Return whether an equal `stamp` proves equal bytes; if not, the bytes must be compared."""
        ...

    def close(self) -> None:
        """End the reading."""
        ...


@frozen
class BytesSource:
    """Bytes in memory.

    Attributes:
        view: The bytes.
        constant: Whether nobody can write to them.
    """

    view: memoryview
    constant: bool
    may_block: bool = field(default=False, init=False)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.view.nbytes

    def open(self) -> Reader:
        """Open the bytes without copying them."""
        return _ViewReader(self.view, constant=self.constant)

    def keep(self) -> None:
        """Do nothing: the bytes are in memory."""

    def close(self) -> None:
        """Do nothing: the caller's bytes stay the caller's."""


@define
class PathSource:
    """A file that is opened afresh for each reading, so that another file in its place is noticed."""

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
            # Renamed or deleted since: the same bytes are still there.
            return _FileReader(self._kept, self._kept.fileno(), start=0)
        return _FileReader(file, file.fileno(), start=0, closing=True)

    def keep(self) -> None:
        """Keep the file open until `close`, since it may be renamed or deleted before it is sent."""
        if self._kept is None:
            self._kept = _open(self.path)

    def close(self) -> None:
        """Close the file that was kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


@frozen
class FileSource:
    """An open file that can be read again: one of the caller's, or a spool of ours.

    Attributes:
        file: The file; one of the caller's is never closed here.
        start: Where its bytes begin.
        size: How many there are.
        spool: Whether it is ours alone, and closed with the source.
    """

    file: BinaryIO
    start: int
    size: int
    spool: bool = False

    @property
    def may_block(self) -> bool:
        """Whether it is an object that is not known to read from memory or disk."""
        return not self.spool and may_block(self.file)

    def open(self) -> Reader:
        """Go back to where the bytes begin."""
        try:
            return _FileReader(self.file, _descriptor(self.file), start=self.start, private=self.spool)
        except (OSError, ValueError) as error:
            failed = unreadable(error, self.file)
        raise failed

    def keep(self) -> None:
        """Do nothing: the file is open."""

    def close(self) -> None:
        """Drop a spool, which nobody else has a name for."""
        if self.spool:
            self.file.close()


class _ViewReader:
    """Read a view; `io.BytesIO` would begin with a copy of the whole."""

    __slots__ = ("_constant", "_left", "_view")

    def __init__(self, view: memoryview, *, constant: bool) -> None:
        self._view = self._left = view
        self._constant = constant

    def fill(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def skip(self, count: int) -> None:
        self._left = self._left[count:]

    def restart(self) -> None:
        self._left = self._view

    def fill_now(self, buffer: memoryview) -> bool:
        return len(self._left) >= len(buffer) and self.fill(buffer) > 0

    def stamp(self) -> object:
        return PRIVATE

    def is_settled(self) -> bool:
        return self._constant

    def close(self) -> None:
        self._left = self._left[:0]


class _FileReader:
    """Read a file through its descriptor where there is one, so that its own position does not matter."""

    __slots__ = ("_at", "_closing", "_descriptor", "_file", "_moved", "_private", "_start")

    def __init__(
        self, file: BinaryIO, descriptor: int | None, *, start: int, closing: bool = False, private: bool = False
    ) -> None:
        self._file = file
        self._closing = closing
        self._private = private
        self._at = self._start = start
        self._descriptor = descriptor if _NOWAIT else None
        self._moved = False
        """Whether the position of the file is ours."""

    def fill(self, buffer: memoryview) -> int:
        filled = 0
        try:
            # An unbuffered file may return less than it was asked for.
            while filled < len(buffer) and (count := self._some(buffer[filled:])):
                filled += count
        except VeriffError:
            raise
        except (Exception, CancelledError) as error:  # noqa: BLE001  an object of the caller may raise anything
            failed = unreadable(error, self._file)
        else:
            return filled
        raise failed

    def skip(self, count: int) -> None:
        self._at += count
        if self._moved:
            self._seek()

    def restart(self) -> None:
        self._at = self._start
        if self._moved:
            self._seek()

    def _seek(self) -> None:
        # If it fails, the next reading tries again and says why.
        self._moved = False
        with suppress(Exception), source_time():
            self._file.seek(self._at)
            self._moved = True

    def _some(self, buffer: memoryview) -> int:
        # A closed file's number may be that of another file by now.
        if self._descriptor is not None and not is_closed(self._file):
            count = os.preadv(self._descriptor, [buffer], self._at)
            self._at += count
            return count
        with source_time():
            if not self._moved:
                self._file.seek(self._at)
                self._moved = True
            piece = cast("object", self._file.read(len(buffer)))
        if piece is None:
            raise BlockingIOError
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise not_bytes(piece)
        content = bytes(cast("Buffer", piece))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def fill_now(self, buffer: memoryview) -> bool:
        """Read what the page cache holds, as it does right after the pass that signs."""
        if self._descriptor is None or is_closed(self._file):
            return False
        try:
            count = os.preadv(self._descriptor, [buffer], self._at, _NOWAIT)
        except OSError:  # not in the cache (EAGAIN), or a file system that cannot tell (EOPNOTSUPP)
            return False
        if count < len(buffer):
            return False
        self._at += count
        return True

    def stamp(self) -> object:
        if self._private or self._descriptor is None:
            return PRIVATE
        found = self._stat(self._descriptor)
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def is_settled(self) -> bool:
        if self._private:
            return True
        if self._descriptor is None:
            return False
        found = self._stat(self._descriptor)
        # A file system without a device (in memory, over a network, in a container) does not promise such times: one in
        # memory never counts a write through a memory map.
        has_device = os.major(found.st_dev) != 0
        return has_device and time.time() - max(found.st_mtime, found.st_ctime) > _SETTLED

    def _stat(self, descriptor: int) -> os.stat_result:
        try:
            if not is_closed(self._file):
                return os.fstat(descriptor)
            failed = unreadable(ValueError(), self._file)
        except (OSError, ValueError) as error:
            failed = unreadable(error, self._file)
        raise failed

    def close(self) -> None:
        if self._closing:
            self._file.close()
        elif self._moved:
            # Where it stood, so that its owner can give it again.
            with suppress(Exception), source_time():
                self._file.seek(self._start)


def _descriptor(file: BinaryIO) -> int | None:
    """Return the descriptor of a plain file; others (a gzip file, for one) have that of something else."""
    raw = raw_of(file)
    return raw.fileno() if isinstance(raw, io.FileIO) else None


def _at_once(path: str, flags: int) -> int:
    """Open without waiting: a named pipe would not return before somebody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _open(path: str) -> BinaryIO:
    try:
        file = open(path, "rb", buffering=0, opener=_at_once)  # noqa: SIM115  the caller closes it; paths are plain texts here
    except IsADirectoryError:
        problem = "is a directory: give a file in it"
    except PermissionError:
        problem = "may not be read by this process: check its permissions"
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in TOO_MANY_FILES:
            raise too_many_files() from None
        if (mistake := explain_path(path)) is not None:
            msg = f"The media {mistake}."
            raise MediaUnsupportedError(msg) from None
        missing = isinstance(error, FileNotFoundError)
        problem = "does not exist: check its path" if missing else "cannot be opened: check its path and the disk"
    else:
        return cast("BinaryIO", file)
    msg = f"The media file {problem}."
    raise MediaError(msg)


def reusable_source(source: MediaSource, *, hold: int = 0) -> Source | None:
    """Look at a source. Blocking; call it in a worker thread.

    Args:
        source: What the caller gave.
        hold: Bytes that may be held: what has no more, and could change, is read on this occasion.

    Returns:
        The source, or ``None`` when it can be read only once and must be spooled.

    Raises:
        MediaError: It is missing, a directory, not a regular file, or may not be read.
        MediaEmptyError: It holds no bytes.
        InvalidArgumentError: It is nothing that can be read as bytes.
    """
    found: Source | None
    if isinstance(source, str | os.PathLike):
        found = _path_source(_path_of(source), hold)
    elif isinstance(source, bytes | bytearray | memoryview):
        found = _bytes_source(source, hold)
    else:
        found = _file_source(sync_file(source))
        if found is not None and found.size <= hold:
            with closing(found.open()) as reader:
                found = _held(reader, found.size)
    if found is not None and found.size == 0:
        raise empty()
    return found


def _bytes_source(source: bytes | bytearray | memoryview, hold: int) -> BytesSource:
    constant = isinstance(source, bytes)
    try:
        view = memoryview(source)
        try:
            view = view.cast("B")
        except (TypeError, ValueError):  # bytes that are not next to each other, or of a foreign byte order
            view, constant = memoryview(view.tobytes()), True
    except ValueError:
        msg = "The media is a memoryview that was released: give it before its release, or give bytes."
        raise InvalidArgumentError(msg) from None
    if not constant and view.nbytes <= hold:
        return BytesSource(memoryview(bytes(view)), constant=True)
    return BytesSource(view, constant=constant)


def _held(reader: Reader, size: int) -> BytesSource:
    content = memoryview(bytearray(size))
    return BytesSource(content[: reader.fill(content)], constant=True)


def _path_of(source: str | os.PathLike[str]) -> str:
    try:
        return os.fsdecode(source)
    except Exception as error:  # noqa: BLE001  an object of the caller may raise anything
        failed = source_failed(error)
    raise failed


def _path_source(path: str, hold: int) -> Source:
    with _open(path) as file:
        described = os.fstat(file.fileno())
        size = described.st_size
        if not stat.S_ISREG(described.st_mode):
            msg = "The media path is not a regular file: open it yourself and give the open file."
            raise MediaError(msg)
        return _held(_FileReader(file, file.fileno(), start=0), size) if size <= hold else PathSource(path, size)


def _file_source(source: object) -> Source | None:
    if isinstance(source, io.TextIOBase):
        msg = 'The media is a file in text mode: open it with mode "rb".'
        raise InvalidArgumentError(msg)
    if is_http_response(source):
        msg = (
            f"The media is a response of an HTTP client ({type(source).__name__}): give its body, which is "
            "response.aiter_bytes() of httpx, response.content of aiohttp, response.raw of requests."
        )
        raise InvalidArgumentError(msg)
    if isinstance(source, AsyncIterable) or reads_async(source):
        return None
    if not callable(getattr(source, "read", None)):
        msg = (
            f"The media is nothing to read ({type(source).__name__}): give a path, bytes, a binary file, an async "
            "reader or an async iterator."
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
        failed = source_failed(error)
    if is_closed(file):
        closed = "The media file is closed or cannot be read: give it open, at the place to read from."
        raise MediaError(closed)
    raise failed
