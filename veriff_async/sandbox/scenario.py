"""The life of all sessions, as Veriff has it: pure. Time and ids are arguments, effects are returned.

Like Veriff, as documented: the states and which may follow which, uploads before submission only, one submission of an
attempt, a resubmission that opens a new attempt on the same session, the tenth of which is declined with code 539, and
sessions that expire or are abandoned after seven days. Guesses: that an attempt exists from the creation on, that the
decision which asked for a resubmission is shown until the next submission, and which reason stands by default.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from veriff_async.errors import ConfigurationError
from veriff_async.models.enums import Status
from veriff_async.models.json import EMPTY, JsonObject, as_object
from veriff_async.protocol.lifecycle import DECIDED, OPEN_FOR_MEDIA, can_follow, is_final
from veriff_async.sandbox import checks, payloads
from veriff_async.sandbox.records import Attempt, AttemptView, Session, SessionView, StoredMedia
from veriff_async.sandbox.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.sandbox.rules import Rules

__all__ = ("Due", "Effect", "Post", "Scenario", "Verdict")

_MAGIC: Final = (
    ("approve", Status.APPROVED),
    ("decline", Status.DECLINED),
    ("resubmi", Status.RESUBMISSION_REQUESTED),
)
"""First names that choose the outcome: sources write Approve and Approved, Resubmit and Resubmission."""

_REASONS: Final = {
    # Both texts were seen in real payloads.
    Status.DECLINED: ("Physical document not used", 101),
    Status.RESUBMISSION_REQUESTED: ("Full document not visible", 203),
}
_MAX_RESUBMISSIONS: Final = 9
_LIMIT_REACHED: Final = ("Resubmission limit reached", 539)


@frozen(kw_only=True)
class Verdict:
    """What is decided about a session."""

    status: Status
    reason: str | None = None
    reason_code: int | None = None
    person: JsonObject = EMPTY
    document: JsonObject = EMPTY


@frozen
class Post:
    """An effect: a webhook is to be delivered."""

    body: JsonObject


@frozen
class Due:
    """An effect: something is to happen to a session later, unless it is over by then.

    Attributes:
        at: When.
        session_id: To which session.
        verdict: What is decided then; ``None`` ends an undecided session.
        attempt_id: The attempt it is about; another one is left alone.
    """

    at: datetime
    session_id: str
    verdict: Verdict | None
    attempt_id: str | None


Effect = Post | Due


class Scenario:
    """All sessions of one integration."""

    def __init__(self, rules: Rules, *, new_id: Callable[[], str], decide_after: float | None) -> None:
        """Take the rules, where ids come from, and the seconds after which a submitted session is approved."""
        self._rules = rules
        self._new_id = new_id
        self._decide_after = decide_after
        self._sessions: dict[str, Session] = {}

    def create(self, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``POST /v1/sessions``."""
        known = checks.check_verification(body)
        vendor_data, end_user_id = known.get("vendorData"), known.get("endUserId")
        session_id = self._new_id()
        session = Session(
            id=session_id,
            token=payloads.token(session_id, now),
            created_at=now,
            vendor_data=vendor_data if isinstance(vendor_data, str) else None,
            end_user_id=end_user_id if isinstance(end_user_id, str) else None,
            person=_without_nulls(known.get("person")),
            document=_without_nulls(known.get("document")),
            attempts=[Attempt(self._new_id(), now)],
        )
        self._sessions[session.id] = session
        end = now + timedelta(days=self._rules.days_to_decide)
        return payloads.session(session, host), [Due(end, session.id, None, None)]

    def check_upload(self, session_id: str) -> None:
        """Refuse an upload to a session that is unknown or was submitted."""
        if self._find(session_id).status not in OPEN_FOR_MEDIA:
            raise Refusal(409, None, "Session is already submitted")

    def add_media(self, session_id: str, stored: StoredMedia, *, host: str) -> JsonObject:
        """Answer ``POST /v1/sessions/{id}/media``."""
        self.check_upload(session_id)
        session = self._find(session_id)
        session.attempt.media.append(stored)
        return payloads.media(stored, session.id, host)

    def submit(self, session_id: str, body: JsonObject, *, now: datetime, host: str) -> tuple[JsonObject, list[Effect]]:
        """Answer ``PATCH /v1/sessions/{id}``."""
        checks.submitted_status(body)
        session = self._find(session_id)
        if session.status not in OPEN_FOR_MEDIA:
            raise Refusal(400, "1304", f'Transition from status "{session.status}" is not possible')
        session.status = session.attempt.status = Status.SUBMITTED
        session.decision = None
        due = self._decision_to_come(session, now)
        return payloads.session(session, host), [] if due is None else [due]

    def decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision``."""
        return self._find(session_id).decision or payloads.no_decision()

    def decide(self, session_id: str, verdict: Verdict, *, now: datetime) -> list[Effect]:
        """Decide about a session.

        Raises:
            ConfigurationError: There is no such session, the status is no decision, or it cannot follow.
        """
        session = self._sessions.get(session_id)
        if session is None:
            msg = "The sandbox has no such session: give an id that it made."
            raise ConfigurationError(msg)
        if verdict.status not in DECIDED:
            msg = f"A session cannot be decided like that: give one of {', '.join(sorted(DECIDED))}."
            raise ConfigurationError(msg)
        if not can_follow(session.status, verdict.status):
            msg = f"The session is {session.status}, and {verdict.status} cannot follow."
            raise ConfigurationError(msg)
        return self._decide(session, verdict, now)

    def come(self, due: Due, *, now: datetime) -> list[Effect]:
        """Let happen what was due, unless the session has gone another way."""
        session = self._sessions[due.session_id]
        if is_final(session.status) or due.attempt_id not in {None, session.attempt.id}:
            return []
        if due.verdict is not None:
            return self._decide(session, due.verdict, now) if session.status == Status.SUBMITTED else []
        # Documented: expired when the end-user never opened it, abandoned when the attempt was begun.
        touched = bool(session.attempt.media) or len(session.attempts) > 1 or session.status != Status.CREATED
        return self._decide(session, Verdict(status=Status.ABANDONED if touched else Status.EXPIRED), now)

    def view(self, session_id: str) -> SessionView:
        """Show a session.

        Raises:
            ConfigurationError: There is no such session.
        """
        session = self._sessions.get(session_id)
        if session is None:
            msg = "The sandbox has no such session: give an id that it made."
            raise ConfigurationError(msg)
        return _view(session)

    def views(self) -> tuple[SessionView, ...]:
        """Show all sessions, oldest first."""
        return tuple(_view(session) for session in self._sessions.values())

    def _find(self, session_id: str) -> Session:
        checks.check_id(session_id)
        session = self._sessions.get(session_id.lower())
        if session is None:
            raise Refusal(404, None, "Session not found")
        return session

    def _decision_to_come(self, session: Session, now: datetime) -> Due | None:
        name = session.person.get("firstName")
        folded = name.strip().lower() if isinstance(name, str) else ""
        status = next((status for prefix, status in _MAGIC if folded.startswith(prefix)), None)
        if status is None and self._decide_after is None:
            return None
        at = now + timedelta(seconds=self._decide_after or 0)
        return Due(at, session.id, Verdict(status=status or Status.APPROVED), session.attempt.id)

    def _decide(self, session: Session, verdict: Verdict, now: datetime) -> list[Effect]:
        if verdict.status == Status.RESUBMISSION_REQUESTED:
            if session.resubmissions == _MAX_RESUBMISSIONS:
                reason, code = _LIMIT_REACHED
                verdict = evolve(verdict, status=Status.DECLINED, reason=reason, reason_code=code)
            else:
                session.resubmissions += 1
        if verdict.reason_code is None and verdict.status in _REASONS:
            reason, code = _REASONS[verdict.status]
            verdict = evolve(verdict, reason=verdict.reason or reason, reason_code=code)
        session.decision = payloads.decision(
            session,
            verdict.status,
            now=now,
            rules=self._rules,
            reason=verdict.reason,
            reason_code=verdict.reason_code,
            person=verdict.person,
            document=verdict.document,
        )
        session.status = session.attempt.status = verdict.status
        if verdict.status == Status.RESUBMISSION_REQUESTED:
            session.attempts.append(Attempt(self._new_id(), now))
        return [Post(session.decision)]


def _without_nulls(value: object) -> JsonObject:
    return {key: member for key, member in (as_object(value) or EMPTY).items() if member is not None}


def _view(session: Session) -> SessionView:
    return SessionView(
        id=session.id,
        status=session.status,
        vendor_data=session.vendor_data,
        end_user_id=session.end_user_id,
        person=session.person,
        document=session.document,
        attempts=tuple(
            AttemptView(id=attempt.id, status=attempt.status, media=tuple(attempt.media))
            for attempt in session.attempts
        ),
    )
