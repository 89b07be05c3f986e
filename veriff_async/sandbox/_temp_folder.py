"""Temporary folders that do not outlive their process.

A folder holds pictures of people, so it is removed when its sandbox stops, when its process ends, and, if the process
was killed, by the next sandbox that starts. That one must not remove the folder of a sandbox that runs. So each process
holds a lock on its folder, which the operating system releases however the process ends: a folder that can be locked
belongs to no process.

    LockedTempFolder()   1. removes the folders that it can lock
                         2. creates a folder and locks it
                         3. creates another one if another process has locked and removed it between these two steps

Windows has no locks on folders. There an open file cannot be removed, and serves as the lock.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import weakref
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("LockedTempFolder", "lock_folder")

_PREFIX: Final = "veriff_async_sandbox_"

if sys.platform == "win32":  # pragma: no cover
    _LOCK: Final = "in-use"

    def _lock_new(path: Path) -> int | None:
        return os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def _lock_abandoned(path: Path) -> int | None:
        (path / _LOCK).unlink()  # raises while it is open, and before it was created
        return _lock_new(path)

    def _is_ours(path: Path) -> bool:
        return path.is_dir()

    def _unlock(lock: int, _owner: int) -> None:
        os.close(lock)

    def _delete(path: Path, lock: int) -> None:
        os.close(lock)
        shutil.rmtree(path, ignore_errors=True)

else:
    import fcntl

    def _lock_new(path: Path) -> int | None:
        """Lock a folder and return its descriptor; ``None`` if another process has removed the folder."""
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The name may belong to a new folder by now; the lock is on the one that was opened.
            locked, current = os.fstat(lock), path.lstat()
        except OSError:
            os.close(lock)
            raise
        if (locked.st_dev, locked.st_ino) == (current.st_dev, current.st_ino):
            return lock
        os.close(lock)
        return None

    _lock_abandoned = _lock_new

    def _is_ours(path: Path) -> bool:
        status = path.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()

    def _unlock(lock: int, owner: int) -> None:
        # A forked child shares the lock: it must not release that of its parent, nor keep it after its parent's end.
        if os.getpid() == owner:
            fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)

    def _delete(path: Path, lock: int) -> None:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def lock_folder(path: Path) -> Callable[[], None]:
    """Lock a folder until the process ends, or until the function that is returned is called."""
    try:
        lock = _lock_abandoned(path)
    except PermissionError:  # Windows: the file is open
        raise BlockingIOError from None
    except FileNotFoundError:  # Windows: the file was never created
        lock = _lock_new(path)
    if lock is None:
        raise BlockingIOError
    return partial(_unlock, lock, os.getpid())


class LockedTempFolder:
    """A temporary folder that is locked until it is removed."""

    def __init__(self) -> None:
        """Remove the folders of killed processes, and create one. Blocking."""
        _delete_abandoned()
        path, lock = _create_locked()
        self.path: Path = path
        # Called at the end of the process at the latest.
        self._finalizer = weakref.finalize(self, _delete_own, self.path, lock, os.getpid())

    def remove(self) -> None:
        """Remove the folder with all that is in it; a second call does nothing. Blocking."""
        self._finalizer()


def _create_locked() -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))  # readable by its owner only
        with suppress(FileNotFoundError, BlockingIOError):
            lock = _lock_new(path)
            if lock is not None:
                return path, lock


def _delete_own(path: Path, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # a forked child ends, too, and must not take the folder away from its parent
        _delete(path, lock)


def _delete_abandoned() -> None:
    for path in _folders():
        with suppress(OSError):
            lock = _lock_abandoned(path) if _is_ours(path) else None
            if lock is not None:
                _delete(path, lock)


def _folders() -> Iterator[Path]:
    with suppress(OSError):
        yield from Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")
