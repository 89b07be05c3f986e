"""Passes one request on, and its response back, while both arrive.

No body is held: each chunk is read by a `BodyCapture` and sent on before the next one is taken, so a slow receiver
slows the sender down. Headers stay as they are, except for those of one connection
(https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1) and ``Host``. Bodies stay compressed, because their signature
covers the bytes as sent.

How an exchange ends early
    The client closes its connection    aiohttp cancels the handler, which closes the connection to the server
    The server closes its connection    the connection to the client is aborted, also in the middle of a response
    No connection to the server         502, since only a response can say why
It sets no time limits: those of the client and of the server apply to their own sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web
from attrs import define, field
from multidict import CIMultiDict
from yarl import URL

from veriff_async._http.payload import SentOnce
from veriff_async._protocol.json.decode import dump
from veriff_async.sandbox._recording.body_capture import BodyCapture
from veriff_async.sandbox._recording.listener import allow_body

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from veriff_async.sandbox._recording.cassette import Ending

__all__ = ("Exchange", "Proxy")

_CHUNK_BYTES: Final = 64 * 1024
_OF_CONNECTION: Final = frozenset(
    [
        "connection",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
# aiohttp adds these to requests that do not have them.
_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_BAD_GATEWAY: Final = 502


@define
class Exchange:
    """The parts of one exchange that have passed.

    Attributes:
        method: HTTP method.
        path: Path with query, as sent.
        at: Seconds from the start of the recorder.
        request_headers: Names and values as sent.
        sent: The body of the request.
        status: HTTP status of the response, or ``None``.
        response_headers: Names and values as received.
        received: The body of the response.
        ending: Who ended the exchange.
    """

    method: str
    path: str
    at: float
    request_headers: list[tuple[str, str]]
    sent: BodyCapture
    status: int | None = None
    response_headers: list[tuple[str, str]] = field(factory=list[tuple[str, str]])
    received: BodyCapture = field(factory=BodyCapture)
    ending: Ending = "complete"


class _PassedBody(SentOnce):
    """The body of a request, read from the client when the server is ready for it."""

    def __init__(self, request: web.BaseRequest, capture: BodyCapture) -> None:
        length = request.headers.get("Content-Length")
        size = int(length) if length is not None and length.isascii() and length.isdigit() else None
        # Without a length and a body, zero: otherwise aiohttp would send an empty chunked body.
        super().__init__(None, size=size if request.body_exists else 0, on_start=_nothing, on_bytes_sent=_nothing)
        self._request = request
        self._capture = capture
        self.is_broken: bool = False
        """Whether the client did not send all of it."""

    async def write_body(self, writer: AbstractStreamWriter) -> None:
        # aiohttp asks for the body after the server has allowed it.
        await allow_body(self._request)
        while True:
            try:
                chunk = await self._request.content.readany()
            except Exception:  # a malformed body, or a client that has gone
                self.is_broken = True
                raise
            if not chunk:
                return
            self._capture.feed(chunk)
            await writer.write(chunk)


def _nothing(_count: int = 0) -> None:
    """Ignore how far the body is: the recorder has no time limits."""


class Proxy:
    """Passes requests on."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        """Take the connections to servers; they must not change headers or bodies."""
        self._http = http

    async def forward(self, request: web.BaseRequest, url: str, exchange: Exchange) -> web.StreamResponse:
        """Pass a request on to a URL, and its response back.

        Args:
            request: The request of the client.
            url: The URL, encoded as it is to be sent.
            exchange: Gets everything that is seen. When this returns or raises, it is complete.
        """
        body = _PassedBody(request, exchange.sent)
        # Until the end is reached, this is how it ended: a cancellation by aiohttp means that the client has gone.
        exchange.ending = "client"
        response: web.StreamResponse | None = None
        try:
            async with self._http.request(
                request.method,
                URL(url, encoded=True),
                headers=_without_connection(exchange.request_headers),
                data=body,
                allow_redirects=False,
                skip_auto_headers=_ADDED,
            ) as upstream:
                exchange.response_headers = _decode(upstream.raw_headers)
                exchange.received = BodyCapture(upstream.headers.get("Content-Encoding", ""))
                exchange.status = upstream.status
                response = web.StreamResponse(
                    status=upstream.status,
                    reason=upstream.reason,
                    headers=_without_connection(exchange.response_headers),
                )
                await response.prepare(request)
                await self._send_back(upstream, response, exchange)
                exchange.ending = "complete"
                return response
        except (aiohttp.ClientError, OSError, ValueError):
            if response is None and not body.is_broken:
                exchange.ending = "server"
        if response is None and not body.started:
            return _bad_gateway()
        if request.transport is not None:
            # An orderly end would look like the whole response to a client of HTTP/1.0.
            request.transport.abort()
        # aiohttp wants a response; the connection is closed, so it is never sent.
        return web.Response() if response is None else response

    @staticmethod
    async def _send_back(upstream: aiohttp.ClientResponse, response: web.StreamResponse, exchange: Exchange) -> None:
        while True:
            try:
                chunk = await upstream.content.readany()
            except (aiohttp.ClientError, OSError):
                exchange.ending = "server"
                raise
            if not chunk:
                break
            exchange.received.feed(chunk)
            await response.write(chunk)
        await response.write_eof()


def _without_connection(headers: list[tuple[str, str]]) -> CIMultiDict[str]:
    named = {name.strip().lower() for key, value in headers if key.lower() == "connection" for name in value.split(",")}
    return CIMultiDict([(key, value) for key, value in headers if key.lower() not in _OF_CONNECTION | named])


def _decode(headers: tuple[tuple[bytes, bytes], ...]) -> list[tuple[str, str]]:
    # As aiohttp does, which encodes them in the same way again.
    return [
        (key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")) for key, value in headers
    ]


def _bad_gateway() -> web.Response:
    message = "The recorder cannot connect to Veriff: check the address that it was started with, and the network."
    return web.Response(
        status=_BAD_GATEWAY, body=dump({"status": "fail", "message": message}), content_type="application/json"
    )
