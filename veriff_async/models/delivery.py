"""Deliveries: events that an inbox passes to the handlers of a receiver, at least once each."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

from attrs import field, frozen

from veriff_async.models.events import WebhookEvent
from veriff_async.models.state import IgnoredReason, SessionState

__all__ = ("Delivery", "DeliveryOutcome", "DeliveryRecord", "DeliveryStatus")

EventT_co = TypeVar("EventT_co", bound=WebhookEvent, covariant=True)


class DeliveryStatus(StrEnum):
    """How far the handlers are with an event."""

    QUEUED = "queued"
    """It waits for its first attempt, for its next one, or for an earlier event of its session."""
    LEASED = "leased"
    """A process handles it. If the process has died, the event is queued again when the lease ends."""
    HANDLED = "handled"
    """All handlers have finished."""
    DEAD = "dead"
    """Its last attempt has failed. It stays until it is queued again, or until the retention deletes it."""


@frozen(kw_only=True)
class Delivery(Generic[EventT_co]):
    """One attempt to handle an event.

    Attributes:
        event: The event; its ``dedup_key`` is the same in each attempt.
        attempt: The number of this attempt, 1 for the first. An attempt during which the process died counts.
        state: The state of the session when the attempt began, if the event names a session with a state.
        ignored: Why the event did not count for that state when it was recorded; ``None`` if it did.
        recorded_at: When the event was recorded, in seconds since 1970 by the clock of the inbox.
        handled_by: The names of the handlers that have finished in earlier attempts.
        lease: The text by which the inbox recognises this attempt.
    """

    event: EventT_co
    attempt: int
    state: SessionState | None = None
    ignored: IgnoredReason | None = None
    recorded_at: float
    handled_by: frozenset[str] = frozenset()
    lease: str = field(repr=False)


@frozen(kw_only=True)
class DeliveryOutcome:
    """The outcome of an attempt: whether the event is finished, tried again or dead; see `DeliveryInbox.settle`.

    Attributes:
        status: ``handled``, ``dead``, or ``queued`` for another attempt. ``leased`` keeps the lease and only stores
            `handled_by`.
        handled_by: The names of all handlers that have finished so far.
        delay: Seconds until the next attempt, for ``queued``.
        error: Why the attempt failed: the class of the error and where it was raised, without personal data.
        counts: Whether the attempt counts. It does not when the process stopped before its handlers could finish.
    """

    status: DeliveryStatus
    handled_by: frozenset[str] = frozenset()
    delay: float = 0.0
    error: str | None = None
    counts: bool = True


@frozen(kw_only=True)
class DeliveryRecord:
    """How far the handlers are with a stored event, for people and monitoring; without personal data.

    Attributes:
        session_id: The session, if the event names one.
        dedup_key: The key of the event.
        kind: The kind of the event, for example ``decision``; ``unknown`` if the stored event cannot be read.
        status: How far the handlers are; ``None`` if the event was recorded without handlers.
        attempts: The attempts that counted.
        recorded_at: When the event was recorded, in seconds since 1970 by the clock of the inbox.
        due_at: When the next attempt may begin or the lease ends, for ``queued`` and ``leased``.
        error: Why the last attempt failed, if it did, or that the stored event cannot be read.
        handled_by: The names of the handlers that have finished.
    """

    session_id: str | None
    dedup_key: str
    kind: str
    status: DeliveryStatus | None
    attempts: int = 0
    recorded_at: float
    due_at: float | None = None
    error: str | None = None
    handled_by: frozenset[str] = frozenset()
