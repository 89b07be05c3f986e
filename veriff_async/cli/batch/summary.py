"""Counts the jobs of a batch by state."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from attrs import define, field

from veriff_async import DecisionTimeoutError, SessionLimitError
from veriff_async.batch import JobState
from veriff_async.cli._runtime import ExitCode
from veriff_async.cli.batch.results import error_type_of

if TYPE_CHECKING:
    from veriff_async.batch import JobResult

__all__ = ("MAX_LISTED", "JobCounts")

MAX_LISTED: Final = 20
"""Limit of job ids that are listed: a batch may have a million jobs."""


@define
class JobCounts:
    """Counts jobs by state and detail."""

    is_submission: bool = False
    counts: Counter[tuple[JobState, str]] = field(factory=Counter[tuple[JobState, str]])
    unknown_ids: list[str] = field(factory=list[str])

    def add(self, result: JobResult) -> None:
        """Count the result of a job."""
        status = result.decision and str(result.decision.status)
        self.count(result.state, status or error_type_of(result) or "", result.job_id)

    def count(self, state: JobState, detail: str, job_id: str) -> None:
        """Count a job; `detail` is the status of its decision or the type of its error."""
        self.counts[state, detail] += 1
        if state is JobState.UNKNOWN and len(self.unknown_ids) < MAX_LISTED:
            self.unknown_ids.append(job_id)

    @property
    def total(self) -> int:
        """Number of jobs."""
        return self.counts.total()

    @property
    def unknown_count(self) -> int:
        """Number of jobs whose session may or may not exist."""
        return sum(count for (state, _), count in self.counts.items() if state is JobState.UNKNOWN)

    @property
    def left(self) -> int:
        """Number of jobs that got no session, because of a limit."""
        return sum(count for (_, detail), count in self.counts.items() if detail == SessionLimitError.__name__)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code: done if all jobs reached the expected state."""
        if self.left:
            return ExitCode.BUDGET_SPENT
        return ExitCode.DONE if all(self._is_done(*pair) for pair in self.counts) else ExitCode.REFUSED

    @property
    def is_late(self) -> bool:
        """Whether the only problem is that decisions did not come in time."""
        # Without a detail when counted from the journal, which does not have the errors of waits.
        late = {DecisionTimeoutError.__name__, ""}
        others = [pair for pair in self.counts if not self._is_done(*pair)]
        return bool(others) and all(state is JobState.SUBMITTED and detail in late for state, detail in others)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return steps, details and counts, in the order of a job's steps."""
        order = list(JobState)
        pairs = sorted(self.counts.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0][1]))
        return [(str(state), detail, str(count)) for (state, detail), count in pairs]

    def document(self) -> list[dict[str, object]]:
        """Return the rows for the JSON document."""
        return [{"state": state, "detail": detail or None, "jobs": int(count)} for state, detail, count in self.rows()]

    def _is_done(self, state: JobState, detail: str) -> bool:
        return state is JobState.DECIDED or (self.is_submission and state is JobState.SUBMITTED and not detail)
