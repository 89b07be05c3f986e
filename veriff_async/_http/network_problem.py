"""Words for failures of the network that hold no address, so that logs can be compared and metrics have few values."""

from __future__ import annotations

import errno
import os
import socket

__all__ = ("network_problem",)


def network_problem(error: OSError) -> str:
    """Return the system's own description: asyncio adds the address, in words that change between versions."""
    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    if not error.errno:
        return type(error).__name__
    text = os.strerror(error.errno)
    # The C library of Windows has no words for the numbers of its sockets, such as WSAENETUNREACH.
    return errno.errorcode.get(error.errno, type(error).__name__) if text.startswith("Unknown error") else text
