"""The recorder passes everything on as it is, and writes what it saw."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tracemalloc
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import anyio
import pytest
from pybase64 import b64encode
from yarl import URL

from tests.conditions import SECONDS, needs_posix, time_limit, until
from tests.loops import every_loop
from tests.sandbox.recording.conftest import raw_client, raw_server, read, read_head, read_lines, until_closed
from veriff_async import ConfigurationError, Media, NotFoundError, Person, VeriffClient
from veriff_async.sandbox import Fault, Recorder, Sandbox
from veriff_async.sandbox._recording.cassette import read_cassette
from veriff_async.sandbox._specimens import specimen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
TRICKS: Final = (
    "/v1/../_sandbox/",
    "/v1/%2e%2e/_sandbox/",
    "/v1/a/..%2f../_sandbox/",
    "/sync/v1/../../_sandbox/",
    "/v1x/",
)
PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(40)


def environ_of(sandbox: Sandbox, recorder: Recorder) -> dict[str, str]:
    """Return the variables of a client that talks to a sandbox through a recorder."""
    return {**sandbox.environ, **recorder.environ}


@every_loop
async def test_a_client_completes_its_flow_through_the_recorder(tape: Path) -> None:
    """A client cannot see that the recorder is there: signatures of both directions are valid."""
    async with (
        Sandbox(decide_after=0) as sandbox,
        Recorder(sandbox.base_url, tape) as recorder,
        VeriffClient.from_env(environ_of(sandbox, recorder)) as veriff,
    ):
        session = await veriff.create_session(person=Person(first_name="Anna"), vendor_data="user-42")
        with specimen("face.webp") as face:
            await session.upload(Media(face, "face"))
        await session.submit()
        decision = await session.wait_for_decision(timeout=20)
        assert decision.status == "approved"
        media = await session.media()
        assert len(media.images) == 1
        assert await veriff.fraud_categories()
        with pytest.raises(NotFoundError):
            await veriff.session("00000000-0000-4000-8000-000000000000").decision()
    paths = [f"{entry['request']['method']} {entry['request']['path']}" for entry in await read_lines(tape)]
    assert paths[0] == "POST /v1/sessions"
    assert "GET /v1/feedback/fraud-categories" in paths
    assert {entry["ending"] for entry in await read_lines(tape)} == {"complete"}
    upload = (await read_lines(tape))[1]["request"]["body"]["json"]["image"]
    content = await anyio.Path(face).read_bytes()
    expected = {"size": len(content), "type": "image/webp", "sha256": sha256(content).hexdigest()}
    assert upload == {"context": "face", "content": {"$blob": expected}}


async def test_headers_paths_and_bodies_stay_as_they_are(tape: Path) -> None:
    """Headers keep their names, order and repetition, and neither path nor body is decoded."""
    seen: list[bytes] = []
    body = gzip.compress(b'{"status": "success"}')

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        seen.append(head + await reader.readexactly(5))
        writer.write(
            b"HTTP/1.1 299 Fine\r\nX-Hmac-Signature: AB\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: s\r\n"
            b"Content-Encoding: gzip\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )

    async with raw_server(serve) as url, Recorder(url, tape) as recorder, raw_client(recorder.base_url) as client:
        reader, writer = client
        writer.write(
            b"POST /v1/a%2Fb//?x=%41 HTTP/1.1\r\nHost: h\r\nX-AUTH-CLIENT: Key\r\nContent-Length: 5\r\n"
            b"Keep-Alive: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nhello"
        )
        head = await read_head(reader)
        assert await reader.readexactly(len(body)) == body
    start, *headers = seen[0].split(b"\r\n")
    assert start == b"POST /v1/a%2Fb//?x=%41 HTTP/1.1"
    assert sorted(headers) == sorted(
        [
            b"Host: " + url.removeprefix("http://").encode(),
            b"X-AUTH-CLIENT: Key",
            b"Content-Length: 5",
            b"",
            b"hello",
        ]
    )
    assert head.startswith(
        b"HTTP/1.1 299 Fine\r\nX-Hmac-Signature: AB\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: s\r\n"
    )
    entry = (await read_lines(tape))[0]
    assert entry["response"]["status"] == 299
    assert entry["response"]["body"] == {"size": len(body), "json": {"status": "success"}}


async def test_a_chunked_upload_stays_chunked(tape: Path) -> None:
    """A body without a length is passed on as one, and recorded."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        assert b"transfer-encoding: chunked" in head.lower()
        assert b"content-length" not in head.lower()
        text = await reader.readuntil(b"0\r\n\r\n")
        assert b'{"image":{' in text
        writer.write(OK)

    async with raw_server(serve) as url, Recorder(url, tape) as recorder, raw_client(recorder.base_url) as client:
        reader, writer = client
        writer.write(b"POST /v1/sessions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b'a\r\n{"image":{\r\n2\r\n}}\r\n0\r\n\r\n')
        assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
    assert (await read_lines(tape))[0]["request"]["body"]["json"] == {"image": {}}


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_a_client_that_expects_100_waits_for_the_server(tape: Path, *, is_allowed: bool) -> None:
    """Whether a client may send its body is the server's decision, not the recorder's."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if is_allowed:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(4) == b"body"
            writer.write(OK)
        else:
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with raw_server(serve) as url, Recorder(url, tape) as recorder, raw_client(recorder.base_url) as client:
        reader, writer = client
        writer.write(b"POST /v1/sessions HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        head = await read_head(reader)
        if is_allowed:
            assert head == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"body")
            head = await read_head(reader)
        assert head.startswith(b"HTTP/1.1 200" if is_allowed else b"HTTP/1.1 413")
    assert (await read_lines(tape))[0]["request"]["body"] == ({"size": 4} if is_allowed else None)


async def test_a_client_that_leaves_ends_the_request_at_the_server(tape: Path) -> None:
    """A cancellation or a time limit of the client reaches the server, which sees its connection close."""
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        arrived.set()
        await until_closed(reader)
        closed.set()

    arrived = asyncio.Event()
    async with time_limit(SECONDS), raw_server(serve) as url, Recorder(url, tape) as recorder:
        async with raw_client(recorder.base_url) as (_, writer):
            writer.write(b"GET /v1/sessions HTTP/1.1\r\nHost: h\r\n\r\n")
            await arrived.wait()
        await closed.wait()
    entry = (await read_lines(tape))[0]
    assert entry["ending"] == "client"
    assert entry["response"] is None


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"])
async def test_a_broken_connection_of_the_server_breaks_that_of_the_client(tape: Path, sent: bytes) -> None:
    """A client must not take half of a response for a whole one, nor a break for a response."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(sent)
        await writer.drain()

    async with raw_server(serve) as url, Recorder(url, tape) as recorder, raw_client(recorder.base_url) as client:
        reader, writer = client
        writer.write(b"GET /v1/sessions HTTP/1.0\r\nHost: h\r\n\r\n")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1000)
    entry = (await read_lines(tape))[0]
    assert entry["ending"] == "server"
    assert (entry["response"] is None) == (not sent)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_requests_are_sent_once(tape: Path, method: str) -> None:
    """A lost response stays lost: the recorder does not repeat a request, as aiohttp would."""
    async with (
        Sandbox() as sandbox,
        Recorder(sandbox.base_url, tape) as recorder,
        raw_client(recorder.base_url) as (reader, writer),
    ):
        request = f"{method} /v1/sessions/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode()
        # The second request uses a connection to the sandbox that is open already, the case that aiohttp repeats.
        writer.write(request)
        await reader.readexactly(int(re.findall(rb"Content-Length: (\d+)", await read_head(reader))[0]))
        sandbox.inject(Fault.lose_response(), times=1)
        writer.write(request)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await read_head(reader)
        assert len(sandbox.requests) == 2


async def test_an_unreachable_server_gives_a_response_that_says_so(tape: Path) -> None:
    """Without a server there is no connection to break, so the client gets 502 with one sentence."""
    async with raw_server(_hang) as url:
        pass
    async with (
        Recorder(url, tape) as recorder,
        aiohttp.ClientSession() as http,
        http.get(f"{recorder.base_url}/v1/sessions") as response,
    ):
        assert response.status == 502
        assert "cannot connect" in (await response.json())["message"]
    assert (await read_lines(tape))[0]["ending"] == "server"


async def _hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await until_closed(reader)


async def test_uploads_take_constant_memory(tape: Path) -> None:
    """An upload of 100 MiB passes through without being held, and its picture is hashed on the way."""
    block = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(1024 * 1024 - 8)).rstrip(b"=")
    block = block[: len(block) // 4 * 4]
    beginning, end = b'{"image":{"context":"face","content":"', b'"}}'
    size = len(beginning) + 75 * len(block) + len(end)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        left = size
        while left:
            left -= len(await reader.read(min(left, 65536)))
        writer.write(OK)

    async with raw_server(serve) as url, Recorder(url, tape) as recorder, raw_client(recorder.base_url) as client:
        reader, writer = client
        tracemalloc.start()
        try:
            writer.write(
                b"POST /v1/sessions/x/media HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + beginning
            )
            for _ in range(75):
                writer.write(block)
                await writer.drain()
            writer.write(end)
            await read_head(reader)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 12 * 1024 * 1024
    blob = (await read_lines(tape))[0]["request"]["body"]["json"]["image"]["content"]["$blob"]
    assert blob["size"] == 75 * len(block) // 4 * 3
    assert blob["type"] == "image/png"


async def test_responses_pass_while_they_arrive(tape: Path) -> None:
    """The client has the first bytes of a response before the server has sent the last ones."""
    may_end = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        await may_end.wait()
        writer.write(b"def")

    async with raw_server(serve) as url, Recorder(url, tape) as recorder, raw_client(recorder.base_url) as client:
        reader, writer = client
        writer.write(b"GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n")
        await read_head(reader)
        assert await reader.readexactly(3) == b"abc"
        may_end.set()
        assert await reader.readexactly(3) == b"def"


async def test_a_recorder_that_stops_writes_what_was_running(tape: Path) -> None:
    """A request that the stop of the recorder ends is in the cassette, and the server sees it end."""
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        arrived.set()
        await until_closed(reader)
        closed.set()

    async with time_limit(SECONDS), raw_server(serve) as url:
        recorder = Recorder(url, tape)
        async with recorder, raw_client(recorder.base_url) as (_, writer):
            writer.write(b"GET /v1/sessions HTTP/1.1\r\nHost: h\r\n\r\n")
            await arrived.wait()
            await recorder.__aexit__(None, None, None)
            await closed.wait()
        assert (await read_lines(tape))[0]["ending"] == "recorder"
        with pytest.raises(ConfigurationError, match="not running"):
            _ = recorder.base_url
        with pytest.raises(ConfigurationError, match="records once"):
            await recorder.__aenter__()


async def test_webhooks_are_recorded_and_passed_on(tape: Path) -> None:
    """Webhooks to the recorder reach the receiver with valid signatures, and the cassette has them."""
    received: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await read_head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(receive) as hook, Sandbox() as sandbox:
        async with Recorder(sandbox.base_url, tape, webhooks_to=f"{hook}/secret/path") as recorder:
            sandbox.webhook_url = recorder.webhook_url
            async with VeriffClient.from_env(environ_of(sandbox, recorder)) as veriff:
                session = await veriff.create_session()
                sandbox.decide(session.id, "declined", reason_code=106)
                await sandbox.wait_idle()
        assert sandbox.deliveries[0].status == 200
    assert received[0].startswith(b"POST /secret/path HTTP/1.1\r\n")
    creation, webhook = await read_lines(tape)
    assert webhook["kind"] == "webhook"
    assert webhook["request"]["path"] == "/"
    verification = webhook["request"]["body"]["json"]["verification"]
    assert verification["code"] == 9102
    assert verification["id"] == creation["response"]["body"]["json"]["verification"]["id"]


async def test_the_control_of_a_sandbox_is_out_of_reach(tape: Path) -> None:
    """The recorder replaces the Host header, so it must not open the controls of a sandbox to other sites."""
    async with Sandbox() as sandbox, Recorder(sandbox.base_url, tape) as recorder, aiohttp.ClientSession() as http:
        for path in (
            "/_sandbox/",
            "/_sandbox/api/sessions",
            "/_recorder/webhooks",
            "/%5fsandbox/",
            "//_sandbox/",
            *TRICKS,
        ):
            async with http.get(URL(recorder.base_url + path, encoded=True)) as response:
                assert response.status == 404, path


async def test_a_full_disk_ends_the_cassette_and_not_the_proxy(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests still pass; the file ends with a whole line, and the end of the block says why."""
    write = os.write
    seen = 0

    def fill(file: int, data: Any) -> int:  # noqa: ANN401  any buffer
        nonlocal seen
        if not bytes(data).startswith(b'{"kind"') and not seen:
            return write(file, data)
        seen += 1
        if seen == 1:
            return write(file, bytes(data)[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fill)
    async with Sandbox() as sandbox:
        recorder = await Recorder(sandbox.base_url, tape).__aenter__()
        async with VeriffClient.from_env(environ_of(sandbox, recorder)) as veriff:
            await veriff.create_session()
            await until(lambda: recorder.problem)
            await veriff.create_session()
        with pytest.raises(ConfigurationError, match="No space left"):
            await recorder.__aexit__(None, None, None)
    assert not await read_lines(tape)
    assert (await read(tape)).endswith(b"\n")


@needs_posix
async def test_a_killed_recorder_leaves_a_readable_cassette(tape: Path) -> None:
    """Everything that was written before a kill is whole, and readable only by its owner."""
    program = (
        "import asyncio, sys\n"
        "from veriff_async.sandbox import Recorder\n"
        "async def main():\n"
        "    async with Recorder(sys.argv[1], sys.argv[2]) as recorder:\n"
        "        print(recorder.base_url, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    async with Sandbox() as sandbox:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, sandbox.base_url, str(tape), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with VeriffClient(sandbox.credentials, base_url=url) as veriff:
            for _ in range(3):
                await veriff.create_session()
        while len((await read(tape)).splitlines()) < 4:  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert len(read_cassette(await read(tape)).entries) == 3
    assert stat.S_IMODE((await anyio.Path(tape).stat()).st_mode) == 0o600


async def test_wrong_options_are_refused_before_anything_is_sent(tape: Path) -> None:
    """Each error names the option."""
    with pytest.raises(ConfigurationError, match="https"):
        Recorder("http://example.com", tape)
    with pytest.raises(ConfigurationError, match="port"):
        Recorder("https://example.com", tape, port=-1)
    with pytest.raises(TypeError, match="webhooks_to"):
        Recorder("https://example.com", tape, webhook_to="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await anyio.Path(tape).write_bytes(b"kept")
    with pytest.raises(ConfigurationError, match="exists already"):
        async with Recorder("https://example.com", tape):
            pass
    assert await read(tape) == b"kept"
    with pytest.raises(ConfigurationError, match="cannot be created"):
        async with Recorder("https://example.com", tape / "below"):
            pass


async def test_a_recorder_does_not_pass_requests_on_to_itself(tape: Path, unused_tcp_port: int) -> None:
    """A loop would end only when all connections are used up."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(ConfigurationError, match="upstream is the address of the recorder itself"):
        await Recorder(url, tape, port=unused_tcp_port).__aenter__()
    other = f"http://localhost:{unused_tcp_port}/hook"
    with pytest.raises(ConfigurationError, match="webhooks_to is the address"):
        await Recorder("https://example.com", tape, port=unused_tcp_port, webhooks_to=other).__aenter__()


@pytest.fixture
def tls_sandbox() -> Iterator[Sandbox]:
    """Run a sandbox in an event loop of its own: in debug mode, asyncio reports a refused handshake to the loop."""
    with Sandbox(tls=True) as sandbox:
        yield sandbox


async def test_the_server_may_use_tls(tls_sandbox: Sandbox, tape: Path) -> None:
    """The certificate is checked; `ca_bundle` names an authority that is trusted in addition."""
    assert tls_sandbox.ca_file is not None
    async with (
        Recorder(tls_sandbox.base_url, tape, ca_bundle=tls_sandbox.ca_file) as recorder,
        VeriffClient(tls_sandbox.credentials, base_url=recorder.base_url) as veriff,
    ):
        assert (await veriff.create_session()).id
    await anyio.Path(tape).unlink()
    async with (
        Recorder(tls_sandbox.base_url, tape) as recorder,
        aiohttp.ClientSession() as http,
        http.post(f"{recorder.base_url}/v1/sessions", data=b"{}") as response,
    ):
        assert response.status == 502


async def test_a_port_that_is_in_use_is_named(tape: Path) -> None:
    """Recorder and replay say which address they cannot use, and leave nothing open."""
    async with raw_server(_hang) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ConfigurationError, match=f"The recorder cannot listen on 127.0.0.1 port {port}"):
            await Recorder("https://example.com", tape, port=port).__aenter__()
        # A file that was left would be in the way of the next start.
        async with Recorder("https://example.com", tape):
            pass
        with pytest.raises(ConfigurationError, match=f"The replay cannot listen on 127.0.0.1 port {port}"):
            await Sandbox.replay(tape, port=port).__aenter__()


async def test_functions_of_the_caller_see_each_request_and_cannot_break_it(
    tape: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_request` gets the request after its end; its errors are logged."""
    seen: list[str] = []

    def on_request(request: object) -> None:
        seen.append(str(getattr(request, "path", "")))
        raise RuntimeError

    async with (
        Sandbox() as sandbox,
        Recorder(sandbox.base_url, tape, on_request=on_request) as recorder,
        VeriffClient.from_env(environ_of(sandbox, recorder)) as veriff,
    ):
        await veriff.create_session()
    assert seen == ["/v1/sessions"]
    assert "on_request" in caplog.text


async def test_without_redaction_values_stay_and_keys_do_not(tape: Path) -> None:
    """`redact=False` keeps personal data, but never API keys, signatures and pictures."""
    async with (
        Sandbox() as sandbox,
        Recorder(sandbox.base_url, tape, redact=False) as recorder,
        VeriffClient.from_env(environ_of(sandbox, recorder)) as veriff,
    ):
        session = await veriff.create_session(vendor_data="user-42")
        await session.upload(Media(PNG, "face"))
    text = (await read(tape)).decode()
    assert "user-42" in text
    assert session.id in text
    assert sandbox.credentials.api_key not in text
    assert b64encode(PNG).decode() not in text
    assert json.loads(text.splitlines()[0])["cassette"]["redacted"] is False
