"""How fast a client may go: a gate that all its requests pass, and seats for uploads."""

from __future__ import annotations

import asyncio
from random import random

__all__ = ("Pace",)


class Pace:
    """One slow-down for all requests of a client, so that a 429 to one of them quiets all."""

    def __init__(self) -> None:
        """Begin open."""
        self._until = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def slowed_for(self) -> float:
        """Seconds until the gate opens again; zero when it is open."""
        return 0.0 if self._loop is None else max(0.0, self._until - self._loop.time())

    def slow_down(self, seconds: float) -> None:
        """Close the gate for so many seconds from now; a longer slow-down that already runs stays."""
        self._loop = asyncio.get_running_loop()
        self._until = max(self._until, self._loop.time() + seconds)

    async def passed(self) -> None:
        """Return when the gate is open; those who waited are spread over a tenth of their wait."""
        loop = asyncio.get_running_loop()
        while (left := self._until - loop.time()) > 0:  # noqa: ASYNC110  it waits for a time, which may be put off
            await asyncio.sleep(left * (1 + random() / 10))  # noqa: S311  spreads load, guards nothing
