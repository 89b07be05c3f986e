"""Inboxes and journals whose file is still being opened, or was opened before a fork."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest

from tests.conditions import needs_posix, run_loop, until, without_slow_steps
from veriff_async import InboxError, JournalError
from veriff_async.batch import SqliteJournal
from veriff_async.inbox import SqliteInbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

Store: TypeAlias = SqliteInbox | SqliteJournal
STORES: Final = (SqliteInbox, SqliteJournal)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "store.db"


@asynccontextmanager
async def held_file(path: Path) -> AsyncIterator[None]:
    """Hold a file as another process does that creates it."""

    def hold() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("CREATE TABLE held (id)")
        connection.execute("DROP TABLE held")
        connection.execute("BEGIN EXCLUSIVE")
        return connection

    connection = await asyncio.to_thread(hold)
    try:
        yield
    finally:
        await asyncio.to_thread(connection.close)


def is_being_opened(store: Store) -> bool:
    """Return whether a thread opens the file of a store: it holds the lock of the workers until then."""
    return store._group._lock.locked()


def threads_of_stores() -> list[str]:
    """Return the names of the threads that work on files."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("veriff-async")]


async def read(store: Store) -> object:
    """Read from a store."""
    return await (store.get_states(["a"]) if isinstance(store, SqliteInbox) else store.read("a"))


@pytest.mark.parametrize("kind", STORES)
async def test_cancelled_block_leaves_no_open_file(path: Path, kind: type[Store]) -> None:
    """A block that is cancelled while its file is opened closes the file, and a later block opens and closes it."""
    store = kind(path)
    async with held_file(path):
        entering = asyncio.ensure_future(store.__aenter__())
        await until(lambda: is_being_opened(store))
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
    # The thread opens the file now, and ends.
    await until(lambda: not is_being_opened(store) and not threads_of_stores())
    async with store:
        assert not await read(store)
    assert not threads_of_stores()


@pytest.mark.parametrize("kind", STORES)
async def test_close_does_not_stop_the_loop_while_the_file_is_opened(path: Path, kind: type[Store]) -> None:
    """Closing a store whose file another process holds leaves the event loop to other tasks."""
    store = kind(path)
    async with held_file(path):
        reading = asyncio.ensure_future(read(store))
        await until(lambda: is_being_opened(store))
        closing_store = asyncio.ensure_future(store.aclose())
        await run_loop()
        # If closing stopped the loop, it would continue when the opening has given up, and the store would be closed.
        assert is_being_opened(store)
        assert not closing_store.done()
    await closing_store
    with suppress(InboxError, JournalError):  # it was submitted before or after the end
        await reading
    assert not threads_of_stores()


FORKED: Final = """
import asyncio, os, sys, warnings
from veriff_async import ConfigurationError
from veriff_async.batch import SqliteJournal
from veriff_async.inbox import SqliteInbox

warnings.simplefilter("ignore", DeprecationWarning)  # a program with threads that forks is warned by CPython
store = vars()[sys.argv[1]](sys.argv[2])
asyncio.run(store.__aenter__())
if child := os.fork():
    failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    asyncio.run(store.aclose())
    raise SystemExit(failed)
try:
    asyncio.run(store.__aenter__())
except ConfigurationError as error:
    os._exit(0 if "make one in each process" in str(error) else 1)
os._exit(2)
"""


@needs_posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.parametrize("kind", STORES)
async def test_forked_process_cannot_enter_the_store_of_its_parent(path: Path, kind: type[Store]) -> None:
    """A block in a child process is refused if the parent had the store open at the fork."""
    command = [sys.executable, "-W", "error", "-c", FORKED, kind.__name__, str(path)]
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    assert (0, "") == (done.returncode, without_slow_steps(done.stderr))
