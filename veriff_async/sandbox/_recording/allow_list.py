"""Which fields stay in a redacted cassette. Pure.

Everything that is not listed here is replaced, because a new field of Veriff may contain personal data. A listed field
stays only if its value has the expected form: one word, a number, a time or one of Veriff's sentences. Nothing stays
below a member that is not Veriff's, where a name such as ``status`` has another meaning.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import cache
from inspect import getmembers
from typing import Final

from attrs import has

from veriff_async import models
from veriff_async._protocol.image_header import MIMETYPES
from veriff_async._protocol.json.paths import known_paths
from veriff_async.models.enums import MediaContext
from veriff_async.models.reasons import REASONS
from veriff_async.sandbox._routes import ROUTES

__all__ = ("HEADERS", "MEDIA_TYPES", "QUERY", "Kept", "is_member", "kept_as", "parent_below", "path_words")


class Kept(Enum):
    """How a field stays in a redacted cassette."""

    WORD = auto()
    """A word or a number that has a meaning to Veriff. Requests must have the same one to be replayed."""

    TIME = auto()
    """A time of the flow. It differs in each run of a program, so requests are not compared by it."""


# Not with as many digits as an identity number, a date or a phone number, and no fake.
_WORD: Final = re.compile(r"(?!fake-|(\D*\d){6})[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", re.ASCII)
_COUNTRY: Final = re.compile(r"[A-Za-z]{2,3}", re.ASCII)
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z]{2,4})?", re.ASCII)
_FORMS: Final = {"countries": _COUNTRY, "country": _COUNTRY, "lang": _LANGUAGE}
# Codes, scores and quotas are below; sizes are bytes, and a duration has milliseconds.
_LARGEST: Final = 10**6
_LARGE: Final = frozenset({"duration", "size"})
_LARGEST_SIZE: Final = 10**9
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)", re.ASCII)
_MIMETYPE: Final = frozenset({*MIMETYPES, "application/json", "video/webm", "video/mp4"})

# Names of members as Veriff writes them (https://devdocs.veriff.com/docs/decision-webhook and the pages of endpoints).
_WORDS: Final = frozenset(
    [
        "action",
        "algorithm",
        "availableQuota",
        "category",
        "checkType",
        "code",
        "confidenceCategory",
        "countries",
        "country",
        "decision",
        "decisionScore",
        "duration",
        "eventType",
        "feature",
        "hashAlgorithm",
        "idCardType",
        "label",
        "lang",
        "matchStatus",
        "matchTypes",
        "monitorStatus",
        "reasonCode",
        "result",
        "riskLevel",
        "score",
        "size",
        "sources",
        "status",
        "totalHits",
        "type",
        "version",
    ]
)
_TIMES: Final = frozenset(
    [
        "acceptanceTime",
        "createdAt",
        "createdTime",
        "decisionTime",
        "submissionTime",
        "time",
        "timestamp",
        "updatedAt",
        "updatedTime",
    ]
)
# By the member that contains them, where the same name has another meaning elsewhere.
_WORDS_BELOW: Final = frozenset({("type", "value"), ("country", "value"), ("acceptableTypes", "name")})
# A person, a person that was searched for, or typed by people in the Customer Portal.
_HIDDEN: Final = "*"
_NEVER_BELOW: Final = frozenset({"comments", "person", "searchTerm", "userDefinedData", _HIDDEN})
_CONTEXTS: Final = frozenset({"name", "context"})

# Members of requests and responses that no model has.
_OTHER_MEMBERS: Final = frozenset(
    [
        "accuracy",
        "address",
        "alg",
        "approved",
        "attempts",
        "baseUrl",
        "callback",
        "categories",
        "certificates",
        "code",
        "com",
        "comments",
        "consents",
        "content",
        "context",
        "data",
        "details",
        "dg1",
        "dg2",
        "document",
        "documents",
        "documentId",
        "endUserId",
        "endpoint",
        "error",
        "features",
        "fieldName",
        "files",
        "frontState",
        "fullAddress",
        "host",
        "id",
        "image",
        "images",
        "inflowFeedback",
        "lang",
        "message",
        "mrz",
        "name",
        "nfc",
        "nfcDocument",
        "nfcDocuments",
        "person",
        "phone",
        "proofOfAddress",
        "acceptableTypes",
        "reason",
        "reports",
        "sessionId",
        "sessionIds",
        "sessionToken",
        "sod",
        "status",
        "success",
        "technicalData",
        "timestamp",
        "timestamps",
        "type",
        "url",
        "userDefinedData",
        "value",
        "vendorData",
        "verification",
        "verifications",
        "version",
        "videos",
        "statusCode",
    ]
)

HEADERS: Final = frozenset({"accept", "content-encoding", "content-type", "expect", "retry-after", "transfer-encoding"})
"""Headers whose values stay, in lower case; see also `MEDIA_TYPES`."""

MEDIA_TYPES: Final = frozenset(
    {*_MIMETYPE, "application/octet-stream", "application/x-www-form-urlencoded", "multipart/form-data", "text/html"}
    | {"text/plain", "*/*", "application/x-pem-file"}
)
"""Media types that stay in headers; parameters are removed, because a boundary is any text."""

QUERY: Final = {"version": re.compile(r"\d{1,4}(\.\d{1,4}){0,3}", re.ASCII)}
"""Parameters of a query that stay, and the form of their values."""


# Sentences of Veriff for its reason codes. Another text may be that of a person.
_REASON_TEXTS: Final = frozenset(reason.description for reason in REASONS.values() if reason.description is not None)


def kept_as(parent: str, name: str, value: object) -> Kept | None:
    """Return how a value stays, or ``None`` if it is replaced."""
    if parent in _NEVER_BELOW:
        return None
    if isinstance(value, str):
        is_known = (
            (name in _CONTEXTS and MediaContext(value).known)
            or (name == "mimetype" and value in _MIMETYPE)
            or (name == "reason" and value in _REASON_TEXTS)
        )
        if is_known:
            return Kept.WORD
        if name in _TIMES and _TIME.fullmatch(value):
            return Kept.TIME
    is_word = name in _WORDS or (parent, name) in _WORDS_BELOW
    return Kept.WORD if is_word and _has_form(parent, name, value) else None


def _has_form(parent: str, name: str, value: object) -> bool:
    if isinstance(value, str):
        # Of the two with their value in an object below, the country has a form of its own.
        return _FORMS.get(parent if name == "value" else name, _WORD).fullmatch(value) is not None
    return not isinstance(value, int | float) or abs(value) < (_LARGEST_SIZE if name in _LARGE else _LARGEST)


def parent_below(parent: str, name: str) -> str:
    """Return the parent of the members of an object.

    Args:
        parent: The parent of the object itself; empty for the whole body.
        name: The member that contains the object; for an item of a list, the member of the list.
    """
    return _HIDDEN if parent in _NEVER_BELOW or (name and not is_member(name)) else name


def is_member(name: str) -> bool:
    """Return whether a name is one of Veriff's members. Any other one may be data, as in a mapping from persons."""
    return name in _members()


@cache
def _members() -> frozenset[str]:
    kinds = [kind for _, kind in getmembers(models) if isinstance(kind, type) and has(kind)]
    names = {part for kind in kinds for path in known_paths(kind) for part in path.split(".")}
    return frozenset(names | _OTHER_MEMBERS | _WORDS | _TIMES)


@cache
def path_words() -> frozenset[str]:
    """Return the parts of paths that are not ids."""
    return frozenset(part for route in ROUTES for part in route.path.split("/") if not part.startswith("{"))
