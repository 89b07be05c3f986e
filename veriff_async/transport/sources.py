"""Where the bytes of a media come from: anything a caller may hold, turned into something that can be read again.

A `Source` is opened afresh for every pass and every try, always in a worker thread.
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import AsyncIterable
from contextlib import closing
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from attrs import frozen

from veriff_async.errors import ConfigurationError, MediaEmptyError, MediaError

if TYPE_CHECKING:
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
    "reads_async",
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

_RESTED: Final = 2.0
"""Seconds since the last write after which a further one is sure to get another time: file systems count in ticks."""

_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
"""Flag of `os.preadv` for "only if it takes no waiting"; Linux has it, elsewhere threads read."""


class Source(Protocol):
    """Bytes of known size that can be read any number of times."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def open(self) -> Reader:
        """Open the bytes at their beginning. Blocking; call it in a worker thread."""
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

    def fill_now(self, buffer: memoryview) -> bool:
        """Fill the buffer if that takes no waiting, else leave everything as it is and return false."""
        ...

    def stamp(self) -> object | None:
        """Return what differs once the bytes were written to, or ``None`` when nothing but the bytes can tell."""
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

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.view.nbytes

    def open(self) -> Reader:
        """Open the bytes without copying them."""
        return _ViewReader(self.view, constant=self.constant)

    def close(self) -> None:
        """Do nothing: the caller's bytes stay the caller's."""


@frozen
class PathSource:
    """A file that is opened afresh for each reading."""

    path: str
    size: int

    def open(self) -> Reader:
        """Open the file, unbuffered: it is read in large pieces."""
        file = _open(self.path)
        return _FileReader(file, file.fileno(), start=0, closing=True)

    def close(self) -> None:
        """Do nothing: no handle is held between readings."""


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

    def open(self) -> Reader:
        """Go back to where the bytes begin."""
        return _FileReader(self.file, _descriptor(self.file), start=self.start, private=self.spool)

    def close(self) -> None:
        """Drop a spool, which nobody else has a name for."""
        if self.spool:
            self.file.close()


class _ViewReader:
    """Read a view; `io.BytesIO` would begin with a copy of the whole."""

    __slots__ = ("_constant", "_left")

    def __init__(self, view: memoryview, *, constant: bool) -> None:
        self._left = view
        self._constant = constant

    def fill(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def skip(self, count: int) -> None:
        self._left = self._left[count:]

    def fill_now(self, buffer: memoryview) -> bool:
        return len(self._left) >= len(buffer) and self.fill(buffer) > 0

    def stamp(self) -> object | None:
        return PRIVATE if self._constant else None

    def close(self) -> None:
        self._left = self._left[:0]


class _FileReader:
    """Read a file through its descriptor where there is one, so that its own position does not matter."""

    __slots__ = ("_at", "_closing", "_descriptor", "_file", "_private", "_sought")

    def __init__(
        self, file: BinaryIO, descriptor: int | None, *, start: int, closing: bool = False, private: bool = False
    ) -> None:
        self._file = file
        self._closing = closing
        self._private = private
        self._at = start
        self._descriptor = descriptor if _NOWAIT else None
        self._sought = self._descriptor is not None

    def fill(self, buffer: memoryview) -> int:
        problem = "The media could not be read to its end: check the disk, and that the file stays open meanwhile."
        filled = 0
        try:
            # An unbuffered file may return less than it was asked for.
            while filled < len(buffer) and (count := self._some(buffer[filled:])):
                filled += count
        except (OSError, ValueError):
            pass
        else:
            return filled
        raise MediaError(problem)

    def skip(self, count: int) -> None:
        if self._descriptor is None:
            try:
                self._file.seek(*((count, os.SEEK_CUR) if self._sought else (self._at + count,)))
            except (OSError, ValueError):
                # The next reading tells what is the matter.
                return
            self._sought = True
        self._at += count

    def _some(self, buffer: memoryview) -> int:
        if not self._sought:
            self._file.seek(self._at)
            self._sought = True
        if self._descriptor is None:
            piece = self._file.read(len(buffer))
            buffer[: len(piece)] = piece
            return len(piece)
        count = os.preadv(self._descriptor, [buffer], self._at)
        self._at += count
        return count

    def fill_now(self, buffer: memoryview) -> bool:
        """Read what the page cache holds, as it does right after the pass that signs."""
        if self._descriptor is None:
            return False
        try:
            count = os.preadv(self._descriptor, [buffer], self._at, _NOWAIT)
        except OSError:  # not in the cache (EAGAIN), or a file system that cannot tell (EOPNOTSUPP)
            return False
        if count < len(buffer):
            return False
        self._at += count
        return True

    def stamp(self) -> object | None:
        """Return what the file system says, unless a write in the same tick of its clock could go unnoticed."""
        if self._private:
            return PRIVATE
        if self._descriptor is None:
            return None
        found = os.fstat(self._descriptor)
        rested = time.time() - found.st_mtime > _RESTED
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) if rested else None

    def close(self) -> None:
        if self._closing:
            self._file.close()


def _descriptor(file: BinaryIO) -> int | None:
    """Return the descriptor of a plain file; others (a gzip file, for one) have that of something else."""
    raw = cast("io.BufferedReader", file).raw if isinstance(file, io.BufferedReader | io.BufferedRandom) else file
    return raw.fileno() if isinstance(raw, io.FileIO) else None


def _at_once(path: str, flags: int) -> int:
    """Open without waiting: a named pipe would not return before somebody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _open(path: str) -> BinaryIO:
    try:
        file = open(path, "rb", buffering=0, opener=_at_once)  # noqa: SIM115  the caller closes it; paths are plain texts here
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
        ConfigurationError: It is nothing that can be read as bytes.
    """
    found: Source | None
    if isinstance(source, str | os.PathLike):
        found = _path_source(os.fspath(source), hold)
    elif isinstance(source, bytes | bytearray | memoryview):
        found = BytesSource(memoryview(source).cast("B"), constant=isinstance(source, bytes))
        if not found.constant and found.size <= hold:
            found = BytesSource(memoryview(bytes(found.view)), constant=True)
    else:
        found = _file_source(source)
        if found is not None and found.size <= hold:
            with closing(found.open()) as reader:
                found = _held(reader, found.size)
    if found is not None and found.size == 0:
        raise empty()
    return found


def _held(reader: Reader, size: int) -> BytesSource:
    content = memoryview(bytearray(size))
    return BytesSource(content[: reader.fill(content)], constant=True)


def empty() -> MediaEmptyError:
    """Return the error for a media without bytes."""
    return MediaEmptyError("The media holds no bytes: check that its file was written, or its stream not read before.")


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
        raise ConfigurationError(msg)
    if isinstance(source, AsyncIterable) or reads_async(source):
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


def reads_async(source: object) -> bool:
    """Tell whether a source has an async ``read(n)``."""
    return iscoroutinefunction(getattr(source, "read", None))
