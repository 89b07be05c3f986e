"""Session data other than the status: person, media, certificates, watchlist, registries, address. Pure.

Requests read it; tests change it. The forms are documented, except where a docstring says otherwise. The response 404
before there is a result is a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve
from pybase64 import b64encode

from veriff_async._protocol.image_header import PDF
from veriff_async._protocol.json.decode import decode_model
from veriff_async._protocol.json.encode import to_json
from veriff_async.models.attempt import Attempt, UserDefinedStatus
from veriff_async.models.certificate import Certificate, SourceDocument
from veriff_async.models.enums import MediaContext, Status
from veriff_async.models.events import (
    AddressEvent,
    CurpEvent,
    IneCurpEvent,
    IneEvent,
    UserStatusEvent,
    WatchlistEvent,
)
from veriff_async.models.json import EMPTY, as_object
from veriff_async.models.media import MediaFile, MediaList, Timestamp, TimestampHash
from veriff_async.models.record import PepSanctionMatch, PersonRecord
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.models.watchlist import Monitoring, MonitorStatus, SearchTerm, WatchlistScreening
from veriff_async.sandbox import _payloads, _validation
from veriff_async.sandbox._errors import HTTPError, ImpossibleChangeError
from veriff_async.sandbox._records import IssuedCertificate, RegistryResult, WebhookKind
from veriff_async.sandbox._scenario import Post

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._records import AttemptRecord, Session, StoredMedia

__all__ = (
    "address",
    "attempts",
    "certificate_file",
    "certificates",
    "collect",
    "complete_registry_check",
    "complete_watchlist_screening",
    "issue_certificate",
    "media",
    "person",
    "registry",
    "set_pep_matches",
    "set_user_status",
    "stop_monitoring",
    "submit_address",
    "timestamps",
    "watchlist_screening",
)

_EVENT_VERSION: Final = "1.0.0"
_FOUND: Final = 200
_PERSON_MEMBERS: Final = ("firstName", "lastName", "dateOfBirth", "gender", "nationality", "placeOfBirth")


def attempts(session: Session) -> JsonObject:
    """Answer ``GET /v1/sessions/{id}/attempts``, newest first."""
    items = [
        Attempt(
            id=attempt.id,
            status=attempt.status,
            created_time=attempt.created_at,
            user_defined_data=tuple(attempt.labels),
        )
        for attempt in reversed(session.attempts)
    ]
    return {"status": "success", "verifications": [to_json(item) for item in items]}


def media(attempt: AttemptRecord, session: Session, host: str, *, with_chips: bool) -> JsonObject:
    """Answer ``GET /v1/sessions/{id}/media`` and ``GET /v1/attempts/{id}/media``; the latter has no data of chips."""
    files = [_file(stored, session, host) for stored in attempt.media]
    media_list = MediaList(
        images=tuple(file for file in files if file.context is not None),
        nfc_documents=tuple(file for file in files if file.context is None and with_chips),
    )
    return {"status": "success", **to_json(media_list)}


def _file(stored: StoredMedia, session: Session, host: str) -> MediaFile:
    return MediaFile(
        id=stored.id,
        name=stored.context,
        context=None if stored.context == "nfc" else MediaContext(stored.context),
        size=stored.size,
        mimetype=stored.mimetype,
        url=f"{host}/v1/media/{stored.id}",
        session_id=session.id,
    )


def certificates(session: Session, host: str) -> JsonObject:
    """Answer ``GET /v1/sessions/{id}/certificates``; the member around the list is a guess, the token invented."""
    items = [
        Certificate(
            id=issued.id,
            kind="nom-151-certificate",
            format="pkcs7",
            # A real value is a PKCS #7 structure signed by a certified provider.
            value=b64encode(f"not a certificate: {issued.id}".encode()).decode(),
            created_at=issued.created_at,
            metadata={"hashAlgorithm": "SHA-256", "hash": next(iter(issued.documents.values())).sha256},
            source_documents=tuple(
                SourceDocument(
                    id=document_id,
                    url=f"{host}/v1/sessions/{session.id}/certificates/{issued.id}/files/{document_id}",
                )
                for document_id in issued.documents
            ),
        )
        for issued in session.certificates
    ]
    return {"status": "success", "certificates": [to_json(item) for item in items]}


def certificate_file(session: Session, certificate_id: str, file_id: str) -> StoredMedia:
    """Find a file for ``GET /v1/sessions/{id}/certificates/{certificateId}/files/{fileId}``."""
    for issued in session.certificates:
        stored = issued.documents.get(file_id.lower())
        if issued.id == certificate_id.lower() and stored is not None:
            return stored
    raise HTTPError(404, None, "Certificate or file not found")


def issue_certificate(
    session: Session, certificate_id: str, document_ids: Iterable[str], *, now: datetime
) -> list[Post]:
    """Issue a certificate for the PDFs of the session. It has no webhook (documented)."""
    documents = [media for media in session.all_media if media.mimetype == PDF]
    if not documents:
        msg = "The session has no PDF to certify: upload one first."
        raise ImpossibleChangeError(msg)
    # `document_ids` is endless, so the number of documents decides how many ids are used.
    by_id = dict(zip(document_ids, documents, strict=False))
    session.certificates.append(IssuedCertificate(id=certificate_id, created_at=now, documents=by_id))
    return []


def collect(session: Session, body: JsonObject) -> JsonObject:
    """Answer ``POST /v1/sessions/{id}/collected-data``; the member ``data`` is a guess."""
    _validation.check_collected_data(body)
    if session.status not in {Status.CREATED, Status.STARTED}:
        raise HTTPError(400, "1304", f'Data cannot be collected in status "{session.status}"')
    session.collected = body
    return {"status": "success", "data": {"sessionId": session.id, "attemptId": session.attempt.id}}


def person(session: Session) -> JsonObject:
    """Answer ``GET /v1/sessions/{id}/person``: the data of the decision, or else those given at creation."""
    verification = as_object((session.decision or {}).get("verification")) or EMPTY
    decided = as_object(verification.get("person")) or EMPTY
    person = {**session.person, **{name: value for name, value in decided.items() if value is not None}}
    # This response names two members differently from decisions: the attempt's id is `id`, and `idNumber` is `idCode`.
    members = {name: person.get(name) for name in _PERSON_MEMBERS} | {
        "id": session.attempt.id,
        "idCode": person.get("idNumber"),
    }
    record = evolve(decode_model(PersonRecord, members), pep_sanction_matches=session.matches)
    return {"status": "success", "person": to_json(record)}


def watchlist_screening(session: Session) -> JsonObject:
    """Answer ``GET /v1/sessions/{id}/watchlist-screening``."""
    if session.screening is None:
        raise HTTPError(404, None, "Watchlist screening not found")
    return {"status": "success", "data": to_json(session.screening)}


def stop_monitoring(session: Session, body: JsonObject) -> JsonObject:
    """Answer ``PATCH /v1/sessions/{id}/watchlist-screening``."""
    _validation.check_monitor_status(body)
    if session.screening is None:
        raise HTTPError(404, None, "Watchlist screening not found")
    if session.screening.monitor_status == MonitorStatus.DISABLED:
        raise HTTPError(400, None, "Monitoring is already disabled")
    session.screening = evolve(session.screening, monitor_status=MonitorStatus.DISABLED)
    monitoring = Monitoring(
        monitor_status=MonitorStatus.DISABLED,
        attempt_id=session.attempt.id,
        session_id=session.id,
        vendor_data=session.vendor_data,
    )
    return {"status": "success", "data": to_json(monitoring)}


def registry(session: Session, kind: type[RegistryResult], version: str | None) -> JsonObject:
    """Answer a request for the result of a registry. Mexico's registries require ``version`` (documented)."""
    if kind is not TransportationResult and not version:
        raise HTTPError(400, "1102", "Mandatory parameter version is missing")
    result = session.registries.get(kind)
    if result is None:
        raise HTTPError(404, None, "Registry result not found")
    return to_json(result)


def timestamps(session: Session) -> JsonObject:
    """Answer ``GET /v1/sessions/{id}/timestamps``, seen in an older client. These have no signature."""
    items = [
        Timestamp(
            id=stored.id,
            context=MediaContext(stored.context),
            data_hash=TimestampHash(algorithm="SHA-256", value=stored.sha256),
        )
        for stored in session.attempt.media
        if stored.context != "nfc"
    ]
    return {"status": "success", "timestamps": [to_json(item) for item in items]}


def complete_watchlist_screening(session: Session, screening: WatchlistScreening, *, now: datetime) -> list[Post]:
    """Complete a watchlist screening. Session, person and time are filled in."""
    person = session.person
    first_and_last = (str(person[part]) for part in ("firstName", "lastName") if part in person)
    name = person.get("fullName") or " ".join(first_and_last)
    session.screening = evolve(
        screening,
        session_id=session.id,
        attempt_id=session.attempt.id,
        vendor_data=session.vendor_data,
        end_user_id=session.end_user_id,
        created_at=screening.created_at or now,
        search_term=screening.search_term if screening.search_term.name else SearchTerm(name=str(name)),
        total_hits=len(screening.hits) if screening.total_hits is None else screening.total_hits,
    )
    # Seen in the response to a request; unknown in the webhook.
    posted = evolve(session.screening, monitor_status=None)
    return [Post(session.id, WebhookKind.WATCHLIST, to_json(WatchlistEvent(screening=posted)))]


def set_pep_matches(session: Session, matches: tuple[PepSanctionMatch, ...]) -> list[Post]:
    """Set the matches in lists of politically exposed persons and sanctions. They have no webhook."""
    session.matches = matches
    return []


def set_user_status(session: Session, status: UserDefinedStatus, *, now: datetime) -> list[Post]:
    """Give the attempt a status, as a user of the Customer Portal can."""
    label = status if status.created_at is not None else evolve(status, created_at=now)
    session.attempt.labels.append(label)
    event = UserStatusEvent(
        session_id=session.id,
        attempt_id=session.attempt.id,
        vendor_data=session.vendor_data,
        end_user_id=session.end_user_id,
        time=now,
        status=label,
        raw={"data": {"verification": {"id": session.id}}},
    )
    return [Post(session.id, WebhookKind.USER_STATUS, to_json(event))]


def complete_registry_check(session: Session, result: RegistryResult, *, now: datetime) -> list[Post]:
    """Set the result of a registry. That of driving licences posts no webhook, because its form is unknown."""
    session.registries[type(result)] = result
    event: IneEvent | CurpEvent | IneCurpEvent
    if isinstance(result, IneResult):
        event = IneEvent(
            session_id=session.id, version=_EVENT_VERSION, time=now, status="encontrado", code=_FOUND, result=result
        )
        kind = WebhookKind.INE
    elif isinstance(result, CurpResult):
        event = CurpEvent(session_id=session.id, version=_EVENT_VERSION, status="found", code=_FOUND, result=result)
        kind = WebhookKind.CURP
    elif isinstance(result, IneCurpResult):
        event = IneCurpEvent(session_id=session.id, ine=result.ine, curp=result.curp)
        kind = WebhookKind.INE_CURP
    else:
        return []
    # The events of all registries have these members in common.
    event = evolve(
        event, attempt_id=session.attempt.id, vendor_data=session.vendor_data, end_user_id=session.end_user_id
    )
    return [Post(session.id, kind, to_json(event))]


def submit_address(session: Session, address_id: str) -> list[Post]:
    """Submit an older proof of address, as an end-user does."""
    if session.address_id is not None:
        msg = "The session has a proof of address already: make another session."
        raise ImpossibleChangeError(msg)
    session.address_id = address_id
    event = AddressEvent(
        session_id=session.id,
        address_id=address_id,
        feature="selfid",
        code=7005,
        action=Status.SUBMITTED,
        vendor_data=session.vendor_data,
    )
    return [Post(session.id, WebhookKind.ADDRESS, to_json(event))]


def address(session: Session) -> JsonObject:
    """Answer ``GET /v1/address/{id}``; answering with the session's decision is a guess."""
    return session.decision or _payloads.no_decision()
