"""The receiver without a server: its behaviour for every framework, and its checks of options."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, strategies as st

import veriff_async.webhooks
from tests.webhooks.conftest import CREDENTIALS, message, sign_headers
from veriff_async import (
    ConfigurationError,
    Credentials,
    InboxError,
    InvalidArgumentError,
    SignatureError,
    WebhookPayloadError,
)
from veriff_async.inbox import MemoryInbox
from veriff_async.testing import signed_webhooks
from veriff_async.webhooks import WebhookReceiver, WebhookResponse, aiohttp_app, aiohttp_handler, asgi_app
from veriff_async.webhooks._http import STATUSES, is_longer, refuse_head

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

BODY: Final = message()
NAMES: Final = ("x-auth-client", "X-Hmac-Signature", "vrf-hmac-signature", "Content-Type", "content-encoding")
TEXTS: Final = st.text(max_size=20) | st.sampled_from([CREDENTIALS.api_key, "0" * 64, "gzip", "application/json"])
HEADERS: Final = st.dictionaries(st.sampled_from(NAMES) | st.just("content-length") | st.text(max_size=8), TEXTS)


async def handle_and_count(method: str, headers: dict[str, str], body: bytes, *, in_chunks: bool) -> tuple[int, int]:
    """Handle a request, and count the recorded events."""

    async def chunks() -> AsyncGenerator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    async with WebhookReceiver(CREDENTIALS, MemoryInbox(), max_body=200_000) as receiver:
        reply = await receiver.handle(method, headers, chunks() if in_chunks else body)
        return reply.status, receiver.statistics().recorded


def is_ours(headers: dict[str, str], body: bytes) -> bool:
    """Check a request with the standard library alone."""
    found = {name.lower(): value.strip().lower() for name, value in headers.items()}
    rings = {hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() for secret in CREDENTIALS.secrets}
    keys = {found.get("x-auth-client"), found.get("vrf-auth-client")} - {None}
    signatures = {found.get("x-hmac-signature"), found.get("vrf-hmac-signature")} - {None}
    return {CREDENTIALS.api_key} == keys and len(signatures) == 1 and signatures <= rings


@given(
    method=st.just("POST") | st.text(max_size=8),
    webhook=signed_webhooks(CREDENTIALS) | st.tuples(st.just(dict[str, str]()), st.binary(max_size=80)),
    others=HEADERS,
    cut=st.integers(0, 3),
    in_chunks=st.booleans(),
)
def test_every_request_gets_a_response(
    method: str, webhook: tuple[dict[str, str], bytes], others: dict[str, str], cut: int, *, in_chunks: bool
) -> None:
    """Every request gets a known status, and 200 only if it is signed correctly and recorded."""
    headers, body = {**webhook[0], **others}, webhook[1][cut:]

    status, recorded = asyncio.run(handle_and_count(method, headers, body, in_chunks=in_chunks))

    assert status in STATUSES
    assert int(status == 200) == recorded
    assert is_ours(headers, body) or status not in {200, 400}


ANYTHING: Final = st.one_of(
    st.none(), st.integers(), st.text(max_size=4), st.binary(max_size=4), st.lists(st.integers(), max_size=2)
) | st.sampled_from([object(), dict, {b"a": b"b"}, {1: 2}, {"x-auth-client": ["key"]}, {"content-type": None}, BODY])


@given(method=st.just("POST") | ANYTHING, headers=st.just(sign_headers(BODY)) | ANYTHING, body=ANYTHING, chunk=ANYTHING)
def test_arguments_raise_only_our_exceptions(method: Any, headers: Any, body: Any, chunk: Any) -> None:  # noqa: ANN401
    """For all arguments, `handle` and `receive` return or raise an error of this library."""

    async def chunks() -> AsyncGenerator[Any]:
        yield chunk

    async def call() -> None:
        async with WebhookReceiver(CREDENTIALS, MemoryInbox()) as receiver:
            for each in (body, chunks()):
                with suppress(InvalidArgumentError):
                    assert (await receiver.handle(method, headers, each)).status in STATUSES
            with suppress(InvalidArgumentError, SignatureError):
                await receiver.receive(headers, body)

    asyncio.run(call())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "body", "remedy"),
    [
        (b"POST", BODY, "method must be a str, not bytes"),
        ("POST", BODY.decode(), "body must be bytes, not str: pass the raw bytes of the request body"),
        ("POST", {"id": "8f0d1ab6"}, "body must be bytes, not dict: .* before they were parsed"),
        ("POST", iter([BODY]), "body must be bytes, not list_iterator: read it"),
    ],
)
async def test_wrong_types_are_named(receiver: WebhookReceiver, method: Any, body: Any, remedy: str) -> None:  # noqa: ANN401
    """A request of wrong types is an InvalidArgumentError that says what to pass, not an answer to Veriff."""
    with pytest.raises(InvalidArgumentError, match=remedy):
        await receiver.handle(method, sign_headers(BODY), body)


@pytest.mark.anyio
async def test_chunks_of_str_are_named(receiver: WebhookReceiver) -> None:
    """A stream of str is an InvalidArgumentError, and not mistaken for a broken connection."""

    async def texts() -> AsyncGenerator[str]:
        yield BODY.decode()

    with pytest.raises(InvalidArgumentError, match="a chunk of the body must be bytes, not str"):
        await receiver.handle("POST", sign_headers(BODY), texts())  # type: ignore[arg-type]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_other_buffers_are_accepted(receiver: WebhookReceiver, kind: Callable[[bytes], Any]) -> None:
    """A body in a bytearray or memoryview, whole or in chunks, is taken as it is."""

    async def chunks() -> AsyncGenerator[Any]:
        yield kind(BODY[:9])
        yield kind(BODY[9:])

    assert 200 == (await receiver.handle("POST", sign_headers(BODY), kind(BODY))).status
    assert 200 == (await receiver.handle("POST", sign_headers(BODY), chunks())).status
    assert (await receiver.receive(sign_headers(BODY), kind(BODY))).is_duplicate


@given(webhook=signed_webhooks(CREDENTIALS), in_chunks=st.booleans())
def test_every_signed_webhook_is_recorded(webhook: tuple[dict[str, str], bytes], *, in_chunks: bool) -> None:
    """Webhooks of every kind are 200, unknown ones included."""
    assert (200, 1) == asyncio.run(handle_and_count("POST", webhook[0], webhook[1], in_chunks=in_chunks))


@given(number=st.integers(0, 10**30), limit=st.integers(1, 10**12), zeros=st.integers(0, 3))
def test_lengths_are_compared_as_numbers(number: int, limit: int, zeros: int) -> None:
    """An announced length is read as the number it is, however many digits it has."""
    assert (number > limit) == is_longer("0" * zeros + str(number), limit)


@pytest.mark.parametrize("text", [None, "", "-1", "1e9", "٣٣٣٣", "1_000", "9, 9"])
def test_length_that_is_not_a_number_is_ignored(text: str | None) -> None:
    """A body with an invalid announced length is counted as it arrives."""
    assert not is_longer(text, 1)


def test_length_of_a_million_digits_is_compared_quickly() -> None:
    """It is refused without being read as a number, which Python refuses to do."""
    assert 413 == getattr(refuse_head("POST", {"Content-Length": "9" * 1_000_000}, 10), "status", 0)


@pytest.mark.anyio
async def test_body_is_read_only_up_to_the_limit(receiver: WebhookReceiver) -> None:
    """Reading an endless body stops at the limit, and its source is closed."""
    given_out, closed = 0, False

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal given_out, closed
        try:
            while True:
                given_out += 100
                yield bytes(100)
        finally:
            closed = True

    assert 413 == (await receiver.handle("POST", sign_headers(BODY), endless())).status
    assert (1100, True) == (given_out, closed)
    assert 413 == (await receiver.handle("POST", sign_headers(BODY), bytes(1001))).status


@pytest.mark.anyio
async def test_body_has_a_deadline(receiver: WebhookReceiver, advance_time: Callable[[float], None]) -> None:
    """A body that is too slow is answered 408, and one whose connection fails 400."""
    began = asyncio.Event()

    async def dripping() -> AsyncGenerator[bytes]:
        yield b"{"
        began.set()
        await asyncio.Event().wait()

    async def failing() -> AsyncGenerator[bytes]:
        yield b"{"
        raise TimeoutError

    answer = asyncio.create_task(receiver.handle("POST", sign_headers(BODY), dripping()))
    await began.wait()
    advance_time(4.1)
    assert 408 == (await answer).status
    assert 400 == (await receiver.handle("POST", sign_headers(BODY), failing())).status


@pytest.mark.anyio
async def test_receive_raises_the_error(receiver: WebhookReceiver, inbox: MemoryInbox) -> None:
    """Without HTTP every fault is an error with a status to answer with, and nothing is recorded."""
    with pytest.raises(SignatureError):
        await receiver.receive(sign_headers(BODY, x_hmac_signature="0" * 64), BODY)
    with pytest.raises(WebhookPayloadError):
        await receiver.receive(sign_headers(b"{"), b"{")
    assert () == await inbox.get_events("8f0d1ab6")
    assert (await receiver.receive(sign_headers(BODY), BODY)).state is not None
    assert (2, 1) == (receiver.statistics().refused, receiver.statistics().recorded)


@pytest.mark.anyio
async def test_failing_memory_inbox_is_reported() -> None:
    """A failure of a memory inbox is handled like that of every inbox: logged by its type, and answered 503."""

    def now() -> float:
        msg = "8f0d1ab6 is Ada"
        raise LookupError(msg)

    async with WebhookReceiver(CREDENTIALS, MemoryInbox(now=now)) as receiver:
        with pytest.raises(InboxError, match="failed with LookupError") as failed:
            await receiver.receive(sign_headers(BODY), BODY)
        assert 503 == (await receiver.handle("POST", sign_headers(BODY), BODY)).status
        assert (0, 2) == (receiver.statistics().recorded, receiver.statistics().record_failures)
    assert failed.value.__context__ is None


@pytest.mark.anyio
async def test_credentials_may_change_while_the_receiver_runs(receiver: WebhookReceiver) -> None:
    """An added secret is accepted immediately, and a deleted one is refused."""
    assert 401 == (await receiver.handle("POST", sign_headers(BODY, secret="newest"), BODY)).status
    receiver.credentials = receiver.credentials.with_rotated_secret("newest").without_secret(2)
    assert 200 == (await receiver.handle("POST", sign_headers(BODY, secret="newest"), BODY)).status
    assert 401 == (await receiver.handle("POST", sign_headers(BODY, secret="old"), BODY)).status
    with pytest.raises(ConfigurationError, match="not str"):
        receiver.credentials = "newest"  # type: ignore[assignment]
    assert "newest" not in repr(receiver)


@pytest.mark.parametrize("option", ["max_body", "body_timeout", "record_timeout", "close_timeout", "max_running"])
def test_invalid_options_are_named(option: str) -> None:
    """A limit of zero would refuse everything."""
    with pytest.raises(ConfigurationError, match=option):
        WebhookReceiver(CREDENTIALS, MemoryInbox(), **{option: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="credentials"):
        WebhookReceiver(None, MemoryInbox())  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["1", None, True, float("nan"), -1, [1]])
def test_options_of_another_type_are_named(value: Any) -> None:  # noqa: ANN401
    """An option that is not a number above zero is named in the error."""
    with pytest.raises(ConfigurationError, match="record_timeout"):
        WebhookReceiver(CREDENTIALS, MemoryInbox(), record_timeout=value)


@pytest.mark.parametrize("value", [None, "receiver", MemoryInbox(), WebhookReceiver])
def test_parts_of_another_type_are_named(value: Any) -> None:  # noqa: ANN401
    """An adapter without a receiver, and a receiver without an inbox, say what to pass when they are made."""
    adapters: list[Callable[[Any], object]] = [asgi_app, aiohttp_handler, aiohttp_app]
    for adapter in adapters:
        with pytest.raises(ConfigurationError, match="receiver must be a WebhookReceiver, not"):
            adapter(value)
    no_inbox: Any = MemoryInbox if isinstance(value, MemoryInbox) else value
    with pytest.raises(ConfigurationError, match="inbox must be an Inbox, not"):
        WebhookReceiver(CREDENTIALS, no_inbox)
    with pytest.raises(ConfigurationError, match="on_event must be a function, not str"):
        WebhookReceiver(CREDENTIALS, MemoryInbox(), on_event="report")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="path must be a str, not bytes"):
        asgi_app(WebhookReceiver(CREDENTIALS, MemoryInbox()), path=b"/veriff")  # type: ignore[arg-type]


def test_responses_are_values() -> None:
    """Equal responses compare equal, and are immutable."""
    assert WebhookResponse(200, b"yes") == WebhookResponse(200, b"yes")
    with pytest.raises(AttributeError):
        WebhookResponse(200, b"yes").status = 500  # type: ignore[misc]


def test_names_are_loaded_when_used() -> None:
    """A program under ASGI loads no aiohttp for its receiver, and a name that does not exist is an AttributeError."""
    code = (
        "import sys, veriff_async.webhooks as webhooks\n"
        "assert 'aiohttp' not in sys.modules\n"
        "webhooks.asgi_app, webhooks.WebhookReceiver\n"
        "assert 'aiohttp' not in sys.modules\n"
        "webhooks.aiohttp_app\n"
        "assert 'aiohttp' in sys.modules and set(webhooks.__all__) == set(dir(webhooks))\n"
    )
    done = subprocess.run(  # noqa: S603  our own code
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True
    )
    assert (0, "") == (done.returncode, done.stderr)
    with pytest.raises(AttributeError, match="flask_app"):
        veriff_async.webhooks.flask_app  # type: ignore[attr-defined]  # noqa: B018


def test_webhook_of_another_integration_is_refused() -> None:
    """Integrations that share an API key are distinguished by the integration header."""
    credentials = Credentials("key", "secret", integration_id="one")

    async def answer(integration: str) -> int:
        headers = {
            "x-auth-client": "key",
            "x-hmac-signature": credentials.sign(BODY),
            "vrf-integration-id": integration,
        }
        async with WebhookReceiver(credentials, MemoryInbox()) as receiver:
            return (await receiver.handle("POST", headers, BODY)).status

    assert (200, 401) == (asyncio.run(answer("one")), asyncio.run(answer("two")))


@pytest.mark.parametrize("name", ["max_body", "max_running"])
@pytest.mark.parametrize("value", [0, -1, 0.5, 2.5, 8.0, float("inf"), float("nan"), True, "3", None])
def test_counts_must_be_integers(name: str, value: object) -> None:
    """A fraction or infinity is refused when the receiver is made, instead of failing every request."""
    with pytest.raises(ConfigurationError, match=f"{name} is .* whole number"):
        WebhookReceiver(CREDENTIALS, MemoryInbox(), **{name: value})  # type: ignore[arg-type]
