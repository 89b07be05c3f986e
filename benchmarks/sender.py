"""A client that does the least that HTTP allows: it posts files, each from a thread, on connections that it keeps.

Run as a process it takes lines of file names on its standard input, and says ``done`` when all of a line are through.
"""

from __future__ import annotations

import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final

__all__ = ("MORE",)

MORE: Final = "\t"
"""Stands between the names of a line."""


def _post(connection: socket.socket, path: Path) -> None:
    size = path.stat().st_size
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n\r\n"
    connection.sendall(head.encode())
    with path.open("rb") as file:
        sent = 0
        while sent < size:
            sent += os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):  # an answer without a body
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200"), answer


def main(port: int, at_once: int) -> None:
    """Post until the standard input ends."""
    free: SimpleQueue[socket.socket] = SimpleQueue()
    for _ in range(at_once):
        free.put(socket.create_connection(("127.0.0.1", port)))

    def post(name: str) -> None:
        connection = free.get()
        _post(connection, Path(name))
        free.put(connection)

    with ThreadPoolExecutor(at_once) as threads:
        for line in sys.stdin:
            list(threads.map(post, line.rstrip("\n").split(MORE)))
            print("done", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
