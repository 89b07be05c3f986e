"""Every endpoint of Veriff's API, once: the arguments in, a `Call` out, which has the request and parses the response.

`Transport.send` signs and sends a call. Each `parse` raises `ApiError` if Veriff refused, and `ResponseError` for a
success that cannot be parsed. A call for an endpoint that Veriff does not document says in its docstring how it is
known; a comment marks each guess about the form of a response.

Models that few programs use are imported in the functions that parse them: creating their classes takes a tenth of the
time that aiohttp takes to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from attrs import evolve
from pybase64 import b64encode

from veriff_async._protocol import validation
from veriff_async._protocol.call import Call
from veriff_async._protocol.image_header import detect_type
from veriff_async._protocol.json.decode import dump
from veriff_async._protocol.json.encode import to_request_json
from veriff_async._protocol.request import without_nulls
from veriff_async._protocol.response import (
    api_error,
    is_refusal,
    parse_model,
    parse_models,
    success_json,
    unreadable_response,
)
from veriff_async._protocol.session_request import CreateOptions, RegistryOptions, create_body, registry_body
from veriff_async.models.json import EMPTY, as_object
from veriff_async.models.media import MediaList, Timestamp, UploadedMedia
from veriff_async.models.session import SessionInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from veriff_async._protocol.base_url import Host
    from veriff_async._protocol.request import Method
    from veriff_async._protocol.response import Response
    from veriff_async.models.attempt import Attempt
    from veriff_async.models.certificate import Certificate
    from veriff_async.models.collected import CollectedData, CollectedReceipt
    from veriff_async.models.decision import Decision
    from veriff_async.models.faces import FaceImage, FaceImportReceipt
    from veriff_async.models.feedback import FraudCategoryInfo, FraudReport, FraudReportLookup, FraudReportReceipt
    from veriff_async.models.fullauto import FullAutoDecision
    from veriff_async.models.json import JsonObject
    from veriff_async.models.media import NfcData
    from veriff_async.models.person import Person
    from veriff_async.models.record import PersonRecord
    from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
    from veriff_async.models.watchlist import Monitoring, WatchlistScreening

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

_Result = TypeVar("_Result")

_SESSION: Final = "/v1/sessions/{session_id}"
_SESSION_MEDIA: Final = "/v1/sessions/{session_id}/media"
_VERSION: Final = "version=1.0.0"
_WRONG_TRANSITION: Final = "1304"
_NOT_FOUND: Final = 404
_SUBMITTED: Final = ("success", "submitted")


# Sessions


def create_session(options: CreateOptions) -> Call[SessionInfo]:
    """Call ``POST /v1/sessions``. Veriff does not require its signature; it is always sent.

    Raises:
        InvalidArgumentError: Veriff would refuse a value; the message names the field.

    See https://devdocs.veriff.com/apidocs/v1sessions.
    """
    return _write("create_session", "POST", "/v1/sessions", create_body(options), _parse_session, creates_session=True)


def _parse_session(response: Response) -> SessionInfo:
    info = parse_model(response, SessionInfo, success_json(response).get("verification"), "$.verification")
    if not validation.is_id(info.id):
        raise unreadable_response(response, ("expected an id @ $.verification.id",))
    return info


def submit_session(session_id: str) -> Call[SessionInfo | None]:
    """Call ``PATCH /v1/sessions/{id}`` (https://devdocs.veriff.com/apidocs/v1sessionsid-2).

    The result is ``None`` if the response reports success without describing the session. It is ``None`` too if Veriff
    says that the session cannot be submitted from its status, and an earlier attempt of this call may be the reason:
    then the session is submitted.
    """
    body = {"verification": {"status": "submitted"}}
    return _write("submit_session", "PATCH", _SESSION, body, _parse_submission, session_id=session_id)


def _parse_submission(response: Response) -> SessionInfo | None:
    if response.repeated and is_refusal(response) and api_error(response).code == _WRONG_TRANSITION:
        return None
    root = success_json(response)
    session = as_object(root.get("verification")) or EMPTY
    # The reference shows the whole session; servers that stand in for Veriff were seen to answer with less.
    if "id" not in session and session.get("status", root.get("status")) in _SUBMITTED:
        return None
    return _parse_session(response)


def delete_session(session_id: str) -> Call[None]:
    """Call ``DELETE /v1/sessions/{id}``, which Veriff allows five times an hour.

    See https://devdocs.veriff.com/apidocs/v1sessionsid-3.
    """
    call = _read("delete_session", _SESSION, _parse_deletion, session_id=session_id)
    return evolve(call, method="DELETE", quota=True)


def _parse_deletion(response: Response) -> None:
    # A session that an earlier attempt of this call has deleted is not found.
    if not (response.repeated and response.status == _NOT_FOUND):
        success_json(response)


def send_collected_data(session_id: str, data: CollectedData) -> Call[CollectedReceipt]:
    """Call ``POST /v1/sessions/{id}/collected-data``; whether Veriff recognises a repetition is not documented.

    Raises:
        InvalidArgumentError: A required value is missing, or Veriff would refuse one.

    See https://devdocs.veriff.com/apidocs/v1sessionsidcollected-data-1.
    """
    # `extra` comes first, so that it cannot replace the fields of the model.
    validation.check_collected_data(data)
    body = without_nulls({**data.extra, **to_request_json(data)})
    path = _SESSION + "/collected-data"
    return _write(
        "send_collected_data", "POST", path, body, _parse_collected_data, repeatable=False, session_id=session_id
    )


def _parse_collected_data(response: Response) -> CollectedReceipt:
    from veriff_async.models.collected import CollectedReceipt

    # Whether the response has a `data` member is a guess.
    return parse_model(response, CollectedReceipt, _data_or_root(success_json(response)))


def attempts(session_id: str) -> Call[tuple[Attempt, ...]]:
    """Call ``GET /v1/sessions/{id}/attempts``, newest first (https://devdocs.veriff.com/apidocs/v1sessionsidattempts-1)."""
    return _read("attempts", _SESSION + "/attempts", _parse_attempts, session_id=session_id)


def _parse_attempts(response: Response) -> tuple[Attempt, ...]:
    from veriff_async.models.attempt import Attempt

    return _parse_list(response, Attempt, "verifications")


# Media


def upload_media(session_id: str) -> Call[UploadedMedia]:
    """Call ``POST /v1/sessions/{id}/media`` with a streamed body (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3)."""
    # Repeatable although Veriff may then store a picture twice: `UploadedMedia.repeated` reports that.
    return Call(
        operation="upload_media",
        method="POST",
        path_template=_SESSION_MEDIA,
        # `str.replace` takes a third of the time of `_fill`, and there are more uploads than other calls.
        path=_SESSION_MEDIA.replace("{session_id}", validation.check_id("session_id", session_id)),
        parse=_parse_upload,
        session_id=session_id,
        is_streamed=True,
    )


def _parse_upload(response: Response) -> UploadedMedia:
    return _parse_receipt(response, "image")


def upload_nfc(session_id: str, nfc: NfcData) -> Call[UploadedMedia]:
    """Call ``POST /v1/sessions/{id}/media`` with the data of a chip.

    The four members are documented in words; the member around them is a guess, after ``nfcDocuments`` in lists.

    See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
    """
    # Raw bytes become base64; the upload of pictures streams instead, because those are large.
    validation.check_nfc(nfc)
    parts = {name: b64encode(getattr(nfc, name)).decode() for name in ("com", "sod", "dg1", "dg2")}
    body = {"nfcDocument": parts}
    return _write("upload_nfc", "POST", _SESSION_MEDIA, body, _parse_nfc, session_id=session_id)


def _parse_nfc(response: Response) -> UploadedMedia:
    return _parse_receipt(response, "nfcDocument")  # the name of the member is a guess


def _parse_receipt(response: Response, member: str) -> UploadedMedia:
    receipt = parse_model(response, UploadedMedia, success_json(response).get(member), f"$.{member}")
    return evolve(receipt, repeated=True) if response.repeated else receipt


def session_media(session_id: str) -> Call[MediaList]:
    """Call ``GET /v1/sessions/{id}/media`` (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2)."""
    return _read("session_media", _SESSION_MEDIA, _parse_media_list, session_id=session_id)


def attempt_media(attempt_id: str) -> Call[MediaList]:
    """Call ``GET /v1/attempts/{id}/media`` (https://devdocs.veriff.com/apidocs/v1attemptsidmedia-1)."""
    return _read("attempt_media", "/v1/attempts/{attempt_id}/media", _parse_media_list, attempt_id=attempt_id)


def _parse_media_list(response: Response) -> MediaList:
    return parse_model(response, MediaList, success_json(response))


def download_media(media_id: str) -> Call[None]:
    """Call ``GET /v1/media/{id}``, whose body is the file (https://devdocs.veriff.com/apidocs/v1mediaid-1)."""
    return _download("download_media", "/v1/media/{media_id}", media_id=media_id)


def certificates(session_id: str) -> Call[tuple[Certificate, ...]]:
    """Call ``GET /v1/sessions/{id}/certificates`` (https://devdocs.veriff.com/apidocs/list-session-certificates)."""
    return _read("certificates", _SESSION + "/certificates", _parse_certificates, session_id=session_id)


def _parse_certificates(response: Response) -> tuple[Certificate, ...]:
    from veriff_async.models.certificate import Certificate

    # The reference shows a list in `data`; that it may be in a member `certificates` is a guess.
    root = success_json(response)
    data = root.get("data", root)
    members = as_object(data)
    return parse_models(response, Certificate, data if members is None else members.get("certificates"), "certificates")


def download_certificate_file(session_id: str, certificate_id: str, file_id: str) -> Call[None]:
    """Call ``GET /v1/sessions/{id}/certificates/{certificateId}/files/{fileId}``; the session's id is signed.

    See https://devdocs.veriff.com/apidocs/download-certificate-source-document.
    """
    path = _SESSION + "/certificates/{certificate_id}/files/{file_id}"
    ids = {"session_id": session_id, "certificate_id": certificate_id, "file_id": file_id}
    return _download("download_certificate_file", path, **ids)


def timestamps(session_id: str) -> Call[tuple[Timestamp, ...]]:
    """Call ``GET /v1/sessions/{id}/timestamps``; seen in an older client, not documented."""
    return _read("timestamps", _SESSION + "/timestamps", _parse_timestamps, session_id=session_id)


def _parse_timestamps(response: Response) -> tuple[Timestamp, ...]:
    return _parse_list(response, Timestamp, "timestamps")


# Decisions and their data


def decision(session_id: str) -> Call[Decision | None]:
    """Call ``GET /v1/sessions/{id}/decision``; the result is ``None`` until there is a decision.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1.
    """
    return _read("decision", _SESSION + "/decision", _parse_decision, session_id=session_id)


def _parse_decision(response: Response) -> Decision | None:
    from veriff_async.models.decision import Decision

    root = success_json(response)
    # An undecided session is a success whose `verification` is null.
    return None if root.get("verification") is None else parse_model(response, Decision, root)


def full_auto_decision(session_id: str) -> Call[FullAutoDecision | None]:
    """Call ``GET /v1/sessions/{id}/decision/fullauto``; seen in other clients, not documented any more.

    The result is ``None`` until there is a decision.
    """
    return _read(
        "full_auto_decision",
        _SESSION + "/decision/fullauto",
        _parse_full_auto_decision,
        query=_VERSION,
        session_id=session_id,
    )


def _parse_full_auto_decision(response: Response) -> FullAutoDecision | None:
    # Seen in other clients: an undecided session is not found, and the response is flat where the webhook is not. Both
    # forms are parsed.
    if response.status == _NOT_FOUND:
        return None
    root = success_json(response)
    from veriff_async.models.fullauto import FullAutoDecision

    return parse_model(response, FullAutoDecision, as_object(_data_or_root(root).get("verification")) or root)


def person(session_id: str) -> Call[PersonRecord]:
    """Call ``GET /v1/sessions/{id}/person`` (https://devdocs.veriff.com/apidocs/v1sessionsidperson-1)."""
    return _read("person", _SESSION + "/person", _parse_person, session_id=session_id)


def _parse_person(response: Response) -> PersonRecord:
    from veriff_async.models.record import PersonRecord

    return parse_model(response, PersonRecord, success_json(response).get("person"), "$.person")


def watchlist_screening(session_id: str) -> Call[WatchlistScreening]:
    """Call ``GET /v1/sessions/{id}/watchlist-screening``.

    See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening-1.
    """
    return _read(
        "watchlist_screening", _SESSION + "/watchlist-screening", _parse_watchlist_screening, session_id=session_id
    )


def _parse_watchlist_screening(response: Response) -> WatchlistScreening:
    from veriff_async.models.watchlist import WatchlistScreening

    return parse_model(response, WatchlistScreening, success_json(response).get("data"), "$.data")


def stop_monitoring(session_id: str) -> Call[Monitoring]:
    """Call ``PATCH /v1/sessions/{id}/watchlist-screening``.

    See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening.
    """
    path, body = _SESSION + "/watchlist-screening", {"monitorStatus": "disabled"}
    return _write("stop_monitoring", "PATCH", path, body, _parse_monitoring, session_id=session_id)


def _parse_monitoring(response: Response) -> Monitoring:
    from veriff_async.models.watchlist import Monitoring

    return parse_model(response, Monitoring, success_json(response).get("data"), "$.data")


# Registries


def validate_registry(person: Person | Mapping[str, object], options: RegistryOptions) -> Call[SessionInfo]:
    """Call ``POST /v1/validate-registry``, which creates and submits a session.

    Raises:
        InvalidArgumentError: A value that the registries need is missing, or Veriff would refuse one.

    See https://devdocs.veriff.com/apidocs/v1validate-registry.
    """
    body = registry_body(person, options)
    return _write("validate_registry", "POST", "/v1/validate-registry", body, _parse_session, creates_session=True)


def validate_registry_sync(person: Person | Mapping[str, object], options: RegistryOptions) -> Call[Decision]:
    """Call ``POST /v1/validate-registry`` of the synchronous host, whose response has the result.

    Raises:
        InvalidArgumentError: A value that the registries need is missing, or Veriff would refuse one.

    See https://devdocs.veriff.com/apidocs/validate-registry-3.
    """
    body = registry_body(person, options)
    path, parse = "/v1/validate-registry", _parse_registry_decision
    return _write("validate_registry_sync", "POST", path, body, parse, creates_session=True, host="sync")


def _parse_registry_decision(response: Response) -> Decision:
    from veriff_async.models.decision import Decision

    return parse_model(response, Decision, success_json(response))  # that it is a decision is a guess


def ine_registry(session_id: str) -> Call[IneResult]:
    """Call ``GET /v1/sessions/{id}/decision/ine-registry``.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1.
    """
    return _read("ine_registry", _SESSION + "/decision/ine-registry", _parse_ine, query=_VERSION, session_id=session_id)


def _parse_ine(response: Response) -> IneResult:
    from veriff_async.models.registry import IneResult

    # The root of the response is a guess.
    return parse_model(response, IneResult, _data_or_root(success_json(response)))


def curp_registry(session_id: str) -> Call[CurpResult]:
    """Call ``GET /v1/sessions/{id}/decision/curp-registry``.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1.
    """
    return _read(
        "curp_registry", _SESSION + "/decision/curp-registry", _parse_curp, query=_VERSION, session_id=session_id
    )


def _parse_curp(response: Response) -> CurpResult:
    from veriff_async.models.registry import CurpResult

    return parse_model(response, CurpResult, success_json(response))


def ine_curp_registry(session_id: str) -> Call[IneCurpResult]:
    """Call ``GET /v1/sessions/{id}/decision/combined-ine-curp-registry``.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncombined-ine-curp-registry-1.
    """
    path = _SESSION + "/decision/combined-ine-curp-registry"
    return _read("ine_curp_registry", path, _parse_ine_curp, query=_VERSION, session_id=session_id)


def _parse_ine_curp(response: Response) -> IneCurpResult:
    from veriff_async.models.registry import IneCurpResult

    return parse_model(response, IneCurpResult, success_json(response))


def transportation_registry(session_id: str) -> Call[TransportationResult]:
    """Call ``GET /v1/transportation-registry/{id}``; documented once, its path seen in other clients."""
    path = "/v1/transportation-registry/{session_id}"
    return _read("transportation_registry", path, _parse_transportation, session_id=session_id)


def _parse_transportation(response: Response) -> TransportationResult:
    from veriff_async.models.registry import TransportationResult

    # The form of the response is a guess.
    return parse_model(response, TransportationResult, _data_or_root(success_json(response)))


# Faces and fraud


def import_faces(
    images: Sequence[FaceImage], session_ids: Sequence[str], extra: Mapping[str, object]
) -> Call[FaceImportReceipt]:
    """Call ``POST /v1/faces/import``.

    That images have names, that sessions can be referred to instead, and that there are at most ten are documented.
    The names of the members are partly a guess: ``images`` with ``name`` and ``content``, a data URI as for uploads,
    and ``sessionIds``. `extra` replaces them.

    Raises:
        InvalidArgumentError: There are none or more than ten, or Veriff would refuse one.

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
    # Last, so that `extra` can correct the guessed names.
    body |= without_nulls(validation.check_mapping("extra", extra))
    return _write("import_faces", "POST", "/v1/faces/import", body, _parse_face_import, repeatable=False)


def _parse_face_import(response: Response) -> FaceImportReceipt:
    from veriff_async.models.faces import FaceImportReceipt

    # Whether the response has a `data` member is a guess.
    root = success_json(response)
    return parse_model(response, FaceImportReceipt, root if "availableQuota" in root else _data_or_root(root))


def fraud_categories() -> Call[tuple[FraudCategoryInfo, ...]]:
    """Call ``GET /v1/feedback/fraud-categories`` (https://devdocs.veriff.com/apidocs/get-fraud-categories)."""
    call = _read("fraud_categories", "/v1/feedback/fraud-categories", _parse_fraud_categories)
    return evolve(call, host="feedback")


def _parse_fraud_categories(response: Response) -> tuple[FraudCategoryInfo, ...]:
    from veriff_async.models.feedback import FraudCategoryInfo

    return _parse_list(response, FraudCategoryInfo, "categories")


def report_fraud(reports: Sequence[FraudReport]) -> Call[tuple[FraudReportReceipt, ...]]:
    """Call ``POST /v1/feedback/fraud-reports``; the result has one receipt for each report.

    Veriff refuses a report that exists already, so the response to a repetition would deny what the first attempt did.

    Raises:
        InvalidArgumentError: Veriff would refuse a report; the message says which and why.

    See https://devdocs.veriff.com/apidocs/report-fraud.
    """
    body = {"reports": [to_request_json(report) for report in validation.check_fraud_reports(reports)]}
    path = "/v1/feedback/fraud-reports"
    return _write("report_fraud", "POST", path, body, _parse_fraud_receipts, repeatable=False, host="feedback")


def _parse_fraud_receipts(response: Response) -> tuple[FraudReportReceipt, ...]:
    from veriff_async.models.feedback import FraudReportReceipt

    return _parse_list(response, FraudReportReceipt, "reports")


def fraud_reports(session_ids: Sequence[str]) -> Call[tuple[FraudReportLookup, ...]]:
    """Call ``POST /v1/feedback/fraud-reports/retrieve``.

    Raises:
        InvalidArgumentError: There are none, or more than ten.

    See https://devdocs.veriff.com/apidocs/retrieve-fraud-reports.
    """
    # A POST that only reads, so it may be repeated.
    body = {"sessionIds": validation.check_fraud_sessions(session_ids)}
    return _write(
        "fraud_reports", "POST", "/v1/feedback/fraud-reports/retrieve", body, _parse_fraud_lookups, host="feedback"
    )


def _parse_fraud_lookups(response: Response) -> tuple[FraudReportLookup, ...]:
    from veriff_async.models.feedback import FraudReportLookup

    return _parse_list(response, FraudReportLookup, "reports")


# The older proof of address, whose responses are guesses too


def address(address_id: str) -> Call[Decision | None]:
    """Call ``GET /v1/address/{id}``, the older proof of address; documented once, its path is a guess."""
    return _read("address", "/v1/address/{address_id}", _parse_decision, address_id=address_id)


def address_media(address_id: str) -> Call[MediaList]:
    """Call ``GET /v1/address/{id}/media``, the older proof of address; documented once, its path is a guess."""
    return _read("address_media", "/v1/address/{address_id}/media", _parse_media_list, address_id=address_id)


def _read(
    operation: str,
    path_template: str,
    parse: Callable[[Response], _Result],
    *,
    query: str = "",
    accept: str | None = None,
    **ids: str,
) -> Call[_Result]:
    """Return a GET. Without a body, the first id is signed."""
    path = _fill(path_template, ids)
    return Call(
        operation=operation,
        method="GET",
        path_template=path_template,
        path=f"{path}?{query}" if query else path,
        parse=parse,
        session_id=ids.get("session_id"),
        signed_id=next(iter(ids.values()), ""),
        accept=accept,
    )


def _fill(path_template: str, ids: Mapping[str, str]) -> str:
    return path_template.format_map({name: validation.check_id(name, value) for name, value in ids.items()})


def _download(operation: str, path_template: str, **ids: str) -> Call[None]:
    return _read(operation, path_template, _parse_file, accept="*/*", **ids)


def _parse_file(response: Response) -> None:
    if is_refusal(response):
        raise api_error(response)


def _write(  # noqa: PLR0913  the parts of a request
    operation: str,
    method: Method,
    path_template: str,
    body: Mapping[str, object],
    parse: Callable[[Response], _Result],
    *,
    repeatable: bool = True,
    creates_session: bool = False,
    host: Host = "api",
    session_id: str | None = None,
) -> Call[_Result]:
    return Call(
        operation=operation,
        method=method,
        path_template=path_template,
        path=path_template if session_id is None else _fill(path_template, {"session_id": session_id}),
        parse=parse,
        session_id=session_id,
        body=dump(body),
        # Veriff has no idempotency key: a repeated creation makes a second session.
        repeatable=repeatable and not creates_session,
        creates_session=creates_session,
        host=host,
    )


def _parse_list(response: Response, model: type[_Result], member: str) -> tuple[_Result, ...]:
    return parse_models(response, model, success_json(response).get(member), member)


def _data_or_root(root: JsonObject) -> JsonObject:
    """Return the object that a response is about, which is at its root or in ``data``."""
    return as_object(root.get("data", root)) or EMPTY
