"""Webhooks handed on to an application: as they came, in order, and never in the way of the receiver."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from attrs import frozen

from veriff_async.cli._http import Poster
from veriff_async.cli.listen.loop_detection import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from veriff_async.cli._http import Answered

__all__ = ("Forwarded", "Forwarder")

_SECONDS: Final = 10.0
"""Seconds that an application has for its answer: more than Veriff gives, for whoever stops in a debugger."""

_LAST_SECONDS: Final = 2.0
"""Seconds that what is under way has at the end."""

_MOST_BEHIND: Final = 100

_OWN: Final = frozenset(
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
"""Headers of one connection, which the next one has of its own."""


@frozen(kw_only=True)
class Forwarded:
    """A webhook that was handed on, or could not be.

    Attributes:
        kind: Its kind.
        session_id: Its session.
        answer: What the application said; `None` when it was left out, because the application is too far behind.
    """

    kind: str
    session_id: str | None
    answer: Answered | None


@frozen(kw_only=True)
class _Waiting:
    kind: str
    session_id: str | None
    headers: list[tuple[str, str]]
    body: bytes


class Forwarder:
    """Hands webhooks on, one after the other; use it with ``async with``.

    Args:
        url: Where to.
        tell: Called with what came of each.
    """

    def __init__(self, url: str, tell: Callable[[Forwarded], object]) -> None:
        """Take where to; nothing is opened."""
        self._url = url
        self._tell = tell
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._poster = Poster(_SECONDS)
        self.mark: Mark = Mark()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin."""
        await self._poster.__aenter__()
        self._task = asyncio.create_task(self._work(), name="veriff forward")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what is under way, or break it off after some seconds; what waits then is left out, and told so."""
        task, self._task = self._task, None
        if task is not None:
            self._queue.put_nowait(None)
            try:
                await asyncio.wait({task}, timeout=_LAST_SECONDS)
            finally:
                task.cancel()
                await asyncio.wait({task})
                while not self._queue.empty():
                    self._leave_out(self._queue.get_nowait())
                await self._poster.__aexit__(kind, error, traceback)

    def add(self, kind: str, session_id: str | None, headers: Mapping[str, str], body: bytes) -> None:
        """Have a webhook handed on, with the headers it came with, the signature among them."""
        kept = [(name, value) for name, value in headers.items() if name.lower() not in _OWN]
        waiting = _Waiting(kind=kind, session_id=session_id, headers=self.mark.put_on(kept), body=body)
        if self._queue.qsize() >= _MOST_BEHIND:
            self._leave_out(waiting)
        else:
            self._queue.put_nowait(waiting)

    async def _work(self) -> None:
        while (waiting := await self._queue.get()) is not None:
            answer: Answered | None = None
            try:
                answer = await self._poster.post(self._url, waiting.headers, waiting.body)
            finally:
                self._tell(Forwarded(kind=waiting.kind, session_id=waiting.session_id, answer=answer))

    def _leave_out(self, waiting: _Waiting | None) -> None:
        if waiting is not None:
            self._tell(Forwarded(kind=waiting.kind, session_id=waiting.session_id, answer=None))
