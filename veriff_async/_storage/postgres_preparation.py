"""What a store does once before its first use, for all calls that wait for it."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING

from attrs import define, field

from veriff_async.errors import VeriffError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("Preparation",)


@define(eq=False)
class Preparation:
    """One preparation; calls that wait for it share its error.

    Otherwise each of them would wait for a server that does not answer, one after the other.

    Attributes:
        is_done: Whether nothing is left to do.
    """

    is_done: bool = False
    _lock: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _error: VeriffError | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    async def run(self, prepare: Callable[[], Awaitable[object]]) -> None:
        """Prepare the store, unless that is done; if the call that does it is cancelled, the next one does it."""
        failures = self._failures
        async with self._lock:
            if self.is_done:
                return
            if self._error is not None and self._failures != failures:  # while this call waited
                raise copy(self._error)
            try:
                await prepare()
            except VeriffError as error:
                self._failures += 1
                self._error = copy(error)
                raise
            self.is_done = True
