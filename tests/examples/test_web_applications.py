"""The examples of web applications, each under its own server, from the login to the decision."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession
from anyio import to_thread

from tests.examples.web import JPEG, WEBHOOKS, Browser, Program, Programs, check_webhooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from veriff_async.sandbox import Sandbox

# A program starts within a second, and within twenty when many tests run on few cores.
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(150)]

FRONT: Final = "/verification/media/document-front"

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


async def make_mistakes(user: Browser, url: str) -> None:
    """Start a verification, and do what the application must refuse, with a status and a remedy."""

    async def refuses(status: int, method: str, path: str, data: bytes | AsyncIterator[bytes] | None = None) -> None:
        seen, answer = await user.send(method, url + path, data)
        assert (status, True) == (seen, bool(answer.get("detail"))), (path, seen, answer)

    await refuses(401, "GET", "/verification")
    await user.log_in(url)
    await refuses(409, "PUT", FRONT, JPEG)  # nothing was started
    await refuses(409, "GET", "/verification")
    assert 204 == (await user.send("POST", f"{url}/verification"))[0]
    await refuses(415, "PUT", FRONT, b"a text, and no picture")
    await refuses(422, "PUT", FRONT, b"")
    await refuses(413, "PUT", FRONT, pieces(MANY))
    await refuses(422, "PUT", "/verification/media/holiday", JPEG)
    assert 204 == (await user.send("POST", f"{url}/verification"))[0]  # continues the same one
    assert 204 == (await user.send("PUT", url + FRONT, pieces(1)))[0]
    assert 204 == (await user.send("POST", f"{url}/verification/submit"))[0]
    await refuses(409, "POST", "/verification/submit")
    await refuses(409, "PUT", FRONT, JPEG)


async def cut_upload(user: Browser, port: int) -> None:
    """Begin to send a picture, and close the connection in the middle; return when the server has closed it too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [f"PUT {FRONT} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Length: 9999"]
    cookies = {cookie.key: cookie.value for cookie in user.jar}
    head += ["Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items())]
    head += [f"X-CSRFToken: {cookies.get('csrftoken', '')}", "", ""]
    writer.write("\r\n".join(head).encode() + JPEG)
    writer.write_eof()
    await reader.read()
    writer.close()


async def forge_cookies(user: Browser, url: str) -> None:
    """Alter the first character of each cookie, as if the secret was another one: the user has to log in again."""
    forged = {cookie.key: ("B" if cookie.value[0] == "A" else "A") + cookie.value[1:] for cookie in user.jar}
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in forged.items())}
    async with ClientSession() as http, http.get(f"{url}/verification", headers=headers) as answer:
        assert 401 == answer.status

    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    broken = b"; ".join(name.encode() + b"=\xff" for name in forged)  # not UTF-8
    head = f"GET /verification HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
    writer.write(head.encode() + b"Cookie: " + broken + b"\r\n\r\n")
    assert b" 401 " in await reader.readline()
    writer.close()


async def stop_with_open_requests(program: Program, waiting: Browser, uploading: Browser) -> None:
    """Stop a program while it waits for a decision and receives a picture; it must complete both."""
    started, may_end = asyncio.Event(), asyncio.Event()

    async def picture() -> AsyncIterator[bytes]:
        started.set()
        yield JPEG
        await may_end.wait()
        yield bytes(300_000)

    wait = asyncio.create_task(waiting.send("GET", f"{program.url}/verification"))
    upload = asyncio.create_task(uploading.send("PUT", program.url + FRONT, picture(), expect100=True))
    await wait_until_waiting(program.url)
    await started.wait()
    program.ask_to_stop()
    status, answer = await wait
    assert (503, True) == (status, "again" in str(answer["detail"]))
    may_end.set()
    assert (204, {}) == await upload
    assert await program.wait() in {0, -15}


@pytest.mark.parametrize("name", ["aiohttp", "django", "flask", "litestar"])
async def test_user_is_verified(programs: Programs, sandbox: Sandbox, name: str) -> None:
    """A user is verified in spite of mistakes, and of a stop of the server after the submission; others see nothing."""
    async with Browser() as user, Browser() as other:
        async with programs.start(name) as program:
            await make_mistakes(user, program.url)
            await other.log_in(program.url, "user-43")
            assert 204 == (await other.send("POST", f"{program.url}/verification"))[0]
            await cut_upload(other, program.port)
            if name != "flask":  # see test_frameworks
                await check_webhooks(program.url, sandbox.credentials)
            await forge_cookies(other, program.url)
            await other.log_in(program.url, "user-44")  # in the same browser
            assert 409 == (await other.send("PUT", program.url + FRONT, JPEG))[0]
            assert 204 == (await other.send("POST", f"{program.url}/verification"))[0]
            await stop_with_open_requests(program, user, other)
        # The inbox was closed, which removes SQLite's files.
        assert [] == await to_thread.run_sync(lambda: list(programs.folder.glob("*.db-*")))
        assert [("user-42", 1), ("user-43", 0), ("user-44", 1)] == [
            (session.vendor_data, len(session.media)) for session in sandbox.sessions
        ]
        session = sandbox.sessions[0]

        async with programs.start(name) as program:
            sandbox.webhook_url = program.url + WEBHOOKS
            # The webhook arrives before the user asks, so that Veriff is not asked.
            questions = count_questions(sandbox)
            sandbox.decide(session.id, "resubmission_requested")
            await sandbox.wait_idle()
            assert [200] == [delivery.status for delivery in sandbox.deliveries]
            expected = {"status": "resubmission_requested", "new_pictures": True}
            assert (200, expected) == await user.send("GET", f"{program.url}/verification")
            assert questions == count_questions(sandbox)


async def test_webhook_to_one_process_wakes_the_other(programs: Programs, sandbox: Sandbox) -> None:
    """Of two processes one records the webhook, and the request that waits in the other gets the decision."""
    async with programs.start("aiohttp") as first, programs.start("aiohttp") as second, Browser() as user:
        sandbox.webhook_url = second.url + WEBHOOKS
        await user.submit_verification(first.url)
        decision = asyncio.create_task(user.send("GET", f"{first.url}/verification"))
        await wait_until_waiting(first.url)
        (session,) = sandbox.sessions
        sandbox.decide(session.id, "declined")
        assert (200, {"status": "declined", "new_pictures": False}) == await decision
        assert not count_questions(sandbox)
