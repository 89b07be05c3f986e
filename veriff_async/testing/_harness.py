"""One test of an inbox: its store, the handles on it, the time that they go by, and what all rules ask of them."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from attrs import define, field

from veriff_async.config import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
    from typing import Protocol

    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.state import SessionState

    class Closable(Protocol):
        """What a test must close at its end."""

        async def close(self) -> None:
            """Close every handle."""
            ...


__all__ = ("Store", "Trial", "alone", "as_test", "following", "hear", "keys", "rule", "same", "state")

_Contract = TypeVar("_Contract", bound="Trial")
_Maker = TypeVar("_Maker")
_Handles = TypeVar("_Handles", bound="Closable")

_PATIENCE: Final = 30.0
"""Seconds after which a test that hangs is given up; none measures time."""

_TURNS: Final = 50
"""Turns of the loop that tasks of a closed store may need to end."""


class Trial:
    """How an inbox is made for its tests.

    Attributes:
        durable: Whether what was recorded is there after all handles were closed, or rules about that are skipped.
    """

    durable: ClassVar[bool] = True

    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        """Return the loop of one test; override it for another kind, such as uvloop."""
        return asyncio.new_event_loop()

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return a new handle on the store of this test, as another process would have; called once or more in a test.

        An inbox that only one process can use is made at the first call, and returned at the others.

        Args:
            retention: How much is to be kept.
            now: The time in seconds that age goes by; the tests move it.
        """
        raise NotImplementedError


def same(found: object, expected: object, rule: str) -> None:
    """Fail in plain words: `assert` is gone under ``python -O``, and not explained outside of a test's own module."""
    if found != expected:
        msg = f"{rule}: expected {expected!r}, found {found!r}."
        raise AssertionError(msg)


@define
class Store:
    """The store of one test: its handles, and the time that they go by."""

    contract: Trial
    retention: Retention = field(factory=Retention)
    time: float = field(factory=time.time)
    handles: list[Inbox] = field(factory=list["Inbox"])

    async def open(self) -> Inbox:
        """Return a new handle on the store."""
        handle = await self.contract.make(self.retention, lambda: self.time)
        self.handles.append(handle)
        return handle

    async def two(self) -> tuple[Inbox, Inbox]:
        """Return two handles, as two processes would have."""
        return await self.open(), await self.open()

    async def close(self) -> None:
        """Close every handle."""
        while self.handles:
            await self.handles.pop().aclose()


def rule(body: Callable[[_Contract, Store], Awaitable[None]]) -> Callable[[_Contract], None]:
    """Make of a rule of inboxes a test for any runner."""
    return as_test(body, Store)


def as_test(
    body: Callable[[_Maker, _Handles], Awaitable[None]], handles: Callable[[_Maker], _Handles]
) -> Callable[[_Maker], None]:
    """Make of a rule a test for any runner; the thread's own event loop, if any, is left as it is.

    Args:
        body: The rule; it is given its contract, and the handles on the store of the test.
        handles: What makes these; they are closed at the end.
    """

    async def run(self: _Maker) -> None:
        store = handles(self)
        try:
            await body(self, store)
        finally:
            await store.close()

    def test(self: _Maker) -> None:
        alone(run(self), getattr(self, "new_loop", asyncio.new_event_loop))

    test.__name__, test.__qualname__, test.__doc__ = body.__name__, body.__qualname__, body.__doc__
    return test


def alone(
    work: Coroutine[None, None, None], new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> None:
    """Run a test in a loop of its own, which no task may outlive."""

    async def run() -> None:
        async with asyncio.timeout(_PATIENCE):
            await work
            await _ended()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


async def _ended() -> None:
    """Fail when a closed store has left a task."""
    left: set[asyncio.Task[object]] = set()
    for _ in range(_TURNS):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0)
    same(len(left), 0, "tasks that are left when every handle is closed")


@asynccontextmanager
async def following(inbox: Inbox) -> AsyncGenerator[AsyncGenerator[str | None]]:
    """Follow the changes of an inbox, from the moment when nothing is missed."""
    async with aclosing(inbox.subscribe()) as feed:
        same(await anext(feed), None, "what a feed yields first")
        yield feed


async def hear(feed: AsyncGenerator[str | None], session_id: str) -> None:
    """Wait for a change of a session, or for the word that any may have changed."""
    while await anext(feed) not in {session_id, None}:
        pass


async def state(inbox: Inbox, session_id: str = "s") -> SessionState:
    """Return the state of a session, which must be known."""
    found = await inbox.get_states([session_id])
    if session_id not in found:
        msg = "A session that was recorded is not known to get_states()."
        raise AssertionError(msg)
    return found[session_id]


async def keys(inbox: Inbox, session_id: str | None = "s") -> list[str]:
    """Return the keys of the events that are kept of a session."""
    return [event.dedup_key for event in await inbox.get_events(session_id)]
