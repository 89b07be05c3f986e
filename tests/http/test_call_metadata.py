"""An error of a call says how the call went: attempts, seconds, the id of the request, and harmless headers."""

from __future__ import annotations

import asyncio
import copy
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web
from multidict import CIMultiDict

from tests.conditions import until
from veriff_async import (
    ApiError,
    ClientClosedError,
    ConnectError,
    Credentials,
    DecisionTimeoutError,
    InvalidArgumentError,
    Media,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitedError,
    ResponseError,
    RetryPolicy,
    TransportError,
    VeriffClient,
)
from veriff_async._protocol.response_headers import find_request_id, harmless_headers
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

QUICK: Final = RetryPolicy(max_attempts=3, initial_backoff=0.001, max_backoff=0.002)
JPEG: Final = b"\xff\xd8\xff\xe0" + bytes(5000)
UNKNOWN: Final = "8f0d1ab6-0000-4000-8000-000000000001"


@pytest.fixture
async def veriff(sandbox: Sandbox) -> AsyncIterator[VeriffClient]:
    """Run a client of the sandbox with quick retries."""
    async with VeriffClient.from_env(sandbox.environ, retry=QUICK) as veriff:
        yield veriff


async def test_refusals_have_attempts_time_and_headers(veriff: VeriffClient) -> None:
    """A refusal has the harmless headers of the response; copies and pickles keep everything."""
    with pytest.raises(NotFoundError) as caught:
        await veriff.session(UNKNOWN).media()

    for error in (caught.value, copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):  # noqa: S301  our own
        assert (1, None) == (error.attempts, error.request_id)
        assert error.elapsed == caught.value.elapsed != 0
        assert "application/json" == error.headers["content-type"]


async def test_failures_count_all_attempts(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A connection that breaks, and one that is refused, are tried as often as the policy allows."""
    sandbox.inject(Fault.drop(), method="GET", times=3)
    with pytest.raises(TransportError) as broken:
        await veriff.session(UNKNOWN).media()
    async with VeriffClient(Credentials("key", "secret"), base_url="http://127.0.0.1:9", retry=QUICK) as unreachable:
        with pytest.raises(ConnectError) as refused:
            await unreachable.session(UNKNOWN).media()

    assert [3, 3] == [broken.value.attempts, refused.value.attempts]


async def test_unusable_responses_have_headers(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A wrong signature and an unknown outcome are errors of a response, which was received."""
    session = await veriff.create_session()
    sandbox.inject(Fault.forge_signature(), method="GET")
    with pytest.raises(ResponseError) as forged:
        await session.media()
    sandbox.inject(Fault.status(500), path="/v1/sessions")
    with pytest.raises(OutcomeUnknownError) as unknown:
        await veriff.create_session()

    assert "content-type" in forged.value.headers
    assert [1, 1] == [forged.value.attempts, unknown.value.attempts]


async def test_call_that_is_not_sent_has_no_attempt(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A call that would have to pause for too long fails with zero attempts; an argument is not an error of a call."""
    sandbox.inject(Fault.status(429, retry_after=10_000), method="GET")
    hasty = veriff.with_options(retry=RetryPolicy(max_elapsed=1))
    with suppress(ApiError):
        await hasty.session(UNKNOWN).media()
    with pytest.raises(RateLimitedError) as paused:
        await hasty.session(UNKNOWN).media()
    with pytest.raises(InvalidArgumentError) as wrong:
        await veriff.create_session(vendor_data="x" * 2000)

    assert (0, None) == (paused.value.attempts, wrong.value.attempts)
    assert {} == dict(paused.value.headers)


async def test_broken_stream_describes_its_call(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """An error in the middle of a stream has the values of the call that opened it."""
    session = await veriff.create_session()
    (receipt,) = await session.upload(Media(JPEG, "face"))
    sandbox.inject(Fault.truncate_response(after=2000), path="/v1/media/*")

    async def read() -> None:
        async with veriff.stream_media(receipt.id) as stream:
            async for _ in stream:
                pass

    with pytest.raises(TransportError) as caught:
        await read()

    assert 1 == caught.value.attempts


async def test_closed_client_and_wait_without_decision(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A call that closing ends counts its attempt; the end of a wait is not the error of one call."""
    session = await veriff.create_session()
    with pytest.raises(DecisionTimeoutError) as late:
        await session.wait_for_decision(timeout=0)
    sandbox.inject(Fault.hang(), method="GET")
    task = asyncio.create_task(session.media())
    await until(lambda: not sandbox.faults)
    await veriff.aclose()
    with pytest.raises(ClientClosedError) as closed:
        await task

    assert (None, 1) == (late.value.attempts, closed.value.attempts)


async def test_headers_with_secrets_are_left_out() -> None:
    """Headers are chosen by a list: credentials, cookies and unknown names are not in an error, nor in its repr."""

    async def refuse(request: web.Request) -> web.Response:
        headers = {
            "X-AUTH-CLIENT": "canary-key",
            "X-HMAC-SIGNATURE": "canary",
            "Set-Cookie": "canary=1",
            "X-Canary": "canary",
            "X-RateLimit-Remaining": "7",
            "CF-RAY": "8c1-FRA",
        }
        return web.json_response({}, status=401, headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with VeriffClient(Credentials("canary-key", "secret"), base_url=url) as veriff:
        with pytest.raises(ApiError) as caught:
            await veriff.fraud_categories()
    await runner.cleanup()

    error = caught.value
    assert ("7", "8c1-FRA") == (error.headers["x-ratelimit-remaining"], error.request_id)
    assert "canary" not in f"{error!r} {error.headers!r} {error.__dict__!r}"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None),
        ({"x-request-id": ""}, None),
        ({"x-request-id": "two words"}, None),
        ({"x-request-id": "line\nbreak", "cf-ray": "1"}, "1"),
        ({"x-request-id": "x" * 201}, None),
        ({"cf-ray": "2", "x-amzn-trace-id": "Root=1-2", "x-request-id": "1"}, "1"),
    ],
)
def test_request_id_is_one_word(headers: dict[str, str], found: str | None) -> None:
    """The id of the application is preferred to those of proxies, and a text that could forge a line is not one."""
    assert found == find_request_id(headers)


def test_headers_can_be_printed() -> None:
    """Of several headers with one name the first counts; a value that is long or not printable ASCII is left out."""
    headers = CIMultiDict([("Via", "1"), ("via", "2"), ("Server", "\x1b[31m"), ("Age", "\udcff"), ("Vary", "x" * 1001)])
    assert {"via": "1"} == harmless_headers(headers)


def test_response_without_headers() -> None:
    """An attempt without a response has neither an id nor headers."""
    assert find_request_id(None) is None
    assert {} == harmless_headers(None)
