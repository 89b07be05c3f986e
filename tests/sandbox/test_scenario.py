"""The state machine without HTTP: any JSON, and any order of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from veriff_async import InvalidArgumentError, Status
from veriff_async._protocol.json.decode import dump
from veriff_async._protocol.status_transitions import DECIDED, can_follow, is_final
from veriff_async.sandbox._decision_spec import DecisionSpec
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._records import Session, SessionView, StoredMedia, WebhookKind, view
from veriff_async.sandbox._rules import SandboxRules
from veriff_async.sandbox._scenario import Due, Effect, Post, Scenario
from veriff_async.sandbox._validation import check_context, check_id, check_submission, check_verification

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN = frozenset({Status.CREATED, Status.RESUBMISSION_REQUESTED})
START = datetime(2025, 1, 1, tzinfo=UTC)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
PARTS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("firstName", "gender", "dateOfBirth", "number", "type", "country", "firstIssue", "idCardType"), VALUES
    ),
)
VERIFICATIONS = VALUES | st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("callback", "vendorData", "endUserId", "status"), VALUES),
        **dict.fromkeys(("person", "document"), VALUES | PARTS),
    },
)


def get_error(ask: Callable[[], object]) -> HTTPError | None:
    """Return the error that a call raises, if any."""
    try:
        ask()
    except HTTPError as refusal:
        return refusal
    return None


@given(verification=VERIFICATIONS, text=st.text(), value=VALUES)
def test_any_json_is_accepted_or_refused_with_a_code(verification: object, text: str, value: object) -> None:
    """For any JSON, a check returns a value or raises an error with a documented code."""
    for refusal in (
        get_error(lambda: check_verification({"verification": verification})),
        get_error(lambda: check_submission({"verification": verification})),
        get_error(lambda: check_context(value)),
        get_error(lambda: check_id(text)),
    ):
        assert refusal is None or (400 == refusal.status and refusal.code is not None)


@given(verification=VERIFICATIONS)
def test_any_accepted_session_can_be_decided(verification: object) -> None:
    """The decision of any accepted session can be serialised."""
    scenario = Scenario(SandboxRules(), new_id=lambda: str(UUID(int=1)))
    if get_error(lambda: scenario.create({"verification": verification}, now=START, host="")):
        return
    (session,) = scenario.sessions

    (effect,) = scenario.decide(session, DecisionSpec(status=Status.APPROVED), now=START)

    assert isinstance(effect, Post)
    assert dump(effect.body)


def new_media(number: int) -> StoredMedia:
    """Return an uploaded file."""
    return StoredMedia(id=str(number), context="face", mimetype="image/jpeg", size=1, sha256="", path=Path())


class Life(RuleBasedStateMachine):
    """Any order of events in the life of one session."""

    def __init__(self) -> None:
        """Open the session."""
        super().__init__()
        ids = count(1)
        self.scenario = Scenario(SandboxRules(decide_after=30), new_id=lambda: str(UUID(int=next(ids), version=4)))
        self.now = START
        self.due: list[Due] = []
        self.posted: list[object] = []
        _, effects = self.scenario.create({"verification": {}}, now=self.now, host="")
        (session,) = self.scenario.sessions
        self.id = session.id
        self.status = session.status
        self.note(effects)

    def note(self, effects: list[Effect]) -> None:
        """Keep the effects for later."""
        self.due += [effect for effect in effects if isinstance(effect, Due)]
        posts = [effect for effect in effects if isinstance(effect, Post)]
        self.posted += [post.body for post in posts if post.kind == WebhookKind.DECISION]

    @property
    def session(self) -> Session:
        """The session."""
        return self.scenario.sessions.get(self.id)

    def view(self) -> SessionView:
        """Show the session."""
        return view(self.session)

    @rule()
    def upload(self) -> None:
        """Upload a picture."""
        before = self.view()
        media = new_media(len(before.media))
        refusal = get_error(lambda: self.scenario.add_media(self.id, media, now=self.now, host=""))
        after = self.view()
        if before.status in OPEN:
            assert refusal is None
            assert len(before.media) + 1 == len(after.media)
            assert before.attempts[:-1] == after.attempts[:-1]
        else:
            assert refusal is not None
            assert 409 == refusal.status
            assert before == after

    @rule()
    def submit(self) -> None:
        """Submit the session."""
        before = self.view()
        body = {"verification": {"status": "submitted"}}
        refusal = get_error(lambda: self.note(self.scenario.submit(self.id, body, now=self.now, host="")[1]))
        after = self.view()
        if before.status in OPEN:
            assert refusal is None
            assert Status.SUBMITTED == after.status
        else:
            assert refusal is not None
            assert (400, "1304") == (refusal.status, refusal.code)
            assert before == after

    @rule(status=st.sampled_from(sorted(DECIDED)))
    def decide(self, status: Status) -> None:
        """Decide by call."""
        before = self.view()
        try:
            self.note(self.scenario.decide(self.session, DecisionSpec(status=status), now=self.now))
        except InvalidArgumentError:
            assert not can_follow(before.status, status)
            assert before == self.view()
        else:
            assert can_follow(before.status, status)

    @rule(seconds=st.sampled_from([10, 30, 86_400, 7 * 86_400]))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        while ready := [due for due in self.due if due.at <= self.now]:
            first = min(ready, key=lambda due: due.at)
            self.due.remove(first)
            self.note(self.scenario.run_due(first, now=first.at))

    @invariant()
    def the_story_holds(self) -> None:
        """The view, the webhooks and the responses are consistent."""
        seen = self.view()
        resubmissions = sum(attempt.status == Status.RESUBMISSION_REQUESTED for attempt in seen.attempts[:-1])
        assert len(seen.attempts) - 1 == resubmissions <= 9
        decision = self.scenario.decision(self.id)["verification"]
        assert (decision is not None) == (seen.status in DECIDED)
        if isinstance(decision, dict):
            assert seen.status == decision["status"]
            assert self.posted
            assert decision["attemptId"] in {attempt.id for attempt in seen.attempts}
        if is_final(self.status):
            assert seen.status == self.status or can_follow(self.status, seen.status)
        self.status = seen.status


Life.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_every_order_of_events_is_one_story = pytest.mark.timeout(60)(Life.TestCase)
