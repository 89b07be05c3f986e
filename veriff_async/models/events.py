"""Webhook events: one class for each kind, to distinguish with ``match``.

Every event has its session, its JSON as received, and a `dedup_key`, which is the same for every delivery of a message.
The key consists of kind, session, attempt, status, time and a digest of the JSON.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import ClassVar, TypeAlias

from attrs import field, frozen

from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.base import Model
from veriff_async.models.decision import Decision
from veriff_async.models.dedup import dedup_key
from veriff_async.models.enums import Status
from veriff_async.models.fullauto import FullAutoDecision
from veriff_async.models.json import JsonObject
from veriff_async.models.registry import CurpResult, IneRecord, IneResult
from veriff_async.models.watchlist import WatchlistScreening

__all__ = (
    "AddressEvent",
    "CurpEvent",
    "DecisionEvent",
    "FullAutoEvent",
    "IneCurpEvent",
    "IneEvent",
    "SessionEvent",
    "UnknownEvent",
    "UserStatusEvent",
    "WatchlistEvent",
    "WebhookEvent",
    "event_time",
)


@frozen(kw_only=True)
class _Event(Model):
    """Base class of all events.

    Attributes:
        raw: The message as received.
    """

    kind: ClassVar[str]

    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    # The digest serialises the whole message, so it is computed once, and only if a store needs it.
    @cached_property
    def dedup_key(self) -> str:
        """The same text for every delivery of one message, so that stores can deduplicate. Computed on first use."""
        return dedup_key(self)

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        """Return session, attempt, status and time of the message, ``None`` for those that it does not have."""
        raise NotImplementedError


@frozen(kw_only=True)
class _AttemptEvent(_Event):
    """An event of one attempt.

    Attributes:
        session_id: The session.
        attempt_id: The attempt; the oldest payloads omit it.
        vendor_data: The value passed at creation.
        end_user_id: The value passed at creation.
    """

    session_id: str
    attempt_id: str | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None


@frozen(kw_only=True)
class SessionEvent(_AttemptEvent):
    """An attempt was started or submitted, as documented by Veriff, or submitted again by this application.

    Attributes:
        session_id: The session.
        attempt_id: The attempt; the oldest payloads omit it.
        action: ``started`` or ``submitted``; ``resubmission_requested`` when Veriff refused a submission that this
            application recorded, so that the request is effective again.
        code: 7001 or 7002.
        feature: ``selfid``.
        vendor_data: The value passed at creation.
        end_user_id: The value passed at creation.
        answered_decision: The request for resubmission that `VerificationSession.submit` answers. Veriff does not
            send it: the client records it before it submits, so that waits in every process ignore the old decision.
    """

    kind: ClassVar[str] = "event"

    action: Status
    code: int | None = None
    feature: str | None = None
    answered_decision: Decision | None = None

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        return self.session_id, self.attempt_id, self.code or self.action, None


@frozen(kw_only=True)
class AddressEvent(_Event):
    """A proof of address was submitted. An older page documents it, and only older integrations receive it.

    Attributes:
        session_id: The session.
        address_id: The id with which the result is requested.
        action: ``submitted``.
        code: 7005.
        feature: The name of the feature.
        vendor_data: The value passed at creation.
    """

    kind: ClassVar[str] = "address"

    session_id: str
    address_id: str
    action: Status
    code: int | None = None
    feature: str | None = None
    vendor_data: str | None = None

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        return self.session_id, self.address_id, self.code or self.action, None


@frozen(kw_only=True)
class DecisionEvent(_Event):
    """A session was decided (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1)."""

    kind: ClassVar[str] = "decision"

    decision: Decision

    @property
    def session_id(self) -> str:
        """The session."""
        return self.decision.session_id

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        decision = self.decision
        return decision.session_id, decision.attempt_id, decision.status, decision.decision_time


@frozen(kw_only=True)
class FullAutoEvent(_AttemptEvent):
    """A session was decided automatically. Full Auto integrations receive it instead of a `DecisionEvent`.

    Attributes:
        session_id: The session.
        attempt_id: The attempt.
        decision: The decision.
        vendor_data: The value passed at creation.
        end_user_id: The value passed at creation.
        version: Version of the message.
        acceptance_time: When the session was created.
        time: When the message was sent.

    See https://devdocs.veriff.com/docs/essential-plan-full-auto.
    """

    kind: ClassVar[str] = "fullauto"

    decision: FullAutoDecision
    version: str | None = None
    acceptance_time: datetime | None = None
    time: datetime | None = None

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        return self.session_id, self.attempt_id, self.decision.status, self.time


@frozen(kw_only=True)
class WatchlistEvent(_Event):
    """A watchlist screening was completed (https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening-1)."""

    kind: ClassVar[str] = "watchlist"

    screening: WatchlistScreening

    @property
    def session_id(self) -> str | None:
        """The session; older payloads contain only the attempt."""
        return self.screening.session_id

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        screening = self.screening
        return screening.session_id, screening.attempt_id, screening.match_status, screening.created_at


@frozen(kw_only=True)
class UserStatusEvent(_AttemptEvent):
    """A user of the Customer Portal assigned a custom status to an attempt, as documented by Veriff.

    We assume that it does not change the decision.

    Attributes:
        session_id: The session.
        status: The assigned status.
        attempt_id: The attempt.
        vendor_data: The value passed at creation.
        end_user_id: The value passed at creation.
        time: When the message was sent.
    """

    kind: ClassVar[str] = "user-status"

    status: UserDefinedStatus = UserDefinedStatus()
    time: datetime | None = None

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        return self.session_id, self.attempt_id, self.status.status_code, self.time


@frozen(kw_only=True)
class IneEvent(_AttemptEvent):
    """The INE registry has answered (https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1).

    Attributes:
        session_id: The session.
        result: The result of the registry.
        status: The result as Spanish text.
        code: The result as a number, 200 if the document was found.
        attempt_id: The attempt.
        vendor_data: The value passed at creation.
        end_user_id: The value passed at creation.
        version: Version of the message.
        time: When the message was sent.
    """

    kind: ClassVar[str] = "ine"

    result: IneResult = IneResult()
    status: str | None = None
    code: int | None = None
    version: str | None = None
    time: datetime | None = None

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        return self.session_id, self.attempt_id, self.code, self.time


@frozen(kw_only=True)
class CurpEvent(_AttemptEvent):
    """The CURP registry has answered (https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1).

    Attributes:
        session_id: The session.
        result: The result of the registry.
        status: The result as text, for example ``found``.
        code: The result as a number, 200 if the person was found.
        attempt_id: The attempt.
        vendor_data: The value passed at creation.
        end_user_id: The value passed at creation.
        version: Version of the message.
    """

    kind: ClassVar[str] = "curp"

    result: CurpResult = CurpResult()
    status: str | None = None
    code: int | None = None
    version: str | None = None

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        return self.session_id, self.attempt_id, self.code or self.status, None


@frozen(kw_only=True)
class IneCurpEvent(_AttemptEvent):
    """Both registries have answered in one message. Parts of its form are a guess.

    Attributes:
        session_id: The session.
        ine: The result of INE.
        curp: The result of CURP.
        attempt_id: The attempt.
        vendor_data: The value passed at creation.
        end_user_id: The value passed at creation.
    """

    kind: ClassVar[str] = "ine-curp"

    ine: IneRecord = IneRecord()
    curp: CurpResult = CurpResult()

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        return self.session_id, self.attempt_id, self.curp.status_curp, None


@frozen(kw_only=True)
class UnknownEvent(_Event):
    """A signed webhook of a kind that this version does not support. Veriff adds kinds without notice."""

    kind: ClassVar[str] = "unknown"

    raw: JsonObject = field(repr=False, hash=False)

    @property
    def session_id(self) -> str | None:
        """The session, if the message names one, as all newer kinds do."""
        session_id = self.raw.get("sessionId")
        return session_id if isinstance(session_id, str) else None

    def _dedup_fields(self) -> tuple[object, object, object, object]:
        return self.session_id, None, None, None


WebhookEvent: TypeAlias = (
    DecisionEvent
    | SessionEvent
    | FullAutoEvent
    | WatchlistEvent
    | UserStatusEvent
    | IneEvent
    | CurpEvent
    | IneCurpEvent
    | AddressEvent
    | UnknownEvent
)
"""The event of a webhook, as `parse_webhook` returns it: one class for each kind."""


def event_time(event: WebhookEvent) -> datetime | None:
    """Return the time that a message states, by Veriff's clock: that of the decision, or of the message."""
    if isinstance(event, DecisionEvent):
        return event.decision.decision_time
    time = event._dedup_fields()[3]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return time if isinstance(time, datetime) else None
