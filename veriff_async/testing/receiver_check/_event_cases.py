"""Cases about the kinds of webhooks: each is accepted, unknown ones too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from veriff_async.sandbox._records import WebhookKind
from veriff_async.testing.receiver_check import _fixes
from veriff_async.testing.receiver_check._case import CaseGroup, CaseSeverity, RunnableCase
from veriff_async.testing.receiver_check._judge import judge_accepted
from veriff_async.testing.receiver_check._sources import CHANGES_PAGE, RETRIES_PAGE, SEEN, WEBHOOKS_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.testing.receiver_check._case import Finding
    from veriff_async.testing.receiver_check._context import CheckContext

__all__ = ("EVENT_CASES",)

_LOST: Final = "Veriff repeats a refused webhook about every hour for seven days, and then drops it."
_ELSEWHERE: Final = (
    "The Customer Portal has a field for each kind. Skip this case if another address receives this kind, or none does."
)


def _case(  # noqa: PLR0913  one for each part of a case
    name: str,
    sends: str,
    make: Callable[[CheckContext], dict[str, object]],
    *,
    severity: CaseSeverity = CaseSeverity.ERROR,
    why: str = _LOST,
    source: str = WEBHOOKS_PAGE,
) -> RunnableCase:
    async def run(context: CheckContext) -> Finding:
        return judge_accepted(await context.post(context.webhook(make(context))))

    return RunnableCase(
        name=name,
        group=CaseGroup.EVENTS,
        severity=severity,
        sends=sends,
        expects="accept it with 200",
        why=why,
        source=source,
        fix=_fixes.ANSWER_200,
        run=run,
    )


def _sample(kind: WebhookKind, status: str | None = None) -> Callable[[CheckContext], dict[str, object]]:
    return lambda context: context.sample(kind, status)


def _unknown_members(context: CheckContext) -> dict[str, object]:
    return {"addedLater": {"a": [1]}, **context.decision("approved", addedLater=None, anotherOne=["x"])}


def _null_members(context: CheckContext) -> dict[str, object]:
    body = context.decision("approved", vendorData=None, endUserId=None, reason=None, reasonCode=None)
    return {**body, "technicalData": {"ip": None}}


def _old_decision(context: CheckContext) -> dict[str, object]:
    time = (datetime.now(UTC) - timedelta(days=7)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return context.decision("approved", decisionTime=time, acceptanceTime=time)


def _unknown_kind(context: CheckContext) -> dict[str, object]:
    return {
        "eventType": "added-later",
        "sessionId": context.new_session(),
        "vendorData": context.options.vendor_data,
        "data": {},
    }


EVENT_CASES: Final = (
    # First, because the response to an ordinary decision decides how others are judged.
    *(
        _case(f"decision-{status.replace('_', '-')}", f"a decision: {status}", _sample(WebhookKind.DECISION, status))
        for status in ("approved", "declined", "resubmission_requested", "review", "expired", "abandoned")
    ),
    *(
        _case(
            f"event-{status}",
            f"the event that an attempt was {status}",
            _sample(WebhookKind.EVENT, status),
            severity=CaseSeverity.WARNING,
            why=_ELSEWHERE,
        )
        for status in ("started", "submitted")
    ),
    *(
        _case(str(kind), sends, _sample(kind), severity=CaseSeverity.WARNING, why=_ELSEWHERE)
        for kind, sends in (
            (WebhookKind.FULL_AUTO, "a decision without a human"),
            (WebhookKind.WATCHLIST, "the result of a watchlist screening"),
            (WebhookKind.USER_STATUS, "a status that a user of the Customer Portal set"),
            (WebhookKind.INE, "a result of Mexico's INE registry"),
            (WebhookKind.CURP, "a result of Mexico's CURP registry"),
            (WebhookKind.INE_CURP, "a result of both registries"),
        )
    ),
    _case(
        "unknown-kind",
        "a webhook of a kind that does not exist yet",
        _unknown_kind,
        why="Veriff may add kinds at any time. " + _LOST,
        source=CHANGES_PAGE,
    ),
    _case(
        "unknown-members",
        "a decision with members that do not exist yet",
        _unknown_members,
        why="Veriff may add members at any time. " + _LOST,
        source=CHANGES_PAGE,
    ),
    _case(
        "unknown-status",
        "a decision with a status and a code that do not exist yet",
        lambda context: context.decision("approved", status="added_later", code=9999),
        severity=CaseSeverity.WARNING,
        why="Statuses and codes were added before. " + _LOST,
        source=SEEN,
    ),
    _case(
        "null-members",
        "a decision with null in all members that may be null",
        _null_members,
        why="Members without a value are null. " + _LOST,
        source=SEEN,
    ),
    _case(
        "event-after-days",
        "a decision that is seven days old",
        _old_decision,
        why="After an outage of yours, Veriff delivers what it has kept, for up to seven days.",
        source=RETRIES_PAGE,
    ),
)
