"""Ends a block of a task from outside, and recognises the cancellation that ends it.

`asyncio.timeout` works in the same way, but its timer, its states and its two coroutines take most of the time that a
short call spends in this package. Here the owner decides when to interrupt, and a block costs one object.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ("Interruption",)


class Interruption:
    """A block that can be ended from outside, once.

    `interrupt` cancels the task. At the end of the block, `end` removes that cancellation again and returns whether it
    was the one that ended the block. A cancellation that comes from elsewhere passes through, also if both come at once
    (see ``asyncio.Task.uncancel``).
    """

    __slots__ = ("_cancelling", "_interrupted", "_task")

    def begin(self, task: asyncio.Task[Any]) -> None:
        """Begin the block, which `task` runs."""
        self._task = task
        self._cancelling = task.cancelling()
        self._interrupted = False

    def interrupt(self) -> None:
        """Cancel the task of the block."""
        if not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    def end(self, kind: type[BaseException] | None) -> bool:
        """End the block, and return whether `interrupt` has ended it."""
        if not self._interrupted:
            return False
        return self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
