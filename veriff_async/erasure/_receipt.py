"""The receipt of an erasure: the proof that it happened, without data of the person."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

from attrs import Factory, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("ErasureReceipt", "VeriffErasure", "session_digest", "to_datetime")


class VeriffErasure(StrEnum):
    """How far the erasure of a session at Veriff is."""

    WAITING = "waiting"
    """It waits for Veriff's quota, for the end of the session, or for another try after an error."""
    DELETED = "deleted"
    """Veriff has accepted the deletion; it deletes the data within twelve hours."""
    UNKNOWN = "unknown"
    """Veriff does not know the session. It was deleted before, or belongs to another integration."""
    SKIPPED = "skipped"
    """The erasure was started without a client, so Veriff was not asked."""


def session_digest(session_id: str) -> str:
    """Return the SHA-256 of a session's id in hexadecimal, by which a receipt names the session."""
    return sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()


@frozen(kw_only=True)
class ErasureReceipt:
    """The progress of an erasure. It holds no id of a session, no path, and no data of the person.

    Attributes:
        erasure_id: The erasure, a random text.
        requested_at: When it was started.
        completed_at: When its last step ended; ``None`` while any is left.
        sessions: SHA-256 of the ids of the sessions, in hexadecimal, sorted. With an id, anyone can check that a
            receipt is about its session.
        veriff: The number of sessions by their progress at Veriff.
        erased: How much each store has erased, by its name: sessions of an inbox, records of a journal, files, lines.
        problems: Why a step is left, by the name of the store, or ``veriff``: the class of the error and its message,
            which never hold personal data.
        next_attempt_at: When Veriff can be asked again, if sessions wait for that.
    """

    erasure_id: str
    requested_at: datetime
    completed_at: datetime | None = None
    sessions: tuple[str, ...]
    veriff: Mapping[VeriffErasure, int] = Factory(dict["VeriffErasure", int])
    erased: Mapping[str, int] = Factory(dict[str, int])
    problems: Mapping[str, str] = Factory(dict[str, str])
    next_attempt_at: datetime | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every step has ended."""
        return self.completed_at is not None

    def covers(self, session_id: str) -> bool:
        """Return whether the receipt is about a session."""
        return session_digest(session_id) in self.sessions

    def to_dict(self) -> dict[str, object]:
        """Return the receipt for `json.dumps`; times are texts as in ISO 8601."""
        return {
            "erasure_id": self.erasure_id,
            "requested_at": self.requested_at.isoformat(),
            "completed_at": self.completed_at and self.completed_at.isoformat(),
            "complete": self.is_complete,
            "sessions": list(self.sessions),
            "veriff": {str(state): count for state, count in self.veriff.items()},
            "erased": dict(self.erased),
            "problems": dict(self.problems),
            "next_attempt_at": self.next_attempt_at and self.next_attempt_at.isoformat(),
        }


def to_datetime(seconds: float) -> datetime:
    """Return a time of the queue, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
