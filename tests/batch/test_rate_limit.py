"""The rate of a batch: grows while requests wait, halves after a 429, and stays within its bounds."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, strategies as st

from veriff_async.batch import RateLimits
from veriff_async.batch._rate_limit import AimdRate

BOUNDS: Final = RateLimits(initial=10.0, minimum=1.0, maximum=100.0)


def busy(rate: AimdRate, seconds: float, now: float = 0.0) -> list[float]:
    """Reserve starts as soon as they are due, for some seconds, and return their times."""
    turns: list[float] = []
    while not turns or turns[-1] < now + seconds:
        turns.append(rate.reserve(turns[-1] if turns else now))
    return turns


def test_rate_grows_quickly_until_the_first_429() -> None:
    """From 10 per second, about 17 requests start in the first second, and the rate reaches its maximum."""
    rate = AimdRate.starting_at(BOUNDS)

    assert 15 <= sum(turn <= 1 for turn in busy(rate, 1)) <= 20
    busy(rate, 10)
    assert BOUNDS.maximum == rate.rate


def test_unused_rate_does_not_grow() -> None:
    """Requests that do not wait for the rate do not prove that the server can take more."""
    rate = AimdRate.starting_at(BOUNDS)

    assert [0.0, 1.0, 2.0] == [rate.reserve(float(second)) for second in range(3)]
    assert BOUNDS.initial == rate.rate


def test_429_halves_the_rate_once() -> None:
    """429s to requests that were sent at the previous rate count once, and the pause is kept."""
    rate = AimdRate.starting_at(BOUNDS)
    busy(rate, 10)

    for _ in range(5):
        rate.on_rate_limited(20.0, 3.0)

    assert BOUNDS.maximum / 2 == rate.rate
    assert 23.0 == rate.reserve(20.0)
    rate.on_rate_limited(24.0, 0.0)
    assert rate.rate < BOUNDS.maximum / 3


def test_rate_grows_slowly_after_a_429() -> None:
    """It grows by its initial rate per second."""
    rate = AimdRate.starting_at(BOUNDS)
    busy(rate, 10)
    rate.on_rate_limited(20.0, 0.0)

    busy(rate, 2, now=20.0)

    assert 65 <= rate.rate <= 75


@given(
    st.lists(st.tuples(st.floats(0, 10), st.none() | st.floats(0, 100)), max_size=50),
    st.floats(0.1, 50),
)
def test_rate_stays_within_its_bounds(story: list[tuple[float, float | None]], first: float) -> None:
    """Starts are in order and never in the past, and the rate never leaves its bounds."""
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
