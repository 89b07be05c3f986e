"""`veriff-async trigger`: signed samples of every kind, sent as Veriff sends them."""

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
from hypothesis import given, strategies as st

from veriff_async import Credentials, DecisionEvent, InvalidArgumentError, SessionEvent, WebhookEvent, parse_webhook
from veriff_async._protocol.json.decode import dump
from veriff_async.cli._commands import cli
from veriff_async.cli._http import HttpProbe
from veriff_async.cli.trigger import choose_samples, send_samples
from veriff_async.cli.trigger_overrides import Override, override
from veriff_async.sandbox import WebhookKind
from veriff_async.sandbox._samples import STATUSES, SUBJECTS, samples

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from tests.cli.conftest import Receiver

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Invoke = Callable[..., Result]

KEY: Final = "6f1b1b52-8d2c-4e0e-9b6f-0a5a3f0e8a11"
SECRET: Final = "0f0e0d0c-0b0a-4908-8706-050403020100"
CREDENTIALS: Final = Credentials(KEY, SECRET)
VARIABLES: Final = {"VERIFF_API_KEY": KEY, "VERIFF_SHARED_SECRET": SECRET}
SESSION: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"


def read_event(headers: dict[str, str], body: bytes) -> WebhookEvent:
    """Verify and parse a received webhook."""
    return parse_webhook(headers, body, CREDENTIALS)


def test_trigger_all_posts_each_kind(run_in_terminal: Callable[..., tuple[int, str]], receiver: Receiver) -> None:
    """Each of the nine kinds is signed with the credentials of the environment and has its own line."""
    code, shown = run_in_terminal("trigger", "all", "--to", receiver.url, "--session", SESSION, **VARIABLES)

    events = [read_event(*request) for request in receiver.received]
    assert code == 0
    assert {event.kind for event in events} == {kind.kind for kind in get_args(WebhookEvent)} - {"unknown"}
    assert {event.session_id for event in events} == {SESSION}
    assert SESSION in shown
    assert "decision approved" in shown
    assert shown.count(" ms ") == len(events) == 10
    assert SECRET not in shown


def test_json_reports_each_sample_that_is_not_accepted(run: Run, receiver: Receiver) -> None:
    """Only 200 is accepted: a redirect is not followed, is reported with its status and gives exit code 1."""
    statuses = iter((200, 302))
    receiver.answer = lambda _headers, _body: next(statuses)

    result = run("trigger", "event", "--to", receiver.url, "--json", **VARIABLES)

    document = json.loads(result.stdout)
    assert result.returncode == 1
    assert [(row["status"], row["accepted"], row["http_status"]) for row in document["sent"]] == [
        ("started", True, 200),
        ("submitted", False, 302),
    ]
    assert str(UUID(document["session_id"])) == document["session_id"]
    assert result.stderr == ""


@pytest.fixture
def cli_runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Return a runner of the command within this process, with credentials in the environment."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return CliRunner()


@pytest.mark.parametrize("kind", SUBJECTS)
def test_each_status_of_each_kind_parses_as_that_kind(kind: WebhookKind) -> None:
    """Each sample parses as its kind, for the session and the status that were requested."""
    for status in (None, *STATUSES.get(kind, ())):
        matching = samples(kind, session_id=SESSION, status=status, now=datetime.now(UTC))
        for sample in matching:
            body = dump(sample.body)
            event = read_event({"x-auth-client": KEY, "x-hmac-signature": CREDENTIALS.sign(body)}, body)
            assert (event.kind, event.session_id) == (kind, SESSION)
            if isinstance(event, DecisionEvent):
                assert event.decision.status == sample.status == (status or "approved")
        assert len(matching) == (2 if kind == WebhookKind.EVENT and status is None else 1)


def test_samples_of_a_session_share_one_attempt() -> None:
    """Programs can join samples by attempt, and a second run gives the same attempt."""
    now = datetime.now(UTC)
    kinds = (WebhookKind.EVENT, WebhookKind.DECISION, WebhookKind.FULL_AUTO)
    bodies = [sample.body for kind in kinds for sample in samples(kind, session_id=SESSION, status=None, now=now)]

    assert len({str(body.get("attemptId") or body["verification"]["attemptId"]) for body in bodies}) == 1  # type: ignore[index]
    assert bodies[0] == samples(WebhookKind.EVENT, session_id=SESSION, status="started", now=now)[0].body


@pytest.mark.anyio
async def test_closed_port_is_reported_for_each_sample() -> None:
    """A refused connection does not stop the other samples."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    kinds = (WebhookKind.EVENT, WebhookKind.ADDRESS)

    chosen = choose_samples(kinds, session_id=SESSION, status="submitted")
    sent = await send_samples(chosen, f"http://127.0.0.1:{port}/", credentials=CREDENTIALS)

    assert [(attempt.sample.kind, attempt.sample.status) for attempt in sent] == [
        ("event", "submitted"),
        ("address", None),
    ]
    assert {attempt.result.describe() for attempt in sent} == {"no connection (Connection refused)"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "the connection closed before a response arrived"),
        (b"SSH-2.0-nobody\r\n", "the response is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(200_000), "HTTP 200"),
        (None, "no response within 5 seconds"),
    ],
)
async def test_each_kind_of_failed_response_has_its_message(
    reply: bytes | None, words: str, advance_time: Callable[[float], None]
) -> None:
    """A closed connection, another protocol and silence have different messages; a long response is read in part."""
    has_arrived = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        has_arrived.set()
        if reply is None:
            await reader.read()
        else:
            writer.write(reply)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, HttpProbe(5) as probe:
        port = server.sockets[0].getsockname()[1]
        post = asyncio.create_task(probe.post(f"http://127.0.0.1:{port}/", {}, b"{}"))
        await has_arrived.wait()
        if reply is None:
            advance_time(6)
        result = await post

    assert words in result.describe()
    assert len(result.body) <= 65_536


@pytest.fixture
def untrusted_context() -> ssl.SSLContext:
    """Return the TLS context of a server whose certificate authority is not trusted."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.anyio
@pytest.mark.parametrize(("has_tls", "words"), [(False, "the TLS handshake failed"), (True, "does not trust")])
async def test_each_tls_failure_has_its_message(
    receiver: Receiver, untrusted_context: ssl.SSLContext, words: str, *, has_tls: bool
) -> None:
    """A server without TLS and an untrusted certificate have different messages."""
    if has_tls:
        receiver.socket = untrusted_context.wrap_socket(receiver.socket, server_side=True)

    async with HttpProbe(5) as probe:
        result = await probe.post(receiver.url.replace("http:", "https:"), {}, b"{}")
        unknown_host = await probe.post("http://unknown.invalid/", {}, b"{}")

    assert words in result.describe()
    assert unknown_host.describe() == "the host name is not known"
    assert receiver.received == []


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
def test_wrong_usage_gives_the_remedy_and_sends_nothing(
    cli_runner: CliRunner, arguments: list[str], words: str
) -> None:
    """Arguments that cannot be sent are exit code 2, with the remedy."""
    result = cli_runner.invoke(cli, arguments)

    assert result.exit_code == 2
    assert words in result.output
    assert "lovelace" not in result.output


def test_invalid_session_id_is_refused(cli_runner: CliRunner) -> None:
    """An id that Veriff would never use is one sentence and exit code 1."""
    result = cli_runner.invoke(cli, ["trigger", "event", "--to", "http://127.0.0.1:9", "--session", "no id!"])

    assert result.exit_code == 1
    assert "--session" in result.output


def test_list_option_lists_kinds_and_statuses(cli_runner: CliRunner) -> None:
    """--list needs no credentials."""
    shown = cli_runner.invoke(cli, ["trigger", "--list"]).output
    rows = json.loads(cli_runner.invoke(cli, ["trigger", "--list", "--json"]).output)["kinds"]

    assert [row["kind"] for row in rows] == list(SUBJECTS)
    assert all(row["kind"] in shown and row["description"] in shown for row in rows)
    assert "possible_match" in shown


def test_started_is_sent_before_submitted(receiver: Receiver, cli_runner: CliRunner) -> None:
    """Both events are sent in order, and the output counts those that were not accepted."""
    receiver.answer = lambda _headers, _body: 500

    result = cli_runner.invoke(cli, ["trigger", "event", "--to", receiver.url])

    events = [read_event(*request) for request in receiver.received]
    assert [event.action for event in events if isinstance(event, SessionEvent)] == ["started", "submitted"]
    assert "2 of 2 webhooks not accepted" in result.output
    assert result.exit_code == 1


def test_missing_response_and_redirect_have_their_remark(invoke: Invoke, receiver: Receiver) -> None:
    """A line without a response shows dashes and the problem; a redirect is not followed, and that is said."""
    receiver.answer = lambda _headers, _body: 302

    closed = invoke("trigger", "decision", "--to", "http://127.0.0.1:9/", **VARIABLES)
    moved = invoke("trigger", "decision", "--to", receiver.url, **VARIABLES)

    assert (1, True) == (closed.exit_code, "---  " in closed.stdout)
    assert (1, 1) == (moved.exit_code, len(receiver.received))
    assert "decision approved: redirects are not followed" in moved.stdout


def test_set_changes_members_with_their_types(invoke: Invoke, receiver: Receiver) -> None:
    """A number is a number, but stays a text where the sample has one; null, lists and new members are possible."""
    result = invoke(
        *("trigger", "decision", "--status", "declined", "--to", receiver.url, "--json"),
        *("--set", "verification.reasonCode=102", "--set", "verification.vendorData=42"),
        *("--set", "verification.person.lastName=null", "--set", 'verification.comments=["a"]'),
        *("--set", "verification.comments.1=b", "--set", "verification.document.remarks=x=y"),
        *("--set", "verification.code=1e999", "--set", "technicalData.ip=NaN"),
        **VARIABLES,
    )

    ((headers, body),) = receiver.received
    verification = json.loads(body)["verification"]
    assert (result.exit_code, result.stderr) == (0, "")
    assert (verification["reasonCode"], verification["vendorData"]) == (102, "42")
    assert verification["person"] | {"lastName": None} == verification["person"]
    assert (verification["code"], json.loads(body)["technicalData"]["ip"]) == ("1e999", "NaN"), "they are not JSON"
    assert (verification["comments"], verification["document"]["remarks"]) == (["a", "b"], "x=y")
    event = read_event(headers, body)
    assert isinstance(event, DecisionEvent)
    assert event.decision.reason_code == 102


def test_body_is_sent_as_it_is_given(invoke: Invoke, receiver: Receiver, tmp_path: Path) -> None:
    """A whole webhook comes from a file or standard input, may be changed, and is named by its kind."""
    whole = {"id": SESSION, "attemptId": "a", "feature": "selfid", "code": 7001, "action": "started", "é": [1.5, None]}
    (tmp_path / "body.json").write_text(json.dumps(whole), encoding="utf-8")

    words = ("trigger", "--to", receiver.url, "--body")
    from_file = invoke(*words, str(tmp_path / "body.json"), "--set", "code=7002", **VARIABLES)
    from_stdin = invoke(*words, "-", "--json", stdin='{"anything": 1}', **VARIABLES)

    bodies = [json.loads(body) for _, body in receiver.received]
    assert (from_file.exit_code, from_stdin.exit_code) == (0, 0)
    assert bodies == [{**whole, "code": 7002}, {"anything": 1}]
    assert isinstance(read_event(*receiver.received[0]), SessionEvent)
    assert "ms  event" in from_file.stdout
    assert (json.loads(from_stdin.stdout)["sent"][0]["kind"], json.loads(from_stdin.stdout)["session_id"]) == (
        "unknown",
        None,
    )


def test_body_that_is_too_large_is_refused(invoke: Invoke, receiver: Receiver, tmp_path: Path) -> None:
    """No webhook has more than a megabyte: the file is refused before anything is sent."""
    (tmp_path / "body.json").write_text(json.dumps({"a": "x" * 1024 * 1024}))

    result = invoke("trigger", "--to", receiver.url, "--body", str(tmp_path / "body.json"), **VARIABLES)

    assert (1, []) == (result.exit_code, receiver.received)
    assert "The file of --body is not a JSON object" in result.stderr


def test_set_replaces_an_item_of_a_list() -> None:
    """An index that exists replaces its item, the next one appends, and the given body stays as it is."""
    body: dict[str, object] = {"a": [1, 2]}

    changed, warnings = override(body, [Override.parse("a.0=3"), Override.parse("a.2=4")])

    assert ({"a": [3, 2, 4]}, []) == (changed, list(warnings))
    assert {"a": [1, 2]} == body


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("decision", "--set", "verification.reasonCode"), 1, "--set takes PATH=VALUE"),
        (("decision", "--set", "=1"), 1, "--set takes PATH=VALUE"),
        (("decision", "--set", "a..b=1"), 1, "--set takes PATH=VALUE"),
        (("decision", "--set", "decision.reasonCode=1"), 1, "cannot reach decision: the body has status, verification"),
        (("decision", "--set", "verificaton.code=1"), 1, "cannot reach verificaton: did you mean verification?"),
        (("decision", "--set", "status.code=1"), 1, "set status itself to a JSON object or list"),
        (("decision", "--set", "verification.comments.2=1"), 1, "verification.comments is a list of 0; give an index"),
        (("decision", "--set", "verification.comments.٣=1"), 1, "verification.comments is a list of 0"),
        (("all", "--set", "id=1"), 2, "--set needs one KIND"),
        (("decision", "--body", "-"), 2, "--body is the whole webhook"),
        (("--status", "declined", "--body", "-"), 2, "--body is the whole webhook"),
        (("--body", "-"), 1, "is not a JSON object"),
    ],
)
def test_wrong_overrides_teach(
    invoke: Invoke, receiver: Receiver, words: tuple[str, ...], code: int, message: str
) -> None:
    """Nothing is posted, and the message says what the body has at that place."""
    result = invoke("trigger", *words, "--to", receiver.url, stdin="[1]", **VARIABLES)

    assert (result.exit_code, receiver.received) == (code, []), result.stderr
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("path", "meant"), [("verification.reasonCod", "reasonCode"), ("reasonCode", "verification.reasonCode")]
)
def test_new_member_with_a_similar_name_gives_a_warning(
    invoke: Invoke, receiver: Receiver, path: str, meant: str
) -> None:
    """A member that is probably mistyped is added, because Veriff may have it, with a warning that suggests another."""
    result = invoke("trigger", "decision", "--to", receiver.url, "--set", f"{path}=1", **VARIABLES)

    assert result.exit_code == 0
    assert f"did you mean {meant}?" in " ".join(result.stderr.split())
    body = json.loads(receiver.received[0][1])
    assert (body["verification"] if "." in path else body)[path.rpartition(".")[2]] == 1


LEAF: Final = st.none() | st.booleans() | st.integers(-9, 2**53) | st.text(max_size=2)
JSON: Final = LEAF | st.lists(LEAF, max_size=2) | st.dictionaries(st.sampled_from("abc"), LEAF, max_size=2)


@given(body=st.dictionaries(st.sampled_from("abc"), JSON), path=st.text("abc.01", max_size=4), value=JSON)
def test_an_override_changes_one_place_or_refuses(body: dict[str, object], path: str, value: object) -> None:
    """Any path and value either change a copy, which then is JSON, or raise an error that names --set."""
    before, text = json.dumps(body), value if isinstance(value, str) else json.dumps(value)
    try:
        changed, _ = override(body, [Override.parse(f"{path}={text}")])
    except InvalidArgumentError:
        pass
    else:
        found: object = changed
        for name in path.split("."):
            found = found[int(name)] if isinstance(found, list) else found[name]  # type: ignore[index]
        assert found in (text, json.loads(json.dumps(value)), *([json.loads(text)] if is_json(text) else []))
    assert before == json.dumps(body)


def is_json(text: str) -> bool:
    """Return whether a text is JSON."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
