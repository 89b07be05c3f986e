"""Decisions: every shape that was really received, and every difference between documents and reality."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, strategies as st

from veriff_async import Decision, Document, DocumentType, Person, Status
from veriff_async._protocol.json.decode import decode_model, load_object
from veriff_async.models import AdditionalVerifiedData

if TYPE_CHECKING:
    from collections.abc import Mapping

ID: Final = "aea9ba6d-1b47-47fc-a4fc-f72b6d3584a7"
ATTEMPT: Final = "e30122d1-740b-4764-853f-470374a7abf4"

_PERSON_KEYS: Final = (
    "gender",
    "idNumber",
    "lastName",
    "firstName",
    "citizenship",
    "dateOfBirth",
    "nationality",
    "yearOfBirth",
    "placeOfBirth",
    "pepSanctionMatch",
)
_NOBODY: Final[dict[str, object]] = dict.fromkeys(_PERSON_KEYS)


def _payload(verification: Mapping[str, object], ip: str | None = None) -> dict[str, object]:
    return {"status": "success", "verification": verification, "technicalData": {"ip": ip}}


# Payloads with the shapes of real ones, composed from their fields.
DECLINED_2020 = _payload(
    {
        "acceptanceTime": "2020-11-03T10:01:31.000Z",
        "decisionTime": "2020-11-03T10:04:37.907Z",
        "code": 9102,
        "id": ID,
        "vendorData": "user-42",
        "status": "declined",
        "reason": "Physical document not used",
        "reasonCode": 101,
        "person": {**_NOBODY, "firstName": "Ada", "lastName": "Lovelace"},
        "document": {"number": "AB12", "type": "PASSPORT", "country": "BR", "validFrom": None, "validUntil": None},
        "comments": [],
        "additionalVerifiedData": {},
    }
)
RESUBMISSION_2020 = _payload(
    {
        "id": ID,
        "code": 9103,
        "person": _NOBODY,
        "reason": "Full document not visible",
        "status": "resubmission_requested",
        "comments": [],
        "document": {"type": "ID_CARD", "number": None, "country": "HR", "validFrom": None, "validUntil": None},
        "reasonCode": 203,
        "vendorData": "user-42",
        "decisionTime": "2020-11-03T10:04:37.907Z",
        "acceptanceTime": "2020-11-03T10:01:31.000Z",
        "additionalVerifiedData": {},
    },
    ip="192.0.2.1",
)
ABANDONED_2020 = _payload(
    {
        "id": ID,
        "code": 9104,
        "person": _NOBODY,
        "reason": None,
        "status": "abandoned",
        "comments": [],
        "document": dict.fromkeys(("type", "number", "country", "validFrom", "validUntil")),
        "reasonCode": None,
        "vendorData": "user-42",
        "decisionTime": None,
        "acceptanceTime": "2020-11-03T10:01:31.000Z",
        "additionalVerifiedData": {},
    }
)
APPROVED_2024 = _payload(
    {
        "id": ID,
        "code": 9001,
        "person": {**_NOBODY, "firstName": "Ada", "lastName": "Lovelace"},
        "reason": None,
        "status": "approved",
        "comments": [],
        "document": dict.fromkeys(("state", "number", "country", "validFrom", "validUntil")) | {"type": "PASSPORT"},
        "endUserId": None,
        "reasonCode": None,
        "vendorData": "user-42",
        "decisionTime": "2024-05-06T07:08:09.476108Z",
        "acceptanceTime": "2024-05-06T07:01:02.741728Z",
        "additionalVerifiedData": {},
    },
    ip="0.0.0.0",  # noqa: S104  as it was made anonymous
)
APPROVED_2025 = _payload(
    {
        "id": ID,
        "code": 9001,
        "person": {**_NOBODY, "gender": "F", "nationality": "EE", "dateOfBirth": "1985-01-01"},
        "reason": None,
        "status": "approved",
        "comments": [],
        "document": {"type": "DRIVERS_LICENSE", "country": "US", "state": "CA", "number": "AB12"},
        "attemptId": ATTEMPT,
        "endUserId": None,
        "reasonCode": None,
        "vendorData": None,
        "decisionTime": "2025-03-06T07:08:09.476108Z",
        "acceptanceTime": "2025-03-06T07:01:02.741728Z",
        "additionalVerifiedData": {},
    }
)
IDENTITY_2026 = _payload(
    {
        "id": ID,
        "code": None,
        "person": {
            **_NOBODY,
            "weight": "160 lb",
            "addresses": [
                {"fullAddress": "1 Street", "parsedAddress": {"city": "sacramento", "state": "ca", "country": None}},
                {"fullAddress": "2 Street", "parsedAddress": {"city": "sacramento", "state": "ca", "country": "us"}},
            ],
        },
        "status": "approved",
        "document": {"type": "ID_CARD", "country": "UK"},
        "attemptId": ATTEMPT,
        "riskLabels": None,
        "submissionTime": "2026-07-01T10:00:00.123456Z",
        "decisionTime": "2026-07-01T10:01:00.123456Z",
        "acceptanceTime": "2026-07-01T09:59:00.123456Z",
    }
)
ADDRESS_2026 = _payload(
    {
        "id": ID,
        "code": 9001,
        "person": {
            **_NOBODY,
            "firstName": "Ada Lovelace",
            "addresses": [{"fullAddress": "1 Street", "parsedAddress": {"street": "Street", "unit": "", "city": ""}}],
        },
        "status": "approved",
        "document": {"type": None, "country": "GB"},
        "attemptId": ATTEMPT,
        "additionalVerifiedData": {
            "proofOfAddress": {"nameMatch": True, "nameMatchPercentage": 100, "fraud": {"riskLevel": "LOW_RISK"}}
        },
    }
)
SHAPES = {
    "A": DECLINED_2020,
    "B-resubmission": RESUBMISSION_2020,
    "B-abandoned": ABANDONED_2020,
    "C": APPROVED_2024,
    "D": APPROVED_2025,
    "E-identity": IDENTITY_2026,
    "E-address": ADDRESS_2026,
}


def _decision(payload: object) -> Decision:
    return decode_model(Decision, load_object(json.dumps(payload).encode()))


@pytest.mark.parametrize("payload", SHAPES.values(), ids=SHAPES)
def test_every_received_form_is_a_decision(payload: dict[str, object]) -> None:
    """Each shape that was really received is read, and kept as it came."""
    decision = _decision(payload)

    assert ID == decision.session_id
    assert decision.status.known
    assert payload == decision.raw


@pytest.mark.parametrize("payload", SHAPES.values(), ids=SHAPES)
def test_order_of_members_does_not_matter(payload: dict[str, object]) -> None:
    """A payload whose keys are sorted by length, as databases do, is the same decision."""

    def reorder(value: object) -> object:
        if isinstance(value, dict):
            return {key: reorder(value[key]) for key in sorted(value, key=lambda key: (len(key), key))}
        return [reorder(item) for item in value] if isinstance(value, list) else value

    assert _decision(payload) == _decision(reorder(payload))


def test_decision_of_2020_is_decoded_completely() -> None:
    """Milliseconds, a number as reason code, and no attempt, end-user or address."""
    assert Decision(
        session_id=ID,
        status=Status.DECLINED,
        code=9102,
        reason="Physical document not used",
        reason_code=101,
        vendor_data="user-42",
        acceptance_time=datetime(2020, 11, 3, 10, 1, 31, tzinfo=UTC),
        decision_time=datetime(2020, 11, 3, 10, 4, 37, 907_000, tzinfo=UTC),
        person=Person(first_name="Ada", last_name="Lovelace"),
        document=Document(number="AB12", type=DocumentType.PASSPORT, country="BR"),
    ) == _decision(DECLINED_2020)


def test_decision_of_2025_is_decoded_completely() -> None:
    """Microseconds, an attempt, and a country in two letters."""
    decision = _decision(APPROVED_2025)

    assert (ATTEMPT, None, None) == (decision.attempt_id, decision.end_user_id, decision.vendor_data)
    assert datetime(2025, 3, 6, 7, 8, 9, 476_108, tzinfo=UTC) == decision.decision_time
    assert ("F", "EE", "1985-01-01") == (
        decision.person.gender,
        decision.person.nationality,
        decision.person.date_of_birth,
    )
    assert ("DRIVERS_LICENSE", "CA") == (decision.document.type, decision.document.state)


def test_expired_sessions_have_no_decision_time() -> None:
    """An abandoned session was decided at no time, on no document and from no address."""
    decision = _decision(ABANDONED_2020)

    assert (None, None, None) == (decision.decision_time, decision.ip, decision.reason_code)
    assert (Person(), Document()) == (decision.person, decision.document)


def test_decision_without_code_has_its_status() -> None:
    """A null code leaves the status to act on, next to undocumented times, fields and spellings."""
    decision = _decision(IDENTITY_2026)

    assert (True, None, ()) == (decision.is_approved, decision.code, decision.risk_labels)
    assert datetime(2026, 7, 1, 10, 0, 0, 123_456, tzinfo=UTC) == decision.submission_time
    assert "UK" == decision.document.country
    assert "160 lb" == decision.person.raw["weight"]
    parsed = [address.parsed_address for address in decision.person.addresses]
    assert [("sacramento", None), ("sacramento", "us")] == [(each.city, each.country) for each in parsed if each]


def test_empty_texts_are_none() -> None:
    """A proof of address writes unknown parts as empty texts; they are as absent as null ones."""
    decision = _decision(ADDRESS_2026)

    parsed = decision.person.addresses[0].parsed_address
    assert parsed is not None
    assert ("Street", None, None) == (parsed.street, parsed.unit, parsed.city)
    assert decision.document.type is None
    assert decision.additional_verified_data.proof_of_address is not None


# The differences between the documents and real payloads: key, value as it comes, attribute, value as it is read.
DIFFERENCES: tuple[tuple[str, object, str, object], ...] = (
    ("reasonCode", 203, "reason_code", 203),
    ("reasonCode", "203", "reason_code", 203),
    ("code", 9001, "code", 9001),
    ("code", "9001", "code", 9001),
    ("code", None, "code", None),
    ("submissionTime", "2026-01-02T12:00:00.123456Z", "submission_time", datetime(2026, 1, 2, 12, 0, 0, 123_456, UTC)),
    ("decisionTime", "2026-01-02T12:00:00.123Z", "decision_time", datetime(2026, 1, 2, 12, 0, 0, 123_000, UTC)),
    ("decisionTime", "2026-01-02T12:00:00.123456Z", "decision_time", datetime(2026, 1, 2, 12, 0, 0, 123_456, UTC)),
    ("decisionTime", None, "decision_time", None),
    ("reason", "", "reason", None),
    ("person", None, "person", Person()),
    ("document", None, "document", Document()),
    ("person", {"nationality": "EE"}, "person", Person(nationality="EE")),
    ("document", {"type": "NEWER"}, "document", Document(type=DocumentType("NEWER"))),
    ("riskLabels", None, "risk_labels", ()),
    ("riskScore", {"score": 1}, "risk_score", 1.0),
    ("riskScore", {"score": 0.25}, "risk_score", 0.25),
    ("riskScore", {}, "risk_score", None),
    ("riskScore", None, "risk_score", None),
    ("additionalVerifiedData", None, "additional_verified_data", AdditionalVerifiedData()),
    ("newer", {"field": 1}, "code", None),
)


@pytest.mark.parametrize(("key", "value", "name", "expected"), DIFFERENCES)
def test_deviations_from_the_documents_are_accepted(key: str, value: object, name: str, expected: object) -> None:
    """Each difference between documents and real payloads is read, and kept in `raw` as it came."""
    payload = _payload({"id": ID, "status": "approved", key: value})

    decision = _decision(payload)

    assert expected == getattr(decision, name)
    assert payload == decision.raw


@given(st.fixed_dictionaries({}, optional={key: st.just(value) for key, value, _, _ in DIFFERENCES}))
def test_deviations_can_be_combined(members: dict[str, object]) -> None:
    """Any of the differences together, present or missing, make a decision."""
    assert ID == _decision(_payload({"id": ID, "status": "approved"} | members)).session_id


@pytest.mark.parametrize("technical", [None, {}, {"ip": None}, {"ip": ""}, [], "192.0.2.1"])
def test_ip_address_may_be_missing(technical: object) -> None:
    """A session without a device has no address, for each way to write a missing address."""
    assert None is _decision({"verification": {"id": ID, "status": "review"}, "technicalData": technical}).ip


def test_ip_address_is_in_the_technical_data() -> None:
    """The device's address is read from the technical data."""
    assert "192.0.2.1" == _decision(RESUBMISSION_2020).ip
