"""Middleware surrounds each call: it adds headers and measures, and cannot break what the call promises."""

from __future__ import annotations

import asyncio
import gc
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest
from attrs import define, field

from tests.conditions import until
from tests.loops import every_loop
from veriff_async import (
    ApiError,
    CallNext,
    CallRequest,
    CallResponse,
    ClientClosedError,
    ConfigurationError,
    Credentials,
    Media,
    NotFoundError,
    OutcomeUnknownError,
    RetryPolicy,
    ServerError,
    VeriffClient,
)
from veriff_async._protocol.added_headers import AddedHeaders
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from veriff_async import Middleware

pytestmark = pytest.mark.anyio

QUICK: Final = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
JPEG: Final = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40
MEDIA: Final = "/v1/sessions/*/media"


@define
class Recorder:
    """A middleware that records what it sees."""

    requests: list[CallRequest] = field(factory=list)
    responses: list[CallResponse] = field(factory=list)
    errors: list[BaseException] = field(factory=list)

    async def __call__(self, request: CallRequest, call_next: CallNext) -> CallResponse:
        """Record a call."""
        self.requests.append(request)
        try:
            response = await call_next(request)
        except BaseException as error:
            self.errors.append(error)
            raise
        self.responses.append(response)
        return response


@asynccontextmanager
async def client(sandbox: Sandbox, *middleware: Middleware) -> AsyncIterator[VeriffClient]:
    """Run a client of the sandbox."""
    async with VeriffClient.from_env(sandbox.environ, middleware=middleware, retry=QUICK) as veriff:
        yield veriff


def created(sandbox: Sandbox) -> int:
    """Return how many sessions the sandbox has."""
    return len(sandbox.sessions)


@every_loop
async def test_middleware_sees_every_call_with_its_metadata(sandbox: Sandbox, tmp_path: Path) -> None:
    """Creation, upload, submission, polls, downloads and streams pass through, each once, however often it is tried."""
    seen = Recorder()
    async with client(sandbox, seen) as veriff:
        session = await veriff.create_session(vendor_data="user-42")
        sandbox.inject(Fault.status(502), path=MEDIA)
        receipt = await session.upload(Media(JPEG, "document-front"))
        await session.submit()
        sandbox.decide(session.id, "approved")
        await session.wait_for_decision(timeout=20)
        await veriff.download_media(receipt[0].id, tmp_path / "front.jpg")
        async with veriff.stream_media(receipt[0].id) as stream:
            assert JPEG == b"".join([piece async for piece in stream])

    upload = "upload_media"
    operations = ["create_session", upload, "submit_session", "decision", "download_media", "download_media"]
    assert operations == [*dict.fromkeys(request.operation for request in seen.requests), "download_media"]
    requests = {request.operation: request for request in seen.requests}
    responses = dict(zip([request.operation for request in seen.requests], seen.responses, strict=True))
    assert ("POST", "/v1/sessions", None, False) == (
        requests["create_session"].method,
        requests["create_session"].path_template,
        requests["create_session"].session_id,
        requests["create_session"].is_streamed,
    )
    assert (session.id, 201, 1) == (
        responses["create_session"].session_id,
        responses["create_session"].status,
        responses["create_session"].attempts,
    )
    assert requests[upload].is_streamed
    assert requests[upload].body_size > len(JPEG)
    assert requests[upload].read_body() is None
    assert (2, 2 * requests[upload].body_size) == (responses[upload].attempts, responses[upload].bytes_sent)
    assert responses[upload].elapsed > 0
    assert responses[upload].bytes_received > 0
    assert responses["decision"].headers["content-type"].startswith("application/json")
    assert responses["download_media"].read_body() is None


async def test_middleware_sees_bodies_only_on_request(sandbox: Sandbox) -> None:
    """Bodies are in no repr, and `read_body` returns those that are in memory."""
    seen = Recorder()
    async with client(sandbox, seen) as veriff:
        await veriff.create_session(person={"first_name": "Ada"})

    request, response = seen.requests[0], seen.responses[0]
    assert b'"Ada"' in (request.read_body() or b"")
    assert b'"sessionToken"' in (response.read_body() or b"")
    shown = repr(request) + repr(response) + str(request.headers)
    assert not any(word in shown for word in ("Ada", "sessionToken", "http"))


async def test_middleware_sees_no_secret(sandbox: Sandbox) -> None:
    """Neither the API key nor a signature is in anything that a middleware receives or can print."""
    texts: list[str] = []

    async def print_all(request: CallRequest, call_next: CallNext) -> CallResponse:
        response = await call_next(request)
        texts.extend((repr(request), repr(call_next), repr(dict(request.headers)), repr(response)))
        texts.append(repr(dict(response.headers)))
        return response

    async with client(sandbox, print_all) as veriff:
        session = await veriff.create_session()
        await session.upload(Media(JPEG, "face"))
        with pytest.raises(NotFoundError) as caught:
            await veriff.session("8f0d1ab6-0000-4000-8000-000000000001").media()

    text = " ".join((*texts, repr(dict(caught.value.headers)), repr(caught.value)))
    assert veriff.credentials.api_key not in text
    assert re.search(r"[0-9a-f]{64}", text) is None


@asynccontextmanager
async def recording_server() -> AsyncIterator[tuple[str, list[str]]]:
    """Serve refusals with status 503 and then 404, and record the heads of the requests."""
    heads: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                status = 503 if len(heads) == 1 else 404
                writer.write(
                    f"HTTP/1.1 {status} X\r\nX-Request-Id: r-{len(heads)}\r\nSet-Cookie: a=b\r\nX-Auth-Client: key\r\n"
                    "X-Mystery: m\r\nContent-Length: 2\r\n\r\n{}".encode()
                )
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()
        await server.wait_closed()


async def test_headers_are_added_to_every_attempt() -> None:
    """Each attempt has the headers of all middleware; the error has the harmless headers and the id of the last one."""

    async def outer(request: CallRequest, call_next: CallNext) -> CallResponse:
        request.headers["Traceparent"] = "00-1-2-01"
        request.headers["user-agent"] = "shop/1"
        return await call_next(request)

    async def inner(request: CallRequest, call_next: CallNext) -> CallResponse:
        assert "00-1-2-01" == request.headers["TRACEPARENT"]
        request.headers["X-Tenant"] = "t1"
        return await call_next(request)

    credentials = Credentials("key", "secret")
    async with (
        recording_server() as (url, heads),
        VeriffClient(credentials, base_url=url, retry=QUICK, middleware=[outer, inner]) as veriff,
    ):
        with pytest.raises(NotFoundError) as caught:
            await veriff.fraud_categories()

    error = caught.value
    assert len(heads) == error.attempts == 2
    for head in heads:
        assert "Traceparent: 00-1-2-01\r\n" in head
        assert "X-Tenant: t1\r\n" in head
        assert re.findall(r"(?im)^user-agent: (.*)\r$", head) == ["shop/1"]
        assert "VRF-AUTH-CLIENT: key\r\n" in head
    assert {"x-request-id": "r-2", "content-length": "2"} == dict(error.headers)
    assert "r-2" == error.request_id
    assert error.elapsed is not None
    assert 0 < error.elapsed < 60


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-AUTH-CLIENT", "key"),
        ("x-hmac-signature", "0"),
        ("Vrf-Anything", "1"),
        ("Content-Length", "1"),
        ("content-type", "text/plain"),
        ("Transfer-Encoding", "chunked"),
        ("HOST", "veriff.example"),
        ("Range", "bytes=0-1"),
        ("If-None-Match", "x"),
        ("X Tenant", "1"),
        ("", "1"),
        ("X-Tenant", "a\r\nX-Other: b"),
        ("X-Tenant", "\x00"),
        ("X-Tenant", "é"),
    ],
)
async def test_reserved_headers_and_wrong_values_are_refused(sandbox: Sandbox, name: str, value: str) -> None:
    """A header that the library sets itself, or that is not one, is an error that sends nothing and shows no value."""

    async def add(request: CallRequest, call_next: CallNext) -> CallResponse:
        request.headers[name] = value
        return await call_next(request)

    async with client(sandbox, add) as veriff:
        with pytest.raises(ConfigurationError, match=r"^A middleware cannot add") as caught:
            await veriff.create_session()

    assert value == "1" or value not in str(caught.value)
    assert 0 == created(sandbox)


def test_added_headers_are_a_mapping() -> None:
    """Names count in any case, the last spelling wins, and the repr shows no value."""
    headers = AddedHeaders()
    headers["X-Tenant"] = "one"
    headers["x-tenant"] = "two"
    headers["X-Other"] = ""

    assert {"x-tenant": "two", "X-Other": ""} == dict(headers)
    assert 2 == len(headers)
    assert "X-TENANT" in headers
    assert "<AddedHeaders x-tenant, X-Other>" == repr(headers)
    del headers["X-OTHER"]
    assert 1 == len(headers)


async def test_headers_that_are_changed_later_have_no_effect() -> None:
    """Headers are those at the time of the innermost `call_next`."""

    async def add(request: CallRequest, call_next: CallNext) -> CallResponse:
        running = asyncio.ensure_future(call_next(request))
        await asyncio.sleep(0)
        request.headers["X-Late"] = "1"
        return await running

    async with (
        recording_server() as (url, heads),
        VeriffClient(Credentials("key", "secret"), base_url=url, retry=QUICK, middleware=[add]) as veriff,
    ):
        with pytest.raises(NotFoundError):
            await veriff.fraud_categories()

    assert 2 == len(heads)
    assert not any("X-Late" in head for head in heads)


async def twice(request: CallRequest, call_next: CallNext) -> CallResponse:
    """Call twice."""
    await call_next(request)
    return await call_next(request)


async def test_second_call_is_refused(sandbox: Sandbox) -> None:
    """A second `call_next` sends nothing, and the error names the session that the first one created."""
    async with client(sandbox, twice) as veriff:
        with pytest.raises(ConfigurationError, match="twice called call_next twice") as caught:
            await veriff.create_session()

    (session,) = sandbox.sessions
    assert session.id == caught.value.session_id


async def never(request: CallRequest, call_next: CallNext) -> CallResponse:
    """Never call."""
    del call_next
    return CallResponse(
        status=200,
        headers={},
        request_id=None,
        session_id=request.session_id,
        attempts=1,
        elapsed=0,
        bytes_sent=0,
        bytes_received=0,
    )


def not_async(request: CallRequest, call_next: CallNext) -> None:
    """Call, and return nothing to await."""
    del request, call_next


async def replace(request: CallRequest, call_next: CallNext) -> CallResponse:
    """Pass another request on."""
    return await call_next(
        CallRequest(
            operation=request.operation,
            method="GET",
            path_template="/",
            session_id=None,
            is_streamed=False,
            body_size=0,
        )
    )


@pytest.mark.parametrize(
    ("middleware", "fault"),
    [
        (never, "never returned without call_next"),
        (not_async, "not_async returned None: define it with async def"),
        (replace, "replace called call_next with another request"),
    ],
)
async def test_middleware_that_does_not_call_is_an_error(sandbox: Sandbox, middleware: Middleware, fault: str) -> None:
    """A middleware cannot answer in Veriff's place, and nothing is sent."""
    async with client(sandbox, middleware) as veriff:
        with pytest.raises(ConfigurationError, match=f"^The middleware {fault}"):
            await veriff.create_session()

    assert 0 == created(sandbox)


async def test_result_is_that_of_the_call(sandbox: Sandbox) -> None:
    """The return value of a middleware, even None, changes nothing; middleware around it gets the real response."""
    seen = Recorder()

    async def forget(request: CallRequest, call_next: CallNext) -> CallResponse:
        await call_next(request)
        return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    async with client(sandbox, seen, forget) as veriff:
        session = await veriff.create_session()

    assert session.id == seen.responses[0].session_id


async def test_dropped_error_is_raised_again(sandbox: Sandbox) -> None:
    """A middleware sees the error of the caller, and cannot turn it into a success."""
    seen = Recorder()

    async def drop(request: CallRequest, call_next: CallNext) -> CallResponse | None:
        with suppress(ApiError):
            return await call_next(request)
        return None

    sandbox.inject(Fault.status(500), method="PATCH", times=9)
    async with client(sandbox, seen, drop) as veriff:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        session = await veriff.create_session()
        with pytest.raises(ServerError) as caught:
            await session.submit()

    assert seen.errors == [caught.value]
    assert QUICK.max_attempts == caught.value.attempts


async def test_errors_of_middleware_reach_the_caller(sandbox: Sandbox) -> None:
    """The caller gets the exception of a middleware as it is; one after a creation has a note with the session."""

    async def refuse(request: CallRequest, call_next: CallNext) -> CallResponse:
        response = await call_next(request)
        raise LookupError(response.status)

    async with client(sandbox, refuse) as veriff:
        with pytest.raises(LookupError) as caught:
            await veriff.create_session()

    (session,) = sandbox.sessions
    assert [f"Session {session.id} was created before."] == caught.value.__notes__


async def dropping(request: CallRequest, call_next: CallNext) -> CallResponse | None:
    """Drop a cancellation."""
    try:
        return await call_next(request)
    except asyncio.CancelledError:
        return None


async def replacing(request: CallRequest, call_next: CallNext) -> CallResponse:
    """Raise another exception instead of a cancellation."""
    try:
        return await call_next(request)
    except asyncio.CancelledError:
        raise LookupError from None


@every_loop
@pytest.mark.parametrize("middleware", [dropping, replacing])
async def test_cancellation_cannot_be_dropped(sandbox: Sandbox, middleware: Middleware) -> None:
    """A cancelled call ends with `CancelledError`, also if a middleware drops or replaces it."""
    sandbox.inject(Fault.hang(), path="/v1/sessions/*/decision")
    async with client(sandbox, middleware) as veriff:
        session = await veriff.create_session()
        task = asyncio.create_task(session.decision())
        await until(lambda: not sandbox.faults)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@every_loop
async def test_closing_the_client_ends_calls_inside_of_middleware(sandbox: Sandbox) -> None:
    """A middleware sees `ClientClosedError`, and so does the caller."""
    seen = Recorder()
    sandbox.inject(Fault.hang(), path="/v1/sessions/*/decision")
    async with client(sandbox, seen) as veriff:
        session = await veriff.create_session()
        task = asyncio.create_task(session.decision())
        await until(lambda: not sandbox.faults)
    (result,) = await asyncio.gather(task, return_exceptions=True)

    assert seen.errors == [result]
    assert isinstance(result, ClientClosedError)


@every_loop
async def test_closing_the_client_leaves_a_creation_unknown(sandbox: Sandbox) -> None:
    """With middleware as without, a creation that closing ends is an unknown outcome if it was sent."""
    seen = Recorder()
    sandbox.inject(Fault.hang(), path="/v1/sessions")
    async with client(sandbox, seen, dropping) as veriff:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        task = asyncio.create_task(veriff.create_session())
        await until(lambda: not sandbox.faults)
    with pytest.raises(OutcomeUnknownError, match="the client was closed") as caught:
        await task
    assert [caught.value] == seen.errors


@every_loop
@pytest.mark.parametrize("returns", [False, True])
async def test_timeout_of_middleware_leaves_a_creation_unknown(sandbox: Sandbox, returns: bool) -> None:  # noqa: FBT001
    """A middleware that ends a creation cannot hide that a session may exist."""

    async def limit(request: CallRequest, call_next: CallNext) -> CallResponse | None:
        running = asyncio.ensure_future(call_next(request))
        await until(lambda: not sandbox.faults)
        running.cancel()
        try:
            return await running
        except asyncio.CancelledError:
            if returns:
                return None
            raise TimeoutError from None

    sandbox.inject(Fault.hang(), path="/v1/sessions")
    async with client(sandbox, limit) as veriff:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(OutcomeUnknownError, match="a middleware ended the call"):
            await veriff.create_session()


@every_loop
async def test_creation_that_a_middleware_leaves_running_is_unknown(sandbox: Sandbox) -> None:
    """A middleware that gives up on a creation, which continues in a task, cannot hide that a session may exist."""
    tasks: list[asyncio.Future[CallResponse]] = []

    async def give_up(request: CallRequest, call_next: CallNext) -> CallResponse:
        tasks.append(asyncio.ensure_future(call_next(request)))
        await until(lambda: not sandbox.faults)
        raise TimeoutError

    sandbox.inject(Fault.hang(), path="/v1/sessions")
    async with client(sandbox, give_up) as veriff:
        with pytest.raises(OutcomeUnknownError):
            await veriff.create_session()
        await veriff.aclose()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_call_in_a_task_of_the_middleware_is_awaited(sandbox: Sandbox) -> None:
    """A middleware that returns too early does not lose the result, and cannot start a call after its end."""
    late: list[CallNext] = []
    tasks: list[asyncio.Future[CallResponse]] = []

    async def hurry(request: CallRequest, call_next: CallNext) -> CallResponse | None:
        tasks.append(asyncio.ensure_future(call_next(request)))
        await asyncio.sleep(0)
        return None

    async def keep(request: CallRequest, call_next: CallNext) -> CallResponse:
        late.append(call_next)
        raise LookupError

    async with client(sandbox, hurry) as veriff:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        session = await veriff.create_session()
        assert session.id == (await tasks[0]).session_id
    async with client(sandbox, keep) as veriff:
        with pytest.raises(LookupError):
            await veriff.create_session()
        with pytest.raises(ConfigurationError):
            await late[0](
                CallRequest(operation="", method="", path_template="", session_id=None, is_streamed=False, body_size=0)
            )
    assert 1 == created(sandbox)


async def test_views_and_reopened_clients_keep_their_middleware(sandbox: Sandbox) -> None:
    """Views share the middleware of their client, also after it was closed and opened again."""
    seen = Recorder()
    veriff = VeriffClient.from_env(sandbox.environ, middleware=(seen,))
    async with veriff:
        await veriff.with_options(retry=QUICK).create_session()
    async with veriff:
        await veriff.create_session()

    assert 2 == len(seen.responses)


@pytest.mark.parametrize("wrong", [None, print, [None], [Recorder], {"a": 1}, "middleware"])
def test_wrong_middleware_is_refused(wrong: object) -> None:
    """A value that is not a list of functions is refused when the client is created."""
    with pytest.raises(ConfigurationError, match=r"^middleware must"):
        VeriffClient(
            Credentials("key", "secret"),
            base_url="https://veriff.example",
            middleware=wrong,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        )


async def test_failed_calls_leave_no_garbage(sandbox: Sandbox) -> None:
    """The error of a call with middleware is in no reference cycle, so it is freed at once."""
    async with client(sandbox, dropping, replacing) as veriff:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        session = veriff.session("8f0d1ab6-0000-4000-8000-000000000001")
        with suppress(NotFoundError):
            await session.media()
        gc.collect()
        before = {id(thing) for thing in gc.get_objects() if isinstance(thing, NotFoundError)}
        gc.disable()
        try:
            with suppress(NotFoundError):
                await session.media()
            found = [
                thing for thing in gc.get_objects() if isinstance(thing, NotFoundError) and id(thing) not in before
            ]
        finally:
            gc.enable()
    assert not found
