"""The HTTP side of the sandbox: aiohttp.web around the desk.

Whatever a document does not forbid is taken: bodies in chunks, unknown members, bare base64 as well as a data URI,
either family of headers, a slash at the end of the path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from aiohttp import web

from veriff_async.protocol.codec import UnreadableError, dump, load_object
from veriff_async.protocol.signing import sign
from veriff_async.sandbox import checks, gate
from veriff_async.sandbox.faults import Fault, FaultKind
from veriff_async.sandbox.intake import Intake
from veriff_async.sandbox.records import SeenRequest, StoredMedia
from veriff_async.sandbox.refusal import Refusal

if TYPE_CHECKING:
    import asyncio

    from aiohttp.typedefs import Middleware

    from veriff_async.models.json import JsonObject
    from veriff_async.protocol.signing import Verifier
    from veriff_async.sandbox.desk import Desk
    from veriff_async.sandbox.store import Store

__all__ = ("build_app",)

_MAX_JSON: Final = 1024 * 1024
_CHUNK: Final = 256 * 1024
_FORGED: Final = "a secret that nobody has"
_SECRET: Final = web.RequestKey("secret", str)
_FORGING: Final = web.RequestKey("forging", bool)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(desk: Desk, store: Store, closing: asyncio.Event) -> web.Application:
    """Make the application; `closing` ends requests that hang on purpose."""
    app = web.Application(
        client_max_size=_MAX_JSON, middlewares=[_Trouble(desk, closing).around, _Answers(desk).around]
    )
    counter = _Counter(desk, store)
    for path, method, handler in (
        ("/v1/sessions", "POST", counter.create),
        ("/v1/sessions/{id}", "PATCH", counter.submit),
        ("/v1/sessions/{id}/media", "POST", counter.upload),
        ("/v1/sessions/{id}/decision", "GET", counter.decision),
    ):
        app.router.add_route(method, path, handler)
        app.router.add_route(method, path + "/", handler)
    return app


class _Counter:
    """Where requests are handled, one method for each endpoint."""

    def __init__(self, desk: Desk, store: Store) -> None:
        self._desk = desk
        self._store = store

    async def create(self, request: web.Request) -> web.StreamResponse:
        gate.check_client(request.headers, self._desk.credentials)
        body = await request.read()
        if gate.signature_of(request.headers) is not None:
            self._check_body(request, body)
        return _answer(self._desk.create(_object(body)), status=201)

    async def submit(self, request: web.Request) -> web.StreamResponse:
        gate.check_client(request.headers, self._desk.credentials)
        body = await request.read()
        self._check_body(request, body)
        return _answer(self._desk.submit(request.match_info["id"], _object(body)))

    async def decision(self, request: web.Request) -> web.StreamResponse:
        gate.check_client(request.headers, self._desk.credentials)
        session_id = request.match_info["id"]
        verifier = self._desk.credentials.verifier()
        verifier.update(session_id.encode())
        self._check(request, verifier, of_body=False)
        return _answer(self._desk.decision(session_id))

    async def upload(self, request: web.Request) -> web.StreamResponse:
        gate.check_client(request.headers, self._desk.credentials)
        session_id, media_id = request.match_info["id"], str(uuid4())
        verifier = self._desk.credentials.verifier()
        intake = Intake(oversize_status=self._desk.rules.oversize_status)
        async with self._store.incoming(media_id) as incoming:
            refusal: Refusal | None = None
            async for chunk in request.content.iter_chunked(_CHUNK):
                verifier.update(chunk)
                try:
                    await incoming.write(intake.feed(chunk) if refusal is None else b"")
                except Refusal as found:
                    if found.status == self._desk.rules.oversize_status:
                        raise
                    # Whoever is not Veriff's customer is told that first, and for that the whole body is needed.
                    refusal = found
            self._check(request, verifier, of_body=True)
            if refusal is not None:
                raise refusal
            last, described = intake.finish()
            context = checks.check_context(described.image.get("context"))
            self._desk.check_upload(session_id)
            await incoming.write(last)
            digest = await incoming.finish()
            stored = StoredMedia(
                id=media_id,
                context=context,
                mimetype=described.mimetype,
                size=incoming.size,
                sha256=digest,
                path=incoming.path,
            )
            answer = self._desk.add_media(session_id, stored)
            incoming.keep()
        return _answer(answer)

    def _check_body(self, request: web.Request, body: bytes) -> None:
        verifier = self._desk.credentials.verifier()
        verifier.update(body)
        self._check(request, verifier, of_body=True)

    def _check(self, request: web.Request, verifier: Verifier, *, of_body: bool) -> None:
        place = gate.check_signature(verifier, gate.signature_of(request.headers), of_body=of_body)
        # Documented: an answer is signed with the secret that signed the request.
        request[_SECRET] = self._desk.credentials.secrets[place]


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
                answer = _answer(refusal.body(), status=refusal.status)
            except web.HTTPException as refusal:
                answer = _answer({"status": "fail", "message": refusal.reason}, status=refusal.status)
            body = answer.body if isinstance(answer, web.Response) else None
            if isinstance(body, bytes) and (answer.status < 300 or self._desk.rules.sign_errors):  # noqa: PLR2004
                secret = request.get(_SECRET, self._desk.credentials.shared_secret)
                if request.get(_FORGING, False):
                    secret = _FORGED
                answer.headers.update(gate.signed_headers(self._desk.credentials, sign(secret, body)))
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
            self._desk.saw(SeenRequest(method=request.method, path=request.path, status=status))
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
        if fault.kind is FaultKind.LOSE_ANSWER:
            await handler(request)
        else:
            await _read(request, up_to=fault.after)
        if fault.kind is FaultKind.HANG:
            await self._closing.wait()
        if request.transport is not None:
            request.transport.abort()
        return None


async def _read(request: web.Request, *, up_to: int | None = None) -> None:
    """Read the body, or as much of it, and forget it."""
    seen = 0
    while up_to is None or seen < up_to:
        piece = await request.content.read(_CHUNK if up_to is None else min(_CHUNK, up_to - seen))
        if not piece:
            return
        seen += len(piece)


def _answer(body: JsonObject, *, status: int = 200) -> web.Response:
    return web.Response(body=dump(body), status=status, content_type="application/json")


def _object(body: bytes) -> JsonObject:
    try:
        return load_object(body)
    except UnreadableError:
        raise Refusal(400, "1104", "Request body is not a JSON object") from None
