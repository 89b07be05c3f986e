"""A body on its way into a file: beside its goal under another name, and renamed when it is whole and proven.

Files are made for their owner alone, since they hold people's documents. They are not forced to the disk: after a power
cut a download is made again.
"""

from __future__ import annotations

import hashlib
import os
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final

from anyio import CancelScope, to_thread

from veriff_async.errors import MediaExistsError, MediaNotSavedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from anyio import CapacityLimiter


__all__ = ("FileSink", "already_there")

_GATHERED: Final = 1024 * 1024
"""Bytes that are gathered before a thread is asked to write them: a hop costs as much as writing some 200 KiB."""


class FileSink:
    """Receives one body into a file; `keep` makes it stay, and leaving without that removes it."""

    def __init__(
        self,
        goal: Callable[[str | None], Path],
        *,
        replace: bool,
        threads: CapacityLimiter,
        moved: Callable[[int, int | None], None],
    ) -> None:
        """Take where the file goes, by its MIME type, and who follows.

        Args:
            goal: Gives the path of the file, once its type is known.
            replace: Whether a file that is there is replaced.
            threads: The worker threads to write with.
            moved: Called with the bytes received in this try, and the size when it was told.
        """
        self._goal = goal
        self._replace = replace
        self._threads = threads
        self._moved = moved
        self.path: Path | None = None
        self.mimetype: str | None = None
        self.size = 0
        self._total: int | None = None
        self._hash = hashlib.sha256()
        self._gathered = bytearray()
        self._file: BinaryIO | None = None
        self._temporary: Path | None = None
        # A thread that writes is not stopped by the end of its call, so whoever comes last must see that it is over.
        self._lock = Lock()
        self._over = False

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Begin, or begin again when an earlier try broke off.

        Raises:
            MediaExistsError: A file is there already.
            MediaNotSavedError: None can be made.
        """
        self._hash = hashlib.sha256()
        self.size = 0
        self._gathered.clear()
        self.mimetype = headers.get("Content-Type", "").partition(";")[0].strip().lower() or None
        length = headers.get("Content-Length", "")
        self._total = int(length) if length.isascii() and length.isdigit() else None
        self.path = self._goal(self.mimetype)
        await to_thread.run_sync(self._open, self.path, limiter=self._threads)

    async def take(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            MediaNotSavedError: It cannot be written.
        """
        self._gathered += piece
        self.size += len(piece)
        if len(self._gathered) >= _GATHERED:
            await self._write_out()
        self._moved(self.size, self._total)

    async def keep(self) -> str:
        """Give the file its name, and return the hex digest of its bytes.

        Raises:
            MediaExistsError: A file came there meanwhile.
            MediaNotSavedError: The last bytes cannot be written.
        """
        await self._write_out()
        await to_thread.run_sync(self._rename, limiter=self._threads)
        return self._hash.hexdigest()

    async def aclose(self) -> None:
        """Remove what was not kept."""
        if self._temporary is not None:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._discard)

    async def _write_out(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        await to_thread.run_sync(self._write, gathered, limiter=self._threads)

    def _open(self, goal: Path) -> None:
        with self._lock:
            if self._over:
                return
            if not self._replace and os.path.lexists(goal):
                raise already_there()
            if self._file is not None:
                self._file.seek(0)
                self._file.truncate()
                return
            temporary = goal.with_name(f".{token_hex(8)}.part")
            try:
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                self._file, self._temporary = os.fdopen(handle, "wb", buffering=0), temporary
                return
        raise _unwritable(problem)

    def _write(self, gathered: bytearray) -> None:
        with self._lock:
            if self._over or self._file is None:
                return
            try:
                rest = memoryview(gathered)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                self._hash.update(gathered)
                return
        raise _unwritable(problem)

    def _rename(self) -> None:
        with self._lock:
            temporary, goal = self._temporary, self.path
            if self._over or self._file is None or temporary is None or goal is None:
                return
            self._file.close()
            try:
                if self._replace:
                    temporary.replace(goal)
                else:
                    _link(temporary, goal)
            except FileExistsError:
                raise already_there() from None
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                self._temporary, self._over = None, True
                return
        raise _unwritable(problem)

    def _discard(self) -> None:
        with self._lock:
            self._over = True
            if self._file is not None:
                self._file.close()
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)


def _link(temporary: Path, goal: Path) -> None:
    """Rename without ever replacing a file, which a plain rename would."""
    try:
        os.link(temporary, goal)
    except FileExistsError:
        raise
    except OSError:
        # Some file systems have no links: the name is taken first, by an empty file that only this call can have made.
        os.close(os.open(goal, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        temporary.replace(goal)
    else:
        temporary.unlink()


def already_there() -> MediaExistsError:
    """Return the error for a file that is there already."""
    return MediaExistsError('A file is there already: give another place, or existing="replace" or "skip".')


def _unwritable(problem: str) -> MediaNotSavedError:
    return MediaNotSavedError(f"The download cannot be written ({problem}): give a folder that exists and has room.")
