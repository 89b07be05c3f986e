"""`veriff-async listen`: a webhook receiver for development, as a separate process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from datetime import UTC, datetime
from http.client import HTTPConnection
from threading import Event
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint
from click.testing import CliRunner

from tests.conditions import needs_posix
from veriff_async import Credentials, PollPolicy, UnknownEvent, VeriffClient, parse_webhook
from veriff_async._protocol.json.decode import dump
from veriff_async.cli._commands import cli
from veriff_async.cli._http import ProbeResult
from veriff_async.cli.listen import display
from veriff_async.cli.listen.forward import Forwarder, ForwardResult
from veriff_async.cli.listen.server import serve
from veriff_async.inbox import IgnoredReason, RecordResult, SqliteInbox
from veriff_async.sandbox import Sandbox, WebhookKind
from veriff_async.sandbox._samples import samples

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.cli.conftest import Receiver
    from veriff_async.webhooks import WebhookResponse

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]
    StartInTerminal = Callable[..., tuple[subprocess.Popen[bytes], int]]

KEY: Final = "6f1b1b52-8d2c-4e0e-9b6f-0a5a3f0e8a11"
SECRET: Final = "0f0e0d0c-0b0a-4908-8706-050403020100"
OLDER: Final = "11111111-2222-4333-8444-555555555555"
VARIABLES: Final = {"VERIFF_API_KEY": KEY, "VERIFF_SHARED_SECRET": f"{SECRET},{OLDER}"}
CREDENTIALS: Final = Credentials(KEY, SECRET)
BODY: Final = (
    b'{"status":"success","verification":{"id":"8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7","code":9001,"status":"approved",'
    b'"person":{"firstName":"Ada","lastName":"Specimen","gender":null},"document":{"number":"AA0000000"}},'
    b'"technicalData":{"ip":null}}'
)
SECONDS: Final = 60.0


def post(
    url: str,
    body: bytes = BODY,
    *,
    method: str = "POST",
    signature: str | None = None,
    headers: dict[str, str] | None = None,
) -> int:
    """Post a body, with a valid signature by default, and return the status of the response."""
    signature = CREDENTIALS.sign(body) if signature is None else signature
    sent = {"content-type": "application/json", "x-auth-client": KEY, "x-hmac-signature": signature, **(headers or {})}
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        connection.request(method, parts.path, body, {name: value for name, value in sent.items() if value})
        return connection.getresponse().status
    finally:
        connection.close()


def read_until(terminal: int, words: str, shown: str = "", *, times: int = 1) -> str:
    """Read from a terminal until the words have appeared `times` times."""
    while shown.count(words) < times:
        shown += os.read(terminal, 65536).decode()
    return shown


async def run_session(sandbox: Sandbox, url: str, file: Path) -> str:
    """Run a session whose decision is posted twice, while another process waits for it."""
    sandbox.webhook_urls = dict.fromkeys(WebhookKind, url)
    poll = PollPolicy(interval=600, max_interval=600)
    async with SqliteInbox(file) as inbox, VeriffClient.from_env(sandbox.environ, inbox=inbox, poll=poll) as veriff:
        session = await veriff.create_session()
        sandbox.start_attempt(session.id)
        sandbox.submit_attempt(session.id)
        await sandbox.wait_idle()
        sandbox.decide(session.id, "declined", person={"firstName": "Ada"})
        assert (await session.wait_for_decision(timeout=SECONDS)).status == "declined"
        await sandbox.wait_idle()
        sandbox.resend(session.id)
        await sandbox.wait_idle()
    return session.id


@needs_posix
def test_each_webhook_of_a_session_is_shown_recorded_and_forwarded(
    start_in_terminal: StartInTerminal, receiver: Receiver, tmp_path: Path
) -> None:
    """Each webhook has a line, wakes other processes, and is forwarded with its body and signature."""
    file = tmp_path / "inbox.db"
    with Sandbox() as sandbox:
        arguments = ("--port", "0", "--path", "/hooks", "--inbox", str(file), "--forward-to", receiver.url)
        process, terminal = start_in_terminal("listen", *arguments, **sandbox.environ)
        shown = read_until(terminal, "Ctrl-C stops it.")
        url = shown.split()[shown.split().index("at") + 1].rstrip(";")
        session_id = anyio.run(run_session, sandbox, f"{url}/", file)
        shown = read_until(terminal, "forwarded", shown, times=4)
        assert post(url, signature="", headers={"x-auth-client": ""}) == 401
        process.send_signal(signal.SIGINT)
        shown = read_until(terminal, "Stopped.", shown)
        assert process.wait(SECONDS) == 0
        events = [parse_webhook(headers, body, sandbox.credentials) for headers, body in receiver.received]
        sent = {delivery.status for delivery in sandbox.deliveries}

    assert url.endswith("/hooks")
    assert sent == {200}
    assert [event.kind for event in events] == ["event", "event", "decision", "decision"]
    assert shown.count(session_id) == 8
    assert "submitted 7002" in shown
    assert "401  refused      Look for a proxy that drops the X-AUTH-CLIENT or X-HMAC-SIGNATURE header." in shown
    assert "declined 9102  repeated" in shown
    assert sandbox.credentials.shared_secret not in shown
    assert "Ada" not in shown


@needs_posix
def test_json_has_an_object_for_each_webhook_refusal_and_forward(start: Start) -> None:
    """Each object has the status, and the cause of a refusal or of a failed forward."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        closed_url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    process = start("listen", "--port", "0", "--json", "--show-person", "--forward-to", closed_url, **VARIABLES)
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    unreadable = b'{"verification":[],"technicalData":{}}'
    statuses = [
        post(url),
        post(url, json.dumps(json.loads(BODY)).encode(), signature=CREDENTIALS.sign(BODY)),
        post(url, signature=CREDENTIALS.sign(b"something else")),
        post(url, signature="", headers={"x-auth-client": ""}),
        post(url, headers={"x-auth-client": OLDER}),
        post(url, signature=Credentials(KEY, OLDER).sign(BODY)),
        post(url, unreadable),
        post(url, method="PUT"),
        post(f"{url}/elsewhere"),
        post(url, bytes(1_048_577)),
        post(url, headers={"content-encoding": "gzip"}),
    ]
    # The last two lines report the forwarding of the two recorded webhooks.
    lines = [json.loads(process.stdout.readline()) for _ in range(len(statuses) + 2)]
    process.send_signal(signal.SIGTERM)
    written, errors = process.communicate(timeout=SECONDS)

    recorded = [line for line in lines if line["type"] == "webhook"]
    refused = [line for line in lines if line["type"] == "refused"]
    forwarded = [line for line in lines if line["type"] == "forward"]
    assert statuses == [200, 401, 401, 401, 401, 200, 400, 405, 404, 413, 415]
    assert [line["http_status"] for line in lines if line["type"] in {"webhook", "refused"}] == statuses
    assert [(line["status"], line["code"], line["repeated"], line["secret"]) for line in recorded] == [
        ("approved", 9001, False, 1),
        ("approved", 9001, True, 2),
    ]
    assert recorded[0]["person"] == {"firstName": "Ada", "lastName": "Specimen"}
    assert [line["cause"] for line in refused[:5]] == [
        "the body was parsed and serialised again",
        "none of the known mistakes",
        "the signature or the API key is missing",
        "another API key",
        "signed, but unreadable",
    ]
    assert {line["problem"] for line in forwarded} == {"no connection (Connection refused)"}
    assert json.loads(written)["type"] == "stopped"
    assert (process.returncode, errors) == (0, "")
    assert SECRET not in json.dumps(lines)


def test_port_in_use_is_one_sentence(run: Run) -> None:
    """A port in use is exit code 1 and a sentence with the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("listen", "--port", str(port), **VARIABLES)

    assert result.returncode == 1
    assert f"127.0.0.1 port {port} (Address already in use)" in result.stderr
    assert result.stderr.count("\n") == 1


def test_closed_standard_output_stops_the_receiver(start: Start) -> None:
    """When the reader of the lines exits, the receiver stops without a traceback."""
    process = start("listen", "--port", "0", "--json", **VARIABLES)
    assert process.stdout is not None
    assert process.stderr is not None
    url = json.loads(process.stdout.readline())["url"]
    process.stdout.close()

    assert post(url) == 200

    assert process.wait(SECONDS) == 0
    assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--path", "webhooks"], "slash"),
        (["--path", "/webhooks?x=1"], "slash"),
        (["--forward-to", "nowhere"], "not a URL"),
        (["--forward-to", "http://localhost:8080/webhooks/veriff/"], "this command itself"),
        (["--port", "80", "--path", "/", "--forward-to", "http://127.0.0.1"], "this command itself"),
    ],
)
def test_wrong_usage_gives_the_remedy(arguments: list[str], words: str) -> None:
    """Arguments that cannot work are exit code 2, with the remedy."""
    result = CliRunner().invoke(cli, ["listen", *arguments])

    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    ("arguments", "words"), [([], "VERIFF_API_KEY"), (["--inbox", "nowhere/at/all.db", "--port", "0"], "inbox")]
)
def test_missing_credentials_and_unusable_inbox_are_one_sentence(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either one is exit code 1."""
    for name, value in VARIABLES.items() if arguments else ():
        monkeypatch.setenv(name, value)

    result = CliRunner().invoke(cli, ["listen", *arguments])

    assert result.exit_code == 1
    assert words in result.output


@pytest.mark.anyio
async def test_slow_application_does_not_delay_webhooks(
    receiver: Receiver, advance_time: Callable[[float], None]
) -> None:
    """The queue for a slow application has a limit; each dropped webhook is reported, also at the end."""
    results: list[ForwardResult] = []
    reached, released = Event(), Event()

    def hang(_headers: dict[str, str], _body: bytes) -> int:
        reached.set()
        return 200 if released.wait(SECONDS) else 500

    receiver.answer = hang
    async with Forwarder(receiver.url, results.append) as forwarder:
        forwarder.add("event", None, {"Host": "veriff", "X-HMAC-SIGNATURE": "x"}, b"{}")
        await to_thread.run_sync(reached.wait)
        for _ in range(103):
            forwarder.add("event", str(uuid4()), {}, b"{}")
        assert len(results) == 3
        advance_time(11)
        while len(results) == 3:
            await checkpoint()
        reached.clear()
        await to_thread.run_sync(reached.wait)
        asyncio.get_running_loop().call_later(0, advance_time, 3)
    released.set()

    problems = [forward.result and forward.result.problem for forward in results]
    assert len(results) == 104
    assert problems[3] == "no response within 10 seconds"
    assert set(problems[:3] + problems[4:]) == {None}
    assert receiver.received[0][0]["x-hmac-signature"] == "x"
    assert receiver.received[0][0]["host"] != "veriff"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("event", "started 7001"),
        ("decision", "approved 9001"),
        ("fullauto", "approved"),
        ("watchlist", "no_match"),
        ("user-status", "sample"),
        ("ine", "encontrado 200"),
        ("curp", "found 200"),
        ("ine-curp", "AN"),
        ("address", "submitted 7005"),
    ],
)
def test_each_kind_has_its_own_text(kind: str, words: str) -> None:
    """The line of each kind has its main value; decisions also have the person, without null fields."""
    sample = samples(WebhookKind(kind), session_id=str(uuid4()), status=None, now=datetime.now(UTC))[0]
    body = dump(sample.body)
    event = parse_webhook({"x-auth-client": KEY, "x-hmac-signature": CREDENTIALS.sign(body)}, body, CREDENTIALS)
    late = RecordResult(event=event, ignored=IgnoredReason.STALE)

    assert display.webhook_line(late, secret_index=0).endswith(f"  {words}  late")
    assert display.webhook_document(late, secret_index=1)["late"] is True
    person = display.person_of(event)
    assert bool(person) == (kind in {"decision", "fullauto"})
    if person:
        assert person["person"] == {
            "firstName": "Ada",
            "lastName": "Specimen",
            "dateOfBirth": "1990-12-10",
            "nationality": "EE",
        }


def test_unknown_kind_has_a_line() -> None:
    """A kind that this version does not know is shown, with the result of its forwarding."""
    unknown = RecordResult(event=UnknownEvent(raw={}))
    left_out = ForwardResult(kind="unknown", session_id=None, result=None)
    failed = ForwardResult(kind="unknown", session_id=None, result=ProbeResult(status=None, problem="gone", seconds=1))

    assert display.webhook_line(unknown, secret_index=1) == "200  unknown      no session    signed with secret 2"
    assert "dropped" in display.forward_line(left_out)
    assert display.forward_document(left_out)["problem"] == "dropped"
    assert display.forward_line(failed).endswith("failed: gone")


@pytest.mark.anyio
async def test_incomplete_body_is_refused(advance_time: Callable[[float], None]) -> None:
    """Half a body is 400 when the connection ends, and 408 when the rest never comes."""
    refused: list[int] = []

    class WebhookHandler:
        async def handle(self, headers: Mapping[str, str], body: bytes) -> WebhookResponse:
            raise AssertionError

        def on_refused(self, reply: WebhookResponse) -> None:
            refused.append(reply.status)

    async with serve(WebhookHandler(), host="localhost", port=0, path="/") as url:
        for ends in (True, False):
            reader, writer = await asyncio.open_connection("localhost", urlsplit(url).port)
            writer.write(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{")
            await writer.drain()
            if ends:
                writer.write_eof()
            while not refused if ends else len(refused) < 2:
                advance_time(0 if ends else 1)
                await checkpoint()
            writer.close()
            await reader.read()

    assert refused == [400, 408]
