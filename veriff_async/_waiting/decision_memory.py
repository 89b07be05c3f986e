"""The decisions that one client has seen, and which of them a submission has answered.

Veriff goes on to show a request for resubmission after a new attempt was submitted, and an answer to an older question
may arrive after a newer decision is known. Both must not reach a wait, whichever session object it was made through.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen

from veriff_async._protocol.decision_order import is_later, is_same
from veriff_async._protocol.webhook import without_details
from veriff_async.models.enums import Status

if TYPE_CHECKING:
    from veriff_async.models.decision import Decision

__all__ = ("DecisionMemory",)

_T = TypeVar("_T")

_MOST_ANSWERED: Final = 20_000
"""Sessions that are remembered as created or as submitted again: days may pass, and each takes some 400 bytes."""

_MOST_SEEN: Final = 1_000
"""Decisions that are remembered: an answer is late by minutes at most."""


@frozen
class _Answered:
    """A request for resubmission, and whether the submission that answers it certainly succeeded."""

    request: Decision
    is_certain: bool


@frozen
class _Seen:
    """The latest decision on a session, and when it was learned of."""

    decision: Decision
    moment: int


class DecisionMemory:
    """What one client knows of decisions without asking; bounded, and without personal data."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._answered: OrderedDict[str, _Answered] = OrderedDict()
        self._created: OrderedDict[str, None] = OrderedDict()
        self._moment = 0

    def moment(self) -> int:
        """Return the present moment, to remember when a question began."""
        return self._moment

    def latest(self, session_id: str) -> Decision | None:
        """Return the latest decision that was seen, without its details."""
        seen = self._seen.get(session_id)
        return None if seen is None else seen.decision

    def add_creation(self, session_id: str) -> None:
        """Remember that this client created a session."""
        _put(self._created, session_id, None, _MOST_ANSWERED)

    def is_new(self, session_id: str) -> bool:
        """Return whether this client created the session and has not submitted it, so that nothing is decided."""
        return session_id in self._created

    def is_answered(self, decision: Decision) -> bool:
        """Return whether a submission of this client came after a decision."""
        answered = self._answered.get(decision.session_id)
        if answered is None or decision.status.is_final:
            return False
        return is_same(decision, answered.request) or is_later(decision, answered.request) is False

    def add_submission(self, session_id: str, answered: Decision | None, *, is_certain: bool = True) -> None:
        """Remember a submission, and the request for resubmission that it answers, if it answers one.

        Args:
            session_id: The session.
            answered: The request.
            is_certain: Whether the submission succeeded, rather than being under way.
        """
        self._created.pop(session_id, None)
        if answered is not None:
            known = _Answered(without_details(answered), is_certain=is_certain or self._is_certain(answered))
            _put(self._answered, session_id, known, _MOST_ANSWERED)

    def remove_submission(self, answered: Decision) -> bool:
        """Forget a submission that was refused, so that the request for resubmission stands again.

        Returns:
            Whether it does: another submission may have succeeded meanwhile.
        """
        if self._is_certain(answered):
            return False
        self._answered.pop(answered.session_id, None)
        return True

    def _is_certain(self, answered: Decision) -> bool:
        known = self._answered.get(answered.session_id)
        return known is not None and known.is_certain and is_same(known.request, answered)

    def add(self, decision: Decision, asked: int | None = None) -> bool:
        """Remember a decision, unless it has been passed by; return whether it stands.

        Args:
            decision: The decision.
            asked: The `moment` when the question began that it is the answer to; now when left out.
        """
        if self.is_answered(decision):
            return False
        seen = self._seen.get(decision.session_id)
        if seen is not None and is_same(seen.decision, decision):
            return True
        # The answer to a question that began later is what Veriff says now, whatever its time.
        if seen is not None and asked is not None and asked < seen.moment and not _follows(decision, seen.decision):
            return False
        self._moment += 1
        _put(self._seen, decision.session_id, _Seen(without_details(decision), self._moment), _MOST_SEEN)
        return True

    def request_to_answer(self, *decisions: Decision | None) -> Decision | None:
        """Return the latest request for resubmission among decisions that no submission has answered yet."""
        found: Decision | None = None
        for decision in decisions:
            if decision is None or decision.status != Status.RESUBMISSION_REQUESTED or self.is_answered(decision):
                continue
            if found is None or is_later(decision, found) is True:
                found = decision
        return found


def _follows(decision: Decision, seen: Decision) -> bool:
    """Return whether a decision is certainly newer than another."""
    is_end = decision.status.is_final and not seen.status.is_final
    return is_end or is_later(decision, seen) is True


def _put(into: OrderedDict[str, _T], session_id: str, value: _T, most: int) -> None:
    into[session_id] = value
    into.move_to_end(session_id)
    if len(into) > most:
        into.popitem(last=False)
