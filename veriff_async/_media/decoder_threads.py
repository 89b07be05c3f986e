"""The threads in which all clients of an event loop decode pictures.

Decoding takes up to hundreds of megabytes, so the number of pictures that are decoded at once bounds the memory of the
process: for any number of clients, calls and kinds of sources.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from attrs import evolve

from veriff_async._media.blocking_source import run_abandonable
from veriff_async._media.decode import read_all
from veriff_async._media.source import BytesSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async._media.prepared_media import PreparedMedia

__all__ = ("run_decoder", "shared_limiter")

_T = TypeVar("_T")
_THREADS: Final[RunVar[CapacityLimiter]] = RunVar("veriff_async_decoder_threads")


async def run_decoder(function: Callable[[PreparedMedia], _T], prepared: PreparedMedia, *, idle: float) -> _T:
    """Call a function that decodes a picture, in as many threads as there are processors, at least two.

    A source that may block is read first, in a thread of its own, so that it does not keep others from decoding.

    Args:
        function: Receives the media.
        prepared: The media.
        idle: Most seconds that a blocking source may take for its next piece.

    Raises:
        MediaError: The source cannot be read.
    """
    readable = prepared
    if prepared.source.may_block:
        content = await run_abandonable(partial(read_all, prepared.source), idle=idle)
        readable = evolve(prepared, source=BytesSource(memoryview(content.getvalue()), constant=True))
    return await to_thread.run_sync(function, readable, limiter=shared_limiter(_THREADS))


def shared_limiter(var: RunVar[CapacityLimiter]) -> CapacityLimiter:
    """Return the limiter that all calls of the running loop share: as many threads as processors, at least two."""
    try:
        return var.get()
    except LookupError:
        limiter = CapacityLimiter(max(2, os.cpu_count() or 2))
        var.set(limiter)
        return limiter
