"""The JSON that Veriff sends: same members, same order, same forms as in what was really received.

The order is that of a decision webhook of 2023 whose signature was computed again and holds; ``attemptId`` and
``endUserId`` came later and stand where the documents have them. A person always has the ten oldest members, null when
unknown; a document has six.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from veriff_async.models.enums import Status

if TYPE_CHECKING:
    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox.records import Session, StoredMedia
    from veriff_async.sandbox.rules import Rules

__all__ = ("decision", "media", "no_decision", "session")

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
            "person": _members(_PERSON, {} if nobody else person),
            "document": _members(_DOCUMENT, {} if nobody else document),
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


def _members(always: tuple[str, ...], known: JsonObject) -> dict[str, object]:
    """Return the members that are always there, then whatever else is known."""
    return {**dict.fromkeys(always), **known}
