"""Reports to Veriff about fraud that you found after a session was decided."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import cast

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import JsonObject

__all__ = (
    "FraudCategory",
    "FraudCategoryInfo",
    "FraudReport",
    "FraudReportDetails",
    "FraudReportLookup",
    "FraudReportReceipt",
    "LookupStatus",
    "ReportStatus",
)


class FraudCategory(OpenEnum):
    """Category of a fraud (https://devdocs.veriff.com/apidocs/get-fraud-categories)."""

    DOCUMENT_IS_MANIPULATED = "document_is_manipulated"
    DOCUMENT_SHOWN_FROM_SCREEN = "document_shown_from_screen"
    DOCUMENT_IS_PRINTED_COPY = "document_is_printed_copy"
    SELFIE_SHOWN_FROM_SCREEN = "selfie_shown_from_screen"
    SELFIE_IS_MANIPULATED = "selfie_is_manipulated"
    SELFIE_DOCUMENT_PORTRAIT_MISMATCH = "selfie_document_portrait_mismatch"
    INJECTED_MEDIA = "injected_media"


class ReportStatus(OpenEnum):
    """Whether Veriff accepted a report."""

    REPORTED = "reported"
    ERROR = "error"


class LookupStatus(OpenEnum):
    """Whether there is a report about a session."""

    FOUND = "FOUND"
    NOT_FOUND = "NOT_FOUND"


@frozen(kw_only=True)
class FraudCategoryInfo(Model):
    """A category of fraud with its description."""

    category: FraudCategory
    description: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


def _to_categories(given: Iterable[FraudCategory | str]) -> tuple[FraudCategory, ...]:
    if isinstance(given, str):
        return (FraudCategory(given),)
    # Values of other types are kept here, because the request that sends them has the better error message.
    value: object = given
    items = tuple(cast("Iterable[object]", value)) if isinstance(value, Iterable) else (value,)
    return tuple(FraudCategory(item) if isinstance(item, str) else cast("FraudCategory", item) for item in items)


@frozen
class FraudReport(Model):
    """A fraud to report (https://devdocs.veriff.com/apidocs/report-fraud).

    Args:
        session_id: The session.
        categories: Its categories, at least one.
        comment: A text of up to 500 characters.
    """

    session_id: str
    categories: tuple[FraudCategory, ...] = field(converter=_to_categories)
    comment: str | None = field(default=None, kw_only=True, repr=False)


@frozen(kw_only=True)
class FraudReportReceipt(Model):
    """The result of one report. Others of the same call may have another result.

    Attributes:
        session_id: The session.
        status: Whether Veriff accepted it.
        report_id: Its id, if it was accepted.
        details: The reason, if it was not accepted.
    """

    session_id: str
    status: ReportStatus
    report_id: str | None = None
    details: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def is_reported(self) -> bool:
        """Return whether Veriff accepted the report."""
        return self.status == ReportStatus.REPORTED


@frozen(kw_only=True)
class FraudReportDetails(Model):
    """The status of a report (https://devdocs.veriff.com/apidocs/retrieve-fraud-reports)."""

    report_id: str | None = None
    session_id: str | None = None
    reported_by: str | None = field(default=None, repr=False)
    status: str | None = None
    verified_at: datetime | None = None
    reported_at: datetime | None = None
    reviewed_at: datetime | None = None
    fraud_type_reported: tuple[FraudCategory, ...] = ()
    customer_comment: str | None = field(default=None, repr=False)
    initial_decision: str | None = None
    final_decision: str | None = None
    review_decision: str | None = None
    reset_fp: bool | None = None
    decision_error_description: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class FraudReportLookup(Model):
    """The report about one session, if there is one."""

    session_id: str
    status: LookupStatus
    details: FraudReportDetails | None = None
    error_message: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
