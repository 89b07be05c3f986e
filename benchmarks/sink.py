"""A server that does the least that HTTP allows, so that the client is what is measured.

It reads every body into one buffer, looks at no byte of it, and answers what Veriff would. Run as a process of its own
it prints its port and serves until its standard input ends, so it never outlives who started it.

It can hold large bodies back until so many have begun that all uploads are certainly under way at once: what they then
hold in memory is what they would hold on a slow network. It can speak TLS, and hand out one large media.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("MEDIA_ID", "MEDIA_PATH", "SESSION_ID", "running_sink")

SESSION_ID: Final = "5d3a0a8a-4b4f-4c53-9d0c-6a1f3b5c7e90"
MEDIA_ID: Final = "0b9f6a35-7f0e-4d53-8c69-1e3a2f6d4b11"
MEDIA_PATH: Final = f"/v1/sessions/{SESSION_ID}/media"
_BUFFER: Final = 256 * 1024
_END: Final = b"\r\n\r\n"
_PATIENCE: Final = 60.0
_SECRET: Final = b"benchmark-secret"  # the one of `work`; this process loads as little as it can


def _answer(status: str, content: object) -> bytes:
    return _signed(status, "application/json", json.dumps(content, separators=(",", ":")).encode())


def _signed(status: str, mimetype: str, body: bytes) -> bytes:
    """Return an answer as Veriff gives it: signed, so that a client checks it."""
    signature = hmac.new(_SECRET, body, hashlib.sha256).hexdigest()
    headers = f"Content-Type: {mimetype}\r\nContent-Length: {len(body)}\r\nX-HMAC-SIGNATURE: {signature}"
    return f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body


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
    "id": MEDIA_ID,
    "name": "document-front",
    "context": "document-front",
    "timestamp": None,
    "size": 1,
    "mimetype": "image/jpeg",
    "url": f"https://veriff.example/v1/media/{MEDIA_ID}",
    "sessionId": SESSION_ID,
}
_UPLOADED: Final = _answer("200 OK", {"status": "success", "image": _IMAGE})
_CREATED: Final = _answer("201 Created", _verification("created"))
_SUBMITTED: Final = _answer("200 OK", _verification("submitted"))
_DECISION: Final[dict[str, object]] = {
    "id": SESSION_ID,
    "attemptId": "8c4b7a52-3d0e-4f8e-9a53-2f7c1b6d9e04",
    "vendorData": None,
    "endUserId": None,
    "status": "approved",
    "code": 9001,
    "reason": None,
    "reasonCode": None,
    "acceptanceTime": "2026-01-02T03:04:05.678900Z",
    "decisionTime": "2026-01-02T03:05:06.789000Z",
    "person": {
        "firstName": "ADA",
        "lastName": "LOVELACE",
        "dateOfBirth": "1985-12-10",
        "gender": "F",
        "nationality": "GB",
        "idNumber": None,
        "addresses": [],
    },
    "document": {
        "type": "PASSPORT",
        "number": "123456789",
        "country": "GB",
        "validFrom": "2020-01-01",
        "validUntil": "2030-01-01",
    },
    "additionalVerifiedData": {},
    "comments": [],
    "highRisk": False,
    "riskScore": {"score": 0.1},
    "riskLabels": [],
}
_DECIDED: Final = _answer(
    "200 OK", {"status": "success", "verification": _DECISION, "technicalData": {"ip": "192.0.2.7"}}
)
_UNKNOWN: Final = _answer("404 Not Found", {"status": "fail", "code": "1104", "message": "unknown"})


def _answer_to(request_line: bytes, media: bytes) -> bytes:
    method, path, _ = request_line.split(b" ", 2)
    if method == b"GET" and media and path.startswith(b"/v1/media/"):
        return media
    if method == b"POST" and path.endswith(b"/media"):
        return _UPLOADED
    if method == b"POST" and path.endswith(b"/sessions"):
        return _CREATED
    if method == b"PATCH":
        return _SUBMITTED
    return _DECIDED if path.endswith(b"/decision") else _UNKNOWN


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _serve(connection: socket.socket, begun: Barrier, media: bytes) -> None:
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
            connection.sendall(_answer_to(head, media))


def _serve_quietly(connection: socket.socket, tls: ssl.SSLContext | None, begun: Barrier, media: bytes) -> None:
    try:
        if tls is not None:
            connection = tls.wrap_socket(connection, server_side=True)
        _serve(connection, begun, media)
    except (ConnectionError, ssl.SSLError):
        return


def _accept(listener: socket.socket, tls: ssl.SSLContext | None, begun: Barrier, media: bytes) -> None:
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Thread(target=_serve_quietly, args=(connection, tls, begun, media), daemon=True).start()


@contextmanager
def running_sink(*, together: int = 1, certificate: str = "", media: int = 0) -> Iterator[int]:
    """Run a sink in a process of its own and give its port.

    Args:
        together: How many large bodies must have begun before any of them is read.
        certificate: A file with key and certificate to speak TLS with, or nothing for plain HTTP.
        media: Bytes of the media that it hands out, or 0 for none.
    """
    command = [sys.executable, "-m", "benchmarks.sink", str(together), certificate, str(media)]
    with subprocess.Popen(  # noqa: S603  our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def main(together: int, certificate: str, media: int) -> None:
    """Print the port, and serve until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    tls: ssl.SSLContext | None = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    handed_out = _signed("200 OK", "image/jpeg", os.urandom(media)) if media else b""
    # When they do not come, connections break and the benchmark fails, rather than measure something else.
    begun = Barrier(together, timeout=_PATIENCE)
    Thread(target=_accept, args=(listener, tls, begun, handed_out), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
