"""One call against a server that misbehaves: the right outcome or the right error, and nothing left open."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.conditions import until, until_still
from veriff_async import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    Credentials,
    Media,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RateLimitedError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    Status,
    Timeouts,
    TransportError,
    VeriffClient,
)
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from veriff_async import VerificationSession
    from veriff_async.client import ClientOptions

pytestmark = pytest.mark.anyio

JPEG = b"\xff\xd8\xff\xe0"
LARGE = JPEG + bytes(3_000_000)
QUICK = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
MEDIA = "/v1/sessions/*/media"
SESSION = "/v1/sessions/*"


@asynccontextmanager
async def open_session(sandbox: Sandbox, **options: object) -> AsyncIterator[VerificationSession]:
    """Open a session with a client of its own."""
    chosen: ClientOptions = {"retry": QUICK, **options}  # type: ignore[typeddict-item]
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, **chosen) as veriff:
        yield await veriff.create_session(vendor_data="user-42")


def tries(sandbox: Sandbox, ending: str) -> list[int | None]:
    """Return the outcomes of the requests whose path ends like this."""
    return [seen.status for seen in sandbox.requests if seen.path.endswith(ending)]


FAULTS = {
    "500": Fault.status(500),
    "502": Fault.status(502),
    "503": Fault.status(503),
    "504": Fault.status(504),
    "429": Fault.status(429),
    "429 before the body": Fault.status(429, retry_after=0, before_body=True),
    "503 with a date": Fault.status(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "drop at once": Fault.drop(),
    "drop in the middle": Fault.drop(after=2_000_000),
    "lost answer": Fault.lose_response(),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_an_upload_outlives_passing_trouble(sandbox: Sandbox, fault: Fault) -> None:
    """After any failure that passes, the picture arrives complete at the second try."""
    async with open_session(sandbox) as session:
        sandbox.inject(fault, path=MEDIA)
        (uploaded,) = await session.upload(Media(LARGE, "face"))

    assert len(LARGE) == uploaded.size
    assert 2 == len(tries(sandbox, "/media"))
    assert uploaded.repeated == (fault.kind.name in {"DROP", "LOSE_RESPONSE"} or fault.http_status in {500, 502, 504})


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_question_outlives_passing_trouble(sandbox: Sandbox, fault: Fault) -> None:
    """The request for a decision is repeated after any failure of the first attempt."""
    async with open_session(sandbox) as session:
        sandbox.decide(session.id, "approved")
        sandbox.inject(fault, method="GET")
        decision = await session.decision()

    assert decision is not None
    assert decision.is_approved


async def test_a_submission_that_got_lost_counts(sandbox: Sandbox) -> None:
    """A retry that finds the session submitted by its own earlier attempt is a success."""
    async with open_session(sandbox) as session:
        sandbox.inject(Fault.lose_response(), method="PATCH")
        await session.submit()

        assert Status.SUBMITTED == session.status
    assert [None, 400] == [seen.status for seen in sandbox.requests if seen.method == "PATCH"]


async def test_a_second_submission_is_an_error(sandbox: Sandbox) -> None:
    """Submitting twice by hand is refused: only the retry of one call is forgiven."""
    async with open_session(sandbox) as session:
        await session.submit()
        with pytest.raises(BadRequestError, match="does not allow it") as caught:
            await session.submit()

    assert "1304" == caught.value.code


@pytest.mark.parametrize("fault", [Fault.drop(), Fault.lose_response(), Fault.hang()], ids=["drop", "lost", "hang"])
async def test_a_creation_is_not_repeated_blindly(
    sandbox: Sandbox, fault: Fault, advance_time: Callable[[float], None]
) -> None:
    """A session may exist when the answer to its creation is lost, so the caller is asked to look."""
    sandbox.inject(fault, path="/v1/sessions")
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, retry=QUICK) as veriff:
        creating = asyncio.create_task(veriff.create_session())
        if fault.kind.name == "HANG":
            await until(lambda: sandbox.faults == ())
            advance_time(1000)
        with pytest.raises(OutcomeUnknownError, match="look for its vendor_data"):
            await creating

    assert 1 >= len(sandbox.requests)


@pytest.mark.parametrize("status", [408, 500, 501, 502, 504, 520])
async def test_a_creation_that_failed_is_not_repeated(sandbox: Sandbox, status: int) -> None:
    """A failing server may have made the session all the same, also if Veriff signed the answer."""
    sandbox.inject(Fault.status(status), path="/v1/sessions")
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, retry=QUICK) as veriff:
        with pytest.raises(OutcomeUnknownError, match=f"HTTP {status}.*look for its vendor_data"):
            await veriff.create_session()

    assert [status] == tries(sandbox, "/sessions")


@pytest.mark.parametrize("status", [429, 503])
async def test_a_creation_that_was_put_off_is_repeated(sandbox: Sandbox, status: int) -> None:
    """Veriff did nothing yet when it asks to come back later, and signs that."""
    sandbox.inject(Fault.status(status, retry_after=0), path="/v1/sessions")
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, retry=QUICK) as veriff:
        await veriff.create_session()

    assert [status, 201] == tries(sandbox, "/sessions")


async def test_the_budget_ends(sandbox: Sandbox) -> None:
    """After the last attempt the error has the message of Veriff."""
    async with open_session(sandbox, retry=RetryPolicy(max_attempts=3, initial_backoff=0.001)) as session:
        sandbox.inject(Fault.status(429, retry_after=0, code="RATE_LIMIT_EXCEEDED"), method="GET", times=9)
        with pytest.raises(RateLimitedError, match="slow down") as caught:
            await session.decision()

    assert (429, "RATE_LIMIT_EXCEEDED", 0.0) == (caught.value.status, caught.value.code, caught.value.retry_after)
    assert 3 == len(tries(sandbox, "/decision"))


async def test_a_long_retry_after_is_handed_on(sandbox: Sandbox) -> None:
    """A wait that is longer than the policy allows fails at once, with the seconds that Veriff asked for."""
    async with open_session(sandbox) as session:
        sandbox.inject(Fault.status(429, retry_after=3600), method="GET")
        with pytest.raises(RateLimitedError) as caught:
            await session.decision()

    assert 3600.0 == caught.value.retry_after


async def test_one_429_slows_the_whole_client(sandbox: Sandbox, advance_time: Callable[[float], None]) -> None:
    """While one call waits for Retry-After, no other request of the client leaves."""
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url) as veriff:
        session = await veriff.create_session()
        sandbox.inject(Fault.status(429, retry_after=30), method="GET")
        first = asyncio.create_task(session.decision())
        await until(lambda: veriff.statistics().retries == 1)
        second = asyncio.create_task(session.submit())
        for _ in range(20):
            await asyncio.sleep(0)

        assert [] == [seen for seen in sandbox.requests if seen.method == "PATCH"]
        advance_time(34)
        assert None is await first
        await second


async def test_413_before_the_body_is_an_error(sandbox: Sandbox) -> None:
    """A refusal that comes while the picture is still being sent is the answer, not a broken connection."""
    async with open_session(sandbox) as session:
        sandbox.inject(Fault.status(413, before_body=True), path=MEDIA)
        with pytest.raises(PayloadTooLargeError, match="send a smaller file"):
            await session.upload(Media(LARGE, "face"))


@pytest.mark.parametrize("after", [0, 1_000_000])
async def test_a_server_that_stops_reading_is_left(
    sandbox: Sandbox, after: int, advance_time: Callable[[float], None]
) -> None:
    """An upload that does not move for the time of `Timeouts.idle` is broken off and tried again."""
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, retry=QUICK) as veriff:
        session = await veriff.create_session()
        sandbox.inject(Fault.hang(after=after), path=MEDIA)
        uploading = asyncio.create_task(session.upload(Media(JPEG + bytes(16_000_000), "face")))
        await until(lambda: sandbox.faults == ())
        await until_still(lambda: veriff.statistics().bytes_sent)
        advance_time(46)
        (uploaded,) = await uploading

    assert uploaded.repeated


async def test_a_server_that_never_answers_is_a_timeout(
    sandbox: Sandbox, advance_time: Callable[[float], None]
) -> None:
    """When every attempt hangs, the error is a `TimeoutError` too."""
    async with open_session(sandbox, retry=RetryPolicy(max_attempts=1)) as session:
        sandbox.inject(Fault.hang(), method="GET")
        asking = asyncio.create_task(session.decision())
        await until(lambda: sandbox.faults == ())
        advance_time(1000)
        with pytest.raises(RequestTimeoutError, match="ran out of time") as caught:
            await asking

    assert isinstance(caught.value, TimeoutError)


async def test_a_try_has_a_total_time(sandbox: Sandbox, advance_time: Callable[[float], None]) -> None:
    """`Timeouts.total` ends an attempt however long `Timeouts.idle` is."""
    timeouts = Timeouts(idle=10_000, total=5)
    async with open_session(sandbox, retry=RetryPolicy(max_attempts=1), timeouts=timeouts) as session:
        sandbox.inject(Fault.hang(), method="GET")
        asking = asyncio.create_task(session.decision())
        await until(lambda: sandbox.faults == ())
        advance_time(6)
        with pytest.raises(RequestTimeoutError):
            await asking


async def test_refused_connection_is_a_connect_error() -> None:
    """After the retries, a refused connection is a ConnectError that names the cause."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        async with VeriffClient(Credentials("key", "secret"), base_url=url, retry=QUICK) as veriff:
            with pytest.raises(ConnectError, match=r"could not be sent \(.*\): check base_url"):
                await veriff.create_session()

            assert 3 == veriff.statistics().retries


async def test_a_connection_that_always_breaks_is_a_transport_error(sandbox: Sandbox) -> None:
    """When the last attempt is lost too, the error says which request it was."""
    async with open_session(sandbox) as session:
        sandbox.inject(Fault.drop(), method="GET", times=20)
        with pytest.raises(TransportError, match="broke off without a response") as caught:
            await session.decision()

    assert ("GET", f"/v1/sessions/{session.id}/decision") == (caught.value.method, caught.value.path)


async def test_a_forged_answer_is_refused(sandbox: Sandbox) -> None:
    """An answer that is signed with another secret is not believed, unless that is asked for."""
    async with open_session(sandbox) as session:
        sandbox.inject(Fault.forge_signature(), method="GET")
        with pytest.raises(ResponseError, match="not signed with a known secret"):
            await session.decision()
    async with open_session(sandbox, verify_responses=False) as session:
        sandbox.inject(Fault.forge_signature(), method="GET")

        assert None is await session.decision()


async def test_an_answer_under_another_key_is_refused(sandbox: Sandbox) -> None:
    """An answer that names another API key comes from somewhere else."""
    answer = b'{"status":"success","verification":null}'
    async with (
        answering({"x-auth-client": "another client"}, answer) as url,
        VeriffClient(sandbox.credentials, base_url=url) as veriff,
    ):
        with pytest.raises(ResponseError, match="names another API key"):
            await veriff.session("a" * 36).decision()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>", "expected JSON"),
        (b"[]", "expected a JSON object"),
        (b"\xff", "expected UTF-8"),
        (b'{"verification":[]}', "required field missing"),
        (b'{"verification":{}}', "required field missing"),
    ],
)
async def test_an_unreadable_success_says_where(sandbox: Sandbox, body: bytes, problem: str) -> None:
    """A success that breaks the contract names the place, and keeps the body to itself."""
    async with answering({}, body) as url, VeriffClient(sandbox.credentials, base_url=url) as veriff:
        with pytest.raises(ResponseError, match=problem) as caught:
            await veriff.session("a" * 36).decision()

    assert None is caught.value.__context__


async def test_an_endless_answer_is_cut(sandbox: Sandbox) -> None:
    """An answer larger than any of Veriff's is not read to its end."""
    async with answering({}, bytes(5_000_000)) as url, VeriffClient(sandbox.credentials, base_url=url) as veriff:
        with pytest.raises(ResponseError, match="too large to be Veriff's"):
            await veriff.session("a" * 36).decision()


async def test_a_redirect_is_not_followed(sandbox: Sandbox) -> None:
    """Key, signature and pictures stay with the host that they were meant for."""
    async with (
        answering({"Location": f"{sandbox.base_url}/v1/elsewhere"}, b"", status=307) as url,
        VeriffClient(sandbox.credentials, base_url=url) as veriff,
    ):
        with pytest.raises(ApiError, match="the server redirects") as caught:
            await veriff.session("a" * 36).decision()

    assert 307 == caught.value.status
    assert () == sandbox.requests


async def test_a_wrong_secret_is_an_authentication_error(sandbox: Sandbox) -> None:
    """The error names the remedy and the code, and neither key nor secret."""
    wrong = Credentials(sandbox.credentials.api_key, "another-secret")
    async with VeriffClient(wrong, base_url=sandbox.base_url) as veriff:
        with pytest.raises(AuthenticationError, match="compare VERIFF_SHARED_SECRET") as caught:
            await veriff.create_session()

    assert "1819" == caught.value.code
    assert "another-secret" not in repr(caught.value) + str(caught.value)
    assert sandbox.credentials.api_key not in repr(caught.value) + str(caught.value)


async def test_a_borrowed_session_is_left_open(sandbox: Sandbox) -> None:
    """The client uses the caller's session with any defaults of its own, and never closes it."""
    async with aiohttp.ClientSession(raise_for_status=True, timeout=aiohttp.ClientTimeout(total=0.001)) as http:
        async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, http_session=http) as veriff:
            await veriff.create_session()
        assert not http.closed
        with pytest.raises(ClientClosedError, match="inside its async with block"):
            await veriff.create_session()
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, http_session=http) as veriff:
        with pytest.raises(ClientClosedError):
            await veriff.create_session()


async def test_a_closed_client_says_so(sandbox: Sandbox) -> None:
    """Use after close is an error of its own, and closing twice is none."""
    async with open_session(sandbox) as session:
        pass
    with pytest.raises(ClientClosedError):
        await session.decision()


def test_a_client_belongs_to_one_loop() -> None:
    """A client that is used from a second loop says what to do instead."""
    with Sandbox() as sandbox:
        veriff = VeriffClient(sandbox.credentials, base_url=sandbox.base_url)

        async def first() -> None:
            await veriff.create_session()
            with pytest.raises(ConfigurationError, match="one VeriffClient for each loop"):
                await asyncio.to_thread(asyncio.run, second())
            await veriff.aclose()

        async def second() -> None:
            await veriff.create_session()

        asyncio.run(first())


def test_an_unclosed_client_warns() -> None:
    """A client whose connections were left open says so when it is forgotten."""
    with Sandbox() as sandbox:

        async def forget() -> None:
            veriff = VeriffClient(sandbox.credentials, base_url=sandbox.base_url)
            await veriff.create_session()
            with pytest.warns(ResourceWarning, match="unclosed <VeriffClient http"):
                veriff.__del__()
            await veriff.aclose()

        asyncio.run(forget())


@pytest.mark.parametrize("moment", range(12))
async def test_cancelling_a_call_leaves_nothing(sandbox: Sandbox, moment: int) -> None:
    """A call that is cancelled at any of its awaits ends immediately, and the client still works."""
    async with open_session(sandbox) as session:
        task = asyncio.create_task(session.upload(Media(LARGE, "face"), Media(LARGE, "document-front")))
        for _ in range(moment * 3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert None is await session.decision()


@asynccontextmanager
async def answering(headers: dict[str, str], body: bytes, status: int = 200) -> AsyncIterator[str]:
    """Serve one answer to everything, from a server that is not the sandbox."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\n{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
        writer.write(body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
