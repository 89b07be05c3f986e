"""The tries of an end-user at one session."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from veriff_async.models.enums import Status
from veriff_async.models.json import JsonObject

__all__ = ("Attempt", "UserDefinedStatus")


@frozen(kw_only=True)
class UserDefinedStatus:
    """A status of your own that somebody gave an attempt in the Customer Portal.

    Attributes:
        status: Its label.
        status_code: Its word.
        reason: Why, in words.
        reason_code: The word of the reason; ``None`` for one that was typed in.
        created_at: When it was given.
    """

    status: str | None = None
    status_code: str | None = None
    reason: str | None = None
    reason_code: str | None = None
    created_at: datetime | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Attempt:
    """One try of an end-user (https://devdocs.veriff.com/apidocs/v1sessionsidattempts-1).

    Attributes:
        id: Its id.
        status: Where it stands.
        created_time: When it was opened; some answers leave it out.
        user_defined_data: The statuses of your own that it was given.
    """

    id: str
    status: Status
    created_time: datetime | None = None
    user_defined_data: tuple[UserDefinedStatus, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
