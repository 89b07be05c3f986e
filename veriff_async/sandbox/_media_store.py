"""Uploaded files on disk, written while they arrive, so that memory does not grow with them."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from anyio import CancelScope, to_thread

from veriff_async._protocol.signing import Signer
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._records import StoredMedia
from veriff_async.sandbox._temp_folder import LockedTempFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

__all__ = ("IncomingFile", "MediaStore", "StorageError", "delete_files", "open_private_file")

# Bytes that are collected before a thread writes them, so that a small chunk does not cost a switch of threads.
_BLOCK_BYTES: Final = 1024 * 1024

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)  # Windows has another mode for text


class StorageError(HTTPError):
    """The disk does not take an uploaded file."""

    def __init__(self) -> None:
        """Refuse the request."""
        message = "The sandbox cannot store the file: check the media folder and the space on its disk."
        super().__init__(507, None, message)


class MediaStore:
    """A folder of files that only their owner can read. A temporary folder is removed at the end."""

    def __init__(self, folder: Path | None) -> None:
        """Create the folder, or a temporary one for ``None``. Blocking."""
        self._temp_folder: LockedTempFolder | None = None
        try:
            if folder is None:
                self._temp_folder = LockedTempFolder()
                self.folder = self._temp_folder.path
            else:
                self.folder = folder
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            problem = error.strerror or type(error).__name__
        else:
            return
        msg = f"The media folder cannot be created ({problem}): pass a folder that can be written to."
        raise ConfigurationError(msg)

    def incoming(self, media_id: str) -> IncomingFile:
        """Return the file of a new upload."""
        return IncomingFile(self.folder / media_id)

    async def signature(self, path: Path, secret: str) -> str:
        """Sign a file, without holding it in memory."""
        return await to_thread.run_sync(_signature, path, secret)

    def delete(self, paths: Iterable[Path]) -> None:
        """Remove files. Blocking."""
        delete_files(self.folder, paths)

    def close(self) -> None:
        """Remove a temporary folder with its files. Blocking."""
        if self._temp_folder is not None:
            self._temp_folder.remove()


def delete_files(folder: Path, paths: Iterable[Path]) -> None:
    """Remove files of a folder; those elsewhere, and those that are gone, are ignored. Blocking."""
    for path in paths:
        # Specimens belong to the library, and are listed by their paths there.
        if path.parent == folder:
            # Windows does not remove a file while a client downloads it. An error must not keep the others.
            with suppress(OSError):
                path.unlink()


def open_private_file(path: Path) -> BinaryIO:
    """Create a file that only its owner can read, and open it for writing. Blocking.

    Media show people, so other users of the machine must not read them, even in a folder that they can.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600), "wb")


def _signature(path: Path, secret: str) -> str:
    signer = Signer(secret)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            signer.update(block)
    return signer.hexdigest()


class IncomingFile:
    """A file that is being uploaded. It is removed at the end of its block unless `keep` was called."""

    def __init__(self, path: Path) -> None:
        """Prepare a file; it is created with its first block."""
        self.path = path
        self.size: int = 0
        self._file: BinaryIO | None = None
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._is_kept = False
        # A cancelled request does not stop the thread that writes for it. If the file is discarded before it has
        # finished, it must not create the file again: the lock orders the two, and _is_closed stops the later one.
        self._lock = Lock()
        self._is_closed = False
        self._is_started = False

    async def __aenter__(self) -> Self:
        """Return itself; nothing is opened yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the file, unless it is kept."""
        if self._is_started and not self._is_kept:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._discard)

    async def write(self, data: bytes) -> None:
        """Append bytes."""
        self._buffer += data
        if len(self._buffer) >= _BLOCK_BYTES:
            await self._run_in_thread(self._write)

    async def finish(self, *, context: str, mimetype: str) -> StoredMedia:
        """Write the rest and close the file; return its record."""
        await self._run_in_thread(self._finish)
        return StoredMedia(
            id=self.path.name,
            context=context,
            mimetype=mimetype,
            size=self.size,
            sha256=self._hash.hexdigest(),
            path=self.path,
        )

    def keep(self) -> None:
        """Keep the file."""
        self._is_kept = True

    async def _run_in_thread(self, work: Callable[[bytes], None]) -> None:
        block, self._buffer = bytes(self._buffer), bytearray()
        self._is_started = True
        try:
            await to_thread.run_sync(work, block)
        except OSError:
            raise StorageError from None

    def _write(self, block: bytes) -> None:
        with self._lock:
            if self._is_closed:
                return
            if self._file is None:
                self._file = open_private_file(self.path)
            # Hashed here, so that neither the event loop nor a second reading of the file is needed.
            self._hash.update(block)
            self.size += self._file.write(block)

    def _finish(self, block: bytes) -> None:
        self._write(block)
        self._close()

    def _discard(self) -> None:
        # On a full disk the end of the file cannot be written, nor its parts in a folder that is gone be removed.
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._file is not None:
                self._file.close()
