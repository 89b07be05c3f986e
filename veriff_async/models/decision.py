"""The decision on a session."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.document import Document
from veriff_async.models.enums import OpenEnum, Status
from veriff_async.models.insight import Insight
from veriff_async.models.json import JsonObject
from veriff_async.models.lazy import HasLazyParts
from veriff_async.models.outcome import Outcome
from veriff_async.models.person import Person
from veriff_async.models.reasons import REASONS, Reason
from veriff_async.models.verified import AdditionalVerifiedData, BiometricAuthentication

__all__ = ("Decision", "RiskCategory", "RiskLabel")


class RiskCategory(OpenEnum):
    """The category of a risk label (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1)."""

    CLIENT_DATA_MISMATCH = "client_data_mismatch"
    CROSSLINKS = "crosslinks"
    DEVICE = "device"
    DOCUMENT = "document"
    IMAGES = "images"
    NETWORK = "network"
    SESSION = "session"
    PERSON = "person"


@frozen(kw_only=True)
class RiskLabel(Model):
    """A risk of a session, for integrations with risk labels (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1).

    Attributes:
        label: Veriff's word, for example ``low_face_similarity_image_quality_good``.
        category: Its category.
        session_ids: Other sessions with which the label connects this one.
    """

    label: str
    category: RiskCategory | None = None
    session_ids: tuple[str, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Decision(HasLazyParts, Outcome):
    """The decision of Veriff on a session (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1).

    Act on `status`: `code` is often ``null`` in real responses, and the documents disagree about the code of an
    abandoned session. Times are aware and in UTC. A field whose member is missing or cannot be decoded is ``None``.
    `raw` is the whole response as received, root included. Fields that are optional are decoded from it when they are
    first read, so do not change it: remove personal data from a copy.

    Attributes:
        session_id: The session.
        attempt_id: The attempt that was decided; older payloads omit it.
        status: ``approved``, ``declined``, ``resubmission_requested``, ``review``, ``expired``, ``abandoned``, or a
            word that is newer than this library.
        code: 9001, 9102, 9103, 9104 or 9121 as documented; informative only, and ``None`` in a third of the approved
            samples that were seen in 2026.
        reason: Veriff's words for a decline or resubmission: the description of `reason_code`.
        reason_code: The code of that reason; see `known_reason`.
        acceptance_time: When the session was created.
        submission_time: When the attempt was submitted (seen in 2026, undocumented).
        decision_time: When it was decided; ``None`` for expired and abandoned sessions.
        person: The person, as read from the media.
        document: The document, as read from the media.
        risk_score: From 0 to 1, for integrations with a risk score.
        risk_labels: Risks, for integrations with risk labels.
        additional_verified_data: Results of optional products.
        biometric_authentication: Its result, for integrations with biometric authentication.
        insights: Questions and answers; documented for Full Auto decisions only.
        ip: Address of the end-user's device; ``None`` for sessions whose media were uploaded by API.
        source: How `VerificationSession.wait_for_decision` received it; ``None`` if no wait returned it.
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
    # One default instance can be shared by all decisions, because models are frozen.
    person: Person = Person()
    document: Document = Document()
    risk_score: float | None = None
    risk_labels: tuple[RiskLabel, ...] = ()
    additional_verified_data: AdditionalVerifiedData = field(default=AdditionalVerifiedData(), repr=False)
    biometric_authentication: BiometricAuthentication | None = None
    insights: tuple[Insight, ...] = ()
    ip: str | None = field(default=None, repr=False)
    # Not compared: the same decision may arrive by webhook and by polling.
    source: DecisionSource | None = field(default=None, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def known_reason(self) -> Reason | None:
        """The meaning of `reason_code` and advice for the end-user, or ``None`` for no code or an unknown one."""
        return None if self.reason_code is None else REASONS.get(self.reason_code)
