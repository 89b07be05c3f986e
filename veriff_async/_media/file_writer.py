"""Writes a download to a file that is either complete and verified, or absent.

The bytes go to a temporary file in the target's folder. It is renamed when the whole body has arrived and its signature
is right, which is atomic: another program never sees a part of the file. Until then the target is not touched.

Files can be read by their owner only, because they hold people's documents. They are not synced to the disk: after a
power cut, a download can be repeated.
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress
from functools import partial
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, TypeAlias

from anyio import CancelScope

from veriff_async._http.payload import CallbackError
from veriff_async._media.write_behind import WriteBehind, write_all
from veriff_async.errors import MediaExistsError, MediaNotSavedError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from veriff_async._media.worker_threads import WorkerThreads
    from veriff_async._media.write_behind import Piece
    from veriff_async._protocol.signing import Verifier

__all__ = (
    "AtomicFileWriter",
    "IfExists",
    "check_download_size",
    "file_exists",
    "incomplete_file",
    "is_complete",
)

IfExists: TypeAlias = Literal["error", "replace", "skip"]
"""Policy for a file that already exists: raise an error, replace it, or keep it if it is complete."""

# Bytes that are gathered before a thread writes them.
_BATCH_SIZE: Final = 256 * 1024

# Windows opens files in text mode without it.
_O_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


class AtomicFileWriter:
    """Receives one body into a file; `commit` gives it its name, and `aclose` without `commit` deletes it.

    The transport calls `begin` for each attempt, then `take` for each piece and `end`. The downloader calls `commit`
    and `aclose`.
    """

    def __init__(
        self,
        path_for: Callable[[str | None], Path],
        *,
        if_exists: IfExists,
        max_bytes: int,
        threads: WorkerThreads,
        on_bytes_received: Callable[[int, int | None], None],
    ) -> None:
        """Prepare to receive a body.

        Args:
            path_for: Returns the path of the file for its MIME type.
            if_exists: See `IfExists`.
            max_bytes: Largest size that is accepted.
            threads: The threads that open, write and rename.
            on_bytes_received: Called after each piece with the bytes received in this attempt, and the size if it is
                known.
        """
        self._path_for = path_for
        self._if_exists = if_exists
        self._max_bytes = max_bytes
        self._threads = threads
        self._on_bytes_received = on_bytes_received
        self.path: Path | None = None
        self.mimetype: str | None = None
        self.size: int = 0
        self.total: int | None = None
        self._verifier: Verifier | None = None
        self._pieces: list[Piece] = []
        self._pieces_size = 0
        self._writer = WriteBehind(threads)
        self._file: BinaryIO | None = None
        self._temporary: Path | None = None
        # A thread that opens, writes or renames still runs when its caller is cancelled. So each of them takes the lock
        # and does nothing once the writer is closed; `_discard` takes it last, and deletes what they left.
        self._lock = Lock()
        self._closed = False

    async def begin(self, headers: Mapping[str, str], verifier: Verifier) -> None:
        """Start an attempt, from the first byte; an earlier attempt may have broken off.

        Raises:
            MediaExistsError: The file exists, and it is kept.
            MediaNotSavedError: The temporary file cannot be created.
            ResponseError: The announced size is above `max_bytes`.
        """
        await self._writer.flush()
        self._verifier = verifier
        self.size = 0
        self._pieces, self._pieces_size = [], 0
        self.mimetype = headers.get("Content-Type", "").partition(";")[0].strip().lower() or None
        length = headers.get("Content-Length", "")
        self.total = int(length) if length.isascii() and length.isdigit() else None
        check_download_size(self.total, self._max_bytes)
        self.path = self._path_for(self.mimetype)
        await self._threads.start(partial(self._open, self.path))

    async def take(self, piece: bytes) -> None:
        """Verify the next piece; a thread writes it while the following ones arrive.

        Raises:
            MediaNotSavedError: The previous pieces cannot be written.
            ResponseError: More than `max_bytes` arrived.
            CallbackError: The user's function raised.
        """
        check_download_size(self.size + len(piece), self._max_bytes)
        if self._verifier is not None:
            self._verifier.update(piece)
        self._pieces.append(piece)
        self._pieces_size += len(piece)
        self.size += len(piece)
        if self._pieces_size >= _BATCH_SIZE:
            await self._write_behind()
        try:
            self._on_bytes_received(self.size, self.total)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  the user's function may raise anything
            raise CallbackError(error) from None

    async def end(self) -> None:
        """Return when all pieces are written.

        Raises:
            MediaNotSavedError: The last ones cannot be written.
        """
        await self._write_behind()
        await self._writer.flush()

    async def commit(self) -> None:
        """Give the file its name.

        Raises:
            MediaExistsError: The target was created in the meantime.
            MediaNotSavedError: The file cannot be renamed.
        """
        await self._threads.start(self._rename)

    async def aclose(self) -> None:
        """Delete the temporary file unless it was committed, also if the task is cancelled again."""
        if self._verifier is None or self._closed:
            return
        # A thread of anyio starts only after a checkpoint, where another cancellation would end this call and leave the
        # file. `WorkerThreads` starts it immediately. It waits for the thread that opens or writes the file.
        removal = self._threads.start(self._discard)
        with CancelScope(shield=True):
            await asyncio.wait([removal])
            await self._writer.wait()

    async def _write_behind(self) -> None:
        pieces, self._pieces, self._pieces_size = self._pieces, [], 0
        await self._writer.start(partial(self._write, pieces))

    def _open(self, target: Path) -> None:
        with self._lock:
            if self._closed:
                return
            if self._if_exists != "replace" and os.path.lexists(target) and not self._may_finish(target):
                raise file_exists(target)
            if self._file is not None:
                self._file.seek(0)
                self._file.truncate()
                return
            temporary = target.with_name(f".{token_hex(8)}.part")
            try:
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o600)
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                self._file, self._temporary = os.fdopen(handle, "wb", buffering=0), temporary
                return
        raise _not_saved(problem)

    def _write(self, pieces: list[Piece]) -> None:
        with self._lock:
            if self._closed or self._file is None:
                return
            try:
                for piece in pieces:
                    write_all(self._file, piece)
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                return
        raise _not_saved(problem)

    def _rename(self) -> None:
        with self._lock:
            temporary, target = self._temporary, self.path
            if self._closed or self._file is None or temporary is None or target is None:
                return
            self._file.close()
            try:
                if self._if_exists == "replace" or (self._if_exists == "skip" and _is_empty(target)):
                    temporary.replace(target)
                else:
                    _link(temporary, target)
            except FileExistsError:
                raise file_exists(target) from None
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                self._temporary, self._closed = None, True
                return
        raise _not_saved(problem)

    def _may_finish(self, target: Path) -> bool:
        """Return whether the body is needed to decide about the existing file, or to complete it."""
        return self._if_exists == "skip" and (self.total is None or (self.total > 0 and _is_empty(target)))

    def _discard(self) -> None:
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()
            if self._temporary is not None:
                with suppress(OSError):  # the folder cannot be written any more
                    self._temporary.unlink()


def _link(temporary: Path, target: Path) -> None:
    """Rename without ever replacing a file, which a plain rename would."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # Some file systems have no links. Between this check and the rename, a new file of another program could be
        # replaced. An empty file that reserves the name would avoid that, but a killed process would leave it behind.
        if os.path.lexists(target):
            raise FileExistsError from None
        temporary.replace(target)
    else:
        temporary.unlink()


def is_complete(path: Path, size: int) -> bool:
    """Return whether a path is a regular file of the given size, or a link to one. Blocking."""
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def check_download_size(size: int | None, max_bytes: int) -> None:
    """Refuse a download that is larger than the caller allows.

    Raises:
        ResponseError: `size` is above `max_bytes`.
    """
    if size is not None and size > max_bytes:
        msg = f"The download is larger than {max_bytes} bytes: check base_url, or raise max_bytes if the file is right."
        raise ResponseError(msg, problems=(f"more than {max_bytes} bytes",))


def file_exists(path: Path) -> MediaExistsError:
    """Return the error for a file that must not be replaced."""
    error = MediaExistsError('The file already exists: pass another path, or if_exists="replace" or "skip".')
    error.path = path
    return error


def incomplete_file(path: Path) -> MediaExistsError:
    """Return the error for an existing file, folder or link that is not the complete download."""
    msg = (
        "The path already exists, and is not the complete download, because its size differs: remove it, pass another "
        'path, or pass if_exists="replace".'
    )
    error = MediaExistsError(msg)
    error.path = path
    return error


def _is_empty(path: Path) -> bool:
    """Return whether a path is an empty regular file, which holds nothing that could be lost."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _not_saved(problem: str) -> MediaNotSavedError:
    return MediaNotSavedError(
        f"The download cannot be written ({problem}): pass a folder that exists and has free space."
    )
