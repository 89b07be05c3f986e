"""Every repetition is ours, nothing is created twice, and what is known about a request is what the error says."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest
from attrs import define, field

from tests.conditions import run_loop, until, until_still
from tests.loops import every_loop
from veriff_async import (
    ApiError,
    ClientClosedError,
    CollectedData,
    ConnectError,
    ConnectTimeoutError,
    Credentials,
    Device,
    FaceImage,
    FraudReport,
    Media,
    Network,
    OutcomeUnknownError,
    Person,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    Timeouts,
    TransportError,
    VeriffClient,
    VeriffError,
)
from veriff_async.sandbox import Fault, Sandbox, SandboxOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeAlias

    Call: TypeAlias = Callable[[VeriffClient], Awaitable[object]]

pytestmark = pytest.mark.anyio

CREDENTIALS: Final = Credentials("5b0d1ab6-0000-4000-8000-000000000001", "secret")
ID: Final = "f04bdb47-d3be-4b28-b028-a652feb060b5"
QUICK: Final = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
CREATED: Final = json.dumps({"status": "success", "verification": {"id": ID}}).encode()
JPEG: Final = b"\xff\xd8\xff\xe0"


def response(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    """Return the bytes of a response."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


@define
class Server:
    """A server that gives one answer after the other, then the last one for ever.

    ``None`` closes the connection instead, and a bytearray is an answer after which it is closed. Otherwise it stays
    open, also if the client asks to close it.
    """

    answers: list[bytes | bytearray | None]
    requests: list[tuple[str, int]] = field(factory=list)
    connections: int = 0
    url: str = ""

    @property
    def lines(self) -> list[str]:
        """The request lines, without the protocol."""
        return [line for line, _ in self.requests]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = head.lower().partition("content-length: ")[2].split("\r\n")[0]
                await reader.readexactly(int(length or 0))
                self.requests.append((head.split(" HTTP")[0], number))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if isinstance(answer, bytearray):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*answers: bytes | bytearray | None) -> AsyncIterator[Server]:
    """Run a `Server` on a free port of this machine."""
    found = Server(list(answers))
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def client_of(server: Server, retry: RetryPolicy = QUICK) -> AsyncIterator[VeriffClient]:
    """Open a client of a server, for all of Veriff's hosts."""
    async with VeriffClient(CREDENTIALS, base_url=server.url, sync_url=server.url, retry=retry) as veriff:
        yield veriff


async def create(veriff: VeriffClient) -> object:
    """Create a session."""
    return await veriff.create_session(vendor_data="user-42")


async def validate(veriff: VeriffClient) -> object:
    """Create a session by a check of registries."""
    return await veriff.validate_registry(PERSON)


async def validate_at_once(veriff: VeriffClient) -> object:
    """Check registries, whose session is created too."""
    return await veriff.validate_registry_sync(PERSON)


async def report(veriff: VeriffClient) -> object:
    """Report fraud."""
    return await veriff.report_fraud(FraudReport(session_id=ID, categories=["injected_media"]))


async def import_face(veriff: VeriffClient) -> object:
    """Import a face."""
    return await veriff.import_faces(images=[FaceImage(name="one", content=JPEG)])


async def collect(veriff: VeriffClient) -> object:
    """Send collected data."""
    return await veriff.session(ID).send_collected_data(COLLECTED)


PERSON: Final = Person(first_name="Ada", last_name="Byron", id_number="123456789", date_of_birth="1990-01-01")
COLLECTED: Final = CollectedData(
    provider_name="us", device=Device(fingerprint="f"), network=Network(address_v4="192.0.2.1")
)
CREATIONS: Final = {"create": create, "validate": validate, "validate at once": validate_at_once}
ONCE: Final = {**CREATIONS, "fraud report": report, "face import": import_face, "collected data": collect}
each_creation = pytest.mark.parametrize("call", CREATIONS.values(), ids=CREATIONS)
each_once = pytest.mark.parametrize("call", ONCE.values(), ids=ONCE)


@each_once
@pytest.mark.parametrize("status", [303, 408, 460, 499, 500, 501, 502, 503, 504, 520, 530])
async def test_answer_that_proves_nothing_is_unknown(call: Call, status: int) -> None:
    """No 5xx and no status of a proxy proves that nothing was done, so the request is not repeated."""
    async with (
        serving(response(status, b"upstream connect error", Retry_After="0")) as server,
        client_of(server) as veriff,
    ):
        with pytest.raises(OutcomeUnknownError, match=f"HTTP {status}"):
            await call(veriff)

    assert 1 == len(server.requests)


@every_loop
@each_once
@pytest.mark.parametrize(
    "answer",
    [None, response(200, b"<html>"), response(200, b""), response(204, b""), response(200, b"[]"), response(101, b"")],
    ids=["lost", "not JSON", "empty", "no content", "no object", "101"],
)
async def test_success_that_cannot_be_read_is_unknown(call: Call, answer: bytes | None) -> None:
    """A lost or unreadable answer leaves open whether the request was carried out, so it is not repeated."""
    async with serving(answer) as server, client_of(server) as veriff:
        with pytest.raises(OutcomeUnknownError, match="outcome is unknown") as caught:
            await call(veriff)

        assert (1, None) == (len(server.requests), caught.value.session_id)
        assert None is caught.value.__context__


@each_once
async def test_forged_answer_is_unknown(call: Call) -> None:
    """An answer under another API key or with a wrong signature proves nothing, for any status."""
    for status in (200, 400):
        for headers in ({"x_hmac_signature": "0" * 64}, {"x_auth_client": "another"}):
            async with serving(response(status, CREATED, **headers)) as server, client_of(server) as veriff:
                with pytest.raises(OutcomeUnknownError, match="check"):
                    await call(veriff)

                assert 1 == len(server.requests)


@each_creation
@pytest.mark.parametrize(
    "answer",
    [
        response(201, CREATED[:-2]),
        response(201, CREATED[:-1] + b"<"),
        response(201, CREATED, x_hmac_signature="0" * 64),
        bytearray(response(201, CREATED + bytes(100))[:-100]),
        response(201, CREATED + bytes(5_000_000)),
    ],
    ids=["cut JSON", "broken JSON", "wrong signature", "cut connection", "too large"],
)
async def test_id_of_an_unknown_session_is_attached(call: Call, answer: bytes) -> None:
    """If an unusable answer holds the id of the created session, the error has it, and says what to do."""
    async with serving(answer) as server, client_of(server) as veriff:
        with pytest.raises(OutcomeUnknownError, match=f"session {ID} probably exists") as caught:
            await call(veriff)

        assert (ID, 1) == (caught.value.session_id, len(server.requests))


async def _outcome(work: Awaitable[object]) -> VeriffError | None:
    try:
        await work
    except VeriffError as error:
        return error
    return None


@each_once
async def test_certain_refusals_are_repeated_or_final(call: Call) -> None:
    """A 429 proves that nothing was done, so it is repeated; so does a 4xx, which is final."""
    for status, requests in ((429, 4), (400, 1), (403, 1), (404, 1), (409, 1), (422, 1), (302, 1)):
        async with serving(response(status, Retry_After="0")) as server, client_of(server) as veriff:
            with pytest.raises(ApiError) as caught:
                await call(veriff)

            assert (status, requests) == (caught.value.status, len(server.requests))


async def test_signed_503_is_repeated_and_an_unsigned_one_is_unknown() -> None:
    """A 503 proves that nothing was created only if Veriff signed it; what a proxy answers proves nothing."""
    for signed in (True, False):
        async with Sandbox(options=SandboxOptions(sign_errors=signed)) as sandbox:
            sandbox.inject(Fault.status(503, retry_after=0), path="/v1/sessions", times=9)
            async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, retry=QUICK) as veriff:
                with pytest.raises(ServerError if signed else OutcomeUnknownError):
                    await create(veriff)

            assert (4 if signed else 1) == len(sandbox.requests)


@every_loop
@each_once
async def test_refused_connect_is_no_unknown_outcome(call: Call) -> None:
    """A proxy that refuses CONNECT has passed nothing on, so the request is repeated and then a `ConnectError`."""
    for status in (403, 407, 429, 500, 502, 503):
        async with (
            serving(response(status, b"")) as proxy,
            aiohttp.ClientSession(proxy=proxy.url) as http,
            VeriffClient(
                CREDENTIALS, base_url="https://station.example.invalid", http_session=http, retry=QUICK
            ) as veriff,
        ):
            with pytest.raises(ConnectError, match=f"CONNECT with HTTP {status}"):
                await call(veriff)

            assert 4 == veriff.statistics().requests


@pytest.mark.parametrize(
    "timeouts",
    [Timeouts(connect=3, total=600), Timeouts(connect=15, total=3), Timeouts(connect=15, idle=0.001, total=3)],
    ids=["connect", "total", "total and stall"],
)
@each_once
async def test_handshake_that_times_out_is_no_unknown_outcome(
    call: Call, timeouts: Timeouts, advance_time: Callable[[float], None]
) -> None:
    """If any limit ends a TLS handshake, nothing was sent: the error is a timeout and a `ConnectError`."""
    connected = asyncio.Event()

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(stay_silent, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with VeriffClient(
            CREDENTIALS,
            base_url=url,
            feedback_url=url,
            sync_url=url,
            timeouts=timeouts,
            retry=RetryPolicy(max_attempts=1),
        ) as veriff:
            calling = asyncio.create_task(_outcome(call(veriff)))
            await connected.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            advance_time(3.1)
            error = await calling

    assert isinstance(error, ConnectTimeoutError)
    assert isinstance(error, TimeoutError)
    assert not isinstance(error, OutcomeUnknownError)


@every_loop
@pytest.mark.parametrize("reused", [True, False], ids=["reused connection", "new connection"])
async def test_deletion_whose_answer_was_lost_is_a_success(reused: bool) -> None:  # noqa: FBT001
    """The repetition of a deletion is ours, so that "not found" is known to be its own work."""
    first = [response(404)] if reused else []
    async with serving(*first, None, response(404)) as server, client_of(server) as veriff:
        session = veriff.session(ID)
        if reused:
            with pytest.raises(ApiError):
                await session.decision()
        await session.delete()
        statistics = veriff.statistics()

        assert [f"DELETE /v1/sessions/{ID}"] * 2 == server.lines[-2:]
        assert (len(server.requests), 1) == (statistics.requests, statistics.retries)


CALLS: Final[dict[str, Callable[[VeriffClient], Awaitable[object]]]] = {
    "GET": lambda veriff: veriff.session(ID).decision(),
    "DELETE": lambda veriff: veriff.session(ID).delete(),
    "PATCH": lambda veriff: veriff.session(ID).stop_monitoring(),
    "POST media": lambda veriff: veriff.session(ID).upload(Media(JPEG, "face")),
    "POST retrieve": lambda veriff: veriff.fraud_reports([ID]),
}


@every_loop
@pytest.mark.parametrize("borrowed", [True, False], ids=["borrowed session", "own session"])
@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_each_try_is_counted_and_within_the_budget(
    call: Call,
    attempts: int,
    borrowed: bool,  # noqa: FBT001
) -> None:
    """The server never sees more tries than `RetryPolicy` allows and the client counts, on reused connections too."""
    async with serving(response(404), None) as server, aiohttp.ClientSession() as http:
        retry = RetryPolicy(max_attempts=attempts, initial_backoff=0.001)
        async with VeriffClient(
            CREDENTIALS, base_url=server.url, retry=retry, http_session=http if borrowed else None
        ) as veriff:
            with pytest.raises(ApiError):
                await veriff.session(ID).media()
            with pytest.raises(TransportError):
                await call(veriff)

            assert 1 + attempts == len(server.requests) == veriff.statistics().requests


@every_loop
async def test_repetition_avoids_other_stale_connections() -> None:
    """After a connection broke, the next try has a new one: the rest of the pool may be broken as well."""
    async with serving(response(404)) as server:
        async with client_of(server, RetryPolicy(max_attempts=2, initial_backoff=0.001)) as veriff:
            asking = [_outcome(veriff.session(ID).decision()) for _ in range(5)]
            await asyncio.gather(*asking)
            pooled = server.connections
            server.answers[:] = [None, response(200, b'{"status":"success","verification":null}')]
            assert None is await veriff.session(ID).decision()

        assert pooled + 1 == server.connections
        assert server.requests[-2][1] <= pooled < server.requests[-1][1]


@every_loop
@pytest.mark.parametrize("borrowed", [True, False], ids=["borrowed session", "own session"])
@each_once
async def test_request_that_must_not_be_repeated_has_a_new_connection(
    call: Call,
    borrowed: bool,  # noqa: FBT001
) -> None:
    """Such a request never goes out on a connection that was used before, and leaves none for the next one.

    The server may be closing an idle connection at that moment. It ignores ``Connection: close`` here, and sends head
    and body of its answer together or apart.
    """
    whole = response(404)
    async with (
        serving(whole) as server,
        aiohttp.ClientSession() as http,
        VeriffClient(CREDENTIALS, base_url=server.url, http_session=http if borrowed else None) as veriff,
    ):
        for _ in range(3):
            await _outcome(veriff.session(ID).decision())
            await _outcome(call(veriff))
        numbers = [number for _, number in server.requests]
        assert [numbers[0], numbers[0], numbers[0]] == numbers[::2]
        assert 4 == len(set(numbers))

        await asyncio.gather(*(_outcome(call(veriff)) for _ in range(20)))
        used = [number for line, number in server.requests if not line.startswith("GET")]
        assert len(used) == len(set(used)) == 23


@every_loop
async def test_connection_of_a_slow_answer_is_not_used_again() -> None:
    """Also an answer whose body comes late leaves no connection that another creation could get."""
    numbers: list[int] = []
    bodies: list[asyncio.Event] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(bodies)
        while not reader.at_eof():
            body = asyncio.Event()
            bodies.append(body)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]))
            numbers.append(number)
            writer.write(response(201, CREATED)[: -len(CREATED)])
            await run_loop()
            writer.write(CREATED)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with VeriffClient(CREDENTIALS, base_url=url) as veriff:
            for _ in range(5):
                await asyncio.gather(create(veriff), create(veriff))

    assert 10 == len(set(numbers)) == len(numbers)


@every_loop
async def test_closing_the_client_during_a_creation_is_unknown(sandbox: Sandbox) -> None:
    """A creation that was sent when the client was closed may exist; any other call ends with `ClientClosedError`."""
    sandbox.inject(Fault.hang(), times=2)
    veriff = VeriffClient(sandbox.credentials, base_url=sandbox.base_url, retry=QUICK)
    creating = asyncio.create_task(_outcome(create(veriff)))
    asking = asyncio.create_task(_outcome(veriff.session(str(uuid.uuid4())).decision()))
    await until(lambda: not sandbox.faults)
    await veriff.aclose()

    assert isinstance(await creating, OutcomeUnknownError)
    assert isinstance(await asking, ClientClosedError)


@every_loop
async def test_closing_the_client_between_two_tries_is_certain() -> None:
    """A creation that waits for its next try has certainly created nothing, so closing is what ended it."""
    async with serving(response(429, Retry_After="30")) as server, client_of(server) as veriff:
        creating = asyncio.create_task(_outcome(create(veriff)))
        await until(lambda: bool(veriff.statistics().retries))
        await veriff.aclose()

        assert isinstance(await creating, ClientClosedError)


@pytest.mark.parametrize("header", ["0", "Thu, 01 Jan 2015 00:00:00 GMT"], ids=["zero", "past"])
async def test_refused_calls_wait_a_minimum(header: str, advance_time: Callable[[float], None]) -> None:
    """However little the server asks for, no call is sent again at once, and not all at the same time."""
    async with (
        serving(response(429, Retry_After=header, Date=header if header != "0" else "")) as server,
        client_of(server, RetryPolicy()) as veriff,
    ):
        calls = [asyncio.create_task(_outcome(veriff.session(ID).decision())) for _ in range(20)]
        await until(lambda: len(server.requests) == 20)
        for _ in range(200):
            await asyncio.sleep(0)
        assert 20 == len(server.requests)
        assert veriff.statistics().cooldown_remaining > 0.1
        while not all(call.done() for call in calls):
            advance_time(0.05)
            await asyncio.sleep(0)

    assert all(isinstance(call.result(), RateLimitedError) for call in calls)


async def test_dates_are_read_by_the_clock_of_the_server() -> None:
    """A ``Retry-After`` date is as far away as it is from the ``Date`` of the answer, however wrong our clock is."""
    answer = response(429, Date="Thu, 01 Jan 2015 00:00:00 GMT", Retry_After="Thu, 01 Jan 2015 02:00:00 GMT")
    async with serving(answer) as server, client_of(server) as veriff:
        with pytest.raises(RateLimitedError) as caught:
            await veriff.session(ID).decision()

    assert 7200 == caught.value.retry_after


async def test_calls_do_not_resume_all_at_once(advance_time: Callable[[float], None]) -> None:
    """After a shared pause the waiting calls are sent one after the other; `Recovery` says how fast."""
    async with (
        serving(response(429, Retry_After="10"), response(404)) as server,
        client_of(server, RetryPolicy()) as veriff,
    ):
        first = asyncio.create_task(_outcome(veriff.session(ID).decision()))
        await until(lambda: bool(veriff.statistics().rate_limited))
        calls = [asyncio.create_task(_outcome(veriff.session(ID).decision())) for _ in range(100)]
        await run_loop(50)
        advance_time(9)
        await run_loop(50)
        assert 1 == len(server.requests)
        advance_time(1.05)
        await run_loop(20)
        assert len(server.requests) < 50
        while not all(call.done() for call in calls):
            advance_time(0.05)
            await run_loop(5)
        advance_time(5)
        await first

    assert 102 == len(server.requests)


async def test_waiting_for_a_slow_down_is_within_the_seconds() -> None:
    """A call does not wait for a pause that ends after its budget, and says for how long that pause lasts."""
    async with (
        serving(response(429, Retry_After="8"), response(500)) as server,
        client_of(server, RetryPolicy(max_attempts=2, max_elapsed=2, initial_backoff=1)) as veriff,
    ):
        with pytest.raises(RateLimitedError):
            await veriff.session(ID).decision()
        with pytest.raises(RateLimitedError, match="was not sent") as caught:
            await create(veriff)

        assert caught.value.retry_after is not None
        assert 7 < caught.value.retry_after <= 8
        assert 1 == len(server.requests)


async def test_slow_down_ends_a_retry_with_its_own_error(advance_time: Callable[[float], None]) -> None:
    """A call that another one's pause holds back for too long ends with the error of its own last attempt."""
    async with (
        serving(response(500), response(429, Retry_After="50")) as server,
        client_of(server, RetryPolicy(max_attempts=3, max_elapsed=2, initial_backoff=1)) as veriff,
    ):
        call = asyncio.create_task(_outcome(veriff.session(ID).decision()))
        await until(lambda: bool(veriff.statistics().retries))
        await _outcome(veriff.session(ID).decision())
        advance_time(1)
        error = await call

    assert isinstance(error, ServerError)
    assert 500 == error.status


async def test_waiting_for_a_slow_down_costs_no_attempt(advance_time: Callable[[float], None]) -> None:
    """A call that waited for another one's pause has all its attempts left."""
    async with serving(response(429, Retry_After="20"), response(500)) as server:
        async with client_of(server, RetryPolicy(max_attempts=1)) as veriff:
            await _outcome(veriff.session(ID).decision())
        async with client_of(server, RetryPolicy(max_attempts=3)) as veriff:
            server.answers[:] = [response(429, Retry_After="20"), response(500)]
            first = asyncio.create_task(_outcome(veriff.session(ID).decision()))
            await until(lambda: bool(veriff.statistics().rate_limited))
            before = len(server.requests)
            second = asyncio.create_task(_outcome(veriff.session(ID).media()))
            while not (first.done() and second.done()):
                advance_time(0.5)
                await asyncio.sleep(0)

    assert 3 == sum(line.endswith("/media") for line in server.lines[before:])


@pytest.mark.parametrize("connect", [0.5, 5.0, 10.0])
@pytest.mark.parametrize("direction", ["answer", "body"])
async def test_stall_is_detected_in_time(connect: float, direction: str, advance_time: Callable[[float], None]) -> None:
    """With any other limits, an attempt ends when no byte moved for `Timeouts.idle`, within a tenth of it."""
    received, ended = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if direction == "answer":
            writer.write(response(200, bytes(100))[:-99])
        received.set()
        await ended.wait()
        writer.transport.abort()

    timeouts, retry = Timeouts(connect=connect, idle=30), RetryPolicy(max_attempts=1)
    async with await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**14) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with VeriffClient(CREDENTIALS, base_url=url, timeouts=timeouts, retry=retry) as veriff:
            session = veriff.session(ID)
            picture = Media(JPEG + bytes(16_000_000), "face")
            work = session.decision() if direction == "answer" else session.upload(picture)
            calling = asyncio.create_task(_outcome(work))
            await received.wait()
            await until_still(lambda: veriff.statistics().bytes_sent)
            advance_time(28)
            await run_loop(5)
            early = calling.done()
            advance_time(4)
            await run_loop(20)
            late = calling.done()
        ended.set()

    assert (False, True) == (early, late)
