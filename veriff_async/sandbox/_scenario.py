"""The life of all sessions, as Veriff has it: pure. Time and ids are arguments, effects are returned.

Like Veriff, as documented: the states and which may follow which, uploads before submission only, one submission of an
attempt, a resubmission that opens a new attempt on the same session, the tenth of which is declined with code 539, a
request for resubmission that is held back while the end-user can still answer it, deletions and how many of them, and
sessions that expire or are abandoned after seven days. Guesses: that an attempt exists from the creation on, that the
decision which asked for a resubmission is shown until the next submission, and which reason stands by default.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from veriff_async._protocol.decision_order import DECIDED, OPEN_FOR_MEDIA, can_follow
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import Status
from veriff_async.models.json import EMPTY, JsonObject, as_object
from veriff_async.models.reasons import REASONS
from veriff_async.sandbox import _payloads, _validation
from veriff_async.sandbox._arguments import check_text
from veriff_async.sandbox._errors import Refusal
from veriff_async.sandbox._payloads import Verdict
from veriff_async.sandbox._records import Attempt, Session, StoredMedia, WebhookKind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from veriff_async.sandbox._options import SandboxOptions

__all__ = ("Due", "Effect", "Post", "Scenario", "Verdict")

_MAGIC: Final = (
    ("approve", Status.APPROVED),
    ("decline", Status.DECLINED),
    ("resubmi", Status.RESUBMISSION_REQUESTED),
)
"""First names that choose the outcome: sources write Approve and Approved, Resubmit and Resubmission."""

_REASONS: Final = {Status.DECLINED: 101, Status.RESUBMISSION_REQUESTED: 203}
"""Codes of a decision that was given none; both were seen in real payloads."""
_MAX_RESUBMISSIONS: Final = 9
_LIMIT_EXCEEDED: Final = 539
_DELETIONS: Final = ((5, timedelta(hours=1)), (10, timedelta(days=1)))
"""How many deletions in which time, as documented."""

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
"""States in which a session can be deleted (https://devdocs.veriff.com/apidocs/v1sessionsid-3)."""

_UNDECIDED: Final = frozenset({Status.CREATED, Status.STARTED, Status.RESUBMISSION_REQUESTED})
"""States from which a deletion ends a session with a decision."""


@frozen
class Post:
    """An effect: a webhook about a session is to be delivered."""

    session_id: str
    kind: WebhookKind
    body: JsonObject


@frozen
class Due:
    """An effect: something is to happen to a session later, unless it is over by then.

    Attributes:
        at: When.
        session_id: To which session.
        attempt_id: The attempt it is about; another one is left alone. ``None`` for every one.
        verdict: What is decided then.
        post: What is told then, unless the attempt was submitted. With neither, an undecided session ends.
    """

    at: datetime
    session_id: str
    attempt_id: str | None = None
    verdict: Verdict | None = None
    post: Post | None = None


Effect = Post | Due


class Scenario:
    """All sessions of one integration."""

    def __init__(self, options: SandboxOptions, *, new_id: Callable[[], str], decide_after: float | None) -> None:
        """Take the rules, where ids come from, and the seconds after which a submitted session is approved."""
        self.options = options
        self._new_id = new_id
        self._decide_after = decide_after
        self._sessions: dict[str, Session] = {}
        # Copies of the sessions that a transaction may have changed; None for one that it has made.
        self._before: dict[str, Session | None] | None = None
        self._deletions: tuple[datetime, ...] = ()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Keep all changes that are made inside of the block, or none if it raises."""
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
        session = self._open(_validation.check_verification(body, self.options), now)
        return _payloads.session(session, host), [self._end(session)]

    def validate_registry(self, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``POST /v1/validate-registry``: a session that is submitted at once."""
        session = self._open(_validation.check_registry(body, self.options), now)
        session.status = session.attempt.status = Status.SUBMITTED
        session.attempt.submitted_at = now
        return _payloads.session(session, host), [self._end(session), *self._decision_to_come(session, now)]

    def validate_registry_sync(self, body: JsonObject, *, now: datetime) -> JsonObject:
        """Answer the same call of the synchronous host, whose answer has the decision; its form is a guess."""
        session = self._open(_validation.check_registry(body, self.options), now)
        session.attempt.submitted_at = now
        verdict = Verdict(status=_magic(session) or Status.APPROVED, additional_verified_data=_payloads.REGISTRY_MATCH)
        self._decide(session, verdict, now)
        return session.decision or session.full_auto or EMPTY

    def check_upload(self, session_id: str) -> None:
        """Refuse an upload to a session that is unknown or was submitted."""
        if self.find(session_id).status not in OPEN_FOR_MEDIA:
            raise Refusal(409, None, "Session is already submitted")

    def add_media(self, session_id: str, stored: StoredMedia, *, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``POST /v1/sessions/{id}/media``."""
        self.check_upload(session_id)
        session = self.find(session_id)
        starts = self.options.upload_starts_attempt and session.attempt.status == Status.CREATED
        session.attempt.media.append(stored)
        return _payloads.media(stored, session.id, host), self._began(session) if starts else []

    def submit(self, session_id: str, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``PATCH /v1/sessions/{id}``."""
        _validation.submitted_status(body)
        session = self.find(session_id)
        if session.status not in OPEN_FOR_MEDIA:
            raise Refusal(400, "1304", 'Cannot transition to "submitted" status.')
        effects = self._handed_in(session, now)
        return _payloads.session(session, host), effects

    def delete(self, session_id: str, *, now: datetime) -> tuple[JsonObject, list[Effect]]:
        """Answer ``DELETE /v1/sessions/{id}``."""
        session = self.find(session_id)
        if not self.options.allow_deletion:
            raise Refusal(403, None, "Deletion is not enabled for this integration")
        if session.status not in _DELETABLE:
            raise Refusal(400, "1305", "Session is not in a completed status")
        self._count_deletion(now)
        effects = self._finish(session, now) if session.status in _UNDECIDED else []
        session.deleted = True
        return {"status": "success", "verification": {"id": session.id}}, effects

    def decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision``."""
        return self.find(session_id).decision or _payloads.no_decision()

    def full_auto_decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision/fullauto``; that an undecided session is not found was seen."""
        found = self.find(session_id).full_auto
        if found is None:
            raise Refusal(404, None, "Decision not found")
        return found

    def start(self, session: Session) -> list[Effect]:
        """Let the end-user open Veriff's page, which starts the attempt.

        Raises:
            InvalidArgumentError: The attempt was started or submitted before.
        """
        if session.status not in OPEN_FOR_MEDIA or session.attempt.status != Status.CREATED:
            msg = f"The session is {session.status}, and its attempt cannot be started again."
            raise InvalidArgumentError(msg)
        session.opened = True
        return self._began(session)

    def hand_in(self, session: Session, *, now: datetime) -> list[Effect]:
        """Let the end-user submit the attempt on Veriff's page.

        Raises:
            InvalidArgumentError: There is no attempt to submit.
        """
        if session.status not in OPEN_FOR_MEDIA:
            msg = f"The session is {session.status}, and cannot be submitted."
            raise InvalidArgumentError(msg)
        return self._handed_in(session, now)

    def decide(self, session: Session, verdict: Verdict, *, now: datetime) -> list[Effect]:
        """Decide about a session.

        Raises:
            InvalidArgumentError: The status is no decision, or it cannot follow.
        """
        if verdict.status not in DECIDED:
            msg = f"A session cannot be decided like that: give one of {', '.join(sorted(DECIDED))}."
            raise InvalidArgumentError(msg)
        if not can_follow(session.status, verdict.status):
            msg = f"The session is {session.status}, and {verdict.status} cannot follow."
            raise InvalidArgumentError(msg)
        return self._decide(session, verdict, now)

    def come(self, due: Due, *, now: datetime) -> list[Effect]:
        """Let happen what was due, unless the session has gone another way."""
        session = self.known(due.session_id)
        if session.deleted or session.status.is_final or due.attempt_id not in {None, session.attempt.id}:
            return []
        if due.post is not None:
            return [due.post] if session.status in _UNDECIDED else []
        if due.verdict is not None:
            return self._decide(session, due.verdict, now) if session.status == Status.SUBMITTED else []
        return self._finish(session, now)

    def find(self, session_id: str) -> Session:
        """Return a session that a request names (codes 1001, 1002)."""
        _validation.check_id(session_id)
        session = self._changeable(session_id.lower())
        if session is None or session.deleted:
            raise Refusal(404, None, "Session not found")
        return session

    def known(self, session_id: str) -> Session:
        """Return a session that a test names.

        Raises:
            InvalidArgumentError: There is no such session.
        """
        session = self._changeable(check_text("session_id", session_id))
        if session is None:
            msg = "The sandbox has no such session: give an id that it made."
            raise InvalidArgumentError(msg)
        return session

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All sessions, oldest first."""
        return tuple(self._sessions.values())

    def forget_media(self, is_there: Callable[[StoredMedia], bool]) -> None:
        """Remove the media whose files are gone, so that nothing is listed that cannot be served."""
        for session in self._sessions.values():
            for attempt in session.attempts:
                attempt.media = [media for media in attempt.media if is_there(media)]
            session.certificates = [
                issued for issued in session.certificates if all(is_there(media) for media in issued.documents.values())
            ]

    def new_id(self) -> str:
        """Return an id that nothing has."""
        return self._new_id()

    def _open(self, known: JsonObject, now: datetime) -> Session:
        vendor_data, end_user_id = known.get("vendorData"), known.get("endUserId")
        session_id = self._new_id()
        session = Session(
            id=session_id,
            token=_payloads.token(session_id, now),
            created_at=now,
            vendor_data=vendor_data if isinstance(vendor_data, str) else None,
            end_user_id=end_user_id if isinstance(end_user_id, str) else None,
            person=_without_nulls(known.get("person")),
            document=_without_nulls(known.get("document")),
            attempts=[Attempt(self._new_id(), now)],
        )
        self._sessions[session.id] = session
        if self._before is not None:
            self._before[session.id] = None
        return session

    def _changeable(self, session_id: str) -> Session | None:
        """Return a session, of which the transaction has a copy to go back to."""
        session = self._sessions.get(session_id)
        if session is not None and self._before is not None and session_id not in self._before:
            self._before[session_id] = session.copy()
        return session

    def _end(self, session: Session) -> Due:
        return Due(session.created_at + timedelta(days=self.options.session_lifetime_days), session.id)

    def _began(self, session: Session) -> list[Effect]:
        session.status = session.attempt.status = Status.STARTED
        return self._told(session, Status.STARTED)

    def _handed_in(self, session: Session, now: datetime) -> list[Effect]:
        session.status = session.attempt.status = Status.SUBMITTED
        session.attempt.submitted_at = now
        session.decision = session.full_auto = None
        return [*self._told(session, Status.SUBMITTED), *self._decision_to_come(session, now)]

    def _told(self, session: Session, action: Status) -> list[Effect]:
        # Documented: such events are folded into the decision of an integration without humans.
        return [] if self.options.full_auto else [Post(session.id, WebhookKind.EVENT, _payloads.event(session, action))]

    def _count_deletion(self, now: datetime) -> None:
        for most, span in _DELETIONS:
            if sum(1 for deletion in self._deletions if deletion > now - span) >= most:
                raise Refusal(429, None, "Too many deletions")
        longest = _DELETIONS[-1][1]
        self._deletions = (*(deletion for deletion in self._deletions if deletion > now - longest), now)

    def _decision_to_come(self, session: Session, now: datetime) -> list[Effect]:
        status = _magic(session)
        if status is None and self._decide_after is None:
            return []
        at = now + timedelta(seconds=self._decide_after or 0)
        return [Due(at, session.id, session.attempt.id, Verdict(status=status or Status.APPROVED))]

    def _finish(self, session: Session, now: datetime) -> list[Effect]:
        """End an undecided session: expired when nobody opened it, abandoned when an attempt was begun."""
        touched = bool(session.attempt.media) or len(session.attempts) > 1 or session.status != Status.CREATED
        return self._decide(session, Verdict(status=Status.ABANDONED if touched else Status.EXPIRED), now)

    def _decide(self, session: Session, verdict: Verdict, now: datetime) -> list[Effect]:
        verdict = _completed(self._within_limit(session, verdict))
        # Held back for end-users who can answer on Veriff's page; told at once when the pictures came by API.
        held = verdict.status == Status.RESUBMISSION_REQUESTED and session.opened and not session.attempt.media
        if self.options.full_auto:
            body, session.full_auto = _payloads.full_auto(session, verdict, now=now, options=self.options)
            post = Post(session.id, WebhookKind.FULL_AUTO, body)
        else:
            session.decision = _payloads.decision(session, verdict, now=now, options=self.options)
            post = Post(session.id, WebhookKind.DECISION, session.decision)
        session.status = session.attempt.status = verdict.status
        if verdict.status == Status.RESUBMISSION_REQUESTED:
            session.attempts.append(Attempt(self._new_id(), now))
        if not held:
            return [post]
        return [
            Due(
                now + timedelta(seconds=self.options.resubmission_hold_seconds),
                session.id,
                session.attempt.id,
                post=post,
            )
        ]

    def _within_limit(self, session: Session, verdict: Verdict) -> Verdict:
        if verdict.status != Status.RESUBMISSION_REQUESTED:
            return verdict
        if session.resubmissions == _MAX_RESUBMISSIONS:
            return evolve(verdict, status=Status.DECLINED, reason=None, reason_code=_LIMIT_EXCEEDED)
        session.resubmissions += 1
        return verdict


def _magic(session: Session) -> Status | None:
    name = session.person.get("firstName")
    folded = name.strip().lower() if isinstance(name, str) else ""
    return next((status for prefix, status in _MAGIC if folded.startswith(prefix)), None)


def _completed(verdict: Verdict) -> Verdict:
    """Fill in the reason: a code by default, and the description that goes with the code."""
    code = verdict.reason_code if verdict.reason_code is not None else _REASONS.get(verdict.status)
    known = None if code is None else REASONS.get(code)
    if known is None or verdict.reason is not None:
        return evolve(verdict, reason_code=code)
    # A description that our copy of Veriff's lists does not reach is a guess, from the meaning.
    return evolve(verdict, reason_code=code, reason=known.description or known.meaning.capitalize())


def _without_nulls(value: object) -> JsonObject:
    return {key: member for key, member in (as_object(value) or EMPTY).items() if member is not None}
