"""Connections that break after a transaction was sent: the event counts exactly once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.inbox.test_redis import client_of
from veriff_async import Credentials, InboxError, WebhookReceiver
from veriff_async._protocol.webhook import dump_event
from veriff_async.inbox import IgnoredReason, RedisInbox
from veriff_async.models.decision_source import DecisionSource
from veriff_async.testing import decision_event, session_event
from veriff_async.testing._harness import get_keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.servers import RedisServer
    from veriff_async import WebhookEvent
    from veriff_async.inbox import Delivery

pytestmark = pytest.mark.anyio

CREDENTIALS = Credentials("f9ae4cbd-9a3f-4a3b-b07b-7f1a2f4f9d10", "a fake secret")


class CuttingProxy:
    """A proxy between an inbox and its server that drops the response to a chosen command."""

    def __init__(self, target: int) -> None:
        """Take the port of the server."""
        self.target = target
        self.port = 0
        self.cut: bytes | None = None
        self.cuts = 0
        self.passed = 0  # so many of these commands get their responses before
        self.is_cut = asyncio.Event()
        self.refuses = False

    @property
    def url(self) -> str:
        """The address for the inbox."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        if self.refuses:
            writer.transport.abort()
            return
        upstream, server = await asyncio.open_connection("127.0.0.1", self.target)
        is_cut = False

        async def pass_up() -> None:
            nonlocal is_cut
            while data := await reader.read(65536):
                if self.cut is not None and self.cut in data and self.passed:
                    self.passed -= 1
                elif self.cut is not None and self.cut in data:
                    is_cut = True
                    self.is_cut.set()
                    self.cuts -= 1
                    if not self.cuts:
                        self.cut = None
                server.write(data)
            server.close()

        async def pass_down() -> None:
            while data := await upstream.read(65536):
                if is_cut:  # the server has applied it, and its response is lost
                    writer.transport.abort()
                    server.close()
                    return
                writer.write(data)
            writer.close()

        with suppress(OSError):
            await asyncio.gather(pass_up(), pass_down())


@asynccontextmanager
async def cutting(server: RedisServer) -> AsyncGenerator[CuttingProxy]:
    """Yield a proxy in front of a server."""
    proxy = CuttingProxy(server.port)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        proxy.port = listening.sockets[0].getsockname()[1]
        yield proxy


@pytest.mark.parametrize("command", [b"EXEC", b"WATCH", b"EVAL"])
@pytest.mark.parametrize("cuts", [1, 2])
async def test_event_with_lost_response_counts_once(redis_server: RedisServer, command: bytes, cuts: int) -> None:
    """With any response lost, the handler is called once, and Veriff's repetition is a duplicate."""
    called: list[Delivery[WebhookEvent]] = []
    async with (
        cutting(redis_server) as proxy,
        RedisInbox(proxy.url) as inbox,
        WebhookReceiver(CREDENTIALS, inbox, on_event=called.append) as receiver,
    ):
        await inbox.get_states(["s"])
        proxy.cut, proxy.cuts = command, cuts
        event = decision_event("s", "approved")
        body = dump_event(event)
        headers = {"x-auth-client": CREDENTIALS.api_key, "x-hmac-signature": CREDENTIALS.sign(body)}
        statuses = [(await receiver.handle("POST", headers, body)).status for _ in range(3)]

        assert 200 == statuses[-1]
        assert 1 == len(await get_keys(inbox))
    assert [None] == [recorded.ignored for recorded in called]


async def test_polled_decision_with_lost_response_counts_once(redis_server: RedisServer) -> None:
    """The same holds when the transaction only notes that a webhook reported a polled decision."""
    async with cutting(redis_server) as proxy, RedisInbox(proxy.url) as inbox:
        event = decision_event("s", "approved", minute=1)
        await inbox.record(event, source=DecisionSource.POLL)
        proxy.cut, proxy.cuts = b"EXEC", 1

        assert [None, IgnoredReason.DUPLICATE] == [(await inbox.record(event)).ignored for _ in range(2)]


async def test_server_that_stops_after_the_transaction(redis_server: RedisServer) -> None:
    """While the server is unreachable, the record keeps asking whether its event was stored, and returns the result."""
    async with cutting(redis_server) as proxy, RedisInbox(proxy.url, timeout=0.5) as inbox:
        await inbox.record(session_event("s", "started"))
        proxy.cut, proxy.cuts = b"EXEC", 1
        recording = asyncio.create_task(inbox.record(decision_event("s", "approved")))
        await proxy.is_cut.wait()
        proxy.refuses = True
        async with RedisInbox(redis_server.url) as other:
            while len(await get_keys(other)) < 2:
                pass
            assert (await other.record(decision_event("s", "approved"))).is_duplicate
        proxy.refuses = False

        assert (await recording).ignored is None


async def test_failed_record_counts_when_it_is_repeated(redis_server: RedisServer) -> None:
    """If the caller was cancelled before the result was known, the event counts when it comes to this process again."""
    async with cutting(redis_server) as proxy, RedisInbox(proxy.url) as inbox:
        await inbox.record(session_event("s", "started"))
        proxy.cut, proxy.cuts = b"EXEC", 1
        recording = asyncio.create_task(inbox.record(decision_event("s", "approved")))
        await proxy.is_cut.wait()
        proxy.refuses = True
        async with RedisInbox(redis_server.url) as other:
            while len(await get_keys(other)) < 2:
                pass
        recording.cancel()
        await asyncio.wait([recording])
        proxy.refuses = False

        results = [(await inbox.record(decision_event("s", "approved"))).ignored for _ in range(2)]
        assert [None, IgnoredReason.DUPLICATE] == results


async def test_refused_record_fails_immediately(redis_server: RedisServer) -> None:
    """A refusal is a response: nothing is repeated, and the error has the remedy."""
    async with RedisInbox(redis_server.url) as inbox, client_of(redis_server) as admin:
        await inbox.record(session_event("s", "started"))
        await admin.config_set("maxmemory", "1")  # pyright: ignore[reportUnknownMemberType]  its own
        try:
            with pytest.raises(InboxError, match="maxmemory"):
                await inbox.record(decision_event("s", "approved"))
        finally:
            await admin.config_set("maxmemory", "0")  # pyright: ignore[reportUnknownMemberType]  its own
        assert (await inbox.record(decision_event("s", "approved"))).ignored is None
