"""The steps of erasures in a queue: what `forget` stores before and after each of them."""

from __future__ import annotations

from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING

from veriff_async._storage.sqlite_scrub import remove_remains
from veriff_async.erasure._queue_file import CHANGE, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from veriff_async._storage.sqlite_worker import WorkerGroup
    from veriff_async.erasure._queue_file import QueuedDeletion, QueuedErasure, QueueFile
    from veriff_async.erasure._receipt import VeriffErasure

__all__ = ("ErasureSteps",)


class ErasureSteps:
    """Stores the steps of erasures.

    Args:
        group: The workers of the queue's file.
        now: The time in seconds since 1970.
    """

    def __init__(self, group: WorkerGroup[QueueFile], now: Callable[[], float]) -> None:
        """Take both."""
        self._group = group
        self.now = now

    async def add(self, session_ids: Collection[str], stores: Collection[str], *, integration: str) -> str:
        """Store an erasure before its first step, and return its id."""
        erasure_id, ids, names, now = token_hex(8), tuple(session_ids), tuple(stores), self.now()
        await self._group.run(
            lambda file: file.insert(erasure_id, ids, names, integration=integration, now=now), writes=True
        )
        return erasure_id

    async def get_open(self) -> Sequence[str]:
        """Return the ids of the erasures that are not complete, the oldest first."""
        return await self._group.run(lambda file: file.open_ids())

    async def get_to_visit(self, *, again: bool) -> Sequence[QueuedErasure]:
        """Return the erasures with a store that was not visited yet; with `again`, those that Veriff has done."""
        return await self._group.run(lambda file: file.erasures_to_visit(again=again))

    async def get_waiting(self, integration: str, erasure_id: str | None) -> Sequence[QueuedDeletion]:
        """Return the deletions of an integration that wait, or those of one erasure."""
        return await self._group.run(lambda file: file.waiting_deletions(integration, erasure_id))

    async def save_store(self, erasure_id: str, name: str, erased: int, *, again: bool) -> None:
        """Store that a store was visited, and how many items it has erased this time."""
        await self._group.run(lambda file: file.save_store(erasure_id, name, erased, again=again), writes=True)

    async def save_problem(self, erasure_id: str, name: str, text: str | None) -> None:
        """Store why a step is left, or that it is not."""
        await self._group.run(lambda file: file.save_problem(erasure_id, name, text), writes=True)

    async def reserve_deletion(self, integration: str) -> QueuedDeletion | float | None:
        """Take the next deletion that the quota permits, and count it.

        Returns:
            The deletion; or when one may be sent, in seconds since 1970; or ``None`` if none is left.
        """
        now = self.now()
        return await self._group.run(lambda file: file.reserve_deletion(integration, now), writes=True)

    async def save_deletion(
        self, deletion: QueuedDeletion, state: VeriffErasure, *, delay: float = 0.0, pause: float = 0.0
    ) -> None:
        """Store the outcome of a deletion.

        Args:
            deletion: The deletion.
            state: Its state.
            delay: Seconds until it may be sent again, if it waits.
            pause: Seconds in which no deletion of the integration may be sent.
        """
        now = self.now()

        def save(file: QueueFile) -> None:
            file.save_deletion(deletion, state, now + delay, now + pause if pause else None)

        await self._group.run(save, writes=True)

    async def complete(self, erasure_id: str) -> bool:
        """Complete an erasure and delete the ids of its sessions, if every step has ended; return whether it has."""
        now = self.now()
        is_complete = await self._group.run(lambda file: file.complete(erasure_id, now), writes=True)
        if is_complete:
            await self._group.run_in_thread(partial(remove_remains, change=CHANGE, owner=SCHEMA.owner))
        return is_complete
