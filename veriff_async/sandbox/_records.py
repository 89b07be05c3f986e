"""The records of the sandbox, and the read-only views of them that tests get."""

from __future__ import annotations

from collections.abc import Mapping
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
    submitted_at: datetime | None = None
    media: list[StoredMedia] = Factory(list[StoredMedia])
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
    def shown(self) -> AttemptRecord:
        """The newest attempt with media. A resubmission has just opened an empty one when its request is read."""
        return next((attempt for attempt in reversed(self.attempts) if attempt.media), self.attempt)


@frozen(kw_only=True)
class AttemptView:
    """The state of an attempt at one time."""

    id: str
    status: Status
    media: tuple[StoredMedia, ...]


@frozen(kw_only=True)
class SessionView:
    """The state of a session at one time.

    Attributes:
        id: Its id.
        status: Its status.
        vendor_data: As given at creation.
        end_user_id: As given at creation.
        person: The members given at creation, as JSON.
        document: The members given at creation, as JSON.
        collected_data: The data of the device, as JSON; ``None`` if none was sent.
        attempts: Its attempts, oldest first.
        deleted: Whether it was deleted; the API responds with 404 then.
    """

    id: str
    status: Status
    vendor_data: str | None
    end_user_id: str | None
    person: JsonObject = field(factory=dict[str, object], repr=False, hash=False)
    document: JsonObject = field(factory=dict[str, object], repr=False, hash=False)
    collected_data: JsonObject | None = field(default=None, repr=False, hash=False)
    attempts: tuple[AttemptView, ...] = ()
    deleted: bool = False

    @property
    def media(self) -> tuple[StoredMedia, ...]:
        """The media of all attempts, in the order of their uploads."""
        return tuple(media for attempt in self.attempts for media in attempt.media)


@frozen(kw_only=True)
class ReceivedRequest:
    """A request that the sandbox has received.

    Attributes:
        method: HTTP method.
        path: Path, without the query.
        status: HTTP status of the response, or ``None`` if a fault closed the connection.
    """

    method: str
    path: str
    status: int | None


@frozen(kw_only=True)
class Delivery:
    """One attempt to deliver a webhook.

    Attributes:
        url: The URL that it was posted to.
        body: The raw body.
        headers: The headers of the request.
        status: HTTP status of the receiver's response, or ``None`` without a response.
        sent_at: The time by the sandbox's clock.
    """

    url: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False, hash=False)
    status: int | None
    sent_at: datetime


def view(session: Session) -> SessionView:
    """Return the present state of a session."""
    return SessionView(
        id=session.id,
        status=session.status,
        vendor_data=session.vendor_data,
        end_user_id=session.end_user_id,
        person=session.person,
        document=session.document,
        collected_data=session.collected,
        attempts=tuple(
            AttemptView(id=attempt.id, status=attempt.status, media=tuple(attempt.media))
            for attempt in session.attempts
        ),
        deleted=session.deleted,
    )
