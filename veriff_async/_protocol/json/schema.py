"""The JSON members of every model's fields, where they differ from the field's name in camel case.

`PATHS` has the path of a field from the object that describes the model; ``""`` is that object itself. `OTHER_NAMES`
has second names that were seen or documented. `FORMS` lists the members that Veriff always writes (null when unknown),
in the order in which they were received or documented. `Fixed` are members that have the same value in every message.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

__all__ = ("COMPLETE", "FORMS", "IN_MILLISECONDS", "OTHER_NAMES", "PATHS", "PREFIXES", "READ_AT_ONCE", "Fixed")


@frozen
class Fixed:
    """A member that has the same value in every message of a kind."""

    path: str
    value: str | tuple[()] | None


_SUCCESS: Final = Fixed("status", "success")

PREFIXES: Final[dict[str, str]] = {"Decision": "verification."}
"""The path that precedes the name of every field without an entry in `PATHS`."""

PATHS: Final[dict[str, dict[str, str]]] = {
    "AdditionalVerifiedData": {"uktf_check_result": "UKTFCheckResult"},
    "AddressEvent": {"session_id": "id"},
    "CollectedData": {"email": "person.email", "phone_number": "person.phoneNumber"},
    "CurpEvent": {
        "session_id": "id",
        "attempt_id": "data.attemptId",
        "status": "data.status",
        "code": "data.code",
        "result": "data.details",
    },
    "Decision": {
        "session_id": "verification.id",
        "risk_score": "verification.riskScore.score",
        "ip": "technicalData.ip",
    },
    "DecisionEvent": {"decision": ""},
    "FullAutoDecision": {"status": "decision"},
    "FullAutoEvent": {"decision": "data.verification"},
    "IneCurpEvent": {"ine": "data.details.ine", "curp": "data.details.curp"},
    "IneCurpResult": {"ine": "data.ine", "curp": "data.curp"},
    "IneEvent": {"status": "data.status", "code": "data.code", "result": "data.details"},
    "Network": {"address_v4": "ip.addressV4", "address_v6": "ip.addressV6"},
    "SessionEvent": {"session_id": "id"},
    "Specimen": {"icao_standardized_document": "ICAOStandardizedDocument"},
    "UserStatusEvent": {"status": "data.verification.userDefinedData"},
    "WatchlistEvent": {"screening": ""},
    "WatchlistHit": {"listings": "listingsRelatedToMatch"},
}

OTHER_NAMES: Final[dict[str, dict[str, str]]] = {
    "AdditionalVerifiedData": {"cpfValidation": "cpfValidated"},
    # One published payload mixes both spellings in one hit.
    "Listing": {"sourceName": "source_name", "sourceUrl": "source_url"},
    "SessionInfo": {"host": "baseUrl"},
}

IN_MILLISECONDS: Final = frozenset({"time", "created_time"}) | {("WatchlistScreening", "created_at")}
"""Times that were received with three digits of a second, where all others have six."""

READ_AT_ONCE: Final = frozenset({("Decision", "attempt_id"), ("Decision", "decision_time")})
"""Optional fields that every inbox reads, so that to decode them later would only take more time."""

COMPLETE: Final = frozenset(
    {
        "BatchProgress",
        "CheckReport",
        "CheckResult",
        "ClientStatistics",
        "DownloadProgress",
        "DownloadedMedia",
        "FaceBox",
        "MediaInspection",
        "MediaReference",
        "OpenAttempt",
        "PictureCheck",
        "Reason",
        "ReceiverStatistics",
        "SessionState",
    }
)
"""Models that Veriff does not send. Every field of them is written."""

_FILE_MEMBERS: Final = ("id", "name", "context", Fixed("timestamp", None), "size", "mimetype", "url", "session_id")
_SESSION_MEMBERS: Final = ("session_id", "attempt_id", "vendor_data", "end_user_id")

FORMS: Final[dict[str, tuple[str | Fixed, ...]]] = {
    "Address": ("full_address", "parsed_address"),
    "AddressEvent": ("session_id", "address_id", "feature", "code", "action", "vendor_data"),
    "AddressFraud": ("risk_level", "reason", "reason_description", "indicators"),
    "Attempt": ("id", "status"),
    "BiometricAuthentication": (
        "matched_session_id",
        "matched_session_vendor_data",
        "matched_session_end_user_id",
        "details",
    ),
    "CurpEvent": (
        Fixed("type", "curp_registry"),
        "session_id",
        "vendor_data",
        "end_user_id",
        "version",
        "attempt_id",
        Fixed("data.name", "curp_registry"),
        "status",
        "code",
        "result",
    ),
    "CurpResult": ("status_curp", "curp"),
    # The order of members in a webhook of 2023, proven by its signature.
    "Decision": (
        _SUCCESS,
        "acceptance_time",
        "decision_time",
        "code",
        "session_id",
        "attempt_id",
        "vendor_data",
        "end_user_id",
        "status",
        "reason",
        "reason_code",
        "person",
        "document",
        Fixed("verification.comments", ()),
        "additional_verified_data",
        "ip",
    ),
    "Document": ("number", "type", "country", "state", "valid_from", "valid_until"),
    "AddressFieldObject": ("confidence_category", "value", "sources"),
    "FieldObject": ("confidence_category", "value", "sources"),
    "FieldValue": ("value",),
    "FullAutoDecision": ("decision_score", "status", "person", "document", "insights"),
    "FullAutoDocument": (
        "number",
        "type",
        "country",
        "valid_from",
        "valid_until",
        "first_issue",
        "place_of_issue",
        "process_number",
        "residence_permit_type",
        "license_number",
    ),
    "FullAutoEvent": (
        _SUCCESS,
        Fixed("eventType", "fullauto"),
        *_SESSION_MEMBERS,
        "version",
        "acceptance_time",
        "time",
        "decision",
    ),
    "FullAutoPerson": (
        "first_name",
        "last_name",
        "date_of_birth",
        "gender",
        "id_number",
        "nationality",
        "address",
        "place_of_birth",
        "foreigner_status",
        "occupation",
        "employer",
        "extra_names",
    ),
    "IneCurpEvent": (Fixed("eventType", "combined-ine-curp-registry"), *_SESSION_MEMBERS, "ine", "curp"),
    "IneCurpResult": ("ine", "curp"),
    "IneEvent": (Fixed("eventType", "ine_registry"), *_SESSION_MEMBERS, "version", "time", "status", "code", "result"),
    "IneResult": ("active", "document_state"),
    "Listing": ("source_name", "source_url", "date"),
    "Listings": ("warnings", "sanctions", "fitness_probity", "pep", "adverse_media"),
    "MediaFile": _FILE_MEMBERS,
    "MediaList": ("images", "videos", "nfc_documents"),
    "ParsedAddress": ("street", "house_number", "unit", "city", "state", "postcode", "country"),
    "Person": (
        "first_name",
        "last_name",
        "citizenship",
        "id_number",
        "gender",
        "date_of_birth",
        "year_of_birth",
        "place_of_birth",
        "nationality",
        "pep_sanction_match",
    ),
    "PersonRecord": (
        "id",
        "first_name",
        "last_name",
        "id_code",
        "date_of_birth",
        "gender",
        "nationality",
        "place_of_birth",
        "citizenships",
        "pep_sanction_matches",
    ),
    "ProofOfAddress": ("name_match", "name_match_percentage", "document_type", "fraud"),
    "SessionEvent": ("session_id", "attempt_id", "feature", "code", "action", "vendor_data", "end_user_id"),
    "SessionInfo": ("id", "url", "vendor_data", "host", "status", "session_token"),
    "UploadedMedia": _FILE_MEMBERS,
    "UserDefinedStatus": ("status", "status_code", "reason", "reason_code", "created_at"),
    "UserStatusEvent": (Fixed("eventType", "user-status.created"), *_SESSION_MEMBERS, "time", "status"),
    "WatchlistHit": (
        "matched_name",
        "countries",
        "date_of_birth",
        "date_of_death",
        "match_types",
        "aka",
        "associates",
        "listings",
    ),
    "WatchlistScreening": (
        "check_type",
        *_SESSION_MEMBERS,
        "match_status",
        "search_term",
        "total_hits",
        "created_at",
        "hits",
    ),
}
