"""The examples of web applications, each under its own server, from the login to the decision."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import ClientSession
from anyio import to_thread

from tests.examples.web import JPEG, WEBHOOKS, Browser, Programs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from veriff_async.sandbox import Sandbox

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("name", ["aiohttp", "django", "flask", "litestar"]),
]

MANY: Final = 19
"""Pieces of a megabyte: more than Veriff takes."""


@pytest.fixture
async def programs(sandbox: Sandbox, tmp_path: Path, without_coverage: None) -> Programs:
    """Return a starter of programs that share an inbox in this test's folder."""
    return Programs(tmp_path, sandbox.environ)


async def pieces(count: int) -> AsyncIterator[bytes]:
    """Yield a file, in pieces of a megabyte."""
    yield JPEG
    for _ in range(count):
        yield bytes(1_000_000)


async def wait_until_waiting(url: str) -> None:
    """Return when a request waits for its decision; with several workers, until the one that has it responds."""
    while True:
        async with ClientSession() as http, http.get(f"{url}/health") as answer:
            if (await answer.json())["waiting"]:
                return


def count_questions(sandbox: Sandbox) -> int:
    """Return how often Veriff was asked for a decision."""
    return sum(seen.path.endswith("/decision") for seen in sandbox.requests)


async def test_user_is_verified(programs: Programs, sandbox: Sandbox, name: str) -> None:
    """A user does everything up to the decision; each mistake on the way gets a 4xx response with a remedy."""
    async with programs.start(name) as program, Browser() as user, Browser() as other:
        url = program.url
        sandbox.webhook_url = url + WEBHOOKS
        front = "/verification/media/document-front"

        async def refuses(
            status: int, method: str, path: str, data: bytes | AsyncIterator[bytes] | None = None
        ) -> None:
            seen, answer = await user.send(method, url + path, data)
            assert (status, True) == (seen, bool(answer.get("error"))), (path, seen, answer)

        await user.log_in(url)
        for method, path, data in (
            ("PUT", front, JPEG),
            ("POST", "/verification/submit", None),
            ("GET", "/verification", None),
        ):
            await refuses(409, method, path, data)  # nothing was started

        assert 204 == (await user.send("POST", f"{url}/verification"))[0]
        assert 204 == (await user.send("POST", f"{url}/verification"))[0]
        (session,) = sandbox.sessions  # the second request continued the same one
        assert "user-42" == session.vendor_data

        for path, content in (
            (front, b"a text, and no picture"),
            (front, b""),
            (front, pieces(MANY)),
            ("/verification/media/holiday", JPEG),
        ):
            await refuses(400, "PUT", path, content)
        assert 204 == (await user.send("PUT", url + front, pieces(1)))[0]
        assert 204 == (await user.send("POST", f"{url}/verification/submit"))[0]
        await refuses(409, "POST", "/verification/submit")
        await refuses(409, "PUT", front, JPEG)

        # The webhook arrives before the user asks.
        questions = count_questions(sandbox)
        sandbox.decide(session.id, "declined")
        await sandbox.wait_idle()
        assert [200] == [delivery.status for delivery in sandbox.deliveries]
        assert (200, {"status": "declined", "new_pictures": False}) == await user.send("GET", f"{url}/verification")
        assert questions == count_questions(sandbox)  # the inbox knew the answer

        # Others see nothing of it.
        assert 401 == (await other.send("GET", f"{url}/verification"))[0]
        await other.log_in(url, "user-43")
        assert 409 == (await other.send("GET", f"{url}/verification"))[0]

        async with ClientSession() as http, http.post(url + WEBHOOKS, json={}) as forged:
            assert 401 == forged.status
        assert 204 == (await user.send("POST", f"{url}/verification?again=1"))[0]
        assert 2 == len(sandbox.sessions)


async def test_stop_and_restart_lose_nothing(programs: Programs, sandbox: Sandbox, name: str) -> None:
    """A stop completes an upload, ends a wait with 503, and after a restart the decision is read."""
    async with Browser() as user, Browser() as second:
        may_end = asyncio.Event()
        started = asyncio.Event()

        async def picture() -> AsyncIterator[bytes]:
            started.set()
            yield JPEG
            await may_end.wait()
            yield bytes(300_000)

        async with programs.start(name) as program:
            url = program.url
            await user.submit_verification(url)
            await second.log_in(url, "user-43")
            assert 204 == (await second.send("POST", f"{url}/verification"))[0]
            waiting = asyncio.create_task(user.send("GET", f"{url}/verification"))
            uploading = asyncio.create_task(
                second.send("PUT", f"{url}/verification/media/face", picture(), expect100=True)
            )
            await wait_until_waiting(url)
            await started.wait()
            program.ask_to_stop()
            status, answer = await waiting
            assert (503, True) == (status, "again" in str(answer["error"]))
            may_end.set()
            assert (204, {}) == await uploading
            assert await program.wait() in {0, -15}
        # Its inbox was closed, which removes SQLite's files.
        assert [] == await to_thread.run_sync(lambda: list(programs.folder.glob("*.db-*")))

        decided, undecided = sandbox.sessions
        assert [1, 1] == [len(decided.media), len(undecided.media)]
        async with programs.start(name) as program:
            sandbox.webhook_url = program.url + WEBHOOKS
            sandbox.decide(decided.id, "resubmission_requested")
            expected = (200, {"status": "resubmission_requested", "new_pictures": True})
            assert expected == await user.send("GET", f"{program.url}/verification")
