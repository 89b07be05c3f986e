"""The result of a check of the connection to Veriff, of `VeriffClient.check` and of the command ``doctor``."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from attrs import frozen

from veriff_async.models.base import Model

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("CheckOutcome", "CheckReport", "CheckResult")


class CheckOutcome(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@frozen
class CheckResult(Model):
    """The result of one check. It never contains a secret.

    Attributes:
        name: The check: ``response``, ``clock``, ``credentials`` or ``response signature``.
        outcome: The outcome.
        message: One sentence, with a remedy unless the outcome is ``ok``.
    """

    name: str
    outcome: CheckOutcome
    message: str

    @classmethod
    def skip(cls, name: str, because: str) -> CheckResult:
        """Return the result of a check that was not possible because another one failed."""
        return cls(name, CheckOutcome.SKIPPED, f"Not checked: {because}.")


@frozen(kw_only=True)
class CheckReport(Model):
    """The results of all checks of one request to Veriff.

    Attributes:
        results: One result for each check, in this order: ``response``, ``clock``, ``credentials`` and ``response
            signature``.
        checked_at: When the request ended, by the clock of this machine.
        latency: Seconds from the request, with a connection of its own, to the end of the response; ``None`` without a
            response.
        clock_skew: Seconds by which the clock of this machine is ahead of Veriff's, negative if it is behind; zero if
            they agree as far as the ``Date`` header can show, and ``None`` without one.
    """

    results: tuple[CheckResult, ...]
    checked_at: datetime
    latency: float | None = None
    clock_skew: float | None = None

    @property
    def ok(self) -> bool:
        """Whether no check failed. A warning does not count, because Veriff accepts the requests all the same."""
        return all(result.outcome is not CheckOutcome.FAILED for result in self.results)

    def to_dict(self) -> dict[str, object]:
        """Return the report with `ok` for JSON, for example as the body of a readiness probe."""
        return {"ok": self.ok, **super().to_dict()}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: Callable[[object], dict[str, object]]) -> object:
        members = cast("dict[str, dict[str, object]]", super().__get_pydantic_json_schema__(schema, handler))
        added = {"ok": {"type": "boolean", "description": "Whether no check failed."}}
        return {**members, "properties": added | members["properties"]}
