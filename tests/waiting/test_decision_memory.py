"""A client remembers which requests were answered, and which responses came too late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from veriff_async import Decision, Status
from veriff_async._waiting.decision_memory import DecisionMemory

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RESUBMIT = Status.RESUBMISSION_REQUESTED


def make_decision(status: Status, *, attempt: str | None = "a1", minute: float | None = 0) -> Decision:
    """Make a decision of a session."""
    moment = None if minute is None else NOW + timedelta(minutes=minute)
    return Decision(session_id="s", status=status, attempt_id=attempt, decision_time=moment)


def test_late_response_counts_only_if_its_time_is_newer() -> None:
    """A late response counts only if it is certainly newer, and the response to a later request counts always."""
    for late, is_current in (
        (make_decision(RESUBMIT, minute=0), False),
        (make_decision(RESUBMIT, attempt="a9", minute=None), False),
        (make_decision(RESUBMIT, attempt="a3", minute=9), True),
        (make_decision(Status.APPROVED, attempt="a3", minute=None), True),
        (make_decision(Status.REVIEW, attempt="a2", minute=0.5), False),
    ):
        memory = DecisionMemory()
        asked_at = memory.sequence
        assert memory.add(make_decision(RESUBMIT, attempt="a2", minute=1))
        assert is_current is memory.add(late, asked_at)
        assert memory.add(make_decision(Status.DECLINED, minute=None), memory.sequence)


@pytest.mark.parametrize(
    "again",
    [
        evolve(make_decision(RESUBMIT), decision_time=NOW + timedelta(microseconds=999)),
        make_decision(RESUBMIT, attempt=None),
        evolve(make_decision(RESUBMIT, attempt=None), decision_time=NOW + timedelta(microseconds=123)),
        make_decision(RESUBMIT, minute=None),
        make_decision(Status.REVIEW, minute=-5),
    ],
)
def test_answered_request_is_recognised_in_any_form(again: Decision) -> None:
    """An answered request is recognised with another precision, or without its attempt or its time."""
    memory = DecisionMemory()
    memory.add_submission("s", make_decision(RESUBMIT))

    assert memory.is_answered(again)
    assert not memory.add(again)
    assert not memory.is_answered(make_decision(RESUBMIT, attempt="a2", minute=1))
    assert not memory.is_answered(make_decision(Status.APPROVED))


def test_memory_is_bounded_and_impersonal() -> None:
    """A client remembers the last sessions only, and without personal data."""
    memory = DecisionMemory()
    for number in range(30_000):
        session_id = f"s{number}"
        memory.add(Decision(session_id=session_id, status=RESUBMIT, ip="192.0.2.1"))
        memory.add_creation(session_id)
        memory.add_submission(session_id, Decision(session_id=session_id, status=RESUBMIT, ip="192.0.2.1"))

        memory.add_creation(f"new-{number}")
    assert (1_000, 20_000, 20_000) == (len(memory._seen), len(memory._submissions), len(memory._created))
    assert (False, True) == (memory.is_new("s29999"), memory.is_new("new-29999"))
    assert memory._seen["s29999"].decision.ip is None
