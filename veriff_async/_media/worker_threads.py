"""The threads in which a client reads, encodes, signs and writes files."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from veriff_async._media.concurrency import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

__all__ = ("WorkerThreads",)

_T = TypeVar("_T")


class WorkerThreads:
    """Worker threads, which start when they are needed and end with `close`.

    A call costs a third of one with `anyio.to_thread.run_sync`, which needs several iterations of the event loop. The
    threads are not shared with the application, whose work could block uploads.
    """

    def __init__(self, limit: int) -> None:
        """Start no thread yet; `limit` is the largest number of them."""
        self._limit = limit
        self._executor: ThreadPoolExecutor | None = None
        self._process = 0

    def close(self) -> None:
        """End the threads when their work ends. A call that is still running may start others."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None

    def start(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """Call a function in a worker thread, which still runs when the future is cancelled."""
        return asyncio.wrap_future(self._submit(function))

    async def run(self, function: Callable[[], _T]) -> _T:
        """Call a function in a worker thread.

        A cancellation is raised when the function has ended, so that it uses nothing that its caller then closes.
        """
        call = self._submit(function)
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            if not call.done():
                loop = asyncio.get_running_loop()
                ended = loop.create_future()
                call.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set_result, None))
                await wait_for_end([ended])
            raise

    def _submit(self, function: Callable[[], _T]) -> Future[_T]:
        # A fork copies the executor without its threads, so that it would never run anything.
        if self._executor is None or self._process != os.getpid():
            self._process = os.getpid()
            self._executor = ThreadPoolExecutor(self._limit, thread_name_prefix="veriff-async")
        return self._executor.submit(function)
