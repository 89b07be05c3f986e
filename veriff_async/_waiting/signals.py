"""Signals that stop a program: they end waits before the server begins to wait for them."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from veriff_async.client import VeriffClient

__all__ = ("end_waits_on_signals",)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def end_waits_on_signals(client: VeriffClient) -> Generator[None]:
    """End the waits of a client as soon as SIGTERM or SIGINT arrives, and leave everything else to the server.

    uvicorn, for one, answers open requests before it tells the application of the shutdown, so a request that waits for
    a decision would delay it by its whole timeout. Use this in the lifespan of the application: the wait raises
    `ClientClosedError`, the request is answered, and the server stops. The handlers that were there before are called
    as well, and are there again after the block. Outside of the main thread, where no server handles signals, it does
    nothing.

    Args:
        client: Its waits are ended, see `VeriffClient.end_waits`.

    Example:
        >>> async with inbox, veriff, receiver:
        ...     with end_waits_on_signals(veriff):
        ...         yield
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    # A handler that was not set from Python is None and cannot be called, and a signal may be ignored on purpose.
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    previous = {number: was for number, was in previous.items() if was not in {None, signal.SIG_IGN}}

    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nothing waits
            loop.call_soon_threadsafe(client.end_waits)
        was = previous[signal.Signals(number)]
        if callable(was):
            was(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, was in previous.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, was)
