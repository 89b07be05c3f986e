"""Starts and stops of servers that are cancelled, repeated or made at the same time."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest

from veriff_async import ConfigurationError
from veriff_async.sandbox import Recorder, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async.sandbox import Replay

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_temp_folder")]


@pytest.fixture
def own_temp_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of all temporary files of a test."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


async def create(kind: str, folder: Path) -> Sandbox | Recorder | Replay:
    """Return a server that is not running; a recording that was ended immediately is a cassette to replay."""
    if kind == "sandbox":
        return Sandbox()
    recorder = Recorder("http://127.0.0.1:1", folder / "cassette.jsonl")
    if kind == "recorder":
        return recorder
    async with recorder:
        return Sandbox.replay(recorder.cassette)


@pytest.mark.parametrize("kind", ["sandbox", "recorder", "replay"])
async def test_a_stop_in_a_cancelled_scope_leaves_nothing_behind(
    kind: str, tmp_path: Path, own_temp_folder: Path
) -> None:
    """A cancelled scope of anyio cancels every await, but not those that close sockets and remove files."""
    server = await create(kind, tmp_path)
    before = asyncio.all_tasks()
    ports: list[int] = []
    with anyio.CancelScope() as scope:
        async with server:
            ports.append(int(server.base_url.rpartition(":")[2]))
            scope.cancel()
            await anyio.sleep_forever()
    with pytest.raises(OSError):  # noqa: PT011  its text depends on the platform
        await asyncio.open_connection("127.0.0.1", ports[0])
    assert await anyio.to_thread.run_sync(os.listdir, own_temp_folder) == []
    assert asyncio.all_tasks() == before


async def test_a_start_in_a_cancelled_scope_leaves_nothing_behind(own_temp_folder: Path) -> None:
    """A start that is cancelled closes what it has opened."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with Sandbox():
            pytest.fail("It has started.")
    assert await anyio.to_thread.run_sync(os.listdir, own_temp_folder) == []


@pytest.mark.parametrize("kind", ["sandbox", "recorder", "replay"])
async def test_only_one_of_two_concurrent_starts_succeeds(kind: str, tmp_path: Path) -> None:
    """The second start is refused before it opens anything, and the first one is not affected."""
    server = await create(kind, tmp_path)
    before = asyncio.all_tasks()
    first, second = await asyncio.gather(server.__aenter__(), server.__aenter__(), return_exceptions=True)
    assert first is server
    assert isinstance(second, ConfigurationError)
    await server.__aexit__(None, None, None)
    assert asyncio.all_tasks() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork() in a process with threads
def test_a_forked_child_leaves_the_sandbox_to_its_parent(own_temp_folder: Path) -> None:
    """A child that leaves the block ends, and the sandbox of the parent still runs."""
    sandbox = Sandbox()
    with sandbox:
        child = os.fork()
        if child == 0:  # pragma: no cover  another process
            sandbox.__exit__(None, None, None)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        sandbox.wait_idle_sync()
        assert list(own_temp_folder.iterdir()) != []
    assert list(own_temp_folder.iterdir()) == []


async def test_an_application_that_ignores_its_cancellation_does_not_hold_up_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A stop waits a second for an application, and logs that it still runs."""
    called, released = asyncio.Event(), asyncio.Event()

    async def ignore_cancellation(*_: object) -> None:
        called.set()
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    async with Sandbox(webhook_app=ignore_cancellation) as sandbox:
        (session_id,) = sandbox.seed(1, statuses=["submitted"])
        sandbox.decide(session_id, "approved")
        await called.wait()
    assert "still runs" in caplog.text
    released.set()
