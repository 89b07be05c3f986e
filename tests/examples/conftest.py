"""Where the examples are, and how a test waits for one that runs in a process of its own."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from anyio import to_thread

from tests.conditions import until_in_thread

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

    def is_listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    # The examples have no other signal that they listen.
    await to_thread.run_sync(until_in_thread, lambda: process.poll() is not None or is_listening(), SECONDS)
    if process.poll() is not None:
        pytest.fail("the example ended before it listened")
