"""Many at once, in order, all or an error: what uploads and downloads of one call have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from anyio import Semaphore, create_task_group

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ("together",)

_T = TypeVar("_T")


async def together(
    jobs: Sequence[Callable[[], Awaitable[_T]]], *, concurrency: int
) -> tuple[list[_T], Exception | None]:
    """Do jobs side by side; the first failure cancels the others.

    Args:
        jobs: What to do.
        concurrency: Most of them at once.

    Returns:
        What was done, in the order of the jobs, and the first failure, alone and not in a group.
    """
    done: dict[int, _T] = {}
    failures: list[Exception] = []
    # A free seat is taken without a turn of the loop, which small jobs would feel.
    seats = Semaphore(concurrency, fast_acquire=True)

    async def run(place: int, job: Callable[[], Awaitable[_T]]) -> None:
        try:
            async with seats:
                done[place] = await job()
        except Exception as error:  # noqa: BLE001  handed to the caller, who raises it
            failures.append(error)
            tasks.cancel_scope.cancel()

    async with create_task_group() as tasks:
        for place, job in enumerate(jobs):
            tasks.start_soon(run, place, job)
    return [done[place] for place in sorted(done)], next(iter(failures), None)
