"""The background task of a running sandbox: it runs due events and posts webhooks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyio import create_task_group, move_on_after

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from veriff_async.sandbox._service import SandboxService
    from veriff_async.sandbox._webhooks import PendingWebhook, WebhookSender

__all__ = ("Scheduler",)


class Scheduler:
    """Sleeps until the next item of the agenda is due, and starts one task for each webhook.

    It lives in the server's event loop; `wake` and `join` must be called there.
    """

    def __init__(self, service: SandboxService, sender: WebhookSender) -> None:
        """Create a scheduler that is not running yet.

        Args:
            service: Holds the agenda.
            sender: Posts webhooks.
        """
        self._service = service
        self._sender = sender
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._in_flight = 0

    def wake(self) -> None:
        """Look at the agenda again."""
        self._woken.set()

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            async with create_task_group() as tasks:
                while True:
                    # Cleared before the agenda is read: a change after the reading wakes the task again.
                    self._woken.clear()
                    self._start_deliveries(tasks)
                    if not self._in_flight:
                        self._idle.set()
                    with move_on_after(self._seconds_until_next()):
                        await self._woken.wait()
        finally:
            # A stopped sandbox delivers nothing more, so `join` would wait forever.
            self._idle.set()

    async def join(self) -> None:
        """Return when nothing is due and no webhook is being posted."""
        self._idle.clear()
        self._woken.set()
        await self._idle.wait()

    def _start_deliveries(self, tasks: TaskGroup) -> None:
        for webhook in self._service.take_webhooks():
            self._in_flight += 1
            self._idle.clear()
            tasks.start_soon(self._deliver, webhook)

    async def _deliver(self, webhook: PendingWebhook) -> None:
        try:
            delivery = await self._sender.post(webhook, now=self._service.clock.now())
            self._service.record_delivery(webhook, delivery)
        finally:
            self._in_flight -= 1
            self._woken.set()

    def _seconds_until_next(self) -> float | None:
        due_at = self._service.next_due()
        # A virtual clock moves by `Sandbox.advance` only, which wakes this task.
        if due_at is None or not self._service.clock.runs:
            return None
        return max(0.0, (due_at - self._service.clock.now()).total_seconds())
