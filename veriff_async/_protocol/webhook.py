"""Webhooks: the raw request in, a verified event out. Nothing is parsed before the signature holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, get_args

from attrs import evolve

from veriff_async._protocol.authenticity import verify_webhook
from veriff_async._protocol.json.decode import decode_error, decode_model, dump, load_object
from veriff_async._protocol.json.encode import to_json
from veriff_async._protocol.request_arguments import as_bytes
from veriff_async.errors import DecodeError, WebhookPayloadError
from veriff_async.models.decision import Decision
from veriff_async.models.enums import Status
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
    WebhookEvent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from veriff_async.credentials import Credentials
    from veriff_async.models.json import JsonObject

__all__ = (
    "dump_event",
    "event_from",
    "event_from_decision",
    "event_from_resubmission",
    "load_event",
    "parse_webhook",
    "without_details",
)

_BY_NAME: Final[dict[str, type[WebhookEvent]]] = {
    "fullauto": FullAutoEvent,
    "user-status.created": UserStatusEvent,
    "ine_registry": IneEvent,
    "curp_registry": CurpEvent,
    "combined-ine-curp-registry": IneCurpEvent,
}
_BY_SHAPE: Final[tuple[tuple[type[WebhookEvent], frozenset[str]], ...]] = (
    (WatchlistEvent, frozenset({"matchStatus"})),
    (DecisionEvent, frozenset({"verification"})),
    (AddressEvent, frozenset({"action", "addressId"})),
    (SessionEvent, frozenset({"action", "id"})),
)
"""The members that a kind cannot be without. An optional one never decides: Veriff leaves some out."""

_DEEPEST: Final = 250
"""Levels of nesting that a message may have. Real ones have some ten; Python's recursion limit is 1,000."""

_KINDS: Final[dict[str, type[WebhookEvent]]] = {kind.kind: kind for kind in get_args(WebhookEvent)}


def parse_webhook(headers: Mapping[str, str], body: bytes, credentials: Credentials) -> WebhookEvent:
    """Verify and read a webhook.

    Args:
        headers: The request's headers, names in any case.
        body: The raw body, exactly as it came; a body that was parsed and written again does not verify.
        credentials: Whose webhook it should be; any live secret of the ring may have signed it.

    Returns:
        The event; one of an unknown kind keeps its JSON.

    Raises:
        SignatureError: The API key or integration is another, or the signature is missing, malformed or wrong.
        WebhookPayloadError: It is signed, but cannot be read.
        InvalidArgumentError: An argument is of a wrong type; the message names the likely mistake.

    Example:
        >>> event = parse_webhook(request.headers, await request.read(), credentials)

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """
    body = as_bytes(body)
    verify_webhook(headers, body, credentials)
    try:
        raw = load_object(body)
        _check_depth(body, raw)
        return _decode(_kind(raw), raw)
    except DecodeError as error:
        problems = error.problems
    msg = f"The webhook is signed, but cannot be read ({'; '.join(problems)}): look for a newer veriff-async."
    raise WebhookPayloadError(msg, problems=problems)


def _check_depth(body: bytes, raw: JsonObject) -> None:
    """Refuse JSON that is nested too deeply: whether it can be written again would depend on the caller's stack."""
    if body.count(b"[") + body.count(b"{") <= _DEEPEST:  # counting is faster than a search
        return
    level: list[object] = [raw]
    for _ in range(_DEEPEST):
        level = [item for value in level for item in _items(value)]
        if not level:
            return
    problem = "expected JSON of less depth @ $"
    raise decode_error(problem)


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()


def event_from(raw: JsonObject) -> WebhookEvent:
    """Read the body of a webhook, whose origin was checked before.

    Raises:
        DecodeError: It is of a known kind, and lacks what that kind cannot be without.
    """
    return _decode(_kind(raw), raw)


def event_from_decision(decision: Decision) -> DecisionEvent:
    """Make of a decision that was asked for the event that a webhook of the same content is."""
    raw = decision.raw or to_json(decision)
    return DecisionEvent(decision=decision, raw=raw)


def without_details(decision: Decision) -> Decision:
    """Return a decision with what tells it from others, and without personal data."""
    return Decision(
        session_id=decision.session_id,
        attempt_id=decision.attempt_id,
        status=decision.status,
        decision_time=decision.decision_time,
    )


def event_from_resubmission(answered: Decision, *, refused: bool = False) -> SessionEvent:
    """Make the event that a client records when it submits a new attempt, or when that submission was refused.

    Args:
        answered: The decision that had asked for the new attempt.
        refused: Whether the submission was refused, so that the decision stands again.
    """
    action = Status.RESUBMISSION_REQUESTED if refused else Status.SUBMITTED
    event = SessionEvent(session_id=answered.session_id, action=action, answered_decision=without_details(answered))
    return evolve(event, raw=to_json(event))


def dump_event(event: WebhookEvent) -> bytes:
    """Write an event as the JSON it came as, for a store; `load_event` needs its ``kind`` beside it."""
    return dump(event.raw or to_json(event))


def load_event(kind: str, body: bytes) -> WebhookEvent:
    """Read what `dump_event` wrote.

    Raises:
        DecodeError: It is nothing that an event was written as.
    """
    return _decode(_KINDS.get(kind, UnknownEvent), load_object(body))


def _decode(kind: type[WebhookEvent], raw: JsonObject) -> WebhookEvent:
    return UnknownEvent(raw=raw) if kind is UnknownEvent else decode_model(kind, raw)


def _kind(raw: JsonObject) -> type[WebhookEvent]:
    """Return the kind by its shape: several may be sent to one address, and only the newer ones name themselves."""
    for member in ("eventType", "type"):
        name = raw.get(member)
        if isinstance(name, str) and name in _BY_NAME:
            return _BY_NAME[name]
    for kind, required in _BY_SHAPE:
        for member in required:
            if raw.get(member) is None:  # null means as little as a missing member
                break
        else:
            return kind
    return UnknownEvent
