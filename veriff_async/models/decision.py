"""The outcome of a session."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from attrs import field, frozen

from veriff_async.models.document import Document
from veriff_async.models.enums import OpenEnum, Status
from veriff_async.models.insight import Insight
from veriff_async.models.json import JsonObject
from veriff_async.models.outcome import Outcome
from veriff_async.models.person import Person
from veriff_async.models.reasons import REASONS, Reason
from veriff_async.models.verified import AdditionalVerifiedData, BiometricAuthentication

__all__ = ("Decision", "DecisionSource", "RiskCategory", "RiskLabel")


class DecisionSource(StrEnum):
    """How a wait learned of its decision."""

    WEBHOOK = "webhook"
    """A webhook told it while the wait slept, to this process or another."""
    POLL = "poll"
    """Veriff was asked and told it."""
    KNOWN = "known"
    """It stood in the inbox before the wait began."""


class RiskCategory(OpenEnum):
    """What a risk label is about (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1)."""

    CLIENT_DATA_MISMATCH = "client_data_mismatch"
    CROSSLINKS = "crosslinks"
    DEVICE = "device"
    DOCUMENT = "document"
    IMAGES = "images"
    NETWORK = "network"
    SESSION = "session"
    PERSON = "person"


@frozen(kw_only=True)
class RiskLabel:
    """Why a session looks risky, for integrations with risk labels (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1).

    Attributes:
        label: Veriff's word, for example ``low_face_similarity_image_quality_good``.
        category: What it is about.
        session_ids: Other sessions that it links to.
    """

    label: str
    category: RiskCategory | None = None
    session_ids: tuple[str, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Decision(Outcome):
    """What Veriff decided about a session (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1).

    `status` is the word to act on: `code` is often ``null`` in real answers, and the documents disagree about the
    code of an abandoned session. Moments are aware and in UTC. A field that Veriff left out or wrote in an unreadable
    form is ``None`` here and as it came in `raw`, which is the whole answer, root included.

    Attributes:
        session_id: The session.
        attempt_id: The attempt that was decided; older payloads have none.
        status: ``approved``, ``declined``, ``resubmission_requested``, ``review``, ``expired``, ``abandoned``, or a
            word that is newer than this library.
        code: 9001, 9102, 9103, 9104 or 9121 as documented; informative only, and ``None`` in a third of the approved
            samples that were seen in 2026.
        reason: Veriff's words for a decline or resubmission: the description of `reason_code`.
        reason_code: The number of that reason; see `known_reason`.
        acceptance_time: When the session was created.
        submission_time: When the attempt was submitted (seen in 2026, undocumented).
        decision_time: When it was decided; ``None`` for expired and abandoned sessions.
        person: What was read of the person.
        document: What was read of the document.
        risk_score: From 0 to 1, for integrations with a risk score.
        risk_labels: For integrations with risk labels.
        additional_verified_data: What single products add.
        biometric_authentication: For integrations with biometric authentication.
        insights: Questions and answers; documented for decisions without a human only.
        ip: Address of the end-user's device; ``None`` for sessions whose media came by API.
        source: How `VerificationSession.wait_for_decision` learned of it; ``None`` where no wait returned it.
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
    person: Person = Person()
    document: Document = Document()
    risk_score: float | None = None
    risk_labels: tuple[RiskLabel, ...] = ()
    additional_verified_data: AdditionalVerifiedData = field(default=AdditionalVerifiedData(), repr=False)
    biometric_authentication: BiometricAuthentication | None = None
    insights: tuple[Insight, ...] = ()
    ip: str | None = field(default=None, repr=False)
    source: DecisionSource | None = field(default=None, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def known_reason(self) -> Reason | None:
        """What `reason_code` means and what the end-user can do, or ``None`` for no code or an unknown one."""
        return None if self.reason_code is None else REASONS.get(self.reason_code)
