"""Pictures on disk, as they arrive: the memory of the sandbox does not grow with them."""

from __future__ import annotations

import hashlib
import os
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from anyio import CancelScope, to_thread

from veriff_async._protocol.signing import Signer
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._temp_folder import LockedTempFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

__all__ = ("IncomingFile", "MediaStore")

_GATHERED: Final = 1024 * 1024
"""Bytes that are gathered before a thread is asked to write them."""

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)  # Windows has another mode for text


class MediaStore:
    """A folder of pictures that only their owner can read; a temporary one is removed at the end, a given one kept."""

    def __init__(self, folder: Path | None) -> None:
        """Take the folder to keep pictures in, or make a temporary one. Blocking.

        Raises:
            ConfigurationError: The folder cannot be made.
        """
        self._temp_folder: LockedTempFolder | None = None
        try:
            if folder is None:
                self._temp_folder = LockedTempFolder()
                self._folder = self._temp_folder.path
            else:
                self._folder = folder
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            problem = error.strerror or type(error).__name__
        else:
            return
        msg = f"The folder for pictures cannot be made ({problem}): give a folder that can be written to."
        raise ConfigurationError(msg)

    def incoming(self, media_id: str) -> IncomingFile:
        """Begin to receive a picture."""
        return IncomingFile(self._folder / media_id)

    async def signature(self, path: Path, secret: str) -> str:
        """Sign a picture, without holding it in memory."""
        return await to_thread.run_sync(_signature, path, secret)

    def close(self) -> None:
        """Remove an own folder with all that is in it. Blocking."""
        if self._temp_folder is not None:
            self._temp_folder.remove()


def _signature(path: Path, secret: str) -> str:
    signer = Signer(secret)
    with path.open("rb") as file:
        while piece := file.read(_GATHERED):
            signer.update(piece)
    return signer.hexdigest()


class IncomingFile:
    """A picture that is being received; what is not kept is removed."""

    def __init__(self, path: Path) -> None:
        """Take where it will be."""
        self.path = path
        self.size: int = 0
        self._file: BinaryIO | None = None
        self._gathered = bytearray()
        self._hash = hashlib.sha256()
        self._kept = False
        # A thread that writes is not stopped by the end of its request, so whoever comes last must see it.
        self._lock = Lock()
        self._over = False
        self._begun = False

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the file, unless it is to be kept."""
        if self._begun and not self._kept:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._discard)

    async def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._gathered += piece
        if len(self._gathered) >= _GATHERED:
            await self._hand_over(self._write)

    async def finish(self) -> str:
        """Write what is left and close the file; return the hex digest of its bytes."""
        await self._hand_over(self._finish)
        return self._hash.hexdigest()

    def keep(self) -> None:
        """Keep the file."""
        self._kept = True

    async def _hand_over(self, work: Callable[[bytes], None]) -> None:
        gathered, self._gathered = bytes(self._gathered), bytearray()
        self._begun = True
        await to_thread.run_sync(work, gathered)

    def _write(self, gathered: bytes) -> None:
        with self._lock:
            if self._over:
                return
            if self._file is None:
                # Pictures show people, so other users of the machine cannot read them, even in a folder that they can.
                self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600), "wb")
            self._hash.update(gathered)
            self.size += self._file.write(gathered)

    def _finish(self, gathered: bytes) -> None:
        self._write(gathered)
        self._close()

    def _discard(self) -> None:
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        with self._lock:
            self._over = True
            if self._file is not None:
                self._file.close()
