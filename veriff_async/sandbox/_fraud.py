"""The feedback API: frauds that customers report, each taken or refused on its own. Pure.

Forms and limits as documented (https://devdocs.veriff.com/apidocs/report-fraud). Which sessions can be reported is not;
that they must have a decision is a guess, and so are the words of the details.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.json.encode import to_json
from veriff_async._protocol.limits import MAX_FRAUD_COMMENT, MAX_FRAUD_SESSIONS
from veriff_async.models.feedback import (
    FraudCategory,
    FraudCategoryInfo,
    FraudReportDetails,
    FraudReportLookup,
    FraudReportReceipt,
    LookupStatus,
    ReportStatus,
)
from veriff_async.models.json import as_list, as_object
from veriff_async.sandbox._errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._records import Session

__all__ = ("FraudReports",)

_PER_MINUTE: Final = 1000


class FraudReports:
    """The reports of one integration."""

    def __init__(self, find: Callable[[str], Session | None], *, new_id: Callable[[], str]) -> None:
        """Take where sessions are found, and where ids come from."""
        self._find = find
        self._new_id = new_id
        self._reports: dict[str, FraudReportDetails] = {}
        self._requests: deque[datetime] = deque()

    def count_request(self, now: datetime) -> None:
        """Count a request, and refuse it when there were too many within a minute."""
        while self._requests and self._requests[0] <= now - timedelta(minutes=1):
            self._requests.popleft()
        if len(self._requests) >= _PER_MINUTE:
            raise HTTPError(429, "RATE_LIMIT_EXCEEDED", f"Limit is {_PER_MINUTE} requests per minute")
        self._requests.append(now)

    def categories(self) -> JsonObject:
        """Answer ``GET /v1/feedback/fraud-categories``."""
        known = (FraudCategoryInfo(category=each, description=each.replace("_", " ")) for each in FraudCategory)
        return {"categories": [to_json(info) for info in known]}

    def report(self, body: JsonObject, *, now: datetime) -> JsonObject:
        """Answer ``POST /v1/feedback/fraud-reports``."""
        reports = [as_object(report) for report in as_list(body.get("reports"))]
        if not reports:
            raise _invalid("reports must be a list of one or more")
        # All are checked before the first is taken.
        checked: list[JsonObject] = []
        for report in reports:
            if report is None or not isinstance(report.get("sessionId"), str):
                raise _invalid("sessionId must be a string")
            comment = report.get("comment")
            if comment is not None and (not isinstance(comment, str) or len(comment) > MAX_FRAUD_COMMENT):
                raise _invalid(f"comment must be a string of up to {MAX_FRAUD_COMMENT} characters")
            checked.append(report)
        return {"reports": [to_json(self._take(report, now)) for report in checked]}

    def retrieve(self, body: JsonObject) -> JsonObject:
        """Answer ``POST /v1/feedback/fraud-reports/retrieve``."""
        asked = [each for each in as_list(body.get("sessionIds")) if isinstance(each, str)]
        if not 1 <= len(asked) <= MAX_FRAUD_SESSIONS:
            raise _invalid(f"sessionIds must be a list of 1 to {MAX_FRAUD_SESSIONS}")
        return {"reports": [to_json(self._look_up(session_id)) for session_id in asked]}

    def _take(self, report: JsonObject, now: datetime) -> FraudReportReceipt:
        session_id = str(report["sessionId"])
        named = [FraudCategory(str(each)) for each in as_list(report.get("categories"))]
        session = self._find(session_id)
        why = None
        if not named or len(set(named)) < len(named) or not all(each.known for each in named):
            why = "Invalid categories"
        elif session is None:
            why = "Session not found"
        elif session.decision is None and session.full_auto is None:
            why = "Session is in a state that cannot be reported"
        elif session_id in self._reports:
            why = "Report already exists"
        if why is not None or session is None:
            return FraudReportReceipt(session_id=session_id, status=ReportStatus.ERROR, details=why)
        comment = report.get("comment")
        filed = FraudReportDetails(
            report_id=self._new_id(),
            session_id=session_id,
            status="reported",
            verified_at=session.created_at,
            reported_at=now,
            fraud_type_reported=tuple(named),
            customer_comment=comment if isinstance(comment, str) else None,
            initial_decision=str(session.status),
            reset_fp=False,
        )
        self._reports[session_id] = filed
        return FraudReportReceipt(session_id=session_id, status=ReportStatus.REPORTED, report_id=filed.report_id)

    def _look_up(self, session_id: str) -> FraudReportLookup:
        filed = self._reports.get(session_id)
        if filed is None:
            return FraudReportLookup(
                session_id=session_id, status=LookupStatus.NOT_FOUND, error_message="Report not found"
            )
        return FraudReportLookup(session_id=session_id, status=LookupStatus.FOUND, details=filed)


def _invalid(message: str) -> HTTPError:
    return HTTPError(400, "1104", message)
