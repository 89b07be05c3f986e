"""The calls of a client that are running, so that closing the client can end them.

Closing must not depend on the network: a server that stopped reading would otherwise keep `aclose` waiting, and a
running download would end with advice about the network although the caller closed the client.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from veriff_async.errors import ClientClosedError, TransportError

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

__all__ = ("GRACE", "ActiveCalls", "client_closed")

GRACE: Final = 1.0
"""Seconds that closing waits for ended calls and connections; a caller's own cleanup can take longer."""


_ENCLOSING: Final[ContextVar[tuple[asyncio.Timeout, ...]]] = ContextVar("veriff_async_enclosing_calls", default=())
"""The calls that the current task runs in, those of its parent tasks included."""


class ActiveCalls:
    """The running calls of one client.

    A call runs inside ``async with calls.guard():``. `aclose` cancels what runs inside, and the guard turns that
    cancellation into `ClientClosedError`. A cancellation that comes from elsewhere passes through unchanged.
    """

    def __init__(self) -> None:
        """Start without a call."""
        self.closed: bool = False
        self.deadlines: set[asyncio.Timeout] = set()
        """The running calls; each guard adds and removes its own."""
        self.changed: asyncio.Event | None = None
        """Set by a guard that ends while the client is being closed."""

    def guard(self) -> _Guard:
        """Return a context manager that ends its block with `ClientClosedError` when the client is closed."""
        return _Guard(self)

    async def aclose(self) -> None:
        """End all running calls, and wait briefly until they have left."""
        self.closed = True
        # Several tasks may close the client at once, and all of them wait for it.
        changed = self.changed = self.changed or asyncio.Event()
        now = asyncio.get_running_loop().time()
        # A callback of a call may close the client; its own call ends when it next uses the network.
        others = self.deadlines.difference(_ENCLOSING.get())
        for deadline in others:
            deadline.reschedule(now)
        try:
            async with asyncio.timeout(GRACE):
                while others & self.deadlines:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            pass


class _Guard(AbstractAsyncContextManager[None]):
    """Runs one call; see `ActiveCalls`."""

    def __init__(self, calls: ActiveCalls) -> None:
        self._calls = calls
        self._deadline = asyncio.timeout(None)
        self._token: Token[tuple[asyncio.Timeout, ...]]

    async def __aenter__(self) -> None:
        if self._calls.closed:
            raise client_closed()
        self._calls.deadlines.add(self._deadline)
        self._token = _ENCLOSING.set((*_ENCLOSING.get(), self._deadline))
        await self._deadline.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._calls.deadlines.discard(self._deadline)
        if self._calls.changed is not None:
            self._calls.changed.set()
        _ENCLOSING.reset(self._token)
        try:
            await self._deadline.__aexit__(kind, error, traceback)
        except TimeoutError:
            pass
        else:
            # Closing breaks connections too, and the error of the connection may arrive first.
            if not (self._calls.closed and isinstance(error, TransportError)):
                return
        raise client_closed() from None


def client_closed() -> ClientClosedError:
    """Return the error of a call on a closed client."""
    return ClientClosedError(
        "The client is closed: call it inside its async with block, and take its sessions from the open client."
    )
