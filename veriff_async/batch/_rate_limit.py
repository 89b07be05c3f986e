"""How fast a batch goes: careful at first, faster while nobody objects, half as fast when Veriff does.

Veriff names no limit for what a batch calls (https://devdocs.veriff.com/docs/some-troubleshooting-codes-table has the
answer, 429), so the pace is found: as TCP does, it grows quickly until the first objection and slowly ever after.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from veriff_async._protocol.arguments import number
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.client import ClientStatistics

__all__ = ("AimdRate", "RateLimiter", "RateLimits")


_positive: Final = number(above=True, remedy="give requests a second, above zero")


@frozen(kw_only=True)
class RateLimits:
    """Bounds of a batch's pace, in requests a second (create, upload, submit; questions for decisions have their own).

    Args:
        initial: Where it begins, and by what it grows each second after the first 429.
        minimum: Below this it is never halved.
        maximum: Above this it never grows.

    Raises:
        ConfigurationError: One is not above zero, or they are in no order.
    """

    initial: float = field(default=20.0, validator=_positive)
    minimum: float = field(default=0.5, validator=_positive)
    maximum: float = field(default=1000.0, validator=_positive)

    def __attrs_post_init__(self) -> None:
        """Compare the bounds."""
        if not self.minimum <= self.initial <= self.maximum:
            msg = "RateLimits must satisfy minimum <= initial <= maximum."
            raise ConfigurationError(msg)


@define
class AimdRate:
    """The pace as it stands. Pure: times are given.

    Attributes:
        limits: Its bounds.
        rate: Requests a second, now.
        objected: Whether Veriff has objected yet.
        due: When the next request may leave.
        held_until: Until when further objections are to what left before the last halving.
    """

    limits: RateLimits
    rate: float
    objected: bool = False
    due: float = 0.0
    held_until: float = 0.0

    @classmethod
    def starting_at(cls, limits: RateLimits) -> AimdRate:
        """Begin where a pace begins."""
        return cls(limits, limits.initial)

    def turn(self, now: float) -> float:
        """Take the next turn, and return when it is.

        A pace that is not made use of does not grow: that it is borne was not tried.
        """
        at = max(self.due, now)
        if self.due > now:
            # A turn of a second's `rate`, so the rate grows e-fold each second at first, and by `first` later.
            step = self.limits.initial / self.rate if self.objected else 1.0
            self.rate = min(self.limits.maximum, self.rate + step)
        self.due = at + 1 / self.rate
        return at

    def restart(self) -> None:
        """Go no faster than at the beginning: after an outage, nothing is known of what the server can take."""
        self.rate = min(self.rate, self.limits.initial)

    def object(self, now: float, pause: float) -> None:
        """Go half as fast, and not before a pause has passed; what was sent before that is answered likewise."""
        self.due = max(self.due, now + pause)
        if now < self.held_until:
            return
        self.rate = max(self.limits.minimum, self.rate / 2)
        self.objected = True
        self.held_until = now + max(1.0, pause)


class RateLimiter:
    """Lets requests of a batch pass at its pace."""

    def __init__(self, limits: RateLimits, statistics: Callable[[], ClientStatistics]) -> None:
        """Take the bounds, and where it is seen that Veriff objected."""
        self._gauge = AimdRate.starting_at(limits)
        self._statistics = statistics
        self._seen = statistics().rate_limited

    @property
    def rate(self) -> float:
        """Requests a second, now."""
        return self._gauge.rate

    async def turn(self) -> None:
        """Return when the next request may leave."""
        loop = asyncio.get_running_loop()
        self.heed()
        at = self._gauge.turn(loop.time())
        while (left := at - loop.time()) > 0:  # noqa: ASYNC110  it waits for a time
            await asyncio.sleep(left)

    def restart(self) -> None:
        """Go no faster than at the beginning."""
        self._gauge.restart()

    def heed(self) -> None:
        """Look whether Veriff objected since the last look."""
        found = self._statistics()
        if found.rate_limited > self._seen:
            self._seen = found.rate_limited
            self._gauge.object(asyncio.get_running_loop().time(), found.cooldown_remaining)
