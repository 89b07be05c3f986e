"""Veriff's quota of deletions. Pure: times are arguments, in seconds since 1970.

Veriff documents five deletions an hour and ten a day, and no header that says when the next one is possible
(https://devdocs.veriff.com/apidocs/v1sessionsid-3). Both are taken as sliding windows, which is the strictest reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("DAY", "HOUR", "next_deletion_at")

HOUR: Final = 3600.0
DAY: Final = 86_400.0

_LIMITS: Final = ((5, HOUR), (10, DAY))


def next_deletion_at(times: Sequence[float], now: float) -> float:
    """Return when the quota permits the next deletion: `now`, or a later time.

    Args:
        times: When earlier deletions were sent. One of the future, by a clock that was set back since, counts as sent
            now.
        now: The present time.
    """
    sent = sorted(min(time, now) for time in times)
    return max(now, *(sent[-most] + seconds for most, seconds in _LIMITS if len(sent) >= most), now)
