"""Webhooks as records: a list of everything that was, is and will be posted, and by which attempts."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web

from tests.conditions import run_loop
from tests.loops import LOOPS, VirtualTimeLoop
from veriff_async import InvalidArgumentError
from veriff_async.sandbox import ChaosProfile, SandboxOptions, VirtualClock, WebhookChaos, WebhookState

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

pytestmark = pytest.mark.anyio

HOUR: Final = 3600
LONG: Final = b"x" * 5000


async def test_record_follows_a_webhook_to_its_delivery(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """Id, session, kind, state, times, URL, bytes, and one attempt for each post."""
    receiver.answers = [503]
    clock = VirtualClock()
    async with start_sandbox(clock=clock, webhook_url=receiver.url) as caller:
        session_id, created_at = await caller.create(), clock.now()
        caller.sandbox.decide(session_id, "approved")
        (new,) = caller.sandbox.webhooks
        await caller.sandbox.wait_idle()
        (refused,) = caller.sandbox.webhooks
        caller.sandbox.advance(HOUR)
        await caller.sandbox.wait_idle()
        (accepted,) = caller.sandbox.webhooks

    assert ("pending", created_at, ()) == (new.state, new.due_at, new.attempts)
    assert ("pending", created_at + timedelta(hours=1)) == (refused.state, refused.due_at)
    assert ("delivered", None, 2) == (accepted.state, accepted.due_at, accepted.attempt_count)
    assert [503, 200] == [attempt.status for attempt in accepted.attempts]
    assert {new.id} == {refused.id, accepted.id} == {attempt.webhook_id for attempt in accepted.attempts}
    assert (session_id, "decision", receiver.url) == (accepted.session_id, accepted.kind, accepted.url)
    assert accepted.body == (await receiver.next()).body
    assert created_at == accepted.created_at


async def test_kind_without_a_url_has_records(caller: Caller) -> None:
    """A webhook that cannot be posted is listed, with its body."""
    session_id = await caller.create()
    await caller.submit(session_id)
    caller.sandbox.decide(session_id, "declined")
    await caller.sandbox.wait_idle()

    assert [("event", "no_url"), ("decision", "no_url")] == [
        (each.kind, each.state) for each in caller.sandbox.webhooks
    ]
    assert (await caller.decision(session_id)).body == caller.sandbox.webhooks[-1].body
    assert all(each.url is None and not each.attempts for each in caller.sandbox.webhooks)


async def test_chaos_is_the_cause_of_lost_and_repeated_webhooks(
    start_sandbox: StartSandbox, receiver: Receiver
) -> None:
    """A lost webhook is a dropped record, and each copy is a record that names the original; both name the rule."""
    chaos = ChaosProfile(
        name="bad",
        webhooks=(WebhookChaos(kind="event", loss=1), WebhookChaos(kind="decision", duplication=1, copies=2)),
    )
    urls = {"event": receiver.url, "decision": receiver.url}
    async with start_sandbox(clock=VirtualClock(), webhook_urls=urls, chaos=chaos) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)
        caller.sandbox.decide(session_id, "approved")
        await caller.sandbox.wait_idle()
        lost, original, *copies = caller.sandbox.webhooks

    assert ("dropped", "chaos profile bad: webhooks[0] loses it", ()) == (lost.state, lost.cause, lost.attempts)
    assert [original.id] * 2 == [copy.copy_of for copy in copies]
    assert {"chaos profile bad: webhooks[1] posts it 3 times"} == {each.cause for each in (original, *copies)}
    assert ["delivered"] * 3 == [each.state for each in (original, *copies)]
    assert 3 == receiver.arrived.qsize()


async def test_webhook_that_is_given_up_has_failed(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """After the last attempt the record keeps the last ten of them, and their number."""
    receiver.answers = [500] * 30
    options = SandboxOptions(webhook_retry_days=1)
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url, options=options) as caller:
        caller.sandbox.decide(await caller.create(), "approved")
        for _ in range(26):
            await caller.sandbox.wait_idle()
            caller.sandbox.advance(HOUR)
        (failed,) = caller.sandbox.webhooks

    assert ("failed", 25, 10, None) == (failed.state, failed.attempt_count, len(failed.attempts), failed.due_at)
    assert failed.attempts[-1].sent_at == failed.created_at + timedelta(days=1)


async def test_attempt_keeps_the_response_without_its_secrets(start_sandbox: StartSandbox) -> None:
    """Status, duration, headers and the first 4 KiB of the body; cookies and tokens are not kept."""
    bodies = [b"short", LONG, LONG[:4096]]

    async def respond(request: web.Request) -> web.Response:
        await request.read()
        secrets = {"Set-Cookie": "id=1", "Authorization": "Bearer 1", "X-Api-Key": "1", "X-Csrf-Token": "1"}
        return web.Response(body=bodies.pop(0), headers={**secrets, "X-Request-Id": "r1"})

    app = web.Application()
    app.router.add_post("/hook", respond)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        async with start_sandbox(clock=VirtualClock(), webhook_url=url) as caller:
            for _ in range(3):
                caller.sandbox.decide(await caller.create(), "approved")
                await caller.sandbox.wait_idle()
            attempts = [each for webhook in caller.sandbox.webhooks for each in webhook.attempts]
    finally:
        await runner.cleanup()

    assert [(b"short", False), (LONG[:4096], True), (LONG[:4096], False)] == [
        (each.response_body, each.is_cut) for each in attempts
    ]
    assert all(each.duration > 0 and not each.error for each in attempts)
    assert {"x-request-id", "content-length", "content-type", "date", "server"} == set(attempts[0].response_headers)


async def test_attempt_names_its_error(start_sandbox: StartSandbox) -> None:
    """A refused connection is an attempt without a status whose error is the operating system's."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/hook?token=secret"
        async with start_sandbox(clock=VirtualClock(), webhook_url=url) as caller:
            caller.sandbox.decide(await caller.create(), "approved")
            await caller.sandbox.wait_idle()
            (attempt,) = caller.sandbox.webhooks[0].attempts

    assert (None, f"no connection ({os.strerror(errno.ECONNREFUSED)})") == (attempt.status, attempt.error)


HOSTILE: dict[str, tuple[bytes, tuple[object, ...]]] = {
    "no response": (b"", ("pending", None, "the connection was closed without a response", b"")),
    "no HTTP": (b"\x00\xff\r\n\r\n", ("pending", None, "the response is not valid HTTP", b"")),
    "short body": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        ("delivered", 200, "the response breaks off", b"hello"),
    ),
    "body without an end": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ("delivered", 200, "no complete response within 60 seconds", b"hello"),
    ),
    "wrong encoding": (
        b"HTTP/1.1 500 Oops\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        ("pending", 500, "the response breaks off", b""),
    ),
    "bytes in a header": (
        b"HTTP/1.1 200 OK\r\nX-Name: \xff\xe9\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        ("delivered", 200, "", b"\xff\xfe"),
    ),
}


@pytest.mark.parametrize("anyio_backend", LOOPS[:1])
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_response_is_recorded(start_sandbox: StartSandbox, name: str) -> None:
    """The status counts as soon as it is there; the error says what is wrong, and headers can be written as UTF-8."""
    response, expected = HOSTILE[name]
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = re.search(rb"content-length: ([0-9]+)", await reader.readuntil(b"\r\n\r\n"), re.IGNORECASE)
        assert length is not None
        await reader.readexactly(int(length[1]))
        writer.write(response)
        await writer.drain()
        if name == "body without an end":
            # The client has read what there is, and waits for more.
            await run_loop(200)
            loop.advance_time(61)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        options = SandboxOptions(webhook_timeout_seconds=60)
        async with start_sandbox(clock=VirtualClock(), webhook_url=url, options=options) as caller:
            caller.sandbox.decide(await caller.create(), "approved")
            await caller.sandbox.wait_idle()
            (webhook,) = caller.sandbox.webhooks

    (attempt,) = webhook.attempts
    assert expected == (webhook.state, attempt.status, attempt.error, attempt.response_body)
    assert (attempt.status is None) == (not "".join(attempt.response_headers.values()).encode())


async def test_list_has_pages_and_filters(caller: Caller, receiver: Receiver) -> None:
    """Newest first, by session, kind and state; `next` leads to the next page."""
    service = caller.sandbox._service
    first, second = await caller.create(), await caller.create()
    for session_id in (first, second):
        await caller.submit(session_id)
        caller.sandbox.webhook_url = receiver.url
        caller.sandbox.decide(session_id, "approved")
    await caller.sandbox.wait_idle()
    newest_first = caller.sandbox.webhooks[::-1]

    page = service.webhooks.find(limit=3)
    rest = service.webhooks.find(limit=3, after=page.next)

    assert newest_first == page.webhooks + rest.webhooks
    assert (4, 4, None) == (page.total, rest.total, rest.next)
    assert newest_first[2:] == service.webhooks.find(session_id=first).webhooks
    assert newest_first[::2] == service.webhooks.find(kind="decision").webhooks
    assert newest_first[1::2] == service.webhooks.find(state="no_url").webhooks
    assert newest_first[0] == service.webhooks.get(newest_first[0].id)


@pytest.mark.parametrize(
    "selection",
    [
        {"session_id": "unknown"},
        {"kind": "decisions"},
        {"state": "lost"},
        {"after": "unknown"},
        {"after": 5},
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
    ],
    ids=str,
)
async def test_list_refuses_wrong_filters(caller: Caller, selection: dict[str, object]) -> None:
    """An unknown id, a misspelt word and an impossible limit raise an error of the library."""
    with pytest.raises(InvalidArgumentError):
        caller.sandbox._service.webhooks.find(**selection)  # type: ignore[arg-type]


async def test_finished_webhooks_are_bounded(caller: Caller, receiver: Receiver) -> None:
    """The oldest finished ones are removed, and a webhook that still waits is not."""
    caller.sandbox._service._queue._max_finished = 3
    session_id = await caller.create()
    caller.sandbox.webhook_url = receiver.url
    caller.sandbox.hold_webhooks()
    caller.sandbox.decide(session_id, "approved")
    caller.sandbox.webhook_url = None
    for _ in range(5):
        caller.sandbox.resend(session_id)

    held, *finished = caller.sandbox.webhooks
    assert (WebhookState.HELD, 3) == (held.state, len(finished))
    queue = caller.sandbox._service._queue
    assert 4 == len(queue.records(session_id))
