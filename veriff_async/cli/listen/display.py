"""What is said of a webhook that came in, to people in a line and to programs in a JSON object. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from veriff_async.models.events import (
    AddressEvent,
    CurpEvent,
    DecisionEvent,
    FullAutoEvent,
    IneCurpEvent,
    IneEvent,
    SessionEvent,
    UnknownEvent,
    UserStatusEvent,
    WatchlistEvent,
)
from veriff_async.models.json import EMPTY, as_object
from veriff_async.models.state import IgnoredReason

if TYPE_CHECKING:
    from veriff_async.cli.listen.forward import Forwarded
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.json import JsonObject
    from veriff_async.models.state import RecordResult

__all__ = ("forward_document", "forward_line", "person_of", "recorded_document", "recorded_line", "told")

_REMARKS: Final = {
    None: "",
    IgnoredReason.DUPLICATE: "repeated",
    IgnoredReason.UNCHANGED: "known already",
    IgnoredReason.STALE: "late",
    IgnoredReason.FINAL: "after the end of its session",
    IgnoredReason.IRRELEVANT: "",
}


def told(event: WebhookEvent) -> tuple[str | None, int | None]:
    """Return the status and the code that a webhook tells, as far as it has them."""
    found: tuple[str | None, int | None] = (None, None)
    match event:
        case DecisionEvent(decision=decision):
            found = decision.status, decision.code
        case SessionEvent(action=action, code=code) | AddressEvent(action=action, code=code):
            found = action, code
        case FullAutoEvent(decision=decided):
            found = decided.status, None
        case WatchlistEvent(screening=screening):
            found = screening.match_status, None
        case UserStatusEvent(status=given):
            found = given.status_code or given.status, None
        case IneEvent(status=status, code=code) | CurpEvent(status=status, code=code):
            found = status, code
        case IneCurpEvent(curp=curp):
            found = curp.status_curp, None
        case UnknownEvent():
            pass
        case _:
            assert_never(event)
    return found


def person_of(event: WebhookEvent) -> JsonObject:
    """Return what a decision says of person and document, in Veriff's words and without what is null."""
    raw = event.raw
    if isinstance(event, FullAutoEvent):
        raw = as_object(raw.get("data")) or EMPTY
    elif not isinstance(event, DecisionEvent):
        return EMPTY
    found = as_object(raw.get("verification")) or EMPTY
    parts = {name: as_object(found.get(name)) or EMPTY for name in ("person", "document")}
    plain = {name: {key: _plain(value) for key, value in part.items()} for name, part in parts.items()}
    return {name: {key: value for key, value in part.items() if value is not None} for name, part in plain.items()}


def _plain(value: object) -> object:
    """Return what was read alone; a decision without a human says of each value how sure it is."""
    found = as_object(value)
    return found["value"] if found is not None and "value" in found else value


def recorded_line(recorded: RecordResult, *, place: int) -> str:
    """Return a line for people, but for the time."""
    event = recorded.event
    status, code = told(event)
    words = " ".join(str(word) for word in (status, code) if word is not None)
    remarks = [_REMARKS[recorded.ignored], f"signed with secret {place + 1}" if place else ""]
    return "  ".join(
        ("200", f"{event.kind:<11}", event.session_id or "no session", words, *(word for word in remarks if word))
    ).rstrip()


def recorded_document(recorded: RecordResult, *, place: int) -> dict[str, object]:
    """Return the same for programs."""
    event = recorded.event
    status, code = told(event)
    return {
        "what": "webhook",
        "answered": 200,
        "kind": event.kind,
        "session_id": event.session_id,
        "status": None if status is None else str(status),
        "code": code,
        "repeated": recorded.is_duplicate,
        "late": recorded.ignored is IgnoredReason.STALE,
        "ignored": recorded.ignored and str(recorded.ignored),
        "secret": place + 1,
    }


def forward_line(forwarded: Forwarded) -> str:
    """Return a line for people of a webhook that was handed on, but for the time."""
    answer = forwarded.answer
    if answer is None:
        words = "left out: the application is too slow, or this receiver has stopped"
    elif answer.status is None:
        words = f"failed: {answer.problem}"
    else:
        words = f"{answer.seconds * 1000:.0f} ms"
    shown = "---" if answer is None or answer.status is None else answer.status
    return f"{shown}  forwarded    {forwarded.session_id or 'no session'}  {forwarded.kind}  {words}"


def forward_document(forwarded: Forwarded) -> dict[str, object]:
    """Return the same for programs."""
    answer = forwarded.answer
    return {
        "what": "forward",
        "kind": forwarded.kind,
        "session_id": forwarded.session_id,
        "http_status": answer and answer.status,
        "problem": "left out" if answer is None else answer.problem or None,
        "seconds": answer and round(answer.seconds, 4),
    }
