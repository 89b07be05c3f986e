"""Locks of whole files, which the system releases when the process ends."""

from __future__ import annotations

import os
import sys

__all__ = ("try_lock",)

if sys.platform == "win32":  # pragma: no cover
    import msvcrt
    from typing import Final

    # Windows lets no other program read or write locked bytes. So one is locked that few files reach: the last one that
    # `locking` can, whose positions have 32 bits.
    _LOCKED_BYTE: Final = 2**31 - 2

    def try_lock(descriptor: int) -> None:
        """Lock a file that was just opened.

        Raises:
            BlockingIOError: Another process holds the lock.
            OSError: The file system has no locks.
        """
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def try_lock(descriptor: int) -> None:
        """Lock a file that was just opened.

        Raises:
            BlockingIOError: Another process, or another open file of this one, holds the lock.
            OSError: The file system has no locks.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
