"""Checks of requests, each with the code that Veriff documents for it (see `_errors` for the source of the codes).

Null members count as absent, and unknown members are ignored: no document forbids either, and the sandbox serves
clients in any language.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from pybase64 import b64decode

from veriff_async._protocol.limits import MAX_COLLECTED_TEXT, MAX_VENDOR_DATA
from veriff_async.models.enums import DocumentType, MediaContext
from veriff_async.models.json import EMPTY, JsonObject, as_object
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._rules import SandboxOptions

__all__ = (
    "check_callback",
    "check_collected_data",
    "check_context",
    "check_id",
    "check_monitor_status",
    "check_nfc",
    "check_registry",
    "check_submission",
    "check_verification",
)

_DEFAULTS: Final = SandboxOptions()
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ID_LENGTHS: Final = range(20, 41)
_NUMBER: Final = re.compile(r"[A-Za-z0-9]+", re.ASCII)
_GENDERS: Final = frozenset({"M", "MALE", "F", "FEMALE"})


def check_id(value: str) -> None:
    """Check an id in a path (codes 1001 and 1002); the version of the UUID is ignored."""
    if len(value) not in _ID_LENGTHS:
        raise HTTPError(400, "1001", "ID in the path must have 20 to 40 characters")
    if not _is_uuid(value):
        raise HTTPError(400, "1002", "ID in the path must be a UUID")


def check_verification(body: JsonObject, options: SandboxOptions = _DEFAULTS) -> JsonObject:
    """Check the body of a creation and return its ``verification`` object, without nulls."""
    members = as_object(body.get("verification"))
    if members is None:
        raise HTTPError(400, "1102", "Mandatory parameter verification is missing")
    verification = {key: value for key, value in members.items() if value is not None}
    # Seen: integrators send an empty callback on purpose, to have none.
    check_callback(None if verification.get("callback") == "" else verification.get("callback"))
    _check_vendor_data(verification.get("vendorData"))
    _check_end_user_id(verification.get("endUserId"), options)
    _check_person(_read_object(verification, "person"))
    _check_document(_read_object(verification, "document"))
    return verification


def check_registry(body: JsonObject, options: SandboxOptions = _DEFAULTS) -> JsonObject:
    """Check the body of a check of registries (codes 1308 to 1310) and return its ``verification`` object."""
    verification = check_verification(body, options)
    person, address = _read_object(verification, "person"), _read_object(verification, "address")
    if "idNumber" not in person:
        raise HTTPError(400, "1308", "Mandatory parameter idNumber is missing")
    if "fullName" not in person and not {"firstName", "lastName"} <= person.keys():
        raise HTTPError(400, "1309", "Either firstName and lastName or fullName are mandatory")
    if "dateOfBirth" not in person and not _is_complete(address):
        raise HTTPError(400, "1310", "Either dateOfBirth or address are mandatory")
    return verification


def check_collected_data(body: JsonObject) -> None:
    """Check the data of a device (codes 1102 and 1104, which are guesses here)."""
    device, network = as_object(body.get("device")), as_object(body.get("network"))
    if device is None or network is None or "providerName" not in body:
        raise HTTPError(400, "1102", "Mandatory parameters providerName, device and network are missing")
    for text in (body["providerName"], device.get("fingerprint")):
        if not isinstance(text, str) or not 0 < len(text) <= MAX_COLLECTED_TEXT:
            raise HTTPError(400, "1104", "providerName and device.fingerprint must be strings of up to 255 characters")
    ip = as_object(network.get("ip")) or EMPTY
    if not any(isinstance(ip.get(name), str) for name in ("addressV4", "addressV6")):
        raise HTTPError(400, "1102", "Mandatory parameter network.ip.addressV4 or addressV6 is missing")


def check_nfc(body: JsonObject) -> None:
    """Check the data of a chip: all four files as base64 (the codes are guesses)."""
    parts = [body.get(name) for name in ("com", "sod", "dg1", "dg2")]
    if not all(parts):
        raise HTTPError(400, "1102", "Mandatory parameters com, sod, dg1 and dg2 are missing")
    for part in parts:
        try:
            b64decode(part if isinstance(part, str) else "*", validate=True)
        except ValueError:
            raise HTTPError(400, "1401", "NFC data is not valid base64") from None


def check_monitor_status(body: JsonObject) -> None:
    """Check the body that stops monitoring: ``disabled`` is the only value."""
    if body.get("monitorStatus") != "disabled":
        raise HTTPError(400, "1104", "monitorStatus must be disabled")


def check_context(value: object) -> str:
    """Check the context of a picture (code 1402)."""
    if not isinstance(value, str) or not MediaContext(value).known:
        raise HTTPError(400, "1402", "Image context is not known")
    return value


def check_submission(body: JsonObject) -> str:
    """Check the status that a submission requests (code 1303 for all but ``submitted``)."""
    members = as_object(body.get("verification"))
    if members is None or members.get("status") is None:
        raise HTTPError(400, "1102", "Mandatory parameter status is missing")
    if members["status"] != "submitted":
        raise HTTPError(400, "1303", "Status is not valid")
    return "submitted"


def _is_complete(address: JsonObject) -> bool:
    """Return whether an address has one of the two forms that registries take.

    See https://devdocs.veriff.com/apidocs/api-faq.
    """
    return bool(address.get("fullAddress")) or all(address.get(name) for name in ("street", "houseNumber", "postcode"))


def _read_object(verification: JsonObject, name: str) -> JsonObject:
    if name not in verification:
        return EMPTY
    part = as_object(verification[name])
    if part is None:
        raise HTTPError(400, "1104", f"{name} must be an object")
    return {key: value for key, value in part.items() if value is not None}


def check_callback(value: object) -> None:
    """Check the address to which the hosted page sends the end-user (code 1302)."""
    if value is None:
        return
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        secure = parts is not None and parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        secure = False
    if not secure:
        raise HTTPError(400, "1302", "Only HTTPS return URLs are allowed")


def _check_vendor_data(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise HTTPError(400, "1501", "vendorData must be a string")
    if len(value) > MAX_VENDOR_DATA:
        raise HTTPError(400, "1500", f"vendorData must be at most {MAX_VENDOR_DATA} characters")


def _check_end_user_id(value: object, options: SandboxOptions) -> None:
    if value is None:
        return
    if not isinstance(value, str) or (options.end_user_id_must_be_uuid and not _is_uuid(value)):
        raise HTTPError(400, "1104", "endUserId must be a UUID")


def _check_person(person: JsonObject) -> None:
    texts = ("firstName", "lastName", "fullName", "idNumber", "phoneNumber", "email", "gender", "dateOfBirth")
    _check_texts(person, texts, "person")
    born = person.get("dateOfBirth")
    # 1203 is a wrong form; 2003 is a date that does not exist, such as 2001-02-29.
    if isinstance(born, str) and _DATE.fullmatch(born) is None:
        raise HTTPError(400, "1203", "dateOfBirth is not a date of the form YYYY-MM-DD")
    if not _is_date(born):
        raise HTTPError(400, "2003", "dateOfBirth is not a valid date")
    if "gender" in person and person["gender"] not in _GENDERS:
        raise HTTPError(400, "1104", "gender is not valid")


def _check_document(document: JsonObject) -> None:
    _check_texts(document, ("number", "type", "country", "idCardType"), "document")
    number, country = document.get("number"), document.get("country")
    if isinstance(number, str) and _NUMBER.fullmatch(number) is None:
        raise HTTPError(400, "2102", "Document number may hold letters and digits only")
    if "type" in document and document["type"] not in set(DocumentType) - {DocumentType.OTHER}:
        raise HTTPError(400, "2103", "Document type is not supported")
    # The form of ISO 3166-1 alpha-2. Which countries Veriff supports is not checked.
    if isinstance(country, str) and not (len(country) == 2 and country.isascii() and country.isupper()):  # noqa: PLR2004
        raise HTTPError(400, "2104", "Document country is not supported")
    if not _is_date(document.get("firstIssue")):
        raise HTTPError(400, "1203", "firstIssue is not a date of the form YYYY-MM-DD")


def _check_texts(part: JsonObject, names: tuple[str, ...], where: str) -> None:
    # Null members were removed before, so only wrong types are left.
    for name in names:
        if name in part and not isinstance(part[name], str):
            raise HTTPError(400, "1104", f"{where}.{name} must be a string")


def _is_date(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, str) or _DATE.fullmatch(value) is None:
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False
