"""The calls of a client that are running, so that closing the client can end them.

Closing must not depend on the network: a server that stopped reading would otherwise keep `aclose` waiting, and a
running download would end with advice about the network although the caller closed the client.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from veriff_async._event_loop import require_asyncio
from veriff_async._http.interruption import Interruption
from veriff_async.errors import ClientClosedError, ConfigurationError, TransportError

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

__all__ = ("GRACE", "ActiveCalls", "client_closed")

GRACE: Final = 1.0
"""Seconds that closing waits for ended calls and connections; a caller's own cleanup can take longer."""


# The calls that the current task runs in, those of its parent tasks included.
_ENCLOSING: Final[ContextVar[tuple[Interruption, ...]]] = ContextVar("veriff_async_enclosing_calls", default=())


class ActiveCalls:
    """The running calls of one client.

    A call runs inside ``with calls.guard():``. `aclose` cancels what runs inside, and the guard turns that cancellation
    into `ClientClosedError`. A cancellation that comes from elsewhere passes through unchanged.
    """

    def __init__(self) -> None:
        """Start without a call."""
        self.closed: bool = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop of the first call or wait."""
        self.running: set[Interruption] = set()
        """The running calls; each guard adds and removes its own."""
        self.changed: asyncio.Event | None = None
        """Set by a guard that ends while the client is being closed."""

    def guard(self) -> _Guard:
        """Return a context manager that ends its block with `ClientClosedError` when the client is closed."""
        return _Guard(self)

    def check_loop(self) -> None:
        """Check that the running event loop is that of the first call or wait: connections and timers belong to it.

        Raises:
            ConfigurationError: It is another one.
        """
        loop = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = loop
        elif self.loop is not loop:
            msg = "The client belongs to another event loop: make one VeriffClient for each loop."
            raise ConfigurationError(msg)

    async def aclose(self) -> None:
        """End all running calls, and wait briefly until they have left."""
        self.closed = True
        # Several tasks may close the client at once, and all of them wait for it.
        changed = self.changed = self.changed or asyncio.Event()
        # A callback of a call may close the client; its own call ends when it next uses the network.
        others = self.running.difference(_ENCLOSING.get())
        for call in others:
            call.interrupt()
        try:
            async with asyncio.timeout(GRACE):
                while others & self.running:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            pass


class _Guard(Interruption, AbstractContextManager[None]):
    """Runs one call; see `ActiveCalls`."""

    __slots__ = ("_calls", "_token")

    def __init__(self, calls: ActiveCalls) -> None:
        self._calls = calls
        self._token: Token[tuple[Interruption, ...]]

    def __enter__(self) -> None:
        task, calls = require_asyncio(), self._calls
        self.begin(task)
        if calls.closed:
            raise client_closed()
        if task.get_loop() is not calls.loop:
            calls.check_loop()
        calls.running.add(self)
        self._token = _ENCLOSING.set((*_ENCLOSING.get(), self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        calls = self._calls
        calls.running.discard(self)
        if calls.changed is not None:
            calls.changed.set()
        # A coroutine that is never finished is closed by the garbage collector, in the context of another task.
        if kind is not GeneratorExit:
            _ENCLOSING.reset(self._token)
        # Closing breaks connections too, and the error of the connection may arrive first.
        if self.end(kind) or (calls.closed and isinstance(error, TransportError)):
            raise client_closed() from None


def client_closed() -> ClientClosedError:
    """Return the error of a call on a closed client."""
    return ClientClosedError(
        "The client is closed: call it inside its async with block, and take its sessions from the open client."
    )
