"""Checks of what a program passes to an inbox, or to the functions with which it writes an inbox of its own.

A wrong type is a mistake in the caller's code. Without these checks the store would be blamed for it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, cast, get_args

from veriff_async._protocol.arguments import check_instance, type_name
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.events import WebhookEvent
from veriff_async.models.state import SessionState

__all__ = ("check_event", "check_record", "check_session_id", "check_session_ids", "check_state", "check_submission")

_EVENTS: Final[tuple[type, ...]] = get_args(WebhookEvent)


def check_event(event: object) -> None:
    """Check an event.

    Raises:
        InvalidArgumentError: It is of another type.
    """
    if not isinstance(event, _EVENTS):
        msg = f"event must be a webhook event, not {type_name(event)}: pass what parse_webhook returns."
        raise InvalidArgumentError(msg)


def check_record(event: object, source: object) -> None:
    """Check the arguments of `Inbox.record`.

    Raises:
        InvalidArgumentError: One of them is of another type.
    """
    # Read for every webhook: nearly always both have exactly these classes.
    if event.__class__ in _EVENTS and source.__class__ is DecisionSource:
        return
    check_event(event)
    remedy = "pass DecisionSource.WEBHOOK or DecisionSource.POLL"
    check_instance("source", source, DecisionSource, remedy=remedy, error=InvalidArgumentError)


def check_state(state: object) -> None:
    """Check the state of a session.

    Raises:
        InvalidArgumentError: It is of another type.
    """
    remedy = "pass what apply_event or load_state returns"
    check_instance("state", state, SessionState, remedy=remedy, error=InvalidArgumentError)


def check_session_id(session_id: object) -> None:
    """Check the id of a session, or ``None`` for events without one.

    Raises:
        InvalidArgumentError: It is of another type.
    """
    if session_id is not None:
        check_instance("session_id", session_id, str, remedy="pass the id as text", error=InvalidArgumentError)


def check_session_ids(session_ids: object) -> tuple[str, ...]:
    """Return the ids of sessions, which the caller may change afterwards.

    Raises:
        InvalidArgumentError: They are a single text, not a collection, or not all texts.
    """
    ids = _as_tuple(session_ids)
    if ids is None:
        msg = f"session_ids must be a collection of ids, not {type_name(session_ids)}: pass for example [session_id]."
        raise InvalidArgumentError(msg)
    wrong = [session_id for session_id in ids if not isinstance(session_id, str)]
    if wrong:
        msg = f"session_ids must contain texts, but one is of type {type_name(wrong[0])}: pass the ids as text."
        raise InvalidArgumentError(msg)
    return cast("tuple[str, ...]", ids)


def check_submission(session_id: object, submission: object) -> None:
    """Check the arguments of `SubmissionInbox.save_submission`.

    Raises:
        InvalidArgumentError: One of them is not a text.
    """
    check_instance("session_id", session_id, str, remedy="pass the id as text", error=InvalidArgumentError)
    check_instance("submission", submission, str, remedy="pass a text", error=InvalidArgumentError)


def _as_tuple(value: object) -> tuple[object, ...] | None:
    # A text is a collection of texts too, each with one character.
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Collection):
        return None
    return tuple(cast("Collection[object]", value))
