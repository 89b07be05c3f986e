"""Requests over a socket to each adapter: their responses, and their records."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Final

import pytest

from tests.webhooks.conftest import (
    CREDENTIALS,
    OwnInbox,
    Server,
    head,
    in_aiohttp,
    message,
    sign_headers,
    under_aiohttp,
    under_uvicorn,
)
from veriff_async import InboxError, VeriffClient
from veriff_async.sandbox import Sandbox, WebhookKind
from veriff_async.webhooks import WebhookReceiver, asgi_app

if TYPE_CHECKING:
    from veriff_async.inbox import MemoryInbox

pytestmark = pytest.mark.anyio

BODY: Final = message()
MIB: Final = 2**20


async def count_events(inbox: MemoryInbox) -> int:
    """Count the recorded events of the session, and those without one."""
    return len(await inbox.get_events("8f0d1ab6")) + len(await inbox.get_events(None))


async def test_signed_webhook_is_recorded(server: Server, inbox: MemoryInbox) -> None:
    """A webhook of Veriff is answered 200 once it is in the inbox, with one sentence of text."""
    answer = await server.post(BODY, sign_headers(BODY))

    assert 200 == answer.status
    assert "text/plain; charset=utf-8" == answer.headers["content-type"]
    assert 1 == await count_events(inbox)


async def test_sandbox_delivers_webhooks(server: Server, receiver: WebhookReceiver) -> None:
    """Every kind of webhook of the sandbox is recorded at the first attempt."""
    urls = dict.fromkeys(WebhookKind, server.url)
    async with Sandbox(webhook_urls=urls) as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        receiver.credentials = sandbox.credentials
        session = await veriff.create_session(vendor_data="user-42")
        await session.submit()
        sandbox.decide(session.id, "approved")
        await sandbox.wait_idle()

        assert {200} == {delivery.status for delivery in sandbox.deliveries}
        assert len(sandbox.deliveries) == receiver.statistics().recorded > 1


@pytest.mark.parametrize("secret", ["new", "old"])
async def test_webhook_of_any_live_secret_is_accepted(server: Server, secret: str) -> None:
    """Rotating secrets loses no webhook."""
    assert 200 == (await server.post(BODY, sign_headers(BODY, secret=secret))).status


async def test_newer_headers_are_sufficient(server: Server) -> None:
    """Either family of headers proves the origin."""
    headers = sign_headers(BODY)
    newer = {
        "content-type": "application/json",
        "vrf-auth-client": headers["x-auth-client"],
        "vrf-hmac-signature": headers["x-hmac-signature"],
    }
    assert 200 == (await server.post(BODY, newer)).status


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_methods_other_than_post_are_refused(server: Server, inbox: MemoryInbox, method: str) -> None:
    """A webhook is a POST, and the response says so."""
    answer = await server.post(BODY, sign_headers(BODY), method=method)

    assert (405, "post") == (answer.status, answer.headers["allow"])
    assert 0 == await count_events(inbox)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(415, {"content_type": "text/plain"}, id="text"),
        pytest.param(415, {"content_type": "application/x-www-form-urlencoded"}, id="form"),
        pytest.param(415, {"content_encoding": "compress"}, id="compressed"),
        pytest.param(200, {"content_type": "application/json; charset=utf-8"}, id="charset"),
        pytest.param(200, {"content_type": "application/vnd.veriff+json"}, id="kind of JSON"),
        pytest.param(200, {"content_type": None}, id="no type"),
        pytest.param(200, {"content_encoding": "identity"}, id="identity"),
        pytest.param(401, {"x_auth_client": "8c8f0d1a-0000-4000-8000-000000000000"}, id="foreign key"),
        pytest.param(401, {"x_auth_client": None}, id="no key"),
        pytest.param(401, {"x_hmac_signature": "0" * 64}, id="wrong signature"),
        pytest.param(401, {"x_hmac_signature": None}, id="no signature"),
        pytest.param(401, {"x_hmac_signature": "signature"}, id="no digits"),
        pytest.param(401, {"vrf_hmac_signature": "0" * 64}, id="families disagree"),
    ],
)
async def test_content_headers_decide_before_the_body(
    server: Server, inbox: MemoryInbox, status: int, headers: dict[str, str | None]
) -> None:
    """Type, encoding, key and signature have a status each, and refused requests are not recorded."""
    answer = await server.post(BODY, sign_headers(BODY, **headers))

    assert (status, int(status == 200)) == (answer.status, await count_events(inbox))


async def test_two_signatures_are_refused(server: Server, inbox: MemoryInbox) -> None:
    """A header that comes twice with two values is not a valid signature."""
    twice = {**sign_headers(BODY), "X-Hmac-Signature": "0" * 64}

    assert 401 == (await server.post(BODY, twice)).status
    assert 0 == await count_events(inbox)


async def test_compressed_body_is_not_unpacked(server: Server, receiver: WebhookReceiver) -> None:
    """A small body that unpacks to a huge one is refused, and takes no memory."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(64)) + packer.flush()
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        # Small enough by its length, so that the encoding alone is what refuses it.
        answer = await server.post(bomb, sign_headers(bomb, content_encoding="gzip"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert 415 == answer.status
    assert peak < 8 * MIB


async def test_announced_length_beyond_the_limit_is_refused_unread(server: Server, inbox: MemoryInbox) -> None:
    """A body that is announced to be too large is refused before it is sent."""
    answer = await server.send(head("POST", {**sign_headers(BODY), "content-length": "1001"}))

    assert (413, 0) == (answer.status, await count_events(inbox))


async def test_chunks_beyond_the_limit_are_refused(server: Server, inbox: MemoryInbox) -> None:
    """A body without a length is read up to the limit, and no further."""
    chunk = b"1f4\r\n" + bytes(500) + b"\r\n"
    answer = await server.send(
        head("POST", {**sign_headers(BODY), "transfer-encoding": "chunked"}), chunk, chunk, chunk
    )

    assert (413, 0) == (answer.status, await count_events(inbox))


async def test_chunks_within_the_limit_are_a_webhook(server: Server, inbox: MemoryInbox) -> None:
    """A body in chunks has the same raw bytes."""
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:], b"")]
    answer = await server.send(head("POST", {**sign_headers(BODY), "transfer-encoding": "chunked"}), *chunks)

    assert (200, 1) == (answer.status, await count_events(inbox))


async def test_changed_white_space_is_refused(server: Server, inbox: MemoryInbox) -> None:
    """Raw bytes are verified, so a body that was serialised again fails, and one with unusual white space passes."""
    odd = b' {"id" : "8f0d1ab6",\n "action":"started","code": 7001 ,"x":"\\u00e9\xc3\xa9"}\r\n'

    assert 401 == (await server.post(odd.strip(), sign_headers(odd))).status
    assert 200 == (await server.post(odd, sign_headers(odd))).status
    assert 1 == await count_events(inbox)


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b"\xff", b'{"id":1,"action":"started","code":7001}' + b"}"])
async def test_signed_unreadable_body_is_refused(server: Server, inbox: MemoryInbox, body: bytes) -> None:
    """A signed body that cannot be read is answered 400."""
    assert 400 == (await server.post(body, sign_headers(body))).status
    assert 0 == await count_events(inbox)


async def test_unknown_kind_is_recorded(server: Server, inbox: MemoryInbox) -> None:
    """Veriff adds kinds without notice; they are kept as they came."""
    body = b'{"eventType":"newer","data":{}}'

    assert 200 == (await server.post(body, sign_headers(body))).status
    assert ["unknown"] == [event.kind for event in await inbox.get_events(None)]


async def test_repetition_is_answered_200_and_stored_once(
    server: Server, inbox: MemoryInbox, receiver: WebhookReceiver
) -> None:
    """A webhook that comes again is answered 200 again."""
    assert [200, 200] == [(await server.post(BODY, sign_headers(BODY))).status for _ in range(2)]
    assert 1 == await count_events(inbox)
    assert (2, 1) == (receiver.statistics().recorded, receiver.statistics().duplicates)


async def test_incomplete_body_is_not_recorded(server: Server, inbox: MemoryInbox, receiver: WebhookReceiver) -> None:
    """A connection that is lost in the middle of a body leaves nothing behind, and the next one is served."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head("POST", {**sign_headers(BODY), "content-length": str(len(BODY))}) + BODY[:5])
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert 200 == (await server.post(BODY, sign_headers(BODY))).status
    assert (1, 1) == (receiver.statistics().recorded, await count_events(inbox))


async def test_slow_body_is_refused(inbox: MemoryInbox) -> None:
    """A body has a deadline, even if it keeps arriving."""
    headers = {**sign_headers(BODY), "content-length": str(len(BODY))}
    async with WebhookReceiver(CREDENTIALS, inbox, body_timeout=0.01) as receiver:
        async with under_aiohttp(in_aiohttp(receiver)) as server:
            assert 408 == (await server.send(head("POST", headers) + BODY[:5])).status
        async with under_uvicorn(asgi_app(receiver)) as server:
            assert 408 == (await server.send(head("POST", headers) + BODY[:5])).status
    assert 0 == await count_events(inbox)


@pytest.mark.parametrize("error", [InboxError("The disk is full."), OSError("ada@example.com"), KeyError(42)])
async def test_failing_inbox_is_answered_503(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A failed record is answered 503, and an error of a user's inbox is logged by its type only."""
    async with WebhookReceiver(CREDENTIALS, OwnInbox(error)) as receiver, under_aiohttp(in_aiohttp(receiver)) as server:
        answer = await server.post(BODY, sign_headers(BODY))

        assert (503, 1) == (answer.status, receiver.statistics().record_failures)
    assert "ada@example.com" not in caplog.text
    assert [logging.ERROR] == [record.levelno for record in caplog.records]


async def test_refusals_are_logged_without_content(
    server: Server, receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning names the problem, without a header or a body."""
    body = message(vendorData="ada@example.com")
    await server.post(body, sign_headers(body, x_hmac_signature="0" * 64))
    await server.post(body[:-1], sign_headers(body[:-1]))
    await server.post(body, sign_headers(body, content_type="text/secret"))

    assert 3 == receiver.statistics().refused == len(caplog.records)
    assert {"WARNING"} == {record.levelname for record in caplog.records}
    assert all(word in caplog.text for word in ("401, SignatureError", "400, WebhookPayloadError", "415"))
    assert not any(word in caplog.text for word in ("ada@", "0000", "text/secret", CREDENTIALS.api_key))
