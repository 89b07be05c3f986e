"""The sandbox's time: the real one, or one that tests move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from veriff_async._protocol.arguments import check_instance
from veriff_async.errors import ConfigurationError, InvalidArgumentError
from veriff_async.sandbox._arguments import check_number

__all__ = ("Clock", "RealClock", "VirtualClock")

_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""Leaves room for what is planned: no date may leave the calendar."""


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
        start = datetime(2025, 1, 1, tzinfo=UTC) if start is None else start
        check_instance("start", start, datetime, remedy="pass a datetime with a time zone")
        if start.tzinfo is None or not _EARLIEST <= start <= _LATEST:
            msg = (
                "The virtual clock needs an aware start: pass a datetime with a time zone, from the year 1970 to 9000."
            )
            raise ConfigurationError(msg)
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return the moment it was moved to."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        now = self._now + timedelta(seconds=check_number("seconds", seconds))
        if now > _LATEST:
            msg = "The virtual clock does not go beyond the year 9000: pass fewer seconds."
            raise InvalidArgumentError(msg)
        self._now = now
