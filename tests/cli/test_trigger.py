"""`veriff-async trigger`: signed samples of every kind, sent as Veriff would."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, get_args
from uuid import UUID

import pytest
import trustme
from click.testing import CliRunner

from veriff_async import Credentials, DecisionEvent, SessionEvent, WebhookEvent, parse_webhook
from veriff_async._protocol.json.decode import dump
from veriff_async.cli._commands import cli
from veriff_async.cli._http import HttpProbe
from veriff_async.cli.trigger import send_samples
from veriff_async.cli.trigger_samples import STATUSES, SUBJECTS, samples
from veriff_async.sandbox import WebhookKind

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.cli.conftest import Receiver

    Run = Callable[..., subprocess.CompletedProcess[str]]

KEY: Final = "6f1b1b52-8d2c-4e0e-9b6f-0a5a3f0e8a11"
SECRET: Final = "0f0e0d0c-0b0a-4908-8706-050403020100"
CREDENTIALS: Final = Credentials(KEY, SECRET)
VARIABLES: Final = {"VERIFF_API_KEY": KEY, "VERIFF_SHARED_SECRET": SECRET}
SESSION: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"


def read(headers: dict[str, str], body: bytes) -> WebhookEvent:
    """Verify and read what was posted."""
    return parse_webhook(headers, body, CREDENTIALS)


def test_all_kinds_are_sent_in_a_terminal(run_in_terminal: Callable[..., tuple[int, str]], receiver: Receiver) -> None:
    """Each of the nine kinds is posted, signed with the credentials of the environment, and has a line of its own."""
    code, shown = run_in_terminal("trigger", "all", "--to", receiver.url, "--session", SESSION, **VARIABLES)

    events = [read(*posted) for posted in receiver.posted]
    assert code == 0
    assert {event.kind for event in events} == {kind.kind for kind in get_args(WebhookEvent)} - {"unknown"}
    assert {event.session_id for event in events} == {SESSION}
    assert SESSION in shown
    assert "decision approved" in shown
    assert shown.count(" ms ") == len(events) == 10
    assert SECRET not in shown


def test_what_is_refused_is_told_to_programs(run: Run, receiver: Receiver) -> None:
    """Only 200 counts: a redirect and a refusal are named with their status, are not followed, and give exit code 1."""
    statuses = iter((200, 302))
    receiver.answer = lambda _headers, _body: next(statuses)

    done = run("trigger", "event", "--to", receiver.url, "--json", **VARIABLES)

    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(each["status"], each["accepted"], each["http_status"]) for each in found["sent"]] == [
        ("started", True, 200),
        ("submitted", False, 302),
    ]
    assert str(UUID(found["session_id"])) == found["session_id"]
    assert done.stderr == ""


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Give a way to run the command without a process of its own, for what it does before it sends anything."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return CliRunner()


@pytest.mark.parametrize("kind", SUBJECTS)
def test_every_status_is_written_by_the_sandbox(kind: WebhookKind) -> None:
    """Each kind is read as such with each status that it can have, and tells of the session that was asked for."""
    for status in (None, *STATUSES.get(kind, ())):
        found = samples(kind, session_id=SESSION, status=status, now=datetime.now(UTC))
        for sample in found:
            body = dump(sample.body)
            event = read({"x-auth-client": KEY, "x-hmac-signature": CREDENTIALS.sign(body)}, body)
            assert (event.kind, event.session_id) == (kind, SESSION)
            if isinstance(event, DecisionEvent):
                assert event.decision.status == sample.status == (status or "approved")
        assert len(found) == (2 if kind == WebhookKind.EVENT and status is None else 1)


def test_all_kinds_tell_of_one_attempt() -> None:
    """Whoever joins webhooks by attempt can do so with samples, and a second run tells the same."""
    now = datetime.now(UTC)
    kinds = (WebhookKind.EVENT, WebhookKind.DECISION, WebhookKind.FULL_AUTO)
    bodies = [each.body for kind in kinds for each in samples(kind, session_id=SESSION, status=None, now=now)]

    assert len({str(body.get("attemptId") or body["verification"]["attemptId"]) for body in bodies}) == 1  # type: ignore[index]
    assert bodies[0] == samples(WebhookKind.EVENT, session_id=SESSION, status="started", now=now)[0].body


@pytest.mark.anyio
async def test_who_is_not_there_is_named() -> None:
    """A port that nobody listens on is a problem in words, and the other samples are tried all the same."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    kinds = (WebhookKind.EVENT, WebhookKind.ADDRESS)

    sent = await send_samples(
        kinds, f"http://127.0.0.1:{port}/", credentials=CREDENTIALS, session_id=SESSION, status="submitted"
    )

    assert [(each.sample.kind, each.sample.status) for each in sent] == [("event", "submitted"), ("address", None)]
    assert {each.result.describe() for each in sent} == {"no connection (Connection refused)"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "the connection closed before a response arrived"),
        (b"SSH-2.0-nobody\r\n", "the response is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(200_000), "HTTP 200"),
        (None, "no response within 5 seconds"),
    ],
)
async def test_what_is_no_answer_has_words(
    said: bytes | None, words: str, advance_time: Callable[[float], None]
) -> None:
    """A connection that is cut, another protocol and silence are told apart; of a long answer the beginning is read."""
    asked = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        asked.set()
        if said is None:
            await reader.read()
        else:
            writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, HttpProbe(5) as probe:
        port = server.sockets[0].getsockname()[1]
        post = asyncio.create_task(probe.post(f"http://127.0.0.1:{port}/", {}, b"{}"))
        await asked.wait()
        if said is None:
            advance_time(6)
        answered = await post

    assert words in answered.describe()
    assert len(answered.body) <= 65_536


@pytest.fixture
def foreign() -> ssl.SSLContext:
    """Give a certificate of an authority that nobody trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.anyio
@pytest.mark.parametrize(("has_tls", "words"), [(False, "the TLS handshake failed"), (True, "does not trust")])
async def test_what_is_wrong_with_tls_has_words(
    receiver: Receiver, foreign: ssl.SSLContext, words: str, *, has_tls: bool
) -> None:
    """Plain http behind https and a certificate that nobody trusts are told apart."""
    if has_tls:
        receiver.socket = foreign.wrap_socket(receiver.socket, server_side=True)

    async with HttpProbe(5) as probe:
        answered = await probe.post(receiver.url.replace("http:", "https:"), {}, b"{}")
        nobody = await probe.post("http://nobody.invalid/", {}, b"{}")

    assert words in answered.describe()
    assert nobody.describe() == "the host name is not known"
    assert receiver.posted == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trigger"], "--list"),
        (["trigger", "decision"], "--to"),
        (["trigger", "nothing", "--to", "http://127.0.0.1:9"], "nothing"),
        (["trigger", "decision", "--to", "ftp://127.0.0.1"], "not a URL"),
        (["trigger", "decision", "--to", "http://[::1"], "not a URL"),
        (["trigger", "decision", "--to", "http://ada:lovelace@127.0.0.1:9"], "leave it out"),
        (["trigger", "ine", "--to", "http://127.0.0.1:9", "--status", "approved"], "leave it out"),
        (["trigger", "event", "--to", "http://127.0.0.1:9", "--status", "approved"], "started, submitted"),
    ],
)
def test_wrong_use_is_named_and_sends_nothing(in_process: CliRunner, arguments: list[str], words: str) -> None:
    """What cannot be sent is exit code 2, with what to give instead."""
    done = in_process.invoke(cli, arguments)

    assert done.exit_code == 2
    assert words in done.output
    assert "lovelace" not in done.output


def test_an_id_that_cannot_be_is_refused(in_process: CliRunner) -> None:
    """A session id that Veriff would never write is one sentence and exit code 1."""
    done = in_process.invoke(cli, ["trigger", "event", "--to", "http://127.0.0.1:9", "--session", "no id!"])

    assert done.exit_code == 1
    assert "--session" in done.output


def test_kinds_are_listed(in_process: CliRunner) -> None:
    """--list names every kind and its statuses, and needs no credentials."""
    shown = in_process.invoke(cli, ["trigger", "--list"]).output
    rows = json.loads(in_process.invoke(cli, ["trigger", "--list", "--json"]).output)["kinds"]

    assert [row["kind"] for row in rows] == list(SUBJECTS)
    assert all(row["kind"] in shown and row["description"] in shown for row in rows)
    assert "possible_match" in shown


def test_an_attempt_is_started_before_it_is_submitted(receiver: Receiver, in_process: CliRunner) -> None:
    """Both events are told in their order, and people read how many were not taken."""
    receiver.answer = lambda _headers, _body: 500

    done = in_process.invoke(cli, ["trigger", "event", "--to", receiver.url])

    events = [read(*posted) for posted in receiver.posted]
    assert [event.action for event in events if isinstance(event, SessionEvent)] == ["started", "submitted"]
    assert "2 of 2 webhooks not accepted" in done.output
    assert done.exit_code == 1
