"""How the console writes values: times, sizes, statuses, names and JSON. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async.models.enums import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from veriff_async.models.json import JsonObject

__all__ = (
    "LONGEST_BODY",
    "Body",
    "Moment",
    "Token",
    "describe_body",
    "describe_seconds",
    "describe_size",
    "describe_time",
    "full_name",
    "label",
    "tone",
)

LONGEST_BODY: Final = 64 * 1024
"""Characters of a body that a page shows: browsers become slow with more elements."""

# A status that waits for a person of Veriff or for the end-user is a warning; one without a verdict is neutral.
_TONES: Final = {
    Status.STARTED: "info",
    Status.SUBMITTED: "info",
    Status.INFLOW_COMPLETED: "info",
    Status.APPROVED: "good",
    Status.DECLINED: "bad",
    Status.RESUBMISSION_REQUESTED: "warn",
    Status.REVIEW: "warn",
}
# Shorter words, because a badge stands in each row of a list on a phone.
_LABELS: Final = {Status.RESUBMISSION_REQUESTED: "resubmission", Status.INFLOW_COMPLETED: "inflow completed"}

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
# As browsers and file managers count: https://en.wikipedia.org/wiki/Kilobyte.
_KILOBYTE: Final = 1000

# The members of the JSON grammar (RFC 8259) that get a colour. A key is a string before a colon.
_JSON_TOKEN: Final = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=:))|(?P<string>"(?:[^"\\]|\\.)*")'
    r"|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)"
)


@frozen
class Moment:
    """A time: for programs, for people, and as a distance from the present."""

    iso: str
    text: str
    clock: str
    distance: str


@frozen
class Token:
    """A part of JSON with the name of its colour; plain parts have none."""

    kind: str
    text: str


@frozen
class Body:
    """A body as a page shows it."""

    tokens: tuple[Token, ...]
    size: str
    is_cut: bool = False


def describe_time(when: datetime, now: datetime) -> Moment:
    """Describe a time."""
    # UTC, as in the bodies of webhooks and in the timeline of the command line, which a person compares with a page.
    when = when.astimezone(UTC)
    return Moment(
        iso=when.isoformat(timespec="milliseconds"),
        text=f"{when:%Y-%m-%d %H:%M:%S} UTC",
        clock=f"{when:%H:%M:%S}" if when.date() == now.astimezone(UTC).date() else f"{when:%m-%d %H:%M:%S}",
        distance=_distance((now - when).total_seconds()),
    )


def _distance(seconds: float) -> str:
    # console.js repeats these rules, so that a page which stays open shows the same words.
    amount = describe_seconds(abs(seconds))
    if abs(seconds) < 1:
        return "now"
    return f"{amount} ago" if seconds > 0 else f"in {amount}"


def describe_seconds(seconds: float) -> str:
    """Describe a duration by its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def describe_size(size: int) -> str:
    """Describe a number of bytes."""
    if size < _KILOBYTE:
        return f"{size} bytes"
    if size < _KILOBYTE**2:
        return f"{size / _KILOBYTE:.1f} kB"
    return f"{size / _KILOBYTE**2:.1f} MB"


def tone(status: str) -> str:
    """Return the colour of a status, as a class of base.css."""
    return _TONES.get(Status(status), "")


def label(status: str) -> str:
    """Return the words for a status."""
    return _LABELS.get(Status(status), status.replace("_", " "))


def full_name(person: JsonObject) -> str:
    """Return the names of a person, as far as they are texts."""
    names = (person.get("firstName"), person.get("lastName"))
    return " ".join(name.strip() for name in names if isinstance(name, str) and name.strip())


def describe_body(body: bytes | Mapping[str, object]) -> Body:
    """Describe a body: JSON is indented and coloured, other bytes are shown as text."""
    raw = body if isinstance(body, bytes) else b""
    try:
        # A longer body becomes text without being parsed.
        text = _indent(json.loads(body) if isinstance(body, bytes) else body) if len(raw) <= LONGEST_BODY else ""
    # RecursionError: JSON that is nested too deeply for Python's parser.
    except (ValueError, RecursionError):
        text = ""
    if 0 < len(text) <= LONGEST_BODY:
        return Body(tuple(_tokens(text)), describe_size(len(raw or text.encode("utf-8", "replace"))))
    shown = raw.decode("utf-8", "replace") if raw else text
    return Body((Token("", shown[:LONGEST_BODY]),), describe_size(len(raw or text)), len(shown) > LONGEST_BODY)


def _indent(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _tokens(text: str) -> Iterator[Token]:
    end = 0
    for match in _JSON_TOKEN.finditer(text):
        if match.start() > end:
            yield Token("", text[end : match.start()])
        yield Token(match.lastgroup or "", match.group())
        end = match.end()
    if end < len(text):
        yield Token("", text[end:])
