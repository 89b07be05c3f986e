"""An open-loop generator: it posts at set moments, whether or not answers come, and takes next to nothing itself.

The requests are written beforehand. One thread sleeps until each is due and writes it to a connection that is free, or
to a new one; another reads the answers. A client of HTTP would take as much of the processor as the receiver that is
measured, and asyncio's timers are whole milliseconds.
"""

from __future__ import annotations

import gc
import selectors
import socket
import time
from collections import Counter
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from attrs import Factory, define

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("post_steadily", "request")

_WARM: Final = 8
"""Connections that stand before the first request is due."""

_AHEAD: Final = 0.3
"""Seconds until the first request is due."""

_PATIENCE: Final = 30.0


def request(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Write a whole request."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode() + body


@define
class _Answers:
    """Reads answers, and gives back the connections that they came on."""

    left: int
    free: SimpleQueue[socket.socket]
    selector: selectors.DefaultSelector = Factory(selectors.DefaultSelector)
    statuses: Counter[int] = Factory(Counter[int])
    last: int = 0

    def read(self) -> None:
        while self.left:
            ready = self.selector.select(_PATIENCE)
            if not ready:
                return
            for key, _ in ready:
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                answer = connection.recv(65_536)  # one of a receiver is far shorter than a packet
                self.statuses[int(answer[9:12] or b"0")] += 1
                self.left -= 1
                self.last = time.monotonic_ns()
                self.free.put(connection)


def post_steadily(url: str, requests: Sequence[bytes], rate: float) -> tuple[int, float, Counter[int]]:
    """Post so many requests a second.

    Returns:
        The moment at which the first was due, on the system's monotonic clock; the rate that was reached, from that
        moment to the last answer; and how often each status came.
    """
    place = (urlsplit(url).hostname, urlsplit(url).port)
    free: SimpleQueue[socket.socket] = SimpleQueue()
    answers = _Answers(len(requests), free)
    opened: list[socket.socket] = []

    def connected() -> socket.socket:
        connection = socket.create_connection(place)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers.selector.register(connection, selectors.EVENT_READ)
        opened.append(connection)
        return connection

    for _ in range(_WARM):
        free.put(connected())
    reader = Thread(target=answers.read, daemon=True)
    reader.start()
    gc.disable()  # what is collected here must not look like something of the receiver
    began, step = time.monotonic_ns() + int(_AHEAD * 1e9), 1e9 / rate
    for number, parcel in enumerate(requests):
        left = began + number * step - time.monotonic_ns()
        if left > 0:
            time.sleep(left / 1e9)
        try:
            connection = free.get_nowait()
        except Empty:
            connection = connected()
        connection.sendall(parcel)
    reader.join(_PATIENCE)
    for connection in opened:
        connection.close()
    return began, (len(requests) - 1) / ((answers.last - began) / 1e9), answers.statuses
