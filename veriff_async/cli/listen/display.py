"""Formats webhooks: a line for people, a JSON object for programs. Pure."""

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
    from veriff_async.cli.listen.forward import ForwardResult
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.json import JsonObject
    from veriff_async.models.state import RecordResult

__all__ = ("forward_document", "forward_line", "person_of", "status_and_code", "webhook_document", "webhook_line")

_REMARKS: Final = {
    None: "",
    IgnoredReason.DUPLICATE: "repeated",
    IgnoredReason.UNCHANGED: "unchanged",
    IgnoredReason.STALE: "late",
    IgnoredReason.FINAL: "after the end of its session",
    IgnoredReason.IRRELEVANT: "",
    IgnoredReason.ERASED: "of an erased session, not stored",
}


def status_and_code(event: WebhookEvent) -> tuple[str | None, int | None]:
    """Return the status and the code of a webhook, if it has them."""
    fields: tuple[str | None, int | None] = (None, None)
    match event:
        case DecisionEvent(decision=decision):
            fields = decision.status, decision.code
        case SessionEvent(action=action, code=code) | AddressEvent(action=action, code=code):
            fields = action, code
        case FullAutoEvent(decision=decided):
            fields = decided.status, None
        case WatchlistEvent(screening=screening):
            fields = screening.match_status, None
        case UserStatusEvent(status=given):
            fields = given.status_code or given.status, None
        case IneEvent(status=status, code=code) | CurpEvent(status=status, code=code):
            fields = status, code
        case IneCurpEvent(curp=curp):
            fields = curp.status_curp, None
        case UnknownEvent():
            pass
        case _:
            assert_never(event)
    return fields


def person_of(event: WebhookEvent) -> JsonObject:
    """Return person and document of a decision with Veriff's member names, without null values."""
    raw = event.raw
    if isinstance(event, FullAutoEvent):
        raw = as_object(raw.get("data")) or EMPTY
    elif not isinstance(event, DecisionEvent):
        return EMPTY
    verification = as_object(raw.get("verification")) or EMPTY
    parts = {name: as_object(verification.get(name)) or EMPTY for name in ("person", "document")}
    plain = {name: {key: _plain(value) for key, value in part.items()} for name, part in parts.items()}
    return {name: {key: value for key, value in part.items() if value is not None} for name, part in plain.items()}


def _plain(value: object) -> object:
    """Return a plain value: full-auto decisions wrap each value in an object with its confidence."""
    wrapped = as_object(value)
    return wrapped["value"] if wrapped is not None and "value" in wrapped else value


def webhook_line(recorded: RecordResult, *, secret_index: int) -> str:
    """Return the line for people, without the time."""
    event = recorded.event
    status, code = status_and_code(event)
    words = " ".join(str(word) for word in (status, code) if word is not None)
    remarks = [_REMARKS[recorded.ignored], f"signed with secret {secret_index + 1}" if secret_index else ""]
    return "  ".join(
        ("200", f"{event.kind:<11}", event.session_id or "no session", words, *(word for word in remarks if word))
    ).rstrip()


def webhook_document(recorded: RecordResult, *, secret_index: int) -> dict[str, object]:
    """Return the JSON document."""
    event = recorded.event
    status, code = status_and_code(event)
    return {
        "type": "webhook",
        "http_status": 200,
        "kind": event.kind,
        "session_id": event.session_id,
        "status": None if status is None else str(status),
        "code": code,
        "repeated": recorded.is_duplicate,
        "late": recorded.ignored is IgnoredReason.STALE,
        "ignored": recorded.ignored and str(recorded.ignored),
        "secret": secret_index + 1,
    }


def forward_line(forwarded: ForwardResult) -> str:
    """Return the line for people about a forwarded webhook, without the time."""
    result = forwarded.result
    if result is None:
        words = "dropped: the application is too slow, or this receiver has stopped"
    elif result.status is None:
        words = f"failed: {result.problem}"
    else:
        words = f"{result.seconds * 1000:.0f} ms"
    shown = "---" if result is None or result.status is None else result.status
    return f"{shown}  forwarded    {forwarded.session_id or 'no session'}  {forwarded.kind}  {words}"


def forward_document(forwarded: ForwardResult) -> dict[str, object]:
    """Return the JSON document."""
    result = forwarded.result
    return {
        "type": "forward",
        "kind": forwarded.kind,
        "session_id": forwarded.session_id,
        "http_status": result and result.status,
        "problem": "dropped" if result is None else result.problem or None,
        "seconds": result and round(result.seconds, 4),
    }
