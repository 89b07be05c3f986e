"""The time of the sandbox: real, or moved by tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from veriff_async._protocol.arguments import check_instance
from veriff_async.errors import ConfigurationError, InvalidArgumentError
from veriff_async.sandbox._arguments import check_number

__all__ = ("EARLIEST", "LATEST", "Clock", "RealClock", "VirtualClock")

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Leaves a thousand years for scheduled events, so that no date exceeds what datetime can hold.
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """A source of the time."""

    def now(self) -> datetime:
        """Return the present time, aware and in UTC."""
        ...

    @property
    def runs(self) -> bool:
        """Whether time passes by itself."""
        ...


class RealClock:
    """The time of the machine."""

    runs = True

    def now(self) -> datetime:
        """Return the present time."""
        return datetime.now(UTC)


class VirtualClock:
    """A clock that stands still until it is advanced, so that a test of a week takes no time.

    Args:
        start: The first time; aware. The beginning of 2025 by default.
    """

    runs = False

    def __init__(self, start: datetime | None = None) -> None:
        """Start the clock."""
        start = datetime(2025, 1, 1, tzinfo=UTC) if start is None else start
        check_instance("start", start, datetime, remedy="pass a datetime with a time zone")
        if start.tzinfo is None or not EARLIEST <= start <= LATEST:
            msg = (
                "The virtual clock needs an aware start: pass a datetime with a time zone, from the year 1970 to 9000."
            )
            raise ConfigurationError(msg)
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return the time that it was advanced to."""
        return self._now

    def move_to(self, time: datetime) -> None:
        """Continue at a time, earlier or later, for example that of a snapshot; nothing runs that is due then."""
        self._now = VirtualClock(time).now()

    def advance(self, seconds: float) -> None:
        """Advance the time."""
        now = self._now + timedelta(seconds=check_number("seconds", seconds))
        if now > LATEST:
            msg = "The virtual clock does not go beyond the year 9000: pass fewer seconds."
            # The clock is unchanged after an error.
            raise InvalidArgumentError(msg)
        self._now = now
