"""A client for one endpoint that shows each response as it is.

It can send requests that HTTP libraries do not: in pieces, in chunks, with a body that stops, or several on one
connection. The endpoint is not trusted: time, headers and body of a response are limited.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Final, Literal, Self
from urllib.parse import urlsplit

from attrs import define, field, frozen

from veriff_async._http.network_problem import network_problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ("Endpoint", "HttpConnection", "HttpRequest", "Reply", "close")

_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?\r?\n")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")
# Bytes of all headers of a response, and of one line.
_MAX_HEAD: Final = 65_536
# Bytes of a response body that are kept, and those that are read at most.
_MAX_KEPT: Final = 65_536
_MAX_BODY: Final = 4 * 1024 * 1024
_PIECE: Final = 65_536
# RFC 9110, section 10.1.1: a client should not wait indefinitely for a 100 (Continue).
_CONTINUE_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1.0
_PORTS: Final = {"http": 80, "https": 443}
# Responses 1xx before the final one.
_MAX_INTERIM: Final = 20
_WITHOUT_BODY: Final = frozenset({204, 304})


@frozen(kw_only=True)
class HttpRequest:
    """A request.

    Attributes:
        method: Its method.
        headers: Its headers; ``Host`` and the length are added.
        body: Its body.
        framing: Whether the length is announced, or the body comes in chunks.
        pieces: Number of pieces in which the body is sent.
        pause: Seconds between two pieces.
        expects_continue: Whether to ask for permission to send the body.
        stalls: Whether the last byte of the body is never sent.
        deadline: Seconds until the response must be complete; `None` for that of the endpoint.
    """

    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    framing: Literal["length", "chunked"] = "length"
    pieces: int = 1
    pause: float = 0.0
    expects_continue: bool = False
    stalls: bool = False
    deadline: float | None = None


@frozen(kw_only=True)
class Reply:
    """A response, or the reason why it is missing.

    Attributes:
        status: Its status, or `None` without a response.
        problem: Why it is missing or incomplete, without a full stop; otherwise empty.
        seconds: How long the request took.
        headers: Its headers, names in lower case.
        body: The first bytes of its body.
        is_reusable: Whether the connection can be used again.
        is_known_success: Whether the status is a success other than 200 that was reported before.
    """

    status: int | None
    problem: str = ""
    seconds: float = 0.0
    headers: Mapping[str, str] = field(factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)
    is_reusable: bool = False
    is_known_success: bool = False

    def describe(self) -> str:
        """Return the status and the problem."""
        status = "" if self.status is None else f"HTTP {self.status}"
        return f"{status}, but {self.problem}" if status and self.problem else status or self.problem


class _UnusableResponseError(Exception):
    """A response that is not HTTP or too large; the text is for people."""


@define
class _PartialReply:
    """The parts of a response that have arrived."""

    is_invited: asyncio.Event = field(factory=asyncio.Event)
    status: int | None = None
    headers: dict[str, str] = field(factory=dict[str, str])
    body: bytearray = field(factory=bytearray)
    is_reusable: bool = False


@frozen
class Endpoint:
    """The address that requests are sent to.

    Attributes:
        url: The whole URL.
        tls: How to check the certificate of an ``https`` URL.
        deadline: Seconds until a response must be complete.
    """

    url: str
    tls: ssl.SSLContext | None
    deadline: float

    async def send(self, request: HttpRequest) -> Reply:
        """Send one request on a connection of its own."""
        async with HttpConnection(self) as connection:
            return await connection.send(request)

    async def find_problem(self) -> str:
        """Return why no connection is possible, or an empty text."""
        host, port = self.address
        try:
            async with asyncio.timeout(self.deadline):
                _, writer = await asyncio.open_connection(host, port, ssl=self.tls)
        except TimeoutError:
            return f"no connection within {self.deadline:g} seconds"
        except (OSError, ValueError) as error:
            return _describe(error, has_status=False)
        await close(writer)
        return ""

    @property
    def address(self) -> tuple[str, int]:
        """The host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _PORTS[parts.scheme]


class HttpConnection:
    """One connection, opened at the first request; use it with ``async with``."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Take the address; nothing is opened."""
        self._endpoint = endpoint
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        """Return the connection."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        if self._streams is not None:
            # What is left of a refused body is not sent.
            self._streams[1].transport.abort()
            await _wait_closed(self._streams[1])

    async def send(self, request: HttpRequest) -> Reply:
        """Send a request and return the response; failures are responses without a status."""
        deadline = self._endpoint.deadline if request.deadline is None else request.deadline
        began, progress, problem = perf_counter(), _PartialReply(), ""
        try:
            async with asyncio.timeout(deadline):
                await self._exchange(request, progress)
        except TimeoutError:
            problem = (
                f"no response within {deadline:g} seconds"
                if progress.status is None
                else f"the response did not end within {deadline:g} seconds"
            )
        except _UnusableResponseError as error:
            problem = str(error)
        except (OSError, EOFError, ValueError) as error:
            problem = _describe(error, has_status=progress.status is not None)
        return Reply(
            status=progress.status,
            problem=problem,
            seconds=perf_counter() - began,
            headers=progress.headers,
            body=bytes(progress.body),
            is_reusable=progress.is_reusable and not problem,
        )

    async def _exchange(self, request: HttpRequest, progress: _PartialReply) -> None:
        if self._streams is None:
            host, port = self._endpoint.address
            self._streams = await asyncio.open_connection(host, port, ssl=self._endpoint.tls, limit=_MAX_HEAD)
        reader, writer = self._streams
        writer.write(self._head(request))
        # The response may come before the body is sent, for example with a refusal of its length.
        sending = asyncio.ensure_future(_send_body(writer, request, progress.is_invited))
        try:
            await _read_response(reader, request.method, progress)
            progress.is_reusable = progress.is_reusable and sending.done()
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await sending

    def _head(self, request: HttpRequest) -> bytes:
        parts = urlsplit(self._endpoint.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [("Host", parts.netloc.rpartition("@")[2]), *request.headers]
        if request.framing == "chunked":
            headers.append(("Transfer-Encoding", "chunked"))
        elif request.body or request.method not in {"GET", "HEAD"}:
            headers.append(("Content-Length", str(len(request.body))))
        if request.expects_continue:
            headers.append(("Expect", "100-continue"))
        lines = [f"{request.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection with nothing left to send, and do not wait for long for an endpoint that does not react."""
    writer.close()
    await _wait_closed(writer)
    writer.transport.abort()


async def _wait_closed(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await writer.wait_closed()


async def _send_body(writer: asyncio.StreamWriter, request: HttpRequest, is_invited: asyncio.Event) -> None:
    # An endpoint that refuses a body closes the connection; its response is what counts.
    with suppress(OSError):
        await writer.drain()
        if request.expects_continue:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CONTINUE_SECONDS):
                    await is_invited.wait()
        body = request.body[:-1] if request.stalls else request.body
        size = max(1, -(-len(body) // request.pieces))
        for start in range(0, len(body), size):
            if start:
                await asyncio.sleep(request.pause)
            piece = body[start : start + size]
            if request.framing == "chunked":
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                for offset in range(0, len(piece), _PIECE):
                    writer.write(piece[offset : offset + _PIECE])
                    await writer.drain()
            await writer.drain()
        if request.framing == "chunked" and not request.stalls:
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _read_response(reader: asyncio.StreamReader, method: str, progress: _PartialReply) -> None:
    for _ in range(_MAX_INTERIM):
        line = await _read_line(reader)
        match = _STATUS.fullmatch(line)
        if match is None:
            msg = "the connection was closed without a response" if not line else "the response is not HTTP"
            raise _UnusableResponseError(msg)
        headers = await _read_headers(reader)
        status = int(match[2])
        if status >= 200:  # noqa: PLR2004  the final response
            break
        progress.is_invited.set()
    else:
        msg = f"the endpoint sent {_MAX_INTERIM} responses 1xx and no other"
        raise _UnusableResponseError(msg)
    progress.status, progress.headers = status, headers
    is_persistent = match[1] == b"1" and "close" not in headers.get("connection", "").lower()
    if method == "HEAD" or status in _WITHOUT_BODY:
        progress.is_reusable = is_persistent
    elif "chunked" in headers.get("transfer-encoding", "").lower():
        await _read_chunks(reader, progress.body)
        progress.is_reusable = is_persistent
    elif (length := headers.get("content-length")) is not None:
        if not (length.isascii() and length.isdigit()) or len(length) > len(str(_MAX_BODY)):
            msg = "its length is not usable"
            raise _UnusableResponseError(msg)
        await _read_bytes(reader, int(length), progress.body)
        progress.is_reusable = is_persistent
    else:
        await _read_bytes(reader, None, progress.body)


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        msg = "the response has a line longer than 64 KiB"
        raise _UnusableResponseError(msg) from None


async def _read_headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    size = 0
    while (line := await _read_line(reader)).strip():
        size += len(line)
        if size > _MAX_HEAD:
            msg = "the response has more than 64 KiB of headers"
            raise _UnusableResponseError(msg)
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if not line:
        raise EOFError
    return headers


async def _read_chunks(reader: asyncio.StreamReader, body: bytearray) -> None:
    total = 0
    while True:
        text = (await _read_line(reader)).partition(b";")[0].strip()
        # Not `int` alone, which accepts signs and underscores.
        if _CHUNK_SIZE.fullmatch(text) is None:
            msg = "the response is not HTTP"
            raise _UnusableResponseError(msg)
        size = int(text, 16)
        total += size
        if size == 0:
            break
        _check_size(total)
        await _read_bytes(reader, size, body)
        await _read_line(reader)
    await _read_headers(reader)


async def _read_bytes(reader: asyncio.StreamReader, length: int | None, body: bytearray) -> None:
    """Read a number of bytes, or all until the connection ends."""
    total = 0
    while length is None or total < length:
        piece = await reader.read(_PIECE if length is None else min(_PIECE, length - total))
        if not piece:
            if length is None:
                return
            raise EOFError
        total += len(piece)
        _check_size(total)
        body += piece[: max(0, _MAX_KEPT - len(body))]


def _check_size(total: int) -> None:
    if total > _MAX_BODY:
        msg = "the response is larger than 4 MiB"
        raise _UnusableResponseError(msg)


def _describe(error: Exception, *, has_status: bool) -> str:
    """Describe a failure without the exception's own text, which may contain what was sent."""
    if has_status:
        return "the response broke off"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(error, ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, EOFError)):
        return "the connection was closed without a response"
    if isinstance(error, OSError):
        return f"no connection ({network_problem(error)})"
    return "the address cannot be used"
