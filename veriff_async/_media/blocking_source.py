"""Reads from pipes, sockets and unknown objects, which may block forever.

A worker thread that reads from a silent pipe cannot be interrupted, and would be missing for other uploads. So a
descriptor is read only when the loop reports it as readable (`PipeReader`). An object without a descriptor is read in a
daemon thread of its own, which is abandoned when its caller is cancelled (`run_abandonable`).
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
import sys
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, TypeVar, cast

from anyio import move_on_after, to_thread, wait_readable

from veriff_async._media.source import SOURCE_TIME, SourceTime, is_closed, raw_of, stalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio import CapacityLimiter

__all__ = ("NoDescriptorError", "PipeReader", "run_abandonable")

_T = TypeVar("_T")

# Seconds between checks whether the owner has closed the file: a selector does not report that.
_CHECK_EVERY = 1.0


async def run_abandonable(
    function: Callable[[], _T], *, idle: float | None = None, name: str = "veriff-async source"
) -> _T:
    """Call a function in a daemon thread of its own.

    Cancellation returns immediately. The thread ends with the function, and does not keep the process alive.

    Args:
        function: It may block forever. Its result is lost on cancellation, so it must not need to be closed.
        idle: Most seconds for each `source_time` block in it, or ``None`` if the caller measures the time.
        name: The name of the thread.

    Raises:
        MediaSourceError: The source returned nothing for `idle` seconds.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()
    context, measured = copy_context(), SourceTime()
    context.run(SOURCE_TIME.set, measured)

    def deliver(finish: Callable[[], None]) -> None:
        if not future.done():
            finish()

    def run() -> None:
        finish: Callable[[], None]
        try:
            finish = partial(future.set_result, context.run(function))
        except StopIteration:
            finish = partial(future.set_exception, RuntimeError("StopIteration"))  # a future refuses it
        except BaseException as error:  # noqa: BLE001  raised where the call is awaited
            finish = partial(future.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deliver, finish)

    # A daemon, because the interpreter would otherwise wait at its end for a thread that never ends.
    Thread(target=run, name=name, daemon=True).start()
    left = idle
    while not future.done() and left is not None and idle is not None:
        await asyncio.wait([future], timeout=left)
        since = measured.since
        left = idle if since is None else idle - (monotonic() - since)
        if left <= 0 and not future.done():
            future.cancel()  # so that a late result is dropped by `deliver`
            raise stalled(idle)
    return await future


class NoDescriptorError(Exception):
    """The source has no descriptor that the event loop can wait for."""


class PipeReader:
    """Reads a pipe, socket or terminal when it is readable."""

    def __init__(self, file: io.RawIOBase | io.BufferedIOBase, threads: CapacityLimiter) -> None:
        """Prepare to read.

        Raises:
            NoDescriptorError: The loop cannot wait for it.
        """
        self._file = file
        self._threads = threads
        # A duplicate: the owner may close the file, and the system may give its number to another file.
        self._descriptor = os.dup(_pollable(file))

    def close(self) -> None:
        """Close the duplicate; the caller's file stays open."""
        os.close(self._descriptor)

    async def read(self, size: int) -> bytes | None:
        """Wait until bytes are available, and read them.

        Returns:
            Up to `size` bytes, ``b""`` at the end, or ``None`` when another reader was faster.

        Raises:
            NoDescriptorError: The loop cannot wait for this kind of file.
            OSError: It cannot be read.
            ValueError: It was closed.
        """
        while True:
            with move_on_after(_CHECK_EVERY):
                try:
                    await wait_readable(self._descriptor)
                except (OSError, NotImplementedError):  # epoll: EPERM, kqueue: EINVAL, for a terminal, for one
                    raise NoDescriptorError from None
                break
            if is_closed(self._file):
                break
        return await to_thread.run_sync(self._read_ready, size, limiter=self._threads)

    def _read_ready(self, size: int) -> bytes | None:
        file = self._file
        # `read1` of a non-blocking file returns b"" when nothing is available, and `read` of a blocking one waits for
        # all bytes.
        if sys.platform != "win32" and isinstance(file, io.BufferedIOBase) and os.get_blocking(self._descriptor):
            return file.read1(size)
        return cast("bytes | None", file.read(size))


def _pollable(file: io.RawIOBase | io.BufferedIOBase) -> int:
    """Return the descriptor of a file if its readiness says whether reading blocks.

    A TLS connection, a decompressor or an HTTP response may hold bytes that their descriptor does not show.
    """
    raw = raw_of(file)
    plain = type(raw) is io.FileIO
    if isinstance(raw, socket.SocketIO):
        plain = not isinstance(vars(raw).get("_sock"), ssl.SSLSocket)
    if plain and isinstance(raw, io.RawIOBase) and sys.platform != "win32":
        return raw.fileno()
    raise NoDescriptorError
