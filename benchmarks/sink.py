"""A server that does the least that HTTP allows, so that the client is what is measured.

It reads every body into one buffer, looks at no byte of it, and answers what Veriff would. Run as a process of its own
it prints its port and serves until its standard input ends, so it never outlives who started it.

It can hold large bodies back until so many have begun that all uploads are certainly under way at once: what they then
hold in memory is what they would hold on a slow network.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("SESSION_ID", "running_sink")

SESSION_ID: Final = "5d3a0a8a-4b4f-4c53-9d0c-6a1f3b5c7e90"
_BUFFER: Final = 256 * 1024
_END: Final = b"\r\n\r\n"
_PATIENCE: Final = 60.0


def _answer(status: str, content: object) -> bytes:
    body = json.dumps(content, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _verification(status: str) -> dict[str, object]:
    verification = {
        "id": SESSION_ID,
        "url": "https://veriff.example/v/token",
        "vendorData": None,
        "host": "https://veriff.example",
        "status": status,
        "sessionToken": "token",
    }
    return {"status": "success", "verification": verification}


_IMAGE: Final = {
    "id": "0b9f6a35-7f0e-4d53-8c69-1e3a2f6d4b11",
    "name": "document-front",
    "context": "document-front",
    "timestamp": None,
    "size": 1,
    "mimetype": "image/jpeg",
    "url": "https://veriff.example/v1/media/0b9f6a35-7f0e-4d53-8c69-1e3a2f6d4b11",
    "sessionId": SESSION_ID,
}
_UPLOADED: Final = _answer("200 OK", {"status": "success", "image": _IMAGE})
_CREATED: Final = _answer("201 Created", _verification("created"))
_SUBMITTED: Final = _answer("200 OK", _verification("submitted"))
_UNDECIDED: Final = _answer("200 OK", {"status": "success", "verification": None})
_UNKNOWN: Final = _answer("404 Not Found", {"status": "fail", "code": "1104", "message": "unknown"})


def _answer_to(request_line: bytes) -> bytes:
    method, path, _ = request_line.split(b" ", 2)
    if method == b"POST" and path.endswith(b"/media"):
        return _UPLOADED
    if method == b"POST" and path.endswith(b"/sessions"):
        return _CREATED
    if method == b"PATCH":
        return _SUBMITTED
    return _UNDECIDED if path.endswith(b"/decision") else _UNKNOWN


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _serve(connection: socket.socket, begun: Barrier) -> None:
    """Answer the requests of one connection, one after another, until it ends."""
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    filled = 0
    with connection:
        while True:
            while (end := buffer.find(_END, 0, filled)) < 0:
                got = connection.recv_into(view[filled:])
                if not got:
                    return
                filled += got
            head = bytes(view[:end])
            length = _length(head)
            if length > _BUFFER:
                begun.wait()
            left = length - (filled - end - len(_END))
            while left > 0:
                got = connection.recv_into(view, min(left, _BUFFER))
                if not got:
                    return
                left -= got
            filled = 0
            connection.sendall(_answer_to(head))


def _serve_quietly(connection: socket.socket, begun: Barrier) -> None:
    try:
        _serve(connection, begun)
    except ConnectionError:
        return


def _accept(listener: socket.socket, begun: Barrier) -> None:
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Thread(target=_serve_quietly, args=(connection, begun), daemon=True).start()


@contextmanager
def running_sink(*, together: int = 1) -> Iterator[int]:
    """Run a sink in a process of its own and give its port.

    Args:
        together: How many large bodies must have begun before any of them is read.
    """
    command = [sys.executable, "-m", "benchmarks.sink", str(together)]
    with subprocess.Popen(  # noqa: S603  our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def main(together: int) -> None:
    """Print the port, and serve until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    # When they do not come, connections break and the benchmark fails, rather than measure something else.
    begun = Barrier(together, timeout=_PATIENCE)
    Thread(target=_accept, args=(listener, begun), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
