"""What every kind of decision has in common: a status to act on."""

from __future__ import annotations

from veriff_async.models.enums import Status

__all__ = ("Outcome",)


class Outcome:
    """Something that was decided about a session."""

    __slots__ = ()

    status: Status

    @property
    def is_approved(self) -> bool:
        """Tell whether the person was verified."""
        return self.status == Status.APPROVED

    @property
    def is_final(self) -> bool:
        """Tell whether the session is over: nothing but a correction by Veriff can follow."""
        return self.status.is_final

    @property
    def needs_resubmission(self) -> bool:
        """Tell whether Veriff asks for new pictures on the same session."""
        return self.status == Status.RESUBMISSION_REQUESTED
