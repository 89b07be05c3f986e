"""Applies messages to the state of a session. Messages may come late, repeated or out of order.

Veriff delivers each webhook on its own, at least once, for up to seven days (https://help.veriff.com, article 3250261),
so a message may come after those that followed it. Evidence of the order, the strongest first:

1. A final decision ends the session. Only a correction with a later decision time replaces it.
2. Decision times order two decisions, and so the attempts that they are about.
3. A decision that was made before another, undecided attempt was first heard of is about an older attempt. Messages
   about starts and submissions have no time, so this compares a decision time with the clock of the inbox. It is used
   only for decisions of the last eight days: Veriff repeats webhooks for seven, so other times are not comparable.
4. Without comparable times, an attempt that has begun and is undecided is newer than one that only a webhook of a
   request or a review names: a resubmission opens a new attempt. An answer to polling is about the newest attempt.
5. Otherwise attempts are in the order in which messages first named them. A request for resubmission may never be sent
   (it is held back for five minutes, https://help.veriff.com), so an attempt without a decision can be the older one.

Rules 4 and 5 can be wrong until more messages come; ``docs/inbox.md`` says when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async._protocol.decision_order import DECIDED, can_follow, is_final, is_later, is_same
from veriff_async._protocol.json.decode import decode_error, dump, load_object, read
from veriff_async._protocol.json.encode import to_json
from veriff_async.models.decision import Decision, DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.events import DecisionEvent, FullAutoEvent, SessionEvent
from veriff_async.models.json import as_list, as_object
from veriff_async.models.state import IgnoredReason, OpenAttempt, SessionState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async.models.events import WebhookEvent

__all__ = ("apply_event", "dump_state", "is_untold", "load_state")

_MOST_ATTEMPTS: Final = 32
"""Attempts that are remembered; documented are ten, and hostile input must not make a state grow."""


_COMPARABLE: Final = 8 * 86_400
"""Seconds before it is recorded in which a decision must have been made, for both times to be compared."""


def apply_event(
    state: SessionState | None,
    event: WebhookEvent,
    source: DecisionSource = DecisionSource.WEBHOOK,
    *,
    is_duplicate: bool = False,
    recorded_at: float | None = None,
) -> tuple[SessionState | None, IgnoredReason | None]:
    """Return the state after a message, and why the message itself does not count, if so.

    A message that does not count may still change the state, since it can prove in which order two attempts were. So a
    store writes the state whenever it is another one than before.

    Args:
        state: The state of the session before, if it has one.
        event: The message.
        source: Who reported it.
        is_duplicate: Whether the store keeps this very message already. It is a repetition then, unless it is the first
            webhook about a decision that polling reported.
        recorded_at: When it is recorded, in seconds since 1970; without it, rule 3 of this module is not used.
    """
    if state is not None and source is not DecisionSource.POLL and _is_polled(state, event):
        # The first webhook about it counts, so that a function which handles webhooks learns of every decision once.
        return evolve(state, source=source), None
    if not is_duplicate:
        return _apply(state, event, source, recorded_at)
    if isinstance(event, SessionEvent) and event.answered_decision is not None:
        # The client's own event, which nothing delivers late: a submission may be refused, and made again.
        after, ignored = _apply(state, event, source, recorded_at)
        if after != state:
            return after, ignored
    return state, IgnoredReason.DUPLICATE


def _apply(
    state: SessionState | None, event: WebhookEvent, source: DecisionSource, recorded_at: float | None
) -> tuple[SessionState | None, IgnoredReason | None]:
    match event:
        case DecisionEvent(decision=decision):
            return _decided(state or _unseen(decision.session_id), decision, source, recorded_at)
        case SessionEvent(answered_decision=Decision() as answered, action=action):
            before = state or _unseen(answered.session_id)
            is_refused = action == answered.status
            return _stands_again(before, answered) if is_refused else _answered(before, answered, source, recorded_at)
        case SessionEvent(session_id=session_id, attempt_id=attempt, action=action):
            return _moved(state or _unseen(session_id), attempt, action, recorded_at)
        case FullAutoEvent(session_id=session_id, attempt_id=attempt, decision=found):
            return _told(state or _unseen(session_id), attempt, found.status)
        case _:
            return state, IgnoredReason.IRRELEVANT


def is_untold(state: SessionState) -> bool:
    """Tell whether the session was decided, and the decision itself is yet to be asked for.

    So it is after a Full Auto webhook, which has a form of its own.
    """
    return state.status in DECIDED and state.effective_decision is None


def _unseen(session_id: str) -> SessionState:
    return SessionState(session_id=session_id, status=Status.CREATED)


def _is_polled(state: SessionState, event: WebhookEvent) -> bool:
    """Return whether an event is about the decision that stands, which polling reported and no webhook yet."""
    current = state.effective_decision
    if current is None or state.source is not DecisionSource.POLL:
        return False
    match event:
        case DecisionEvent(decision=decision):
            return is_same(current, decision)
        case FullAutoEvent(attempt_id=attempt, decision=found):
            return current.status == found.status and attempt in {None, current.attempt_id}
        case _:
            return False


def _decided(
    state: SessionState, decision: Decision, source: DecisionSource, recorded_at: float | None
) -> tuple[SessionState, IgnoredReason | None]:
    known = state.decision
    if known is not None and is_same(known, decision):
        return state, IgnoredReason.UNCHANGED
    if is_final(state.status):
        if not _corrects(state, decision):
            return state, _after_the_end(state, decision.status)
    elif not is_final(decision.status):
        newer = _begun_after(state, decision, recorded_at)
        if newer is not None:
            is_latest = known is None or is_later(decision, known) is True
            passed = (decision, source) if is_latest else None
            return _at(
                _with_passed(state, decision.attempt_id), newer.attempt_id, newer.status, passed
            ), IgnoredReason.STALE
        if not _counts(state, decision, source, recorded_at):
            return _with_older(state, decision), IgnoredReason.STALE
    return _at(state, decision.attempt_id, decision.status, (decision, source)), None


def _corrects(state: SessionState, decision: Decision) -> bool:
    """Tell whether a decision changes a final state, or is the one that the state was told of without it."""
    known = state.decision
    if known is None or not is_final(known.status):
        return decision.status == state.status
    # Only what proves to be later: a decision that is late looks the same, but for its time.
    is_next = decision.status == state.status or can_follow(state.status, decision.status)
    return is_next and is_later(decision, known) is True


def _begun_after(state: SessionState, decision: Decision, recorded_at: float | None) -> OpenAttempt | None:
    """Return the newest attempt that is undecided and was first heard of after a decision on another one was made."""
    made = _comparable(decision, recorded_at)
    if made is None:
        return None
    others = [attempt for attempt in state.open_attempts if attempt.attempt_id != decision.attempt_id]
    return next((attempt for attempt in reversed(others) if attempt.heard is not None and attempt.heard > made), None)


def _comparable(decision: Decision, recorded_at: float | None) -> float | None:
    """Return when a decision was made, if that can be compared with the clock of the inbox."""
    if recorded_at is None or decision.attempt_id is None or decision.decision_time is None:
        return None
    if decision.decision_time.tzinfo is None:
        return None
    made = decision.decision_time.timestamp()
    return made if 0 <= recorded_at - made <= _COMPARABLE else None


def _counts(state: SessionState, decision: Decision, source: DecisionSource, recorded_at: float | None) -> bool:
    """Tell whether a decision that does not end the session is news, rather than late."""
    known, attempt = state.decision, decision.attempt_id
    if _is_about_another(state, attempt):
        if _comparable(decision, recorded_at) is not None:
            return True  # made after every open attempt was heard of, see `_begun_after`
        if source is not DecisionSource.POLL or _is_passed(state, attempt):
            return False
    later = None if known is None else is_later(decision, known)
    if known is None or known.attempt_id != attempt:
        return not _is_passed(state, attempt) if later is None else later
    if _is_passed(state, attempt):
        return False
    is_open = known.status != Status.RESUBMISSION_REQUESTED and can_follow(known.status, decision.status)
    return is_open if later is None else later


def _is_about_another(state: SessionState, attempt: str | None) -> bool:
    """Return whether the latest attempt is undecided, and a decision is about another one."""
    is_open = any(latest.attempt_id == state.attempt_id for latest in state.open_attempts)
    return is_open and attempt not in {None, state.attempt_id}


def _moved(
    state: SessionState, attempt: str | None, action: Status, recorded_at: float | None
) -> tuple[SessionState, IgnoredReason | None]:
    if is_final(state.status):
        return state, _after_the_end(state, action)
    known = state.decision
    is_decided = known is not None and attempt is not None and known.attempt_id == attempt
    if is_decided or _is_passed(state, attempt):
        return _with_progress(state, attempt, action), IgnoredReason.STALE
    after, ignored = _step(state, attempt, action)
    return (after if ignored or attempt is None else _with_open(after, attempt, action, recorded_at)), ignored


def _answered(
    state: SessionState, answered: Decision, source: DecisionSource, recorded_at: float | None
) -> tuple[SessionState, IgnoredReason | None]:
    """Put the request for resubmission behind that this application answered with a submission.

    Nothing but that request is put behind: a decision on the new attempt may be recorded before the submission is.
    """
    if is_final(state.status):
        return state, _after_the_end(state, Status.SUBMITTED)
    known = state.decision
    is_known = known is not None and is_same(known, answered)
    if not is_known and known is not None and not _counts(state, answered, source, recorded_at):
        return state, IgnoredReason.STALE
    # The inbox may have missed the request, and hold the review before it.
    status = answered.status if state.effective_decision is not None else state.status
    if status != Status.SUBMITTED and not can_follow(status, Status.SUBMITTED):
        return state, IgnoredReason.STALE
    attempts = state.attempts
    if answered.attempt_id is not None and answered.attempt_id not in attempts:
        attempts = (answered.attempt_id, *attempts)[-_MOST_ATTEMPTS:]
    open_attempts = _without(state, answered.attempt_id)
    after = evolve(state, status=Status.SUBMITTED, attempts=attempts, open_attempts=open_attempts)
    if not is_known:
        after = evolve(after, decision=answered, source=source)
    return after, IgnoredReason.UNCHANGED if after == state else None


def _stands_again(state: SessionState, answered: Decision) -> tuple[SessionState, IgnoredReason | None]:
    """Let a request for resubmission stand again, because Veriff refused the submission that was to answer it."""
    known = state.decision
    if state.status != Status.SUBMITTED or known is None or not is_same(known, answered):
        return state, IgnoredReason.STALE
    # An attempt that a webhook has reported meanwhile is newer than the request, whatever became of this submission.
    newest = next((begun for begun in state.open_attempts if begun.attempt_id == state.attempt_id), None)
    status = answered.status if newest is None else newest.status
    return (state, IgnoredReason.UNCHANGED) if status == state.status else (evolve(state, status=status), None)


def _told(state: SessionState, attempt: str | None, status: Status) -> tuple[SessionState, IgnoredReason | None]:
    if is_final(state.status):
        return state, _after_the_end(state, status)
    if not is_final(status):
        if _is_passed(state, attempt):
            return state, IgnoredReason.STALE
        if _is_about_another(state, attempt):
            return _with_passed(state, attempt), IgnoredReason.STALE
    return _step(state, attempt, status)


def _step(state: SessionState, attempt: str | None, status: Status) -> tuple[SessionState, IgnoredReason | None]:
    if attempt is not None and attempt != state.attempt_id:
        return _at(state, attempt, status), None
    if state.status == status:
        return state, IgnoredReason.UNCHANGED
    # What follows a request for resubmission is another attempt, unless it is the end.
    is_closed = attempt is not None and state.status == Status.RESUBMISSION_REQUESTED and not is_final(status)
    if is_closed or not can_follow(state.status, status):
        return state, IgnoredReason.STALE
    return _at(state, attempt, status), None


def _after_the_end(state: SessionState, status: Status) -> IgnoredReason:
    return IgnoredReason.UNCHANGED if status == state.status else IgnoredReason.FINAL


def _is_passed(state: SessionState, attempt: str | None) -> bool:
    """Tell whether a later attempt was seen."""
    return attempt in state.attempts[:-1]


def _with_older(state: SessionState, late: Decision) -> SessionState:
    """Return the state with what a late decision proves: its attempt was before the one that stands.

    If its attempt seemed to be the newest, since its start or submission came late too, the newer decision
    stands again.
    """
    known, attempt = state.decision, late.attempt_id
    if known is None or attempt is None or attempt != state.attempt_id or known.attempt_id in {None, attempt}:
        return _with_passed(state, attempt)
    return _at(_with_passed(state, attempt), known.attempt_id, known.status)


def _with_passed(state: SessionState, attempt: str | None) -> SessionState:
    """Return the state with an attempt that was before the latest and is decided: what comes of it later is late."""
    if attempt is None:
        return state
    attempts = state.attempts
    if attempt not in attempts:
        attempts = (*attempts[:-1], attempt, *attempts[-1:])[-_MOST_ATTEMPTS:]
    is_open = any(other.attempt_id == attempt for other in state.open_attempts)
    if attempts == state.attempts and not is_open:
        return state
    return evolve(state, attempts=attempts, open_attempts=_without(state, attempt))


def _with_open(state: SessionState, attempt: str, status: Status, recorded_at: float | None) -> SessionState:
    """Return the state with an attempt that has begun, and when it was first heard of."""
    heard = next((other.heard for other in state.open_attempts if other.attempt_id == attempt), recorded_at)
    begun = OpenAttempt(attempt_id=attempt, status=status, heard=heard)
    return evolve(state, open_attempts=(*_without(state, attempt), begun)[-_MOST_ATTEMPTS:])


def _with_progress(state: SessionState, attempt: str | None, status: Status) -> SessionState:
    """Return the state with the progress of an attempt that seems to be passed, in case that it proves to be newer."""
    begun = next((other for other in state.open_attempts if other.attempt_id == attempt), None)
    if begun is None or not can_follow(begun.status, status):
        return state
    others = (evolve(other, status=status) if other is begun else other for other in state.open_attempts)
    return evolve(state, open_attempts=tuple(others))


def _without(state: SessionState, attempt: str | None) -> tuple[OpenAttempt, ...]:
    return tuple(other for other in state.open_attempts if other.attempt_id != attempt)


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
    is_decided = status in DECIDED
    return SessionState(
        session_id=state.session_id,
        status=status,
        attempts=attempts,
        decision=decision,
        source=source,
        open_attempts=_without(state, attempts[-1] if attempts else None) if is_decided else state.open_attempts,
    )


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
            "open": [
                {"attempt": begun.attempt_id, "status": begun.status, "heard": begun.heard}
                for begun in state.open_attempts
            ],
        }
    )


def load_state(text: bytes) -> SessionState:
    """Read what `dump_state` wrote.

    Raises:
        DecodeError: It is nothing that this version wrote, or a newer one in a form that it knows.
    """
    found = load_object(text)
    session_id, status = found.get("id"), found.get("status")
    attempts, decision, source = found.get("attempts"), found.get("decision"), found.get("source")
    if not isinstance(session_id, str) or not isinstance(status, str):
        problem = "expected a text @ $.id and $.status"
        raise decode_error(problem)
    return SessionState(
        session_id=session_id,
        status=Status(status),
        attempts=tuple(attempt for attempt in as_list(attempts) if isinstance(attempt, str)),
        decision=None if decision is None else read(Decision, decision, path="$.decision"),
        source=next((known for known in DecisionSource if known == source), None),
        open_attempts=tuple(_load_open(found.get("open"))),
    )


def _load_open(found: object) -> Iterator[OpenAttempt]:
    for begun in filter(None, map(as_object, as_list(found))):
        attempt, status, heard = begun.get("attempt"), begun.get("status"), begun.get("heard")
        if isinstance(attempt, str) and isinstance(status, str):
            moment = float(heard) if isinstance(heard, int | float) else None
            yield OpenAttempt(attempt_id=attempt, status=Status(status), heard=moment)
