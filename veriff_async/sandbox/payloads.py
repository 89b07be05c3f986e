"""The JSON that Veriff sends: same members, same order, same forms as in what was really received.

The order is that of a decision webhook of 2023 whose signature was computed again and holds; ``attemptId`` and
``endUserId`` came later and stand where the documents have them. A person always has the ten oldest members, null when
unknown; a document has six.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from veriff_async.models.enums import Gender, Status
from veriff_async.protocol.codec import dump

if TYPE_CHECKING:
    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox.records import Session, StoredMedia
    from veriff_async.sandbox.rules import Rules

__all__ = ("decision", "media", "no_decision", "session", "token")

_CODES: Final = {
    Status.APPROVED: 9001,
    Status.DECLINED: 9102,
    Status.RESUBMISSION_REQUESTED: 9103,
    Status.EXPIRED: 9104,
    Status.ABANDONED: 9104,
    Status.REVIEW: 9121,
}
_PERSON: Final = (
    "firstName",
    "lastName",
    "citizenship",
    "idNumber",
    "gender",
    "dateOfBirth",
    "yearOfBirth",
    "placeOfBirth",
    "nationality",
    "pepSanctionMatch",
)
_GENDERS: Final[dict[object, str]] = {Gender.MALE_LONG: Gender.MALE, Gender.FEMALE_LONG: Gender.FEMALE}
_DOCUMENT: Final = ("number", "type", "country", "state", "validFrom", "validUntil")


def session(found: Session, host: str) -> dict[str, object]:
    """Return the answer to a creation or submission."""
    return {
        "status": "success",
        "verification": {
            "id": found.id,
            "url": f"{host}/v/{found.token}",
            "vendorData": found.vendor_data,
            "host": host,
            "status": str(found.status),
            "sessionToken": found.token,
        },
    }


def media(stored: StoredMedia, session_id: str, host: str) -> dict[str, object]:
    """Return the answer to an upload."""
    return {
        "status": "success",
        "image": {
            "id": stored.id,
            "name": stored.context,
            "context": stored.context,
            "timestamp": None,
            "size": stored.size,
            "mimetype": stored.mimetype,
            "url": f"{host}/v1/media/{stored.id}",
            "sessionId": session_id,
        },
    }


def token(session_id: str, now: datetime) -> str:
    """Return a session token of the form that is seen: a JWT (HS256) that names the session and never expires.

    Its key is known to Veriff alone, so nobody can tell that this one is made up.
    """
    head = _base64url(dump({"alg": "HS256", "typ": "JWT"}))
    claims = _base64url(dump({"session_id": session_id, "iat": int(now.timestamp())}))
    signature = hmac.digest(session_id.encode(), f"{head}.{claims}".encode(), "sha256")
    return f"{head}.{claims}.{_base64url(signature)}"


def no_decision() -> dict[str, object]:
    """Return the answer while there is no decision; what ``technicalData`` is then, is a guess."""
    return {"status": "success", "verification": None, "technicalData": {"ip": None}}


def decision(  # noqa: PLR0913  what a decision is made of
    found: Session,
    status: Status,
    *,
    now: datetime,
    rules: Rules,
    reason: str | None,
    reason_code: int | None,
    person: JsonObject,
    document: JsonObject,
) -> dict[str, object]:
    """Return a decision, as a webhook posts it and ``GET /decision`` answers it."""
    nobody = status in {Status.EXPIRED, Status.ABANDONED}
    return {
        "status": "success",
        "verification": {
            "acceptanceTime": moment(found.created_at, rules),
            # Null for expired and abandoned sessions, as seen.
            "decisionTime": None if nobody else moment(now, rules),
            "code": None if rules.code_is_null else _code(status, rules),
            "id": found.id,
            "attemptId": found.attempt.id,
            "vendorData": found.vendor_data,
            "endUserId": found.end_user_id,
            "status": str(status),
            "reason": reason,
            "reasonCode": str(reason_code) if rules.reason_code_as_text and reason_code is not None else reason_code,
            "person": dict.fromkeys(_PERSON) if nobody else _members(_PERSON, found.person, person),
            "document": dict.fromkeys(_DOCUMENT) if nobody else _members(_DOCUMENT, found.document, document),
            "comments": [],
            "additionalVerifiedData": {},
        },
        # Null for sessions whose pictures came by API, as seen.
        "technicalData": {"ip": None},
    }


def moment(when: datetime, rules: Rules) -> str:
    """Write a time as Veriff does."""
    timespec = "microseconds" if rules.time_digits > 3 else "milliseconds"  # noqa: PLR2004
    return when.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def _code(status: Status, rules: Rules) -> int | None:
    return rules.abandoned_code if status == Status.ABANDONED else _CODES.get(status)


def _members(always: tuple[str, ...], given: JsonObject, found: JsonObject) -> dict[str, object]:
    """Return the members that are always there, from what was given at creation, then all that was found.

    That a test integration gives back names and document as they were sent is seen; a gender is always one letter.
    """
    known = {name: given.get(name) for name in always}
    if "gender" in known:
        known["gender"] = _GENDERS.get(given.get("gender"), given.get("gender"))
    return {**known, **found}


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
