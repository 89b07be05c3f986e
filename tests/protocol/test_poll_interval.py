"""The interval between two polls."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from veriff_async import PollPolicy
from veriff_async._protocol.poll_interval import poll_delay


@pytest.mark.parametrize(
    ("policy", "pauses"),
    [
        (PollPolicy(interval=2, backoff_factor=1.5, max_interval=5), [0, 2, 3, 4.5, 5, 5]),
        (PollPolicy(interval=2, backoff_factor=1, max_interval=30), [0, 2, 2, 2, 2, 2]),
        (PollPolicy(interval=40, backoff_factor=2, max_interval=30), [0, 30, 30, 30, 30, 30]),
    ],
)
def test_polling_starts_immediately_and_slows_down(policy: PollPolicy, pauses: list[float]) -> None:
    """The first poll is immediate, then each pause is the last one times the factor, up to the longest."""
    assert pauses == [poll_delay(policy, polls=polls) for polls in range(6)]


@given(st.integers(0, 10**4), st.floats(1, 10))
def test_delay_between_polls_never_shrinks(polls: int, factor: float) -> None:
    """After any number of polls, the next delay is not shorter and never above the maximum."""
    policy = PollPolicy(backoff_factor=factor)

    assert poll_delay(policy, polls=polls) <= poll_delay(policy, polls=polls + 1) <= policy.max_interval
