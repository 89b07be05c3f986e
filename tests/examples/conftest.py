"""Where the examples are, and how a test waits for one that runs in a process of its own."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    import subprocess

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
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
