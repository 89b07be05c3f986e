"""The records of the sandbox, and the read-only views of them that tests get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from attrs import Factory, define, evolve, field, frozen

from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.enums import OpenEnum, Status
from veriff_async.models.json import JsonObject
from veriff_async.models.record import PepSanctionMatch
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.models.watchlist import WatchlistScreening

__all__ = (
    "AttemptRecord",
    "AttemptView",
    "Delivery",
    "IssuedCertificate",
    "ReceivedRequest",
    "RegistryResult",
    "Session",
    "SessionPage",
    "SessionView",
    "StoredMedia",
    "WebhookKind",
    "view",
)

RegistryResult: TypeAlias = IneResult | CurpResult | IneCurpResult | TransportationResult


class WebhookKind(OpenEnum):
    """A kind of webhook; each has its own URL in the Customer Portal."""

    DECISION = "decision"
    EVENT = "event"
    FULL_AUTO = "fullauto"
    WATCHLIST = "watchlist"
    USER_STATUS = "user-status"
    INE = "ine"
    CURP = "curp"
    INE_CURP = "ine-curp"
    ADDRESS = "address"


@frozen(kw_only=True)
class StoredMedia:
    """One uploaded file, or the data read from a chip.

    Attributes:
        id: Its id.
        context: The context given by the client; ``nfc`` for data of a chip.
        mimetype: Its type, from its first bytes.
        size: Its size in bytes, decoded.
        sha256: Hex digest of its bytes.
        path: The file, which exists until the sandbox stops.
    """

    id: str
    context: str
    mimetype: str
    size: int
    sha256: str
    path: Path = field(repr=False)


@define
class AttemptRecord:
    """One attempt of the end-user at a session."""

    id: str
    created_at: datetime
    status: Status = Status.CREATED
    started_at: datetime | None = None
    submitted_at: datetime | None = None
    decided_at: datetime | None = None
    media: list[StoredMedia] = Factory(list[StoredMedia])
    # Whether its pictures come from the hosted page, where the end-user can still respond to a resubmission.
    is_on_page: bool = False
    labels: list[UserDefinedStatus] = Factory(list[UserDefinedStatus])


@frozen(kw_only=True)
class IssuedCertificate:
    """A certificate of a session, with its documents by their ids."""

    id: str
    created_at: datetime
    documents: Mapping[str, StoredMedia]


@define
class Session:
    """One session."""

    id: str
    token: str
    created_at: datetime
    vendor_data: str | None
    end_user_id: str | None
    person: JsonObject
    document: JsonObject
    attempts: list[AttemptRecord]
    status: Status = Status.CREATED
    decision: JsonObject | None = None
    full_auto: JsonObject | None = None
    # The last body of each kind, for `Sandbox.resend`.
    posted: dict[WebhookKind, JsonObject] = Factory(dict[WebhookKind, JsonObject])
    resubmissions: int = 0
    # Attempt and status at the last request for the decision, for `Sandbox.wait_until_waiting`.
    asked_at: tuple[str, Status] | None = None
    # Where the hosted page sends the end-user at the end.
    callback: str | None = None
    # Whether the end-user has opened Veriff's page, where a request for resubmission can be answered.
    opened: bool = False
    # A deleted session is kept, so that tests can still look at it.
    deleted: bool = False
    address_id: str | None = None
    collected: JsonObject | None = None
    screening: WatchlistScreening | None = None
    matches: tuple[PepSanctionMatch, ...] = ()
    certificates: list[IssuedCertificate] = Factory(list[IssuedCertificate])
    registries: dict[type, RegistryResult] = Factory(dict[type, RegistryResult])

    def copy(self) -> Session:
        """Return a copy for `Scenario.transaction`. Values that never change in place are shared."""
        attempts = [evolve(attempt, media=[*attempt.media], labels=[*attempt.labels]) for attempt in self.attempts]
        return evolve(
            self,
            attempts=attempts,
            posted={**self.posted},
            certificates=[*self.certificates],
            registries={**self.registries},
        )

    @property
    def attempt(self) -> AttemptRecord:
        """The newest attempt."""
        return self.attempts[-1]

    @property
    def is_awaited(self) -> bool:
        """Whether a client has asked for the decision since the last change, and has to ask again."""
        return self.asked_at == (self.attempt.id, self.status)

    @property
    def all_media(self) -> Iterator[StoredMedia]:
        """The media of all attempts, in the order of their uploads."""
        return (media for attempt in self.attempts for media in attempt.media)

    @property
    def shown(self) -> AttemptRecord:
        """The newest attempt with media. A resubmission has just opened an empty one when its request is read."""
        return next((attempt for attempt in reversed(self.attempts) if attempt.media), self.attempt)


@frozen(kw_only=True)
class AttemptView:
    """The state of an attempt at one time.

    Attributes:
        id: Its id.
        status: Its status.
        created_at: When it was opened.
        started_at: When the end-user opened Veriff's page, or ``None``.
        submitted_at: When it was submitted, or ``None``.
        decided_at: When it was last decided, or ``None``.
        media: Its media, in the order of their uploads.
        user_statuses: The statuses that users of the Customer Portal gave it, oldest first.
    """

    id: str
    status: Status
    created_at: datetime
    started_at: datetime | None = None
    submitted_at: datetime | None = None
    decided_at: datetime | None = None
    media: tuple[StoredMedia, ...] = ()
    user_statuses: tuple[UserDefinedStatus, ...] = field(default=(), repr=False, hash=False)


@frozen(kw_only=True)
class SessionView:
    """The state of a session at one time.

    Attributes:
        id: Its id.
        status: Its status.
        created_at: When it was created.
        vendor_data: As given at creation.
        end_user_id: As given at creation.
        callback: As given at creation.
        person: The members given at creation, as JSON.
        document: The members given at creation, as JSON.
        collected_data: The data of the device, as JSON; ``None`` if none was sent.
        decision: The response to ``GET .../decision``, or that of an integration that decides without a human, as
            JSON; ``None`` without a decision.
        attempts: Its attempts, oldest first.
        screening: Its watchlist screening, or ``None``.
        pep_matches: Its matches in lists of politically exposed persons and sanctions.
        registries: The results of registries.
        address_id: The id of its older proof of address, or ``None``.
        certificate_ids: The ids of its certificates, oldest first.
        deleted: Whether it was deleted; the API responds with 404 then.
    """

    id: str
    status: Status
    created_at: datetime
    vendor_data: str | None
    end_user_id: str | None
    callback: str | None = None
    person: JsonObject = field(factory=dict[str, object], repr=False, hash=False)
    document: JsonObject = field(factory=dict[str, object], repr=False, hash=False)
    collected_data: JsonObject | None = field(default=None, repr=False, hash=False)
    decision: JsonObject | None = field(default=None, repr=False, hash=False)
    attempts: tuple[AttemptView, ...] = ()
    screening: WatchlistScreening | None = field(default=None, repr=False, hash=False)
    pep_matches: tuple[PepSanctionMatch, ...] = field(default=(), repr=False, hash=False)
    registries: tuple[RegistryResult, ...] = field(default=(), repr=False, hash=False)
    address_id: str | None = None
    certificate_ids: tuple[str, ...] = ()
    deleted: bool = False

    @property
    def media(self) -> tuple[StoredMedia, ...]:
        """The media of all attempts, in the order of their uploads."""
        return tuple(media for attempt in self.attempts for media in attempt.media)


@frozen(kw_only=True)
class SessionPage:
    """One page of sessions.

    Attributes:
        sessions: The sessions, newest first.
        next: Value of `after` for the next page; ``None`` on the last one.
        total: Number of sessions on all pages.
    """

    sessions: tuple[SessionView, ...]
    next: str | None
    total: int


@frozen(kw_only=True)
class ReceivedRequest:
    """A request that the sandbox has received.

    Attributes:
        method: HTTP method.
        path: Path, without the query.
        status: HTTP status of the response, or ``None`` if a fault closed the connection.
        cause: Why it failed or was slow, for example ``"injected fault"`` or ``"chaos profile mobile: requests[0]"``;
            empty for an unchanged request.
    """

    method: str
    path: str
    status: int | None
    cause: str = ""


@frozen(kw_only=True)
class Delivery:
    """One attempt to deliver a webhook.

    Attributes:
        url: The URL that it was posted to.
        body: The raw body.
        headers: The headers of the request.
        status: HTTP status of the receiver's response, or ``None`` without a response.
        sent_at: The time by the sandbox's clock.
        webhook_id: The id of the webhook.
        session_id: The session that it is about.
        kind: Its kind.
        duration: Seconds from the start to the response or the error, in real time.
        error: Why a response is missing or incomplete, for example ``"no response within 5 seconds"``; empty with
            a complete response.
        response_headers: The headers of the response, by their names in lower case, without those that carry secrets,
            such as ``set-cookie``.
        response_body: The first 4 KiB of the response.
        is_cut: Whether the response is longer.
    """

    url: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False, hash=False)
    status: int | None
    sent_at: datetime
    webhook_id: str = ""
    session_id: str = ""
    kind: WebhookKind = WebhookKind.DECISION
    duration: float = 0.0
    error: str = ""
    response_headers: dict[str, str] = field(factory=dict[str, str], repr=False, hash=False)
    response_body: bytes = field(default=b"", repr=False)
    is_cut: bool = False


def view(session: Session) -> SessionView:
    """Return the present state of a session."""
    return SessionView(
        id=session.id,
        status=session.status,
        created_at=session.created_at,
        vendor_data=session.vendor_data,
        end_user_id=session.end_user_id,
        callback=session.callback,
        person=session.person,
        document=session.document,
        collected_data=session.collected,
        decision=session.decision or session.full_auto,
        attempts=tuple(map(_view_attempt, session.attempts)),
        screening=session.screening,
        pep_matches=session.matches,
        registries=tuple(session.registries.values()),
        address_id=session.address_id,
        certificate_ids=tuple(issued.id for issued in session.certificates),
        deleted=session.deleted,
    )


def _view_attempt(attempt: AttemptRecord) -> AttemptView:
    return AttemptView(
        id=attempt.id,
        status=attempt.status,
        created_at=attempt.created_at,
        started_at=attempt.started_at,
        submitted_at=attempt.submitted_at,
        decided_at=attempt.decided_at,
        media=tuple(attempt.media),
        user_statuses=tuple(attempt.labels),
    )
