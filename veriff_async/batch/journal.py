"""The interface of journals: a batch saves the state of each job before each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from veriff_async._protocol.arguments import type_name
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from veriff_async.batch._records import JobRecord, JobState
    from veriff_async.batch._session_limits import SessionLimits, SessionUsage

__all__ = ("ErasableJournal", "Journal", "check_journal")


class Journal(Protocol):
    """A store of job records, each of which only the run that claimed it may write.

    A record survives a crash once `write` has returned. Every method raises `JournalError` when the store fails.
    Use `dump_record` and `load_record` to store records in a journal of your own, and
    `veriff_async.testing.JournalContract` to test it.
    """

    async def claim(self, job_id: str) -> JobRecord | None:
        """Claim a job for this run, and return its record, if it has one.

        The claim ends with `release`, `aclose`, or the death of the process.

        Raises:
            JobClaimedError: Another run that is alive, or this one, has claimed the job.
        """
        ...

    async def release(self, job_id: str) -> None:
        """Release a claim; do nothing if this journal does not hold it."""
        ...

    async def write(self, record: JobRecord) -> None:
        """Replace a job's record; the new one is durable when this returns.

        Raises:
            JobClaimedError: This run does not hold the claim, or has lost it; nothing was written.
        """
        ...

    async def reserve(self, record: JobRecord, limits: SessionLimits) -> SessionUsage:
        """Write a record with one more creation than before, unless the limits forbid it; both are one step.

        The sum of `JobRecord.creations` is what `SessionLimits.max_sessions` limits, and the journal keeps the time at
        which `reserve` or `write` stored each of them. A record with fewer creations takes the newest ones back.

        Returns:
            The usage with this creation and ``retry_after=0``, or, if nothing was written, how long to wait.

        Raises:
            JobClaimedError: See `write`.
        """
        ...

    async def session_usage(self, limits: SessionLimits) -> SessionUsage:
        """Return how many sessions were created, and when the limits permit another one."""
        ...

    async def read(self, job_id: str) -> JobRecord | None:
        """Return a job's record, also if another run has claimed it."""
        ...

    def iter_records(self, *states: JobState) -> AsyncIterator[JobRecord]:
        """Yield the records in these states, or all records, oldest job first.

        A record that changes during the iteration may or may not occur; any other record occurs exactly once.

        Raises:
            JournalError: The records cannot be read. If this holds for some of them alone, it is raised after all
                others.
        """
        ...

    async def count_by_state(self) -> Mapping[JobState, int]:
        """Return how many jobs are in each state; states without jobs may be left out."""
        ...

    async def aclose(self) -> None:
        """Release all claims and close the store; a second call does nothing."""
        ...


@runtime_checkable
class ErasableJournal(Journal, Protocol):
    """A journal that can erase the records of persons; the method is optional."""

    async def erase(self, session_ids: Collection[str]) -> int:
        """Delete the records of jobs that have one of these sessions, and return how many there were.

        Neither the store's files nor their free parts hold anything of the records when this returns. Their creations
        stay counted, without the jobs' ids, so that the limits of `SessionLimits` hold. A job that is passed again
        afterwards is new, and creates another session: remove it from the input first.

        Raises:
            JobClaimedError: An active run has claimed one of the jobs; some of the others may be erased.
            JournalError: Some may not have been erased; call it again.
            InvalidArgumentError: An argument is of a wrong type.
        """
        ...


def check_journal(journal: object) -> None:
    """Refuse a value that would otherwise fail only at its first use, such as the path of a journal.

    Raises:
        InvalidArgumentError: It is not a journal.
    """
    names = ("claim", "release", "write", "reserve", "session_usage", "read", "iter_records")
    missing = [name for name in names if not callable(getattr(journal, name, None))]
    if isinstance(journal, type) or missing:
        remedy = 'pass for example SqliteJournal("batch.db")'
        if len(missing) < len(names) and not isinstance(journal, type):
            remedy = f"give it the method {missing[0]}"
        msg = f"journal must be a Journal, not {type_name(journal)}: {remedy}."
        raise InvalidArgumentError(msg)
