"""Runs an example of a web application as its page says, and uses it as a browser does."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

from aiohttp import ClientSession, CookieJar, TCPConnector
from anyio import to_thread
from attrs import define, field, frozen

from tests.examples.conftest import EXAMPLES, SECONDS, free_port, wait_for_port
from veriff_async import ProblemDetails
from veriff_async.testing import check_receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from veriff_async import Credentials


JPEG: Final = b"\xff\xd8\xff\xe0"
WEBHOOKS: Final = "/webhooks/veriff"

UVICORN: Final = ("-m", "uvicorn", "--lifespan", "on", "--log-level", "warning", "--port", "{port}")
COMMANDS: Final = {
    "aiohttp": ("aiohttp_app.py",),
    "litestar": (*UVICORN, "--factory", "litestar_app:create_app"),
    "django": (*UVICORN, "django_app:application"),
    "flask": (
        "-m",
        "gunicorn",
        "--threads=8",
        "--log-level=warning",
        "--bind=127.0.0.1:{port}",
        "flask_app:create_app()",
    ),
    "quart": (*UVICORN, "--factory", "quart_app:create_app"),
    "starlette": (*UVICORN, "--factory", "starlette_app:create_app"),
}
"""The arguments of Python with which the page of each example starts it."""


@define(eq=False)
class Program:
    """A running example."""

    process: subprocess.Popen[bytes]
    port: int
    has_ended: bool = False

    @property
    def url(self) -> str:
        """The URL of its server."""
        return f"http://127.0.0.1:{self.port}"

    def ask_to_stop(self) -> None:
        """Send SIGTERM, as service managers and containers do."""
        self.process.terminate()

    async def stop(self) -> int:
        """Stop it, and return its exit code."""
        self.ask_to_stop()
        return await self.wait()

    async def wait(self) -> int:
        """Return its exit code when it has ended."""
        self.has_ended = True
        return await to_thread.run_sync(self.process.wait, SECONDS)


@frozen
class Programs:
    """Starts examples that share an inbox and settings."""

    folder: Path
    environ: Mapping[str, str]

    @asynccontextmanager
    async def start(self, name: str) -> AsyncIterator[Program]:
        """Start an example, and stop it at the end of the block."""
        port = free_port()
        command = [sys.executable, *(part.format(port=port) for part in COMMANDS[name])]
        environ = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "",  # the programs start often, and would compile the package each time
            "VERIFF_INBOX": str(self.folder / "inbox.db"),
            "PORT": str(port),
            "SESSION_SECRET": "a secret of 32 characters or more",
            "DEMO_LOGIN": "1",
            **self.environ,
        }
        process = await to_thread.run_sync(
            lambda: subprocess.Popen(command, cwd=EXAMPLES, env=environ)  # noqa: S603  our own example
        )
        program = Program(process, port)
        try:
            await wait_for_port(port, process)
            yield program
            if not program.has_ended:
                assert await program.stop() in {0, -15}
        finally:
            process.kill()
            process.wait()


async def check_webhooks(url: str, credentials: Credentials) -> None:
    """Check the endpoint of an example: it passes every case of `check_receiver`, warnings and notes included."""
    # A busy machine may need long for a response.
    report = await check_receiver(
        url + WEBHOOKS, credentials, revoked_secret="deleted", deadline=30.0, slow_seconds=0.1
    )
    assert ("", []) == (report.problem, [(result.case.name, result.message) for result in report.failed])
    assert report.counts()["passed"] > 70


@define(eq=False)
class Browser:
    """A user's browser: it keeps cookies, and sends the token against forged requests that Django asks for."""

    jar: CookieJar = field(factory=lambda: CookieJar(unsafe=True))
    http: ClientSession = field(init=False)

    async def __aenter__(self) -> Self:
        """Open it."""
        # A server closes a connection on which it has refused an upload, and the next request may be sent before that.
        self.http = ClientSession(cookie_jar=self.jar, connector=TCPConnector(limit=0, force_close=True))
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close it."""
        await self.http.close()

    async def send(
        self, method: str, url: str, data: bytes | AsyncIterator[bytes] | None = None, *, expect100: bool = False
    ) -> tuple[int, dict[str, object]]:
        """Send a request, and return the status and the JSON of the response.

        Args:
            method: Its method.
            url: Its URL.
            data: Its body.
            expect100: Whether to send the body only when the server asks for it.
        """
        tokens = {cookie.key: cookie.value for cookie in self.jar}
        headers = {"X-CSRFToken": tokens["csrftoken"]} if "csrftoken" in tokens else {}
        async with self.http.request(method, url, data=data, headers=headers, expect100=expect100) as answer:
            is_json = answer.content_type in {"application/json", ProblemDetails.media_type}
            return answer.status, await answer.json(content_type=None) if is_json else {}

    async def log_in(self, url: str, user: str = "user-42") -> None:
        """Log a user in."""
        assert 204 == (await self.send("POST", f"{url}/login?user={user}"))[0]

    async def submit_verification(self, url: str, user: str = "user-42") -> None:
        """Log in, and do everything up to the submission."""
        await self.log_in(url, user)
        for method, path, data in (
            ("POST", "/verification", None),
            ("PUT", "/verification/media/document-front", JPEG),
            ("POST", "/verification/submit", None),
        ):
            status, answer = await self.send(method, url + path, data)
            assert 204 == status, answer
