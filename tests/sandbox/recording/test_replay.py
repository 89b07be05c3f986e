"""A cassette is served as Veriff, with the credentials of the replay."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import anyio
import pytest
from aiohttp import web

from tests.conditions import SECONDS, time_limit
from tests.loops import every_loop
from tests.sandbox.recording.conftest import raw_client, raw_server, read, read_head
from veriff_async import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    Credentials,
    DecisionEvent,
    InvalidArgumentError,
    Media,
    Person,
    RateLimitedError,
    RetryPolicy,
    TransportError,
    VeriffClient,
    parse_webhook,
)
from veriff_async.models import Document
from veriff_async.sandbox import Fault, ReceivedRequest, Recorder, Sandbox
from veriff_async.sandbox._recording.cassette import head_line
from veriff_async.sandbox._specimens import specimen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from veriff_async import VerificationSession

pytestmark = pytest.mark.anyio

HEAD: Final = head_line(recorder="veriff-async 1", recorded_at="2026-01-01T00:00:00Z", is_redacted=True)
ONCE: Final = RetryPolicy(max_attempts=1)
PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(40)


async def verify_anna(environ: Mapping[str, str], folder: Path, *, vendor_data: str = "user-42") -> list[object]:
    """Run a program that does not know whether it is replayed: upload, wait, and download."""
    async with VeriffClient.from_env(environ) as veriff:
        session = await veriff.create_session(
            person=Person(first_name="Anna", last_name="Müller", id_number="39001010000"), vendor_data=vendor_data
        )
        with specimen("face.webp") as face:
            (uploaded,) = await session.upload(Media(face, "face"))
        await session.submit()
        decision = await session.wait_for_decision(timeout=SECONDS)
        media = await session.media()
        files = await session.download_all(folder)
        assert decision.person is not None
        assert uploaded.id == media.images[0].id
        assert decision.session_id == session.id
        return [
            decision.status,
            decision.code,
            decision.vendor_data,
            decision.person.first_name,
            decision.person.last_name,
            media.images[0].context,
            files[0].size,
        ]


async def record_anna(tape: Path, folder: Path) -> list[object]:
    """Record the program."""
    async with Sandbox(decide_after=0) as sandbox, Recorder(sandbox.base_url, tape) as recorder:
        return await verify_anna({**sandbox.environ, **recorder.environ}, folder)


@every_loop
async def test_a_program_is_replayed_unchanged(tape: Path, tmp_path: Path) -> None:
    """The same program gets the same results, also with other values than those that were recorded."""
    recorded = await record_anna(tape, tmp_path / "recorded")
    text = (await read(tape)).decode()
    assert "Anna" not in text
    assert "ller" not in text
    assert "39001010000" not in text
    assert "user-42" not in text
    async with Sandbox.replay(tape, strict=True) as replay:
        assert await verify_anna(replay.environ, tmp_path / "same") == recorded
        assert not replay.unused
        assert not replay.unmatched
    async with Sandbox.replay(tape, strict=True) as replay:
        other = await verify_anna(replay.environ, tmp_path / "other", vendor_data="user-43")
        assert other == [*recorded[:2], "user-43", *recorded[3:]]


@asynccontextmanager
async def receive_webhooks() -> AsyncGenerator[tuple[str, list[tuple[Mapping[str, str], bytes]]]]:
    """Run a receiver; gives its URL, and the headers and bodies that it got."""
    received: list[tuple[Mapping[str, str], bytes]] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        received.append((request.headers, await request.read()))
        return web.Response()

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", received
    finally:
        await runner.cleanup()


async def submit(environ: Mapping[str, str], vendor_data: str) -> VerificationSession:
    """Create a session, upload a picture and submit it."""
    async with VeriffClient.from_env(environ) as veriff:
        session = await veriff.create_session(vendor_data=vendor_data)
        await session.upload(Media(PNG, "face"))
        await session.submit()
        return session


async def test_webhooks_are_signed_again_and_posted_in_their_order(tape: Path) -> None:
    """A receiver with the replay's credentials accepts the webhooks; they contain the program's values."""
    async with receive_webhooks() as (url, received), Sandbox() as sandbox:
        async with Recorder(sandbox.base_url, tape, webhooks_to=url) as recorder:
            sandbox.webhook_urls = dict.fromkeys(("decision", "event"), recorder.webhook_url)
            session = await submit({**sandbox.environ, **recorder.environ}, "user-42")
            await sandbox.wait_idle()
            sandbox.decide(session.id, "declined", reason_code=106)
            await sandbox.wait_idle()
        recorded = [parse_webhook(*each, sandbox.credentials) for each in received]
    credentials = Credentials("00000000-0000-4000-8000-000000000001", "a secret of the replay")
    async with (
        receive_webhooks() as (url, received),
        Sandbox.replay(tape, strict=True, credentials=credentials, webhook_url=url) as replay,
    ):
        session = await submit(replay.environ, "user-43")
        await replay.wait_idle()
        events = [parse_webhook(*each, credentials) for each in received]
        assert [event.kind for event in events] == [event.kind for event in recorded]
        assert {event.session_id for event in events} == {session.id}
        decision = events[-1]
        assert isinstance(decision, DecisionEvent)
        assert decision.decision.reason_code == 106
        assert decision.decision.vendor_data == "user-43"
        assert replay.posted == len(recorded)


async def test_a_webhook_waits_for_the_requests_before_it(tape: Path) -> None:
    """The decision is not posted before the program has submitted, nor without a URL."""
    async with (
        receive_webhooks() as (url, _),
        Sandbox() as sandbox,
        Recorder(sandbox.base_url, tape, webhooks_to=url) as recorder,
    ):
        sandbox.webhook_url = recorder.webhook_url
        session = await submit({**sandbox.environ, **recorder.environ}, "user-42")
        sandbox.decide(session.id, "approved")
        await sandbox.wait_idle()
    async with (
        receive_webhooks() as (url, received),
        Sandbox.replay(tape, webhook_url=url) as replay,
        VeriffClient.from_env(replay.environ) as veriff,
    ):
        session = await veriff.create_session(vendor_data="user-42")
        await session.upload(Media(PNG, "face"))
        await replay.wait_idle()
        assert not received
        assert replay.unused == ("line 4: PATCH /v1/sessions/...", "line 5: a webhook")
        await session.submit()
        await replay.wait_idle()
        assert len(received) == 1
        assert not replay.unused


async def test_a_receiver_that_fails_does_not_stop_the_replay(tape: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A webhook is posted once, as recorded; the failure is logged."""
    await test_a_webhook_waits_for_the_requests_before_it(tape)
    async with raw_server(_break) as url, Sandbox.replay(tape, webhook_url=url) as replay:
        await submit(replay.environ, "user-42")
        await replay.wait_idle()
        assert replay.posted == 0
    assert "could not be delivered" in caplog.text


async def _break(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def test_a_request_that_is_not_recorded_gets_the_nearest_recording(tape: Path) -> None:
    """The response names the line and the difference, in JSON, without values of the request."""
    async with (
        Sandbox() as sandbox,
        Recorder(sandbox.base_url, tape) as recorder,
        VeriffClient.from_env({**sandbox.environ, **recorder.environ}) as veriff,
    ):
        await veriff.create_session(document=Document(country="EE"))
    async with Sandbox.replay(tape) as replay, VeriffClient.from_env(replay.environ) as veriff:
        with pytest.raises(BadRequestError) as caught:
            await veriff.create_session(document=Document(country="LV"))
        assert caught.value.status == 422
        with pytest.raises(BadRequestError):
            await veriff.create_session(document=Document(country="EE"), vendor_data="Anna")
        with pytest.raises(BadRequestError):
            await veriff.session("00000000-0000-4000-8000-000000000000").decision()
        await veriff.create_session(document=Document(country="EE"))
        with pytest.raises(BadRequestError):
            await veriff.create_session(document=Document(country="EE"))
        country, vendor_data, missing, repeated = replay.unmatched
    assert "Line 2 of the cassette is the nearest, POST /v1/sessions" in country
    assert "verification.document.country differs" in country
    assert "verification.vendorData was sent and is not recorded" in vendor_data
    assert "Anna" not in vendor_data
    assert "GET /v1/sessions/.../decision is not recorded. Line 2 of the cassette is the nearest" in missing
    assert "POST /v1/sessions, but the method differs" in missing
    assert "is recorded once, and was replayed as often" in repeated


async def test_a_response_for_people_is_json(tape: Path) -> None:
    """A program without this library sees the sentence and the recording in the body."""
    await anyio.Path(tape).write_bytes(HEAD + line("GET", f"/v1/sessions/{ID}/decision", {"status": "success"}))
    async with Sandbox.replay(tape) as replay, aiohttp.ClientSession() as http:
        headers = {"X-AUTH-CLIENT": replay.credentials.api_key}
        headers["X-HMAC-SIGNATURE"] = replay.credentials.sign(ID.encode())
        async with http.get(f"{replay.base_url}/v1/sessions/{ID}/person", headers=headers) as response:
            assert response.status == 422
            body = await response.json()
    assert body["code"] == "not_recorded"
    assert body["nearest"]["line"] == 2
    assert body["nearest"]["difference"] == "the path differs"


ID: Final = "00000000-0000-4000-8000-000000000000"


def line(method: str, path: str, content: object, *, number: int = 0, **members: object) -> bytes:
    """Return a line that a person might write."""
    request: dict[str, object] = {"method": method, "path": path, "headers": {}, "body": None}
    response = {"status": 200, "headers": {}, "body": {"size": 1, "json": content}}
    entry = {"kind": "exchange", "number": number, "at": 0, "seconds": 0, "ending": "complete"}
    return json.dumps({**entry, "request": request, "response": response, **members}).encode() + b"\n"


@pytest.mark.parametrize("change", ["key", "secret"])
async def test_credentials_of_the_program_are_checked(tape: Path, tmp_path: Path, change: str) -> None:
    """A program with another key or secret is refused, as by Veriff, and nothing is replayed."""
    await record_anna(tape, tmp_path / "recorded")
    async with Sandbox.replay(tape) as replay:
        key = ID if change == "key" else replay.credentials.api_key
        secret = "another" if change == "secret" else replay.credentials.shared_secret
        async with VeriffClient(Credentials(key, secret), base_url=replay.base_url) as veriff:
            with pytest.raises(AuthenticationError) as caught:
                await veriff.create_session(person=Person(first_name="Anna"))
        assert caught.value.code == ("1803" if change == "key" else "1819")
        assert len(replay.unused) >= 4
        assert not replay.unmatched


async def test_recorded_errors_are_replayed(tape: Path) -> None:
    """Refusals, retries and broken connections happen again, in their order."""

    async def run(environ: Mapping[str, str]) -> list[str]:
        seen: list[str] = []
        async with VeriffClient.from_env(environ, retry=ONCE) as veriff:
            with pytest.raises(RateLimitedError):
                await veriff.create_session()
            session = await veriff.create_session()
            for _ in range(2):
                try:
                    seen.append(str(await session.decision()))
                except TransportError as error:
                    seen.append(type(error).__name__)
            await session.submit()
            try:
                await session.upload(Media(PNG, "face"))
            except ConflictError as error:
                seen.append(str(error.status))
        return seen

    async with Sandbox() as sandbox, Recorder(sandbox.base_url, tape) as recorder:
        sandbox.inject(Fault.status(429), method="POST", path="/v1/sessions")
        sandbox.inject(Fault.lose_response(), method="GET")
        recorded = await run({**sandbox.environ, **recorder.environ})
    assert recorded == ["TransportError", "None", "409"]
    async with Sandbox.replay(tape, strict=True) as replay:
        assert await run(replay.environ) == recorded


async def test_half_a_response_is_replayed_as_half(tape: Path) -> None:
    """A response that broke off breaks off again."""
    data = HEAD + line("GET", f"/v1/media/{ID}", {}, ending="server")
    await anyio.Path(tape).write_bytes(data)
    async with Sandbox.replay(tape) as replay, raw_client(replay.base_url) as (reader, writer):
        writer.write(_get(f"/v1/media/{ID}", replay.credentials))
        assert b"Content-Length: 3" in await read_head(reader)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(3)


async def test_a_malformed_body_is_refused(tape: Path) -> None:
    """A body in chunks that are none is answered with 400, and matches no recording."""
    await anyio.Path(tape).write_bytes(HEAD + line("GET", f"/v1/media/{ID}", {}))
    async with Sandbox.replay(tape) as replay, raw_client(replay.base_url) as (reader, writer):
        writer.write(b"POST /v1/sessions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n\r\n")
        assert b" 400 " in (await read_head(reader)).partition(b"\r\n")[0]
        assert () == replay.unmatched


def _get(path: str, credentials: Credentials) -> bytes:
    signature = credentials.sign(ID.encode())
    return (
        f"GET {path} HTTP/1.1\r\nHost: h\r\nX-AUTH-CLIENT: {credentials.api_key}\r\n"
        f"X-HMAC-SIGNATURE: {signature}\r\n\r\n"
    ).encode()


async def test_reads_follow_the_changes_of_their_session(tape: Path) -> None:
    """Polling gets what Veriff said after the last change, and its last word again and again."""
    path = f"/v1/sessions/{ID}/decision"
    webhook = {"method": "POST", "path": "/", "headers": {}, "body": {"size": 1, "json": {"id": ID, "action": "x"}}}
    data = HEAD + b"".join(
        [
            line("GET", path, {"code": 1}, number=1),
            line("GET", path, {"code": 2}, number=2),
            line("POST", "/", {}, number=3, kind="webhook", request=webhook),
            line("GET", path, {"code": 3}, number=4),
        ]
    )
    await anyio.Path(tape).write_bytes(data)

    async def poll(times: int, **options: Any) -> list[int]:  # noqa: ANN401  options
        found: list[int] = []
        async with receive_webhooks() as (url, _), Sandbox.replay(tape, **options) as replay:
            if not options:
                replay.webhook_url = url
            headers = {"X-AUTH-CLIENT": replay.credentials.api_key}
            headers["X-HMAC-SIGNATURE"] = replay.credentials.sign(ID.encode())
            async with aiohttp.ClientSession() as http:
                for _ in range(times):
                    async with http.get(replay.base_url + path, headers=headers) as response:
                        found.append((await response.json())["code"])
                    await replay.wait_idle()
        return found

    assert await poll(4) in ([1, 3, 3, 3], [3, 3, 3, 3])
    assert await poll(5, timing=0.0, webhook_url="http://127.0.0.1:9/") in ([1, 3, 3, 3, 3], [3] * 5)


async def test_original_timing_takes_the_recorded_times(tape: Path) -> None:
    """Responses and webhooks wait for their times; a factor changes them, and a stop does not wait."""
    await anyio.Path(tape).write_bytes(HEAD + line("GET", f"/v1/sessions/{ID}/person", {"code": 1}, seconds=50))
    for timing in ("none", 0.0001, 0):
        async with Sandbox.replay(tape, timing=timing) as replay, raw_client(replay.base_url) as (reader, writer):
            writer.write(_get(f"/v1/sessions/{ID}/person", replay.credentials))
            assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
    async with time_limit(SECONDS), Sandbox.replay(tape, timing="original") as replay:
        async with raw_client(replay.base_url) as (reader, writer):
            writer.write(_get(f"/v1/sessions/{ID}/person", replay.credentials))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await read_head(reader)
        stopped = replay
    assert "not running" in repr(stopped)


async def test_strict_replays_end_with_an_error(tape: Path) -> None:
    """With `strict`, a program that does less than recorded fails; an error of its own is more important."""
    await anyio.Path(tape).write_bytes(HEAD + line("PATCH", f"/v1/sessions/{ID}", {}))
    with pytest.raises(ConfigurationError, match="line 2: PATCH /v1/sessions/\\.\\.\\."):
        async with Sandbox.replay(tape, strict=True):
            pass
    with pytest.raises(LookupError):
        async with Sandbox.replay(tape, strict=True):
            raise LookupError
    async with Sandbox.replay(tape):
        pass


async def test_an_incomplete_last_line_is_left_out_with_a_warning(tape: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A recorder that was killed leaves a cassette that can be replayed."""
    whole = line("GET", f"/v1/sessions/{ID}/person", {})
    await anyio.Path(tape).write_bytes(HEAD + whole + whole[:50])
    async with Sandbox.replay(tape) as replay:
        assert len(replay.unused) == 1
    assert "incomplete" in caplog.text
    await anyio.Path(tape).write_bytes(HEAD + whole[:50] + b"\n" + whole)
    with pytest.raises(ConfigurationError, match="Line 2 of the cassette"):
        await Sandbox.replay(tape).__aenter__()


async def test_wrong_options_are_refused(tape: Path) -> None:
    """Each error names the option."""
    with pytest.raises(ConfigurationError, match="timing is 'fast'"):
        Sandbox.replay(tape, timing="fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="timing"):
        Sandbox.replay(tape, timing=-1)
    with pytest.raises(InvalidArgumentError, match="webhook_url"):
        Sandbox.replay(tape, webhook_url="x")
    with pytest.raises(TypeError, match="did you mean 'timing'"):
        Sandbox.replay(tape, timings=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await Sandbox.replay(tape).__aenter__()
    replay = Sandbox.replay(tape)
    with pytest.raises(ConfigurationError, match="not running"):
        _ = replay.base_url


async def test_two_sessions_keep_their_own_values(tape: Path) -> None:
    """Sessions that run side by side get their own names back, in any order."""

    async def run(environ: Mapping[str, str], names: list[str]) -> list[str | None]:
        async with VeriffClient.from_env(environ) as veriff:
            sessions = [await veriff.create_session(vendor_data=name) for name in names]
            for session in sessions:
                await session.submit()
            return [(await session.wait_for_decision(timeout=SECONDS)).vendor_data for session in sessions]

    async with Sandbox(decide_after=0) as sandbox, Recorder(sandbox.base_url, tape) as recorder:
        assert await run({**sandbox.environ, **recorder.environ}, ["a", "b", "b"]) == ["a", "b", "b"]
    async with Sandbox.replay(tape, strict=True) as replay:
        assert await run(replay.environ, ["x", "y", "z"]) == ["x", "y", "z"]


async def test_a_client_that_leaves_does_not_disturb_others(tape: Path) -> None:
    """A cancelled upload is not replayed, and the same request can be sent again."""
    await anyio.Path(tape).write_bytes(HEAD + line("GET", f"/v1/sessions/{ID}/person", {"code": 1}))
    async with Sandbox.replay(tape) as replay:
        async with raw_client(replay.base_url) as (_, writer):
            writer.write(b"POST /v1/sessions HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n{")
            await writer.drain()
        async with raw_client(replay.base_url) as (reader, writer):
            writer.write(_get(f"/v1/sessions/{ID}/person", replay.credentials))
            assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
        async with raw_client(replay.base_url) as (reader, writer):
            writer.write(b"POST /v1/sessions HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"{}")
            assert (await read_head(reader)).startswith(b"HTTP/1.1 401")


async def test_functions_of_the_caller_see_each_request(tape: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`on_request` gets method, path and status; its errors are logged."""
    await anyio.Path(tape).write_bytes(HEAD + line("GET", f"/v1/sessions/{ID}/person", {}, response=None))
    seen: list[tuple[str, int | None]] = []

    def on_request(request: ReceivedRequest) -> None:
        seen.append((request.path, request.status))
        raise RuntimeError

    async with Sandbox.replay(tape, on_request=on_request) as replay, raw_client(replay.base_url) as (reader, writer):
        writer.write(_get(f"/v1/sessions/{ID}/person", replay.credentials))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await read_head(reader)
    assert seen == [(f"/v1/sessions/{ID}/person", None)]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
