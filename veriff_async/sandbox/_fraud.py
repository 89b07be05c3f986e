"""The feedback API: customers report frauds, and each report is accepted or refused by itself. Pure.

Documented: forms and limits (https://devdocs.veriff.com/apidocs/report-fraud). Guesses: that only sessions with a
decision can be reported, and the texts of the details.
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
    from collections.abc import Callable, Iterable, Mapping

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._records import Session

__all__ = ("FraudReports",)

_PER_MINUTE: Final = 1000


class FraudReports:
    """The reports of one integration."""

    def __init__(self, find: Callable[[str], Session | None], *, new_id: Callable[[], str]) -> None:
        """Start without reports."""
        self._find = find
        self._new_id = new_id
        self._reports: dict[str, FraudReportDetails] = {}
        self._requests: deque[datetime] = deque()

    def clear(self) -> None:
        """Forget all reports and requests."""
        self._reports.clear()
        self._requests.clear()

    @property
    def reports(self) -> dict[str, FraudReportDetails]:
        """The reports, by session."""
        return dict(self._reports)

    @property
    def requests(self) -> tuple[datetime, ...]:
        """Times of the requests that count for the limit."""
        return tuple(self._requests)

    def restore(self, reports: Mapping[str, FraudReportDetails], requests: Iterable[datetime]) -> None:
        """Replace the reports and the times of requests."""
        self._reports, self._requests = dict(reports), deque(requests)

    def count_request(self, now: datetime) -> None:
        """Count a request, and refuse it if there were too many within a minute."""
        # A sliding window (a guess): the documents name the limit, not the kind of window.
        while self._requests and self._requests[0] <= now - timedelta(minutes=1):
            self._requests.popleft()
        if len(self._requests) >= _PER_MINUTE:
            raise HTTPError(429, "RATE_LIMIT_EXCEEDED", f"Limit is {_PER_MINUTE} requests per minute")
        self._requests.append(now)

    def categories(self) -> JsonObject:
        """Answer ``GET /v1/feedback/fraud-categories``."""
        infos = (FraudCategoryInfo(category=name, description=name.replace("_", " ")) for name in FraudCategory)
        return {"categories": [to_json(info) for info in infos]}

    def report(self, body: JsonObject, *, now: datetime) -> JsonObject:
        """Answer ``POST /v1/feedback/fraud-reports``."""
        reports = [as_object(report) for report in as_list(body.get("reports"))]
        if not reports:
            raise _invalid("reports must be a list of one or more")
        # All reports are checked before the first is filed, so that a refused request changes nothing.
        checked: list[JsonObject] = []
        for report in reports:
            if report is None or not isinstance(report.get("sessionId"), str):
                raise _invalid("sessionId must be a string")
            comment = report.get("comment")
            if comment is not None and (not isinstance(comment, str) or len(comment) > MAX_FRAUD_COMMENT):
                raise _invalid(f"comment must be a string of up to {MAX_FRAUD_COMMENT} characters")
            checked.append(report)
        return {"reports": [to_json(self._file(report, now)) for report in checked]}

    def retrieve(self, body: JsonObject) -> JsonObject:
        """Answer ``POST /v1/feedback/fraud-reports/retrieve``."""
        session_ids = [item for item in as_list(body.get("sessionIds")) if isinstance(item, str)]
        if not 1 <= len(session_ids) <= MAX_FRAUD_SESSIONS:
            raise _invalid(f"sessionIds must be a list of 1 to {MAX_FRAUD_SESSIONS}")
        return {"reports": [to_json(self._look_up(session_id)) for session_id in session_ids]}

    def _file(self, report: JsonObject, now: datetime) -> FraudReportReceipt:
        session_id = str(report["sessionId"])
        categories = [FraudCategory(str(item)) for item in as_list(report.get("categories"))]
        session = self._find(session_id)
        problem = None
        if not categories or len(set(categories)) < len(categories) or not all(item.known for item in categories):
            problem = "Invalid categories"
        elif session is None:
            problem = "Session not found"
        elif session.decision is None and session.full_auto is None:
            problem = "Session is in a state that cannot be reported"
        elif session_id in self._reports:
            problem = "Report already exists"
        # Reports are independent: an invalid one is an item of the response, not an error.
        if problem is not None or session is None:
            return FraudReportReceipt(session_id=session_id, status=ReportStatus.ERROR, details=problem)
        comment = report.get("comment")
        details = FraudReportDetails(
            report_id=self._new_id(),
            session_id=session_id,
            status="reported",
            verified_at=session.created_at,
            reported_at=now,
            fraud_type_reported=tuple(categories),
            customer_comment=comment if isinstance(comment, str) else None,
            initial_decision=str(session.status),
            reset_fp=False,
        )
        self._reports[session_id] = details
        return FraudReportReceipt(session_id=session_id, status=ReportStatus.REPORTED, report_id=details.report_id)

    def _look_up(self, session_id: str) -> FraudReportLookup:
        details = self._reports.get(session_id)
        if details is None:
            return FraudReportLookup(
                session_id=session_id, status=LookupStatus.NOT_FOUND, error_message="Report not found"
            )
        return FraudReportLookup(session_id=session_id, status=LookupStatus.FOUND, details=details)


def _invalid(message: str) -> HTTPError:
    return HTTPError(400, "1104", message)
