"""The life of a session: what may follow what, what is the end, what is news."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from veriff_async import Decision, Status
from veriff_async._protocol.status_transitions import DECIDED, FINAL, OPEN_FOR_MEDIA, can_follow, is_final, is_news

NEWER = Status("newer-than-the-library")
# Every step of the documented life, by its beginning; what is not here is late, repeated or impossible.
STEPS = {
    "created": "started inflow_completed submitted review approved declined resubmission_requested expired abandoned",
    "started": "inflow_completed submitted review approved declined resubmission_requested expired abandoned",
    "inflow_completed": "submitted review approved declined resubmission_requested expired abandoned",
    "submitted": "review approved declined resubmission_requested expired abandoned",
    "review": "approved declined resubmission_requested expired abandoned",
    "resubmission_requested": ("started submitted review approved declined resubmission_requested expired abandoned"),
    "approved": "declined",
    "declined": "approved",
    "expired": "",
    "abandoned": "",
}
statuses = st.sampled_from(Status) | st.text().map(Status)
decision = Decision(
    session_id="session",
    attempt_id="first",
    status=Status.RESUBMISSION_REQUESTED,
    decision_time=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize("state", Status)
def test_transitions_are_the_documented_ones(state: Status) -> None:
    """From every state exactly the documented steps are news."""
    assert set(STEPS[state].split()) == {observed for observed in Status if can_follow(state, observed)}


@given(statuses)
def test_unknown_status_can_follow_until_the_end(state: Status) -> None:
    """A state that is newer than the library is taken as news, unless the session is over."""
    assert can_follow(state, NEWER) is not is_final(state)
    assert can_follow(NEWER, state)


@given(st.lists(statuses), st.sampled_from(sorted(FINAL)))
def test_nothing_follows_a_final_status(late: list[Status], end: Status) -> None:
    """Once a session is over only another end can follow: a correction by Veriff."""
    assert {each for each in late if can_follow(end, each)} <= {Status.APPROVED, Status.DECLINED} - {end}


def test_final_statuses_are_decisions() -> None:
    """Four states are the end, each a decision; a request for resubmission is one too, and opens the session again."""
    assert {"approved", "declined", "expired", "abandoned"} == FINAL
    assert {"resubmission_requested", "review"} == DECIDED - FINAL
    assert {"created", "started", "resubmission_requested"} == OPEN_FOR_MEDIA
    assert [status in FINAL for status in Status] == [is_final(status) for status in Status]
    assert not is_final(NEWER)


@pytest.mark.parametrize("status", [*Status, NEWER])
def test_decision_is_news_however_often_it_is_requested(status: Status) -> None:
    """Every decision may be returned repeatedly, except a resubmission that the application already handled."""
    same = evolve(decision, status=status)

    assert is_news(same, None)
    assert is_news(same, same) is (status != "resubmission_requested")


@pytest.mark.parametrize(
    "newer",
    [
        evolve(decision, attempt_id="second"),
        evolve(decision, status=Status.APPROVED),
        evolve(decision, decision_time=datetime(2026, 1, 2, tzinfo=UTC)),
    ],
)
def test_after_a_resubmission_only_another_decision_is_news(newer: Decision) -> None:
    """Another attempt, another status or another time makes another decision."""
    assert is_news(newer, decision)
