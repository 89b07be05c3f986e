"""From an HTTP request to a method of the service and back: read, authenticate, call, respond.

Order of the checks, as far as Veriff's codes show it: API key (1801 to 1803), then the signature
(1812, 1818, 1819), then the body (1104 and the codes of the endpoint). A client with wrong credentials thus learns
nothing about the session.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from aiohttp import web
from anyio import to_thread

from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.json.encode import dump_json
from veriff_async._protocol.limits import MAX_IMAGE_BASE64, MAX_IMPORTED_FACES
from veriff_async.errors import DecodeError
from veriff_async.models.json import EMPTY, as_object
from veriff_async.sandbox import _auth, _validation
from veriff_async.sandbox._endpoints import ApiRequest, Endpoints
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._records import StoredMedia
from veriff_async.sandbox._routes import Signed
from veriff_async.sandbox._signature_verdict import (
    FACTS,
    MAX_EXPLAINED_BYTES,
    VALID,
    RefusedRequest,
    SignatureVerdict,
    explain_refusal,
)
from veriff_async.sandbox._upload_parser import UploadParser

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async._protocol.signing import Verifier
    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._media_store import MediaStore
    from veriff_async.sandbox._routes import Route
    from veriff_async.sandbox._service import SandboxService
    from veriff_async.sandbox._signature_verdict import RequestFacts

__all__ = ("ERROR_FORM", "FILE", "SECRET", "Handlers", "json_response")

SECRET: Final = web.RequestKey("secret", str)
"""The secret that signed the request. The response is signed with the same one (documented)."""

ERROR_FORM: Final = web.RequestKey("error_form", str)
"""The form of an error response to the request."""

FILE: Final = web.RequestKey("file", Path)
"""The file that is the response; faults that change a body read it from here."""

_EXPECTED_TEXT: Final = {
    Signed.ID: "the id as it is written in the path",
    Signed.FEEDBACK: "the path, for a POST followed by a newline and the raw body,",
}

_CHUNK_BYTES: Final = 256 * 1024
_CREATED: Final = 201
_UNAUTHORIZED: Final = 401
_SMALL_FILE_BYTES: Final = 1024 * 1024
# Largest body of an import: ten times the limit of an upload (a guess).
_MAX_FACES_BYTES: Final = MAX_IMPORTED_FACES * MAX_IMAGE_BASE64 + 64 * 1024


class Handlers:
    """Makes aiohttp handlers of routes."""

    def __init__(self, service: SandboxService, store: MediaStore) -> None:
        """Handle requests."""
        self._service = service
        self._endpoints = Endpoints(service)
        self._media_store = store

    def handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return the aiohttp handler of a route."""

        async def handle(request: web.Request) -> web.StreamResponse:
            request[ERROR_FORM] = route.errors
            facts = request[FACTS]
            try:
                return await respond(request, facts)
            except HTTPError as error:
                if error.status == _UNAUTHORIZED:
                    facts.signature = await self._explain(request, route.signed, error)
                raise

        async def respond(request: web.Request, facts: RequestFacts) -> web.StreamResponse:
            if route.signed is Signed.UPLOAD:
                return await self._receive_upload(request)
            body = await self._read_signed(request, route.signed)
            result = route.handler(self._endpoints, ApiRequest(ids=request.match_info, query=request.query, body=body))
            if isinstance(result, StoredMedia):
                return await self._file_response(request, result)
            if route.status == _CREATED:
                # The response to a creation has the id.
                created = as_object(result.get("verification")) or EMPTY
                facts.session_id = f"{created.get('id')}"
            return json_response(result, status=route.status)

        return handle

    async def _explain(self, request: web.Request, signed: Signed, error: HTTPError) -> SignatureVerdict:
        """Explain why a request was refused, in a thread, because it hashes the body many times."""
        facts = request[FACTS]
        others = {
            "an empty text": b"",
            "the path": request.path.encode(),
            "the URL": str(request.url).encode(),
        }
        if "id" in request.match_info:
            others["the id in the path"] = request.match_info["id"].encode()
        if signed is Signed.FEEDBACK and facts.signed is not None:
            others["the raw body alone"] = await request.read()
        refused = RefusedRequest(
            headers=request.headers,
            signed=facts.signed,
            expected=_EXPECTED_TEXT.get(signed, "the raw body"),
            others=others,
            refusal=error.message,
            lacks_key=error.code == _auth.KEY_MISSING,
        )
        return await to_thread.run_sync(explain_refusal, refused, self._service.credentials)

    async def _read_signed(self, request: web.Request, signed: Signed) -> JsonObject:
        """Authenticate a request and return its body."""
        if signed is Signed.FEEDBACK:
            return await self._read_feedback(request)
        if signed is Signed.BODY_AND_API_KEY:
            _auth.check_api_key(request.headers, self._service.credentials)
        _auth.check_client(request.headers, self._service.credentials)
        if signed is Signed.ID:
            self._check_signature(request, request.match_info["id"].encode(), of_body=False)
            return EMPTY
        if signed is Signed.FACES:
            body = await self._read_faces(request)
            self._check_signature(request, body, of_body=True)
            # Parsing 180 MB of JSON would block the loop for a second.
            return await to_thread.run_sync(_load_body, body)
        request[FACTS].signed = body = await request.read()
        if signed is Signed.BODY or _auth.signature_of(request.headers) is not None:
            self._check_signature(request, body, of_body=True)
        return _load_body(body)

    async def _read_faces(self, request: web.Request) -> bytes:
        body = bytearray()
        async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > _MAX_FACES_BYTES:
                raise HTTPError(self._service.options.oversize_status, None, "Request body is too large")
        return bytes(body)

    async def _read_feedback(self, request: web.Request) -> JsonObject:
        _auth.check_feedback_client(request.headers, self._service.credentials)
        body = await request.read()
        is_post = request.method == "POST"
        payload = request.path.encode()
        if is_post and self._service.options.feedback_signs_body:
            payload += b"\n" + body
        self._check_signature(request, payload, of_body=is_post)
        return _load_body(body) if is_post else EMPTY

    async def _receive_upload(self, request: web.Request) -> web.StreamResponse:
        """Store a file while its body arrives, so that memory does not grow with it."""
        _auth.check_client(request.headers, self._service.credentials)
        session_id, media_id = request.match_info["id"], str(uuid4())
        verifier = self._service.credentials.verifier()
        parser = UploadParser(oversize_status=self._service.options.oversize_status)
        kept = bytearray()
        async with self._media_store.incoming(media_id) as incoming:
            error: HTTPError | None = None
            async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                verifier.update(chunk)
                if len(kept) <= MAX_EXPLAINED_BYTES:
                    kept += chunk
                try:
                    await incoming.write(parser.feed(chunk) if error is None else b"")
                except HTTPError as raised:
                    # A body that is too large is refused before its end: the rest would cost bandwidth for nothing.
                    if raised.status == self._service.options.oversize_status:
                        raise
                    # A wrong signature is reported first, and to check it the whole body must be read.
                    error = raised
            if len(kept) <= MAX_EXPLAINED_BYTES:
                request[FACTS].signed = bytes(kept)
            self._verify(request, verifier, of_body=True)
            if error is not None:
                raise error
            last, parsed = parser.finish()
            context = "nfc" if parsed.image is None else _validation.check_context(parsed.image.get("context"))
            self._service.check_upload(session_id)
            await incoming.write(last)
            stored = await incoming.finish(context=context, mimetype=parsed.mimetype)
            body = self._endpoints.upload_media(ApiRequest(ids=request.match_info, media=(stored,)))
            incoming.keep()
        return json_response(body)

    async def _file_response(self, request: web.Request, stored: StoredMedia) -> web.StreamResponse:
        """Respond with a file. Its headers carry the signature, so all of it is read before its first byte is sent."""
        request[FILE] = stored.path
        try:
            signature = await self._media_store.signature(stored.path, request[SECRET])
            # A client that disconnects cancels this handler; `web.FileResponse` may then leave its file open.
            is_small = stored.size <= _SMALL_FILE_BYTES
            body = await to_thread.run_sync(stored.path.read_bytes) if is_small else None
        except OSError:
            # Someone removed the file from a media_folder of their own, or a reset removes it at this moment.
            raise HTTPError(404, None, "Media not found") from None
        headers = {"Content-Type": stored.mimetype, **_auth.signature_headers(self._service.credentials, signature)}
        if body is not None:
            return web.Response(body=body, headers=headers)
        return web.FileResponse(stored.path, chunk_size=_CHUNK_BYTES, headers=headers)

    def _check_signature(self, request: web.Request, payload: bytes, *, of_body: bool) -> None:
        request[FACTS].signed = payload
        verifier = self._service.credentials.verifier()
        verifier.update(payload)
        self._verify(request, verifier, of_body=of_body)

    def _verify(self, request: web.Request, verifier: Verifier, *, of_body: bool) -> None:
        index = _auth.check_signature(verifier, _auth.signature_of(request.headers), of_body=of_body)
        request[SECRET] = self._service.credentials.secrets[index]
        request[FACTS].signature = VALID


def json_response(body: JsonObject, *, status: int = 200) -> web.Response:
    """Return a response with a JSON body."""
    return web.Response(body=dump_json(body), status=status, content_type="application/json")


def _load_body(body: bytes) -> JsonObject:
    try:
        return load_object(body)
    except DecodeError:
        raise HTTPError(400, "1104", "Request body is not a JSON object") from None
