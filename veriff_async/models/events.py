"""What Veriff posts to a webhook: one class for each kind, told apart with ``match``.

Every event has its session, the JSON it came as, and a `key`: the same for the same message, however often it is
delivered. Kind, session, attempt, word, moment and a digest of the message make it up.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, TypeAlias

from attrs import field, frozen

from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.decision import Decision
from veriff_async.models.enums import Status
from veriff_async.models.fullauto import FullAutoDecision
from veriff_async.models.json import JsonObject
from veriff_async.models.registry import CurpResult, IneRecord, IneResult
from veriff_async.models.watchlist import WatchlistScreening

__all__ = (
    "AddressEvent",
    "CurpEvent",
    "DecisionEvent",
    "FullAutoEvent",
    "IneCurpEvent",
    "IneEvent",
    "SessionEvent",
    "UnknownEvent",
    "UserStatusEvent",
    "WatchlistEvent",
    "WebhookEvent",
)


def _key(kind: str, *parts: object) -> str:
    return ":".join((kind, *(part.isoformat() if isinstance(part, datetime) else str(part or "") for part in parts)))


@frozen(kw_only=True)
class SessionEvent:
    """An attempt was started or submitted, as documented by Veriff.

    Attributes:
        session_id: The session.
        action: ``started`` or ``submitted``.
        code: 7001 or 7002.
        attempt_id: The attempt; the oldest payloads have none.
        feature: ``selfid``.
        vendor_data: What was given at creation.
        end_user_id: What was given at creation.
        digest: Digest of the message, for `key`.
    """

    kind: ClassVar[str] = "event"

    session_id: str
    action: Status
    code: int | None = None
    attempt_id: str | None = None
    feature: str | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        return _key(self.kind, self.session_id, self.attempt_id, self.code or self.action, None, self.digest)


@frozen(kw_only=True)
class AddressEvent:
    """A proof of address was submitted, as documented once; only integrations of an older make send it.

    Attributes:
        session_id: The session.
        address_id: What to ask for the result with.
        action: ``submitted``.
        code: 7005.
        feature: The feature's word.
        vendor_data: What was given at creation.
        digest: Digest of the message, for `key`.
    """

    kind: ClassVar[str] = "address"

    session_id: str
    address_id: str
    action: Status
    code: int | None = None
    feature: str | None = None
    vendor_data: str | None = None
    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        return _key(self.kind, self.session_id, self.address_id, self.code or self.action, None, self.digest)


@frozen(kw_only=True)
class DecisionEvent:
    """A session was decided (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1)."""

    kind: ClassVar[str] = "decision"

    decision: Decision
    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def session_id(self) -> str:
        """The session."""
        return self.decision.session_id

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        found = self.decision
        return _key(self.kind, found.session_id, found.attempt_id, found.status, found.decision_time, self.digest)


@frozen(kw_only=True)
class FullAutoEvent:
    """A session was decided without a human; comes instead of a `DecisionEvent`.

    Attributes:
        session_id: The session.
        attempt_id: The attempt.
        decision: What was decided.
        vendor_data: What was given at creation.
        end_user_id: What was given at creation.
        version: Version of the message.
        acceptance_time: When the session was created.
        time: When the message was sent.
        digest: Digest of the message, for `key`.

    See https://devdocs.veriff.com/docs/essential-plan-full-auto.
    """

    kind: ClassVar[str] = "fullauto"

    session_id: str
    decision: FullAutoDecision
    attempt_id: str | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    version: str | None = None
    acceptance_time: datetime | None = None
    time: datetime | None = None
    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        return _key(self.kind, self.session_id, self.attempt_id, self.decision.status, self.time, self.digest)


@frozen(kw_only=True)
class WatchlistEvent:
    """A person was looked up in lists (https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening-1)."""

    kind: ClassVar[str] = "watchlist"

    screening: WatchlistScreening
    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def session_id(self) -> str | None:
        """The session; older payloads have the attempt only."""
        return self.screening.session_id

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        found = self.screening
        return _key(self.kind, found.session_id, found.attempt_id, found.match_status, found.created_at, self.digest)


@frozen(kw_only=True)
class UserStatusEvent:
    """Somebody gave an attempt a status of your own in the Customer Portal, as documented by Veriff.

    That it does not change the decision is a guess.

    Attributes:
        session_id: The session.
        status: The status that was given.
        attempt_id: The attempt.
        vendor_data: What was given at creation.
        end_user_id: What was given at creation.
        time: When the message was sent.
        digest: Digest of the message, for `key`.
    """

    kind: ClassVar[str] = "user-status"

    session_id: str
    status: UserDefinedStatus = UserDefinedStatus()
    attempt_id: str | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    time: datetime | None = None
    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        return _key(self.kind, self.session_id, self.attempt_id, self.status.status_code, self.time, self.digest)


@frozen(kw_only=True)
class IneEvent:
    """The INE registry has answered (https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1).

    Attributes:
        session_id: The session.
        result: What it says.
        status: Its answer in words, Spanish.
        code: Its answer as a number, 200 for a found document.
        attempt_id: The attempt.
        vendor_data: What was given at creation.
        end_user_id: What was given at creation.
        version: Version of the message.
        time: When the message was sent.
        digest: Digest of the message, for `key`.
    """

    kind: ClassVar[str] = "ine"

    session_id: str
    result: IneResult = IneResult()
    status: str | None = None
    code: int | None = None
    attempt_id: str | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    version: str | None = None
    time: datetime | None = None
    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        return _key(self.kind, self.session_id, self.attempt_id, self.code, self.time, self.digest)


@frozen(kw_only=True)
class CurpEvent:
    """The CURP registry has answered (https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1).

    Attributes:
        session_id: The session.
        result: What it says.
        status: Its answer in words, for example ``found``.
        code: Its answer as a number, 200 for a found person.
        attempt_id: The attempt.
        vendor_data: What was given at creation.
        end_user_id: What was given at creation.
        version: Version of the message.
        digest: Digest of the message, for `key`.
    """

    kind: ClassVar[str] = "curp"

    session_id: str
    result: CurpResult = CurpResult()
    status: str | None = None
    code: int | None = None
    attempt_id: str | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    version: str | None = None
    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        return _key(self.kind, self.session_id, self.attempt_id, self.code or self.status, None, self.digest)


@frozen(kw_only=True)
class IneCurpEvent:
    """Both registries have answered in one message, whose whole form is partly a guess.

    Attributes:
        session_id: The session.
        ine: What INE says.
        curp: What CURP says.
        attempt_id: The attempt.
        vendor_data: What was given at creation.
        end_user_id: What was given at creation.
        digest: Digest of the message, for `key`.
    """

    kind: ClassVar[str] = "ine-curp"

    session_id: str
    ine: IneRecord = IneRecord()
    curp: CurpResult = CurpResult()
    attempt_id: str | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        return _key(self.kind, self.session_id, self.attempt_id, self.curp.status_curp, None, self.digest)


@frozen(kw_only=True)
class UnknownEvent:
    """A signed webhook of a kind that this version does not know; Veriff adds kinds without notice."""

    kind: ClassVar[str] = "unknown"

    digest: str = field(default="", repr=False, eq=False)
    raw: JsonObject = field(repr=False)

    @property
    def session_id(self) -> str | None:
        """The session, where the message names one as all newer kinds do."""
        found = self.raw.get("sessionId")
        return found if isinstance(found, str) else None

    @property
    def key(self) -> str:
        """The same for the same message, for telling repetitions."""
        return _key(self.kind, self.session_id, None, None, None, self.digest)


WebhookEvent: TypeAlias = (
    DecisionEvent
    | SessionEvent
    | FullAutoEvent
    | WatchlistEvent
    | UserStatusEvent
    | IneEvent
    | CurpEvent
    | IneCurpEvent
    | AddressEvent
    | UnknownEvent
)
