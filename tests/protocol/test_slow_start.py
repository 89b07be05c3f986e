"""After a pause, requests resume at a growing rate."""

from __future__ import annotations

import math
from collections import deque

import pytest
from hypothesis import given, strategies as st

from veriff_async._protocol.slow_start import SlowStart


def starts(recovery: SlowStart, now: float, seconds: float) -> list[float]:
    """Return when requests start, if any number of them wait."""
    found: list[float] = []
    end = now + seconds
    while (now := max(now, recovery.next_start)) < end:
        recovery.start(now, waited=True)
        found.append(now)
    return found


def test_nothing_is_held_back_before_a_pause() -> None:
    """A client that was never refused has no rate."""
    recovery = SlowStart()
    recovery.start(100, waited=False)

    assert recovery.next_start <= 100


@given(st.floats(0, 100), st.floats(0, 60))
def test_nothing_starts_during_a_pause(now: float, seconds: float) -> None:
    """No request starts before the end of the longest pause that was asked for."""
    recovery = SlowStart()
    recovery.pause(now, seconds, started=now)
    recovery.pause(now, seconds / 2, started=now)

    assert now + seconds == recovery.next_start


def test_requests_resume_at_a_growing_rate() -> None:
    """Of a thousand that wait, few start at once, and each half second more than in the one before."""
    recovery = SlowStart()
    recovery.pause(0, 10, started=0)
    found = starts(recovery, 0, 12.5)
    halves = [sum(begin <= at < begin + 0.5 for at in found) for begin in (10, 10.5, 11, 11.5, 12)]

    assert min(found) == 10
    assert halves[0] < 20
    assert sorted(halves) == halves
    assert halves[-1] > 2 * halves[0]


def test_a_second_refusal_lowers_the_rate() -> None:
    """A refusal of a request that started after the first pause lowers the rate, and growth is slow from there."""
    recovery = SlowStart()
    recovery.pause(0, 1, started=0)
    starts(recovery, 0, 3)
    before = recovery.rate
    recovery.pause(3, 1, started=2.9)
    lowered = recovery.rate
    starts(recovery, 3, 3)

    assert lowered < before
    assert lowered < recovery.rate < before


def test_refusals_of_one_burst_count_once() -> None:
    """Requests that were sent before the rate was lowered say nothing about the lower rate."""
    recovery = SlowStart()
    for _ in range(300):
        recovery.pause(1, 1, started=0.5)

    assert 20 == recovery.rate


def test_the_rate_has_a_lowest_value() -> None:
    """However often requests are refused, some are sent each second, so that an outage's end is noticed."""
    recovery = SlowStart()
    for now in range(100):
        recovery.pause(now, 0, started=now)

    assert recovery.rate >= 1


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    """Requests that did not have to wait prove nothing, until a minute has passed without a refusal."""
    recovery = SlowStart()
    recovery.pause(0, 1, started=0)
    recovery.start(30, waited=False)
    assert 20 == recovery.rate
    recovery.start(61, waited=True)
    assert not math.isinf(recovery.rate)
    recovery.start(62, waited=False)

    assert math.isinf(recovery.rate)


@pytest.mark.parametrize("capacity", [5, 20, 100, 500])
def test_a_server_with_a_limit_is_used_well(capacity: int) -> None:
    """Many calls at once are all served, few are refused after the first burst, and most of the capacity is used."""
    recovery, waiting = SlowStart(), 15 * capacity
    window: deque[float] = deque()
    refused, now = 0, 0.0
    while waiting:
        now = max(now, recovery.next_start)
        recovery.start(now, waited=now > 0)
        while window and window[0] <= now - 1:
            window.popleft()
        if len(window) < capacity:
            window.append(now)
            waiting -= 1
        else:
            refused += 1
            recovery.pause(now, 1, started=now)

    assert refused < 12
    assert now < 2 * 15
