"""Checks of the values of a request before it is sent. Each error names the field.

Rules from https://devdocs.veriff.com/apidocs/v1sessions; the codes in docstrings are those that Veriff would answer
with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import cache
from inspect import isclass
from types import NoneType
from typing import TYPE_CHECKING, Final, cast, get_args, get_origin
from urllib.parse import urlsplit
from uuid import UUID

from attrs import fields, resolve_types

from veriff_async._protocol.image_header import HEAD_SIZE, PDF, detect_type
from veriff_async._protocol.limits import (
    MAX_COLLECTED_TEXT,
    MAX_FRAUD_COMMENT,
    MAX_FRAUD_SESSIONS,
    MAX_IMPORTED_FACES,
    MAX_VENDOR_DATA,
)
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import DocumentType
from veriff_async.models.session import Consent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attrs import AttrsInstance

    from veriff_async.models.collected import CollectedData
    from veriff_async.models.document import Document
    from veriff_async.models.faces import FaceImage
    from veriff_async.models.feedback import FraudReport
    from veriff_async.models.media import NfcData
    from veriff_async.models.person import Address, Person

__all__ = (
    "EndUserIdWarning",
    "check_callback",
    "check_collected_data",
    "check_consents",
    "check_document",
    "check_end_user_id",
    "check_faces",
    "check_fields",
    "check_fraud_reports",
    "check_fraud_sessions",
    "check_id",
    "check_mapping",
    "check_nfc",
    "check_person",
    "check_registry_person",
    "check_texts",
    "check_vendor_data",
    "is_collection",
    "safe_id",
    "warning_of_end_user_id",
)

# Broad on purpose: a new form of ids must not break the client. It only has to be safe in a path.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# `date.fromisoformat` accepts more forms than Veriff, such as 20260101 and week dates.
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_COUNTRY: Final = re.compile(r"[A-Z]{2}", re.ASCII)
_NUMBER: Final = re.compile(r"[A-Za-z0-9]+", re.ASCII)
_LETTERS: Final = re.compile(r"[A-Za-z]+", re.ASCII)
# ASCII: otherwise ``\d`` matches the digits of every script.
_PHONE: Final = re.compile(r"\+?[\d ]+", re.ASCII)
# Minutes from UTC; a day in each direction.
_TIMEZONES: Final = range(-1440, 1441)
_GENDERS: Final = frozenset({"M", "MALE", "F", "FEMALE"})
_DOCUMENT_TYPES: Final = tuple(kind for kind in DocumentType if kind is not DocumentType.OTHER)


class EndUserIdWarning(UserWarning):
    """The ``end_user_id`` of a session is not a UUID, for which Veriff documents it.

    It is sent nevertheless: other ids were seen in real webhooks. Veriff documents `vendor_data` for your own ids.
    """


def _refuse(name: str, remedy: str) -> InvalidArgumentError:
    error = InvalidArgumentError(f"{name} cannot be sent: {remedy}.")
    error.field = name
    return error


def safe_id(value: str | None) -> str | None:
    """Return the id of a session for logs and spans, unless it may be anything, such as that of an unknown event."""
    return value if value is not None and is_id(value) else None


def check_id(name: str, value: object) -> str:
    """Return an id that can stand in a path; the form of Veriff's ids is not documented."""
    if not isinstance(value, str) or not is_id(value):
        raise _refuse(name, "give the id as Veriff wrote it, letters, digits and dashes only")
    return value


def is_id(value: str) -> bool:
    """Return whether a text can be an id: whether it can stand in a path as it is."""
    return _ID.fullmatch(value) is not None


def check_vendor_data(value: object) -> str:
    """Return vendor data that Veriff takes (codes 1500, 1501)."""
    if not isinstance(value, str):
        raise _refuse("vendor_data", "give a text")
    if len(value) > MAX_VENDOR_DATA:
        raise _refuse("vendor_data", f"it has {len(value)} characters, Veriff takes {MAX_VENDOR_DATA}")
    return value


def check_end_user_id(value: object) -> str:
    """Return an end-user id to send: a UUID in its usual form, or another text as it is.

    Veriff documents the member for UUIDs; integrators were seen to send other ids, and got them back in webhooks.
    """
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _refuse("end_user_id", "give a UUID that you made for the end-user")
    # A UUID in another form, such as with braces, is sent in the usual form.
    return value if _uuid(value) is None else str(_uuid(value))


def warning_of_end_user_id(value: object) -> str | None:
    """Return the sentence that warns about an end-user id which is not a UUID, or ``None``; it never shows the id."""
    if value is None or isinstance(value, UUID) or (isinstance(value, str) and _uuid(value) is not None):
        return None
    return (
        "end_user_id is not a UUID, for which Veriff documents it: Veriff may refuse it. Pass a UUID, or your own id "
        "as vendor_data."
    )


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None


def check_callback(value: object) -> str:
    """Return a callback that Veriff takes (code 1302): an absolute https address."""
    # urlsplit overlooks white space and line breaks, which the server would not.
    if not isinstance(value, str) or not value.isprintable() or " " in value or not _is_https(value):
        raise _refuse("callback", "give an absolute https address; Veriff refuses http and app schemes")
    return value


def _is_https(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


def check_person(person: Person) -> Person:
    """Return a person whose dates and gender Veriff takes (codes 1203, 2003)."""
    _check_date("person.date_of_birth", person.date_of_birth)
    if person.gender is not None and not _is_one_of(person.gender, _GENDERS):
        raise _refuse("person.gender", "give M, MALE, F or FEMALE")
    return person


def check_document(document: Document) -> Document:
    """Return a document whose type, country, number and dates Veriff takes (codes 1203, 2102 to 2104)."""
    if document.type is not None and not _is_one_of(document.type, _DOCUMENT_TYPES):
        raise _refuse("document.type", f"give one of {', '.join(_DOCUMENT_TYPES)}")
    if not _fits(_COUNTRY, document.country):
        raise _refuse("document.country", "give two capital letters (ISO 3166-1 alpha-2), for example EE")
    if not _fits(_NUMBER, document.number):
        raise _refuse("document.number", "give letters and digits only")
    if not _fits(_LETTERS, document.id_card_type):
        raise _refuse("document.id_card_type", "give letters only, for example CC")
    _check_date("document.first_issue", document.first_issue)
    return document


def _is_one_of(value: object, values: Iterable[str]) -> bool:
    # Not the operator alone: Python compares bytes with a text, and warns of it under ``python -b``.
    return isinstance(value, str) and value in values


def check_registry_person(person: Person, *, address: Address | None) -> None:
    """Refuse a person whom no registry can look up (codes 1308 to 1310).

    An address counts with its full text, or with street, house number and postcode.

    See https://devdocs.veriff.com/apidocs/v1validate-registry and https://devdocs.veriff.com/apidocs/api-faq.
    """
    if not person.id_number:
        raise _refuse("person.id_number", "registries look a person up by it")
    if not person.full_name and not (person.first_name and person.last_name):
        raise _refuse("person", "give first_name and last_name, or full_name")
    if not person.date_of_birth and not _is_complete(address):
        remedy = "give date_of_birth, or an address with full_address, or with street, house_number and postcode"
        raise _refuse("person", remedy)


def check_consents(consents: Sequence[Consent]) -> Sequence[Consent]:
    """Return consents, all of them objects of that class."""
    if not is_collection(consents) or not all(isinstance(consent, Consent) for consent in consents):
        raise _refuse("consents", 'give Consent objects, for example Consent("ine", approved=True)')
    return consents


def check_texts(name: str, texts: Sequence[str]) -> Sequence[str]:
    """Return a list of texts; a single text is refused."""
    if not is_collection(texts) or not all(isinstance(text, str) for text in texts) or "" in texts:
        raise _refuse(name, "give a list of texts")
    return texts


def check_nfc(nfc: NfcData) -> None:
    """Refuse data of a chip that lack one of the four files."""
    from veriff_async.models.media import NfcData

    # Imported above and not at the top because few programs use these models, see `endpoints`.
    if not isinstance(cast("object", nfc), NfcData):
        raise _refuse("nfc", "give an NfcData object with the four files")
    for name in ("com", "sod", "dg1", "dg2"):
        content = getattr(nfc, name)
        if not isinstance(content, bytes) or not content:
            raise _refuse(f"nfc.{name}", "give the bytes of the file as they were read from the chip")


def check_collected_data(data: CollectedData) -> None:
    """Refuse data that lack a required value, or hold one that Veriff would refuse.

    See https://devdocs.veriff.com/apidocs/v1sessionsidcollected-data-1.
    """
    from veriff_async.models.collected import CollectedData, Device, Network

    if not isinstance(cast("object", data), CollectedData):
        raise _refuse("data", "give a CollectedData object")
    if not isinstance(cast("object", data.device), Device) or not isinstance(cast("object", data.network), Network):
        raise _refuse("data", "give its device as a Device, and its network as a Network")
    check_fields("data", data)
    for name, part in (("device", data.device), ("network", data.network), ("browser", data.browser)):
        if part is not None:
            check_fields(name, part)
    _check_short("provider_name", data.provider_name)
    _check_short("device.fingerprint", data.device.fingerprint)
    if not data.network.address_v4 and not data.network.address_v6:
        raise _refuse("network", "give address_v4 or address_v6")
    if not _fits(_PHONE, data.phone_number):
        raise _refuse("phone_number", "give digits and spaces, with a plus sign before them if you like")
    if data.browser is not None and data.browser.user_agent is not None:
        _check_short("browser.user_agent", data.browser.user_agent)
    if data.browser is not None and (data.browser.timezone_offset or 0) not in _TIMEZONES:
        raise _refuse("browser.timezone_offset", "give minutes from UTC, -1440 to 1440")


def check_faces(images: Sequence[FaceImage], session_ids: Sequence[str]) -> None:
    """Refuse faces that cannot be imported (https://devdocs.veriff.com/apidocs/bulk-import-face-images)."""
    from veriff_async.models.faces import FaceImage

    if not is_collection(images) or not all(isinstance(image, FaceImage) for image in images):
        raise _refuse("images", 'give FaceImage objects, for example [FaceImage("user-42", picture)]')
    for session_id in check_texts("session_ids", session_ids):
        check_id("session_ids", session_id)
    if not 1 <= len(images) + len(session_ids) <= MAX_IMPORTED_FACES:
        count = len(images) + len(session_ids)
        raise _refuse("faces", f"{count} were passed, Veriff accepts 1 to {MAX_IMPORTED_FACES} in one call")
    for image in images:
        if not isinstance(cast("object", image.name), str) or not image.name or not image.name.isprintable():
            raise _refuse("name", "give each image a name, a text of your own without line breaks")
        if not isinstance(cast("object", image.content), bytes) or detect_type(image.content[:HEAD_SIZE]) in {
            None,
            PDF,
        }:
            raise _refuse("content", "give the bytes of a JPEG, PNG, WebP, HEIC or HEIF picture")
    if len({image.name for image in images}) < len(images):
        raise _refuse("name", "give each image a name of its own: Veriff takes the same name once in five minutes")


def check_fraud_reports(reports: Sequence[FraudReport]) -> Sequence[FraudReport]:
    """Return reports that the feedback API takes (https://devdocs.veriff.com/apidocs/report-fraud)."""
    from veriff_async.models.feedback import FraudReport

    if not reports or not all(isinstance(report, FraudReport) for report in reports):
        raise _refuse("reports", "give one or more FraudReport")
    for report in reports:
        check_id("session_id", report.session_id)
        if not all(isinstance(cast("object", each), str) for each in report.categories):
            raise _refuse("categories", "give FraudCategory members, or their texts")
        if not report.categories or len(set(report.categories)) < len(report.categories):
            raise _refuse("categories", "give one or more, each once")
        if report.comment is not None and len(report.comment) > MAX_FRAUD_COMMENT:
            raise _refuse("comment", f"it has {len(report.comment)} characters, Veriff takes {MAX_FRAUD_COMMENT}")
    return reports


def check_fraud_sessions(session_ids: Sequence[str]) -> list[str]:
    """Return ids that the feedback API looks up at once."""
    ids = [check_id("session_ids", session_id) for session_id in check_texts("session_ids", session_ids)]
    if not 1 <= len(ids) <= MAX_FRAUD_SESSIONS:
        raise _refuse("session_ids", f"{len(ids)} were passed, Veriff accepts 1 to {MAX_FRAUD_SESSIONS} in one call")
    return ids


def _is_complete(address: Address | None) -> bool:
    if address is None:
        return False
    parts = address.parsed_address
    return bool(address.full_address) or (
        parts is not None and bool(parts.street and parts.house_number and parts.postcode)
    )


def check_mapping(name: str, value: object) -> Mapping[str, object]:
    """Return a mapping."""
    if not isinstance(value, Mapping):
        raise _refuse(name, "give a mapping")
    return cast("Mapping[str, object]", value)


def check_fields(name: str, model: AttrsInstance) -> None:
    """Refuse a model with a value of a wrong type, which would otherwise be sent as it is."""
    # attrs does not check types, and `render` would send any value that JSON can hold.
    for field, origin, expected in _field_types(type(model)):
        value = cast("object", getattr(model, field))
        if origin is Mapping:
            check_mapping(f"{name}.{field}", value)
        elif value is not None:
            values = cast("Sequence[object]", value) if origin is tuple else (value,)
            if not isinstance(values, tuple) or not all(_is_of(item, expected) for item in values):
                raise _refuse(f"{name}.{field}", f"it must be {expected.__name__}, not {type(value).__name__}")


@cache
def _field_types(model: type[AttrsInstance]) -> tuple[tuple[str, object, type[object]], ...]:
    """Return name, generic type (``Mapping``, ``tuple``) and class of the fields of a model that have a class."""
    types: list[tuple[str, object, type[object]]] = []
    for each in fields(resolve_types(model)):
        origin = get_origin(each.type)
        kind = next((part for part in get_args(each.type) or (each.type,) if part is not NoneType), None)
        if isclass(kind) and (origin is not Mapping or each.name != "raw"):
            types.append((each.name, origin, str if issubclass(kind, str) else kind))
    return tuple(types)


def _is_of(value: object, kind: type[object]) -> bool:
    # bool is a subclass of int, so `isinstance` alone would accept True as a number.
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def is_collection(value: object) -> bool:
    """Return whether a value is a collection that is not a text, bytes or a mapping."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray | Mapping)


def _check_short(name: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_COLLECTED_TEXT:
        raise _refuse(name, f"give 1 to {MAX_COLLECTED_TEXT} characters")


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return value is None or (isinstance(value, str) and pattern.fullmatch(value) is not None)


def _check_date(name: str, value: str | None) -> None:
    if value is None:
        return
    try:
        valid = _DATE.fullmatch(value) is not None and bool(date.fromisoformat(value))
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise _refuse(name, "give a date that exists, as YYYY-MM-DD")
