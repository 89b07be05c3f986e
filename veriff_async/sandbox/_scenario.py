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

Sessions are changed in place; `SessionStore.transaction` restores them after an error.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from veriff_async._protocol.status_transitions import DECIDED, OPEN_FOR_MEDIA, can_follow
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import Status
from veriff_async.models.json import EMPTY, JsonObject, as_object
from veriff_async.models.reasons import REASONS
from veriff_async.sandbox import _payloads, _validation
from veriff_async.sandbox._decision_spec import DecisionSpec
from veriff_async.sandbox._errors import HTTPError, ImpossibleChangeError
from veriff_async.sandbox._records import AttemptRecord, Session, StoredMedia, WebhookKind
from veriff_async.sandbox._session_store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from veriff_async.sandbox._rules import SandboxRules

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
    """The rules by which the sessions of one integration change."""

    def __init__(self, rules: SandboxRules, *, new_id: Callable[[], str]) -> None:
        """Start without sessions."""
        self.rules = rules
        self._new_id = new_id
        self.sessions = SessionStore()

    def create(self, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``POST /v1/sessions``."""
        session, end = self.open_session(body, now=now)
        return _payloads.session(session, host), [end]

    def open_session(self, body: JsonObject, *, now: datetime) -> tuple[Session, Due]:
        """Create a session, and return it with its end, which `run_due` ignores once it has a final decision."""
        session = self._create(_validation.check_verification(body, self.rules.options), now)
        return session, self._expiry(session)

    def validate_registry(self, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``POST /v1/validate-registry``: a session that is submitted immediately."""
        session = self._create(_validation.check_registry(body, self.rules.options), now)
        session.status = session.attempt.status = Status.SUBMITTED
        session.attempt.submitted_at = now
        return _payloads.session(session, host), [self._expiry(session), *self._schedule_decision(session, now)]

    def validate_registry_sync(self, body: JsonObject, *, now: datetime) -> JsonObject:
        """Answer the same call of the synchronous host with the decision. The form of the response is a guess."""
        session = self._create(_validation.check_registry(body, self.rules.options), now)
        session.attempt.submitted_at = now
        spec = DecisionSpec(
            status=_status_by_first_name(session) or Status.APPROVED, additional_verified_data=_payloads.REGISTRY_MATCH
        )
        self._decide(session, spec, now)
        return session.decision or session.full_auto or EMPTY

    def check_upload(self, session_id: str) -> None:
        """Refuse an upload to a session that does not exist or is submitted."""
        if self.sessions.find(session_id).status not in OPEN_FOR_MEDIA:
            raise HTTPError(409, None, "Session is already submitted")

    def add_media(
        self, session_id: str, stored: StoredMedia, *, now: datetime, host: str
    ) -> tuple[JsonObject, list[Effect]]:
        """Answer ``POST /v1/sessions/{id}/media``."""
        self.check_upload(session_id)
        session = self.sessions.find(session_id)
        starts = self.rules.options.upload_starts_attempt and session.attempt.status == Status.CREATED
        session.attempt.media.append(stored)
        return _payloads.media(stored, session.id, host), self._start(session, now) if starts else []

    def submit(self, session_id: str, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``PATCH /v1/sessions/{id}``."""
        # A malformed body is refused before the session is looked up; Veriff's own order is unknown.
        _validation.check_submission(body)
        session = self.sessions.find(session_id)
        if session.status not in OPEN_FOR_MEDIA:
            raise HTTPError(400, "1304", 'Cannot transition to "submitted" status.')
        effects = self._submit(session, now)
        return _payloads.session(session, host), effects

    def delete(self, session_id: str, *, now: datetime) -> tuple[JsonObject, list[Effect]]:
        """Answer ``DELETE /v1/sessions/{id}``."""
        session = self.sessions.find(session_id)
        if not self.rules.options.allow_deletion:
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
        return self.sessions.find(session_id).decision or _payloads.no_decision()

    def full_auto_decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision/fullauto``; the 404 of an undecided session was seen."""
        decision = self.sessions.find(session_id).full_auto
        if decision is None:
            raise HTTPError(404, None, "Decision not found")
        return decision

    def start(self, session: Session, *, now: datetime) -> list[Effect]:
        """Start the attempt, as an end-user does by opening Veriff's page."""
        if session.status not in OPEN_FOR_MEDIA or session.attempt.status != Status.CREATED:
            msg = f"The session is {session.status}, and its attempt cannot be started again."
            raise ImpossibleChangeError(msg)
        session.opened = True
        return self._start(session, now)

    def open_attempt(self, session: Session, *, now: datetime) -> list[Effect]:
        """Start another attempt, as an end-user does who opens Veriff's page again.

        Documented: a resubmission opens an attempt of the same session, at most nine times. That an end-user can start
        again while a submission is checked is a guess; it makes the same attempt.

        Raises:
            ImpossibleChangeError: The first attempt has not started, the session has a final decision, or it has had
                nine more attempts.
        """
        if session.status == Status.CREATED:
            msg = "The first attempt of the session has not started yet: start it by start_attempt()."
            raise ImpossibleChangeError(msg)
        if session.status.is_final:
            msg = f"The session is {session.status}, which is final: create another session."
            raise ImpossibleChangeError(msg)
        # A request for resubmission has opened an attempt already.
        if session.status != Status.RESUBMISSION_REQUESTED:
            if session.resubmissions == _MAX_RESUBMISSIONS:
                msg = f"The session has had {_MAX_RESUBMISSIONS} resubmissions, which is the most: decide it."
                raise ImpossibleChangeError(msg)
            session.resubmissions += 1
            session.attempts.append(AttemptRecord(self._new_id(), now))
        session.opened = True
        return self._start(session, now)

    def submit_attempt(self, session: Session, *, now: datetime) -> list[Effect]:
        """Submit the attempt, as an end-user does on Veriff's page."""
        if session.status not in OPEN_FOR_MEDIA:
            msg = f"The session is {session.status}, and cannot be submitted."
            raise ImpossibleChangeError(msg)
        return self._submit(session, now)

    def submit_pictures(self, session: Session, pictures: Sequence[StoredMedia], *, now: datetime) -> list[Effect]:
        """Submit the attempt with pictures, as an end-user does on Veriff's page."""
        session.attempt.is_on_page = True
        session.attempt.media.extend(pictures)
        return self.submit_attempt(session, now=now)

    def decide(self, session: Session, spec: DecisionSpec, *, now: datetime) -> list[Effect]:
        """Decide a session."""
        if spec.status not in DECIDED:
            msg = f"This status is not a decision: pass one of {', '.join(sorted(DECIDED))}."
            raise InvalidArgumentError(msg)
        if not can_follow(session.status, spec.status):
            msg = f"The session is {session.status}, and {spec.status} cannot follow."
            raise ImpossibleChangeError(msg)
        return self._decide(session, spec, now)

    def run_due(self, due: Due, *, now: datetime) -> list[Effect]:
        """Carry out an effect whose time has come, unless the session has moved on since."""
        session = self.sessions.get(due.session_id)
        if session.deleted or session.status.is_final or due.attempt_id not in {None, session.attempt.id}:
            return []
        # A held-back request for resubmission is dropped if the end-user has submitted again (documented).
        if due.post is not None:
            return [due.post] if session.status in _UNDECIDED else []
        # A decision that a test made before the automatic one stays.
        if due.spec is not None:
            return self._decide(session, due.spec, now) if session.status == Status.SUBMITTED else []
        return self._finish(session, now)

    def new_id(self) -> str:
        """Return an unused id."""
        return self._new_id()

    def _create(self, verification: JsonObject, now: datetime) -> Session:
        vendor_data, end_user_id = verification.get("vendorData"), verification.get("endUserId")
        callback = verification.get("callback")
        session_id = self._new_id()
        session = Session(
            id=session_id,
            token=_payloads.token(session_id, now),
            created_at=now,
            vendor_data=vendor_data if isinstance(vendor_data, str) else None,
            end_user_id=end_user_id if isinstance(end_user_id, str) else None,
            callback=callback if isinstance(callback, str) and callback else None,
            # Stored without nulls, so that a null member and an absent one give the same decision.
            person=_without_nulls(verification.get("person")),
            document=_without_nulls(verification.get("document")),
            attempts=[AttemptRecord(self._new_id(), now)],
        )
        self.sessions.add(session)
        return session

    def _expiry(self, session: Session) -> Due:
        return Due(session.created_at + timedelta(days=self.rules.options.session_lifetime_days), session.id)

    def _start(self, session: Session, now: datetime) -> list[Effect]:
        session.status = session.attempt.status = Status.STARTED
        session.attempt.started_at = now
        return self._attempt_event(session, Status.STARTED)

    def _submit(self, session: Session, now: datetime) -> list[Effect]:
        session.status = session.attempt.status = Status.SUBMITTED
        session.attempt.submitted_at = now
        # A guess: from here on GET /decision no longer shows the decision that asked for the resubmission.
        session.decision = session.full_auto = None
        return [*self._attempt_event(session, Status.SUBMITTED), *self._schedule_decision(session, now)]

    def _attempt_event(self, session: Session, action: Status) -> list[Effect]:
        # Documented: an integration without humans has no such webhooks.
        return (
            []
            if self.rules.options.full_auto
            else [Post(session.id, WebhookKind.EVENT, _payloads.event(session, action))]
        )

    def _count_deletion(self, now: datetime) -> None:
        for most, span in _DELETION_LIMITS:
            if sum(1 for deletion in self.sessions.deletions if deletion > now - span) >= most:
                raise HTTPError(429, None, "Too many deletions")
        longest = _DELETION_LIMITS[-1][1]
        self.sessions.deletions = (*(deletion for deletion in self.sessions.deletions if deletion > now - longest), now)

    def _schedule_decision(self, session: Session, now: datetime) -> list[Effect]:
        status = _status_by_first_name(session)
        if status is None and self.rules.decide_after is None:
            return []
        at = now + timedelta(seconds=self.rules.decide_after or 0)
        return [Due(at, session.id, session.attempt.id, DecisionSpec(status=status or Status.APPROVED))]

    def _finish(self, session: Session, now: datetime) -> list[Effect]:
        """End an undecided session: expired if it was never used, abandoned if an attempt was started (documented)."""
        was_used = bool(session.attempt.media) or len(session.attempts) > 1 or session.status != Status.CREATED
        return self._decide(session, DecisionSpec(status=Status.ABANDONED if was_used else Status.EXPIRED), now)

    def _decide(self, session: Session, spec: DecisionSpec, now: datetime) -> list[Effect]:
        spec = _with_reason(self._limit_resubmissions(session, spec))
        # Documented: held back while the end-user can respond on Veriff's page. After uploads by API the end-user has
        # no page, and the webhook is posted immediately.
        is_on_page = session.opened and (session.attempt.is_on_page or not session.attempt.media)
        is_held = spec.status == Status.RESUBMISSION_REQUESTED and is_on_page
        if self.rules.options.full_auto:
            body, session.full_auto = _payloads.full_auto(session, spec, now=now, options=self.rules.options)
            post = Post(session.id, WebhookKind.FULL_AUTO, body)
        else:
            session.decision = _payloads.decision(session, spec, now=now, options=self.rules.options)
            post = Post(session.id, WebhookKind.DECISION, session.decision)
        session.status = session.attempt.status = spec.status
        session.attempt.decided_at = now
        if spec.status == Status.RESUBMISSION_REQUESTED:
            # Appended after the decision was built, which names the attempt that it is about.
            session.attempts.append(AttemptRecord(self._new_id(), now))
        if not is_held:
            return [post]
        return [
            Due(
                now + timedelta(seconds=self.rules.options.resubmission_hold_seconds),
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
