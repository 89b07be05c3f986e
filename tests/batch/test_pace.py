"""The pace: careful, quicker while nobody objects, half as quick when somebody does, and never outside its bounds."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, strategies as st

from veriff_async.batch import RateLimits
from veriff_async.batch._rate_limit import AimdRate

BOUNDS: Final = RateLimits(initial=10.0, minimum=1.0, maximum=100.0)


def busy(rate: AimdRate, seconds: float, now: float = 0.0) -> list[float]:
    """Take turns as soon as they are due, for some seconds, and return when they were."""
    turns: list[float] = []
    while not turns or turns[-1] < now + seconds:
        turns.append(rate.reserve(turns[-1] if turns else now))
    return turns


def test_it_begins_careful_and_grows_quickly() -> None:
    """In its first second it lets some seventeen requests pass for ten, and it ends at its upper bound."""
    rate = AimdRate.starting_at(BOUNDS)

    assert 15 <= sum(turn <= 1 for turn in busy(rate, 1)) <= 20
    busy(rate, 10)
    assert BOUNDS.maximum == rate.rate


def test_a_pace_that_is_not_made_use_of_does_not_grow() -> None:
    """Whoever asks less often than he may has not shown that more is borne."""
    rate = AimdRate.starting_at(BOUNDS)

    assert [0.0, 1.0, 2.0] == [rate.reserve(float(second)) for second in range(3)]
    assert BOUNDS.initial == rate.rate


def test_an_objection_halves_it_once() -> None:
    """What was sent before the first objection is answered likewise, and counts once; the pause is kept."""
    rate = AimdRate.starting_at(BOUNDS)
    busy(rate, 10)

    for _ in range(5):
        rate.on_rate_limited(20.0, 3.0)

    assert BOUNDS.maximum / 2 == rate.rate
    assert 23.0 == rate.reserve(20.0)
    rate.on_rate_limited(24.0, 0.0)
    assert rate.rate < BOUNDS.maximum / 3


def test_it_grows_slowly_after_an_objection() -> None:
    """By its first rate each second, no more."""
    rate = AimdRate.starting_at(BOUNDS)
    busy(rate, 10)
    rate.on_rate_limited(20.0, 0.0)

    busy(rate, 2, now=20.0)

    assert 65 <= rate.rate <= 75


@given(
    st.lists(st.tuples(st.floats(0, 10), st.none() | st.floats(0, 100)), max_size=50),
    st.floats(0.1, 50),
)
def test_it_stays_within_its_bounds(story: list[tuple[float, float | None]], first: float) -> None:
    """Whatever happens, turns come in order and never before now, and the rate never leaves its bounds."""
    pace = RateLimits(initial=first, minimum=first / 3, maximum=first * 5)
    rate, now, turns = AimdRate.starting_at(pace), 0.0, [0.0]
    for step, pause in story:
        now += step
        if pause is not None:
            rate.on_rate_limited(now, pause)
        turns.append(rate.reserve(now))
        assert turns[-1] >= now
        assert pace.minimum <= rate.rate <= pace.maximum

    assert all(before <= after for before, after in pairwise(turns))
    assert pytest.approx(rate.next_start - turns[-1]) == 1 / rate.rate or len(turns) == 1
