"""The time by which an inbox measures age, when its processes may have wrong clocks.

What is too old is deleted, so one process whose clock is a month ahead would empty the inbox for all. The inbox keeps
the latest time that it believes. A time that is more than a day away from it is doubted: either nothing was recorded
for so long, or the clock is wrong. It is believed when the doubted clock has gone on for a day, and no process has
contradicted it in between.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

__all__ = ("Clock",)

_DAY: Final = 86_400.0


@frozen
class Clock:
    """What an inbox knows of the time, in seconds since 1970.

    Attributes:
        believed: The latest time that is believed.
        doubted: The first time of a clock that is far from it, if one is.
    """

    believed: float
    doubted: float | None = None

    def observe(self, now: float) -> Clock:
        """Return what is known after a process has recorded something at a time by its own clock."""
        ahead = now - self.believed
        if abs(ahead) <= _DAY:
            return Clock(max(self.believed, now))
        if self.doubted is None or (ahead > 0) != (self.doubted > self.believed) or now < self.doubted:
            return Clock(self.believed, now)
        return Clock(now) if now - self.doubted >= _DAY else self

    def reference(self, now: float) -> float:
        """Return the time that ages are measured against, for a process with a clock of its own."""
        return max(self.believed, now) if abs(now - self.believed) <= _DAY else self.believed
