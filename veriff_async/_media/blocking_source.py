"""Reading that may block for ever: pipes, sockets and foreign objects, without shared threads and cancelled at once.

A worker thread that reads a silent pipe cannot be interrupted. So a descriptor is read only when the loop says that it
has something, and an object without a descriptor is read in a thread of its own, which is abandoned when its caller is
cancelled.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
import sys
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar, cast

from anyio import move_on_after, to_thread, wait_readable
from attrs import define

from veriff_async._media.source_errors import stalled
from veriff_async._media.source_kinds import is_closed, raw_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from anyio import CapacityLimiter

__all__ = ("NoDescriptorError", "PipeReader", "run_abandonable", "source_time")

_T = TypeVar("_T")

_CHECK_EVERY = 1.0
"""Seconds after which a wait looks whether the owner has closed the file: closing wakes no selector."""


@define
class _SourceTime:
    """Since when a thread waits for the source, if it does; by `time.monotonic`."""

    since: float | None = None


_SOURCE_TIME: Final[ContextVar[_SourceTime | None]] = ContextVar("veriff_async_source_time", default=None)


@contextmanager
def source_time() -> Generator[None]:
    """Count the time of the block as the source's, which `run_abandonable` limits."""
    measured = _SOURCE_TIME.get()
    if measured is None:
        yield
        return
    measured.since = monotonic()
    try:
        yield
    finally:
        measured.since = None


async def run_abandonable(
    function: Callable[[], _T], *, idle: float | None = None, name: str = "veriff-async source"
) -> _T:
    """Call a function in a daemon thread of its own.

    Cancellation returns at once; the thread ends with the function, and does not keep the process alive.

    Args:
        function: What to call. It may block for ever, and its result must hold nothing that has to be closed.
        idle: Most seconds for each `source_time` in it, or ``None`` if the caller measures them.
        name: The name of the thread.

    Raises:
        MediaSourceError: The source gave nothing for `idle` seconds.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()
    context, measured = copy_context(), _SourceTime()
    context.run(_SOURCE_TIME.set, measured)

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

    Thread(target=run, name=name, daemon=True).start()
    left = idle
    while not future.done() and left is not None and idle is not None:
        await asyncio.wait([future], timeout=left)
        since = measured.since
        left = idle if since is None else idle - (monotonic() - since)
        if left <= 0 and not future.done():
            future.cancel()
            raise stalled(idle)
    return await future


class NoDescriptorError(Exception):
    """The source has no descriptor that the loop can wait for."""


class PipeReader:
    """Reads a pipe, socket or terminal whenever it has something."""

    def __init__(self, file: io.RawIOBase | io.BufferedIOBase, threads: CapacityLimiter) -> None:
        """Prepare to read.

        Args:
            file: An open file of the caller.
            threads: Worker threads for reading what is there.

        Raises:
            NoDescriptorError: The loop cannot wait for it.
        """
        self._file = file
        self._threads = threads
        # Of our own: the owner may close the file meanwhile, and its number may then be that of another file.
        self._descriptor = os.dup(_pollable(file))

    def close(self) -> None:
        """Close what is ours; the file stays open."""
        os.close(self._descriptor)

    async def read(self, size: int) -> bytes | None:
        """Wait until there is something, and read it.

        Returns:
            Up to `size` bytes, ``b""`` at the end, or ``None`` when another reader was quicker.

        Raises:
            NoDescriptorError: The loop cannot wait for this kind of file.
            OSError: It cannot be read.
            ValueError: It was closed.
        """
        while True:
            with move_on_after(_CHECK_EVERY):
                try:
                    await wait_readable(self._descriptor)
                except (PermissionError, NotImplementedError):
                    raise NoDescriptorError from None
                break
            if is_closed(self._file):
                break
        return await to_thread.run_sync(self._read_ready, size, limiter=self._threads)

    def _read_ready(self, size: int) -> bytes | None:
        file = self._file
        # `read1` returns b"" where a non-blocking file has nothing, and `read` of a blocking one waits for
        # all bytes.
        if isinstance(file, io.BufferedIOBase) and os.get_blocking(self._descriptor):
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
