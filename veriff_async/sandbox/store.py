"""Pictures on disk, as they arrive: the memory of the sandbox does not grow with them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from anyio import to_thread

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("Incoming", "Store")

_GATHERED: Final = 1024 * 1024
"""Bytes that are gathered before a thread is asked to write them."""


class Store:
    """A folder of pictures; an own one is removed at the end, a given one is kept."""

    def __init__(self, folder: Path | None) -> None:
        """Take the folder to keep pictures in, or make one. Blocking."""
        self._temporary = folder is None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="veriff-sandbox-")) if folder is None else folder

    def incoming(self, media_id: str) -> Incoming:
        """Begin to receive a picture."""
        return Incoming(self._folder / media_id)

    def close(self) -> None:
        """Remove an own folder with all that is in it. Blocking."""
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)


class Incoming:
    """A picture that is being received; what is not kept is removed."""

    def __init__(self, path: Path) -> None:
        """Take where it will be."""
        self.path = path
        self.size = 0
        self._file: BinaryIO | None = None
        self._gathered = bytearray()
        self._hash = hashlib.sha256()
        self._kept = False

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, and remove it unless it is to be kept."""
        if self._file is not None:
            self._file.close()
            if not self._kept:
                self.path.unlink(missing_ok=True)

    async def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._gathered += piece
        if len(self._gathered) >= _GATHERED:
            await self._flush()

    async def finish(self) -> str:
        """Write what is left and keep the file; return the hex digest of its bytes."""
        await self._flush()
        return self._hash.hexdigest()

    def keep(self) -> None:
        """Keep the file."""
        self._kept = True

    async def _flush(self) -> None:
        gathered, self._gathered = bytes(self._gathered), bytearray()
        await to_thread.run_sync(self._write, gathered)

    def _write(self, gathered: bytes) -> None:
        if self._file is None:
            self._file = self.path.open("wb")
        self._hash.update(gathered)
        self.size += self._file.write(gathered)
