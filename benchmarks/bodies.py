"""Two decisions as Veriff writes them: an ordinary one, and one of an integration with every product."""

from __future__ import annotations

import json
from typing import Final

__all__ = ("ORDINARY", "RICH", "as_body", "unlike")

_ID: Final = "00000000-0000-4000-8000-{:012d}"
_VERIFICATION: Final = "verification"

_PERSON: Final[dict[str, object]] = {
    "firstName": "MÄRI-LIIS",
    "lastName": "TAMM",
    "fullName": "MÄRI-LIIS TAMM",
    "citizenship": None,
    "idNumber": "49403136515",
    "gender": "F",
    "dateOfBirth": "1994-03-13",
    "yearOfBirth": "1994",
    "placeOfBirth": "TARTU, ESTONIA",
    "nationality": "EE",
    "pepSanctionMatch": None,
    "occupation": None,
    "employer": None,
}
_ADDRESS: Final[dict[str, object]] = {
    "fullAddress": "LIIVALAIA 22-17, 10118 TALLINN, ESTONIA",
    "parsedAddress": {
        "street": "LIIVALAIA",
        "houseNumber": "22",
        "unit": "17",
        "city": "TALLINN",
        "state": "HARJUMAA",
        "postcode": "10118",
        "country": "EE",
    },
}
_DOCUMENT: Final[dict[str, object]] = {
    "number": "AS1234567",
    "type": "ID_CARD",
    "country": "EE",
    "state": None,
    "validFrom": "2021-05-04",
    "validUntil": "2031-05-04",
    "placeOfIssue": None,
    "firstIssue": None,
    "issuedBy": "POLITSEI- JA PIIRIVALVEAMET",
    "issueNumber": None,
    "remarks": None,
    "residencePermitType": None,
}
_MORE_OF_DOCUMENT: Final[dict[str, object]] = {
    "nfcValidated": True,
    "portraitIsVisible": True,
    "signatureIsVisible": True,
    "specimen": {
        "containsContactlessChip": True,
        "firstIssuedDate": "2018-12-03",
        "lastIssuedDate": None,
        "nistVersion": None,
        "digitalDocument": False,
        "nonStandardDrivingLicense": False,
        "militaryDocument": False,
        "temporaryEmergencyDocument": False,
        "asylumRefugeeDocument": False,
        "ICAOStandardizedDocument": True,
        "notNationalIdCard": False,
        "legalStatus": "primary",
        "hasSecurityRisk": False,
    },
}
_DECIDED: Final[dict[str, object]] = {
    "acceptanceTime": "2026-03-02T10:15:30.123456Z",
    "submissionTime": "2026-03-02T10:17:01.654321Z",
    "decisionTime": "2026-03-02T10:17:45.000321Z",
    "code": 9001,
    "id": _ID.format(1),
    "attemptId": _ID.format(2),
    "vendorData": "customer-1048576/onboarding/2026-03-02",
    "endUserId": _ID.format(3),
    "status": "approved",
    "reason": None,
    "reasonCode": None,
}
_LABELS: Final = (
    ("low_face_similarity_image_quality_good", "images"),
    ("possible_age_risk_young", "person"),
    ("document_integration_level_crosslinked_with_multiple_declines", "crosslinks"),
    ("session_crosslinked_with_velocity_abuse", "crosslinks"),
)
_QUESTIONS: Final = (
    ("documentAccepted", "document"),
    ("allowedIssuingCountry", "document"),
    ("faceSimilarToPortrait", "biometric"),
    ("faceNotInBlocklist", "fraud"),
    ("faceLiveness", "biometric"),
)
_VERIFIED: Final[dict[str, object]] = {
    "driversLicenseNumber": "ET123456",
    "driversLicenseCategory": {"AM": True, "B": True, "C1": False, "C": None},
    "driversLicenseCategoryFrom": {"AM": "2010-04-01", "B": "2012-06-15"},
    "driversLicenseCategoryUntil": {"AM": "2031-05-04", "B": "2031-05-04"},
    "estimatedAge": 32.4,
    "estimatedGender": 0.93,
    "validationResults": [
        {
            "registryName": registry,
            "firstName": "full_match",
            "lastName": "full_match",
            "dateOfBirth": "full_match",
            "address": "partial_match",
            "city": "full_match",
            "state": "no_match",
            "zip": "full_match",
            "idNumber": None,
        }
        for registry in ("credit_bureau", "commercial")
    ],
    "proofOfAddress": {
        "nameMatch": True,
        "nameMatchPercentage": 97.5,
        "documentType": "UTILITY_BILL",
        "fraud": {"riskLevel": "LOW_RISK", "reason": None, "reasonDescription": None, "indicators": []},
    },
}

ORDINARY: Final[dict[str, object]] = {
    "status": "success",
    _VERIFICATION: {
        **_DECIDED,
        "person": _PERSON,
        "document": _DOCUMENT,
        "comments": [],
        "additionalVerifiedData": {},
        "riskLabels": [{"label": label, "category": category} for label, category in _LABELS[:1]],
    },
    "technicalData": {"ip": "198.51.100.23"},
}
"""The decision that most integrations get for most sessions."""

RICH: Final[dict[str, object]] = {
    "status": "success",
    _VERIFICATION: {
        **_DECIDED,
        "person": {**_PERSON, "addresses": [_ADDRESS]},
        "document": {**_DOCUMENT, **_MORE_OF_DOCUMENT},
        "comments": [],
        "additionalVerifiedData": _VERIFIED,
        "riskScore": {"score": 0.21},
        "riskLabels": [
            {"label": label, "category": category, "sessionIds": [_ID.format(4), _ID.format(5)]}
            for label, category in _LABELS
        ],
        "biometricAuthentication": {
            "matchedSessionId": _ID.format(6),
            "matchedSessionVendorData": "customer-1048576/onboarding/2025-11-20",
            "matchedSessionEndUserId": _ID.format(3),
        },
        "insights": [{"label": label, "result": "yes", "category": category} for label, category in _QUESTIONS],
    },
    "technicalData": {"ip": "198.51.100.23"},
}
"""The members that all products add: risk labels, insights, registries, a proof of address, an earlier face."""


def as_body(decision: dict[str, object]) -> bytes:
    """Write a decision as it comes over the wire."""
    return json.dumps(decision, ensure_ascii=False, separators=(",", ":")).encode()


def unlike(decision: dict[str, object], number: int) -> dict[str, object]:
    """Return the same about another session, so that no two are one."""
    verification = decision[_VERIFICATION]
    assert isinstance(verification, dict)
    return {**decision, _VERIFICATION: {**verification, "id": _ID.format(number)}}
