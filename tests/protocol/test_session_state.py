"""The effect of messages on the state of a session: every documented order, every other order, and every damage."""

from __future__ import annotations

import json
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, strategies as st

from veriff_async import Decision, Status
from veriff_async._protocol.json.decode import dump
from veriff_async._protocol.session_state import apply_event, dump_state, is_decision_missing, load_state
from veriff_async._protocol.status_transitions import identity, is_final
from veriff_async._protocol.webhook import event_from_decision
from veriff_async.errors import DecodeError
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.events import DecisionEvent, FullAutoEvent, SessionEvent
from veriff_async.models.fullauto import FullAutoDecision
from veriff_async.models.state import IgnoredReason, SessionState
from veriff_async.testing import (
    decision_event,
    full_auto_event,
    session_event,
    strategy_for,
    watchlist_event,
    webhook_events,
)
from veriff_async.testing.factories import resubmitted_event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from veriff_async import WebhookEvent

RESUBMIT = "resubmission_requested"

# The messages of one session from its start to its end, by attempt and by the minute of a decision.
STORIES: dict[str, tuple[WebhookEvent, ...]] = {
    "straight": (
        session_event("s", "started"),
        session_event("s", "submitted"),
        decision_event("s", "approved", minute=1),
    ),
    "reviewed": (
        session_event("s", "started"),
        session_event("s", "submitted"),
        decision_event("s", "review", minute=1),
        decision_event("s", "declined", minute=2),
    ),
    "resubmitted": (
        session_event("s", "started"),
        session_event("s", "submitted"),
        decision_event("s", RESUBMIT, minute=1),
        session_event("s", "started", attempt_id="second"),
        session_event("s", "submitted", attempt_id="second"),
        decision_event("s", "approved", attempt_id="second", minute=2),
    ),
    "review of each": (
        decision_event("s", "review", minute=1),
        decision_event("s", RESUBMIT, minute=2),
        session_event("s", "submitted", attempt_id="second"),
        decision_event("s", "review", attempt_id="second", minute=3),
        decision_event("s", "declined", attempt_id="second", minute=4),
    ),
    "without times": (
        session_event("s", "submitted"),
        decision_event("s", RESUBMIT),
        session_event("s", "started", attempt_id="second"),
        session_event("s", "submitted", attempt_id="second"),
        decision_event("s", "approved", attempt_id="second"),
    ),
    "of the oldest kind": (
        session_event("s", "started", attempt_id=None),
        session_event("s", "submitted", attempt_id=None),
        decision_event("s", RESUBMIT, attempt_id=None, minute=1),
        session_event("s", "started", attempt_id=None),
        decision_event("s", "declined", attempt_id=None, minute=2),
    ),
    "within five minutes": (
        session_event("s", "started"),
        session_event("s", "submitted"),
        session_event("s", "started", attempt_id="second"),
        session_event("s", "submitted", attempt_id="second"),
        decision_event("s", "approved", attempt_id="second", minute=9),
    ),
    "expired": (session_event("s", "started"), decision_event("s", "expired", attempt_id=None)),
    "abandoned": (
        decision_event("s", RESUBMIT, minute=1),
        session_event("s", "started", attempt_id="second"),
        decision_event("s", "abandoned", attempt_id="second"),
    ),
    "screened": (
        watchlist_event("s"),
        session_event("s", "submitted"),
        decision_event("s", "approved", minute=1),
        watchlist_event("s"),
    ),
    "corrected": (
        session_event("s", "submitted"),
        decision_event("s", "declined", minute=1),
        decision_event("s", "approved", minute=2),
        decision_event("s", "declined", minute=3),
    ),
    "full auto": (
        session_event("s", "submitted"),
        full_auto_event("s", RESUBMIT),
        session_event("s", "submitted", attempt_id="second"),
        full_auto_event("s", "approved", attempt_id="second"),
    ),
}
STORIES["submitted again here"] = (
    session_event("s", "submitted"),
    decision_event("s", RESUBMIT, minute=1),
    resubmitted_event("s", minute=1),
    decision_event("s", RESUBMIT, attempt_id="second", minute=2),
    resubmitted_event("s", attempt_id="second", minute=2),
    decision_event("s", "approved", attempt_id="third", minute=3),
)
STORIES["submitted again, not decided"] = (
    session_event("s", "submitted"),
    decision_event("s", RESUBMIT, minute=1),
    resubmitted_event("s", minute=1),
)
each_story = pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)

sessions = st.just("s")
attempts = st.sampled_from(["first", "second", "third", None])
minutes = st.none() | st.integers(0, 5)
actions = st.sampled_from(["started", "submitted", "newer"])
words = st.sampled_from(["review", RESUBMIT, "approved", "declined", "expired", "abandoned", "newer"])
messages = st.one_of(
    st.builds(session_event, sessions, actions, attempt_id=attempts),
    st.builds(decision_event, sessions, words, attempt_id=attempts, minute=minutes, ip=st.sampled_from([None, "::1"])),
    st.builds(full_auto_event, sessions, words, attempt_id=attempts),
    st.builds(watchlist_event, sessions),
    st.builds(resubmitted_event, sessions, attempt_id=attempts, minute=minutes),
)


def state_after(messages: Iterable[WebhookEvent]) -> SessionState | None:
    """Return the state after messages, each of which counts once."""
    state, seen = None, set[str]()
    for message in messages:
        if message.dedup_key not in seen:
            seen.add(message.dedup_key)
            state, _ = apply_event(state, message)
    return state


def after(*messages: WebhookEvent) -> SessionState:
    """Return the state after messages."""
    state = state_after(messages)
    assert state is not None
    return state


def outcome(state: SessionState | None) -> object:
    """Return what an application acts on."""
    return None if state is None else (state.status, state.effective_decision and identity(state.effective_decision))


def reported_status(message: WebhookEvent) -> Status | None:
    """Return the status that a message reports, or None."""
    match message:
        case SessionEvent(action=status) | FullAutoEvent(decision=FullAutoDecision(status=status)):
            return status
        case DecisionEvent(decision=decision):
            return decision.status
        case _:
            return None


@each_story
def test_state_after_each_step(story: tuple[WebhookEvent, ...]) -> None:
    """In the documented order every message with a status counts, and the state takes that status."""
    state = None
    for message in story:
        before = state
        state, ignored = apply_event(state, message)
        if (status := reported_status(message)) is None:
            assert (before, IgnoredReason.IRRELEVANT) == (state, ignored)
        else:
            assert (status, None) == (state and state.status, ignored)


@each_story
def test_every_order_gives_the_same_final_state(story: tuple[WebhookEvent, ...]) -> None:
    """Every order of a session's messages gives the same final status and the same effective decision."""
    ends = {outcome(state_after(order)) for order in permutations(story)}

    assert ends == {outcome(state_after(story))}


@each_story
def test_duplicates_change_nothing(story: tuple[WebhookEvent, ...]) -> None:
    """A message that arrives again later, with another key, does not change the outcome."""
    for place, again in enumerate(story):
        for later in range(place + 1, len(story) + 1):
            state = None
            for message in (*story[:later], again, *story[later:]):
                state, _ = apply_event(state, message)
            assert outcome(state_after(story)) == outcome(state)


@pytest.mark.parametrize(
    ("before", "message", "ignored"),
    [
        ((session_event("s", "submitted"),), session_event("s", "started"), IgnoredReason.STALE),
        ((session_event("s", "submitted"),), session_event("s", "submitted"), IgnoredReason.UNCHANGED),
        ((decision_event("s", "review"),), session_event("s", "submitted"), IgnoredReason.STALE),
        ((decision_event("s", "newer"),), session_event("s", "submitted"), IgnoredReason.STALE),
        ((decision_event("s", RESUBMIT),), session_event("s", "submitted"), IgnoredReason.STALE),
        ((decision_event("s", RESUBMIT),), decision_event("s", "review"), IgnoredReason.STALE),
        ((decision_event("s", RESUBMIT),), decision_event("s", RESUBMIT, ip="::1"), IgnoredReason.UNCHANGED),
        ((decision_event("s", RESUBMIT, minute=2),), decision_event("s", RESUBMIT, minute=1), IgnoredReason.STALE),
        (
            (decision_event("s", RESUBMIT), session_event("s", "started", attempt_id="second")),
            session_event("s", "submitted"),
            IgnoredReason.STALE,
        ),
        (
            (decision_event("s", RESUBMIT), session_event("s", "started", attempt_id="second")),
            decision_event("s", "review"),
            IgnoredReason.STALE,
        ),
        # The decision on an attempt comes after the next attempt began: it is late, however late it was made.
        (
            (decision_event("s", "review", minute=1), session_event("s", "started", attempt_id="second")),
            decision_event("s", RESUBMIT, minute=2),
            IgnoredReason.STALE,
        ),
        ((full_auto_event("s", RESUBMIT),), session_event("s", "submitted"), IgnoredReason.STALE),
        ((full_auto_event("s", RESUBMIT),), full_auto_event("s", RESUBMIT), IgnoredReason.UNCHANGED),
        (
            (full_auto_event("s", RESUBMIT), session_event("s", "started", attempt_id="second")),
            full_auto_event("s", RESUBMIT),
            IgnoredReason.STALE,
        ),
        ((full_auto_event("s", "approved"),), full_auto_event("s", "approved"), IgnoredReason.UNCHANGED),
        ((full_auto_event("s", "approved"),), decision_event("s", "declined", minute=9), IgnoredReason.FINAL),
        # Decisions of the oldest kind name no attempt; the latest is meant.
        (
            (session_event("s", "submitted"), decision_event("s", RESUBMIT, attempt_id=None)),
            session_event("s", "submitted"),
            IgnoredReason.STALE,
        ),
        (
            (decision_event("s", "approved"),),
            decision_event("s", "approved", attempt_id="second"),
            IgnoredReason.UNCHANGED,
        ),
        ((decision_event("s", "approved"),), decision_event("s", "declined"), IgnoredReason.FINAL),
        ((decision_event("s", "approved", minute=2),), decision_event("s", "declined", minute=2), IgnoredReason.FINAL),
        ((decision_event("s", "approved", minute=2),), decision_event("s", "declined", minute=1), IgnoredReason.FINAL),
        ((decision_event("s", "approved"),), decision_event("s", "review", minute=9), IgnoredReason.FINAL),
        ((decision_event("s", "expired"),), decision_event("s", "approved", minute=9), IgnoredReason.FINAL),
        ((decision_event("s", "approved"),), session_event("s", "started", attempt_id="second"), IgnoredReason.FINAL),
        ((decision_event("s", "approved"),), watchlist_event("s"), IgnoredReason.IRRELEVANT),
        # A submission that answered an older request is recorded after the decision on it.
        ((decision_event("s", RESUBMIT, minute=2),), resubmitted_event("s", minute=1), IgnoredReason.STALE),
        (
            (decision_event("s", RESUBMIT, attempt_id="second", minute=2),),
            resubmitted_event("s", minute=1),
            IgnoredReason.STALE,
        ),
        (
            (decision_event("s", "review", attempt_id="second", minute=2),),
            resubmitted_event("s", minute=1),
            IgnoredReason.STALE,
        ),
        ((decision_event("s", "approved", minute=2),), resubmitted_event("s", minute=1), IgnoredReason.FINAL),
        ((resubmitted_event("s", minute=1),), decision_event("s", RESUBMIT, minute=1), IgnoredReason.UNCHANGED),
        (
            (resubmitted_event("s", minute=1),),
            decision_event("s", RESUBMIT, attempt_id=None, minute=1),
            IgnoredReason.UNCHANGED,
        ),
        ((resubmitted_event("s", minute=1),), session_event("s", "submitted"), IgnoredReason.STALE),
        ((resubmitted_event("s", minute=2),), decision_event("s", "review", minute=1), IgnoredReason.STALE),
        ((resubmitted_event("s", minute=1),), resubmitted_event("s", minute=1), IgnoredReason.UNCHANGED),
    ],
)
def test_ignored_messages_have_a_reason(
    before: tuple[WebhookEvent, ...], message: WebhookEvent, ignored: IgnoredReason
) -> None:
    """A message that is late, says the same, or comes after the end leaves the state as it is, for that reason."""
    state = after(*before)

    assert (state, ignored) == apply_event(state, message)


@pytest.mark.parametrize(
    ("before", "message", "status"),
    [
        ((decision_event("s", RESUBMIT, attempt_id=None),), session_event("s", "started", attempt_id=None), "started"),
        (
            (decision_event("s", RESUBMIT, minute=1),),
            decision_event("s", "review", attempt_id="second", minute=2),
            "review",
        ),
        ((decision_event("s", RESUBMIT, minute=1),), decision_event("s", "approved", minute=2), "approved"),
        ((decision_event("s", RESUBMIT),), full_auto_event("s", "declined"), "declined"),
        ((decision_event("s", "review", minute=1),), decision_event("s", "review", minute=2), "review"),
        ((decision_event("s", "approved", minute=1),), decision_event("s", "approved", minute=2), "approved"),
        # The first attempt was heard of last; the times of its decisions show that it was the first.
        (
            (
                session_event("s", "started", attempt_id="second"),
                session_event("s", "started"),
                decision_event("s", RESUBMIT, minute=1),
            ),
            decision_event("s", "review", attempt_id="second", minute=2),
            "review",
        ),
        # The end is the end, even that of an attempt which seemed to be passed.
        (
            (session_event("s", "started"), session_event("s", "started", attempt_id="second")),
            decision_event("s", "approved"),
            "approved",
        ),
        (
            (session_event("s", "started"), session_event("s", "started", attempt_id="second")),
            full_auto_event("s", "approved"),
            "approved",
        ),
        ((full_auto_event("s", "approved"),), decision_event("s", "approved", minute=1), "approved"),
        (
            (decision_event("s", RESUBMIT), full_auto_event("s", "approved")),
            decision_event("s", "approved"),
            "approved",
        ),
        ((decision_event("s", RESUBMIT, minute=1),), resubmitted_event("s", minute=1), "submitted"),
        ((decision_event("s", "review", minute=1),), resubmitted_event("s", minute=2), "submitted"),
        ((session_event("s", "started", attempt_id="second"),), resubmitted_event("s", minute=1), "submitted"),
        ((resubmitted_event("s", minute=1),), decision_event("s", RESUBMIT, attempt_id="second", minute=2), RESUBMIT),
        ((resubmitted_event("s", minute=1),), decision_event("s", RESUBMIT, minute=2), RESUBMIT),
        ((resubmitted_event("s"),), decision_event("s", RESUBMIT, attempt_id="second"), RESUBMIT),
    ],
)
def test_new_information_counts(before: tuple[WebhookEvent, ...], message: WebhookEvent, status: str) -> None:
    """A message with newer information changes the state to its status."""
    state, ignored = apply_event(after(*before), message)

    assert state is not None
    assert (None, status) == (ignored, state.status)


@given(st.lists(messages, max_size=12))
@example([full_auto_event("s", RESUBMIT), session_event("s", "submitted")])
def test_no_message_reverts_a_final_state(story: list[WebhookEvent]) -> None:
    """Once a state is final, only a correction that is provably later changes it, to another end."""
    state: SessionState | None = None
    for message in story:
        before = state
        state, ignored = apply_event(state, message)
        if before is not None and before.status.is_final and state is not None and state != before:
            assert ignored is None
            assert state.status.is_final
            if state.status != before.status:
                times = [decision and decision.decision_time for decision in (before.decision, state.decision)]
                assert times == sorted({time for time in times if time})


@given(st.lists(messages, max_size=12))
def test_message_counts_or_has_a_reason(story: list[WebhookEvent]) -> None:
    """A message that counts changes the state, one that does not leaves what stands; at once again, it has a reason."""
    state = None
    for message in story:
        before = state
        state, ignored = apply_event(state, message)
        assert ignored is not None or before != state
        if ignored is not None and isinstance(message, DecisionEvent) and state is not None and state != before:
            # It proved an order, and is not what stands.
            assert state.effective_decision is None or identity(state.effective_decision) != identity(message.decision)
        again, ignored = apply_event(state, message)
        assert (again, False) == (state, ignored is None)


@given(st.lists(messages, max_size=12), st.sampled_from(["approved", "declined"]))
def test_full_auto_end_is_recorded(story: list[WebhookEvent], end: str) -> None:
    """The only final decision is the effective one, regardless of the messages before and after it."""
    open_ones = [message for message in story if not is_final(reported_status(message) or Status.CREATED)]
    for place in range(len(open_ones) + 1):
        state = after(*open_ones[:place], decision_event("s", end, attempt_id="second"), *open_ones[place:])
        assert [end, end] == [state.status, *([state.effective_decision.status] if state.effective_decision else [])]


def test_full_auto_decision_is_missing_until_requested() -> None:
    """After a Full Auto webhook the decision itself is missing, and the response of Veriff completes it."""
    before = after(session_event("s", "submitted"), full_auto_event("s", "approved"))
    decision = after(decision_event("s", "approved", minute=1)).decision
    assert decision is not None

    state, ignored = apply_event(before, event_from_decision(decision), DecisionSource.POLL)

    assert state is not None
    assert (True, False, None) == (is_decision_missing(before), is_decision_missing(state), ignored)
    assert (None, decision, DecisionSource.POLL) == (before.effective_decision, state.effective_decision, state.source)


def test_newer_attempt_supersedes_a_decision() -> None:
    """After a resubmission the decision stands until another attempt begins, and is remembered then."""
    first = after(decision_event("s", RESUBMIT))
    second = after(decision_event("s", RESUBMIT), session_event("s", "started", attempt_id="second"))

    assert first.decision == first.effective_decision == second.decision
    assert (None, "second") == (second.effective_decision, second.attempt_id)
    assert not is_decision_missing(second)


def test_attempts_are_bounded() -> None:
    """However many attempts messages name, a state remembers the newest few."""
    state = after(*(session_event("s", "started", attempt_id=str(number)) for number in range(1_000)))

    assert ("999", 32) == (state.attempt_id, len(state.attempts))


@given(event=webhook_events(), before=messages)
def test_any_event_is_applied(event: WebhookEvent, before: WebhookEvent) -> None:
    """An event of any kind and content gives a state that can be written and read again, or none."""
    for state in (None, after(session_event("s", "started"), before)):
        now, _ = apply_event(state, event)
        assert now is None or now == load_state(dump_state(now))


states = st.builds(
    SessionState,
    session_id=st.text(),
    status=st.sampled_from(Status) | st.text().map(Status),
    attempts=st.lists(st.text(), max_size=3).map(tuple),
    decision=st.none() | strategy_for(Decision),
    source=st.none() | st.sampled_from(DecisionSource),
)


@given(states)
def test_state_survives_storage(state: SessionState) -> None:
    """A state that was written is read again as it was."""
    assert state == load_state(dump_state(state))


@given(text=st.binary(max_size=60) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(dump))
def test_invalid_state_raises_decode_error(text: bytes) -> None:
    """Bytes that no state was written as are an error of ours."""
    with pytest.raises(DecodeError):
        load_state(text)


@given(
    name=st.sampled_from(["id", "status", "attempts", "decision", "source"]),
    value=st.none() | st.integers() | st.text() | st.lists(st.none() | st.text()) | st.just({}),
)
def test_any_members_give_a_state_or_decode_error(name: str, value: object) -> None:
    """A state with a part of any kind is read without it where it can be missing, or is an error of ours."""
    found = json.loads(dump_state(after(decision_event("s", "approved"))))
    try:
        state = load_state(dump(found | {name: value}))
    except DecodeError:
        assert name in {"id", "status", "decision"}
    else:
        assert state.session_id == (value if name == "id" else "s")
        assert all(isinstance(attempt, str) for attempt in state.attempts)


@given(st.data())
def test_truncated_state_raises_decode_error(data: st.DataObject) -> None:
    """A state of which any piece is missing is an error of ours, and shows nothing of it."""
    text = dump_state(after(decision_event("s", "approved", minute=1)))
    with pytest.raises(DecodeError) as caught:
        load_state(text[: data.draw(st.integers(0, len(text) - 1))])

    assert "Ada" not in str(caught.value)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


def test_newer_statuses_are_accepted() -> None:
    """The state of a newer version is read as far as this version knows its fields."""
    found = json.loads(dump_state(after(session_event("s", "started")))) | {"source": "carrier pigeon", "newer": 1}

    assert after(session_event("s", "started")) == load_state(dump(found))


@given(strategy_for(Decision), st.sampled_from(DecisionSource), st.none() | st.floats(0, 4e9))
def test_first_decision_has_the_same_effect_with_and_without_a_new_session(
    decision: Decision, source: DecisionSource, recorded_at: float | None
) -> None:
    """A session that is not recorded yet is like one that was only created."""
    created = SessionState(session_id=decision.session_id, status=Status.CREATED)
    event = DecisionEvent(decision=decision)
    first = apply_event(None, event, source, recorded_at=recorded_at)
    assert first == apply_event(created, event, source, recorded_at=recorded_at)


def test_open_attempts_that_cannot_be_read_are_left_out() -> None:
    """A state of another version keeps the open attempts whose form is known."""
    attempts: list[object] = [5, {}, {"attempt": 5, "status": "started"}, {"attempt": "b", "status": "started"}]
    state = load_state(json.dumps({"id": "s", "status": "started", "attempts": ["b"], "open": attempts}).encode())
    assert [(each.attempt_id, each.first_seen) for each in state.open_attempts] == [("b", None)]
