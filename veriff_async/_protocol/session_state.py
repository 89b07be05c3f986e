"""The state machine of a session: `apply_event` is its only reducer, and every inbox calls it inside a transaction.

Theory of operation
    A `SessionState` is what the events of one session add up to: the status, the attempts in their order (the latest
    last), the last decision that counted, and the attempts that are still undecided. ``state = apply_event(state,
    event)`` is pure: no clock, no storage. The transition table is in `_protocol.status_transitions`, which also
    compares decisions.

    Veriff delivers each webhook on its own, at least once, for up to seven days (https://help.veriff.com, article
    3250261). An event may therefore be a duplicate, or may arrive after events that happened later. Two checks handle
    that, and they are independent:

    1. Deduplication. Equal `dedup_key` means the same message, so a store keeps it once and passes ``is_duplicate``.
       Two different messages can report one decision (a webhook and a poll); `is_same` recognises those.
    2. Ordering. A message that is older than the state must not revert it. It is ignored as `STALE`, but it may still
       prove in which order two attempts were, and then changes `attempts` or `open_attempts`.

    Each handler below returns the state after the message, and the reason why the message itself does not count:

        DecisionEvent                       _apply_decision       any status in DECIDED
        FullAutoEvent                       _apply_full_auto      such a status, without the decision itself
        SessionEvent                        _apply_progress       an attempt was started or submitted
        SessionEvent with answered_decision _apply_resubmission   this application submits a new attempt
                                            _undo_resubmission    Veriff refused that submission
        all others                          IRRELEVANT

Order of events, the strongest evidence first
    1. A final decision ends the session. Only a correction with a later decision time replaces it. So no late or
       duplicate message reverts a final state, and the final state is the same in any order of messages.
    2. Decision times order two decisions, and so the attempts that they belong to.
    3. A decision that was made before another, undecided attempt was first seen belongs to an older attempt. Messages
       about starts and submissions have no time, so this compares a decision time with the clock of the inbox. It is
       used only for decisions of the last eight days: Veriff repeats webhooks for seven, so other times are not
       comparable.
    4. Without comparable times, an undecided attempt is newer than an attempt that only a webhook of a resubmission
       request or a review names: a resubmission opens a new attempt. A polled decision belongs to the newest attempt.
    5. Otherwise attempts are in the order in which messages first named them. A resubmission request may never be sent
       (Veriff holds it back for five minutes, https://help.veriff.com), so an attempt without a decision can be the
       older one.

    Rules 4 and 5 can be wrong until more messages arrive; ``docs/concepts/event-order.md`` says when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import evolve

from veriff_async._protocol.inbox_arguments import check_event, check_state
from veriff_async._protocol.json.decode import decode_error, decode_model, dump_raw, load_object
from veriff_async._protocol.json.encode import to_json
from veriff_async._protocol.request_arguments import as_bytes
from veriff_async._protocol.status_transitions import DECIDED, can_follow, is_final, is_later, is_same
from veriff_async.models.decision import Decision
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.events import DecisionEvent, FullAutoEvent, SessionEvent
from veriff_async.models.json import as_list, as_object
from veriff_async.models.state import IgnoredReason, OpenAttempt, SessionState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult

__all__ = ("apply_event", "dump_state", "is_decision_missing", "is_effective", "load_state")

_Change: TypeAlias = tuple[SessionState, IgnoredReason | None]

# Veriff documents ten attempts per session. The limit keeps hostile input from growing a state without bound.
_MAX_ATTEMPTS: Final = 32

# Rule 3: a decision that is older than this when it is recorded is not compared with the clock of the inbox.
_COMPARABLE_SECONDS: Final = 8 * 86_400


def apply_event(
    state: SessionState | None,
    event: WebhookEvent,
    source: DecisionSource = DecisionSource.WEBHOOK,
    *,
    is_duplicate: bool = False,
    recorded_at: float | None = None,
) -> tuple[SessionState | None, IgnoredReason | None]:
    """Return the state after a message, and why the message itself does not count, if it does not.

    A message that does not count may still change the state, because it can prove the order of two attempts. A store
    therefore writes the state whenever it differs from the one before.

    Args:
        state: The state of the session before, if it has one.
        event: The message.
        source: Whether a webhook or polling reported it.
        is_duplicate: Whether the store already has a message with this ``dedup_key``. Such a message is ignored,
            unless it is the first webhook about a decision that polling reported.
        recorded_at: When it is recorded, in seconds since 1970. Without it, decision times are not compared with the
            times at which attempts were first seen.

    Raises:
        InvalidArgumentError: The state or the event is of a wrong type.
    """
    if state is not None:
        check_state(state)
    if state is not None and source is not DecisionSource.POLL and _confirms_polled_decision(state, event):
        # The first webhook about a polled decision counts, so that handlers get every decision once.
        return evolve(state, source=source), None
    if not is_duplicate:
        return _apply_message(state, event, source, recorded_at)
    if isinstance(event, SessionEvent) and event.answered_decision is not None:
        # The client records this event itself, so a duplicate is never a late delivery: Veriff refused the first
        # submission, and the application submits again.
        after, ignored = _apply_message(state, event, source, recorded_at)
        if after != state:
            return after, ignored
    return state, IgnoredReason.DUPLICATE


def _apply_message(
    state: SessionState | None, event: WebhookEvent, source: DecisionSource, recorded_at: float | None
) -> tuple[SessionState | None, IgnoredReason | None]:
    match event:
        case DecisionEvent(decision=decision):
            return _apply_decision(state, decision, source, recorded_at)
        case SessionEvent(answered_decision=Decision() as answered, action=action):
            before = state or _initial_state(answered.session_id)
            if action == answered.status:
                return _undo_resubmission(before, answered)
            return _apply_resubmission(before, answered, source, recorded_at)
        case SessionEvent(session_id=session_id, attempt_id=attempt_id, action=action):
            return _apply_progress(state or _initial_state(session_id), attempt_id, action, recorded_at)
        case FullAutoEvent(session_id=session_id, attempt_id=attempt_id, decision=decision):
            return _apply_full_auto(state or _initial_state(session_id), attempt_id, decision.status)
        case _:
            check_event(event)
            return state, IgnoredReason.IRRELEVANT


def is_decision_missing(state: SessionState) -> bool:
    """Return whether the session was decided, but the decision itself must still be requested.

    A Full Auto webhook has a form of its own, so only ``GET /decision`` has the `Decision`.

    Raises:
        InvalidArgumentError: It is not a state.
    """
    check_state(state)
    return state.status in DECIDED and state.effective_decision is None


def is_effective(result: RecordResult, decision: Decision) -> bool:
    """Return whether a decision that was recorded is the one to act on."""
    state = result.state
    if state is None or (state.effective_decision is not None and is_same(state.effective_decision, decision)):
        return True
    # A correction that does not prove to be later: the inbox keeps the first final decision, but Veriff returns this
    # one.
    is_end = result.ignored is IgnoredReason.FINAL and decision.status.is_final
    return is_end and (state.decision is None or is_later(decision, state.decision) is not False)


def _initial_state(session_id: str) -> SessionState:
    return SessionState(session_id=session_id, status=Status.CREATED)


def _confirms_polled_decision(state: SessionState, event: WebhookEvent) -> bool:
    """Return whether an event reports the effective decision, which so far only polling has reported."""
    effective = state.effective_decision
    if effective is None or state.source is not DecisionSource.POLL:
        return False
    match event:
        case DecisionEvent(decision=decision):
            return is_same(effective, decision)
        case FullAutoEvent(attempt_id=attempt_id, decision=full_auto):
            return effective.status == full_auto.status and attempt_id in {None, effective.attempt_id}
        case _:
            return False


def _apply_decision(
    state: SessionState | None, decision: Decision, source: DecisionSource, recorded_at: float | None
) -> _Change:
    if state is None:  # Nothing to compare it with. This is usual: many integrations receive decisions only.
        attempts = () if decision.attempt_id is None else (decision.attempt_id,)
        first = SessionState(
            session_id=decision.session_id,
            status=decision.status,
            attempts=attempts,
            decision=decision,
            source=source,
        )
        return first, None
    previous = state.decision
    if previous is not None and is_same(previous, decision):
        return state, IgnoredReason.UNCHANGED
    if is_final(state.status):
        if not _is_correction(state, decision):
            return state, _reason_after_final(state, decision.status)
    elif not is_final(decision.status):
        # A final decision skips these checks: it ends the session, even if it belongs to another attempt (rule 1).
        newer = _newer_open_attempt(state, decision, recorded_at)
        if newer is not None:
            is_latest = previous is None or is_later(decision, previous) is True
            superseded = (decision, source) if is_latest else None
            ordered = _with_superseded(state, decision.attempt_id)
            return _move_to(ordered, newer.attempt_id, newer.status, superseded), IgnoredReason.STALE
        if not _is_new_decision(state, decision, source, recorded_at):
            return _with_stale_decision(state, decision), IgnoredReason.STALE
    return _move_to(state, decision.attempt_id, decision.status, (decision, source)), None


def _is_correction(state: SessionState, decision: Decision) -> bool:
    """Return whether a decision corrects a final state, or is the missing decision behind that state."""
    previous = state.decision
    if previous is None or not is_final(previous.status):
        return decision.status == state.status
    # A late delivery of an earlier decision looks like a correction except for its time, so the time must prove it.
    is_next = decision.status == state.status or can_follow(state.status, decision.status)
    return is_next and is_later(decision, previous) is True


def _newer_open_attempt(state: SessionState, decision: Decision, recorded_at: float | None) -> OpenAttempt | None:
    """Return the newest other undecided attempt that was first seen after the decision was made (rule 3)."""
    decided_at = _comparable_time(decision, recorded_at)
    if decided_at is None:
        return None
    others = [other for other in state.open_attempts if other.attempt_id != decision.attempt_id]
    return next(
        (other for other in reversed(others) if other.first_seen is not None and other.first_seen > decided_at), None
    )


def _comparable_time(decision: Decision, recorded_at: float | None) -> float | None:
    """Return when a decision was made, if that can be compared with the clock of the inbox (rule 3)."""
    if recorded_at is None or decision.attempt_id is None or decision.decision_time is None:
        return None
    if decision.decision_time.tzinfo is None:
        return None
    decided_at = decision.decision_time.timestamp()
    return decided_at if 0 <= recorded_at - decided_at <= _COMPARABLE_SECONDS else None


def _is_new_decision(
    state: SessionState, decision: Decision, source: DecisionSource, recorded_at: float | None
) -> bool:
    """Return whether a decision that is not final is new, rather than stale."""
    previous, attempt_id = state.decision, decision.attempt_id
    if _names_other_attempt(state, attempt_id):
        if _comparable_time(decision, recorded_at) is not None:
            return True  # It was made after every open attempt was first seen, see `_newer_open_attempt`.
        if source is not DecisionSource.POLL or _is_superseded(state, attempt_id):
            return False  # Rule 4.
    later = None if previous is None else is_later(decision, previous)
    if previous is None or previous.attempt_id != attempt_id:
        return not _is_superseded(state, attempt_id) if later is None else later
    if _is_superseded(state, attempt_id):
        return False
    # A second decision on the same attempt. After a resubmission request the next decision is about a new attempt.
    is_open = previous.status != Status.RESUBMISSION_REQUESTED and can_follow(previous.status, decision.status)
    return is_open if later is None else later


def _names_other_attempt(state: SessionState, attempt_id: str | None) -> bool:
    """Return whether the latest attempt is undecided, and a decision names another one."""
    is_open = any(other.attempt_id == state.attempt_id for other in state.open_attempts)
    return is_open and attempt_id not in {None, state.attempt_id}


def _apply_progress(state: SessionState, attempt_id: str | None, action: Status, recorded_at: float | None) -> _Change:
    if is_final(state.status):
        return state, _reason_after_final(state, action)
    previous = state.decision
    is_decided = previous is not None and attempt_id is not None and previous.attempt_id == attempt_id
    if is_decided or _is_superseded(state, attempt_id):
        return _with_open_status(state, attempt_id, action), IgnoredReason.STALE
    after, ignored = _transition(state, attempt_id, action)
    if ignored or attempt_id is None:
        return after, ignored
    return _with_open_attempt(after, attempt_id, action, recorded_at), None


def _apply_resubmission(
    state: SessionState, answered: Decision, source: DecisionSource, recorded_at: float | None
) -> _Change:
    """Mark a resubmission request as superseded, because this application has submitted a new attempt.

    Only that request is superseded: a decision on the new attempt may be recorded before the submission is.
    """
    if is_final(state.status):
        return state, _reason_after_final(state, Status.SUBMITTED)
    previous = state.decision
    is_recorded = previous is not None and is_same(previous, answered)
    if not is_recorded and previous is not None and not _is_new_decision(state, answered, source, recorded_at):
        return state, IgnoredReason.STALE
    # The inbox may have missed the request, and still have the review that came before it.
    status = answered.status if state.effective_decision is not None else state.status
    if status != Status.SUBMITTED and not can_follow(status, Status.SUBMITTED):
        return state, IgnoredReason.STALE
    attempts = state.attempts
    if answered.attempt_id is not None and answered.attempt_id not in attempts:
        attempts = (answered.attempt_id, *attempts)[-_MAX_ATTEMPTS:]
    open_attempts = _open_attempts_except(state, answered.attempt_id)
    after = evolve(state, status=Status.SUBMITTED, attempts=attempts, open_attempts=open_attempts)
    if not is_recorded:
        after = evolve(after, decision=answered, source=source)
    return after, IgnoredReason.UNCHANGED if after == state else None


def _undo_resubmission(state: SessionState, answered: Decision) -> _Change:
    """Make a resubmission request effective again, because Veriff refused the submission that answered it."""
    previous = state.decision
    if state.status != Status.SUBMITTED or previous is None or not is_same(previous, answered):
        return state, IgnoredReason.STALE
    # An attempt that a webhook has reported since then is newer than the request, although this submission failed.
    newest = next((other for other in state.open_attempts if other.attempt_id == state.attempt_id), None)
    status = answered.status if newest is None else newest.status
    if status == state.status:
        return state, IgnoredReason.UNCHANGED
    return evolve(state, status=status), None


def _apply_full_auto(state: SessionState, attempt_id: str | None, status: Status) -> _Change:
    if is_final(state.status):
        return state, _reason_after_final(state, status)
    if not is_final(status):
        if _is_superseded(state, attempt_id):
            return state, IgnoredReason.STALE
        if _names_other_attempt(state, attempt_id):
            return _with_superseded(state, attempt_id), IgnoredReason.STALE
    return _transition(state, attempt_id, status)


def _transition(state: SessionState, attempt_id: str | None, status: Status) -> _Change:
    if attempt_id is not None and attempt_id != state.attempt_id:
        return _move_to(state, attempt_id, status), None
    if state.status == status:
        return state, IgnoredReason.UNCHANGED
    # After a resubmission request only the end of the session can follow on the same attempt.
    is_closed = attempt_id is not None and state.status == Status.RESUBMISSION_REQUESTED and not is_final(status)
    if is_closed or not can_follow(state.status, status):
        return state, IgnoredReason.STALE
    return _move_to(state, attempt_id, status), None


def _reason_after_final(state: SessionState, status: Status) -> IgnoredReason:
    return IgnoredReason.UNCHANGED if status == state.status else IgnoredReason.FINAL


def _is_superseded(state: SessionState, attempt_id: str | None) -> bool:
    """Return whether a later attempt is known."""
    return attempt_id in state.attempts[:-1]


def _with_stale_decision(state: SessionState, stale: Decision) -> SessionState:
    """Return the state with the order that a stale decision proves: its attempt precedes the effective one.

    If its attempt seemed to be the newest, because its start or submission also arrived late, the newer decision
    becomes effective again.
    """
    previous, attempt_id = state.decision, stale.attempt_id
    if previous is None or attempt_id is None or attempt_id != state.attempt_id:
        return _with_superseded(state, attempt_id)
    if previous.attempt_id in {None, attempt_id}:
        return _with_superseded(state, attempt_id)
    return _move_to(_with_superseded(state, attempt_id), previous.attempt_id, previous.status)


def _with_superseded(state: SessionState, attempt_id: str | None) -> SessionState:
    """Return the state with a decided attempt placed before the latest, so that its later messages are stale."""
    if attempt_id is None:
        return state
    attempts = state.attempts
    if attempt_id not in attempts:
        attempts = (*attempts[:-1], attempt_id, *attempts[-1:])[-_MAX_ATTEMPTS:]
    is_open = any(other.attempt_id == attempt_id for other in state.open_attempts)
    if attempts == state.attempts and not is_open:
        return state
    return evolve(state, attempts=attempts, open_attempts=_open_attempts_except(state, attempt_id))


def _with_open_attempt(state: SessionState, attempt_id: str, status: Status, recorded_at: float | None) -> SessionState:
    """Return the state with an undecided attempt as the newest, which keeps the time when it was first seen."""
    first_seen = next(
        (other.first_seen for other in state.open_attempts if other.attempt_id == attempt_id), recorded_at
    )
    attempt = OpenAttempt(attempt_id=attempt_id, status=status, first_seen=first_seen)
    return evolve(state, open_attempts=(*_open_attempts_except(state, attempt_id), attempt)[-_MAX_ATTEMPTS:])


def _with_open_status(state: SessionState, attempt_id: str | None, status: Status) -> SessionState:
    """Return the state with the progress of an attempt that seems superseded, in case it proves to be newer."""
    attempt = next((other for other in state.open_attempts if other.attempt_id == attempt_id), None)
    if attempt is None or not can_follow(attempt.status, status):
        return state
    updated = (evolve(other, status=status) if other is attempt else other for other in state.open_attempts)
    return evolve(state, open_attempts=tuple(updated))


def _open_attempts_except(state: SessionState, attempt_id: str | None) -> tuple[OpenAttempt, ...]:
    return tuple(other for other in state.open_attempts if other.attempt_id != attempt_id)


def _move_to(
    state: SessionState,
    attempt_id: str | None,
    status: Status,
    new_decision: tuple[Decision, DecisionSource] | None = None,
) -> SessionState:
    """Return the state with a status, and with an attempt as the latest, if the message named one."""
    attempts = state.attempts
    if attempt_id is not None and attempts[-1:] != (attempt_id,):
        attempts = (*(other for other in attempts if other != attempt_id), attempt_id)[-_MAX_ATTEMPTS:]
    decision, source = new_decision or (state.decision, state.source)
    is_decided = status in DECIDED
    latest = attempts[-1] if attempts else None
    return SessionState(
        session_id=state.session_id,
        status=status,
        attempts=attempts,
        decision=decision,
        source=source,
        open_attempts=_open_attempts_except(state, latest) if is_decided else state.open_attempts,
    )


def dump_state(state: SessionState) -> bytes:
    """Encode a state as JSON for a store.

    Raises:
        InvalidArgumentError: It is not a state, or the ``raw`` of its decision is not JSON.
    """
    check_state(state)
    decision = state.decision
    return dump_raw(
        {
            "id": state.session_id,
            "status": state.status,
            "attempts": state.attempts,
            "decision": None if decision is None else decision.raw or to_json(decision),
            "source": state.source,
            "open": [
                {"attempt": attempt.attempt_id, "status": attempt.status, "first_seen": attempt.first_seen}
                for attempt in state.open_attempts
            ],
        },
        "decision",
    )


def load_state(text: bytes) -> SessionState:
    """Decode a state that `dump_state` encoded.

    Decoding is stricter than for Veriff's messages and laxer than for job records: statuses that a newer version of
    this library wrote are accepted, so that processes of two versions can share an inbox during a deployment.

    Raises:
        DecodeError: The text is not a state, or its form is that of an incompatible newer version.
        InvalidArgumentError: The text is not bytes.
    """
    members = load_object(as_bytes(text, "text"))
    session_id, status = members.get("id"), members.get("status")
    attempts, decision, source = members.get("attempts"), members.get("decision"), members.get("source")
    if not isinstance(session_id, str) or not isinstance(status, str):
        problem = "expected a text @ $.id and $.status"
        raise decode_error(problem)
    return SessionState(
        session_id=session_id,
        status=Status(status),
        attempts=tuple(attempt for attempt in as_list(attempts) if isinstance(attempt, str)),
        decision=None if decision is None else decode_model(Decision, decision, path="$.decision"),
        source=next((known for known in DecisionSource if known == source), None),
        open_attempts=tuple(_load_open_attempts(members.get("open"))),
    )


def _load_open_attempts(items: object) -> Iterator[OpenAttempt]:
    for members in filter(None, map(as_object, as_list(items))):
        attempt_id, status, first_seen = members.get("attempt"), members.get("status"), members.get("first_seen")
        if isinstance(attempt_id, str) and isinstance(status, str):
            moment = float(first_seen) if isinstance(first_seen, int | float) else None
            yield OpenAttempt(attempt_id=attempt_id, status=Status(status), first_seen=moment)
