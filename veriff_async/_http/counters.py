"""The totals of all calls of a client and its views, as plain numbers."""

from __future__ import annotations

from collections import Counter
from time import time
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from veriff_async._http.exchange import Exchange

__all__ = ("CallCounters",)


@define
class CallCounters:
    """Totals since the client was created or opened again; see `ClientStatistics`.

    Attributes:
        last_success: When the last call succeeded, in seconds since 1970.
    """

    calls: Counter[str] = field(factory=Counter[str])
    failures: Counter[str] = field(factory=Counter[str])
    requests: int = 0
    active_requests: int = 0
    retries: int = 0
    retry_reasons: Counter[str] = field(factory=Counter[str])
    rate_limited: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    uploads: int = 0
    downloads: int = 0
    last_success: float | None = None

    def add_call(self, exchange: Exchange, error: BaseException | None = None) -> None:
        """Count a call that has ended, with an error or without one; a cancellation is neither."""
        self.bytes_received += exchange.bytes_received
        if error is None:
            self.last_success = time()
        elif isinstance(error, Exception):
            self.failures[type(error).__name__] += 1
