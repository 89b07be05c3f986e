"""The outcome of a session."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from veriff_async.models.document import Document
from veriff_async.models.enums import Status
from veriff_async.models.json import JsonObject
from veriff_async.models.person import Person

__all__ = ("Decision", "RiskLabel")


@frozen(kw_only=True)
class RiskLabel:
    """Why a session looks risky, for integrations with risk labels (https://devdocs.veriff.com/docs/risk-labels)."""

    label: str
    category: str | None = None
    session_ids: tuple[str, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Decision:
    """What Veriff decided about a session (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1).

    `status` is the word to act on: `code` was seen as ``null`` in real answers, and the documents disagree about the
    code of an abandoned session. Moments are aware and in UTC. A field that Veriff left out or wrote in an unreadable
    form is ``None`` here and as it came in `raw`, which is the whole answer, root included.

    Attributes:
        session_id: The session.
        attempt_id: The attempt that was decided; older payloads have none.
        status: ``approved``, ``declined``, ``resubmission_requested``, ``review``, ``expired``, ``abandoned``, or a
            word that is newer than this library.
        code: 9001, 9102, 9103, 9104 or 9121 as documented; informative only.
        reason: Veriff's words for a decline or resubmission.
        reason_code: The number of that reason.
        acceptance_time: When the session was created.
        submission_time: When the attempt was submitted (seen in 2026, undocumented).
        decision_time: When it was decided; ``None`` for expired and abandoned sessions.
        ip: Address of the end-user's device; ``None`` for sessions whose media came by API.
    """

    session_id: str
    status: Status
    attempt_id: str | None = None
    code: int | None = None
    reason: str | None = None
    reason_code: int | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    acceptance_time: datetime | None = None
    submission_time: datetime | None = None
    decision_time: datetime | None = None
    person: Person = field(factory=Person)
    document: Document = field(factory=Document)
    risk_score: float | None = None
    risk_labels: tuple[RiskLabel, ...] = ()
    additional_verified_data: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
    ip: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def is_approved(self) -> bool:
        """Tell whether the person was verified."""
        return self.status == Status.APPROVED

    @property
    def needs_resubmission(self) -> bool:
        """Tell whether Veriff asks for new pictures on the same session."""
        return self.status == Status.RESUBMISSION_REQUESTED
