"""What a caller gave, checked before anything is sent; every refusal names the field.

Rules from https://devdocs.veriff.com/apidocs/v1sessions; the codes in the comments are what Veriff would answer.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import UUID

from veriff_async.errors import ConfigurationError
from veriff_async.models.enums import DocumentType
from veriff_async.protocol.limits import MAX_VENDOR_DATA

if TYPE_CHECKING:
    from veriff_async.models.document import Document
    from veriff_async.models.person import Person

__all__ = ("check_callback", "check_document", "check_end_user_id", "check_id", "check_person", "check_vendor_data")

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_COUNTRY: Final = re.compile(r"[A-Z]{2}", re.ASCII)
_NUMBER: Final = re.compile(r"[A-Za-z0-9]+", re.ASCII)
_LETTERS: Final = re.compile(r"[A-Za-z]+", re.ASCII)
_GENDERS: Final = frozenset({"M", "MALE", "F", "FEMALE"})
_DOCUMENT_TYPES: Final = tuple(kind for kind in DocumentType if kind is not DocumentType.OTHER)


def _refuse(name: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name} cannot be sent: {remedy}.")


def check_id(name: str, value: object) -> str:
    """Return an id that can stand in a path; form and version of Veriff's ids are its own business."""
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise _refuse(name, "give the id as Veriff wrote it, letters, digits and dashes only")
    return value


def check_vendor_data(value: object) -> str:
    """Return vendor data that Veriff takes (codes 1500, 1501)."""
    if not isinstance(value, str):
        raise _refuse("vendor_data", "give a text")
    if len(value) > MAX_VENDOR_DATA:
        raise _refuse("vendor_data", f"it has {len(value)} characters, Veriff takes {MAX_VENDOR_DATA}")
    return value


def check_end_user_id(value: str | UUID) -> str:
    """Return an end-user id as Veriff takes it: a UUID."""
    try:
        return str(value if isinstance(value, UUID) else UUID(value))
    except (ValueError, AttributeError, TypeError):
        pass
    raise _refuse("end_user_id", "give a UUID that you made for the end-user")


def check_callback(value: str) -> str:
    """Return a callback that Veriff takes (code 1302): an absolute https address."""
    try:
        parts = urlsplit(value)
        # urlsplit overlooks white space and line breaks, which the server would not.
        whole = parts.scheme == "https" and bool(parts.hostname) and value.isprintable() and " " not in value
    except (ValueError, AttributeError, TypeError):
        whole = False
    if not whole:
        raise _refuse("callback", "give an absolute https address; Veriff refuses http and app schemes")
    return value


def check_person(person: Person) -> Person:
    """Return a person whose dates and gender Veriff takes (codes 1203, 2003)."""
    _check_date("person.date_of_birth", person.date_of_birth)
    if person.gender is not None and person.gender not in _GENDERS:
        raise _refuse("person.gender", "give M, MALE, F or FEMALE")
    return person


def check_document(document: Document) -> Document:
    """Return a document whose type, country, number and dates Veriff takes (codes 1203, 2102 to 2104)."""
    if document.type is not None and document.type not in _DOCUMENT_TYPES:
        raise _refuse("document.type", f"give one of {', '.join(_DOCUMENT_TYPES)}")
    if not _fits(_COUNTRY, document.country):
        raise _refuse("document.country", "give two capital letters (ISO 3166-1 alpha-2), for example EE")
    if not _fits(_NUMBER, document.number):
        raise _refuse("document.number", "give letters and digits only")
    if not _fits(_LETTERS, document.id_card_type):
        raise _refuse("document.id_card_type", "give letters only, for example CC")
    _check_date("document.first_issue", document.first_issue)
    return document


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
