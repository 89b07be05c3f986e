"""The clock of an inbox: no single wrong clock makes everything old."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, strategies as st

from veriff_async._protocol.inbox_clock import InboxClock

DAY: Final = 86_400.0
NOW: Final = 1_800_000_000.0


@given(st.lists(st.floats(-DAY, DAY), max_size=10), st.floats(2 * DAY, 10_000 * DAY), st.booleans())
def test_contradicted_clock_is_never_trusted(steps: list[float], off: float, is_ahead: bool) -> None:  # noqa: FBT001  drawn
    """However far off one process is, and for however long: while others record, ages go by their time."""
    clock, now = InboxClock(NOW), NOW
    wrong = off if is_ahead else -off
    for step in steps:
        now += abs(step)
        clock = clock.observe(now + wrong)
        assert clock.reference(now + wrong) <= now + DAY
        clock = clock.observe(now)
        assert now <= clock.reference(now) <= now + DAY


@pytest.mark.parametrize("gap", [2 * DAY, 31 * DAY, 400 * DAY])
def test_time_after_long_silence_is_trusted_after_a_day(gap: float) -> None:
    """After a long silence the new time is trusted only when it has advanced for a day."""
    clock = InboxClock(NOW).observe(NOW + gap)
    assert (NOW, NOW) == (clock.trusted, clock.reference(NOW + gap))

    later = clock.observe(NOW + gap + DAY / 2).observe(NOW + gap + DAY)

    assert NOW + gap + DAY == later.trusted


def test_two_wrong_clocks_do_not_confirm_each_other() -> None:
    """A clock that is behind and one that is ahead do not count as one clock that advanced."""
    clock = InboxClock(NOW).observe(NOW - 40 * DAY).observe(NOW + 40 * DAY)

    assert NOW == clock.trusted


def test_inbox_that_started_in_the_future_recovers() -> None:
    """When the first clock was wrong, the right one is believed after a day."""
    clock = InboxClock(NOW + 400 * DAY)
    for hours in range(0, 26, 5):
        clock = clock.observe(NOW + hours * DAY / 24)

    assert NOW + DAY <= clock.trusted <= NOW + 2 * DAY
