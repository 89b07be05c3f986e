"""Forwards webhooks to an application: unchanged, in order, and without delaying the receiver."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from attrs import frozen

from veriff_async.cli._http import HttpProbe
from veriff_async.cli.listen.loop_detection import ForwardMark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from veriff_async.cli._http import ProbeResult

__all__ = ("ForwardResult", "Forwarder")

# Seconds that an application has for its response: more than at Veriff, since it may be stopped in a debugger.
_SECONDS: Final = 10.0

# Seconds that pending webhooks have at shutdown.
_SHUTDOWN_SECONDS: Final = 2.0

# Webhooks beyond these are dropped, and shown as dropped: a stopped application must not fill the memory.
_MAX_QUEUED: Final = 100

# Hop-by-hop headers, which the forwarding connection sets itself.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@frozen(kw_only=True)
class ForwardResult:
    """The result of forwarding a webhook.

    Attributes:
        kind: Its kind.
        session_id: Its session.
        result: The response; `None` if the webhook was dropped because the application is too slow.
    """

    kind: str
    session_id: str | None
    result: ProbeResult | None


@frozen(kw_only=True)
class _QueuedWebhook:
    kind: str
    session_id: str | None
    headers: list[tuple[str, str]]
    body: bytes


class Forwarder:
    """Forwards webhooks one after the other; use it with ``async with``."""

    def __init__(self, url: str, on_result: Callable[[ForwardResult], object]) -> None:
        """Take the address; nothing is opened yet."""
        self._url = url
        self._on_result = on_result
        self._queue: asyncio.Queue[_QueuedWebhook | None] = asyncio.Queue()
        self._poster = HttpProbe(_SECONDS)
        self.mark: ForwardMark = ForwardMark()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the task."""
        await self._poster.__aenter__()
        self._task = asyncio.create_task(self._work(), name="veriff forward")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish pending webhooks, or drop them after some seconds."""
        task, self._task = self._task, None
        if task is not None:
            self._queue.put_nowait(None)
            try:
                # Unlike `wait_for`, it neither cancels the task when the time is up nor raises its error.
                await asyncio.wait({task}, timeout=_SHUTDOWN_SECONDS)
            finally:
                task.cancel()
                await asyncio.wait({task})
                while not self._queue.empty():
                    self._drop(self._queue.get_nowait())
                await self._poster.__aexit__(kind, error, traceback)

    def add(self, kind: str, session_id: str | None, headers: Mapping[str, str], body: bytes) -> None:
        """Queue a webhook with its original headers, including the signature."""
        kept = [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]
        webhook = _QueuedWebhook(kind=kind, session_id=session_id, headers=self.mark.add_to(kept), body=body)
        if self._queue.qsize() >= _MAX_QUEUED:
            self._drop(webhook)
        else:
            self._queue.put_nowait(webhook)

    async def _work(self) -> None:
        while (webhook := await self._queue.get()) is not None:
            result: ProbeResult | None = None
            try:
                result = await self._poster.post(self._url, webhook.headers, webhook.body)
            finally:
                # Also after a cancellation: then `result` is None, and the webhook is shown as dropped.
                self._on_result(ForwardResult(kind=webhook.kind, session_id=webhook.session_id, result=result))

    def _drop(self, webhook: _QueuedWebhook | None) -> None:
        if webhook is not None:
            self._on_result(ForwardResult(kind=webhook.kind, session_id=webhook.session_id, result=None))
