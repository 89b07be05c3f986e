"""gather_bounded: results in order, limited concurrency, and the first failure cancels the rest."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest
from anyio import CancelScope

from veriff_async._media.concurrency import gather_bounded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("threads", [True, False])]


class Jobs:
    """Jobs that record when they run and how they end."""

    def __init__(self) -> None:
        """Begin with none."""
        self.running = 0
        self.most = 0
        self.cancelled: list[int] = []
        self.begun = asyncio.Event()

    async def quick(self, number: int) -> int:
        """Take a few turns."""
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(5 - number % 3):
            await asyncio.sleep(0)
        self.running -= 1
        return number

    async def endless(self, number: int) -> int:
        """Wait until the test cancels."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            await asyncio.sleep(0)
            raise
        return number

    async def failing(self, number: int) -> int:
        """Fail once others are under way."""
        await self.begun.wait()
        msg = f"job {number}"
        raise LookupError(msg)


def number_jobs(*jobs: Callable[[int], Awaitable[int]]) -> list[Callable[[], Awaitable[int]]]:
    """Pass each job its number."""
    return [partial(job, number) for number, job in enumerate(jobs)]


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (3, 3), (8, 8), (20, 8)])
async def test_results_are_in_order(*, threads: bool, concurrency: int, most: int) -> None:
    """The results are in the order of the jobs, and no more jobs run at once than allowed."""
    jobs = Jobs()

    assert (list(range(8)), None) == await gather_bounded(
        number_jobs(*[jobs.quick] * 8), concurrency=concurrency, threads=threads
    )
    assert most == jobs.most


async def test_first_failure_cancels_the_others(*, threads: bool) -> None:
    """The first failure cancels the others, waits for them, and is returned with the results so far."""
    jobs = Jobs()
    work = number_jobs(jobs.quick, jobs.endless, jobs.endless, jobs.failing, jobs.failing)

    done, failure = await gather_bounded(work, concurrency=5, threads=threads)

    assert isinstance(failure, LookupError)
    assert "job 3" == str(failure)
    assert [1, 2] == sorted(jobs.cancelled)
    assert set(done) <= {0}


async def test_cancellation_ends_all_jobs(*, threads: bool) -> None:
    """When a cancellation leaves gather_bounded, every job has ended."""
    jobs = Jobs()
    whole = asyncio.create_task(gather_bounded(number_jobs(jobs.endless, jobs.endless), concurrency=2, threads=threads))
    await jobs.begun.wait()
    await asyncio.sleep(0)
    whole.cancel()

    with pytest.raises(asyncio.CancelledError):
        await whole
    assert [0, 1] == sorted(jobs.cancelled)


async def test_job_that_raises_cancelled_error_has_failed(*, threads: bool) -> None:
    """A job that ends with CancelledError, although its task was not cancelled, is a failure."""
    jobs = Jobs()

    async def cancelled(number: int) -> int:
        await jobs.begun.wait()
        raise asyncio.CancelledError(number)

    done, failure = await gather_bounded(number_jobs(jobs.endless, cancelled), concurrency=2, threads=threads)

    assert isinstance(failure, asyncio.CancelledError)
    assert (done, jobs.cancelled) == ([], [0])


async def test_cancelled_scope_does_not_wake_the_call_that_waits_for_its_jobs(*, threads: bool) -> None:
    """A cancel scope of anyio cancels a call once, and not in each turn of the loop until the jobs have ended."""
    began, release = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            with CancelScope(shield=True):
                await release.wait()

    async def call() -> None:
        with scope:
            await gather_bounded([slow, slow], concurrency=2, threads=threads)

    scope = CancelScope()
    task = asyncio.create_task(call())
    await began.wait()
    await asyncio.sleep(0)
    scope.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    before = task.cancelling()
    for _ in range(10):
        await asyncio.sleep(0)
    after = task.cancelling()
    release.set()
    await task

    assert before == after


async def test_no_job_has_no_result(*, threads: bool) -> None:
    """A call without jobs ends at once."""
    assert await gather_bounded([], concurrency=1, threads=threads) == ([], None)
