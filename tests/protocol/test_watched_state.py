"""The state that watches show: never an older one, in any order of the reports of inbox, polls and own calls."""

from __future__ import annotations

from typing import Final

from hypothesis import given, strategies as st

from veriff_async import Decision, Status
from veriff_async._protocol.session_state import apply_event
from veriff_async._protocol.status_transitions import FINAL
from veriff_async._protocol.watched_state import (
    first_state,
    is_shown,
    later_state,
    state_of_attempts,
    with_decision,
    with_status,
)
from veriff_async.models.attempt import Attempt
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.state import SessionState
from veriff_async.testing.factories import decision_event, decision_of, resubmitted_event, session_event

S: Final = "s"


def replay(*events: object) -> list[SessionState]:
    """Return the states of an inbox after each event."""
    states: list[SessionState] = []
    for event in events:
        state, _ = apply_event(states[-1] if states else None, event)  # type: ignore[arg-type]
        assert state is not None
        states.append(state)
    return states


LIFE: Final = replay(
    session_event(S, "started", attempt_id="a"),
    session_event(S, "submitted", attempt_id="a"),
    decision_event(S, "resubmission_requested", attempt_id="a", minute=1),
    resubmitted_event(S, attempt_id="a", minute=1),
    session_event(S, "submitted", attempt_id="b"),
    decision_event(S, "review", attempt_id="b", minute=2),
    decision_event(S, "approved", attempt_id="b", minute=3),
)
"""The states of a session with two attempts."""


def shown_in(states: list[SessionState]) -> list[SessionState]:
    """Return the states that a watch shows of some: each that differs from the one before."""
    shown: list[SessionState] = []
    for state in states:
        if not shown or not is_shown(shown[-1], state):
            shown.append(state)
    return shown


@given(st.data())
def test_watch_shows_a_part_of_the_life_in_its_order(data: st.DataObject) -> None:
    """Polls, and reads of the inbox that began long before them, show some of the true states, in order, to the end."""
    known: SessionState | None = None
    now = read = 0
    seen = []
    for _ in range(data.draw(st.integers(0, 12))):
        now = data.draw(st.integers(now, len(LIFE) - 1))
        if data.draw(st.booleans()) and (decision := LIFE[now].effective_decision) is not None:
            known = with_decision(known, decision)
        else:
            read = data.draw(st.integers(read, now))  # reads follow each other, and may be slow
            known = later_state(known, LIFE[read])
        assert known is not None
        seen.append(known)
    seen.append(later_state(known, LIFE[-1]))

    rest = iter(shown_in(LIFE))
    assert all(any(is_shown(state, each) for each in rest) for state in shown_in(seen))
    assert Status.APPROVED == seen[-1].status


STATUSES: Final = (Status.STARTED, Status.SUBMITTED, Status.REVIEW, Status.RESUBMISSION_REQUESTED, *sorted(FINAL))


@given(st.lists(st.tuples(st.sampled_from(STATUSES), st.sampled_from([None, "a", "b", "c"]), st.integers(0, 9))))
def test_final_state_stays_final(events: list[tuple[Status, str | None, int]]) -> None:
    """After any report of the inbox, only a correction follows a final status, and the end is that of the inbox."""
    state: SessionState | None = None
    known: SessionState | None = None
    for status, attempt, minute in events:
        if status in {Status.STARTED, Status.SUBMITTED}:
            event = session_event(S, status, attempt_id=attempt)
        else:
            event = decision_event(S, status, attempt_id=attempt, minute=minute)
        state, _ = apply_event(state, event)
        assert state is not None
        before, known = known, later_state(known, state)
        if before is not None and before.status.is_final:
            assert known.status.is_final
    if state is not None and known is not None and state.status.is_final:
        assert known.status == state.status


def test_correction_replaces_a_final_state() -> None:
    """A later decision of Veriff replaces a final one, and an earlier one does not."""
    first, corrected = replay(decision_event(S, "approved", minute=1), decision_event(S, "declined", minute=2))

    assert corrected == later_state(first, corrected)
    assert corrected == later_state(corrected, first)


def test_end_is_shown_whatever_its_time() -> None:
    """A final decision of the inbox ends the session, also if its time is before that of the known decision."""
    known = with_decision(None, decision_of(decision_event(S, "review", minute=5)))
    (end,) = replay(decision_event(S, "expired", minute=1))
    assert end is later_state(known, end)


def test_answered_request_of_another_process_is_shown() -> None:
    """A read with a newer request, which was answered already, is later than the known request."""
    first = decision_event(S, "resubmission_requested", attempt_id="a", minute=1)
    second = decision_event(S, "resubmission_requested", attempt_id="b", minute=2)
    *_, answered = replay(first, second, resubmitted_event(S, attempt_id="b", minute=2))
    assert answered is later_state(with_decision(None, decision_of(first)), answered)


def test_own_submission_is_a_step_forward_only() -> None:
    """A submission of this client shows `submitted` after a request for resubmission, and not after the end."""
    requested = with_decision(None, decision_of(decision_event(S, "resubmission_requested")))
    submitted = with_status(requested, S, Status.SUBMITTED)
    assert submitted is not None
    assert (Status.SUBMITTED, None) == (submitted.status, submitted.effective_decision)
    (started,) = replay(session_event(S, "started"))
    for known in (submitted, first_state(S, Status.SUBMITTED, None)):
        assert known is later_state(known, started)
    assert requested is not None
    assert requested is later_state(submitted, requested)  # Veriff has refused the submission
    end = with_decision(submitted, decision_of(decision_event(S, "approved", attempt_id="b")))
    assert end is with_status(end, S, Status.SUBMITTED)
    assert requested is with_status(requested, S, Status.REVIEW)


def test_first_state_is_that_of_the_program() -> None:
    """A status without a decision, or the decision itself, is known; the status of a decision alone is not."""
    decision = Decision(session_id=S, status=Status.DECLINED, source=DecisionSource.WEBHOOK)
    assert first_state(S, None, None) is None
    assert first_state(S, Status.DECLINED, None) is None
    assert SessionState(session_id=S, status=Status.CREATED) == first_state(S, Status.CREATED, None)
    state = first_state(S, Status.DECLINED, decision)
    assert state is not None
    assert (decision, DecisionSource.WEBHOOK) == (state.effective_decision, state.source)


def test_newest_attempt_has_the_status() -> None:
    """The first of the attempts decides; a decided one needs its decision, and a session without one is new."""
    attempts = [Attempt(id="b", status=Status.STARTED), Attempt(id="a", status=Status.RESUBMISSION_REQUESTED)]
    state = state_of_attempts(S, attempts)
    assert state is not None
    assert (Status.STARTED, ("a", "b")) == (state.status, state.attempts)
    assert state_of_attempts(S, attempts[1:]) is None
    empty = state_of_attempts(S, [])
    assert empty is not None
    assert Status.CREATED == empty.status
