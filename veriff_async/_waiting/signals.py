"""Ends waits when the program receives a signal to stop, before the server starts to wait for open requests."""

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

__all__ = ("STOP_SIGNALS", "end_waits_on_signals")

# Windows lacks SIGHUP. SIGBREAK exists only there: Ctrl-Break and the closing of the console, which servers handle like
# SIGTERM.
STOP_SIGNALS: Final = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if name in signal.Signals.__members__
)
"""The signals of this system that stop a program."""

# Servers such as gunicorn load their configuration again at SIGHUP, and continue to serve.
_SIGNALS: Final = tuple(number for number in STOP_SIGNALS if number.name != "SIGHUP")


@contextmanager
def end_waits_on_signals(client: VeriffClient) -> Generator[None]:
    """End the waits of a client as soon as SIGTERM or SIGINT arrives, and leave everything else to the server.

    Servers such as uvicorn answer open requests before they notify the application of the shutdown, so a request that
    waits for a decision would delay the shutdown by its whole timeout. Use this context manager in the lifespan of the
    application: the wait raises `ClientClosedError`, the request is answered, and the server stops.

    The previous signal handlers are called as well, and restored after the block. Outside of the main thread, where no
    server handles signals, the context manager does nothing.

    Args:
        client: The client whose waits end, see `VeriffClient.end_waits`.

    Example:
        >>> async with inbox, veriff, receiver:
        ...     with end_waits_on_signals(veriff):
        ...         yield
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    # `None` is a handler that was not set from Python, which cannot be called. SIG_IGN was set on purpose.
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    previous = {number: handler for number, handler in previous.items() if handler not in {None, signal.SIG_IGN}}

    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, so its waits have ended
            loop.call_soon_threadsafe(client.end_waits)
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        else:  # SIG_DFL, which only the system can run
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is handle:  # otherwise other code has set its own handler in the block
                signal.signal(number, handler)
