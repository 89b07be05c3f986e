"""A journal in memory: it lasts as long as its process."""

from __future__ import annotations

import time
from collections import Counter
from secrets import token_hex
from typing import TYPE_CHECKING, Self

from attrs import evolve

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.counts import format_count
from veriff_async._protocol.inbox_arguments import check_session_ids
from veriff_async.batch._session_limits import CreationLog
from veriff_async.errors import JobClaimedError, JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping
    from types import TracebackType

    from veriff_async.batch._records import JobRecord, JobState
    from veriff_async.batch._session_limits import SessionLimits, SessionUsage

__all__ = ("MemoryJournal",)


class MemoryJournal:
    """Keeps records in memory: for tests, and for batches that need not resume after a crash.

    Example:
        >>> async for result in verify_many(veriff, jobs, journal=MemoryJournal()):
        ...     print(result.job_id, result.state)
    """

    def __init__(self) -> None:
        """Create an empty journal."""
        self._records: dict[str, JobRecord] = {}
        self._claims: set[str] = set()
        self._log = CreationLog()
        self._closed = False

    def __repr__(self) -> str:
        """Show the number of jobs."""
        return f"<MemoryJournal of {format_count(len(self._records), 'job')}>"

    async def __aenter__(self) -> Self:
        """Return the journal itself."""
        require_asyncio()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the journal."""
        await self.aclose()

    async def claim(self, job_id: str) -> JobRecord | None:
        """Claim a job; see `Journal.claim`."""
        require_asyncio()
        self._check_open()
        if job_id in self._claims:
            raise claimed_error(job_id)
        self._claims.add(job_id)
        return self._records.get(job_id)

    async def release(self, job_id: str) -> None:
        """Release a claim; see `Journal.release`."""
        require_asyncio()
        # Without a check: a run also releases its claims after the journal was closed.
        self._claims.discard(job_id)

    async def write(self, record: JobRecord) -> None:
        """Save a record; see `Journal.write`."""
        require_asyncio()
        self._check_open()
        self._write(record)

    async def reserve(self, record: JobRecord, limits: SessionLimits) -> SessionUsage:
        """Save a record if the limits permit it; see `Journal.reserve`."""
        usage = await self.session_usage(limits)
        if usage.retry_after:
            return usage
        self._write(record)
        return evolve(self._log.usage(limits, time.time()), retry_after=0.0)

    async def session_usage(self, limits: SessionLimits) -> SessionUsage:
        """Count sessions; see `Journal.session_usage`."""
        require_asyncio()
        self._check_open()
        return self._log.usage(limits, time.time())

    def _write(self, record: JobRecord) -> None:
        job_id = record.job_id
        if job_id not in self._claims:
            raise claimed_error(job_id)
        before = self._records[job_id].creations if job_id in self._records else 0
        self._log.change(job_id, before, record.creations, time.time())
        self._records[job_id] = record

    async def read(self, job_id: str) -> JobRecord | None:
        """Return a job's record; see `Journal.read`."""
        require_asyncio()
        self._check_open()
        return self._records.get(job_id)

    async def iter_records(self, *states: JobState) -> AsyncGenerator[JobRecord]:
        """Yield records; see `Journal.iter_records`."""
        require_asyncio()
        self._check_open()
        # A copy of the ids: jobs may be added while the caller handles a record.
        for job_id in tuple(self._records):
            record = self._records[job_id]
            if not states or record.state in states:
                yield record

    async def count_by_state(self) -> Mapping[JobState, int]:
        """Count jobs by state; see `Journal.count_by_state`."""
        require_asyncio()
        self._check_open()
        return Counter(record.state for record in self._records.values())

    async def erase(self, session_ids: Collection[str]) -> int:
        """Delete the records of sessions; see `ErasableJournal.erase`."""
        require_asyncio()
        self._check_open()
        wanted = frozenset(check_session_ids(session_ids))
        jobs = [job_id for job_id, record in self._records.items() if record.session_id in wanted]
        for job_id in jobs:
            if job_id in self._claims:
                raise claimed_error(job_id)
            del self._records[job_id]
            self._log.rename(job_id, token_hex(8))
        return len(jobs)

    async def aclose(self) -> None:
        """Release all claims and close the journal; see `Journal.aclose`. Its records are lost."""
        require_asyncio()
        self._closed = True
        self._claims.clear()

    def _check_open(self) -> None:
        if self._closed:
            msg = "The journal is closed: create another one."
            raise JournalError(msg)


def claimed_error(job_id: str) -> JobClaimedError:
    """Return the error for a job that another run has claimed, or this one."""
    return JobClaimedError(
        f"Job {job_id} is claimed by an active run: wait until that run ends, or give each run its own jobs."
    )
