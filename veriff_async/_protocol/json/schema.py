"""Where each field stands in Veriff's JSON: every member that is not simply the field's name in camel case.

`PLACES` says where a field stands, as a path from the object that describes the model; ``""`` is that object itself.
`OTHER_NAMES` are seen or documented beside the usual name. `FORMS` are the members that Veriff always writes, null when
unknown, in the order in which they were received or documented; `Fixed` are members that never change.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

__all__ = ("FORMS", "IN_MILLISECONDS", "OTHER_NAMES", "PLACES", "PREFIXES", "Fixed")


@frozen
class Fixed:
    """A member that is the same in every message of a kind."""

    path: str
    value: str | tuple[()] | None


_SUCCESS: Final = Fixed("status", "success")

PREFIXES: Final[dict[str, str]] = {"Decision": "verification."}
"""What stands before the names of all fields of a model that have no place of their own."""

PLACES: Final[dict[str, dict[str, str]]] = {
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
    # One published payload mixes both ways of writing in one hit.
    "Listing": {"sourceName": "source_name", "sourceUrl": "source_url"},
    "SessionInfo": {"host": "baseUrl"},
}

IN_MILLISECONDS: Final = frozenset({"time", "created_time"}) | {("WatchlistScreening", "created_at")}
"""Times with three digits where others have six, as received."""

_FILE: Final = ("id", "name", "context", Fixed("timestamp", None), "size", "mimetype", "url", "session_id")
_WHOSE: Final = ("session_id", "attempt_id", "vendor_data", "end_user_id")

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
    # The order of a webhook of 2023 whose signature was computed again and holds.
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
        *_WHOSE,
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
    "IneCurpEvent": (Fixed("eventType", "combined-ine-curp-registry"), *_WHOSE, "ine", "curp"),
    "IneCurpResult": ("ine", "curp"),
    "IneEvent": (Fixed("eventType", "ine_registry"), *_WHOSE, "version", "time", "status", "code", "result"),
    "IneResult": ("active", "document_state"),
    "Listing": ("source_name", "source_url", "date"),
    "Listings": ("warnings", "sanctions", "fitness_probity", "pep", "adverse_media"),
    "MediaFile": _FILE,
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
    "UploadedMedia": _FILE,
    "UserDefinedStatus": ("status", "status_code", "reason", "reason_code", "created_at"),
    "UserStatusEvent": (Fixed("eventType", "user-status.created"), *_WHOSE, "time", "status"),
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
    "WatchlistScreening": ("check_type", *_WHOSE, "match_status", "search_term", "total_hits", "created_at", "hits"),
}
