"""How long to wait: for the next try, the next piece of a body, the next poll. Time and chance are arguments."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from veriff_async.config import PollPolicy, RetryPolicy, Timeouts

__all__ = ("pause", "poll_pause", "progress_deadline", "retry_after")


def pause(policy: RetryPolicy, *, tries: int, elapsed: float, asked: float | None, chance: float) -> float | None:
    """Return the seconds to wait before the next try, or ``None`` when the budget is spent.

    Without ``Retry-After`` the wait has full jitter. With it, the wait is never shorter than asked for, and never
    shorter than half the bound of this try: servers send zero, and dates that are past on arrival. A tenth of jitter,
    or that half again, keeps clients apart that were refused together.

    Args:
        policy: The budget.
        tries: Tries made so far, at least 1.
        elapsed: Seconds since the call began.
        asked: The seconds of ``Retry-After``, if there was one.
        chance: A random number from 0 to 1.
    """
    if tries >= policy.max_attempts or (asked is not None and asked > policy.max_retry_after):
        return None
    # 2.0 ** 60 is far beyond any `max_backoff`, and does not overflow.
    bound = min(policy.max_backoff, policy.initial_backoff * 2.0 ** min(tries - 1, 60))
    least, jitter = (0.0, bound) if asked is None else (max(asked, bound / 2), max(asked / 10, bound / 2))
    left = policy.max_elapsed - elapsed
    # The least wait decides whether there is another try, so that jitter never costs one.
    if asked is not None:
        return min(least + chance * jitter, left) if least <= left else None
    delay = chance * jitter
    return delay if delay <= left else None


def retry_after(header: str | None, date: str | None, now: datetime) -> float | None:
    """Read ``Retry-After``: seconds, or an HTTP date (RFC 9110, section 10.2.3).

    A date is read against the ``Date`` of the same answer, since the clocks of both sides may differ.

    Args:
        header: Its value, if there is one.
        date: The value of ``Date`` of the same answer, if there is one.
        now: The time here, for an answer without a readable ``Date``.

    Returns:
        Seconds, never negative, or ``None`` when the header is missing or unreadable.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    moment = _moment(text)
    return None if moment is None else max(0.0, (moment - (_moment(date) or now)).total_seconds())


def _moment(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return None if moment.tzinfo is None else moment


def progress_deadline(timeouts: Timeouts, *, began: float, now: float, moved: int) -> float:
    """Return until when the next piece must have moved.

    Nothing may stall for longer than `Timeouts.idle`, and a body that drips must on the whole keep up
    `Timeouts.min_bytes_per_second`.

    Args:
        timeouts: The limits.
        began: When the body began to move.
        now: When its last piece moved.
        moved: Bytes that moved so far.
    """
    return min(now + timeouts.idle, began + timeouts.idle + moved / timeouts.min_bytes_per_second)


def poll_pause(policy: PollPolicy, *, asked: int) -> float:
    """Return the seconds until a session is asked again.

    Args:
        policy: The pace.
        asked: How often the session was asked already; after the first question the pause is ``policy.interval``.
    """
    if asked == 0:
        return policy.initial_delay
    pause_now = policy.interval
    for _ in range(asked - 1):
        pause_now *= policy.backoff_factor
        if pause_now >= policy.max_interval or policy.backoff_factor == 1:
            break
    return min(pause_now, policy.max_interval)
