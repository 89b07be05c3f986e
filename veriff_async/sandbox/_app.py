"""The aiohttp application: routes, and the middlewares around them.

A request passes these layers, from the outside in:

    access rules           token, Host and Origin for the console, the control API and the hosted page
    _answer_own_requests   health checks and CORS preflights, which are not requests to Veriff
    FaultMiddleware        makes a request fail as a test has asked, and records every request
    _ResponseMiddleware    turns errors into responses, and signs every response
    StateKeeper            writes what has changed to the state folder, if there is one
    Handlers               authenticates the request and calls the service

Faults are outside of the signing layer, so that a fault can change a response after it was signed.

The application accepts everything that Veriff's documents do not forbid: chunked bodies, unknown members, bare base64
as well as a data URI, either family of headers, a slash at the end of the path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web

from veriff_async._protocol import headers
from veriff_async._protocol.signing import sign
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox import _auth
from veriff_async.sandbox._console import add_console_route
from veriff_async.sandbox._control.access import area_of
from veriff_async.sandbox._control.routes import add_control_routes, check_access
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._fault_middleware import IS_FORGED, FaultMiddleware
from veriff_async.sandbox._handlers import ERROR_FORM, SECRET, Handlers, json_response
from veriff_async.sandbox._hosted import HostedPage
from veriff_async.sandbox._routes import ROUTES
from veriff_async.sandbox._signature_verdict import FACTS

if TYPE_CHECKING:
    import asyncio

    from aiohttp.typedefs import Middleware

    from veriff_async.sandbox._control.access import Access
    from veriff_async.sandbox._control.operation import Context
    from veriff_async.sandbox._errors import ErrorForm
    from veriff_async.sandbox._media_store import MediaStore
    from veriff_async.sandbox._service import SandboxService
    from veriff_async.sandbox._state_folder import StateKeeper

__all__ = ("HEALTH_PATH", "build_app")

_MAX_JSON_BYTES: Final = 1024 * 1024
_FORGED_SECRET: Final = "a secret that no client has"  # noqa: S105  not a password

_INSUFFICIENT_STORAGE: Final = 507

HEALTH_PATH: Final = "/healthz"
_METHODS: Final = "GET, POST, PATCH, DELETE"
# The headers are named besides "*", which browsers ignore for requests with credentials.
_EXPOSED_HEADERS: Final = f"*, {headers.AUTH_CLIENT}, {headers.HMAC_SIGNATURE}, Retry-After"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(
    context: Context,
    store: MediaStore,
    access: Access,
    closing: asyncio.Event,
    keeper: StateKeeper | None,
) -> web.Application:
    """Build the application."""
    service = context.service
    respond = _ResponseMiddleware(service).middleware
    inject_faults = FaultMiddleware(service, respond, closing).middleware
    api_only = [_for_api(inject_faults), _for_api(respond)]
    middlewares = [check_access(access), _answer_own_requests, *api_only]
    if keeper is not None:
        # The last one, next to the handlers: its error gets the same form and signature as theirs.
        middlewares.append(_commit_before_responding(keeper))
    app = web.Application(client_max_size=_MAX_JSON_BYTES, middlewares=middlewares)
    app.on_response_prepare.append(_allow_origin)
    HostedPage(service, store).add_routes(app)
    add_control_routes(app, context)
    # After the control API: the console answers every other path below its own.
    add_console_route(app, service)
    handlers = Handlers(service, store)
    for route in ROUTES:
        handler = handlers.handler(route)
        app.router.add_route(route.method, route.path, handler)
        app.router.add_route(route.method, route.path + "/", handler)
    return app


def _commit_before_responding(keeper: StateKeeper) -> Middleware:
    """Return a middleware that writes what a request has changed before its response is sent."""

    @web.middleware
    async def commit(request: web.Request, handler: _Handler) -> web.StreamResponse:
        response = await handler(request)
        try:
            await keeper.flush()
        except ConfigurationError as error:
            if not _is_own(request):
                raise HTTPError(_INSUFFICIENT_STORAGE, None, str(error)) from None
            problem = {"code": "insufficient_storage", "message": str(error), "field": None}
            return json_response({"error": problem}, status=_INSUFFICIENT_STORAGE)
        return response

    return commit


@web.middleware
async def _answer_own_requests(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer health checks and CORS preflights.

    They are neither recorded nor changed by faults, since tests mean requests to Veriff by both.
    """
    if request.path == HEALTH_PATH and request.method in {"GET", "HEAD"}:
        return json_response({"status": "ok"})
    if _is_own(request):
        return await handler(request)
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return web.Response(status=204)
    return await handler(request)


def _is_own(request: web.Request) -> bool:
    """Return whether a request is to the sandbox itself: no faults, no signatures, no CORS."""
    return area_of(request) is not None


def _for_api(middleware: Middleware) -> Middleware:
    """Return a middleware that applies to the API of Veriff alone."""

    @web.middleware
    async def apply(request: web.Request, handler: _Handler) -> web.StreamResponse:
        return await (handler(request) if _is_own(request) else middleware(request, handler))

    return apply


async def _allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Let a page of any origin send requests and read the responses, as a page with Veriff's browser SDK does.

    See https://fetch.spec.whatwg.org/#http-cors-protocol.
    """
    if _is_own(request):
        return
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
        is_forged = request.get(IS_FORGED, False)
        credentials = self._service.credentials
        if isinstance(response, web.FileResponse) and is_forged:
            # The handler has signed the file rightly; its bytes are never in memory here.
            response.headers.update(_auth.signature_headers(credentials, sign(_FORGED_SECRET, b"")))
        body = response.body if isinstance(response, web.Response) else None
        if isinstance(body, bytes) and (response.status < 300 or self._service.options.sign_errors):  # noqa: PLR2004
            secret = _FORGED_SECRET if is_forged else request.get(SECRET, credentials.shared_secret)
            response.headers.update(_auth.signature_headers(credentials, sign(secret, body)))


def _error_response(request: web.Request, error: HTTPError) -> web.Response:
    request[FACTS].code = error.code
    form = cast("ErrorForm", request.get(ERROR_FORM, "usual"))
    return json_response(error.body(form), status=error.status)
