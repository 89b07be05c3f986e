"""Where a batch writes down what it does, before and after it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from veriff_async.batch._records import JobRecord, JobState

__all__ = ("Journal",)


class Journal(Protocol):
    """A store of records, each of which one run may write at a time.

    What `write` has returned from survives a crash. Any method raises `JournalError` when the store fails.
    """

    async def claim(self, job_id: str) -> JobRecord | None:
        """Take a job for this run, and return what is written of it.

        The claim ends with `release`, `aclose`, or the death of the process.

        Raises:
            JobClaimedError: A run that is alive has it, perhaps this one.
        """
        ...

    async def release(self, job_id: str) -> None:
        """Give a claim back; one that is not held is left alone."""
        ...

    async def write(self, record: JobRecord) -> None:
        """Put a record in the place of the job's last; it is durable when this returns.

        Raises:
            JobClaimedError: This run does not hold the claim, or does no longer; nothing was written.
        """
        ...

    async def read(self, job_id: str) -> JobRecord | None:
        """Return what is written of a job, which anybody may have claimed."""
        ...

    def iter_records(self, *states: JobState) -> AsyncIterator[JobRecord]:
        """Yield the records that stand at one of some steps, or all, those that were begun first first.

        What changes meanwhile may come or not; what does not change comes exactly once.
        """
        ...

    async def count_by_state(self) -> Mapping[JobState, int]:
        """Return how many jobs stand at each step; steps at which none stands may be left out."""
        ...

    async def aclose(self) -> None:
        """Give all claims back and close the store; a second call does nothing."""
        ...
