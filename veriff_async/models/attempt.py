"""The attempts of a session."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import Status
from veriff_async.models.json import JsonObject

__all__ = ("Attempt", "UserDefinedStatus")


@frozen(kw_only=True)
class UserDefinedStatus(Model):
    """A custom status that a user of the Customer Portal assigned to an attempt.

    Attributes:
        status: The label of the status.
        status_code: The identifier of the status.
        reason: The reason as text.
        reason_code: The identifier of the reason; ``None`` for a reason that was typed in.
        created_at: When it was assigned.
    """

    status: str | None = None
    status_code: str | None = None
    reason: str | None = None
    reason_code: str | None = None
    created_at: datetime | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Attempt(Model):
    """One attempt of an end-user (https://devdocs.veriff.com/apidocs/v1sessionsidattempts-1).

    Attributes:
        id: Its id.
        status: The status of the attempt.
        created_time: When it was opened; some responses omit it.
        user_defined_data: The custom statuses of the attempt.
    """

    id: str
    status: Status
    created_time: datetime | None = None
    user_defined_data: tuple[UserDefinedStatus, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
