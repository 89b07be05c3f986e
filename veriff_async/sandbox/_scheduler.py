"""The background task of a running sandbox: it runs due events, posts webhooks and removes discarded files."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from anyio import CancelScope, create_task_group, move_on_after, to_thread

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from anyio.abc import TaskGroup

    from veriff_async.sandbox._media_store import MediaStore
    from veriff_async.sandbox._service import SandboxService
    from veriff_async.sandbox._state_folder import StateKeeper
    from veriff_async.sandbox._webhook_records import PendingWebhook
    from veriff_async.sandbox._webhooks import WebhookSender

__all__ = ("Scheduler",)

# The connections of aiohttp's pool. A webhook that waited for one of them would use up the time of its receiver.
_MAX_POSTS: Final = 100


class Scheduler:
    """Sleeps until the next item of the agenda is due, and starts one task for each webhook.

    It lives in the server's event loop; `wake` and `join` must be called there.
    """

    def __init__(
        self,
        service: SandboxService,
        sender: WebhookSender,
        store: MediaStore,
        keeper: StateKeeper | None,
    ) -> None:
        """Create a scheduler that is not running yet."""
        self._service = service
        self._sender = sender
        self._store = store
        self._keeper = keeper
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._has_ended = False
        self._in_flight = 0
        self._posts = 0

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
                    self._start_cleanup(tasks)
                    if not self._in_flight:
                        self._idle.set()
                    with move_on_after(self._seconds_until_next()):
                        await self._woken.wait()
        finally:
            self._service.interrupt_deliveries()
            # A stopped sandbox delivers nothing more, so `join` would wait forever, also one that begins later.
            self._has_ended = True
            self._idle.set()

    async def join(self) -> None:
        """Return when nothing is due, no webhook is being posted and no discarded file is left."""
        if not self._has_ended:
            self._idle.clear()
            self._woken.set()
            await self._idle.wait()

    def _start_deliveries(self, tasks: TaskGroup) -> None:
        for webhook in self._service.take_webhooks(_MAX_POSTS - self._posts):
            self._in_flight += 1
            self._posts += 1
            self._idle.clear()
            tasks.start_soon(self._deliver, webhook)

    async def _deliver(self, webhook: PendingWebhook) -> None:
        try:
            # A receiver must not learn of a change that a kill can undo.
            await self._commit()
            timeout = self._service.options.webhook_timeout_seconds
            delivery = await self._sender.post(webhook, now=self._service.clock.now(), timeout=timeout)
            self._service.record_delivery(webhook, delivery)
        finally:
            self._in_flight -= 1
            self._posts -= 1
            self._woken.set()

    def _start_cleanup(self, tasks: TaskGroup) -> None:
        paths = self._service.take_discarded()
        if paths:
            self._in_flight += 1
            self._idle.clear()
            tasks.start_soon(self._delete, paths)

    async def _delete(self, paths: Collection[Path]) -> None:
        try:
            # A stop waits for it: files of people must not stay behind in a folder of the user's own.
            with CancelScope(shield=True):
                # A kill must not undo the change that has discarded them.
                await self._commit()
                await to_thread.run_sync(self._store.delete, paths)
        finally:
            self._in_flight -= 1
            self._woken.set()

    async def _commit(self) -> None:
        if self._keeper is not None:
            # A full disk delays neither webhooks nor the removal of files; the keeper logs it.
            with suppress(ConfigurationError):
                await self._keeper.flush()

    def _seconds_until_next(self) -> float | None:
        # Webhooks that are due and not taken wait for the end of another one, which wakes this task.
        due_at = self._service.next_due(with_webhooks=self._posts < _MAX_POSTS)
        # A virtual clock moves by `Sandbox.advance` only, which wakes this task.
        if due_at is None or not self._service.clock.runs:
            return None
        return max(0.0, (due_at - self._service.clock.now()).total_seconds())
