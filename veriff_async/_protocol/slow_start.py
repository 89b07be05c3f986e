"""How requests resume after a server asked for a pause: one after the other, at a growing rate. Pure.

If all calls that waited for ``Retry-After`` were sent when it ends, the server would refuse most of them again. As in
TCP, the rate starts low and grows quickly; the next refusal lowers it, and from there it grows slowly (RFC 5681; the
factor is that of RFC 9438). Without a refusal for a minute, and with no request waiting, the limit ends.
"""

from __future__ import annotations

import math
from typing import Final

from attrs import define

__all__ = ("SlowStart",)

# Requests per second right after the first pause.
_FIRST: Final = 20.0

# Requests per second below which refusals do not lower the rate. Each of them brings a pause of its own.
_LOWEST: Final = 1.0

# Factor of the rate after a refusal.
_DECREASE: Final = 0.7

# Part of itself by which the rate grows per second after a second refusal: back where it was after five seconds.
_SLOW_GROWTH: Final = 0.07

# Seconds without a refusal after which the limit ends.
_RECOVERED: Final = 60.0


@define
class SlowStart:
    """The rate at which requests of one client may start.

    Attributes:
        rate: Requests per second; infinite before the first pause.
        quick_until: The rate up to which growth is quick.
        resumes: The time before which no request starts.
        last: When the last request started.
        slowed: When the rate was last lowered.
    """

    rate: float = math.inf
    quick_until: float = math.inf
    resumes: float = -math.inf
    last: float = -math.inf
    slowed: float = -math.inf

    def pause(self, now: float, seconds: float, *, started: float) -> None:
        """Pause all requests for some seconds, and lower the rate.

        Args:
            now: The time.
            seconds: How long no request starts. A longer pause that already runs stays.
            started: When the refused request was sent. If that was before the rate was last lowered, it says nothing
                about the lower rate.
        """
        self.resumes = max(self.resumes, now + seconds)
        if started < self.slowed:
            return
        if math.isinf(self.rate):
            self.rate = _FIRST
        else:
            self.rate = self.quick_until = max(_LOWEST, self.rate * _DECREASE)
        self.slowed = now

    @property
    def next_start(self) -> float:
        """The earliest time at which another request may start; it may be past."""
        return max(self.resumes, self.last + 1 / self.rate)

    def start(self, now: float, *, waited: bool) -> None:
        """Record that a request starts.

        Args:
            now: The time.
            waited: Whether it had to wait for the rate. Only then the rate grows: otherwise nothing proves that the
                server accepts more.
        """
        self.last = now
        if waited:
            # `rate` requests start per second, so a step of 1 each time is a growth by the factor e each second.
            self.rate += 1.0 if self.rate < self.quick_until else _SLOW_GROWTH
        elif now > max(self.resumes, self.slowed) + _RECOVERED:
            self.rate = self.quick_until = math.inf
