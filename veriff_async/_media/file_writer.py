"""A body on its way into a file: beside its goal under another name, and renamed when it is whole and proven.

Files are made for their owner alone, since they hold people's documents. They are not forced to the disk: after a power
cut a download is made again.
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, TypeAlias

from anyio import CancelScope, to_thread

from veriff_async._http.payload import CallbackError
from veriff_async.errors import MediaExistsError, MediaNotSavedError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from anyio import CapacityLimiter

    from veriff_async._protocol.signing import Verifier


__all__ = (
    "AtomicFileWriter",
    "IfExists",
    "already_there",
    "check_download_size",
    "incomplete_file",
    "is_complete",
)

IfExists: TypeAlias = Literal["error", "replace", "skip"]
"""What a download does if its file exists: raise, replace it, or keep it if it is complete."""

_GATHERED: Final = 512 * 1024
"""Bytes that are gathered before a thread is asked to write them: a hop costs as much as writing some 200 KiB.

They stay in the pieces that they came in: joining them costs fresh pages, and more than checking them.
"""


class AtomicFileWriter:
    """Receives one body into a file; `keep` makes it stay, and leaving without that removes it."""

    def __init__(
        self,
        goal: Callable[[str | None], Path],
        *,
        if_exists: IfExists,
        max_bytes: int,
        threads: CapacityLimiter,
        moved: Callable[[int, int | None], None],
    ) -> None:
        """Take where the file goes, by its MIME type, and who follows.

        Args:
            goal: Gives the path of the file, once its type is known.
            if_exists: What to do if the file exists.
            max_bytes: Size above which the download is refused.
            threads: The worker threads to write with.
            moved: Called with the bytes received in this try, and the size when it was told.
        """
        self._goal = goal
        self._if_exists = if_exists
        self._max_bytes = max_bytes
        self._threads = threads
        self._moved = moved
        self.path: Path | None = None
        self.mimetype: str | None = None
        self.size: int = 0
        self.total: int | None = None
        self._verifier: Verifier | None = None
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._writing: asyncio.Task[None] | None = None
        self._file: BinaryIO | None = None
        self._temporary: Path | None = None
        # A thread that writes is not stopped by the end of its call, so whoever comes last must see that it is over.
        self._lock = Lock()
        self._over = False

    async def begin(self, headers: Mapping[str, str], verifier: Verifier) -> None:
        """Begin, or begin again when an earlier try broke off.

        Raises:
            MediaExistsError: The file exists, and it is kept.
            MediaNotSavedError: The temporary file cannot be created.
            ResponseError: The announced size is above `max_bytes`.
        """
        await self._written()
        self._verifier = verifier
        self.size = 0
        self._pieces, self._gathered = [], 0
        self.mimetype = headers.get("Content-Type", "").partition(";")[0].strip().lower() or None
        length = headers.get("Content-Length", "")
        self.total = int(length) if length.isascii() and length.isdigit() else None
        check_download_size(self.total, self._max_bytes)
        self.path = self._goal(self.mimetype)
        await to_thread.run_sync(self._open, self.path, limiter=self._threads)

    async def take(self, piece: bytes) -> None:
        """Take the next piece; while it is read, a thread checks and writes what came before.

        Raises:
            MediaNotSavedError: It cannot be written.
            ResponseError: More than `max_bytes` arrived.
            CallbackError: The caller's function raised.
        """
        check_download_size(self.size + len(piece), self._max_bytes)
        self._pieces.append(piece)
        self._gathered += len(piece)
        self.size += len(piece)
        if self._gathered >= _GATHERED:
            await self._hand_over()
        try:
            self._moved(self.size, self.total)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  the caller's function may raise anything
            raise CallbackError(error) from None

    async def end(self) -> None:
        """Return when all pieces are written, and the verifier has seen them.

        Raises:
            MediaNotSavedError: The last ones cannot be written.
        """
        await self._hand_over()
        await self._written()

    async def keep(self) -> None:
        """Give the file its name.

        Raises:
            MediaExistsError: A file came there meanwhile.
            MediaNotSavedError: It cannot be renamed.
        """
        await to_thread.run_sync(self._rename, limiter=self._threads)

    async def aclose(self) -> None:
        """Remove what was not kept, also if the task is cancelled again meanwhile."""
        if self._verifier is None or self._over:
            return
        # A thread of anyio begins only after a checkpoint, at which another cancellation would end the call and leave
        # the file. This one begins at once. It waits for the thread that opens or writes the file, if there is one.
        removing = asyncio.get_running_loop().run_in_executor(None, self._discard)
        with CancelScope(shield=True):
            await asyncio.wait([removing] if self._writing is None else [removing, self._writing])

    async def _hand_over(self) -> None:
        await self._written()
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        work = to_thread.run_sync(self._write, pieces, limiter=self._threads)
        self._writing = asyncio.get_running_loop().create_task(work)
        # Its exception is raised by `_written`, except if the download ends earlier, for another reason.
        self._writing.add_done_callback(_mark_retrieved)

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            # A thread goes on whatever happens to its waiter, so it is waited for again where the file is closed.
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            self._writing = writing
            raise

    def _open(self, goal: Path) -> None:
        with self._lock:
            if self._over:
                return
            if self._if_exists != "replace" and os.path.lexists(goal) and not self._may_finish(goal):
                raise already_there(goal)
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

    def _write(self, pieces: list[bytes]) -> None:
        with self._lock:
            if self._over or self._file is None or self._verifier is None:
                return
            try:
                for piece in pieces:
                    self._verifier.update(piece)
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[self._file.write(rest) :]
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                return
        raise _unwritable(problem)

    def _rename(self) -> None:
        with self._lock:
            temporary, goal = self._temporary, self.path
            if self._over or self._file is None or temporary is None or goal is None:
                return
            self._file.close()
            try:
                if self._if_exists == "replace" or (self._if_exists == "skip" and _is_empty(goal)):
                    temporary.replace(goal)
                else:
                    _link(temporary, goal)
            except FileExistsError:
                raise already_there(goal) from None
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                self._temporary, self._over = None, True
                return
        raise _unwritable(problem)

    def _may_finish(self, goal: Path) -> bool:
        """Return whether the download is needed to decide about the existing file, or to complete it."""
        return self._if_exists == "skip" and (self.total is None or (self.total > 0 and _is_empty(goal)))

    def _discard(self) -> None:
        with self._lock:
            self._over = True
            if self._file is not None:
                self._file.close()
            if self._temporary is not None:
                with suppress(OSError):  # the folder cannot be written to any more
                    self._temporary.unlink()


def _mark_retrieved(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _link(temporary: Path, goal: Path) -> None:
    """Rename without ever replacing a file, which a plain rename would."""
    try:
        os.link(temporary, goal)
    except FileExistsError:
        raise
    except OSError:
        # Some file systems have no links. Checking first leaves a moment in which another program's new file would be
        # replaced; reserving the name with an empty file instead would leave that file behind after a kill.
        if os.path.lexists(goal):
            raise FileExistsError from None
        temporary.replace(goal)
    else:
        temporary.unlink()


def is_complete(path: Path, size: int) -> bool:
    """Return whether a path is a regular file of the given size, or a link to one. Blocking."""
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def check_download_size(size: int | None, max_bytes: int) -> None:
    """Refuse a download that is larger than the caller allows.

    Raises:
        ResponseError: `size` is above `max_bytes`.
    """
    if size is not None and size > max_bytes:
        msg = f"The download is larger than {max_bytes} bytes: check base_url, or raise max_bytes if the file is right."
        raise ResponseError(msg, problems=(f"more than {max_bytes} bytes",))


def already_there(path: Path) -> MediaExistsError:
    """Return the error for a file that exists when files are not to be touched."""
    error = MediaExistsError('A file is there already: give another place, or if_exists="replace" or "skip".')
    error.path = path
    return error


def incomplete_file(path: Path) -> MediaExistsError:
    """Return the error for something that exists and is not the finished download."""
    msg = (
        "A file, folder or link is there already, and it is not the finished download, because its size differs: "
        'remove it, give another place, or give if_exists="replace".'
    )
    error = MediaExistsError(msg)
    error.path = path
    return error


def _is_empty(path: Path) -> bool:
    """Return whether a path is an empty regular file, which holds nothing that could be lost."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _unwritable(problem: str) -> MediaNotSavedError:
    return MediaNotSavedError(f"The download cannot be written ({problem}): give a folder that exists and has room.")
