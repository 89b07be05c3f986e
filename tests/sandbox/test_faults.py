"""Injected faults, seen by a client at the socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import ClientError

from veriff_async import InvalidArgumentError
from veriff_async.sandbox import Fault, Sandbox, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Caller, StartSandbox

pytestmark = pytest.mark.anyio

SECONDS: Final = 20.0
PICTURE: Final = "/9j/4AAQ" + "A" * 4000


async def test_status_fault_replaces_the_response(caller: Caller) -> None:
    """Status, code, message and ``Retry-After`` are those of the fault, and the request is not carried out."""
    caller.sandbox.inject(Fault.status(429, retry_after=7, code="RATE_LIMIT_EXCEEDED", message="Slow down"))

    reply = await caller.post("/v1/sessions", {"verification": {}})

    assert (429, "RATE_LIMIT_EXCEEDED") == reply.refusal
    assert ("7", "Slow down") == (reply.headers["Retry-After"], reply.json["message"])
    assert () == caller.sandbox.sessions


async def test_fault_happens_the_given_number_of_times(caller: Caller) -> None:
    """Afterwards requests succeed again."""
    caller.sandbox.inject(Fault.status(503), times=2)

    replies = [await caller.post("/v1/sessions", {"verification": {}}) for _ in range(3)]

    assert [503, 503, 201] == [reply.status for reply in replies]


async def test_clear_faults_removes_pending_faults(caller: Caller) -> None:
    """After `clear_faults` no injected fault happens, and faults can be injected again."""
    caller.sandbox.inject(Fault.status(500), times=5)
    assert 500 == (await caller.post("/v1/sessions", {"verification": {}})).status

    caller.sandbox.clear_faults()
    await caller.create()

    caller.sandbox.inject(Fault.status(503))
    assert 503 == (await caller.post("/v1/sessions", {"verification": {}})).status


async def test_waiting_faults_are_listed_and_removed_one_by_one(caller: Caller) -> None:
    """The list shows how often each is yet to happen; a removed one does not happen, and its id is never used again."""
    first = caller.sandbox.inject(Fault.status(500), times=2)
    second = caller.sandbox.inject(Fault.drop(), method="post", path="/v1/*")
    assert 500 == (await caller.post("/v1/sessions", {"verification": {}})).status
    seen = [(waiting.id, waiting.times, waiting.method, waiting.path) for waiting in caller.sandbox.faults]
    assert [(first, 1, None, None), (second, 1, "POST", "/v1/*")] == seen

    caller.sandbox.remove_fault(second)

    assert [first] == [waiting.id for waiting in caller.sandbox.faults]
    assert 500 == (await caller.post("/v1/sessions", {"verification": {}})).status
    assert () == caller.sandbox.faults
    for gone in (first, second):
        with pytest.raises(InvalidArgumentError, match="no such fault"):
            caller.sandbox.remove_fault(gone)
    assert caller.sandbox.inject(Fault.drop()) not in {first, second}


async def test_fault_is_limited_to_method_and_path(caller: Caller) -> None:
    """Other requests succeed, and the fault stays pending."""
    session_id = await caller.create()
    caller.sandbox.inject(Fault.status(500), method="patch")
    caller.sandbox.inject(Fault.status(502), path="*/media")
    caller.sandbox.inject(Fault.status(504), path="*/media")

    assert 200 == (await caller.decision(session_id)).status
    assert 502 == (await caller.upload(session_id, PICTURE)).status
    assert 504 == (await caller.upload(session_id, PICTURE)).status
    assert 200 == (await caller.upload(session_id, PICTURE)).status
    assert 500 == (await caller.submit(session_id)).status
    assert 200 == (await caller.submit(session_id)).status


async def test_status_fault_may_precede_the_body(caller: Caller) -> None:
    """The response to the headers arrives while most of the body is unsent."""
    session_id = await caller.create()
    caller.sandbox.inject(Fault.status(413, before_body=True))

    assert b"413" in (await send_part_of_upload(caller, session_id)).split(b"\r\n", 1)[0]
    assert () == caller.sandbox.session(session_id).media


async def send_part_of_upload(caller: Caller, session_id: str, sent: int = 10) -> bytes:
    """Announce an upload, send some bytes of it, and return the bytes received before the connection ends or pauses."""
    host, _, port = caller.sandbox.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(
            f"POST /v1/sessions/{session_id}/media HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000000\r\n\r\n".encode()
        )
        writer.write(b"{" + b" " * (sent - 1))
        await writer.drain()
        async with asyncio.timeout(SECONDS):
            return await reader.read(65536)
    finally:
        writer.close()


@pytest.mark.parametrize("after", [0, 1000, 3_000_000])
async def test_drop_closes_the_connection(caller: Caller, after: int) -> None:
    """The connection closes after some bytes of the body, and the request is not carried out."""
    session_id = await caller.create()
    caller.sandbox.inject(Fault.drop(after=after), path="*/media")

    with pytest.raises(ClientError):
        await caller.upload(session_id, "/9j/4AAQ" + "A" * 4_000_000)

    assert () == caller.sandbox.session(session_id).media
    assert [201, None] == [seen.status for seen in caller.sandbox.requests]
    assert 200 == (await caller.upload(session_id, PICTURE)).status


@pytest.mark.parametrize("after", [0, 1000])
async def test_hang_ends_when_the_sandbox_stops(start_sandbox: StartSandbox, after: int) -> None:
    """A hanging request gets no response, delays no other request, and ends with the sandbox."""
    async with start_sandbox(clock=VirtualClock()) as caller:
        session_id = await caller.create()
        caller.sandbox.inject(Fault.hang(after=after), path="*/media")
        hanging = asyncio.create_task(caller.upload(session_id, "/9j/4AAQ" + "A" * 4_000_000))
        other = await caller.decision(session_id)
        assert not hanging.done()

    with pytest.raises(ClientError):
        await asyncio.wait_for(hanging, SECONDS)
    assert 200 == other.status


async def test_lose_response_carries_out_the_request(caller: Caller) -> None:
    """The request is carried out, and the client gets no response."""
    caller.sandbox.inject(Fault.lose_response())

    with pytest.raises(ClientError):
        await caller.post("/v1/sessions", {"verification": {}})

    assert 1 == len(caller.sandbox.sessions)


async def test_forge_signature_carries_out_the_request(caller: Caller) -> None:
    """The request is carried out, and no secret of the integration matches the signature."""
    caller.sandbox.inject(Fault.forge_signature())

    reply = await caller.post("/v1/sessions", {"verification": {}})

    assert 201 == reply.status
    assert caller.signature(reply.body).hexdigest() != reply.headers["x-hmac-signature"]
    honest = await caller.post("/v1/sessions", {"verification": {}})
    assert caller.signature(honest.body).hexdigest() == honest.headers["x-hmac-signature"]


async def test_requests_are_recorded(caller: Caller) -> None:
    """Method, path and status of each request, in the order of the responses."""
    caller.sandbox.inject(Fault.status(500), method="PATCH")
    session_id = await caller.create()
    await caller.submit(session_id)
    await caller.send("GET", "/nowhere?secret=1")

    assert [
        ("POST", "/v1/sessions", 201),
        ("PATCH", f"/v1/sessions/{session_id}", 500),
        ("GET", "/nowhere", 404),
    ] == [(seen.method, seen.path, seen.status) for seen in caller.sandbox.requests]


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: Fault.status(42),
        lambda: Fault.status(600),
        lambda: Fault.drop(after=-1),
        lambda: Fault.hang(after=-1),
        lambda: Sandbox().inject(Fault.lose_response(), times=0),
    ],
)
async def test_impossible_fault_is_refused(misuse: Callable[[], object]) -> None:
    """An impossible status, a negative number of bytes and fewer than one time are refused."""
    with pytest.raises(InvalidArgumentError):
        misuse()


async def test_on_request_gets_every_request(start_sandbox: StartSandbox) -> None:
    """`on_request` gets the same records as `requests`."""
    records: list[str] = []
    async with start_sandbox(on_request=lambda seen: records.append(json.dumps([seen.method, seen.status]))) as caller:
        await caller.create()

    assert ['["POST", 201]'] == records
