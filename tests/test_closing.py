"""Closing a client takes a bounded time and ends all its calls."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

import aiohttp
import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread

from tests.conditions import until
from veriff_async import (
    ClientClosedError,
    Credentials,
    Media,
    NfcData,
    RequestTimeoutError,
    RetryPolicy,
    VeriffClient,
    VeriffError,
)
from veriff_async._http import active_calls
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from veriff_async import UploadProgress

pytestmark = pytest.mark.anyio

CREDENTIALS: Final = Credentials("5b0d1ab6-0000-4000-8000-000000000001", "secret")
MEDIA_ID: Final = "8f0d1ab6-0000-4000-8000-000000000001"
PICTURE: Final = b"\xff\xd8\xff\xda" + os.urandom(16_000_000)  # no size is read from random pixels
_HEAD_END: Final = b"\r\n\r\n"


class RawServer:
    """A TCP server that reads the head of a request, answers with fixed bytes, and then neither reads nor closes."""

    def __init__(self, response: bytes = b"") -> None:
        """Store the bytes of the response."""
        self.response = response
        self.url = ""
        self.connected = anyio.Event()
        self.ended = anyio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its client ends it."""
        try:
            await reader.readuntil(_HEAD_END)
            writer.write(self.response)
            self.connected.set()
            # A read would free the buffers that the client waits for. The end of the connection is noticed without a
            # read.
            await self.ended.wait()
        finally:
            writer.transport.abort()


@asynccontextmanager
async def listening(response: bytes = b"") -> AsyncIterator[RawServer]:
    """Run a `RawServer` on a free port of this machine."""
    raw = RawServer(response)
    server = await asyncio.start_server(raw.handle, "127.0.0.1", 0, limit=2**14)
    raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        raw.ended.set()
        server.close()
        if hasattr(server, "close_clients"):
            server.close_clients()
        await server.wait_closed()
        await asyncio.sleep(0)


def count_sockets() -> int:
    """Return how many sockets of this process are open."""
    count = 0
    for descriptor in range(256):
        with suppress(OSError):
            count += stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    return count


async def until_sockets(count: int) -> None:
    """Check the number of open sockets; a transport closes its socket one loop iteration after it was aborted."""
    for _ in range(10):
        if count_sockets() == count:
            return
        await asyncio.sleep(0)
    assert count_sockets() == count


async def upload(veriff: VeriffClient, progress: Callable[[UploadProgress], None] | None = None) -> None:
    """Upload a picture that is larger than all buffers of a connection."""
    await veriff.session(MEDIA_ID).upload(Media(PICTURE, "face"), progress=progress)


async def upload_nfc(veriff: VeriffClient) -> None:
    """Upload a chip reading that is larger than all buffers of a connection."""
    await veriff.session(MEDIA_ID).upload_nfc(NfcData(com=b"1", sod=b"2", dg1=b"3", dg2=PICTURE))


async def get_error_type(work: Awaitable[object]) -> type[BaseException] | None:
    """Return the class of the error that a call ended with."""
    try:
        await work
    except VeriffError as error:
        return type(error)
    return None


@asynccontextmanager
async def running(work: Awaitable[object]) -> AsyncIterator[asyncio.Task[type[BaseException] | None]]:
    """Run a call in a task that must end with the block."""
    task = asyncio.ensure_future(get_error_type(work))
    yield task
    async with asyncio.timeout(10):
        await task


@pytest.mark.parametrize("send", [upload, upload_nfc], ids=["streamed", "held in memory"])
async def test_closing_ends_upload_to_server_that_stopped_reading(
    send: Callable[[VeriffClient], Awaitable[None]],
) -> None:
    """`aclose` aborts connections whose peer does not read, and the upload fails with `ClientClosedError`."""
    async with listening() as server:
        before = count_sockets()
        veriff = VeriffClient(CREDENTIALS, base_url=server.url)
        async with running(send(veriff)) as task:
            await server.connected.wait()
            async with asyncio.timeout(10):
                await veriff.aclose()
        assert task.result() is ClientClosedError
        await until_sockets(before + 1)  # the server's own side


async def test_timed_out_upload_aborts_its_connection(
    advance_time: Callable[[float], None],
) -> None:
    """An upload that timed out has aborted its connection, so closing the client has nothing to wait for."""
    async with listening() as server:
        before = count_sockets()
        veriff = VeriffClient(CREDENTIALS, base_url=server.url, retry=RetryPolicy(max_attempts=1))
        async with running(upload(veriff)) as task:
            await server.connected.wait()
            await anyio.wait_all_tasks_blocked()
            advance_time(700)
        assert task.result() is RequestTimeoutError
        await until_sockets(before + 1)  # the server's own side
        await veriff.aclose()


async def test_cancelled_upload_over_borrowed_session_aborts_its_connection() -> None:
    """Closing a client with a session of the caller is immediate, since a cancelled upload aborts its connection."""
    async with listening() as server, aiohttp.ClientSession() as http:
        before = count_sockets()
        veriff = VeriffClient(CREDENTIALS, base_url=server.url, http_session=http)
        async with running(upload(veriff)) as task:
            await server.connected.wait()
            await veriff.aclose()
        assert task.result() is ClientClosedError
        assert not http.closed
        await until_sockets(before + 1)  # the server's own side


@pytest.mark.parametrize("work", ["download", "stream", "get"])
async def test_closing_ends_calls_that_wait_for_bytes(tmp_path: Path, work: str) -> None:
    """Downloads, streams and polls that run while the client is closed end with `ClientClosedError`."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\nbegin"
    async with listening(b"" if work == "get" else head) as server:
        veriff = VeriffClient(CREDENTIALS, base_url=server.url)

        async def stream() -> None:
            async with veriff.stream_media(MEDIA_ID) as pieces:
                async for _ in pieces:
                    pass

        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "download": lambda: veriff.download_media(MEDIA_ID, tmp_path),
            "stream": stream,
            "get": lambda: veriff.session(MEDIA_ID).media(),
        }
        async with running(calls[work]()) as task:
            await server.connected.wait()
            await anyio.wait_all_tasks_blocked()
            await veriff.aclose()
        assert task.result() is ClientClosedError
        assert [] == await to_thread.run_sync(os.listdir, tmp_path)


async def test_closing_ends_calls_that_wait_for_a_retry(sandbox: Sandbox) -> None:
    """A call that pauses before a retry, or that a cooldown delays, ends when the client is closed."""
    sandbox.inject(Fault.status(503, retry_after=50), path="/v1/sessions/*/media", times=10)
    veriff = VeriffClient(sandbox.credentials, base_url=sandbox.base_url)
    session = await veriff.create_session()
    async with running(session.media()) as first:
        await until(lambda: veriff.statistics().retries)
        async with running(session.media()) as second:
            await anyio.wait_all_tasks_blocked()
            await veriff.aclose()
    assert [first.result(), second.result()] == [ClientClosedError, ClientClosedError]


async def test_concurrent_closing_does_not_wait_for_the_grace_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """When several tasks close a client, each returns as soon as its calls have ended."""
    monkeypatch.setattr(active_calls, "GRACE", 60.0)
    async with listening() as server:
        veriff = VeriffClient(CREDENTIALS, base_url=server.url)
        async with running(veriff.session(MEDIA_ID).media()) as task:
            await server.connected.wait()
            async with asyncio.timeout(10):
                await asyncio.gather(*(veriff.aclose() for _ in range(3)))
        assert task.result() is ClientClosedError


async def test_closing_ends_calls_that_wait_for_a_permit() -> None:
    """Uploads and downloads that wait for a permit, and calls that wait for a connection, end too."""
    async with listening() as server:
        veriff = VeriffClient(CREDENTIALS, base_url=server.url, max_connections=3, max_uploads=1, max_downloads=1)
        calls = [get_error_type(upload(veriff)) for _ in range(3)]
        calls += [get_error_type(veriff.download_media(MEDIA_ID, "nowhere")) for _ in range(3)]
        calls += [get_error_type(veriff.session(MEDIA_ID).media()) for _ in range(3)]
        gathered = asyncio.gather(*calls)
        await server.connected.wait()
        await anyio.wait_all_tasks_blocked()
        async with asyncio.timeout(10):
            await veriff.aclose()
            assert {ClientClosedError} == set(await gathered)


async def test_calls_after_closing_raise_client_closed(sandbox: Sandbox, tmp_path: Path) -> None:
    """Every call of a closed client raises `ClientClosedError`, and a second `aclose` does nothing."""
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url) as veriff:
        session = await veriff.create_session()
    await veriff.aclose()
    for call in (
        veriff.create_session(),
        session.upload(Media(PICTURE, "face")),
        session.media(),
        session.submit(),
        session.wait_for_decision(),
        veriff.download_media(MEDIA_ID, tmp_path),
    ):
        assert await get_error_type(call) is ClientClosedError


async def test_closing_in_an_upload_callback_does_not_deadlock(sandbox: Sandbox) -> None:
    """An upload whose callback closes the client does not make `aclose` wait for that upload."""
    veriff = VeriffClient(sandbox.credentials, base_url=sandbox.base_url)
    session = await veriff.create_session()
    closed = asyncio.Event()

    async def close(_place: int, _receipt: object) -> None:
        await veriff.aclose()
        closed.set()

    async with asyncio.timeout(10):
        await get_error_type(session.upload(Media(PICTURE, "face"), on_uploaded=close))
    assert closed.is_set()


async def test_cancelled_call_stays_cancelled_while_the_client_closes() -> None:
    """A caller that cancels its own call gets its cancellation, not `ClientClosedError`."""
    async with listening() as server:
        veriff = VeriffClient(CREDENTIALS, base_url=server.url)
        task = asyncio.ensure_future(upload(veriff))
        await server.connected.wait()
        task.cancel()
        await veriff.aclose()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_cancelled_closing_still_closes_connections(sandbox: Sandbox) -> None:
    """`aclose` that is cancelled leaves no connection open."""
    veriff = VeriffClient(sandbox.credentials, base_url=sandbox.base_url)
    await veriff.create_session()
    closing = asyncio.ensure_future(veriff.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with anyio.CancelScope():
        await asyncio.gather(closing, return_exceptions=True)
    assert repr(veriff).endswith(" closed>")


async def test_call_that_never_ends_is_collected_in_any_context() -> None:
    """The garbage collector closes an unfinished call from the context of another task, without an error."""
    calls = active_calls.ActiveCalls()
    guard = calls.guard()
    copy_context().run(guard.__enter__)

    guard.__exit__(GeneratorExit, GeneratorExit(), None)

    assert not calls.running
