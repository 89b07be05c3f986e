"""Runs the uploads or downloads of one call concurrently: results in order, and the first failure cancels the rest."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from anyio import CancelScope, Semaphore, create_task_group

from veriff_async._event_loop import is_being_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from typing import Any

__all__ = ("gather_bounded", "wait_for_end")

_T = TypeVar("_T")


async def gather_bounded(
    jobs: Sequence[Callable[[], Awaitable[_T]]], *, concurrency: int, threads: bool = True
) -> tuple[list[_T], BaseException | None]:
    """Run jobs concurrently; the first failure cancels the others.

    A job that ends with a `CancelledError` although its task was not cancelled has failed. A task group would ignore
    it, and its result would be missing without an error.

    Args:
        jobs: Functions that return awaitables.
        concurrency: Most of them at once.
        threads: Whether a job may use the worker threads of anyio, which must end before its task does. Tasks of anyio,
            which wait for them, take four times as long to create.

    Returns:
        The results of the jobs that succeeded, in the order of the jobs, and the first failure, not in a group.
    """
    results: dict[int, _T] = {}
    failures: list[BaseException] = []
    # A free permit is taken without yielding to the loop, which small jobs would feel. If every job can have a permit,
    # no semaphore is needed.
    semaphore = Semaphore(concurrency, fast_acquire=True) if concurrency < len(jobs) else nullcontext()

    async def run(index: int, job: Callable[[], Awaitable[_T]], cancel: Callable[[], None]) -> None:
        try:
            async with semaphore:
                results[index] = await job()
        except (Exception, asyncio.CancelledError) as error:  # returned to the caller, who raises it
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            failures.append(error)
            cancel()

    if len(jobs) == 1:
        # Most calls have one media, and a task costs as much as the request of a small one.
        await run(0, jobs[0], _do_nothing)
    elif threads:
        async with create_task_group() as group:
            for index, job in enumerate(jobs):
                group.start_soon(run, index, job, group.cancel_scope.cancel)
    else:
        tasks: list[asyncio.Task[None]] = []
        for index, job in enumerate(jobs):
            if not failures:  # an eager task may have failed while it was created
                tasks.append(asyncio.create_task(run(index, job, partial(_cancel, tasks))))
        await _wait_for_tasks(tasks)
    return [results[index] for index in sorted(results)], next(iter(failures), None)


async def _wait_for_tasks(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for all tasks; a cancellation cancels them first.

    A cancelled scope of anyio would wake `asyncio.TaskGroup` in each turn of the loop until they have ended.
    """
    if not tasks:
        return
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        _cancel(tasks)
        await wait_for_end(tasks)
        raise
    for task in tasks:
        if not task.cancelled():
            task.result()  # raises what ends a process, like KeyboardInterrupt


async def wait_for_end(futures: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until all are done, however often the task is cancelled.

    A cancelled scope of anyio cancels its tasks in each turn of the loop. The shield keeps it from waking this one.
    """
    with CancelScope(shield=True):
        while pending := [future for future in futures if not future.done()]:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(pending)


def _do_nothing() -> None:
    """Cancel no other job."""


def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
