"""What a message does to what is known of its session: in any order and however often, none lowers a state.

Veriff delivers each webhook on its own, at least once, for up to seven days (https://help.veriff.com, article 3250261),
so a message may come after those that followed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async.models.decision import Decision, DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.events import DecisionEvent, FullAutoEvent, SessionEvent
from veriff_async.models.json import as_list
from veriff_async.models.state import Ignored, SessionState
from veriff_async.protocol.codec import UnreadableError, dump, load_object, read
from veriff_async.protocol.lifecycle import DECIDED, can_follow, is_final, is_later, is_same
from veriff_async.protocol.writing import to_json

if TYPE_CHECKING:
    from veriff_async.models.events import WebhookEvent

__all__ = ("advance", "dump_state", "is_untold", "load_state")

_MOST_ATTEMPTS: Final = 32
"""Attempts that are remembered; documented are ten, and hostile input must not make a state grow."""


def advance(
    state: SessionState | None, event: WebhookEvent, source: DecisionSource = DecisionSource.WEBHOOK
) -> tuple[SessionState | None, Ignored | None]:
    """Return the state after a message, and why the message changed nothing, if so.

    Args:
        state: What was known of the session before, if anything was.
        event: The message; that it was not recorded before is the caller's to check.
        source: Who told it.
    """
    match event:
        case DecisionEvent(decision=decision):
            return _decided(state, decision, source)
        case SessionEvent(answered_decision=Decision() as answered):
            return _answered(state or _unseen(answered.session_id), answered, source)
        case SessionEvent(session_id=session_id, attempt_id=attempt, action=action):
            return _moved(state or _unseen(session_id), attempt, action)
        case FullAutoEvent(session_id=session_id, attempt_id=attempt, decision=found):
            return _told(state or _unseen(session_id), attempt, found.status)
        case _:
            return state, Ignored.UNRELATED


def is_untold(state: SessionState) -> bool:
    """Tell whether the session was decided, and the decision itself is yet to be asked for.

    So it is after a Full Auto webhook, which has a form of its own.
    """
    return state.status in DECIDED and state.current is None


def _unseen(session_id: str) -> SessionState:
    return SessionState(session_id=session_id, status=Status.CREATED)


def _decided(
    state: SessionState | None, decision: Decision, source: DecisionSource
) -> tuple[SessionState, Ignored | None]:
    if state is None:
        state = _unseen(decision.session_id)
    known = state.decision
    if known is not None and is_same(known, decision):
        return state, Ignored.SAME
    if is_final(state.status):
        if not _corrects(state, decision):
            return state, _after_the_end(state, decision.status)
    elif not _counts(state, decision):
        return state, Ignored.LATE
    return _at(state, decision.attempt_id, decision.status, (decision, source)), None


def _corrects(state: SessionState, decision: Decision) -> bool:
    """Tell whether a decision changes a final state, or is the one that the state was told of without it."""
    known = state.decision
    if known is None or not is_final(known.status):
        return decision.status == state.status
    # Only what proves to be later: a decision that is late looks the same, but for its time.
    is_next = decision.status == state.status or can_follow(state.status, decision.status)
    return is_next and is_later(decision, known) is True


def _counts(state: SessionState, decision: Decision) -> bool:
    """Tell whether a decision on a session that is not over is news, rather than late."""
    if is_final(decision.status):
        return True
    known, attempt = state.decision, decision.attempt_id
    later = None if known is None else is_later(decision, known)
    if known is None or known.attempt_id != attempt:
        # Times tell in which order attempts were; without them, it is the order in which they were heard of.
        return not _is_passed(state, attempt) if later is None else later
    if _is_passed(state, attempt):
        return False
    is_open = known.status != Status.RESUBMISSION_REQUESTED and can_follow(known.status, decision.status)
    return is_open if later is None else later


def _moved(state: SessionState, attempt: str | None, action: Status) -> tuple[SessionState, Ignored | None]:
    if is_final(state.status):
        return state, _after_the_end(state, action)
    known = state.decision
    is_decided = known is not None and attempt is not None and known.attempt_id == attempt
    if is_decided or _is_passed(state, attempt):
        return state, Ignored.LATE
    return _step(state, attempt, action)


def _answered(state: SessionState, answered: Decision, source: DecisionSource) -> tuple[SessionState, Ignored | None]:
    """Put the request for resubmission behind that this application answered with a submission.

    Nothing but that request is put behind: a decision on the new attempt may be recorded before the submission is.
    """
    if is_final(state.status):
        return state, _after_the_end(state, Status.SUBMITTED)
    known = state.decision
    is_known = known is not None and is_same(known, answered)
    if not is_known and known is not None and not _counts(state, answered):
        return state, Ignored.LATE
    # The inbox may have missed the request, and hold the review before it.
    status = answered.status if state.current is not None else state.status
    if status != Status.SUBMITTED and not can_follow(status, Status.SUBMITTED):
        return state, Ignored.LATE
    attempts = state.attempts
    if answered.attempt_id is not None and answered.attempt_id not in attempts:
        attempts = (answered.attempt_id, *attempts)[-_MOST_ATTEMPTS:]
    after = evolve(state, status=Status.SUBMITTED, attempts=attempts)
    if not is_known:
        after = evolve(after, decision=answered, source=source)
    return after, Ignored.SAME if after == state else None


def _told(state: SessionState, attempt: str | None, status: Status) -> tuple[SessionState, Ignored | None]:
    if is_final(state.status):
        return state, _after_the_end(state, status)
    if _is_passed(state, attempt) and not is_final(status):
        return state, Ignored.LATE
    return _step(state, attempt, status)


def _step(state: SessionState, attempt: str | None, status: Status) -> tuple[SessionState, Ignored | None]:
    if attempt is not None and attempt != state.attempt_id:
        return _at(state, attempt, status), None
    if state.status == status:
        return state, Ignored.SAME
    # What follows a request for resubmission is another attempt, unless it is the end.
    is_closed = attempt is not None and state.status == Status.RESUBMISSION_REQUESTED and not is_final(status)
    if is_closed or not can_follow(state.status, status):
        return state, Ignored.LATE
    return _at(state, attempt, status), None


def _after_the_end(state: SessionState, status: Status) -> Ignored:
    return Ignored.SAME if status == state.status else Ignored.OVER


def _is_passed(state: SessionState, attempt: str | None) -> bool:
    """Tell whether a later attempt was seen."""
    return attempt in state.attempts[:-1]


def _at(
    state: SessionState,
    attempt: str | None,
    status: Status,
    told: tuple[Decision | None, DecisionSource | None] | None = None,
) -> SessionState:
    attempts = state.attempts
    if attempt is not None and attempts[-1:] != (attempt,):
        attempts = (*(known for known in attempts if known != attempt), attempt)[-_MOST_ATTEMPTS:]
    decision, source = told or (state.decision, state.source)
    return SessionState(session_id=state.session_id, status=status, attempts=attempts, decision=decision, source=source)


def dump_state(state: SessionState) -> bytes:
    """Write a state as JSON, for a store."""
    decision = state.decision
    return dump(
        {
            "id": state.session_id,
            "status": state.status,
            "attempts": state.attempts,
            "decision": None if decision is None else decision.raw or to_json(decision),
            "source": state.source,
        }
    )


def load_state(text: bytes) -> SessionState:
    """Read what `dump_state` wrote.

    Raises:
        UnreadableError: It is nothing that this version wrote, or a newer one in a form that it knows.
    """
    found = load_object(text)
    session_id, status = found.get("id"), found.get("status")
    attempts, decision, source = found.get("attempts"), found.get("decision"), found.get("source")
    if not isinstance(session_id, str) or not isinstance(status, str):
        problem = "expected a text @ $.id and $.status"
        raise UnreadableError(problem)
    return SessionState(
        session_id=session_id,
        status=Status(status),
        attempts=tuple(attempt for attempt in as_list(attempts) if isinstance(attempt, str)),
        decision=None if decision is None else read(Decision, decision, path="$.decision"),
        source=next((known for known in DecisionSource if known == source), None),
    )
