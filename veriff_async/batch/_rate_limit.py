"""The request rate of a batch: it grows until Veriff responds with 429, then halves and grows slowly (AIMD, as TCP).

Veriff documents no limit for these endpoints, only the response 429
(https://devdocs.veriff.com/docs/some-troubleshooting-codes-table), so the limit has to be found by trying.

The client has a second, stricter limiter (`_http.cooldown`), which obeys ``Retry-After`` for all its requests. This one
spreads the requests of a batch, so that a batch seldom reaches that point.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from veriff_async._protocol.arguments import number
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async._http.transport import Transport

__all__ = ("AimdRate", "RateLimiter", "RateLimits")


_positive: Final = number(above=True, remedy="give requests per second, above zero")


@frozen(kw_only=True)
class RateLimits:
    """Bounds of a batch's rate in requests per second: create, upload, submit, and asking once for a decision.

    Args:
        initial: The rate at the start, in requests per second, and its growth per second after the first 429.
        minimum: The lowest rate, which is not halved, in requests per second.
        maximum: The highest rate, in requests per second.

    Raises:
        ConfigurationError: A bound is not above zero, or they are not in ascending order.
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
    """The rate now: additive increase, multiplicative decrease. Pure: times are arguments.

    Attributes:
        limits: The bounds.
        rate: Requests per second.
        was_limited: Whether Veriff has responded with 429 yet.
        next_start: When the next request may start.
        ignore_429_until: 429s before this time belong to requests that were sent at the previous rate.
    """

    limits: RateLimits
    rate: float
    was_limited: bool = False
    next_start: float = 0.0
    ignore_429_until: float = 0.0

    @classmethod
    def starting_at(cls, limits: RateLimits) -> AimdRate:
        """Start at the initial rate."""
        return cls(limits, limits.initial)

    def reserve(self, now: float) -> float:
        """Reserve the next start of a request, and return its time."""
        start = max(self.next_start, now)
        # The rate grows only while requests wait for it: otherwise nothing proves that the server can take more.
        if self.next_start > now:
            # `rate` requests start per second, so the rate grows e-fold per second at first, and by `initial` later.
            growth = self.limits.initial / self.rate if self.was_limited else 1.0
            self.rate = min(self.limits.maximum, self.rate + growth)
        self.next_start = start + 1 / self.rate
        return start

    def restart(self) -> None:
        """Return to at most the initial rate: after an outage, the server's capacity is unknown."""
        self.rate = min(self.rate, self.limits.initial)

    def on_rate_limited(self, now: float, pause: float) -> None:
        """Pause, and halve the rate once for all requests that were sent before."""
        self.next_start = max(self.next_start, now + pause)
        if now < self.ignore_429_until:
            return
        self.rate = max(self.limits.minimum, self.rate / 2)
        self.was_limited = True
        self.ignore_429_until = now + max(1.0, pause)


class RateLimiter:
    """Delays the requests of a batch to its rate."""

    def __init__(self, limits: RateLimits, transport: Callable[[], Transport]) -> None:
        """Start at the initial rate.

        Args:
            limits: The bounds.
            transport: Returns the client's transport, which counts responses with 429.
        """
        self._rate = AimdRate.starting_at(limits)
        # A function, because a client that is closed and opened again gets another transport.
        self._transport = transport
        self._rate_limited = transport().counters.rate_limited

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self._rate.rate

    async def acquire(self, count: int = 1) -> None:
        """Return when the next request may start, or the last one of several."""
        loop = asyncio.get_running_loop()
        # The counters alone, not `client.statistics()`: that builds all totals, and this runs before every request.
        transport = self._transport()
        if transport.counters.rate_limited > self._rate_limited:
            self._rate_limited = transport.counters.rate_limited
            self._rate.on_rate_limited(loop.time(), transport.cooldown.remaining)
        start = now = loop.time()
        for _ in range(count):
            start = self._rate.reserve(now)
        while (delay := start - loop.time()) > 0:  # noqa: ASYNC110  a timer may fire early by the clock's resolution
            await asyncio.sleep(delay)

    def restart(self) -> None:
        """Return to at most the initial rate."""
        self._rate.restart()
