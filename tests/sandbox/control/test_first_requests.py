"""The control API is imported by its first request, so two first requests must wait for one import."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

PROGRAM: Final = """
import asyncio

from aiohttp import ClientSession

from veriff_async.sandbox import Sandbox


async def main():
    async with Sandbox() as sandbox, ClientSession() as http:
        async def ask():
            async with http.get(sandbox.control_url + "/sessions") as response:
                return response.status

        print(*await asyncio.gather(*(ask() for _ in range(5))))


asyncio.run(main())
"""


def test_concurrent_first_requests_succeed(without_coverage: None) -> None:
    """Five requests at once, the first of a process, all get their response."""
    ended = subprocess.run(  # noqa: S603  our own program
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )

    assert "200 200 200 200 200" == ended.stdout.strip()
