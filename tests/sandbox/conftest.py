"""A client and a webhook receiver that share no code with the package, as in another language."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import ClientSession, web
from attrs import field, frozen, mutable

from veriff_async.sandbox import Sandbox, VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import Protocol

    class StartSandbox(Protocol):
        """A way to start a sandbox with a caller of its own."""

        def __call__(self, **options: Any) -> AbstractAsyncContextManager[Caller]:  # noqa: ANN401  passed on
            """Start it."""
            ...


SECONDS: Final = 20.0
LARGE: Final = 2**20
"""Bytes above which aiohttp wants a body as a file."""


@frozen
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401  any JSON of a response
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, object]:
        """Status and code of an answer that refuses, in its one documented form."""
        assert "fail" == self.json["status"]
        assert isinstance(self.json["message"], str)
        return self.status, self.json.get("code")


@frozen
class Caller:
    """Calls a sandbox with nothing but aiohttp and the standard library."""

    http: ClientSession
    sandbox: Sandbox

    async def send(
        self, method: str, path: str, *, data: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send exactly this."""
        if isinstance(data, bytes) and len(data) > LARGE:
            data = BytesIO(data)
        async with self.http.request(
            method, self.sandbox.base_url + path, data=data, headers=headers, allow_redirects=False
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    def signature(self, payload: bytes = b"", *, secret: str | None = None) -> hmac.HMAC:
        """Sign as Veriff's documents say, with the standard library alone."""
        return hmac.new((secret or self.sandbox.credentials.shared_secret).encode(), payload, hashlib.sha256)

    def signed(self, payload: bytes, *, secret: str | None = None, family: str = "X") -> dict[str, str]:
        """Return the headers that a signed request has."""
        credentials = self.sandbox.credentials
        return {
            f"{family}-AUTH-CLIENT": credentials.api_key,
            f"{family}-HMAC-SIGNATURE": self.signature(payload, secret=secret).hexdigest(),
            "Content-Type": "application/json",
        }

    async def post(self, path: str, value: object, *, method: str = "POST") -> Reply:
        """Send signed JSON; bytes go as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return await self.send(method, path, data=body, headers=self.signed(body))

    async def get(self, path: str, signed: str) -> Reply:
        """Ask for something, signing its id."""
        return await self.send("GET", path, headers=self.signed(signed.encode()))

    async def create(self, **verification: object) -> str:
        """Open a session and return its id."""
        reply = await self.post("/v1/sessions", {"verification": verification})
        assert 201 == reply.status, reply.body
        session_id = reply.json["verification"]["id"]
        assert isinstance(session_id, str)
        return session_id

    async def upload(self, session_id: str, content: str, context: object = "document-front") -> Reply:
        """Upload a picture that is base64 already."""
        return await self.post(f"/v1/sessions/{session_id}/media", {"image": {"context": context, "content": content}})

    async def submit(self, session_id: str, status: object = "submitted") -> Reply:
        """Ask for another status."""
        return await self.post(f"/v1/sessions/{session_id}", {"verification": {"status": status}}, method="PATCH")

    async def decision(self, session_id: str) -> Reply:
        """Ask for the decision."""
        return await self.get(f"/v1/sessions/{session_id}/decision", session_id)


@frozen
class Arrival:
    """A webhook as it came in."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401  any JSON of a request
        """The body as JSON."""
        return json.loads(self.body)


@mutable
class Receiver:
    """A server that takes webhooks; `answers` are given first to last, then 200."""

    url: str = ""
    answers: list[int] = field(factory=list)
    arrived: asyncio.Queue[Arrival] = field(factory=asyncio.Queue)
    holds: asyncio.Event | None = None

    async def receive(self, request: web.Request) -> web.Response:
        """Take one."""
        self.arrived.put_nowait(Arrival(request.headers.copy(), await request.read()))
        if self.holds is not None:
            await self.holds.wait()
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": self.url} if 300 <= status < 400 else None)

    async def next(self) -> Arrival:
        """Wait for the next one."""
        async with asyncio.timeout(SECONDS):
            return await self.arrived.get()


@pytest.fixture
async def start_sandbox() -> AsyncIterator[StartSandbox]:
    """Return a function that starts a sandbox with options."""
    async with ClientSession() as http:

        @asynccontextmanager
        async def start(**options: Any) -> AsyncIterator[Caller]:  # noqa: ANN401  passed on
            async with Sandbox(**options) as sandbox:
                yield Caller(http, sandbox)

        yield start


@pytest.fixture
async def caller(start_sandbox: StartSandbox) -> AsyncIterator[Caller]:
    """Return a caller of a sandbox with a virtual clock."""
    async with start_sandbox(clock=VirtualClock()) as started:
        yield started


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Run a server that accepts webhooks."""
    taking = Receiver()
    app = web.Application()
    app.router.add_route("*", "/hook", taking.receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        taking.url = f"http://{host}:{port}/hook"
        yield taking
    finally:
        if taking.holds is not None:
            taking.holds.set()
        await runner.cleanup()
