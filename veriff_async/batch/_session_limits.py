"""How many sessions a batch may create: in all, and in an hour. A session costs money as soon as it exists.

A creation counts from the record that precedes its request, so a killed run cannot lose one: `JobRecord.creations`. It
is taken back only if a response proves that nothing was created, or if a person says so. A creation whose outcome is
unknown stays counted.

The hour is a sliding window: no 60 minutes contain more creations than permitted. A token bucket would permit twice as
many, or delay the first ones.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import Final

from attrs import frozen

from veriff_async._protocol.arguments import check_number
from veriff_async.errors import InvalidArgumentError

__all__ = ("HOUR", "CreationLog", "SessionLimits", "SessionUsage")

HOUR: Final = 3600.0
"""Seconds of the sliding window."""


@frozen(kw_only=True)
class SessionLimits:
    """Limits of the sessions that the jobs of a journal may create.

    Args:
        max_sessions: Maximum of sessions of the whole journal, also those that earlier runs created; `None` for any
            number.
        max_per_hour: Maximum of sessions that are created within any 60 minutes; `None` for any number.

    Raises:
        InvalidArgumentError: A limit is not a whole number, `max_sessions` is negative, or `max_per_hour` is below 1.
    """

    max_sessions: int | None = None
    max_per_hour: int | None = None

    def __attrs_post_init__(self) -> None:
        """Check the limits."""
        for name, value, lowest in (("max_sessions", self.max_sessions, 0), ("max_per_hour", self.max_per_hour, 1)):
            if value is not None:
                remedy = f"give a number of sessions from {lowest} on, or None for any number"
                check_number(name, value, lowest=lowest, whole=True, remedy=remedy, error=InvalidArgumentError)

    def __bool__(self) -> bool:
        """Return whether there is any limit."""
        return self.max_sessions is not None or self.max_per_hour is not None


@frozen(kw_only=True)
class SessionUsage:
    """The sessions of a journal, as its limits count them.

    Attributes:
        total: Sessions that were created, or may have been.
        last_hour: Those of the last 60 minutes.
        retry_after: Seconds until the limits permit another session: 0 if they do now, infinite if `max_sessions` is
            reached.
    """

    total: int
    last_hour: int
    retry_after: float = 0.0

    def remaining(self, limits: SessionLimits) -> tuple[int | None, int | None]:
        """Return how many more sessions are permitted in all, and now by the hourly limit; `None` without a limit."""
        return (
            None if limits.max_sessions is None else max(0, limits.max_sessions - self.total),
            None if limits.max_per_hour is None else max(0, limits.max_per_hour - self.last_hour),
        )


class CreationLog:
    """Counts creations in the memory of one process. Pure: times are arguments, in seconds."""

    def __init__(self, total: int = 0) -> None:
        """Start with a number of creations that are more than an hour old."""
        self._total = total
        # Of the last hour, oldest first, by job and number of the creation within the job.
        self._times: dict[tuple[str, int], float] = {}

    def change(self, job_id: str, before: int, after: int, now: float) -> None:
        """Change the number of creations of a job."""
        self._follow_clock(now)
        for index in range(before, after):
            self._times[job_id, index] = now
        for index in range(after, before):
            self._times.pop((job_id, index), None)
        self._total += after - before

    def rename(self, job_id: str, replacement: str) -> None:
        """Count the creations of a job under another id."""
        self._times = {
            (replacement if job == job_id else job, index): time for (job, index), time in self._times.items()
        }

    def usage(self, limits: SessionLimits, now: float) -> SessionUsage:
        """Return the usage at a time."""
        self._follow_clock(now)
        wait, surplus = 0.0, len(self._times) - (limits.max_per_hour or inf)
        if limits.max_sessions is not None and self._total >= limits.max_sessions:
            wait = inf
        elif surplus >= 0:
            wait = next(islice(self._times.values(), int(surplus), None)) + HOUR - now
        return SessionUsage(total=self._total, last_hour=len(self._times), retry_after=wait)

    def _follow_clock(self, now: float) -> None:
        while self._times and next(iter(self._times.values())) <= now - HOUR:
            del self._times[next(iter(self._times))]
        # A clock that was set back: a creation of the future happened by now, so its hour ends in an hour at most.
        for key, time in reversed(self._times.items()):
            if time <= now:
                break
            self._times[key] = now
