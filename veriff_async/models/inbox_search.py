"""Searches in an inbox, and what they find; without personal data."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.delivery import DeliveryStatus
from veriff_async.models.enums import Status

__all__ = ("InboxStatistics", "SessionPage", "SessionSearch", "SessionSummary")


@frozen(kw_only=True)
class SessionSearch:
    """Which sessions to find. All conditions must hold; without any, every session is found.

    Attributes:
        session_id: This session alone.
        vendor_data: Sessions of which an event has this value, exactly.
        end_user_id: Sessions of which an event has this value, exactly.
        status: Sessions in this status.
        delivery: Sessions of which a stored event has this delivery status.
        since: Sessions whose last event was recorded then or later, in seconds since 1970 by the clock of the inbox.
        until: Sessions whose last event was recorded before that time.
    """

    session_id: str | None = None
    vendor_data: str | None = field(default=None, repr=False)
    end_user_id: str | None = field(default=None, repr=False)
    status: Status | None = None
    delivery: DeliveryStatus | None = None
    since: float | None = None
    until: float | None = None


@frozen(kw_only=True)
class SessionSummary:
    """A session in an inbox.

    Attributes:
        session_id: The session; ``None`` stands for all events that name no session.
        status: Its latest status, if an event has set one and it can be read.
        events: The number of its stored events.
        queued: Its events that wait for handlers, or that a process handles.
        dead: Its events whose last attempt has failed.
        recorded_at: When its last event was recorded, in seconds since 1970 by the clock of the inbox.
    """

    session_id: str | None
    status: Status | None = None
    events: int
    queued: int = 0
    dead: int = 0
    recorded_at: float


@frozen(kw_only=True)
class SessionPage:
    """A part of the sessions that a search finds.

    Attributes:
        sessions: The sessions, the one with the latest event first.
        next_page: Pass it to get the next part; ``None`` after the last one.
    """

    sessions: tuple[SessionSummary, ...]
    next_page: str | None = None


@frozen(kw_only=True)
class InboxStatistics:
    """The size and the backlog of an inbox.

    Attributes:
        sessions: Sessions with stored events.
        events: Stored events.
        queued: Events that wait for an attempt of their handlers.
        leased: Events that a process handles.
        dead: Events whose last attempt has failed.
        oldest_queued_age: Seconds since the oldest event was recorded that is queued or leased.
        oldest_session_age: Seconds since the last event of the session that was without one for longest.
        bytes: Bytes on disk, or in the memory of a server; ``None`` if the store does not know.
    """

    sessions: int
    events: int
    queued: int = 0
    leased: int = 0
    dead: int = 0
    oldest_queued_age: float | None = None
    oldest_session_age: float | None = None
    bytes: int | None = None
