"""Jobs side by side: in order, few at once, all or the first failure, whichever kind of task does them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from veriff_async._media.concurrency import gather_bounded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("threads", [True, False])]


class Jobs:
    """Jobs that say when they run and how they end."""

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
        """Wait until somebody cancels."""
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


def made(*jobs: Callable[[int], Awaitable[int]]) -> list[Callable[[], Awaitable[int]]]:
    """Number jobs."""
    return [partial(job, number) for number, job in enumerate(jobs)]


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (3, 3), (8, 8), (20, 8)])
async def test_results_are_in_order(*, threads: bool, concurrency: int, most: int) -> None:
    """Whoever is done first, results are in the order of the jobs, and no more run at once than may."""
    jobs = Jobs()

    assert (list(range(8)), None) == await gather_bounded(
        made(*[jobs.quick] * 8), concurrency=concurrency, threads=threads
    )
    assert most == jobs.most


async def test_the_first_failure_ends_all(*, threads: bool) -> None:
    """The first failure cancels the others, waits for their ends, and comes back with what was done before."""
    jobs = Jobs()
    work = made(jobs.quick, jobs.endless, jobs.endless, jobs.failing, jobs.failing)

    done, failure = await gather_bounded(work, concurrency=5, threads=threads)

    assert isinstance(failure, LookupError)
    assert "job 3" == str(failure)
    assert [1, 2] == sorted(jobs.cancelled)
    assert set(done) <= {0}


async def test_cancelling_ends_all(*, threads: bool) -> None:
    """Whoever cancels the whole finds every job ended when the cancellation comes through."""
    jobs = Jobs()
    whole = asyncio.create_task(gather_bounded(made(jobs.endless, jobs.endless), concurrency=2, threads=threads))
    await jobs.begun.wait()
    await asyncio.sleep(0)
    whole.cancel()

    with pytest.raises(asyncio.CancelledError):
        await whole
    assert [0, 1] == sorted(jobs.cancelled)


async def test_a_job_that_cancels_itself_has_failed(*, threads: bool) -> None:
    """A job that ends with CancelledError, though its task was not cancelled, is the failure that ends all."""
    jobs = Jobs()

    async def cancelled(number: int) -> int:
        await jobs.begun.wait()
        raise asyncio.CancelledError(number)

    done, failure = await gather_bounded(made(jobs.endless, cancelled), concurrency=2, threads=threads)

    assert isinstance(failure, asyncio.CancelledError)
    assert (done, jobs.cancelled) == ([], [0])
