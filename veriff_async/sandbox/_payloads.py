"""The JSON that Veriff sends: made from the library's own models, which know its members, order and forms."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from veriff_async._protocol.json.decode import dump, read
from veriff_async._protocol.json.encode import to_json
from veriff_async.models.decision import Decision
from veriff_async.models.document import Document
from veriff_async.models.enums import Gender, MediaContext, Status
from veriff_async.models.events import FullAutoEvent, SessionEvent
from veriff_async.models.fullauto import (
    AddressFieldObject,
    Confidence,
    FieldObject,
    FieldSource,
    FieldValue,
    FullAutoDecision,
    FullAutoDocument,
    FullAutoPerson,
)
from veriff_async.models.json import JsonObject
from veriff_async.models.media import UploadedMedia
from veriff_async.models.person import Person
from veriff_async.models.session import SessionInfo
from veriff_async.models.verified import AdditionalVerifiedData, ValidationResult

if TYPE_CHECKING:
    from veriff_async.sandbox._decision_spec import DecisionSpec
    from veriff_async.sandbox._options import SandboxOptions
    from veriff_async.sandbox._records import Session, StoredMedia

__all__ = ("REGISTRY_MATCH", "decision", "event", "full_auto", "media", "no_decision", "session", "token")

_CODES: Final = {
    Status.APPROVED: 9001,
    Status.DECLINED: 9102,
    Status.RESUBMISSION_REQUESTED: 9103,
    Status.EXPIRED: 9104,
    Status.ABANDONED: 9104,
    Status.REVIEW: 9121,
}
_EVENTS: Final = {Status.STARTED: 7001, Status.SUBMITTED: 7002}
_GENDERS: Final[dict[object, str]] = {Gender.MALE_LONG: Gender.MALE, Gender.FEMALE_LONG: Gender.FEMALE}
_PERSON: Final = ("firstName", "lastName", "idNumber", "gender", "dateOfBirth", "nationality", "placeOfBirth")
_DOCUMENT: Final = ("number", "type", "country", "state", "validFrom", "validUntil")
_TOKEN_SECONDS: Final = 7 * 86_400
_SCORES: Final = {Status.APPROVED: 0.98, Status.DECLINED: 0.02}

REGISTRY_MATCH: Final = AdditionalVerifiedData(
    validation_results=(
        ValidationResult(registry_name="sandbox", first_name="set_pep_matches", last_name="set_pep_matches"),
    )
)
"""What a registry says when it finds the person; which words it has for a match is not documented."""


def session(found: Session, host: str) -> dict[str, object]:
    """Return the answer to a creation or submission."""
    info = SessionInfo(
        id=found.id,
        url=f"{host}/v/{found.token}",
        vendor_data=found.vendor_data,
        host=host,
        status=found.status,
        session_token=found.token,
    )
    return {"status": "success", "verification": to_json(info)}


def media(stored: StoredMedia, session_id: str, host: str) -> dict[str, object]:
    """Return the answer to an upload; the member of a chip's reading is a guess."""
    chip = stored.context == "nfc"
    uploaded = UploadedMedia(
        id=stored.id,
        name=stored.context,
        context=None if chip else MediaContext(stored.context),
        size=stored.size,
        mimetype=stored.mimetype,
        url=f"{host}/v1/media/{stored.id}",
        session_id=session_id,
    )
    return {"status": "success", "nfcDocument" if chip else "image": to_json(uploaded)}


def token(session_id: str, now: datetime) -> str:
    """Return a session token of the form that is seen: a JWT (HS256) that names the session, for seven days.

    The claims are those of two public tokens of 2026 (seen). The values of ``iid``, ``vid`` and ``cid`` are made up:
    what they identify is not known. Only Veriff knows the real key, so clients cannot check the signature.
    """
    head = _base64url(dump({"alg": "HS256", "typ": "JWT"}))
    issued_at = int(now.timestamp())
    made_up = {name: str(uuid5(UUID(session_id), name)) for name in ("iid", "vid", "cid")}
    members = {"iat": issued_at, "session_id": session_id, **made_up, "exp": issued_at + _TOKEN_SECONDS}
    claims = _base64url(dump(members))
    signature = hmac.digest(session_id.encode(), f"{head}.{claims}".encode(), "sha256")
    return f"{head}.{claims}.{_base64url(signature)}"


def event(found: Session, action: Status) -> dict[str, object]:
    """Return the webhook of an attempt that was started or submitted."""
    return to_json(
        SessionEvent(
            session_id=found.id,
            attempt_id=found.attempt.id,
            feature="selfid",
            code=_EVENTS[action],
            action=action,
            vendor_data=found.vendor_data,
            end_user_id=found.end_user_id,
        )
    )


def no_decision() -> dict[str, object]:
    """Return the answer while there is no decision; what ``technicalData`` is then, is a guess."""
    return {"status": "success", "verification": None, "technicalData": {"ip": None}}


def decision(found: Session, spec: DecisionSpec, *, now: datetime, options: SandboxOptions) -> dict[str, object]:
    """Return a decision, as a webhook posts it and ``GET /decision`` answers it."""
    nobody = spec.status in {Status.EXPIRED, Status.ABANDONED}
    told = Decision(
        session_id=found.id,
        attempt_id=found.attempt.id,
        status=spec.status,
        code=None if options.code_is_null else _code(spec.status, options),
        reason=spec.reason,
        reason_code=spec.reason_code,
        vendor_data=found.vendor_data,
        end_user_id=found.end_user_id,
        acceptance_time=found.created_at,
        submission_time=found.attempt.submitted_at,
        # Null for expired and abandoned sessions, as seen; so is the address of sessions whose pictures came by API.
        decision_time=None if nobody else now,
        person=Person() if nobody else _person(found, spec),
        document=Document() if nobody else _document(found, spec),
        additional_verified_data=spec.additional_verified_data,
        biometric_authentication=spec.biometric_authentication,
        risk_score=spec.risk_score,
        risk_labels=spec.risk_labels,
        insights=spec.insights,
    )
    body = to_json(told, time_digits=options.time_digits)
    verification = body["verification"]
    if options.reason_code_as_text and spec.reason_code is not None and isinstance(verification, dict):
        verification["reasonCode"] = str(spec.reason_code)
    return body


def full_auto(
    found: Session, spec: DecisionSpec, *, now: datetime, options: SandboxOptions
) -> tuple[JsonObject, JsonObject]:
    """Return a decision that was made without a human: the webhook, and the answer, which is flat."""
    person, document = _person(found, spec), _document(found, spec)
    told = FullAutoDecision(
        status=spec.status,
        decision_score=_SCORES.get(spec.status),
        person=FullAutoPerson(
            first_name=_read(person.first_name),
            last_name=_read(person.last_name),
            date_of_birth=_read(person.date_of_birth),
            gender=_read(person.gender),
            id_number=_read(person.id_number),
            nationality=_read(person.nationality),
            place_of_birth=_read(person.place_of_birth),
            address=AddressFieldObject(value=next((each.full_address for each in person.addresses), None)),
        ),
        document=FullAutoDocument(
            number=_read(document.number),
            # In lower case here, as received.
            type=FieldValue(value=None if document.type is None else document.type.lower()),
            country=FieldValue(value=document.country),
            valid_from=_read(document.valid_from),
            valid_until=_read(document.valid_until),
            first_issue=_read(document.first_issue),
        ),
        insights=spec.insights,
    )
    posted = FullAutoEvent(
        session_id=found.id,
        attempt_id=found.attempt.id,
        vendor_data=found.vendor_data,
        end_user_id=found.end_user_id,
        version="1.0.0",
        acceptance_time=found.created_at,
        time=now,
        decision=told,
    )
    return to_json(posted, time_digits=options.time_digits), {"status": "success", **to_json(told)}


def _code(status: Status, options: SandboxOptions) -> int | None:
    return options.abandoned_code if status == Status.ABANDONED else _CODES.get(status)


def _person(found: Session, spec: DecisionSpec) -> Person:
    """Return the person as given at creation, with what was found over it.

    That a test integration gives back names and document as they were sent is seen; a gender is always one letter.
    """
    given = {name: found.person.get(name) for name in _PERSON}
    given["gender"] = _GENDERS.get(given["gender"], given["gender"])
    return read(Person, {**given, **spec.person})


def _document(found: Session, spec: DecisionSpec) -> Document:
    return read(Document, {**{name: found.document.get(name) for name in _DOCUMENT}, **spec.document})


def _read(value: str | None) -> FieldObject:
    if value is None:
        return FieldObject()
    return FieldObject(value=value, confidence_category=Confidence.HIGH, sources=(FieldSource.VIZ,))


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
