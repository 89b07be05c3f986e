"""The claims of a journal that many machines share: leases, which one task renews while the process lives."""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyio import CancelScope
from attrs import define, field

from veriff_async._logging import log_fields
from veriff_async.batch.memory import claimed_error
from veriff_async.errors import JobClaimedError, JournalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping

    from veriff_async.batch._records import JobRecord

__all__ = ("BATCH_SIZE", "Claim", "Leases", "batches_of", "lost_claim_error")

_LOG: Final = logging.getLogger("veriff_async.batch")

_T = TypeVar("_T")

BATCH_SIZE: Final = 100
"""Records in a page of an iteration, and leases in a request."""


@define(eq=False)
class Claim:
    """A job that this journal has claimed.

    Attributes:
        token: The value of the lease, which proves that the claim is this one.
        write_lock: Keeps the writes of the job in order.
        creations: The creations in its last record.
    """

    token: str = field(factory=partial(secrets.token_hex, 16), repr=False)
    write_lock: asyncio.Lock = field(factory=asyncio.Lock)
    creations: int = 0


class Leases:
    """The claims of one journal in one event loop.

    Attributes:
        claims: The claims by job.
        is_stopped: Whether the journal is closed, so that nothing is renewed any more.
    """

    def __init__(self, lease: float, renew: Callable[[Mapping[str, Claim]], Awaitable[Collection[str]]]) -> None:
        """Start without claims.

        Args:
            lease: Seconds of a lease.
            renew: Renews the leases of some claims, and returns the jobs whose lease is lost.
        """
        self.claims: dict[str, Claim] = {}
        self.is_stopped = False
        self._lease = lease
        self._renew = renew
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._renewal: asyncio.Task[None] | None = None

    def belongs_to_loop(self) -> bool:
        """Return whether the running event loop has made the claims."""
        return self._loop is asyncio.get_running_loop()

    def use_loop(self) -> None:
        """Forget the claims of an event loop that has ended."""
        if not self.belongs_to_loop():
            self._loop, self._renewal = asyncio.get_running_loop(), None
            self.claims.clear()
            self._pending.clear()
            self._tasks.clear()

    async def claim(
        self,
        job_id: str,
        request: Callable[[Claim], Coroutine[Any, Any, tuple[bool, JobRecord | None]]],
        release: Callable[[str], Awaitable[None]],
    ) -> JobRecord | None:
        """Claim a job.

        Args:
            job_id: The job.
            request: Asks the server for the lease; returns whether it gave it, and the record.
            release: Gives a claim back that was cancelled after the server gave it.

        Raises:
            JobClaimedError: The job is claimed, by this journal or another one.
        """
        if job_id in self.claims or job_id in self._pending:
            raise claimed_error(job_id)
        # Before the first await: two tasks of this process may claim the same job at the same time.
        self._pending.add(job_id)
        claim = Claim()

        async def keep() -> tuple[bool, JobRecord | None]:
            is_claimed, record = await request(claim)
            if is_claimed:
                claim.creations = 0 if record is None else record.creations
                self.claims[job_id] = claim
                self._start_renewal()
            return is_claimed, record

        try:
            is_claimed, record = await self.finish(keep())
        except asyncio.CancelledError:
            await release(job_id)
            raise
        finally:
            self._pending.discard(job_id)
        if not is_claimed:
            raise claimed_error(job_id)
        return record

    async def finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a request even when cancelled: what was sent cannot be taken back."""
        request = self._start_task(work)
        try:
            return await asyncio.shield(request)
        except asyncio.CancelledError:
            try:
                # A cancelled scope of anyio cancels in each turn of the loop; a second cancellation of a task counts.
                with CancelScope(shield=True):
                    await asyncio.wait([request])
            finally:
                request.cancel()
            raise

    def drop(self, job_id: str, claim: Claim) -> None:
        """Forget a claim."""
        if self.claims.get(job_id) is claim:
            del self.claims[job_id]
        if not self.claims:
            self._stop_renewal()

    async def stop(self) -> Mapping[str, Claim]:
        """End the renewal, wait for the requests that were sent, and return the claims, which are to be released."""
        self.is_stopped = True
        self._stop_renewal()
        if self._tasks:
            await asyncio.wait(self._tasks)
        claims, self.claims = self.claims, {}
        return claims

    def _start_task(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work, name="veriff-async journal")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _start_renewal(self) -> None:
        if self._renewal is None and self.claims and not self.is_stopped:
            self._renewal = self._start_task(self._renew_forever())
            self._renewal.add_done_callback(self._on_renewal_end)

    def _on_renewal_end(self, task: asyncio.Task[None]) -> None:
        """Restart the renewal if something else has ended it: otherwise all claims would run out unnoticed."""
        if self._renewal is not task:
            return
        self._renewal = None
        problem = "CancelledError" if task.cancelled() else type(task.exception()).__name__
        fields = log_fields(error=problem)
        _LOG.error("The renewal of claims ended with %s; it is started again.", problem, extra=fields)
        # Delayed: code that cancels all tasks at the end of a loop would otherwise find a new one.
        task.get_loop().call_later(self._lease / 16, self._start_renewal)

    async def _renew_forever(self) -> None:
        """Renew all claims until there are none."""
        # Four times per lease, and more often after an error: one failed renewal must not cost the claims.
        pause = self._lease / 4
        await asyncio.sleep(pause)
        while self._renewal is asyncio.current_task():  # redis-py may swallow a cancellation
            try:
                await self._renew_all()
                pause = self._lease / 4
            except JournalError:  # if a lease runs out, the server refuses the writes of its job
                pause = self._lease / 16
            await asyncio.sleep(pause)

    async def _renew_all(self) -> None:
        # Copies, because claims come and go while a request is awaited.
        for batch in batches_of(tuple(self.claims.items())):
            for job_id in await self._renew(batch):
                self.drop(job_id, batch[job_id])

    def _stop_renewal(self) -> None:
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal.cancel()


def batches_of(claims: Collection[tuple[str, Claim]]) -> Iterator[dict[str, Claim]]:
    """Yield claims in the numbers that fit in one request."""
    left = iter(claims)
    while batch := dict(islice(left, BATCH_SIZE)):
        yield batch


def lost_claim_error(job_id: str) -> JobClaimedError:
    """Return the error for a write of a job whose lease ran out."""
    return JobClaimedError(
        f"The claim on job {job_id} ran out before it was renewed: pass the job again, and use a longer lease."
    )
