"""The rate limit of the sandbox, for programs that must prove that they slow down. Pure.

Veriff documents no rate limit except for two endpoints. The ``Retry-After`` of the response is a guess.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from veriff_async.sandbox._faults import Fault

__all__ = ("TokenBucket",)

# Seconds. The bucket has refilled by then.
_RETRY_AFTER: Final = 1


@define
class TokenBucket:
    """A token bucket that holds the requests of one second.

    Attributes:
        rate: Requests a second; ``None`` disables the limit.
    """

    rate: float | None
    _tokens: float = 0.0
    _updated_at: float | None = None

    def take(self, now: float) -> Fault | None:
        """Take a token, at a time in seconds; return a 429 if there is none."""
        if self.rate is None:
            return None
        # Rates below one a second need a bucket of one token, or no request would ever pass.
        capacity = max(1.0, self.rate)
        refill = capacity if self._updated_at is None else max(0.0, now - self._updated_at) * self.rate
        self._updated_at = now
        self._tokens = min(capacity, self._tokens + refill)
        if self._tokens < 1:
            return Fault.status(429, retry_after=_RETRY_AFTER, message="Too many requests")
        self._tokens -= 1
        return None
