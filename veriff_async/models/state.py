"""What is known of a session after some messages about it, and what became of one message."""

from __future__ import annotations

from enum import StrEnum

from attrs import field, frozen

from veriff_async.models.decision import Decision, DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.events import WebhookEvent

__all__ = ("IgnoredReason", "OpenAttempt", "RecordResult", "SessionState")


@frozen(kw_only=True)
class OpenAttempt:
    """An attempt that has begun, and that no decision names yet.

    Attributes:
        attempt_id: The attempt.
        status: Its latest status, ``started`` or ``submitted``.
        first_seen: When a message first named the attempt, in seconds since 1970 by the clock of the inbox.
    """

    attempt_id: str
    status: Status
    first_seen: float | None = None


@frozen(kw_only=True)
class SessionState:
    """The latest state of one session, by the rules of `veriff_async._protocol.session_state`.

    Attributes:
        session_id: The session.
        status: Its latest status: what an attempt came to, or what was decided.
        attempts: The attempts that messages named, the latest last.
        decision: The last decision that counted; see `effective_decision` for whether it still stands.
        source: Who told the decision: ``poll`` until a webhook about it comes, then ``webhook``.
        open_attempts: Attempts that have begun and are undecided; `_protocol.session_state` orders by them.
    """

    session_id: str
    status: Status
    attempts: tuple[str, ...] = ()
    decision: Decision | None = None
    source: DecisionSource | None = None
    open_attempts: tuple[OpenAttempt, ...] = field(default=(), repr=False, eq=False)

    @property
    def attempt_id(self) -> str | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def effective_decision(self) -> Decision | None:
        """The decision, or ``None`` when a newer attempt has superseded it."""
        decision = self.decision
        if decision is None or decision.status != self.status or decision.attempt_id not in {None, self.attempt_id}:
            return None
        return decision


class IgnoredReason(StrEnum):
    """Why a message does not count for the state of its session."""

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


@frozen(kw_only=True)
class RecordResult:
    """What became of a message that was recorded.

    Attributes:
        event: The message.
        state: The state of its session afterwards, where there is one.
        ignored: Why it does not count; ``None`` when it does, so that the state says what it says.
    """

    event: WebhookEvent
    state: SessionState | None = None
    ignored: IgnoredReason | None = None

    @property
    def is_duplicate(self) -> bool:
        """Whether the very same message was recorded before."""
        return self.ignored is IgnoredReason.DUPLICATE
