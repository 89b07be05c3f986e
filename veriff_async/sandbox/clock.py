"""The sandbox's time: the real one, or one that tests move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from veriff_async.errors import ConfigurationError

__all__ = ("LONGEST", "Clock", "RealClock", "VirtualClock")

LONGEST: Final = 1e9
"""Seconds that a wait or a move of the time may have: some thirty years, so that no date leaves the calendar."""


class Clock(Protocol):
    """Something that tells the time."""

    def now(self) -> datetime:
        """Return the present moment, aware and in UTC."""
        ...

    @property
    def runs(self) -> bool:
        """Whether time passes by itself."""
        ...


class RealClock:
    """The time of the machine."""

    runs = True

    def now(self) -> datetime:
        """Return the present moment."""
        return datetime.now(UTC)


class VirtualClock:
    """A time that stands still until it is moved, so that a week passes in no time.

    Args:
        start: Where it begins; aware. The beginning of 2025 when left out.
    """

    runs = False

    def __init__(self, start: datetime | None = None) -> None:
        """Set the time."""
        if start is not None and start.tzinfo is None:
            msg = "The virtual clock needs an aware start: give a datetime with a time zone."
            raise ConfigurationError(msg)
        self._now = (start or datetime(2025, 1, 1, tzinfo=UTC)).astimezone(UTC)

    def now(self) -> datetime:
        """Return the moment it was moved to."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        if not 0 <= seconds <= LONGEST:
            msg = f"Time goes forward only: give zero or more seconds, up to {LONGEST:.0f}."
            raise ConfigurationError(msg)
        self._now += timedelta(seconds=seconds)
