"""One task that runs while somebody needs it, and what is left of those before it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ("Lone",)


class Lone:
    """At most one running task of its kind; one that was stopped may still be ending while the next begins."""

    def __init__(self, name: str) -> None:
        """Take the name that its tasks have."""
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def is_mine(self) -> bool:
        """Tell the running task whether it is the one, rather than stopped."""
        return self._task is asyncio.current_task()

    def begin(self, work: Callable[[], Coroutine[None, None, None]]) -> bool:
        """Begin, unless one runs; tell whether this did."""
        if self._task is not None:
            return False
        self._task = asyncio.get_running_loop().create_task(work(), name=self._name)
        self._ending.add(self._task)
        self._task.add_done_callback(self._ending.discard)
        return True

    def stop(self) -> None:
        """Cancel the task that runs, if any."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def aclose(self) -> None:
        """Stop, and see the end of all."""
        self.stop()
        await asyncio.gather(*self._ending, return_exceptions=True)
