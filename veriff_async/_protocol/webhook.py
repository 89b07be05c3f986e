"""Webhooks: verifies the raw request and decodes the event. Nothing is parsed before the signature is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, get_args

from attrs import evolve

from veriff_async._protocol.arguments import check_text
from veriff_async._protocol.authenticity import match_secret
from veriff_async._protocol.inbox_arguments import check_event
from veriff_async._protocol.json.decode import decode_error, decode_model, dump_raw, load_object
from veriff_async._protocol.json.encode import to_json
from veriff_async._protocol.request_arguments import as_bytes
from veriff_async._protocol.status_transitions import without_details
from veriff_async.errors import DecodeError, InvalidArgumentError, WebhookPayloadError
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
    from veriff_async.models.decision import Decision
    from veriff_async.models.json import JsonObject

__all__ = (
    "dump_event",
    "event_from",
    "event_from_decision",
    "event_from_resubmission",
    "load_event",
    "parse_webhook",
)

# Several kinds may be sent to one address. The newer ones name themselves in ``eventType`` or ``type``, the older ones
# are recognised by the members that they require.
_BY_NAME: Final[dict[str, type[WebhookEvent]]] = {
    "fullauto": FullAutoEvent,
    "user-status.created": UserStatusEvent,
    "ine_registry": IneEvent,
    "curp_registry": CurpEvent,
    "combined-ine-curp-registry": IneCurpEvent,
}

# Real messages have about ten levels of nesting. Python's recursion limit is 1,000.
_MAX_DEPTH: Final = 250

_KINDS: Final[dict[str, type[WebhookEvent]]] = {kind.kind: kind for kind in get_args(WebhookEvent)}


def parse_webhook(headers: Mapping[str, str], body: bytes, credentials: Credentials) -> WebhookEvent:
    """Verify and decode a webhook.

    Args:
        headers: The request's headers, names in any case.
        body: The raw body, exactly as received; a body that was parsed and serialised again does not verify.
        credentials: The credentials of the expected sender. Any of their secrets may have signed the webhook.

    Returns:
        The event. An `UnknownEvent` keeps the JSON of any other kind.

    Raises:
        SignatureError: The webhook belongs to another API key or integration, or its signature is missing,
            malformed or wrong.
        WebhookPayloadError: The signature is valid, but the body cannot be decoded.
        InvalidArgumentError: An argument is of a wrong type; the message names the likely mistake.

    Example:
        >>> event = parse_webhook(request.headers, await request.read(), credentials)

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """
    body = as_bytes(body)
    match_secret(headers, body, credentials)
    try:
        raw = load_object(body)
        _check_depth(body, raw)
        return _decode(kind_of(raw), raw)
    except DecodeError as error:
        problems = error.problems
    msg = f"The webhook is signed, but cannot be decoded ({'; '.join(problems)}): check for a newer veriff-async."
    raise WebhookPayloadError(msg, problems=problems)


def _check_depth(body: bytes, raw: JsonObject) -> None:
    # Whether deeper JSON can be encoded again would depend on the depth of the caller's stack.
    if body.count(b"[") + body.count(b"{") <= _MAX_DEPTH:  # counting is faster than a search
        return
    level: list[object] = [raw]
    for _ in range(_MAX_DEPTH):
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
    """Decode the body of a webhook that was verified before.

    Raises:
        DecodeError: A member that its kind requires is missing or has another type.
    """
    return _decode(kind_of(raw), raw)


def event_from_decision(decision: Decision) -> DecisionEvent:
    """Return the event for a polled decision; it equals that of a webhook with the same content."""
    raw = decision.raw or to_json(decision)
    return DecisionEvent(decision=decision, raw=raw)


def event_from_resubmission(answered: Decision, *, refused: bool = False) -> SessionEvent:
    """Return the event that a client records when it submits a new attempt, or when Veriff refused that submission."""
    action = Status.RESUBMISSION_REQUESTED if refused else Status.SUBMITTED
    event = SessionEvent(session_id=answered.session_id, action=action, answered_decision=without_details(answered))
    return evolve(event, raw=to_json(event))


def dump_event(event: WebhookEvent) -> bytes:
    """Encode an event for a store, as the JSON that was received. `load_event` also needs its ``kind``.

    Raises:
        InvalidArgumentError: It is not an event, or its ``raw`` is not JSON.
    """
    check_event(event)
    return dump_raw(event.raw or to_json(event), "event")


def load_event(kind: str, body: bytes) -> WebhookEvent:
    """Decode an event that `dump_event` encoded.

    Raises:
        DecodeError: The body is not an event of this kind.
        InvalidArgumentError: An argument is of a wrong type.
    """
    kind = check_text("kind", kind, error=InvalidArgumentError)
    return _decode(_KINDS.get(kind, UnknownEvent), load_object(as_bytes(body)))


def _decode(kind: type[WebhookEvent], raw: JsonObject) -> WebhookEvent:
    return UnknownEvent(raw=raw) if kind is UnknownEvent else decode_model(kind, raw)


def kind_of(raw: JsonObject) -> type[WebhookEvent]:
    """Return the kind by its shape: several may be sent to one address, and only the newer ones name themselves."""
    for member in ("eventType", "type"):
        name = raw.get(member)
        if name is not None and isinstance(name, str) and name in _BY_NAME:
            return _BY_NAME[name]
    # By members that are required in a kind. Optional members do not identify it, because Veriff omits some of them.
    # Null is equivalent to a missing member.
    if raw.get("matchStatus") is not None:
        return WatchlistEvent
    if raw.get("verification") is not None:
        return DecisionEvent
    if raw.get("action") is not None and raw.get("addressId") is not None:
        return AddressEvent
    if raw.get("action") is not None and raw.get("id") is not None:
        return SessionEvent
    return UnknownEvent
