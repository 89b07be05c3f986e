"""The state of a sandbox as values, which a snapshot contains. Pure.

Not part of it are the requests that were received and the timeline, because they change nothing that happens later, and
everything that says where a sandbox runs: its address, credentials, certificates, and the URLs of webhooks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

from attrs import evolve, frozen

from veriff_async.errors import DecodeError, InvalidArgumentError
from veriff_async.models.feedback import FraudReportDetails
from veriff_async.sandbox._arguments import check_header, check_number, check_url
from veriff_async.sandbox._chaos.engine import ChaosState
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._face_import import FaceState
from veriff_async.sandbox._faults import TokenBucket, WaitingFault
from veriff_async.sandbox._records import AttemptRecord, Session, StoredMedia
from veriff_async.sandbox._rules import SandboxOptions
from veriff_async.sandbox._scenario import Due
from veriff_async.sandbox._validation import check_callback, check_id
from veriff_async.sandbox._webhook_records import HoldRule, WebhookRecord

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async.sandbox._scenario import Due

__all__ = (
    "ALL_KINDS",
    "ChangeSet",
    "State",
    "StateChanges",
    "check_state",
    "find_media",
    "media_of",
    "with_media",
)

_MIMETYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@frozen(kw_only=True)
class State:
    """Everything that decides how a sandbox behaves from now on.

    Attributes:
        now: The time by its clock.
        is_virtual: Whether the clock is a `VirtualClock`.
        options: The behaviour that can be chosen.
        decide_after: Seconds from the submission of a session to its approval.
        sessions: The sessions, oldest first.
        deletions: Times of the last deletions, which are limited.
        agenda: Events of the future, in their order.
        webhooks: The webhooks, oldest first.
        holds: Which webhooks are held, in the order in which these rules were made.
        faults: The injected faults that have not happened yet.
        chaos: The chaos profile and its counts.
        bucket: The rate limit.
        faces: The imported faces.
        frauds: The reports of fraud, by session.
        feedback_requests: Times of the last requests to the feedback API, which are limited.
    """

    now: datetime
    is_virtual: bool
    options: SandboxOptions
    decide_after: float | None
    sessions: tuple[Session, ...] = ()
    deletions: tuple[datetime, ...] = ()
    agenda: tuple[Due, ...] = ()
    webhooks: tuple[WebhookRecord, ...] = ()
    holds: tuple[HoldRule, ...] = ()
    faults: tuple[WaitingFault, ...] = ()
    chaos: ChaosState | None = None
    bucket: TokenBucket
    faces: FaceState
    frauds: Mapping[str, FraudReportDetails]
    feedback_requests: tuple[datetime, ...] = ()


def find_media(state: State) -> tuple[StoredMedia, ...]:
    """Return each file of a state once."""
    return tuple({media.id: media for session in state.sessions for media in media_of(session)}.values())


def with_media(state: State, change: Callable[[StoredMedia], StoredMedia]) -> State:
    """Return a state whose files are replaced."""
    return evolve(state, sessions=tuple(_with_media(session, change) for session in state.sessions))


def check_state(state: State) -> None:
    """Check that a sandbox can have this state. Types were checked before.

    Raises:
        DecodeError: It contradicts itself, or has a value that no sandbox accepts.
    """
    try:
        _check_state(state)
    except (HTTPError, InvalidArgumentError):
        pass
    else:
        return
    # Not chained: the errors above may name values.
    msg = "The state contradicts itself."
    raise DecodeError(msg)


def _check_state(state: State) -> None:
    if state.decide_after is not None:
        check_number("decide_after", state.decide_after)
    sessions = {session.id for session in state.sessions}
    _require_unique([session.id for session in state.sessions])
    _require_unique([attempt.id for session in state.sessions for attempt in session.attempts])
    _require_unique([media.id for session in state.sessions for each in session.attempts for media in each.media])
    for session in state.sessions:
        _check_session(session)
    for due in state.agenda:
        _require(due.session_id in sessions)
        _require(due.post is None or due.post.session_id == due.session_id)
    _require_unique([webhook.id for webhook in state.webhooks])
    _require_unique([fault.id for fault in state.faults])
    _require(all(fault.times > 0 for fault in state.faults))
    for webhook in state.webhooks:
        _require(webhook.session_id in sessions)
        for name, value in webhook.headers.items():
            check_header(name, value)
        if webhook.url is not None:
            check_url("url", webhook.url)


def _check_session(session: Session) -> None:
    check_id(session.id)
    check_callback(session.callback)
    _require(bool(session.attempts) and session.id == session.id.lower())
    for attempt in session.attempts:
        check_id(attempt.id)
    for media in media_of(session):
        check_id(media.id)
        _require(media.size >= 0)
        _require(_MIMETYPE.fullmatch(media.mimetype) is not None and _SHA256.fullmatch(media.sha256) is not None)


def _require_unique(ids: list[str] | list[int]) -> None:
    _require(len(set(ids)) == len(ids))


def _require(condition: bool) -> None:  # noqa: FBT001  an assertion
    if not condition:
        msg = "The state contradicts itself."
        raise InvalidArgumentError(msg)


def media_of(session: Session) -> Iterable[StoredMedia]:
    """Iterate over the files of a session; those of certificates come again."""
    for attempt in session.attempts:
        yield from attempt.media
    for certificate in session.certificates:
        yield from certificate.documents.values()


def _with_media(session: Session, change: Callable[[StoredMedia], StoredMedia]) -> Session:
    def replace(attempt: AttemptRecord) -> AttemptRecord:
        return evolve(attempt, media=[change(media) for media in attempt.media])

    certificates = [
        evolve(issued, documents={key: change(media) for key, media in issued.documents.items()})
        for issued in session.certificates
    ]
    return evolve(session, attempts=[replace(attempt) for attempt in session.attempts], certificates=certificates)


ALL_KINDS: Final = frozenset({"session", "webhook", "due"})


@frozen(kw_only=True)
class ChangeSet:
    """Records that have changed, by kind and id.

    Attributes:
        replaced: Kinds of which these are all records, so that others are removed.
        records: The records; ``None`` for one that was removed.
    """

    replaced: frozenset[str]
    records: dict[tuple[str, str], AttrsInstance | None]


class StateChanges:
    """Ids of the records that have changed.

    Attributes:
        is_tracked: Whether a state folder wants to know.
        replaced: Kinds of which all records have changed, for example by a reset.
        sessions: Sessions that have changed.
        webhooks: Webhooks that have changed or are gone.
        dues: Events of the future by their numbers; ``None`` for one that has happened.
    """

    def __init__(self) -> None:
        """Track nothing."""
        self.is_tracked = False
        self.forget()

    def forget(self) -> None:
        """Start again, because everything is written."""
        self.replaced: frozenset[str] = frozenset()
        self.sessions: dict[str, None] = {}
        self.webhooks: dict[str, None] = {}
        self.dues: dict[int, Due | None] = {}

    def add_session(self, session_id: str) -> None:
        """Remember that a session has changed."""
        if self.is_tracked:
            self.sessions[session_id] = None

    def add_webhook(self, webhook_id: str) -> None:
        """Remember that a webhook has changed, or is gone."""
        if self.is_tracked:
            self.webhooks[webhook_id] = None

    def add_due(self, number: int, due: Due | None) -> None:
        """Remember that an event was planned, or has happened."""
        if self.is_tracked:
            self.dues[number] = due

    def restore(self, changes: ChangeSet) -> None:
        """Add changes that could not be written; what has happened since then stays newer."""
        self.replaced |= changes.replaced
        for (kind, record_id), record in changes.records.items():
            if kind == "session":
                self.sessions.setdefault(record_id)
            elif kind == "webhook":
                self.webhooks.setdefault(record_id)
            elif kind == "due":
                self.dues.setdefault(int(record_id), cast("Due | None", record))
