"""The bench: every test fails that blocks the loop, warns, or leaves a task, thread or socket behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import threading
from asyncio import constants
from typing import TYPE_CHECKING, Final

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from tests.conditions import time_limit
from tests.loops import VirtualTimeLoop, has_virtual_time
from veriff_async import VeriffClient
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from veriff_async.client import ClientOptions

pytest_plugins = ("pytester",)

# Rules are tried by what they say, not by how long a busy machine takes to hear it.
settings.register_profile("rules", deadline=None, max_examples=30)
settings.load_profile("rules")

# A loop in debug mode notes for each handle and task where it was made, by a look at every file of the stack, which
# takes longer than most of what is tested. What it checks, it checks without; put 10 here to read where it was.
setattr(constants, "DEBUG_STACK_DEPTH", 0)  # noqa: B010  its type says that it is final


def _serves(task: asyncio.Task[object]) -> bool:
    """Tell whether a task is a connection of a server, which ends with the fixture that runs it."""
    return getattr(task.get_coro(), "__qualname__", "").startswith("RequestHandler.")


_TURNS: Final = 10
"""Turns of the loop that a task may need to end after it was cancelled."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on asyncio, in debug mode, on a loop whose time can be moved."""
    return "asyncio", {"debug": True, "loop_factory": VirtualTimeLoop}


@pytest.fixture
def advance_time(anyio_backend: object) -> Callable[[float], None]:
    """Move the time of the running loop forward by so many seconds."""
    if not has_virtual_time(anyio_backend):
        pytest.skip("the time of this loop cannot be moved")

    def move(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.advance_time(seconds)

    return move


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run a sandbox in the test's own loop."""
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def client_options() -> ClientOptions:
    """Give the options of the client; a module of tests that needs others has a fixture of the same name."""
    return {}


@pytest.fixture
async def veriff(sandbox: Sandbox, client_options: ClientOptions) -> AsyncIterator[VeriffClient]:
    """Give a client of the sandbox, from its environment."""
    async with VeriffClient.from_env(sandbox.environ, **client_options) as veriff:
        yield veriff


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that a test starts run without coverage, which takes them longer to begin than to do their work."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail whatever blocks a loop."""
    with blockbuster_ctx() as blocker:
        yield blocker


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a thread running, and collect what it dropped, so that it warns here."""
    before = set(threading.enumerate())
    gc.collect()
    gc.freeze()  # What is there before a test need not be searched after it: that takes longer than most tests.
    yield
    gc.collect()
    left = [thread for thread in threading.enumerate() if thread not in before and not _ends(thread)]
    assert [] == left


def pytest_sessionfinish() -> None:
    """Let the last collection of pytest find what was dropped since by fixtures of wider scopes."""
    gc.unfreeze()


def _ends(thread: threading.Thread) -> bool:
    """Tell whether a thread ends by itself: worker threads do, soon after their loop."""
    thread.join(2)
    return not thread.is_alive()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Fail an asynchronous test that does not end, or that leaves a task behind."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return

    @functools.wraps(test)
    async def checked(*args: object, **kwargs: object) -> None:
        before = asyncio.all_tasks()
        async with time_limit(_seconds(pyfuncitem)):
            await test(*args, **kwargs)
        for _ in range(_TURNS):
            left = [task for task in asyncio.all_tasks() - before if not _serves(task)]
            if not left:
                break
            await asyncio.sleep(0)
        assert [] == left

    pyfuncitem.obj = checked


def _seconds(item: pytest.Item) -> float:
    """Return the time limit of a test, which expires before that of pytest-timeout."""
    marker = item.get_closest_marker("timeout")
    limit = marker.args[0] if marker is not None else item.config.getini("timeout")
    return 0.75 * float(limit)
