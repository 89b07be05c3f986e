"""The state of a session that all its watches share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from veriff_async._protocol.watched_state import later_state, state_of_attempts, with_decision, with_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.models.attempt import Attempt
    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status
    from veriff_async.models.state import SessionState

__all__ = ("WatchedSession",)


@define(eq=False, weakref_slot=False)
class WatchedSession:
    """The latest state of a session, that any source has reported. Each method returns whether it has changed.

    Attributes:
        session_id: The session.
        first: The state that the program knew when a watch began. It is shown when no source knows a later one.
        state: The latest state, or ``None`` before a source has answered.
    """

    session_id: str
    first: SessionState | None
    state: SessionState | None = None

    def _set(self, state: SessionState | None) -> bool:
        before, self.state = self.state, state
        return before is not state

    def add_first(self) -> bool:
        """Take the state that the program knew, unless a source has reported one."""
        return self.state is None and self._set(self.first)

    def add_known(self, status: Status) -> bool:
        """Take the status that the program knew when another watch began."""
        known = self.state or self.first
        if known is not None and known.decision is not None:  # it may be of the attempt before
            return False
        if self.state is None:
            self.first = with_status(known, self.session_id, status)
            return False
        return self.add_status(status)

    def add_state(self, state: SessionState) -> bool:
        """Take a state of the inbox."""
        return self._set(later_state(self.state or self.first, state))

    def add_decision(self, decision: Decision) -> bool:
        """Take a current decision that was polled."""
        return self._set(with_decision(self.state or self.first, decision))

    def add_status(self, status: Status) -> bool:
        """Take the status after a call of this client."""
        return self._set(with_status(self.state or self.first, self.session_id, status))

    def add_attempts(self, attempts: Sequence[Attempt]) -> bool:
        """Take the attempts of a session without a current decision, unless a source has reported a state."""
        return self.state is None and self._set(state_of_attempts(self.session_id, attempts))
