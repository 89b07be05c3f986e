"""When a queued or leased event is due, by a clock that may be set back; and what happens if it cannot be read."""

from __future__ import annotations

from typing import Final

from veriff_async.models.delivery import DeliveryOutcome, DeliveryStatus

__all__ = ("MISSING_KEY", "UNREADABLE", "is_due")

UNREADABLE: Final = DeliveryOutcome(status=DeliveryStatus.DEAD, error="The stored event cannot be read.")
"""The outcome of an event that another program has damaged, or moved to another session."""

MISSING_KEY: Final = "The process that leased it lacks a key of the inbox."
"""The error of an event that a process has given back, since only another one can decrypt it."""


def is_due(due_at: float, span: float, now: float) -> bool:
    """Return whether an attempt may begin: the time has come, or the clock was set back.

    A clock that is set back by a day must not delay an event for a day. So a time that is further away than twice the
    delay or the lease which it was computed with counts as due. A small correction of a clock, up to that delay or
    lease, ends no lease early.

    Args:
        due_at: When the delay or the lease ends.
        span: The delay or the lease in seconds, from which `due_at` was computed.
        now: The present time by the same clock.
    """
    return due_at <= now or due_at - now > 2 * span
