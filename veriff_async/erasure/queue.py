"""The queue of erasures, from which an erasure continues after a crash, and over days."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from veriff_async._storage.sqlite_file import database_path
from veriff_async._storage.sqlite_worker import WorkerGroup
from veriff_async.config import check_clock
from veriff_async.erasure._queue_file import ERRORS, QueueFile
from veriff_async.erasure._steps import ErasureSteps
from veriff_async.errors import ErasureError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from veriff_async.erasure._receipt import ErasureReceipt

__all__ = ("ErasureQueue",)


class ErasureQueue:
    """Keep erasures and their receipts in a file that all processes of this machine may share.

    Use one file for all erasures of an integration, so that they share Veriff's quota. The file holds ids of sessions
    until their erasure is complete, and is readable for its owner only. It must be on a disk of this machine.

    Args:
        path: The file. It is created if it is missing, its folder is not.
        now: The time in seconds since 1970, for tests in which days pass.

    Raises:
        ConfigurationError: The path names no file. The first use raises it for another program's file.

    Example:
        >>> async with ErasureQueue("erasures.db") as queue:
        ...     for receipt in await queue.get_receipts():
        ...         print(receipt.erasure_id, receipt.is_complete)
    """

    def __init__(self, path: str | os.PathLike[str], *, now: Callable[[], float] = time.time) -> None:
        """Check the arguments; nothing is opened yet."""
        file = database_path(path, owner="erasure queue", memory="no queue")
        self._now = check_clock(now)
        self._group = WorkerGroup(file, {"erasure queue": QueueFile}, ERRORS, reopens=True)
        self.steps: ErasureSteps = ErasureSteps(self._group, self._now)

    def __repr__(self) -> str:
        """Show whether it is open."""
        return f"<ErasureQueue {'open' if self._group.is_open else 'not open'}>"

    def __del__(self) -> None:
        """Warn if it was left open, and end its thread."""
        if hasattr(self, "_group"):
            self._group.warn_if_open(self)

    async def __aenter__(self) -> Self:
        """Open the file, also after it was closed.

        Raises:
            ConfigurationError: It is another program's file, or of a newer version.
            ErasureError: It cannot be opened.
        """
        await self._group.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, unless another ``async with`` block uses this queue."""
        await self._group.leave()

    async def aclose(self) -> None:
        """Finish what was begun, and close the file; a second call does nothing."""
        await self._group.aclose()

    async def get_receipt(self, erasure_id: str) -> ErasureReceipt:
        """Return the receipt of an erasure.

        Raises:
            ErasureError: The queue has no such erasure, or cannot be read.
        """
        receipts = await self._read_receipts(erasure_id)
        if not receipts:
            msg = "The queue has no erasure with this id: take it from a receipt of the same queue."
            raise ErasureError(msg)
        return receipts[0]

    async def get_receipts(self) -> Sequence[ErasureReceipt]:
        """Return the receipts of all erasures, the oldest first."""
        return await self._read_receipts(None)

    async def _read_receipts(self, erasure_id: str | None) -> Sequence[ErasureReceipt]:
        now = self._now()
        return await self._group.run(lambda file: file.receipts(erasure_id, now))
