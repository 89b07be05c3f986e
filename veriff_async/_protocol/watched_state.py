"""The state of a session that is watched, which several sources report: the inbox, polls, and this client's own calls.

An inbox computes its states with `session_state.apply_event`, so the latest one that it returns is the right one. Two
things remain to be decided here. A read of the inbox may be older than a decision that was polled since. And without
an inbox only decisions and the client's own submissions are known, so they are applied to the state before.

A watch shows a state if it differs from the one before in what a user sees, which is status and decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from veriff_async._protocol.session_state import apply_event
from veriff_async._protocol.status_transitions import DECIDED, can_follow, is_final, is_later, is_same
from veriff_async._protocol.webhook import event_from_decision
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.state import SessionState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.models.attempt import Attempt
    from veriff_async.models.decision import Decision

__all__ = ("first_state", "is_shown", "later_state", "state_of_attempts", "with_decision", "with_status")


def is_shown(shown: SessionState, state: SessionState) -> bool:
    """Return whether a state has nothing to show that another one has not shown."""
    before, after = shown.effective_decision, state.effective_decision
    if shown.status != state.status or (before is None) != (after is None):
        return False
    return before is None or after is None or is_same(before, after)


def later_state(known: SessionState | None, read: SessionState) -> SessionState:
    """Return a state that was read from the inbox, or the known one if that is later."""
    return read if known is None or _is_later_state(known, read) else known


def _is_later_state(known: SessionState, read: SessionState) -> bool:
    order = _order_of_decisions(known.decision, read.decision)
    if is_final(known.status):  # only a correction follows
        return order > 0 and can_follow(known.status, read.status)
    if is_final(read.status):
        return True
    # Attempts are in their order, so a read that has another one after the known one is later.
    is_new_attempt = known.attempt_id in read.attempts[:-1] and read.attempt_id not in known.attempts
    if is_new_attempt or order < 0:
        return is_new_attempt
    return read.status == known.status or can_follow(known.status, read.status)


def _order_of_decisions(known: Decision | None, read: Decision | None) -> int:
    """Return 1 if the decision that was read is newer, 0 if it is the same or none is known, and -1 if it is older."""
    if known is None:
        return 0 if read is None else 1
    if read is None:
        return -1
    if is_same(known, read):
        return 0
    return -1 if is_later(read, known) is False else 1


def with_decision(
    known: SessionState | None, decision: Decision, source: DecisionSource = DecisionSource.POLL
) -> SessionState | None:
    """Return the state after a current decision."""
    return apply_event(known, event_from_decision(decision), source)[0]


def with_status(known: SessionState | None, session_id: str, status: Status) -> SessionState | None:
    """Return the state after a progress that this client has made itself, or the known one if that is later."""
    if status in DECIDED:  # its decision shows it
        return known
    if known is None:
        return SessionState(session_id=session_id, status=status)
    return evolve(known, status=status) if can_follow(known.status, status) else known


def first_state(session_id: str, status: Status | None, last: Decision | None) -> SessionState | None:
    """Return the state that a program knows of, or ``None`` if it must be asked for."""
    state = None
    if last is not None:
        is_webhook = last.source is DecisionSource.WEBHOOK
        state = with_decision(None, last, DecisionSource.WEBHOOK if is_webhook else DecisionSource.POLL)
    return state if status is None else with_status(state, session_id, status)


def state_of_attempts(session_id: str, attempts: Sequence[Attempt]) -> SessionState | None:
    """Return the state of a session without a current decision, by its attempts, newest first."""
    status = attempts[0].status if attempts else Status.CREATED
    if status in DECIDED:  # since the decision was asked for: the next poll returns it
        return None
    return SessionState(session_id=session_id, status=status, attempts=tuple(each.id for each in reversed(attempts)))
