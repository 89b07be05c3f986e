"""Results of the control API as lines and tables for people."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from veriff_async.cli._output import printable
from veriff_async.models.json import EMPTY, as_list, as_object

if TYPE_CHECKING:
    from veriff_async.cli._output import Output
    from veriff_async.models.json import JsonObject

__all__ = ("hide_person", "print_result")

# Members with personal data: of sessions and webhooks, and of Veriff's JSON in them.
_PERSONAL: Final = frozenset(
    {
        "additionalVerifiedData",
        "body",
        "collected_data",
        "document",
        "pep_matches",
        "person",
        "registries",
        "screening",
        "technicalData",
    }
)


# Columns of the tables; by default each member that is a single value.
_COLUMNS: Final = {
    "attempts": ("id", "time", "status", "submitted_at", "decided_at", "error", "seconds"),
    "entries": ("number", "time", "summary"),
    "faults": ("id", "fault", "method", "path", "times"),
    "media": ("id", "context", "mimetype", "size"),
    "sessions": ("id", "status", "vendor_data", "created_at"),
    "webhooks": ("id", "kind", "state", "attempt_count", "due_at", "session_id"),
}

# Columns of a terminal that has room for a second id.
_WIDE: Final = 120

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z")


def hide_person(document: JsonObject) -> JsonObject:
    """Return JSON without the members that contain personal data."""
    return {name: _hide_in(member) for name, member in document.items() if name not in _PERSONAL}


def _hide_in(value: object) -> object:
    if (members := as_object(value)) is not None:
        return hide_person(members)
    return [_hide_in(item) for item in items] if (items := as_list(value)) else value


def print_result(output: Output, document: JsonObject) -> None:
    """Write a result: single values as fields, each list of objects as a table, and a list of texts as lines."""
    members = _with_readable_session(_flat(document))
    total, following = members.pop("total", None), members.pop("next", None)
    members.pop("last_number", None)  # for programs that poll
    tables = {name: rows for name, value in members.items() if (rows := _rows(value))}
    texts = {name: items for name, value in members.items() if (items := _texts(value))}
    fields = {
        name: _text(output, value)
        for name, value in members.items()
        if name not in tables
        and name not in texts
        and value not in (None, [], {})
        and (name, value) != ("deleted", False)
    }
    if fields:
        output.print_fields("", {**fields})
    for name, rows in tables.items():
        names = _columns(name, rows[0], width=output.console.width if output.is_live else _WIDE)
        cells = [[_text(output, row.get(column)) for column in names] for row in rows]
        output.print_table(names, cells, title=_title(name), whole=("id",))
    for text in (text for items in texts.values() for text in items):
        output.print(printable(text))
    if not document:
        output.print("Done.")
    elif not fields and not tables and not texts:
        # Nothing in a pipe, where each line is an item.
        if output.is_live:
            output.print(f"No {_title(next(iter(document)))}.")
    elif total is not None and output.is_live:
        output.print(f"{total} in total." + ("" if following is None else f" The next page: --after {following}"))


def _flat(document: JsonObject) -> dict[str, object]:
    """Return the members, with those of a small object in its place."""
    flat: dict[str, object] = {}
    for name, value in document.items():
        members = as_object(value)
        if members and not any(isinstance(each, dict | list) for each in members.values()):
            flat |= members
        else:
            flat[name] = value
    return flat


def _with_readable_session(members: dict[str, object]) -> dict[str, object]:
    """Return the members of a session with its decision as a text and its pictures as a table; others unchanged."""
    verification = as_object((as_object(members.get("decision")) or EMPTY).get("verification"))
    if verification is not None:
        members["decision"] = f"{verification.get('status')} (code {verification.get('code')})"
        members["reason"] = verification.get("reason")
        members["reason_code"] = verification.get("reasonCode")
    attempts = [as_object(each) or EMPTY for each in as_list(members.get("attempts"))]
    if media := [item for attempt in attempts for item in as_list(attempt.get("media"))]:
        members["media"] = media
    return members


def _rows(value: object) -> list[JsonObject]:
    """Return the rows of a table; none for any other value."""
    items = as_list(value)
    rows = [row for item in items if (row := as_object(item)) is not None]
    return rows if len(rows) == len(items) else []


def _texts(value: object) -> list[str]:
    return [item for item in as_list(value) if isinstance(item, str)]


def _columns(name: str, row: JsonObject, *, width: int) -> list[str]:
    columns = [
        column for column in _COLUMNS.get(name, ()) if column in row and (width >= _WIDE or column != "session_id")
    ]
    return columns or [column for column, value in row.items() if not isinstance(value, dict | list)]


def _title(name: str) -> str:
    return name.replace("_", " ")


def _text(output: Output, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    # Programs get the exact time.
    return f"{time[1]} {time[2]}" if output.is_live and (time := _TIME.fullmatch(value)) else value
