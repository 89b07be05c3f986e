"""Base class of decisions."""

from __future__ import annotations

from veriff_async.models.base import Model
from veriff_async.models.enums import Status

__all__ = ("Outcome",)


class Outcome(Model):
    """Base class of decisions, with properties to act on."""

    __slots__ = ()

    status: Status

    @property
    def is_approved(self) -> bool:
        """Return whether the person was verified."""
        return self.status == Status.APPROVED

    @property
    def is_final(self) -> bool:
        """Return whether the session is over, so that only a correction by Veriff can follow."""
        return self.status.is_final

    @property
    def needs_resubmission(self) -> bool:
        """Return whether Veriff requests new media for the same session."""
        return self.status == Status.RESUBMISSION_REQUESTED
