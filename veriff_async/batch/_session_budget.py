"""Turns of the jobs of one run for the sessions that the limits of their journal still permit."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from attrs import define, field

from veriff_async.errors import SessionLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.batch._records import JobRecord
    from veriff_async.batch._session_limits import SessionLimits, SessionUsage
    from veriff_async.batch.journal import Journal

__all__ = ("SessionBudget",)


@define(eq=False)
class SessionBudget:
    """Lets the jobs of one run take turns for the sessions that the limits of their journal still permit.

    The journal decides when the creation is recorded (`Journal.reserve`), so no limit is exceeded. The turns only spare
    a job the preparation of its files while it could not create its session anyway.

    Attributes:
        limits: The limits.
        journal: The journal, which other runs may use too.
        waits: Whether jobs wait for the hourly limit, instead of failing.
        on_wait: Called when a job begins to wait.
        usage: The last known usage.
    """

    limits: SessionLimits
    journal: Journal
    waits: bool = True
    on_wait: Callable[[], None] | None = None
    usage: SessionUsage | None = None
    _turns: set[str] = field(factory=set[str], init=False)
    _uncounted: set[str] = field(factory=set[str], init=False)
    _is_spent: bool = field(default=False, init=False)
    _changed: asyncio.Event = field(factory=asyncio.Event, init=False)
    _queue: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    async def refresh(self) -> SessionUsage:
        """Ask the journal for the usage."""
        self.usage = await self.journal.session_usage(self.limits)
        return self.usage

    async def take_turn(self, job_id: str) -> None:
        """Return when a job may try to create its session; it must call `end_turn` when the outcome is known.

        Raises:
            SessionLimitError: `max_sessions` is reached, or the hourly limit is and `waits` is false.
            JournalError: The journal cannot be read.
        """
        # The queue is in the order of the jobs, and its first job asks the journal for all others.
        async with self._queue:
            while not self._is_spent:
                self._changed.clear()
                usage = await self.refresh()
                free = min((each for each in usage.remaining(self.limits) if each is not None), default=1)
                if free > len(self._uncounted):
                    self._turns.add(job_id)
                    self._uncounted.add(job_id)
                    return
                if not self._turns and not (self.waits and usage.retry_after < inf):
                    self._is_spent = usage.retry_after == inf
                    break
                if self.on_wait is not None:
                    self.on_wait()
                with suppress(TimeoutError):
                    # A turn that ends may have given its session back.
                    async with asyncio.timeout(usage.retry_after if 0 < usage.retry_after < inf else None):
                        await self._changed.wait()
        raise self._to_error(job_id)

    def has_turn(self, job_id: str) -> bool:
        """Return whether a job has a turn."""
        return job_id in self._turns

    def end_turn(self, job_id: str) -> None:
        """End the turn of a job, if it has one, with or without a session."""
        self._turns.discard(job_id)
        self._uncounted.discard(job_id)
        self._changed.set()

    async def reserve(self, record: JobRecord) -> bool:
        """Write a record with one more creation, and return whether the limits permit it."""
        self.usage = await self.journal.reserve(record, self.limits)
        if self.usage.retry_after:
            return False
        self._uncounted.discard(record.job_id)
        return True

    @property
    def remaining(self) -> tuple[int | None, int | None]:
        """See `SessionUsage.remaining`; `None` also before the journal was asked."""
        return (None, None) if self.usage is None else self.usage.remaining(self.limits)

    def _to_error(self, job_id: str) -> SessionLimitError:
        limits, wait = self.limits, inf if self._is_spent or self.usage is None else self.usage.retry_after
        if wait == inf:
            msg = (
                f"Job {job_id} was left, because the batch has created all {limits.max_sessions} sessions that it may "
                "create: pass the job again with a larger max_sessions."
            )
            return SessionLimitError(msg, retry_after=None)
        msg = (
            f"Job {job_id} was left, because the batch may create {limits.max_per_hour} sessions an hour: pass the job "
            f"again in {wait:.0f} seconds."
        )
        return SessionLimitError(msg, retry_after=wait)
