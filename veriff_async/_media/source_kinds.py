"""Which kind of source a caller gave: how it can be read, and whether reading it may block for ever."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import AsyncIterable
from inspect import iscoroutinefunction
from typing import Final

_BUFFERED: Final = (io.BufferedReader, io.BufferedRandom)

__all__ = ("is_closed", "is_http_response", "may_block", "raw_of", "reads_async", "seeks_async", "sync_file")


def sync_file(source: object) -> object:
    """Return the plain file inside an async one that can seek, or the source itself.

    Starlette's and Litestar's ``UploadFile`` and aiohttp's ``FileField`` have it as ``file``, anyio's ``AsyncFile`` as
    ``wrapped``. It can be read twice, as the async methods could only with a hop for each piece.
    """
    if callable(getattr(source, "read", None)) and not seeks_async(source):
        return source
    for name in ("file", "wrapped"):
        inner: object = getattr(source, name, None)
        if callable(getattr(inner, "read", None)) and callable(getattr(inner, "seek", None)):
            return source if reads_async(inner) else inner
    return source


def may_block(source: object) -> bool:
    """Return whether reading a source in a thread may block for ever: whether it is an object of an unknown kind."""
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | AsyncIterable):
        return False
    file = sync_file(source)
    if reads_async(file) or type(file) in {io.BytesIO, tempfile.SpooledTemporaryFile}:
        return False
    return not isinstance(raw_of(file), io.FileIO)


def raw_of(file: object) -> object:
    """Return what a buffered file reads from, or the file itself."""
    if not issubclass(type(file), _BUFFERED):
        return file
    try:
        return getattr(file, "raw", file)
    except ValueError:  # it was detached
        return file


def is_closed(file: object) -> bool:
    """Return whether an open file was closed by its owner, or has lost what it reads from."""
    try:
        return getattr(file, "closed", False) is True
    except ValueError:  # it was detached
        return True


def is_http_response(source: object) -> bool:
    """Return whether a source is a response of httpx, aiohttp or requests, whose body is read in another way."""
    if not hasattr(source, "headers") or isinstance(source, io.IOBase):
        return False
    return any(hasattr(source, name) for name in ("aiter_bytes", "iter_content", "iter_bytes")) or (
        reads_async(source) and hasattr(getattr(source, "content", None), "iter_chunked")
    )


def reads_async(source: object) -> bool:
    """Return whether a source has an async ``read(n)``."""
    return iscoroutinefunction(getattr(source, "read", None))


def seeks_async(source: object) -> bool:
    """Return whether a source has an async ``read(n)`` and an async ``seek(n)``, so that it can be read again."""
    return reads_async(source) and iscoroutinefunction(getattr(source, "seek", None))
