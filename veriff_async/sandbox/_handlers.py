"""Where requests are handled, one method for each endpoint: who asks, what for, and the desk's answer."""

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
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.sandbox import _auth, _session_data, _validation
from veriff_async.sandbox._errors import Refusal
from veriff_async.sandbox._records import StoredMedia
from veriff_async.sandbox._upload_parser import Intake

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async._protocol.signing import Verifier
    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._records import RegistryResult, Session
    from veriff_async.sandbox._service import Desk
    from veriff_async.sandbox._store import Store

__all__ = ("FILE", "FORM", "SECRET", "Counter", "answered")

SECRET: Final = web.RequestKey("secret", str)
"""The secret that signed a request, and is to sign its answer."""

FORM: Final = web.RequestKey("form", str)
"""The form in which a request wants its errors."""

FILE: Final = web.RequestKey("file", Path)
"""The file that a request is answered with."""

_CHUNK: Final = 256 * 1024
_SMALL_FILE: Final = 1024 * 1024
_MOST_FACES: Final = MAX_IMPORTED_FACES * MAX_IMAGE_BASE64 + 64 * 1024
"""Bytes of an import: the limits of uploads, ten times."""


class Counter:
    """The endpoints of the API."""

    def __init__(self, desk: Desk, store: Store) -> None:
        """Take who answers, and where pictures are kept."""
        self._desk = desk
        self._store = store

    async def create_session(self, request: web.Request) -> web.StreamResponse:
        """Handle ``POST /v1/sessions``, whose signature is optional."""
        return answered(self._desk.create(await self._optionally_signed(request)), status=201)

    async def submit_session(self, request: web.Request) -> web.StreamResponse:
        """Handle ``PATCH /v1/sessions/{id}``."""
        body = await self._signed_body(request)
        return answered(self._desk.submit(request.match_info["id"], body))

    async def delete_session(self, request: web.Request) -> web.StreamResponse:
        """Handle ``DELETE /v1/sessions/{id}``, whose errors have a form of their own."""
        request[FORM] = "deletion"
        return answered(self._desk.delete(self._signed_id(request)))

    async def decision(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/decision``."""
        return answered(self._desk.decision(self._signed_id(request)))

    async def full_auto_decision(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/decision/fullauto``."""
        return answered(self._desk.full_auto_decision(self._signed_id(request)))

    async def attempts(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/attempts``."""
        return self._asked(request, _session_data.attempts)

    async def person(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/person``."""
        return self._asked(request, _session_data.person)

    async def watchlist_screening(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/watchlist-screening``."""
        return self._asked(request, _session_data.watchlist_screening)

    async def timestamps(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/timestamps``."""
        return self._asked(request, _session_data.timestamps)

    async def stop_monitoring(self, request: web.Request) -> web.StreamResponse:
        """Handle ``PATCH /v1/sessions/{id}/watchlist-screening``."""
        body = await self._signed_body(request)
        session_id = request.match_info["id"]
        return answered(self._desk.ask(session_id, lambda session: _session_data.stop_monitoring(session, body)))

    async def session_media(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/media``."""
        return answered(self._desk.session_media(self._signed_id(request)))

    async def attempt_media(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/attempts/{id}/media``, for which the id of the attempt is signed."""
        return answered(self._desk.attempt_media(self._signed_id(request)))

    async def download_media(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/media/{id}``: the file itself, signed as a whole before its first byte."""
        return await self._file(request, self._desk.stored_media(self._signed_id(request)))

    async def certificates(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/certificates``."""
        return self._asked(request, lambda session: _session_data.certificates(session, self._desk.host))

    async def download_certificate_file(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/certificates/{certificateId}/files/{fileId}``, like a media file."""
        certificate_id, file_id = request.match_info["certificate_id"], request.match_info["file_id"]
        stored = self._desk.ask(
            self._signed_id(request), lambda session: _session_data.certificate_file(session, certificate_id, file_id)
        )
        return await self._file(request, stored)

    async def import_faces(self, request: web.Request) -> web.StreamResponse:
        """Handle ``POST /v1/faces/import``."""
        _auth.check_client(request.headers, self._desk.credentials)
        body = bytearray()
        async for chunk in request.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > _MOST_FACES:
                raise Refusal(self._desk.options.oversize_status, None, "Request body is too large")
        self._check_body(request, bytes(body))
        answer = self._desk.import_faces(await to_thread.run_sync(_object, bytes(body)))
        return answered(answer, status=202)

    async def _file(self, request: web.Request, stored: StoredMedia) -> web.StreamResponse:
        request[FILE] = stored.path
        try:
            signature = await self._store.signature(stored.path, request[SECRET])
        except OSError:
            raise Refusal(404, None, "Media not found") from None  # its file was removed from the user's folder
        headers = {"Content-Type": stored.mimetype, **_auth.signed_headers(self._desk.credentials, signature)}
        if stored.size <= _SMALL_FILE:
            # A client that leaves early cancels this; `web.FileResponse` may then leave its file open.
            return web.Response(body=await to_thread.run_sync(stored.path.read_bytes), headers=headers)
        return web.FileResponse(stored.path, chunk_size=_CHUNK, headers=headers)

    async def send_collected_data(self, request: web.Request) -> web.StreamResponse:
        """Handle ``POST /v1/sessions/{id}/collected-data``."""
        body = await self._signed_body(request)
        return answered(self._desk.ask(request.match_info["id"], lambda session: _session_data.collect(session, body)))

    async def ine_registry(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/decision/ine-registry``."""
        return self._registry(request, IneResult)

    async def curp_registry(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/decision/curp-registry``."""
        return self._registry(request, CurpResult)

    async def ine_curp_registry(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/sessions/{id}/decision/combined-ine-curp-registry``."""
        return self._registry(request, IneCurpResult)

    async def transportation_registry(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/transportation-registry/{id}``."""
        return self._registry(request, TransportationResult)

    async def validate_registry(self, request: web.Request) -> web.StreamResponse:
        """Handle ``POST /v1/validate-registry``, for which no signature is documented."""
        return answered(self._desk.validate_registry(await self._optionally_signed(request)), status=201)

    async def validate_registry_sync(self, request: web.Request) -> web.StreamResponse:
        """Handle the same call of the synchronous host, which wants the API key twice."""
        _auth.check_api_key(request.headers, self._desk.credentials)
        return answered(self._desk.validate_registry_sync(await self._optionally_signed(request)))

    async def address(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/address/{id}``."""
        return answered(self._desk.ask_address(self._signed_id(request), _session_data.address))

    async def address_media(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/address/{id}/media``."""
        return answered(self._desk.address_media(self._signed_id(request)))

    async def fraud_categories(self, request: web.Request) -> web.StreamResponse:
        """Handle ``GET /v1/feedback/fraud-categories``, whose path is signed."""
        await self._signed_feedback(request)
        return answered(self._desk.feedback(lambda frauds, _: frauds.categories()))

    async def report_fraud(self, request: web.Request) -> web.StreamResponse:
        """Handle ``POST /v1/feedback/fraud-reports``."""
        body = _object(await self._signed_feedback(request))
        return answered(self._desk.feedback(lambda frauds, now: frauds.report(body, now=now)))

    async def fraud_reports(self, request: web.Request) -> web.StreamResponse:
        """Handle ``POST /v1/feedback/fraud-reports/retrieve``."""
        body = _object(await self._signed_feedback(request))
        return answered(self._desk.feedback(lambda frauds, _: frauds.retrieve(body)))

    async def upload_media(self, request: web.Request) -> web.StreamResponse:
        """Handle ``POST /v1/sessions/{id}/media``: a picture, or what was read from a chip."""
        _auth.check_client(request.headers, self._desk.credentials)
        session_id, media_id = request.match_info["id"], str(uuid4())
        verifier = self._desk.credentials.verifier()
        intake = Intake(oversize_status=self._desk.options.oversize_status)
        async with self._store.incoming(media_id) as incoming:
            refusal: Refusal | None = None
            async for chunk in request.content.iter_chunked(_CHUNK):
                verifier.update(chunk)
                try:
                    await incoming.write(intake.feed(chunk) if refusal is None else b"")
                except Refusal as found:
                    if found.status == self._desk.options.oversize_status:
                        raise
                    # Whoever is not Veriff's customer is told that first, and for that the whole body is needed.
                    refusal = found
            self._check(request, verifier, of_body=True)
            if refusal is not None:
                raise refusal
            last, described = intake.finish()
            context = "nfc" if described.image is None else _validation.check_context(described.image.get("context"))
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
        return answered(answer)

    def _asked(self, request: web.Request, question: Callable[[Session], JsonObject]) -> web.Response:
        return answered(self._desk.ask(self._signed_id(request), question))

    def _registry(self, request: web.Request, kind: type[RegistryResult]) -> web.Response:
        version = request.query.get("version")
        return self._asked(request, lambda session: _session_data.registry(session, kind, version))

    def _signed_id(self, request: web.Request) -> str:
        _auth.check_client(request.headers, self._desk.credentials)
        identity = request.match_info["id"]
        verifier = self._desk.credentials.verifier()
        verifier.update(identity.encode())
        self._check(request, verifier, of_body=False)
        return identity

    async def _signed_body(self, request: web.Request) -> JsonObject:
        _auth.check_client(request.headers, self._desk.credentials)
        body = await request.read()
        self._check_body(request, body)
        return _object(body)

    async def _optionally_signed(self, request: web.Request) -> JsonObject:
        _auth.check_client(request.headers, self._desk.credentials)
        body = await request.read()
        if _auth.signature_of(request.headers) is not None:
            self._check_body(request, body)
        return _object(body)

    async def _signed_feedback(self, request: web.Request) -> bytes:
        request[FORM] = "feedback"
        _auth.check_feedback_client(request.headers, self._desk.credentials)
        body = await request.read()
        verifier = self._desk.credentials.verifier()
        verifier.update(request.path.encode())
        if request.method == "POST" and self._desk.options.feedback_signs_body:
            verifier.update(b"\n" + body)
        self._check(request, verifier, of_body=request.method == "POST")
        return body

    def _check_body(self, request: web.Request, body: bytes) -> None:
        verifier = self._desk.credentials.verifier()
        verifier.update(body)
        self._check(request, verifier, of_body=True)

    def _check(self, request: web.Request, verifier: Verifier, *, of_body: bool) -> None:
        place = _auth.check_signature(verifier, _auth.signature_of(request.headers), of_body=of_body)
        # Documented: an answer is signed with the secret that signed the request.
        request[SECRET] = self._desk.credentials.secrets[place]


def answered(body: JsonObject, *, status: int = 200) -> web.Response:
    """Make an answer of JSON."""
    return web.Response(body=dump_json(body), status=status, content_type="application/json")


def _object(body: bytes) -> JsonObject:
    try:
        return load_object(body)
    except DecodeError:
        raise Refusal(400, "1104", "Request body is not a JSON object") from None
