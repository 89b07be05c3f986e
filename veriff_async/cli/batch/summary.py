"""What came of a batch, counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from attrs import define, field

from veriff_async import DecisionTimeoutError
from veriff_async.batch import JobState
from veriff_async.cli._exits import Exit
from veriff_async.cli.batch.results import kind_of

if TYPE_CHECKING:
    from veriff_async.batch import JobResult

__all__ = ("FEW", "Outcomes")

FEW: Final = 20
"""Jobs that are named one by one; there may be a million."""


@define
class Outcomes:
    """Counts jobs by the state where they stand, and by what is known of it.

    Attributes:
        is_submission: Whether a job is done when it is submitted.
        counts: How many jobs have a state and a status, or a state and an error's class.
        doubtful: Some of the jobs whose session may or may not exist.
    """

    is_submission: bool = False
    counts: Counter[tuple[JobState, str]] = field(factory=Counter[tuple[JobState, str]])
    doubtful: list[str] = field(factory=list[str])

    def add(self, result: JobResult) -> None:
        """Count a job."""
        known = result.decision and str(result.decision.status)
        self.count(result.state, known or kind_of(result) or "", result.job_id)

    def count(self, state: JobState, detail: str, job_id: str) -> None:
        """Count a job by what is known of it."""
        self.counts[state, detail] += 1
        if state is JobState.UNKNOWN and len(self.doubtful) < FEW:
            self.doubtful.append(job_id)

    @property
    def total(self) -> int:
        """How many jobs were counted."""
        return self.counts.total()

    @property
    def in_doubt(self) -> int:
        """How many jobs have a session that may or may not exist."""
        return sum(count for (state, _), count in self.counts.items() if state is JobState.UNKNOWN)

    @property
    def exit(self) -> Exit:
        """What it is to the shell: done when all jobs came to where they should."""
        return Exit.DONE if all(self._is_done(*pair) for pair in self.counts) else Exit.REFUSED

    @property
    def is_late(self) -> bool:
        """Tell whether nothing is the matter but that decisions did not come in time."""
        late = {DecisionTimeoutError.__name__, ""}
        others = [pair for pair in self.counts if not self._is_done(*pair)]
        return bool(others) and all(state is JobState.SUBMITTED and detail in late for state, detail in others)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return steps, details and counts, in the order of a job's steps."""
        order = list(JobState)
        pairs = sorted(self.counts.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0][1]))
        return [(str(state), detail, str(count)) for (state, detail), count in pairs]

    def document(self) -> list[dict[str, object]]:
        """Return the same for programs."""
        return [{"state": state, "detail": detail or None, "jobs": int(count)} for state, detail, count in self.rows()]

    def _is_done(self, state: JobState, detail: str) -> bool:
        return state is JobState.DECIDED or (self.is_submission and state is JobState.SUBMITTED and not detail)
