"""The examples with the sandbox: an upload, a webhook to one process, the response from another."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Self

import pytest
from aiohttp import ClientSession, TCPConnector

from tests.conditions import needs_posix
from tests.examples.conftest import EXAMPLES
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.examples.conftest import Programs

pytestmark = pytest.mark.anyio

JPEG = b"\xff\xd8\xff\xe0"


class Caller:
    """A user's browser: one persistent connection, so that one worker process serves it."""

    def __init__(self, url: str) -> None:
        """Create a connection that opens at its first use."""
        self.http = ClientSession(url, connector=TCPConnector(limit=1))

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close the connection."""
        await self.http.close()

    async def call(self, method: str, path: str, data: bytes | None = None) -> Mapping[str, object]:
        """Send a request, and return the JSON of the response."""
        async with self.http.request(method, path, data=data) as answer:
            assert answer.ok, await answer.text()
            return {} if answer.status == 204 else await answer.json()

    async def submit_session(self) -> str:
        """Create a session, upload a file and submit it."""
        session_id = str((await self.call("POST", "/sessions?user_id=user-42"))["id"])
        await self.call("PUT", f"/sessions/{session_id}/media/document-front", JPEG)
        await self.call("POST", f"/sessions/{session_id}/submit")
        return session_id

    async def is_waiting(self) -> None:
        """Return when the process waits for a decision."""
        while (await self.call("GET", "/health"))["waiting"] != 1:
            pass


@needs_posix
async def test_webhook_to_one_worker_wakes_the_other(programs: Programs) -> None:
    """Of two worker processes one records the webhook, and the request that waits in the other gets the decision."""
    async with (
        Sandbox() as sandbox,
        programs("fastapi", sandbox.environ) as url,
        Caller(url) as waiting,
        Caller(url) as watching,
    ):
        sandbox.webhook_url = f"{url}/webhooks/veriff"
        session_id = await waiting.submit_session()
        pid = (await waiting.call("GET", "/health"))["pid"]
        assert isinstance(pid, int)
        decision = asyncio.create_task(waiting.call("GET", f"/sessions/{session_id}/decision"))
        await wait_until_waiting(url, pid)
        # A suspended process accepts no connection, so the other one gets the webhook.
        os.kill(pid, signal.SIGSTOP)
        try:
            assert pid != (await watching.call("GET", "/health"))["pid"]
            sandbox.decide(session_id, "approved")
            await sandbox.wait_idle()
        finally:
            os.kill(pid, signal.SIGCONT)

        assert [200] == [delivery.status for delivery in sandbox.deliveries]
        answer = await decision
        assert ("approved", pid) == (answer["status"], answer["pid"])
        # "known" if the process was suspended before its wait had looked at the inbox for the first time.
        assert answer["source"] in {"webhook", "known"}
        assert not [seen for seen in sandbox.requests if seen.path.endswith("/decision")]


async def wait_until_waiting(url: str, pid: int) -> None:
    """Return when a worker process waits for a decision; requests are repeated until this process responds."""
    while True:
        async with Caller(url) as other:
            health = await other.call("GET", "/health")
            if health["pid"] == pid:
                await other.is_waiting()
                return


def test_example_test_runs_under_pytest(without_coverage: None) -> None:
    """The example of a test runs under plain pytest, with the fixtures of the library."""
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-c", os.devnull]
    options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(  # noqa: S603  our own example
        [sys.executable, "-m", "pytest", *options, "test_my_app.py"],
        check=False,
        capture_output=True,
        text=True,
        cwd=EXAMPLES,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
