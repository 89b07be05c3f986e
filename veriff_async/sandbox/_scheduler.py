"""What makes things happen at their time: the one task of a running sandbox."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyio import create_task_group, move_on_after

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from veriff_async.sandbox._service import Desk
    from veriff_async.sandbox._webhooks import Courier, Parcel

__all__ = ("Driver",)


class Driver:
    """Lets happen what is due, and posts webhooks side by side; lives in the server's loop."""

    def __init__(self, desk: Desk, courier: Courier) -> None:
        """Take what it drives."""
        self._desk = desk
        self._courier = courier
        self._wake = asyncio.Event()
        self._quiet = asyncio.Event()
        self._posting = 0

    def nudge(self) -> None:
        """Look again at what is due."""
        self._wake.set()

    async def run(self) -> None:
        """Drive until cancelled."""
        try:
            async with create_task_group() as tasks:
                while True:
                    self._wake.clear()
                    self._send(tasks)
                    if not self._posting:
                        self._quiet.set()
                    with move_on_after(self._until_next()):
                        await self._wake.wait()
        finally:
            # Whoever waits for the end of what is under way has nothing to wait for any more.
            self._quiet.set()

    async def until_quiet(self) -> None:
        """Return when nothing is due and no webhook is under way."""
        self._quiet.clear()
        self._wake.set()
        await self._quiet.wait()

    def _send(self, tasks: TaskGroup) -> None:
        for parcel in self._desk.due():
            self._posting += 1
            self._quiet.clear()
            tasks.start_soon(self._deliver, parcel)

    async def _deliver(self, parcel: Parcel) -> None:
        try:
            self._desk.came_back(parcel, await self._courier.post(parcel, now=self._desk.clock.now()))
        finally:
            self._posting -= 1
            self._wake.set()

    def _until_next(self) -> float | None:
        due = self._desk.next_due()
        if due is None or not self._desk.clock.runs:
            return None
        return max(0.0, (due - self._desk.clock.now()).total_seconds())
