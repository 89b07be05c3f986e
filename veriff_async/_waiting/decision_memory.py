"""The decisions that one client has seen, and which of them a submission has answered.

A response of Veriff can be out of date in two ways. No wait may return such a response, through any session object:

* After a submission, Veriff keeps returning the request for resubmission that the submission answered.
* Two requests can overtake each other, so a response may be older than a decision that is already known. Each request
  remembers the `sequence` at which it started: if a decision was added later, the response counts only if its own time
  shows that it is newer.

The memory is bounded and holds no personal data.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen

from veriff_async._protocol.status_transitions import is_later, is_same, without_details
from veriff_async.models.enums import Status

if TYPE_CHECKING:
    from veriff_async.models.decision import Decision

__all__ = ("DecisionMemory",)

_T = TypeVar("_T")

# Sessions remembered as created or as submitted again. The decision may take days; an entry takes about 400 bytes.
_MAX_SUBMISSIONS: Final = 20_000

# Decisions remembered. A response overtakes another by minutes at most.
_MAX_DECISIONS: Final = 1_000


@frozen
class _Submission:
    """The request for resubmission that a submission answers, and whether the submission certainly succeeded."""

    request: Decision
    is_certain: bool


@frozen
class _Seen:
    """The latest decision on a session, and its number in the order in which decisions were added."""

    decision: Decision
    sequence: int


class DecisionMemory:
    """The decisions of a client's sessions, in the order in which the client learned of them."""

    def __init__(self) -> None:
        """Start empty."""
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._submissions: OrderedDict[str, _Submission] = OrderedDict()
        self._created: OrderedDict[str, None] = OrderedDict()
        self.sequence: int = 0
        """The number of the decision that was added last. Read it before a request, and pass it to `add`."""

    def latest(self, session_id: str) -> Decision | None:
        """Return the latest decision on a session, without its details."""
        seen = self._seen.get(session_id)
        return None if seen is None else seen.decision

    def add_creation(self, session_id: str) -> None:
        """Remember that this client created a session."""
        _put(self._created, session_id, None, _MAX_SUBMISSIONS)

    def is_new(self, session_id: str) -> bool:
        """Return whether this client created the session and has not submitted it, so that it has no decision."""
        return session_id in self._created

    def is_answered(self, decision: Decision) -> bool:
        """Return whether this client has submitted the session again since a decision."""
        submission = self._submissions.get(decision.session_id)
        if submission is None or decision.status.is_final:
            return False
        return is_same(decision, submission.request) or is_later(decision, submission.request) is False

    def add_submission(self, session_id: str, answered: Decision | None, *, is_certain: bool = True) -> None:
        """Remember a submission.

        Args:
            session_id: The session.
            answered: The request for resubmission that the submission answers, if there is one.
            is_certain: Whether the submission succeeded; otherwise it is in progress.
        """
        self._created.pop(session_id, None)
        if answered is not None:
            is_certain = is_certain or self._is_certain(answered)  # never take a success back
            submission = _Submission(without_details(answered), is_certain=is_certain)
            _put(self._submissions, session_id, submission, _MAX_SUBMISSIONS)

    def remove_submission(self, answered: Decision) -> bool:
        """Forget a submission that was rejected, and return whether the request for resubmission stands again.

        It does not if a concurrent submission has succeeded.
        """
        if self._is_certain(answered):
            return False
        self._submissions.pop(answered.session_id, None)
        return True

    def _is_certain(self, answered: Decision) -> bool:
        submission = self._submissions.get(answered.session_id)
        return submission is not None and submission.is_certain and is_same(submission.request, answered)

    def add(self, decision: Decision, asked_at: int | None = None) -> bool:
        """Remember a decision, and return whether it is current rather than answered or out of date.

        Args:
            decision: The decision.
            asked_at: The `sequence` when the request started that returned the decision; the current one if omitted.
        """
        if self.is_answered(decision):
            return False
        seen = self._seen.get(decision.session_id)
        if seen is not None and is_same(seen.decision, decision):
            return True
        # A request that started after the known decision was added returns the present state, even if its time is
        # earlier: Veriff can correct a decision without a later time.
        if seen is not None and asked_at is not None and asked_at < seen.sequence:
            is_end = decision.status.is_final and not seen.decision.status.is_final
            if not is_end and is_later(decision, seen.decision) is not True:
                return False
        self.sequence += 1
        _put(self._seen, decision.session_id, _Seen(without_details(decision), self.sequence), _MAX_DECISIONS)
        return True

    def request_to_answer(self, *decisions: Decision | None) -> Decision | None:
        """Return the latest request for resubmission among decisions that no submission has answered yet."""
        latest: Decision | None = None
        for decision in decisions:
            if decision is None or decision.status != Status.RESUBMISSION_REQUESTED or self.is_answered(decision):
                continue
            if latest is None or is_later(decision, latest) is True:
                latest = decision
        return latest


def _put(entries: OrderedDict[str, _T], session_id: str, value: _T, max_entries: int) -> None:
    entries[session_id] = value
    entries.move_to_end(session_id)
    if len(entries) > max_entries:
        entries.popitem(last=False)
