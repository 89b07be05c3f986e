"""How many requests a second are let through: for programs that are to prove that they can be slowed down. Pure.

Veriff documents no such limit but for two calls; that the answer names a ``Retry-After`` is a guess.
"""

from __future__ import annotations

from attrs import define

from veriff_async.sandbox._faults import Fault

__all__ = ("Turnstile",)

_PAUSE = 1  # second


@define
class Turnstile:
    """A bucket that holds a second's requests, and fills up as time goes by.

    Attributes:
        rate: Requests a second; ``None`` lets everything through.
    """

    rate: float | None
    _left: float = 0.0
    _at: float | None = None

    def refusal(self, now: float) -> Fault | None:
        """Take a request, at a time in seconds, and return how it is refused, if it is one too many."""
        if self.rate is None:
            return None
        most = max(1.0, self.rate)
        passed = most if self._at is None else max(0.0, now - self._at) * self.rate
        self._at = now
        self._left = min(most, self._left + passed)
        if self._left < 1:
            return Fault.status(429, retry_after=_PAUSE, message="Too many requests")
        self._left -= 1
        return None
