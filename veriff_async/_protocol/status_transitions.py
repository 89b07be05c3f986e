"""The statuses of a session: which can follow which, which are final, and how two decisions compare.

`session_state` applies these rules to events. This module imports no event classes, because clients that poll without
an inbox need only the rules.

https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1 and the page of ``DELETE /v1/sessions/{id}`` name the
statuses. It is documented that a resubmission opens a new attempt in the same session, and known that Veriff sometimes
corrects a final decision.
"""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from veriff_async.models.enums import Status

if TYPE_CHECKING:
    from datetime import datetime

    from veriff_async.models.decision import Decision

__all__ = (
    "DECIDED",
    "FINAL",
    "OPEN_FOR_MEDIA",
    "can_follow",
    "identity",
    "is_final",
    "is_later",
    "is_news",
    "is_same",
    "without_details",
)

FINAL: Final = frozenset({Status.APPROVED, Status.DECLINED, Status.EXPIRED, Status.ABANDONED})
"""Statuses that end the session. Another verification needs a new session."""

DECIDED: Final = FINAL | {Status.RESUBMISSION_REQUESTED, Status.REVIEW}
"""Statuses that Veriff reports as a decision, by webhook and by ``GET /decision``."""

OPEN_FOR_MEDIA: Final = frozenset({Status.CREATED, Status.STARTED, Status.RESUBMISSION_REQUESTED})
"""Statuses that accept media. In `RESUBMISSION_REQUESTED` they go to the new attempt, which is a guess."""

# Webhooks can be late or lost, so steps may be skipped: a decision can follow every status before it.
_NEXT: Final[dict[Status, frozenset[Status]]] = {
    Status.CREATED: frozenset({Status.STARTED, Status.INFLOW_COMPLETED, Status.SUBMITTED}) | DECIDED,
    Status.STARTED: frozenset({Status.INFLOW_COMPLETED, Status.SUBMITTED}) | DECIDED,
    Status.INFLOW_COMPLETED: frozenset({Status.SUBMITTED}) | DECIDED,
    Status.SUBMITTED: DECIDED,
    Status.REVIEW: DECIDED - {Status.REVIEW},
    Status.RESUBMISSION_REQUESTED: frozenset({Status.STARTED, Status.SUBMITTED}) | DECIDED,
    # A correction, which only Veriff can make (https://help.veriff.com, article 3250250).
    Status.APPROVED: frozenset({Status.DECLINED}),
    Status.DECLINED: frozenset({Status.APPROVED}),
    Status.EXPIRED: frozenset(),
    Status.ABANDONED: frozenset(),
}


def is_final(status: Status) -> bool:
    """Return whether only a correction by Veriff can follow. An unknown status is never final."""
    return status in FINAL


def can_follow(status: Status, observed: Status) -> bool:
    """Return whether `observed` is a step forward from `status`, rather than stale or a duplicate.

    A status that the table does not contain is a step forward, unless the session is final.
    """
    if status not in _NEXT or observed not in _NEXT:
        return not is_final(status)
    return observed in _NEXT[status]


def is_news(decision: Decision, last: Decision | None) -> bool:
    """Return whether a waiter should wake for a decision, given the last decision that its caller acted on.

    After a resubmission request, ``GET /decision`` keeps showing that request until the new attempt is decided. Any
    other decision wakes the waiter, however often it is requested.
    """
    if last is None or last.status != Status.RESUBMISSION_REQUESTED:
        return True
    return not is_same(decision, last)


# For the same decision, webhooks were seen with milliseconds and ``GET /decision`` with microseconds.
_PRECISION: Final = timedelta(milliseconds=1)


def is_same(decision: Decision, other: Decision) -> bool:
    """Return whether two messages report the same decision on a session.

    The decision time may have milliseconds in one message and microseconds in the other. One message may lack the
    attempt or, if both name the attempt, the decision time.
    """
    if decision.status != other.status:
        return False
    attempts, times = {decision.attempt_id, other.attempt_id}, (decision.decision_time, other.decision_time)
    if None in times and times != (None, None):
        return len(attempts) == 1 and None not in attempts
    return (len(attempts) == 1 or None in attempts) and is_later(decision, other) is None


def is_later(decision: Decision, other: Decision) -> bool | None:
    """Return whether a decision was made after another, or ``None`` when their times do not show the order."""
    second, first = _utc(decision.decision_time), _utc(other.decision_time)
    if first is None or second is None or abs(second - first) < _PRECISION:
        return None
    return second > first


def _utc(moment: datetime | None) -> datetime | None:
    # A decision that a program constructs may have a naive time. All of Veriff's times are in UTC.
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def identity(decision: Decision) -> tuple[object, ...]:
    """Return a cheap key of a decision. Unlike `is_same`, it does not match messages with fewer details."""
    return decision.attempt_id, decision.status, decision.decision_time


def without_details(decision: Decision) -> Decision:
    """Return a decision with only its identifying fields, without personal data."""
    from veriff_async.models.decision import Decision

    return Decision(
        session_id=decision.session_id,
        attempt_id=decision.attempt_id,
        status=decision.status,
        decision_time=decision.decision_time,
    )
