"""Which outcome is tried again, and after how long; time and chance are arguments.

Veriff has no idempotency key, so a request that makes something new is repeated only when it cannot have been heard.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from veriff_async.protocol.classify import is_repeated

if TYPE_CHECKING:
    from datetime import datetime

    from veriff_async.protocol.policies import PollPolicy, RetryPolicy, Timeouts

__all__ = ("Failure", "pause", "poll_pause", "progress_deadline", "retry_after", "retryable", "slow_down")

_TOO_MANY: Final = 429
_SLOW_DOWN: Final = frozenset({_TOO_MANY, 503})


class Failure(Enum):
    """How a try ended without an answer."""

    NOT_SENT = auto()
    """The connection was never made."""
    LOST = auto()
    """It broke, or time ran out, after bytes had left: Veriff may have acted."""


def retryable(outcome: int | Failure, *, repeatable: bool, quota: bool = False) -> bool:
    """Tell whether a try may be repeated.

    Args:
        outcome: HTTP status of the answer, or how the try failed.
        repeatable: Whether doing it twice is harmless (everything but the creation of a session).
        quota: Whether a 429 means a quota that no retry outlives.
    """
    if quota and outcome == _TOO_MANY:
        return False
    if outcome is Failure.NOT_SENT or outcome in _SLOW_DOWN:
        return True
    return repeatable and may_have_acted(outcome)


def may_have_acted(outcome: int | Failure) -> bool:
    """Tell whether Veriff may have done what a failed try asked for."""
    if isinstance(outcome, Failure):
        return outcome is Failure.LOST
    return outcome not in _SLOW_DOWN and is_repeated(outcome)


def pause(policy: RetryPolicy, *, tries: int, elapsed: float, asked: float | None, chance: float) -> float | None:
    """Return the seconds to wait before the next try, or ``None`` when the budget is spent.

    Args:
        policy: The budget.
        tries: Tries made so far, at least 1.
        elapsed: Seconds since the first one began.
        asked: What ``Retry-After`` asked for, if it did.
        chance: A random number from 0 to 1.
    """
    if tries >= policy.attempts or (asked is not None and asked > policy.retry_after_cap):
        return None
    # 2.0 ** 60 is far beyond any `longest`, and does not overflow.
    ceiling = min(policy.longest, policy.first * 2.0 ** min(tries - 1, 60))
    delay = chance * ceiling if asked is None else asked
    return delay if elapsed + delay <= policy.seconds else None


def slow_down(outcome: int | Failure) -> bool:
    """Tell whether the answer asks the whole client, not only this call, to slow down."""
    return outcome in _SLOW_DOWN


def retry_after(header: str | None, now: datetime) -> float | None:
    """Read ``Retry-After``: seconds, or an HTTP date (RFC 9110, section 10.2.3).

    Returns:
        Seconds from `now`, never negative, or ``None`` when the header is missing or unreadable.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def progress_deadline(timeouts: Timeouts, *, began: float, now: float, moved: int) -> float:
    """Return until when the next piece must have moved.

    Nothing may stall for longer than `Timeouts.stall`, and a body that drips must on the whole keep up
    `Timeouts.min_rate`.

    Args:
        timeouts: The limits.
        began: When the body began to move.
        now: When its last piece moved.
        moved: Bytes that moved so far.
    """
    return min(now + timeouts.stall, began + timeouts.stall + moved / timeouts.min_rate)


def poll_pause(policy: PollPolicy, *, asked: int) -> float:
    """Return the seconds until a session is asked again.

    Args:
        policy: The pace.
        asked: How often the session was asked already; after the first question the pause is ``policy.first``.
    """
    if asked == 0:
        return policy.delay
    pause_now = policy.first
    for _ in range(asked - 1):
        pause_now *= policy.factor
        if pause_now >= policy.longest or policy.factor == 1:
            break
    return min(pause_now, policy.longest)
