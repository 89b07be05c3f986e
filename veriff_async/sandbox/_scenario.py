"""The life of the sessions. Pure: time and ids are arguments, effects (webhooks and later events) are returned.

Documented by Veriff:
  * the states and their order; uploads only before the submission; one submission for each attempt
  * a resubmission opens a new attempt of the same session; the tenth is declined with code 539
  * a request for resubmission is held back while the end-user can still respond on Veriff's page
  * which sessions can be deleted, and how many an hour and a day
  * undecided sessions expire, or are abandoned, after seven days
Guesses:
  * an attempt exists from the creation on
  * the decision that asks for a resubmission is shown until the next submission
  * the default reason of a decision

Sessions are changed in place inside of `transaction`, which restores them after an error. It copies a session when it
is first looked up, so a transaction costs nothing for the sessions that it does not touch.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from veriff_async._protocol.status_transitions import DECIDED, OPEN_FOR_MEDIA, can_follow
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import Status
from veriff_async.models.json import EMPTY, JsonObject, as_object
from veriff_async.models.reasons import REASONS
from veriff_async.sandbox import _payloads, _validation
from veriff_async.sandbox._arguments import check_text
from veriff_async.sandbox._decision_spec import DecisionSpec
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._records import AttemptRecord, Session, StoredMedia, WebhookKind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from veriff_async.sandbox._options import SandboxOptions

__all__ = ("Due", "Effect", "Post", "Scenario")

# Beginnings of first names that choose the decision. Sources write Approve and Approved, Resubmit and Resubmission.
_STATUS_BY_FIRST_NAME: Final = (
    ("approve", Status.APPROVED),
    ("decline", Status.DECLINED),
    ("resubmi", Status.RESUBMISSION_REQUESTED),
)

# Used when a test passes no reason code. Both were seen in real payloads.
_DEFAULT_REASON_CODES: Final = {Status.DECLINED: 101, Status.RESUBMISSION_REQUESTED: 203}

_MAX_RESUBMISSIONS: Final = 9
_LIMIT_EXCEEDED: Final = 539
# Number of deletions in a period, as documented.
_DELETION_LIMITS: Final = ((5, timedelta(hours=1)), (10, timedelta(days=1)))

# States in which a session can be deleted (https://devdocs.veriff.com/apidocs/v1sessionsid-3).
_DELETABLE: Final = frozenset(
    {
        Status.CREATED,
        Status.STARTED,
        Status.APPROVED,
        Status.DECLINED,
        Status.RESUBMISSION_REQUESTED,
        Status.EXPIRED,
        Status.ABANDONED,
    }
)

# States in which a deletion decides the session first (documented).
_UNDECIDED: Final = frozenset({Status.CREATED, Status.STARTED, Status.RESUBMISSION_REQUESTED})


@frozen
class Post:
    """Effect: post a webhook about a session now."""

    session_id: str
    kind: WebhookKind
    body: JsonObject


@frozen
class Due:
    """Effect: something happens to a session later, unless the session has a final decision by then.

    Attributes:
        at: The time.
        session_id: The session.
        attempt_id: Happens only while this attempt is the current one; ``None`` for any attempt.
        spec: The decision to make, if the session is submitted.
        post: The webhook to post, unless the attempt was submitted. Without `spec` and `post`, an undecided session
            ends.
    """

    at: datetime
    session_id: str
    attempt_id: str | None = None
    spec: DecisionSpec | None = None
    post: Post | None = None


Effect = Post | Due


class Scenario:
    """All sessions of one integration."""

    def __init__(self, options: SandboxOptions, *, new_id: Callable[[], str], decide_after: float | None) -> None:
        """Start without sessions.

        Args:
            options: The behaviour that can be chosen.
            new_id: Returns an id that was not used before.
            decide_after: Seconds from the submission of a session to its approval; ``None`` for never.
        """
        self.options = options
        self._new_id = new_id
        self._decide_after = decide_after
        self._sessions: dict[str, Session] = {}
        # Copies of the sessions that the open transaction has looked up, to restore them; None for one that it created.
        self._before: dict[str, Session | None] | None = None
        self._deletions: tuple[datetime, ...] = ()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Keep all changes made in the block, or none if it raises."""
        deletions, self._before = self._deletions, {}
        try:
            yield
        except BaseException:
            self._deletions = deletions
            for session_id, session in self._before.items():
                if session is None:
                    del self._sessions[session_id]
                else:
                    self._sessions[session_id] = session
            raise
        finally:
            self._before = None

    def create(self, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``POST /v1/sessions``."""
        session = self._create(_validation.check_verification(body, self.options), now)
        # Every session gets an expiry; `run_due` ignores it once the session has a final decision.
        return _payloads.session(session, host), [self._expiry(session)]

    def validate_registry(self, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``POST /v1/validate-registry``: a session that is submitted immediately."""
        session = self._create(_validation.check_registry(body, self.options), now)
        session.status = session.attempt.status = Status.SUBMITTED
        session.attempt.submitted_at = now
        return _payloads.session(session, host), [self._expiry(session), *self._schedule_decision(session, now)]

    def validate_registry_sync(self, body: JsonObject, *, now: datetime) -> JsonObject:
        """Answer the same call of the synchronous host with the decision. The form of the response is a guess."""
        session = self._create(_validation.check_registry(body, self.options), now)
        session.attempt.submitted_at = now
        spec = DecisionSpec(
            status=_status_by_first_name(session) or Status.APPROVED, additional_verified_data=_payloads.REGISTRY_MATCH
        )
        self._decide(session, spec, now)
        return session.decision or session.full_auto or EMPTY

    def check_upload(self, session_id: str) -> None:
        """Refuse an upload to a session that does not exist or is submitted."""
        if self.find(session_id).status not in OPEN_FOR_MEDIA:
            raise HTTPError(409, None, "Session is already submitted")

    def add_media(self, session_id: str, stored: StoredMedia, *, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``POST /v1/sessions/{id}/media``."""
        self.check_upload(session_id)
        session = self.find(session_id)
        starts = self.options.upload_starts_attempt and session.attempt.status == Status.CREATED
        session.attempt.media.append(stored)
        return _payloads.media(stored, session.id, host), self._start(session) if starts else []

    def submit(self, session_id: str, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``PATCH /v1/sessions/{id}``."""
        # A malformed body is refused before the session is looked up; Veriff's own order is unknown.
        _validation.check_submission(body)
        session = self.find(session_id)
        if session.status not in OPEN_FOR_MEDIA:
            raise HTTPError(400, "1304", 'Cannot transition to "submitted" status.')
        effects = self._submit(session, now)
        return _payloads.session(session, host), effects

    def delete(self, session_id: str, *, now: datetime) -> tuple[JsonObject, list[Effect]]:
        """Answer ``DELETE /v1/sessions/{id}``."""
        session = self.find(session_id)
        if not self.options.allow_deletion:
            raise HTTPError(403, None, "Deletion is not enabled for this integration")
        if session.status not in _DELETABLE:
            raise HTTPError(400, "1305", "Session is not in a completed status")
        # Only accepted deletions count towards the limit (a guess).
        self._count_deletion(now)
        effects = self._finish(session, now) if session.status in _UNDECIDED else []
        session.deleted = True
        return {"status": "success", "verification": {"id": session.id}}, effects

    def decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision``."""
        return self.find(session_id).decision or _payloads.no_decision()

    def full_auto_decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision/fullauto``; the 404 of an undecided session was seen."""
        decision = self.find(session_id).full_auto
        if decision is None:
            raise HTTPError(404, None, "Decision not found")
        return decision

    def start(self, session: Session) -> list[Effect]:
        """Start the attempt, as an end-user does by opening Veriff's page.

        Raises:
            InvalidArgumentError: The attempt has started or was submitted before.
        """
        if session.status not in OPEN_FOR_MEDIA or session.attempt.status != Status.CREATED:
            msg = f"The session is {session.status}, and its attempt cannot be started again."
            raise InvalidArgumentError(msg)
        session.opened = True
        return self._start(session)

    def submit_attempt(self, session: Session, *, now: datetime) -> list[Effect]:
        """Submit the attempt, as an end-user does on Veriff's page.

        Raises:
            InvalidArgumentError: The session has no open attempt.
        """
        if session.status not in OPEN_FOR_MEDIA:
            msg = f"The session is {session.status}, and cannot be submitted."
            raise InvalidArgumentError(msg)
        return self._submit(session, now)

    def decide(self, session: Session, spec: DecisionSpec, *, now: datetime) -> list[Effect]:
        """Decide a session.

        Raises:
            InvalidArgumentError: The status is not a decision, or cannot follow the present one.
        """
        if spec.status not in DECIDED:
            msg = f"This status is not a decision: pass one of {', '.join(sorted(DECIDED))}."
            raise InvalidArgumentError(msg)
        if not can_follow(session.status, spec.status):
            msg = f"The session is {session.status}, and {spec.status} cannot follow."
            raise InvalidArgumentError(msg)
        return self._decide(session, spec, now)

    def run_due(self, due: Due, *, now: datetime) -> list[Effect]:
        """Carry out an effect whose time has come, unless the session has moved on since."""
        session = self.get(due.session_id)
        if session.deleted or session.status.is_final or due.attempt_id not in {None, session.attempt.id}:
            return []
        # A held-back request for resubmission is dropped if the end-user has submitted again (documented).
        if due.post is not None:
            return [due.post] if session.status in _UNDECIDED else []
        # A decision that a test made before the automatic one stays.
        if due.spec is not None:
            return self._decide(session, due.spec, now) if session.status == Status.SUBMITTED else []
        return self._finish(session, now)

    def find(self, session_id: str) -> Session:
        """Return the session that a request names (codes 1001, 1002)."""
        _validation.check_id(session_id)
        # UUIDs are case-insensitive, and the sandbox creates them in lower case.
        session = self._look_up(session_id.lower())
        if session is None or session.deleted:
            raise HTTPError(404, None, "Session not found")
        return session

    def get(self, session_id: str) -> Session:
        """Return the session that a test names, deleted or not.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        session = self._look_up(check_text("session_id", session_id))
        if session is None:
            msg = "The sandbox has no such session: pass the id of a session that it created."
            raise InvalidArgumentError(msg)
        return session

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All sessions, oldest first."""
        return tuple(self._sessions.values())

    def forget_media(self, file_exists: Callable[[StoredMedia], bool]) -> None:
        """Remove media whose files are gone, so that no file is listed that cannot be downloaded."""
        for session in self._sessions.values():
            for attempt in session.attempts:
                attempt.media = [media for media in attempt.media if file_exists(media)]
            session.certificates = [
                issued
                for issued in session.certificates
                if all(file_exists(media) for media in issued.documents.values())
            ]

    def new_id(self) -> str:
        """Return an unused id."""
        return self._new_id()

    def _create(self, verification: JsonObject, now: datetime) -> Session:
        vendor_data, end_user_id = verification.get("vendorData"), verification.get("endUserId")
        session_id = self._new_id()
        session = Session(
            id=session_id,
            token=_payloads.token(session_id, now),
            created_at=now,
            vendor_data=vendor_data if isinstance(vendor_data, str) else None,
            end_user_id=end_user_id if isinstance(end_user_id, str) else None,
            # Stored without nulls, so that a null member and an absent one give the same decision.
            person=_without_nulls(verification.get("person")),
            document=_without_nulls(verification.get("document")),
            attempts=[AttemptRecord(self._new_id(), now)],
        )
        self._sessions[session.id] = session
        if self._before is not None:
            self._before[session.id] = None
        return session

    def _look_up(self, session_id: str) -> Session | None:
        """Return a session, and copy it first if a transaction may change it."""
        session = self._sessions.get(session_id)
        if session is not None and self._before is not None and session_id not in self._before:
            self._before[session_id] = session.copy()
        return session

    def _expiry(self, session: Session) -> Due:
        return Due(session.created_at + timedelta(days=self.options.session_lifetime_days), session.id)

    def _start(self, session: Session) -> list[Effect]:
        session.status = session.attempt.status = Status.STARTED
        return self._attempt_event(session, Status.STARTED)

    def _submit(self, session: Session, now: datetime) -> list[Effect]:
        session.status = session.attempt.status = Status.SUBMITTED
        session.attempt.submitted_at = now
        # A guess: from here on GET /decision no longer shows the decision that asked for the resubmission.
        session.decision = session.full_auto = None
        return [*self._attempt_event(session, Status.SUBMITTED), *self._schedule_decision(session, now)]

    def _attempt_event(self, session: Session, action: Status) -> list[Effect]:
        # Documented: an integration without humans has no such webhooks.
        return [] if self.options.full_auto else [Post(session.id, WebhookKind.EVENT, _payloads.event(session, action))]

    def _count_deletion(self, now: datetime) -> None:
        for most, span in _DELETION_LIMITS:
            if sum(1 for deletion in self._deletions if deletion > now - span) >= most:
                raise HTTPError(429, None, "Too many deletions")
        longest = _DELETION_LIMITS[-1][1]
        self._deletions = (*(deletion for deletion in self._deletions if deletion > now - longest), now)

    def _schedule_decision(self, session: Session, now: datetime) -> list[Effect]:
        status = _status_by_first_name(session)
        if status is None and self._decide_after is None:
            return []
        at = now + timedelta(seconds=self._decide_after or 0)
        return [Due(at, session.id, session.attempt.id, DecisionSpec(status=status or Status.APPROVED))]

    def _finish(self, session: Session, now: datetime) -> list[Effect]:
        """End an undecided session: expired if it was never used, abandoned if an attempt was started (documented)."""
        was_used = bool(session.attempt.media) or len(session.attempts) > 1 or session.status != Status.CREATED
        return self._decide(session, DecisionSpec(status=Status.ABANDONED if was_used else Status.EXPIRED), now)

    def _decide(self, session: Session, spec: DecisionSpec, now: datetime) -> list[Effect]:
        spec = _with_reason(self._limit_resubmissions(session, spec))
        # Documented: held back while the end-user can respond on Veriff's page. After uploads by API the end-user has
        # no page, and the webhook is posted immediately.
        is_held = spec.status == Status.RESUBMISSION_REQUESTED and session.opened and not session.attempt.media
        if self.options.full_auto:
            body, session.full_auto = _payloads.full_auto(session, spec, now=now, options=self.options)
            post = Post(session.id, WebhookKind.FULL_AUTO, body)
        else:
            session.decision = _payloads.decision(session, spec, now=now, options=self.options)
            post = Post(session.id, WebhookKind.DECISION, session.decision)
        session.status = session.attempt.status = spec.status
        if spec.status == Status.RESUBMISSION_REQUESTED:
            # Appended after the decision was built, which names the attempt that it is about.
            session.attempts.append(AttemptRecord(self._new_id(), now))
        if not is_held:
            return [post]
        return [
            Due(
                now + timedelta(seconds=self.options.resubmission_hold_seconds),
                session.id,
                session.attempt.id,
                post=post,
            )
        ]

    def _limit_resubmissions(self, session: Session, spec: DecisionSpec) -> DecisionSpec:
        if spec.status != Status.RESUBMISSION_REQUESTED:
            return spec
        # Documented: the session ends with a decline rather than an error, and a reason passed by the test is replaced.
        if session.resubmissions == _MAX_RESUBMISSIONS:
            return evolve(spec, status=Status.DECLINED, reason=None, reason_code=_LIMIT_EXCEEDED)
        session.resubmissions += 1
        return spec


def _status_by_first_name(session: Session) -> Status | None:
    name = session.person.get("firstName")
    folded = name.strip().lower() if isinstance(name, str) else ""
    return next((status for prefix, status in _STATUS_BY_FIRST_NAME if folded.startswith(prefix)), None)


def _with_reason(spec: DecisionSpec) -> DecisionSpec:
    """Fill in the reason: a default code, and the description of the code."""
    code = spec.reason_code if spec.reason_code is not None else _DEFAULT_REASON_CODES.get(spec.status)
    meaning = None if code is None else REASONS.get(code)
    if meaning is None or spec.reason is not None:
        return evolve(spec, reason_code=code)
    # A guess, from the meaning: our copy of Veriff's lists has no description for this code.
    return evolve(spec, reason_code=code, reason=meaning.description or meaning.meaning.capitalize())


def _without_nulls(value: object) -> JsonObject:
    return {key: member for key, member in (as_object(value) or EMPTY).items() if member is not None}
