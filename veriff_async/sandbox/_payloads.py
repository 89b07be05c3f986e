"""The JSON that Veriff sends, built from the library's models, which define its members, their order and their forms.

Only differences between documents and real payloads are handled here; each is marked as documented, seen or a guess.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from veriff_async._protocol.json.decode import decode_model, dump, load_object
from veriff_async._protocol.json.encode import to_json
from veriff_async.errors import DecodeError
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
from veriff_async.models.json import EMPTY, JsonObject
from veriff_async.models.media import UploadedMedia
from veriff_async.models.person import Person
from veriff_async.models.session import SessionInfo
from veriff_async.models.verified import AdditionalVerifiedData, ValidationResult

if TYPE_CHECKING:
    from veriff_async.sandbox._decision_spec import DecisionSpec
    from veriff_async.sandbox._records import Session, StoredMedia
    from veriff_async.sandbox._rules import SandboxOptions

__all__ = (
    "REGISTRY_MATCH",
    "decision",
    "event",
    "full_auto",
    "media",
    "no_decision",
    "session",
    "session_id_of",
    "token",
)

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
    validation_results=(ValidationResult(registry_name="sandbox", first_name="match", last_name="match"),)
)
"""The result of a registry that knows the person. The word for a match is a guess."""


def session(record: Session, host: str) -> dict[str, object]:
    """Return the response to a creation or submission."""
    info = SessionInfo(
        id=record.id,
        url=f"{host}/v/{record.token}",
        vendor_data=record.vendor_data,
        host=host,
        status=record.status,
        session_token=record.token,
    )
    return {"status": "success", "verification": to_json(info)}


def media(stored: StoredMedia, session_id: str, host: str) -> dict[str, object]:
    """Return the response to an upload. The member for the data of a chip is a guess."""
    chip = stored.context == "nfc"
    uploaded = UploadedMedia(
        id=stored.id,
        name=stored.context,
        # "nfc" is not a documented context, so chip data has none.
        context=None if chip else MediaContext(stored.context),
        size=stored.size,
        mimetype=stored.mimetype,
        url=f"{host}/v1/media/{stored.id}",
        session_id=session_id,
    )
    return {"status": "success", "nfcDocument" if chip else "image": to_json(uploaded)}


def token(session_id: str, now: datetime) -> str:
    """Return a session token: a JWT (HS256) that names the session and is valid for seven days.

    The claims were seen in two public tokens of 2026. The values of ``iid``, ``vid`` and ``cid`` are invented, because
    their meaning is unknown. Clients cannot check the signature: only Veriff has the key.
    """
    head = _base64url(dump({"alg": "HS256", "typ": "JWT"}))
    issued_at = int(now.timestamp())
    made_up = {name: str(uuid5(UUID(session_id), name)) for name in ("iid", "vid", "cid")}
    members = {"iat": issued_at, "session_id": session_id, **made_up, "exp": issued_at + _TOKEN_SECONDS}
    claims = _base64url(dump(members))
    # Clients that parse JWTs strictly need a signature of the right length.
    signature = hmac.digest(session_id.encode(), f"{head}.{claims}".encode(), "sha256")
    return f"{head}.{claims}.{_base64url(signature)}"


def session_id_of(token: str) -> str | None:
    """Return the id of the session that a token names, or ``None`` if it names none; nothing is verified."""
    part = token.split(".")[1:2]
    try:
        claims = load_object(urlsafe_b64decode(part[0] + "==")) if part else EMPTY
    except (DecodeError, ValueError):
        return None
    session_id = claims.get("session_id")
    return session_id if isinstance(session_id, str) else None


def event(record: Session, action: Status) -> dict[str, object]:
    """Return the webhook of a started or submitted attempt."""
    return to_json(
        SessionEvent(
            session_id=record.id,
            attempt_id=record.attempt.id,
            feature="selfid",
            code=_EVENTS[action],
            action=action,
            vendor_data=record.vendor_data,
            end_user_id=record.end_user_id,
        )
    )


def no_decision() -> dict[str, object]:
    """Return the response before a decision. Its ``technicalData`` is a guess."""
    return {"status": "success", "verification": None, "technicalData": {"ip": None}}


def decision(record: Session, spec: DecisionSpec, *, now: datetime, options: SandboxOptions) -> dict[str, object]:
    """Return a decision, for the webhook and for ``GET /decision``."""
    is_unanswered = spec.status in {Status.EXPIRED, Status.ABANDONED}
    model = Decision(
        session_id=record.id,
        attempt_id=record.attempt.id,
        status=spec.status,
        code=None if options.code_is_null else _code(spec.status, options),
        reason=spec.reason,
        reason_code=spec.reason_code,
        vendor_data=record.vendor_data,
        end_user_id=record.end_user_id,
        acceptance_time=record.created_at,
        submission_time=record.attempt.submitted_at,
        # Seen: null for expired and abandoned sessions, like the IP address of sessions with uploads by API.
        decision_time=None if is_unanswered else now,
        person=Person() if is_unanswered else _person(record, spec),
        document=Document() if is_unanswered else _document(record, spec),
        additional_verified_data=spec.additional_verified_data,
        biometric_authentication=spec.biometric_authentication,
        risk_score=spec.risk_score,
        risk_labels=spec.risk_labels,
        insights=spec.insights,
    )
    body = to_json(model, time_digits=options.time_digits)
    verification = body["verification"]
    # The model holds a number, as seen in payloads; the documented form is made here.
    if options.reason_code_as_text and spec.reason_code is not None and isinstance(verification, dict):
        verification["reasonCode"] = str(spec.reason_code)
    return body


def full_auto(
    record: Session, spec: DecisionSpec, *, now: datetime, options: SandboxOptions
) -> tuple[JsonObject, JsonObject]:
    """Return a decision without a human: the webhook, and the response to ``GET``, which is flat."""
    person, document = _person(record, spec), _document(record, spec)
    model = FullAutoDecision(
        status=spec.status,
        decision_score=_SCORES.get(spec.status),
        person=FullAutoPerson(
            first_name=_field(person.first_name),
            last_name=_field(person.last_name),
            date_of_birth=_field(person.date_of_birth),
            gender=_field(person.gender),
            id_number=_field(person.id_number),
            nationality=_field(person.nationality),
            place_of_birth=_field(person.place_of_birth),
            address=AddressFieldObject(value=next((address.full_address for address in person.addresses), None)),
        ),
        document=FullAutoDocument(
            number=_field(document.number),
            # Seen: in lower case here, in upper case in other decisions.
            type=FieldValue(value=None if document.type is None else document.type.lower()),
            country=FieldValue(value=document.country),
            valid_from=_field(document.valid_from),
            valid_until=_field(document.valid_until),
            first_issue=_field(document.first_issue),
        ),
        insights=spec.insights,
    )
    posted = FullAutoEvent(
        session_id=record.id,
        attempt_id=record.attempt.id,
        vendor_data=record.vendor_data,
        end_user_id=record.end_user_id,
        version="1.0.0",
        acceptance_time=record.created_at,
        time=now,
        decision=model,
    )
    return to_json(posted, time_digits=options.time_digits), {"status": "success", **to_json(model)}


def _code(status: Status, options: SandboxOptions) -> int | None:
    return options.abandoned_code if status == Status.ABANDONED else _CODES.get(status)


def _person(record: Session, spec: DecisionSpec) -> Person:
    """Return the person given at creation, updated by the decision.

    Seen: a test integration returns names and document as they were sent, and the gender as one letter.
    """
    members = {name: record.person.get(name) for name in _PERSON}
    members["gender"] = _GENDERS.get(members["gender"], members["gender"])
    return decode_model(Person, {**members, **spec.person})


def _document(record: Session, spec: DecisionSpec) -> Document:
    return decode_model(Document, {**{name: record.document.get(name) for name in _DOCUMENT}, **spec.document})


def _field(value: str | None) -> FieldObject:
    if value is None:
        return FieldObject()
    return FieldObject(value=value, confidence_category=Confidence.HIGH, sources=(FieldSource.VIZ,))


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
