"""The parts of a server, which are opened one after the other and closed in reverse order.

In a cancelled scope of anyio, for example that of ``anyio.fail_after`` or of a task group, every await raises
`asyncio.CancelledError` again (https://anyio.readthedocs.io/en/stable/cancellation.html). Each step of closing would
end at its first await there, and leave sockets, threads and pictures of people behind.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from anyio import CancelScope

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from threading import Lock
    from types import TracebackType

__all__ = ("Parts",)


class Parts(AsyncExitStack):
    """Closes its parts completely, also in a cancelled scope; no step of closing may wait without an end."""

    def claim(self, lock: Lock, message: str) -> None:
        """Take a lock until everything is closed, so that nothing starts twice, from any task or thread."""
        if not lock.acquire(blocking=False):
            raise ConfigurationError(message)
        self.callback(lock.release)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool:
        """Close the parts."""
        is_handled: bool | None = False
        with CancelScope(shield=True):
            is_handled = await super().__aexit__(kind, error, traceback)
        return bool(is_handled)
