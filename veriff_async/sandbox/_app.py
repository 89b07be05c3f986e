"""The HTTP side of the sandbox: aiohttp.web around the desk.

Whatever a document does not forbid is taken: bodies in chunks, unknown members, bare base64 as well as a data URI,
either family of headers, a slash at the end of the path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web
from anyio import to_thread

from veriff_async._protocol import headers
from veriff_async._protocol.base_url import LOCAL_SYNC
from veriff_async._protocol.signing import sign
from veriff_async.sandbox import _auth
from veriff_async.sandbox._errors import Refusal
from veriff_async.sandbox._faults import Fault, FaultKind
from veriff_async.sandbox._handlers import FILE, FORM, SECRET, Counter, answered
from veriff_async.sandbox._records import ReceivedRequest

if TYPE_CHECKING:
    import asyncio

    from aiohttp.typedefs import Middleware

    from veriff_async.sandbox._errors import Form
    from veriff_async.sandbox._service import Desk
    from veriff_async.sandbox._store import Store

__all__ = ("HEALTH_PATH", "build_app", "routes")

_MAX_JSON: Final = 1024 * 1024
_CHUNK: Final = 256 * 1024
_FORGED: Final = "a secret that nobody has"
_FORGING: Final = web.RequestKey("forging", bool)

HEALTH_PATH: Final = "/healthz"
_METHODS: Final = "GET, POST, PATCH, DELETE"
_EXPOSED: Final = f"*, {headers.AUTH_CLIENT}, {headers.HMAC_SIGNATURE}, Retry-After"
"""Named besides the ``*``, which does not count for a request with credentials."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(desk: Desk, store: Store, closing: asyncio.Event) -> web.Application:
    """Make the application; `closing` ends requests that hang on purpose."""
    app = web.Application(
        client_max_size=_MAX_JSON, middlewares=[_own_requests, _Trouble(desk, closing).around, _Answers(desk).around]
    )
    app.on_response_prepare.append(_allow_origin)
    for path, method, handler in routes(Counter(desk, store)):
        app.router.add_route(method, path, handler)
        app.router.add_route(method, path + "/", handler)
    return app


def routes(counter: Counter) -> tuple[tuple[str, str, _Handler], ...]:
    """Return path, method and handler of every endpoint; other hosts than the API's own have a path here."""
    return (
        ("/v1/sessions", "POST", counter.create_session),
        ("/v1/sessions/{id}", "PATCH", counter.submit_session),
        ("/v1/sessions/{id}", "DELETE", counter.delete_session),
        ("/v1/sessions/{id}/media", "POST", counter.upload_media),
        ("/v1/sessions/{id}/media", "GET", counter.session_media),
        ("/v1/sessions/{id}/certificates", "GET", counter.certificates),
        (
            "/v1/sessions/{id}/certificates/{certificate_id}/files/{file_id}",
            "GET",
            counter.download_certificate_file,
        ),
        ("/v1/faces/import", "POST", counter.import_faces),
        ("/v1/attempts/{id}/media", "GET", counter.attempt_media),
        ("/v1/media/{id}", "GET", counter.download_media),
        # Called by two public clients for the media of an address; no page of Veriff's was found.
        ("/v1/address-media/{id}", "GET", counter.download_media),
        ("/v1/sessions/{id}/collected-data", "POST", counter.send_collected_data),
        ("/v1/sessions/{id}/attempts", "GET", counter.attempts),
        ("/v1/sessions/{id}/decision", "GET", counter.decision),
        ("/v1/sessions/{id}/decision/fullauto", "GET", counter.full_auto_decision),
        ("/v1/sessions/{id}/decision/ine-registry", "GET", counter.ine_registry),
        ("/v1/sessions/{id}/decision/curp-registry", "GET", counter.curp_registry),
        ("/v1/sessions/{id}/decision/combined-ine-curp-registry", "GET", counter.ine_curp_registry),
        ("/v1/sessions/{id}/person", "GET", counter.person),
        ("/v1/sessions/{id}/watchlist-screening", "GET", counter.watchlist_screening),
        ("/v1/sessions/{id}/watchlist-screening", "PATCH", counter.stop_monitoring),
        ("/v1/sessions/{id}/timestamps", "GET", counter.timestamps),
        ("/v1/transportation-registry/{id}", "GET", counter.transportation_registry),
        ("/v1/address/{id}", "GET", counter.address),
        ("/v1/address/{id}/media", "GET", counter.address_media),
        ("/v1/validate-registry", "POST", counter.validate_registry),
        # The index of the reference writes it so; the page of the call does not.
        ("/v1/sessions/validate-registry", "POST", counter.validate_registry),
        (f"{LOCAL_SYNC}/v1/validate-registry", "POST", counter.validate_registry_sync),
        ("/v1/feedback/fraud-categories", "GET", counter.fraud_categories),
        ("/v1/feedback/fraud-reports", "POST", counter.report_fraud),
        ("/v1/feedback/fraud-reports/retrieve", "POST", counter.fraud_reports),
    )


@web.middleware
async def _own_requests(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer what is not a request to Veriff: a check of health, and the question of a browser before a request.

    Neither meets a fault or is listed, since tests mean requests to Veriff by both.
    """
    if request.path == HEALTH_PATH and request.method in {"GET", "HEAD"}:
        return answered({"status": "ok"})
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return web.Response(status=204)
    return await handler(request)


async def _allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Let a page of any origin send a request and read its answer, as a page with Veriff's browser SDK does.

    See https://fetch.spec.whatwg.org/#http-cors-protocol.
    """
    origin = request.headers.get("Origin")
    response.headers["Access-Control-Allow-Origin"] = origin or "*"
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    if origin is not None:
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers.add("Vary", "Origin")
    asked = request.headers.get("Access-Control-Request-Method")
    if request.method == "OPTIONS" and asked is not None:
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = request.headers.get(
            "Access-Control-Request-Headers", "content-type"
        )
        response.headers["Access-Control-Max-Age"] = "600"
        if "Access-Control-Request-Private-Network" in request.headers:
            response.headers["Access-Control-Allow-Private-Network"] = "true"


class _Answers:
    """Turns refusals into answers, and signs every answer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @property
    def around(self) -> Middleware:
        @web.middleware
        async def answers(request: web.Request, handler: _Handler) -> web.StreamResponse:
            try:
                answer = await handler(request)
            except Refusal as refusal:
                answer = answered(refusal.body(_form(request)), status=refusal.status)
            except web.HTTPException as refusal:
                answer = answered({"status": "fail", "message": refusal.reason}, status=refusal.status)
            except web.RequestPayloadError:
                refused = Refusal(400, "1104", "Request body is not what its Content-Encoding says")
                answer = answered(refused.body(_form(request)), status=refused.status)
                # The rest of the body cannot be read, so nothing else can come over this connection.
                answer.force_close()
            if isinstance(answer, web.FileResponse) and request.get(_FORGING, False):
                answer.headers.update(_auth.signed_headers(self._desk.credentials, sign(_FORGED, b"")))
            body = answer.body if isinstance(answer, web.Response) else None
            if isinstance(body, bytes) and (answer.status < 300 or self._desk.options.sign_errors):  # noqa: PLR2004
                secret = request.get(SECRET, self._desk.credentials.shared_secret)
                if request.get(_FORGING, False):
                    secret = _FORGED
                answer.headers.update(_auth.signed_headers(self._desk.credentials, sign(secret, body)))
            return answer

        return answers


class _Trouble:
    """Lets go wrong what a test asked for, and remembers every request."""

    def __init__(self, desk: Desk, closing: asyncio.Event) -> None:
        self._desk = desk
        self._closing = closing

    @property
    def around(self) -> Middleware:
        @web.middleware
        async def trouble(request: web.Request, handler: _Handler) -> web.StreamResponse:
            fault = self._desk.take_fault(request.method, request.path)
            request[_FORGING] = fault is not None and fault.kind is FaultKind.FORGE
            answer = await self._happen(request, handler, fault)
            status = None if answer is None else answer.status
            self._desk.saw(ReceivedRequest(method=request.method, path=request.path, status=status))
            # Nobody gets this one: its connection is gone.
            return web.Response() if answer is None else answer

        return trouble

    async def _happen(self, request: web.Request, handler: _Handler, fault: Fault | None) -> web.StreamResponse | None:
        """Handle a request rightly or wrongly; ``None`` when its connection was broken off."""
        if fault is None or fault.kind is FaultKind.FORGE:
            return await handler(request)
        if fault.kind is FaultKind.STATUS:
            if not fault.before_body:
                await _read(request)

            async def refuse(_request: web.Request) -> web.StreamResponse:
                raise Refusal(fault.http_status, fault.code, fault.message)

            answer = await _Answers(self._desk).around(request, refuse)
            answer.headers.update(fault.headers)
            return answer
        if fault.kind is FaultKind.CORRUPT:
            return await _changed(request, await handler(request), fault.after)
        if fault.kind in {FaultKind.TRUNCATE_RESPONSE, FaultKind.STALL_RESPONSE}:
            await _begin(request, await handler(request), fault.after)
        elif fault.kind is FaultKind.LOSE_RESPONSE:
            await handler(request)
        else:
            await _read(request, up_to=fault.after)
        if fault.kind in {FaultKind.HANG, FaultKind.STALL_RESPONSE}:
            await self._closing.wait()
        if request.transport is not None:
            request.transport.abort()
        return None


async def _read(request: web.Request, *, up_to: int | None = None) -> None:
    """Read the body, or as much of it, and forget it."""
    seen = 0
    with suppress(web.RequestPayloadError):
        while up_to is None or seen < up_to:
            piece = await request.content.read(_CHUNK if up_to is None else min(_CHUNK, up_to - seen))
            if not piece:
                return
            seen += len(piece)


async def _whole(request: web.Request, answer: web.StreamResponse) -> bytes:
    if isinstance(answer, web.FileResponse):
        return await to_thread.run_sync(request[FILE].read_bytes)
    body = answer.body if isinstance(answer, web.Response) else None
    return body if isinstance(body, bytes) else b""


async def _changed(request: web.Request, answer: web.StreamResponse, at: int) -> web.Response:
    """Return an answer with one byte changed."""
    body = bytearray(await _whole(request, answer))
    if body:
        body[min(at, len(body) - 1)] ^= 0xFF
    return web.Response(body=bytes(body), status=answer.status, headers=_signed(answer))


async def _begin(request: web.Request, answer: web.StreamResponse, after: int) -> None:
    """Send the head of an answer and so many bytes of its body."""
    body = await _whole(request, answer)
    begun = web.StreamResponse(status=answer.status, headers=_signed(answer))
    begun.content_length = len(body)
    await begun.prepare(request)
    await begun.write(body[:after])


def _signed(answer: web.StreamResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}


def _form(request: web.Request) -> Form:
    return cast("Form", request.get(FORM, "usual"))
