"""Runs the examples as a user does: each in a process of its own, configured by environment variables."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import Protocol

    class Programs(Protocol):
        """Starts an example."""

        def __call__(self, name: str, environ: Mapping[str, str]) -> AbstractAsyncContextManager[str]:
            """Start it, and return its URL."""
            ...


EXAMPLES: Final = Path(__file__).parents[2] / "examples"
COMMANDS: Final = {
    "fastapi": ["-m", "uvicorn", "--factory", "fastapi_app:create_app", "--workers", "2"],
}
SECONDS: Final = 50.0


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


async def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when a server listens on a port."""
    async with asyncio.timeout(SECONDS):
        while process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.02)  # the examples have no other signal that they listen
                continue
            writer.close()
            return
    pytest.fail("the example ended before it listened")


@pytest.fixture
def programs(tmp_path: Path, without_coverage: None) -> Programs:
    """Return a function that starts an example in a process, which ends with the test."""

    @asynccontextmanager
    async def start(name: str, environ: Mapping[str, str]) -> AsyncIterator[str]:
        port = free_port()
        command = [sys.executable, *COMMANDS[name], "--port", str(port), "--log-level", "warning"]
        settings = {"VERIFF_INBOX": str(tmp_path / f"{name}.db")}
        process = await to_thread.run_sync(
            lambda: subprocess.Popen(command, cwd=EXAMPLES, env={**os.environ, **environ, **settings})  # noqa: S603
        )
        try:
            await wait_for_port(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                await to_thread.run_sync(process.wait, SECONDS)
            finally:
                process.kill()
            # The example closes its inbox, which removes SQLite's -wal and -shm files.
            assert [] == await to_thread.run_sync(lambda: list(tmp_path.glob("*.db-*")))

    return start
