"""One pure function for each endpoint: arguments in, a signed request out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve
from pybase64 import b64encode

from veriff_async._protocol import validation
from veriff_async._protocol.image_header import detect_type
from veriff_async._protocol.json.encode import render
from veriff_async._protocol.request import Request, feedback, signed_id, streamed, with_body, without_nulls
from veriff_async._protocol.session_request import CreateOptions, RegistryOptions, create_body, registry_body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from veriff_async.credentials import Credentials
    from veriff_async.models.collected import CollectedData
    from veriff_async.models.faces import FaceImage
    from veriff_async.models.feedback import FraudReport
    from veriff_async.models.media import NfcData
    from veriff_async.models.person import Person

__all__ = (
    "address",
    "address_media",
    "attempt_media",
    "attempts",
    "certificates",
    "create_session",
    "curp_registry",
    "decision",
    "delete_session",
    "download_certificate_file",
    "download_media",
    "fraud_categories",
    "fraud_reports",
    "full_auto_decision",
    "import_faces",
    "ine_curp_registry",
    "ine_registry",
    "person",
    "report_fraud",
    "send_collected_data",
    "session_media",
    "stop_monitoring",
    "submit_session",
    "timestamps",
    "transportation_registry",
    "upload_media",
    "upload_nfc",
    "validate_registry",
    "validate_registry_sync",
    "watchlist_screening",
)

_VERSION = "version=1.0.0"


def create_session(credentials: Credentials, options: CreateOptions) -> Request:
    """Build ``POST /v1/sessions``; its signature is optional for Veriff, and always given.

    Raises:
        InvalidArgumentError: A value would be refused; the message names the field.

    See https://devdocs.veriff.com/apidocs/v1sessions.
    """
    return with_body(credentials, "POST", "/v1/sessions", create_body(options), creates_session=True)


def submit_session(credentials: Credentials, session_id: str) -> Request:
    """Build ``PATCH /v1/sessions/{id}`` (https://devdocs.veriff.com/apidocs/v1sessionsid-2)."""
    return with_body(credentials, "PATCH", _session(session_id), {"verification": {"status": "submitted"}})


def delete_session(credentials: Credentials, session_id: str) -> Request:
    """Build ``DELETE /v1/sessions/{id}``, of which five an hour are allowed.

    See https://devdocs.veriff.com/apidocs/v1sessionsid-3.
    """
    return evolve(signed_id(credentials, _session(session_id), session_id, method="DELETE"), quota=True)


def upload_media(credentials: Credentials, session_id: str, signature: str) -> Request:
    """Build ``POST /v1/sessions/{id}/media`` (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3).

    Args:
        credentials: Who uploads.
        session_id: The session.
        signature: Signature of the body, which is streamed.
    """
    return streamed(credentials, _session(session_id, "/media"), signature)


def upload_nfc(credentials: Credentials, session_id: str, nfc: NfcData) -> Request:
    """Build ``POST /v1/sessions/{id}/media`` with what was read from a chip.

    The four members are documented in words; the member around them is a guess, after ``nfcDocuments`` in lists.

    See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
    """
    validation.check_nfc(nfc)
    parts = {name: b64encode(getattr(nfc, name)).decode() for name in ("com", "sod", "dg1", "dg2")}
    return with_body(credentials, "POST", _session(session_id, "/media"), {"nfcDocument": parts})


def session_media(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/media`` (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2)."""
    return signed_id(credentials, _session(session_id, "/media"), session_id)


def attempt_media(credentials: Credentials, attempt_id: str) -> Request:
    """Build ``GET /v1/attempts/{id}/media`` (https://devdocs.veriff.com/apidocs/v1attemptsidmedia-1)."""
    return signed_id(credentials, f"/v1/attempts/{validation.check_id('attempt_id', attempt_id)}/media", attempt_id)


def download_media(credentials: Credentials, media_id: str) -> Request:
    """Build ``GET /v1/media/{id}`` (https://devdocs.veriff.com/apidocs/v1mediaid-1)."""
    request = signed_id(credentials, f"/v1/media/{validation.check_id('media_id', media_id)}", media_id)
    return evolve(request, headers={**request.headers, "Accept": "*/*"})


def certificates(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/certificates`` (https://devdocs.veriff.com/apidocs/list-session-certificates)."""
    return signed_id(credentials, _session(session_id, "/certificates"), session_id)


def download_certificate_file(credentials: Credentials, session_id: str, certificate_id: str, file_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/certificates/{certificateId}/files/{fileId}``; the session's id is signed.

    See https://devdocs.veriff.com/apidocs/download-certificate-source-document.
    """
    certificate_id, file_id = (
        validation.check_id("certificate_id", certificate_id),
        validation.check_id("file_id", file_id),
    )
    path = _session(session_id, f"/certificates/{certificate_id}/files/{file_id}")
    request = signed_id(credentials, path, session_id)
    return evolve(request, headers={**request.headers, "Accept": "*/*"})


def import_faces(
    credentials: Credentials, images: Sequence[FaceImage], session_ids: Sequence[str], extra: Mapping[str, object]
) -> Request:
    """Build ``POST /v1/faces/import``.

    That images have names, that sessions can be referred to instead, and that there are at most ten are documented.
    The names of the members are partly a guess: ``images`` with ``name`` and ``content``, a data URI as for uploads,
    and ``sessionIds``. `extra` goes before them.

    Raises:
        InvalidArgumentError: There are none or more than ten, or one would be refused.

    See https://devdocs.veriff.com/apidocs/bulk-import-face-images.
    """
    validation.check_faces(images, session_ids)
    body: dict[str, object] = {}
    if images:
        body["images"] = [
            {
                "name": image.name,
                "content": f"data:{detect_type(image.content)};base64,{b64encode(image.content).decode()}",
            }
            for image in images
        ]
    if session_ids:
        body["sessionIds"] = list(session_ids)
    return with_body(
        credentials,
        "POST",
        "/v1/faces/import",
        body | without_nulls(validation.check_mapping("extra", extra)),
        repeatable=False,
    )


def send_collected_data(credentials: Credentials, session_id: str, data: CollectedData) -> Request:
    """Build ``POST /v1/sessions/{id}/collected-data``; whether Veriff recognises a repetition is not documented.

    Raises:
        InvalidArgumentError: A required value is missing, or one would be refused.

    See https://devdocs.veriff.com/apidocs/v1sessionsidcollected-data-1.
    """
    validation.check_collected_data(data)
    body = without_nulls({**data.extra, **render(data)})
    return with_body(credentials, "POST", _session(session_id, "/collected-data"), body, repeatable=False)


def attempts(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/attempts`` (https://devdocs.veriff.com/apidocs/v1sessionsidattempts-1)."""
    return signed_id(credentials, _session(session_id, "/attempts"), session_id)


def decision(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/decision`` (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1)."""
    return signed_id(credentials, _session(session_id, "/decision"), session_id)


def full_auto_decision(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/decision/fullauto``; seen in other clients, not documented any more."""
    return signed_id(credentials, _session(session_id, f"/decision/fullauto?{_VERSION}"), session_id)


def ine_registry(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/decision/ine-registry``.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1.
    """
    return signed_id(credentials, _session(session_id, f"/decision/ine-registry?{_VERSION}"), session_id)


def curp_registry(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/decision/curp-registry``.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1.
    """
    return signed_id(credentials, _session(session_id, f"/decision/curp-registry?{_VERSION}"), session_id)


def ine_curp_registry(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/decision/combined-ine-curp-registry``.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncombined-ine-curp-registry-1.
    """
    path = _session(session_id, f"/decision/combined-ine-curp-registry?{_VERSION}")
    return signed_id(credentials, path, session_id)


def person(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/person`` (https://devdocs.veriff.com/apidocs/v1sessionsidperson-1)."""
    return signed_id(credentials, _session(session_id, "/person"), session_id)


def watchlist_screening(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/watchlist-screening``.

    See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening-1.
    """
    return signed_id(credentials, _session(session_id, "/watchlist-screening"), session_id)


def stop_monitoring(credentials: Credentials, session_id: str) -> Request:
    """Build ``PATCH /v1/sessions/{id}/watchlist-screening``.

    See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening.
    """
    path = _session(session_id, "/watchlist-screening")
    return with_body(credentials, "PATCH", path, {"monitorStatus": "disabled"})


def validate_registry(
    credentials: Credentials, known: Person | Mapping[str, object], options: RegistryOptions
) -> Request:
    """Build ``POST /v1/validate-registry``; a session is made and submitted by it.

    Raises:
        InvalidArgumentError: What the registries need is missing, or a value would be refused.

    See https://devdocs.veriff.com/apidocs/v1validate-registry.
    """
    body = registry_body(known, options)
    return with_body(credentials, "POST", "/v1/validate-registry", body, creates_session=True)


def validate_registry_sync(
    credentials: Credentials, known: Person | Mapping[str, object], options: RegistryOptions
) -> Request:
    """Build ``POST /v1/validate-registry`` of the synchronous host, whose answer has the result.

    Raises:
        InvalidArgumentError: What the registries need is missing, or a value would be refused.

    See https://devdocs.veriff.com/apidocs/validate-registry-3.
    """
    body = registry_body(known, options)
    return with_body(credentials, "POST", "/v1/validate-registry", body, creates_session=True, host="sync")


def fraud_categories(credentials: Credentials) -> Request:
    """Build ``GET /v1/feedback/fraud-categories`` (https://devdocs.veriff.com/apidocs/get-fraud-categories)."""
    return feedback(credentials, "/v1/feedback/fraud-categories")


def report_fraud(credentials: Credentials, reports: Sequence[FraudReport]) -> Request:
    """Build ``POST /v1/feedback/fraud-reports``.

    A report that exists already is refused, so the answer to a repetition would deny what the first try did.

    Raises:
        InvalidArgumentError: A report would be refused; the message says which and why.

    See https://devdocs.veriff.com/apidocs/report-fraud.
    """
    body = {"reports": [render(report) for report in validation.check_fraud_reports(reports)]}
    return feedback(credentials, "/v1/feedback/fraud-reports", body, repeatable=False)


def fraud_reports(credentials: Credentials, session_ids: Sequence[str]) -> Request:
    """Build ``POST /v1/feedback/fraud-reports/retrieve``.

    Raises:
        InvalidArgumentError: There are none, or more than ten.

    See https://devdocs.veriff.com/apidocs/retrieve-fraud-reports.
    """
    body = {"sessionIds": validation.check_fraud_sessions(session_ids)}
    return feedback(credentials, "/v1/feedback/fraud-reports/retrieve", body)


def timestamps(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/timestamps``; seen in an older client, not documented."""
    return signed_id(credentials, _session(session_id, "/timestamps"), session_id)


def transportation_registry(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/transportation-registry/{id}``; documented once, its path seen in other clients."""
    path = f"/v1/transportation-registry/{validation.check_id('session_id', session_id)}"
    return signed_id(credentials, path, session_id)


def address(credentials: Credentials, address_id: str) -> Request:
    """Build ``GET /v1/address/{id}``, the older proof of address; documented once, its path is a guess."""
    return signed_id(credentials, f"/v1/address/{validation.check_id('address_id', address_id)}", address_id)


def address_media(credentials: Credentials, address_id: str) -> Request:
    """Build ``GET /v1/address/{id}/media``, the older proof of address; documented once, its path is a guess."""
    return signed_id(credentials, f"/v1/address/{validation.check_id('address_id', address_id)}/media", address_id)


def _session(session_id: str, below: str = "") -> str:
    return f"/v1/sessions/{validation.check_id('session_id', session_id)}{below}"
