"""Trouble on demand, as a client meets it on the wire."""

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


async def test_a_status_comes_instead_of_the_answer(caller: Caller) -> None:
    """The status, Veriff's code and message and the wait are as asked for, and nothing was done."""
    caller.sandbox.inject(Fault.status(429, retry_after=7, code="RATE_LIMIT_EXCEEDED", message="Slow down"))

    reply = await caller.post("/v1/sessions", {"verification": {}})

    assert (429, "RATE_LIMIT_EXCEEDED") == reply.refusal
    assert ("7", "Slow down") == (reply.headers["Retry-After"], reply.json["message"])
    assert () == caller.sandbox.sessions


async def test_a_fault_happens_as_often_as_asked(caller: Caller) -> None:
    """After that the sandbox is itself again."""
    caller.sandbox.inject(Fault.status(503), times=2)

    replies = [await caller.post("/v1/sessions", {"verification": {}}) for _ in range(3)]

    assert [503, 503, 201] == [reply.status for reply in replies]


async def test_a_fault_may_be_for_one_kind_of_request(caller: Caller) -> None:
    """Method and path pattern choose; other requests go through, and faults wait their turn."""
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


async def test_an_answer_may_come_before_the_body(caller: Caller) -> None:
    """A refusal by the head alone arrives while most of the body is still to be sent."""
    session_id = await caller.create()
    caller.sandbox.inject(Fault.status(413, before_body=True))

    assert b"413" in (await half_sent(caller, session_id)).split(b"\r\n", 1)[0]
    assert () == caller.sandbox.session(session_id).media


async def half_sent(caller: Caller, session_id: str, sent: int = 10) -> bytes:
    """Announce an upload, send some bytes of it, and return what comes back before the connection ends or pauses."""
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
async def test_a_connection_may_break_off(caller: Caller, after: int) -> None:
    """The client loses the connection after some bytes of its body, and nothing was done."""
    session_id = await caller.create()
    caller.sandbox.inject(Fault.drop(after=after), path="*/media")

    with pytest.raises(ClientError):
        await caller.upload(session_id, "/9j/4AAQ" + "A" * 4_000_000)

    assert () == caller.sandbox.session(session_id).media
    assert [201, None] == [seen.status for seen in caller.sandbox.requests]
    assert 200 == (await caller.upload(session_id, PICTURE)).status


@pytest.mark.parametrize("after", [0, 1000])
async def test_a_request_may_hang_until_the_sandbox_stops(start_sandbox: StartSandbox, after: int) -> None:
    """It is never answered, holds up no other request, and ends with the sandbox."""
    async with start_sandbox(clock=VirtualClock()) as caller:
        session_id = await caller.create()
        caller.sandbox.inject(Fault.hang(after=after), path="*/media")
        hanging = asyncio.create_task(caller.upload(session_id, "/9j/4AAQ" + "A" * 4_000_000))
        other = await caller.decision(session_id)
        assert not hanging.done()

    with pytest.raises(ClientError):
        await asyncio.wait_for(hanging, SECONDS)
    assert 200 == other.status


async def test_an_answer_may_be_lost(caller: Caller) -> None:
    """What was asked is done, and the client never learns of it."""
    caller.sandbox.inject(Fault.lose_response())

    with pytest.raises(ClientError):
        await caller.post("/v1/sessions", {"verification": {}})

    assert 1 == len(caller.sandbox.sessions)


async def test_an_answer_may_be_forged(caller: Caller) -> None:
    """What was asked is done, under a signature that no secret of the integration made."""
    caller.sandbox.inject(Fault.forge_signature())

    reply = await caller.post("/v1/sessions", {"verification": {}})

    assert 201 == reply.status
    assert caller.signature(reply.body).hexdigest() != reply.headers["x-hmac-signature"]
    honest = await caller.post("/v1/sessions", {"verification": {}})
    assert caller.signature(honest.body).hexdigest() == honest.headers["x-hmac-signature"]


async def test_every_request_is_remembered(caller: Caller) -> None:
    """Method, path and status of each, in the order of the answers."""
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
async def test_a_fault_that_cannot_be_is_refused(misuse: Callable[[], object]) -> None:
    """A status that no answer has, fewer than no bytes and fewer than one time are mistakes."""
    with pytest.raises(InvalidArgumentError):
        misuse()


async def test_followers_are_told_of_each_request(start_sandbox: StartSandbox) -> None:
    """`on_request` sees what `requests` remembers."""
    told: list[str] = []
    async with start_sandbox(on_request=lambda seen: told.append(json.dumps([seen.method, seen.status]))) as caller:
        await caller.create()

    assert ['["POST", 201]'] == told
