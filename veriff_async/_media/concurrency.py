"""Many at once, in order, all or an error: what uploads and downloads of one call have in common."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from anyio import Semaphore, create_task_group

from veriff_async._event_loop import is_being_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ("gather_bounded",)

_T = TypeVar("_T")


async def gather_bounded(
    jobs: Sequence[Callable[[], Awaitable[_T]]], *, concurrency: int, threads: bool = True
) -> tuple[list[_T], BaseException | None]:
    """Do jobs side by side; the first failure cancels the others.

    A job that ends with a `CancelledError` although its task was not cancelled has failed. A task group would ignore
    it, and its result would be missing without an error.

    Args:
        jobs: What to do.
        concurrency: Most of them at once.
        threads: Whether a job may use worker threads, which are waited for when it is cancelled. Tasks that do so take
            three times as long to make, which is a tenth of a small upload.

    Returns:
        What was done, in the order of the jobs, and the first failure, alone and not in a group.
    """
    done: dict[int, _T] = {}
    failures: list[BaseException] = []
    # A free seat is taken without a turn of the loop, which small jobs would feel; none is asked for if all have one.
    seats = Semaphore(concurrency, fast_acquire=True) if concurrency < len(jobs) else nullcontext()

    async def run(place: int, job: Callable[[], Awaitable[_T]], cancel: Callable[[], None]) -> None:
        try:
            async with seats:
                done[place] = await job()
        except (Exception, asyncio.CancelledError) as error:  # handed to the caller, who raises it
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            failures.append(error)
            cancel()

    if threads:
        async with create_task_group() as group:
            for place, job in enumerate(jobs):
                group.start_soon(run, place, job, group.cancel_scope.cancel)
    else:
        tasks: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as crew:
            for place, job in enumerate(jobs):
                if not failures:  # some loops begin a task at once
                    tasks.append(crew.create_task(run(place, job, partial(_cancel, tasks))))
    return [done[place] for place in sorted(done)], next(iter(failures), None)


def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
