"""The life of a session as one table: which state may follow which, and which is the end.

https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1 and the page of ``DELETE /v1/sessions/{id}`` name the states;
that a resubmission opens a new attempt on the same session is documented, and a correction of a final decision by
Veriff itself is known to happen.
"""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from veriff_async.models.enums import Status

if TYPE_CHECKING:
    from datetime import datetime

    from veriff_async.models.decision import Decision

__all__ = ("DECIDED", "FINAL", "OPEN_FOR_MEDIA", "can_follow", "identity", "is_final", "is_later", "is_news", "is_same")

FINAL: Final = frozenset({Status.APPROVED, Status.DECLINED, Status.EXPIRED, Status.ABANDONED})
"""States after which the session is over; a new try needs a new session."""

DECIDED: Final = FINAL | {Status.RESUBMISSION_REQUESTED, Status.REVIEW}
"""States that come as a decision, by webhook and by ``GET /decision``."""

OPEN_FOR_MEDIA: Final = frozenset({Status.CREATED, Status.STARTED, Status.RESUBMISSION_REQUESTED})
"""States in which pictures can be uploaded; for `RESUBMISSION_REQUESTED`, to the attempt that it opened (a guess)."""

_NEXT: Final[dict[Status, frozenset[Status]]] = {
    Status.CREATED: frozenset({Status.STARTED, Status.INFLOW_COMPLETED, Status.SUBMITTED}) | DECIDED,
    Status.STARTED: frozenset({Status.INFLOW_COMPLETED, Status.SUBMITTED}) | DECIDED,
    Status.INFLOW_COMPLETED: frozenset({Status.SUBMITTED}) | DECIDED,
    Status.SUBMITTED: DECIDED,
    Status.REVIEW: DECIDED - {Status.REVIEW},
    Status.RESUBMISSION_REQUESTED: frozenset({Status.STARTED, Status.SUBMITTED}) | DECIDED,
    # A correction: Veriff alone can make one (https://help.veriff.com, article 3250250).
    Status.APPROVED: frozenset({Status.DECLINED}),
    Status.DECLINED: frozenset({Status.APPROVED}),
    Status.EXPIRED: frozenset(),
    Status.ABANDONED: frozenset(),
}


def is_final(status: Status) -> bool:
    """Tell whether nothing but a correction by Veriff can follow; an unknown state is never final."""
    return status in FINAL


def can_follow(state: Status, observed: Status) -> bool:
    """Tell whether `observed` is news after `state`, rather than late or repeated.

    A word that the table does not know is taken as news, unless the session is over.
    """
    if state not in _NEXT or observed not in _NEXT:
        return not is_final(state)
    return observed in _NEXT[state]


def is_news(decision: Decision, last: Decision | None) -> bool:
    """Tell whether a decision is worth waking for, given the last one that was acted on.

    After a request for resubmission the same decision is still shown for a while; every other one stands, however
    often it is asked for.
    """
    if last is None or last.status != Status.RESUBMISSION_REQUESTED:
        return True
    return not is_same(decision, last)


_PRECISION: Final = timedelta(milliseconds=1)
"""Webhooks were seen with milliseconds and ``GET /decision`` with microseconds, for one and the same decision."""


def is_same(decision: Decision, other: Decision) -> bool:
    """Return whether two messages report one decision on a session.

    The moment may have milliseconds in one and microseconds in the other, and one of them may lack the attempt or, if
    both name the attempt, the moment.
    """
    if decision.status != other.status:
        return False
    attempts, times = {decision.attempt_id, other.attempt_id}, (decision.decision_time, other.decision_time)
    if None in times and times != (None, None):
        return len(attempts) == 1 and None not in attempts
    return (len(attempts) == 1 or None in attempts) and is_later(decision, other) is None


def is_later(decision: Decision, other: Decision) -> bool | None:
    """Compare the times of two decisions; ``None`` when they do not show the order."""
    second, first = _utc(decision.decision_time), _utc(other.decision_time)
    if first is None or second is None or abs(second - first) < _PRECISION:
        return None
    return second > first


def _utc(moment: datetime | None) -> datetime | None:
    # A decision that a program made by hand may have a moment without an offset; Veriff's are all in UTC.
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def identity(decision: Decision) -> tuple[object, ...]:
    """Return a cheap key of a decision; `is_same` also recognises messages with fewer details."""
    return decision.attempt_id, decision.status, decision.decision_time
