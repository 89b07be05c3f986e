"""The state of a session in an inbox, and the result of recording an event."""

from __future__ import annotations

from enum import StrEnum

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.decision import Decision
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.events import WebhookEvent

__all__ = ("IgnoredReason", "OpenAttempt", "RecordResult", "SessionState")


@frozen(kw_only=True)
class OpenAttempt(Model):
    """An attempt that was started or submitted, and is not decided yet.

    Attributes:
        attempt_id: The attempt.
        status: Its latest status, ``started`` or ``submitted``.
        first_seen: When a message first named the attempt, in seconds since 1970 by the clock of the inbox.
    """

    attempt_id: str
    status: Status
    first_seen: float | None = None


@frozen(kw_only=True)
class SessionState(Model):
    """The latest state of one session, computed by `veriff_async.inbox.apply_event`.

    Attributes:
        session_id: The session.
        status: Its latest status: the progress of an attempt, or a decision.
        attempts: The ids of its attempts, the latest last.
        decision: The last decision that counted. `effective_decision` is ``None`` when a newer attempt superseded it.
        source: How the decision was received: ``poll`` until a webhook about it arrives, then ``webhook``.
        open_attempts: Undecided attempts, which determine the order of later messages.
        submission: The text that `SubmissionInbox.save_submission` has stored for the session, if there is one.
        recorded_at: When the last message about the session was recorded, in seconds since 1970 by the clock of the
            inbox; of states that `get_states` returned, if the inbox has it.
    """

    session_id: str
    status: Status
    attempts: tuple[str, ...] = ()
    decision: Decision | None = None
    source: DecisionSource | None = None
    open_attempts: tuple[OpenAttempt, ...] = field(default=(), repr=False, eq=False)
    submission: str | None = field(default=None, repr=False, eq=False)
    recorded_at: float | None = field(default=None, repr=False, eq=False)

    @property
    def attempt_id(self) -> str | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def effective_decision(self) -> Decision | None:
        """The decision, or ``None`` when a newer attempt has superseded it."""
        # A new attempt changes the status and the latest attempt, but the old decision stays, to compare times with.
        decision = self.decision
        if decision is None or decision.status != self.status or decision.attempt_id not in {None, self.attempt_id}:
            return None
        return decision


class IgnoredReason(StrEnum):
    """The reason why an event does not count for the state of its session."""

    DUPLICATE = "duplicate"
    """The same message, by its ``dedup_key``, was recorded before. It is not stored twice."""
    UNCHANGED = "unchanged"
    """The state already contains what the message reports."""
    STALE = "stale"
    """A newer attempt or a newer status was recorded before the message came."""
    FINAL = "final"
    """The session has a final decision, which only a later correction by Veriff replaces."""
    IRRELEVANT = "irrelevant"
    """Messages of this kind do not change the state of a session."""
    ERASED = "erased"
    """`ErasableInbox.erase` has erased the session, so nothing about it is stored."""


@frozen(kw_only=True)
class RecordResult:
    """The result of recording an event.

    Attributes:
        event: The event.
        state: The state of its session after the event, if the event names a session with a state.
        ignored: Why the event does not count; ``None`` when it does, so that `state` reflects it.
    """

    event: WebhookEvent
    state: SessionState | None = None
    ignored: IgnoredReason | None = None

    @property
    def is_duplicate(self) -> bool:
        """Whether the same message was recorded before."""
        return self.ignored is IgnoredReason.DUPLICATE
