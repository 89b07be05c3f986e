"""Questions about a session, and their answers."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import JsonObject

__all__ = ("Insight", "InsightCategory", "InsightResult")


class InsightResult(OpenEnum):
    """The answer to one question about a session."""

    YES = "yes"
    LIKELY_YES = "likelyYes"
    NO = "no"
    NOT_APPLICABLE = "notApplicable"


class InsightCategory(OpenEnum):
    """The subject of a question."""

    DOCUMENT = "document"
    BIOMETRIC = "biometric"
    FRAUD = "fraud"


@frozen(kw_only=True)
class Insight(Model):
    """One question about a session, and its answer; `label` is the question, for example ``faceLiveness``."""

    label: str
    result: InsightResult | None = None
    category: InsightCategory | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
