"""Receivers under test: on a real socket each, behind aiohttp's server and behind uvicorn."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
import uvicorn
from aiohttp import web
from attrs import frozen

from veriff_async import Credentials
from veriff_async.inbox import MemoryInbox, RecordResult
from veriff_async.models.decision_source import DecisionSource
from veriff_async.webhooks import WebhookReceiver, aiohttp_handler, asgi_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from veriff_async import WebhookEvent

CREDENTIALS: Final = Credentials("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "new", previous_secrets=("old",))
PATH: Final = "/webhooks/veriff"


def message(action: str = "started", session_id: str = "8f0d1ab6", **more: object) -> bytes:
    """Write an event as Veriff does."""
    code = 7001 if action == "started" else 7002
    return json.dumps({"id": session_id, "attemptId": "e3a1", "action": action, "code": code, **more}).encode()


def sign_headers(body: bytes, *, secret: str | None = None, **others: str | None) -> dict[str, str]:
    """Return the headers of a signed webhook, with others of them, or without those that are ``None``."""
    headers: dict[str, str | None] = {
        "content-type": "application/json",
        "x-auth-client": CREDENTIALS.api_key,
        "x-hmac-signature": hmac.new((secret or CREDENTIALS.shared_secret).encode(), body, hashlib.sha256).hexdigest(),
    }
    headers.update({name.replace("_", "-"): value for name, value in others.items()})
    return {name: value for name, value in headers.items() if value is not None}


class OwnInbox(MemoryInbox):
    """An inbox of a user's own, which waits or fails on the way."""

    def __init__(self, error: Exception | None = None, *, waits: bool = False) -> None:
        """Fail with an error, or wait for `may_end` once an event is kept."""
        super().__init__()
        self.error = error
        self.kept = asyncio.Event()
        self.may_end = asyncio.Event()
        if not waits:
            self.may_end.set()

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Keep an event, sooner or later."""
        if self.error is not None:
            raise self.error
        recorded = await super().record(event, source=source, deliver=deliver)
        self.kept.set()
        await self.may_end.wait()
        return recorded


@pytest.fixture
def inbox() -> MemoryInbox:
    """Give an inbox."""
    return MemoryInbox()


@pytest.fixture
async def receiver(inbox: MemoryInbox) -> AsyncIterator[WebhookReceiver]:
    """Give a receiver with small limits."""
    async with WebhookReceiver(CREDENTIALS, inbox, max_body=1000) as receiver:
        yield receiver


@frozen
class Answer:
    """A response over a socket."""

    status: int
    headers: dict[str, str]
    body: bytes


@frozen
class Server:
    """A receiver on a port of this machine."""

    port: int

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return f"http://127.0.0.1:{self.port}{PATH}"

    async def send(self, *parts: bytes) -> Answer:
        """Send exactly this, and read until the server has nothing more to say."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers["content-length"]))
        finally:
            writer.close()
        return Answer(int(head[0].split()[1]), headers, body)

    async def post(self, body: bytes, headers: dict[str, str], *, method: str = "POST", path: str = PATH) -> Answer:
        """Send one request with a body of a known length."""
        return await self.send(head(method, {**headers, "content-length": str(len(body))}, path) + body)


def head(method: str, headers: dict[str, str], path: str = PATH) -> bytes:
    """Write the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "host: here", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def under_aiohttp(app: web.Application) -> AsyncIterator[Server]:
    """Serve an application of aiohttp.web."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Server(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def under_uvicorn(app: Callable[..., object]) -> AsyncIterator[Server]:
    """Serve an ASGI application."""
    config = uvicorn.Config(
        app,
        port=0,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0)
            assert not running.done()
        yield Server(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await running


def in_aiohttp(receiver: WebhookReceiver) -> web.Application:
    """Give a receiver a route of an application."""
    app = web.Application(client_max_size=10)
    app.router.add_route("*", PATH, aiohttp_handler(receiver))
    return app


@pytest.fixture(params=["aiohttp", "asgi"])
async def server(request: pytest.FixtureRequest, receiver: WebhookReceiver) -> AsyncIterator[Server]:
    """Serve the receiver."""
    serve = (
        under_aiohttp(in_aiohttp(receiver))
        if request.param == "aiohttp"
        else under_uvicorn(asgi_app(receiver, path=PATH))
    )
    async with serve as server:
        yield server
