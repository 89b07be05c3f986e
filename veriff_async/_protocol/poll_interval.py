"""The interval between two polls of a decision. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veriff_async.config import PollPolicy

__all__ = ("poll_delay",)


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
