"""When a queued or leased event is due, by a clock that may be set back."""

from __future__ import annotations

__all__ = ("is_due",)


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
