"""What is known of a session after some messages about it, and what became of one message."""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

from veriff_async.models.decision import Decision, DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.events import WebhookEvent

__all__ = ("Ignored", "Recorded", "SessionState")


@frozen(kw_only=True)
class SessionState:
    """The latest state of one session, by the rules of `veriff_async.protocol.ledger`.

    Attributes:
        session_id: The session.
        status: Its latest status: what an attempt came to, or what was decided.
        attempts: The attempts that messages named, the latest last.
        decision: The last decision that counted; see `current` for whether it still stands.
        source: Who told the decision, ``webhook`` or ``poll``.
    """

    session_id: str
    status: Status
    attempts: tuple[str, ...] = ()
    decision: Decision | None = None
    source: DecisionSource | None = None

    @property
    def attempt_id(self) -> str | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def current(self) -> Decision | None:
        """The decision, unless a newer attempt has put it behind."""
        decision = self.decision
        if decision is None or decision.status != self.status or decision.attempt_id not in {None, self.attempt_id}:
            return None
        return decision


class Ignored(StrEnum):
    """Why a message left the state of its session as it was."""

    REPEATED = "repeated"
    """This very message was recorded before; it is not kept twice."""
    SAME = "same"
    """It tells what the state says already."""
    LATE = "late"
    """It tells of something that was passed by before it came."""
    OVER = "over"
    """The session is over; only a later correction by Veriff counts."""
    UNRELATED = "unrelated"
    """Messages of its kind tell nothing of a state."""


@frozen(kw_only=True)
class Recorded:
    """What became of a message that was recorded.

    Attributes:
        event: The message.
        state: The state of its session afterwards, where there is one.
        ignored: Why it left the state as it was; ``None`` when it changed it.
    """

    event: WebhookEvent
    state: SessionState | None = None
    ignored: Ignored | None = None

    @property
    def is_repeated(self) -> bool:
        """Whether the very same message was recorded before."""
        return self.ignored is Ignored.REPEATED
