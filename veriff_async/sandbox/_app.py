"""The aiohttp application: routes, and the middlewares around them.

A request passes these layers, from the outside in:

    _answer_own_requests   health checks and CORS preflights, which are not requests to Veriff
    _FaultMiddleware       makes a request fail as a test has asked, and records every request
    _ResponseMiddleware    turns errors into responses, and signs every response
    Handlers               authenticates the request and calls the service

Faults are outside of the signing layer, so that a fault can change a response after it was signed.

The application accepts everything that Veriff's documents do not forbid: chunked bodies, unknown members, bare base64
as well as a data URI, either family of headers, a slash at the end of the path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web
from anyio import to_thread

from veriff_async._protocol import headers
from veriff_async._protocol.signing import sign
from veriff_async.sandbox import _auth
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._faults import Fault, FaultKind
from veriff_async.sandbox._handlers import ERROR_FORM, FILE, SECRET, Handlers, json_response
from veriff_async.sandbox._records import ReceivedRequest
from veriff_async.sandbox._routes import ROUTES

if TYPE_CHECKING:
    import asyncio

    from aiohttp.typedefs import Middleware

    from veriff_async.sandbox._errors import ErrorForm
    from veriff_async.sandbox._media_store import MediaStore
    from veriff_async.sandbox._service import SandboxService

__all__ = ("HEALTH_PATH", "build_app")

_MAX_JSON_BYTES: Final = 1024 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_FORGED_SECRET: Final = "a secret that no client has"  # noqa: S105  not a password
_IS_FORGED: Final = web.RequestKey("is_forged", bool)

HEALTH_PATH: Final = "/healthz"
_METHODS: Final = "GET, POST, PATCH, DELETE"
# The headers are named besides "*", which browsers ignore for requests with credentials.
_EXPOSED_HEADERS: Final = f"*, {headers.AUTH_CLIENT}, {headers.HMAC_SIGNATURE}, Retry-After"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(service: SandboxService, store: MediaStore, closing: asyncio.Event) -> web.Application:
    """Build the application.

    Args:
        service: Answers the requests.
        store: Receives uploaded files.
        closing: Ends requests that a fault lets hang.
    """
    faults, responses = _FaultMiddleware(service, closing), _ResponseMiddleware(service)
    app = web.Application(
        client_max_size=_MAX_JSON_BYTES, middlewares=[_answer_own_requests, faults.middleware, responses.middleware]
    )
    app.on_response_prepare.append(_allow_origin)
    handlers = Handlers(service, store)
    for route in ROUTES:
        handler = handlers.handler(route)
        app.router.add_route(route.method, route.path, handler)
        app.router.add_route(route.method, route.path + "/", handler)
    return app


@web.middleware
async def _answer_own_requests(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer health checks and CORS preflights.

    They are neither recorded nor changed by faults, since tests mean requests to Veriff by both.
    """
    if request.path == HEALTH_PATH and request.method in {"GET", "HEAD"}:
        return json_response({"status": "ok"})
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return web.Response(status=204)
    return await handler(request)


async def _allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Let a page of any origin send requests and read the responses, as a page with Veriff's browser SDK does.

    See https://fetch.spec.whatwg.org/#http-cors-protocol.
    """
    origin = request.headers.get("Origin")
    response.headers["Access-Control-Allow-Origin"] = origin or "*"
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
    if origin is not None:
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers.add("Vary", "Origin")
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = request.headers.get(
            "Access-Control-Request-Headers", "content-type"
        )
        response.headers["Access-Control-Max-Age"] = "600"
        if "Access-Control-Request-Private-Network" in request.headers:
            response.headers["Access-Control-Allow-Private-Network"] = "true"


class _ResponseMiddleware:
    """Turns errors into responses, and signs every response."""

    def __init__(self, service: SandboxService) -> None:
        self._service = service

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def respond(request: web.Request, handler: _Handler) -> web.StreamResponse:
            try:
                response = await handler(request)
            except HTTPError as error:
                response = _error_response(request, error)
            # aiohttp's own errors: unknown path, wrong method, body above the limit.
            except web.HTTPException as error:
                response = json_response({"status": "fail", "message": error.reason}, status=error.status)
            except web.RequestPayloadError:
                refusal = HTTPError(400, "1104", "Request body is not what its Content-Encoding says")
                response = _error_response(request, refusal)
                # The end of the body is unknown, so the connection cannot carry another request.
                response.force_close()
            self._sign(request, response)
            return response

        return respond

    def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        is_forged = request.get(_IS_FORGED, False)
        credentials = self._service.credentials
        if isinstance(response, web.FileResponse) and is_forged:
            # The handler has signed the file rightly; its bytes are never in memory here.
            response.headers.update(_auth.signature_headers(credentials, sign(_FORGED_SECRET, b"")))
        body = response.body if isinstance(response, web.Response) else None
        if isinstance(body, bytes) and (response.status < 300 or self._service.options.sign_errors):  # noqa: PLR2004
            secret = _FORGED_SECRET if is_forged else request.get(SECRET, credentials.shared_secret)
            response.headers.update(_auth.signature_headers(credentials, sign(secret, body)))


class _FaultMiddleware:
    """Makes requests fail as tests have asked, and records every request."""

    def __init__(self, service: SandboxService, closing: asyncio.Event) -> None:
        self._service = service
        self._closing = closing

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def inject_fault(request: web.Request, handler: _Handler) -> web.StreamResponse:
            fault = self._service.next_fault(request.method, request.path)
            request[_IS_FORGED] = fault is not None and fault.kind is FaultKind.FORGE_SIGNATURE
            response = await self._respond(request, handler, fault)
            # Recorded after the handler, so a recorded request has taken effect.
            status = None if response is None else response.status
            self._service.record_request(ReceivedRequest(method=request.method, path=request.path, status=status))
            # aiohttp wants a response; this one is never sent, because the connection is closed.
            return web.Response() if response is None else response

        return inject_fault

    async def _respond(self, request: web.Request, handler: _Handler, fault: Fault | None) -> web.StreamResponse | None:
        """Return the response to a request, or ``None`` after its connection was closed."""
        if fault is None or fault.kind is FaultKind.FORGE_SIGNATURE:
            return await handler(request)
        if fault.kind is FaultKind.STATUS:
            return await self._respond_with_status(request, fault)
        if fault.kind is FaultKind.CORRUPT_RESPONSE:
            return await _corrupt(request, await handler(request), fault.after)
        if fault.kind in {FaultKind.TRUNCATE_RESPONSE, FaultKind.STALL_RESPONSE}:
            await _send_beginning(request, await handler(request), fault.after)
        elif fault.kind is FaultKind.LOSE_RESPONSE:
            await handler(request)
        else:
            await _discard_body(request, up_to=fault.after)
        if fault.kind in {FaultKind.HANG, FaultKind.STALL_RESPONSE}:
            await self._closing.wait()
        if request.transport is not None:
            request.transport.abort()
        return None

    async def _respond_with_status(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if not fault.before_body:
            await _discard_body(request)

        async def refuse(_request: web.Request) -> web.StreamResponse:
            raise HTTPError(fault.http_status, fault.code, fault.message)

        # The handlers are skipped, and the error is signed like every other one.
        response = await _ResponseMiddleware(self._service).middleware(request, refuse)
        response.headers.update(fault.headers)
        return response


async def _discard_body(request: web.Request, *, up_to: int | None = None) -> None:
    """Read the body, or so many bytes of it."""
    size = 0
    with suppress(web.RequestPayloadError):
        while up_to is None or size < up_to:
            chunk = await request.content.read(_CHUNK_BYTES if up_to is None else min(_CHUNK_BYTES, up_to - size))
            if not chunk:
                return
            size += len(chunk)


async def _read_response(request: web.Request, response: web.StreamResponse) -> bytes:
    """Return the body of a response that was not sent yet."""
    if isinstance(response, web.FileResponse):
        return await to_thread.run_sync(request[FILE].read_bytes)
    body = response.body if isinstance(response, web.Response) else None
    return body if isinstance(body, bytes) else b""


async def _corrupt(request: web.Request, response: web.StreamResponse, offset: int) -> web.Response:
    """Return a response with one byte changed."""
    body = bytearray(await _read_response(request, response))
    if body:
        body[min(offset, len(body) - 1)] ^= 0xFF
    return web.Response(body=bytes(body), status=response.status, headers=_headers_without_length(response))


async def _send_beginning(request: web.Request, response: web.StreamResponse, size: int) -> None:
    """Send the headers of a response and the first bytes of its body."""
    body = await _read_response(request, response)
    beginning = web.StreamResponse(status=response.status, headers=_headers_without_length(response))
    # The full length is announced, so that the client can see that bytes are missing.
    beginning.content_length = len(body)
    await beginning.prepare(request)
    await beginning.write(body[:size])


def _headers_without_length(response: web.StreamResponse) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.lower() != "content-length"}


def _error_response(request: web.Request, error: HTTPError) -> web.Response:
    form = cast("ErrorForm", request.get(ERROR_FORM, "usual"))
    return json_response(error.body(form), status=error.status)
