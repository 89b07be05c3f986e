"""The time with which an inbox measures age, although a process may have a wrong clock.

An inbox deletes sessions that are too old, so one process whose clock is a month ahead would empty it for all. It
therefore stores the latest time that it trusts. A time that differs from it by more than a day is suspect: either no
process recorded anything for that long, or the clock is wrong. It is trusted when the suspect clock has advanced by a
day, and no process has recorded at a trusted time since then.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

__all__ = ("InboxClock",)

_DAY: Final = 86_400.0


@frozen
class InboxClock:
    """The trusted time of an inbox, in seconds since 1970."""

    trusted: float
    suspect: float | None = None

    def observe(self, now: float) -> InboxClock:
        """Return the clock after a process has recorded an event, at a time of its own clock."""
        ahead = now - self.trusted
        if abs(ahead) <= _DAY:
            return InboxClock(max(self.trusted, now))
        # A time on the other side of the trusted one, or before the suspect one, is from another clock: start again.
        if self.suspect is None or (ahead > 0) != (self.suspect > self.trusted) or now < self.suspect:
            return InboxClock(self.trusted, now)
        return InboxClock(now) if now - self.suspect >= _DAY else self

    def reference(self, now: float) -> float:
        """Return the current time for measuring age, for a process whose clock shows `now`."""
        return max(self.trusted, now) if abs(now - self.trusted) <= _DAY else self.trusted
