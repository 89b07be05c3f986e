"""What Veriff posts to a webhook."""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from veriff_async.models.decision import Decision
from veriff_async.models.enums import Status
from veriff_async.models.json import JsonObject

__all__ = ("DecisionEvent", "SessionEvent", "UnknownEvent", "WebhookEvent")


@frozen(kw_only=True)
class SessionEvent:
    """An attempt was started or submitted (https://devdocs.veriff.com/apidocs/event-webhook).

    Attributes:
        session_id: The session.
        action: ``started`` or ``submitted``.
        code: 7001 or 7002.
        attempt_id: The attempt; the oldest payloads have none.
        vendor_data: What was given at creation.
        end_user_id: What was given at creation.
    """

    session_id: str
    action: Status
    code: int | None = None
    attempt_id: str | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class DecisionEvent:
    """A session was decided (https://devdocs.veriff.com/apidocs/decision-webhook)."""

    decision: Decision


@frozen(kw_only=True)
class UnknownEvent:
    """A signed webhook of a kind that this version does not know; Veriff adds kinds without notice."""

    raw: JsonObject = field(repr=False)


WebhookEvent: TypeAlias = DecisionEvent | SessionEvent | UnknownEvent
