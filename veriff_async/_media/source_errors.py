"""Errors for what a source of the caller does wrong, each with a remedy and without any foreign text."""

from __future__ import annotations

import errno
import os
from typing import Final

from veriff_async._media.source_kinds import is_closed
from veriff_async.errors import InvalidArgumentError, MediaEmptyError, MediaSourceError

__all__ = ("TOO_MANY_FILES", "empty", "not_bytes", "source_failed", "stalled", "too_many_files", "unreadable")

TOO_MANY_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})


def too_many_files() -> MediaSourceError:
    """Return the error for a process or system that has no file descriptor left."""
    return MediaSourceError(
        "The media cannot be opened, because too many files are open: raise the limit (ulimit -n), or lower "
        "max_uploads and max_connections."
    )


def source_failed(error: BaseException) -> MediaSourceError:
    """Return the error for what an object of the caller raised; its text may hold whatever was read."""
    if isinstance(error, OSError) and error.errno in TOO_MANY_FILES:
        return too_many_files()
    reason = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        reason += f": {os.strerror(error.errno)}"
    return MediaSourceError(f"The media's source failed ({reason}): check what it reads from, and give it anew.")


def not_bytes(piece: object) -> InvalidArgumentError:
    """Return the error for a source that gives text, for one."""
    return InvalidArgumentError(
        f"The media's source gave something else than bytes ({type(piece).__name__}): open it in binary mode."
    )


def unreadable(error: BaseException, file: object) -> MediaSourceError:
    """Return the error for an open file of the caller that cannot be read."""
    if is_closed(file):
        return MediaSourceError(
            "The media file was closed before it was read to its end: check that the file stays open meanwhile."
        )
    if isinstance(error, BlockingIOError):
        return MediaSourceError(
            "The media file is in non-blocking mode and has no data yet: set it to blocking, or give an async reader."
        )
    return source_failed(error)


def empty() -> MediaEmptyError:
    """Return the error for a media without bytes."""
    return MediaEmptyError("The media holds no bytes: check that its file was written, or its stream not read before.")


def stalled(seconds: float) -> MediaSourceError:
    """Return the error for a source that gave nothing for so long."""
    return MediaSourceError(
        f"The media's source gave nothing for {seconds:g} s: check what it reads from, or give a larger Timeouts.idle."
    )
