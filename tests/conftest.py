"""Shared fixtures. A test fails if it blocks the loop, warns, does not end, or leaks a task, thread or socket."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import threading
from asyncio import constants
from typing import TYPE_CHECKING

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

from tests.conditions import time_limit
from tests.fork_server import close_fork_servers
from tests.left_tasks import fail_on_left_tasks
from tests.loops import VirtualTimeLoop, default_backend, has_virtual_time
from veriff_async import VeriffClient
from veriff_async._media import source
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from veriff_async.client import ClientOptions

# The servers are fixtures of all tests: a conftest.py or module that imported them would start servers of its own.
pytest_plugins = ("pytester", "tests.postgres_server", "tests.servers")

# Tests start some hundred processes. Without the files of compiled modules, each compiles the library, which takes a
# third of its time; the workers of xdist compile the tests as well.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine may take long for an example, so examples have no deadline.
settings.register_profile("rules", deadline=None, max_examples=30)
settings.load_profile("rules")

# A loop in debug mode records a stack trace for each handle and task, which takes longer than most tests. Its checks
# work without these traces; set 10 here to see where a handle or task was created.
setattr(constants, "DEBUG_STACK_DEPTH", 0)  # noqa: B010  typed as final


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on asyncio, on a loop with virtual time, unless ``VERIFF_TEST_LOOP`` says otherwise."""
    return default_backend()


@pytest.fixture
def advance_time(anyio_backend: object) -> Callable[[float], None]:
    """Return a function that advances the time of the running loop by some seconds."""
    if not has_virtual_time(anyio_backend):
        pytest.skip("this loop has no virtual time")

    def move(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.advance_time(seconds)

    return move


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run a sandbox in the loop of the test."""
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def client_options() -> ClientOptions:
    """Return the options of the client; test modules override this fixture."""
    return {}


@pytest.fixture
async def veriff(sandbox: Sandbox, client_options: ClientOptions) -> AsyncIterator[VeriffClient]:
    """Return a client of the sandbox."""
    async with VeriffClient.from_env(sandbox.environ, **client_options) as veriff:
        yield veriff


@pytest.fixture
def without_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the processes that a test starts without coverage, whose start takes longer than their work."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail code that blocks the loop."""
    blocker = _make_blockbuster()
    blocker.activate()
    yield blocker
    blocker.deactivate()


@functools.cache
def _make_blockbuster() -> BlockBuster:
    """Return the only detector of the process: making one takes as long as a short test."""
    return BlockBuster()


@pytest.fixture(autouse=True)
def max_held_file(monkeypatch: pytest.MonkeyPatch) -> int:
    """Hold files of up to 256 KiB only, so that tests can stream without files of many MiB."""
    monkeypatch.setattr(source, "_MAX_HELD_OF_ONE", source.SMALL)
    return source.SMALL


@pytest.fixture(autouse=True)
def fail_on_leaks() -> Iterator[None]:
    """Fail a test that leaks a thread, and collect its garbage, so that the warnings belong to the test."""
    before = set(threading.enumerate())
    gc.collect()
    gc.freeze()  # a collection of older objects takes longer than most tests
    yield
    gc.collect()
    left = [thread for thread in threading.enumerate() if thread not in before and not _ends_soon(thread)]
    assert [] == left


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import the tests without the garbage collector, which would search the same modules again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def end_fork_servers() -> Iterator[None]:
    """End the fork servers after the last test."""
    yield
    close_fork_servers()


def pytest_sessionfinish() -> None:
    """Let the last collection find the garbage of fixtures with a wider scope."""
    gc.unfreeze()


def _ends_soon(thread: threading.Thread) -> bool:
    """Return whether a thread ends by itself: soon after its loop, or with the garbage that holds its executor."""
    for _ in range(20):
        thread.join(0.5)
        if not thread.is_alive():
            return True
        gc.collect()
    return False


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Fail an asynchronous test that does not end, or that leaves a task behind."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return

    @functools.wraps(test)
    async def checked(*args: object, **kwargs: object) -> None:
        async with fail_on_left_tasks(), time_limit(_seconds(pyfuncitem)):
            await test(*args, **kwargs)

    pyfuncitem.obj = checked


def _seconds(item: pytest.Item) -> float:
    """Return the time limit of a test, which expires before that of pytest-timeout."""
    marker = item.get_closest_marker("timeout")
    limit = marker.args[0] if marker is not None else item.config.getini("timeout")
    return 0.75 * float(limit)
