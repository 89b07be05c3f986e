"""The harness of the contracts: event loops, handles on the store under test, and checks.

A contract is a class of tests that users subclass, so its tests must run under any runner: `as_test` turns a coroutine
function into a plain method that runs in an event loop of its own. Each test gets the handles on its store, which are
closed at its end, and no task may outlive it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from veriff_async.config import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
    from typing import Protocol

    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.state import SessionState

    class SupportsAclose(Protocol):
        """A handle on a store."""

        async def aclose(self) -> None:
            """Close it."""
            ...

    class SupportsClose(Protocol):
        """The handles on one store."""

        async def close(self) -> None:
            """Close every handle."""
            ...


__all__ = (
    "ContractCase",
    "Handles",
    "InboxHandles",
    "as_test",
    "check_equal",
    "check_true",
    "get_keys",
    "get_state",
    "rule",
    "run_in_new_loop",
    "subscribe",
    "wait_for_change",
)

_Case = TypeVar("_Case")
_InboxCase = TypeVar("_InboxCase", bound="ContractCase")
_Handle = TypeVar("_Handle", bound="SupportsAclose")
_Handles = TypeVar("_Handles", bound="SupportsClose")

# Seconds after which a test that hangs fails. No test measures time, so a slow machine does not matter.
_TIMEOUT: Final = 30.0

# Iterations of the loop in which the tasks of a closed store must end.
_LOOP_ITERATIONS: Final = 50


class ContractCase:
    """The base class of the contract of inboxes.

    Attributes:
        durable: Whether recorded events survive the closing of all handles; otherwise rules about that are skipped.
    """

    durable: ClassVar[bool] = True

    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        """Return the event loop of one test; override it for another kind, such as uvloop."""
        return asyncio.new_event_loop()

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return a new handle on the store of this test, as another process would have; called one or more times.

        For an inbox that only one process can use, create it at the first call and return it at the others.

        Args:
            retention: The limits of the inbox.
            now: The time in seconds for the age of events; the tests advance it.
        """
        raise NotImplementedError


def check_equal(actual: object, expected: object, subject: str) -> None:
    """Fail with a sentence if two values differ.

    An ``assert`` is removed by ``python -O``, and pytest explains it in the user's own test modules only.
    """
    if actual != expected:
        msg = f"{subject}: expected {expected!r}, found {actual!r}."
        raise AssertionError(msg)


def check_true(condition: object, statement: str) -> None:
    """Fail with a sentence if a statement is not true."""
    if not condition:
        msg = f"Expected that {statement}."
        raise AssertionError(msg)


class Handles(Generic[_Handle]):
    """The handles on the store of one test."""

    def __init__(self, make: Callable[[], Awaitable[_Handle]]) -> None:
        """Start without handles."""
        self._make = make
        self._handles: list[_Handle] = []

    async def open(self) -> _Handle:
        """Return a new handle on the store."""
        handle = await self._make()
        self._handles.append(handle)
        return handle

    async def open_two(self) -> tuple[_Handle, _Handle]:
        """Return two handles, as two processes would have."""
        return await self.open(), await self.open()

    async def close(self) -> None:
        """Close every handle."""
        while self._handles:
            await self._handles.pop().aclose()


class InboxHandles(Handles["Inbox"]):
    """The handles on the inbox of one test, with the limits and the time that they are made with."""

    def __init__(self, case: ContractCase) -> None:
        """Start without limits, at the time of the machine."""
        self.retention = Retention()
        self.time = time.time()
        # Read at each opening, because tests set the limits first and advance the time later.
        super().__init__(lambda: case.make(self.retention, lambda: self.time))


def rule(body: Callable[[_InboxCase, InboxHandles], Awaitable[None]]) -> Callable[[_InboxCase], None]:
    """Turn a rule of inboxes into a test for any runner."""
    return as_test(body, InboxHandles)


def as_test(
    body: Callable[[_Case, _Handles], Awaitable[None]], make_handles: Callable[[_Case], _Handles]
) -> Callable[[_Case], None]:
    """Turn a coroutine function into a test for any runner. The event loop of the thread, if any, is not touched.

    Args:
        body: The test; its arguments are its case, and the handles on the store.
        make_handles: Returns these handles; they are closed at the end.
    """

    async def run(self: _Case) -> None:
        handles = make_handles(self)
        try:
            await body(self, handles)
        finally:
            await handles.close()

    def test(self: _Case) -> None:
        run_in_new_loop(run(self), getattr(self, "new_loop", asyncio.new_event_loop))

    # Not functools.wraps: by __wrapped__, pytest would see the arguments of `body` and look for fixtures.
    test.__name__, test.__qualname__, test.__doc__ = body.__name__, body.__qualname__, body.__doc__
    return test


def run_in_new_loop(
    work: Coroutine[None, None, None], new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> None:
    """Run a coroutine in a new event loop, and fail if it leaves a task."""

    async def run() -> None:
        async with asyncio.timeout(_TIMEOUT):
            await work
            await _check_no_tasks()

    # With a factory, a Runner leaves the thread's current event loop alone; asyncio.run has none before Python 3.12.
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


async def _check_no_tasks() -> None:
    """Fail if closed handles have left a task."""
    tasks: set[asyncio.Task[object]] = set()
    # Cancelled tasks need some iterations to end; `sleep(0)` is one, and takes no time.
    for _ in range(_LOOP_ITERATIONS):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if not tasks:
            return
        await asyncio.sleep(0)
    check_equal(len(tasks), 0, "tasks that are left when every handle is closed")


@asynccontextmanager
async def subscribe(inbox: Inbox) -> AsyncGenerator[AsyncGenerator[str | None]]:
    """Subscribe to an inbox; inside of the block every change is reported."""
    async with aclosing(inbox.subscribe()) as changes:
        check_equal(await anext(changes), None, "the first item of a subscription")
        yield changes


async def wait_for_change(changes: AsyncGenerator[str | None], session_id: str) -> None:
    """Wait until a subscription reports a session, or ``None``, after which any session may have changed."""
    while await anext(changes) not in {session_id, None}:
        pass


async def get_state(inbox: Inbox, session_id: str = "s") -> SessionState:
    """Return the state of a session, and fail if it has none."""
    states = await inbox.get_states([session_id])
    if session_id not in states:
        msg = "get_states() does not return the state of a session that was recorded."
        raise AssertionError(msg)
    return states[session_id]


async def get_keys(inbox: Inbox, session_id: str | None = "s") -> list[str]:
    """Return the deduplication keys of the stored events of a session."""
    return [event.dedup_key for event in await inbox.get_events(session_id)]
