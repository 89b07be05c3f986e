"""When a decision is polled next: the interval of one session, and the rate of all. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from veriff_async.config import PollPolicy

__all__ = ("MAX_CONCURRENT_POLLS", "next_slot", "poll_delay")

# A slow response must not delay the other polls, and polls must not occupy the whole connection pool.
MAX_CONCURRENT_POLLS: Final = 16
"""Polls of one client at the same time."""


def poll_delay(policy: PollPolicy, *, polls: int) -> float:
    """Return the seconds until the next poll of a session.

    Args:
        policy: The intervals.
        polls: Number of polls so far; after the first the delay is ``policy.interval``.
    """
    if polls == 0:
        return policy.initial_delay
    delay = policy.interval
    for _ in range(polls - 1):
        delay *= policy.backoff_factor
        # Long waits poll thousands of times; the loop ends as soon as the result cannot change.
        if delay >= policy.max_interval or policy.backoff_factor == 1:
            break
    return min(delay, policy.max_interval)


def next_slot(slot: float, *, now: float, spacing: float) -> float:
    """Return the earliest time of the next poll of a client, after a poll at `now`.

    Args:
        slot: The earliest time of the poll that starts now.
        now: The time of that poll, which is not before `slot`.
        spacing: Seconds between two polls, ``1 / PollPolicy.max_rate``.
    """
    # Slots that passed unused are lost: a poller that was idle must not catch up with a burst.
    return max(slot, now - spacing) + spacing
