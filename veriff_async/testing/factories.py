"""Webhook events as Veriff sends them, about any session of a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.webhook import event_from, event_from_resubmission
from veriff_async.models.events import DecisionEvent

if TYPE_CHECKING:
    from veriff_async.models.decision import Decision
    from veriff_async.models.events import WebhookEvent

__all__ = ("decision_event", "decision_of", "full_auto_event", "resubmitted_event", "session_event", "watchlist_event")

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
# The codes that Veriff documents for these words.
_CODES: Final = {
    "approved": 9001,
    "declined": 9102,
    "resubmission_requested": 9103,
    "expired": 9104,
    "abandoned": 9104,
    "review": 9121,
    "started": 7001,
    "submitted": 7002,
}


def session_event(session_id: str, action: str, *, attempt_id: str | None = "first") -> WebhookEvent:
    """Return the event of a started or submitted attempt.

    Args:
        session_id: The session.
        action: ``started`` or ``submitted``.
        attempt_id: The id of the attempt.
    """
    return event_from(
        {
            "id": session_id,
            "attemptId": attempt_id,
            "feature": "selfid",
            "code": _CODES.get(action, 0),
            "action": action,
            "vendorData": None,
            "endUserId": None,
        }
    )


def decision_event(
    session_id: str, status: str, *, attempt_id: str | None = "first", minute: int | None = None, ip: str | None = None
) -> WebhookEvent:
    """Return the event of a decision.

    Args:
        session_id: The session.
        status: The decision, for example ``approved``.
        attempt_id: The id of the attempt.
        minute: The decision time in minutes after the first of January 2026; without it the event has no decision
            time.
        ip: Address of the device; another one gives another event about the same decision.
    """
    decision_time = None if minute is None else (_START + timedelta(minutes=minute)).isoformat(timespec="milliseconds")
    return event_from(
        {
            "status": "success",
            "verification": {
                "id": session_id,
                "attemptId": attempt_id,
                "status": status,
                "code": _CODES.get(status),
                # Veriff writes UTC as Z.
                "decisionTime": decision_time and decision_time.replace("+00:00", "Z"),
                "person": {"firstName": "Ada", "lastName": "Løvelace"},
                "document": {"type": "PASSPORT", "country": "EE", "number": None},
            },
            "technicalData": {"ip": ip},
        }
    )


def decision_of(event: WebhookEvent) -> Decision:
    """Return the decision of an event."""
    if isinstance(event, DecisionEvent):
        return event.decision
    msg = f"A {type(event).__name__} has no decision."
    raise TypeError(msg)


def resubmitted_event(
    session_id: str, *, attempt_id: str | None = "first", minute: int | None = None, refused: bool = False
) -> WebhookEvent:
    """Return the event that a client records after a resubmission.

    Args:
        session_id: The session.
        attempt_id: The id of the attempt for which a resubmission was requested.
        minute: The time of that request; see `decision_event`.
        refused: Whether Veriff refused the resubmission.
    """
    request = decision_event(session_id, "resubmission_requested", attempt_id=attempt_id, minute=minute)
    return event_from_resubmission(decision_of(request), refused=refused)


def full_auto_event(session_id: str, status: str, *, attempt_id: str | None = "first") -> WebhookEvent:
    """Return the event of a decision without a human.

    Args:
        session_id: The session.
        status: The decision, for example ``approved``.
        attempt_id: The id of the attempt.
    """
    return event_from(
        {
            "status": "success",
            "eventType": "fullauto",
            "sessionId": session_id,
            "attemptId": attempt_id,
            "data": {"verification": {"decision": status}},
        }
    )


def watchlist_event(session_id: str | None) -> WebhookEvent:
    """Return the event of a watchlist screening, which does not change the session's state.

    Args:
        session_id: The session; older payloads have none.
    """
    return event_from({"checkType": "initial_result", "matchStatus": "no_match", "sessionId": session_id})
