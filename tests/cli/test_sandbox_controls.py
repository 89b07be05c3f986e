"""`veriff-async sandbox decide`, `webhooks`, `fault` and the other commands that control a running sandbox."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import socket
import urllib.request
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click
import pytest
from click.shell_completion import ShellComplete

from tests.cli.conftest import strip_escapes
from tests.conditions import needs_posix
from veriff_async import Status
from veriff_async.cli._commands import cli
from veriff_async.cli.completion import VARIABLE
from veriff_async.cli.sandbox.controls import CONTROLS, Control
from veriff_async.sandbox import Fault, Sandbox, VirtualClock
from veriff_async.sandbox._control.operations import OPERATIONS

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from click.testing import Result

    from tests.cli.conftest import Receiver

    Invoke = Callable[..., Result]
    RunInTerminal = Callable[..., tuple[int, str]]
    Start = Callable[..., subprocess.Popen[str]]
    Control_ = Callable[..., Any]

SECONDS: Final = 20.0
TOKEN: Final = "a-token-for-tests"
NOT_COMMANDS: Final = frozenset(
    {
        "count_sessions",
        "download_media",
        "get_credentials",
        "get_deliveries",
        "get_imported_faces",
        "get_requests",
        "set_credentials",
    }
)
"""Operations without a command of their own: other commands show the same, or they are about secrets."""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Run a sandbox whose clock stands still, in a thread of the tests' process."""
    with Sandbox(clock=VirtualClock()) as sandbox:
        yield sandbox


@pytest.fixture
def control(sandbox: Sandbox, invoke: Invoke) -> Callable[..., Any]:
    """Return a function that runs a subcommand with --json against the sandbox, and returns its document."""

    def call(*arguments: str, stdin: str = "") -> Any:  # noqa: ANN401  any JSON
        result = invoke("sandbox", *arguments, "--json", stdin=stdin, VERIFF_SANDBOX_URL=sandbox.base_url)
        assert (0, "") == (result.exit_code, result.stderr)
        return json.loads(result.stdout)

    return call


@pytest.fixture
def session_id(sandbox: Sandbox) -> str:
    """Create a session, and return its id."""
    return create_session(sandbox)


def create_session(sandbox: Sandbox) -> str:
    """Create a session as a client does; the signature of a creation is optional."""
    headers = {"X-AUTH-CLIENT": sandbox.credentials.api_key, "Content-Type": "application/json"}
    body = json.dumps({"verification": {"vendorData": "user-42", "person": {"firstName": "Ada"}}}).encode()
    request = urllib.request.Request(f"{sandbox.base_url}/v1/sessions", data=body, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
        return str(json.load(response)["verification"]["id"])


def test_every_operation_has_a_command() -> None:
    """A person at a terminal can do everything that the control API can."""
    named = [
        each for group in CONTROLS.values() for each in ([group] if isinstance(group, Control) else group.values())
    ]
    modules = {"get_chaos", "set_chaos", "clear_chaos", "stream_events", "snapshot", "restore", "get_environ"}

    assert {each.operation for each in named} | modules | NOT_COMMANDS == {each.name for each in OPERATIONS}


def test_decide_sets_status_reason_and_person(sandbox: Sandbox, control: Control_, session_id: str) -> None:
    """`decide` takes status, code and reason as words, and a person as JSON; personal data is not printed."""
    data = json.dumps({"person": {"firstName": "Grace"}, "reason": "an option takes precedence"})

    shown = control(
        "decide", session_id, "declined", "--reason-code", "106", "--reason", "A sentence", "--data", "-", stdin=data
    )

    verification: Any = (sandbox.session(session_id).decision or {})["verification"]
    assert ("declined", 106, "A sentence") == tuple(verification[name] for name in ("status", "reasonCode", "reason"))
    assert "Grace" == verification["person"]["firstName"]
    assert (session_id, "declined") == (shown["id"], shown["status"])
    assert "Grace" not in json.dumps(shown)
    assert "Grace" in json.dumps(control("show", session_id, "--show-person"))


def test_sessions_are_listed_with_filters_and_pages(sandbox: Sandbox, control: Control_, invoke: Invoke) -> None:
    """`sessions` filters, and shows pages; without a terminal each session is one line with tabs."""
    ids = [create_session(sandbox) for _ in range(3)]
    sandbox.decide(ids[0], "approved")

    page = control("sessions", "--limit", "2")
    lines = invoke(
        "sandbox", "sessions", "--status", "created", VERIFF_SANDBOX_URL=sandbox.base_url
    ).stdout.splitlines()

    assert (3, [ids[2], ids[1]]) == (page["total"], [each["id"] for each in page["sessions"]])
    assert [ids[0]] == [each["id"] for each in control("sessions", "--after", page["next"])["sessions"]]
    assert [f"{ids[2]}\tcreated\tuser-42", f"{ids[1]}\tcreated\tuser-42"] == [
        line.rpartition("\t")[0] for line in lines
    ]


def test_attempts_are_started_submitted_and_opened_again(sandbox: Sandbox, control: Control_, session_id: str) -> None:
    """The commands do what an end-user does on Veriff's page."""
    assert "started" == control("start-attempt", session_id)["status"]
    assert "submitted" == control("submit-attempt", session_id)["status"]
    control("decide", session_id, "resubmission_requested")

    attempt_id = control("open-attempt", session_id)["attempt_id"]

    assert attempt_id == sandbox.session(session_id).attempts[-1].id


def test_webhooks_are_held_changed_and_released(
    sandbox: Sandbox, control: Control_, session_id: str, receiver: Receiver
) -> None:
    """`webhooks` without a subcommand lists them; the others hold, repeat, drop, reorder and release them."""
    control("webhooks", "set-urls", "--data", "-", stdin=json.dumps({"urls": {"decision": receiver.url}}))
    control("webhooks", "hold")
    control("decide", session_id, "approved")
    (held,) = control("webhooks")["webhooks"]
    copies = [control("webhooks", "duplicate", held["id"])["webhook_id"] for _ in range(3)]
    control("webhooks", "drop", copies[0])
    control("webhooks", "reorder", copies[2], copies[1])

    control("webhooks", "release")
    assert control("webhooks", "wait-idle")["is_idle"]
    control("webhooks", "resend", session_id)
    control("webhooks", "wait-idle")

    states = {each["id"]: each["state"] for each in control("webhooks", "list", "--session", session_id)["webhooks"]}
    assert ("held", "dropped", "delivered") == (held["state"], states[copies[0]], states[copies[1]])
    assert 4 == len(receiver.received) == len(sandbox.deliveries)


def test_faults_are_added_listed_and_cleared(sandbox: Sandbox, control: Control_) -> None:
    """`fault add` takes the fields of a fault as options; `fault` lists what waits."""
    control("fault", "add", "status", "--status", "503", "--retry-after", "7", "--path", "/v1/*", "--times", "2")
    fault_id = control("fault", "add", "drop", "--after", "10")["fault_id"]

    first, second = control("fault")["faults"]
    control("fault", "remove", str(fault_id))

    assert (503, "7", "/v1/*", 2) == (
        first["fault"]["status"],
        first["fault"]["headers"]["Retry-After"],
        first["path"],
        first["times"],
    )
    assert fault_id == second["id"]
    assert [Fault.status(503, retry_after=7)] == [each.fault for each in sandbox.faults]
    control("fault", "clear")
    assert () == sandbox.faults


def test_clock_is_advanced(control: Control_) -> None:
    """`clock` shows the time, and `clock advance` moves a virtual clock."""
    before = datetime.fromisoformat(control("clock")["now"])
    after = datetime.fromisoformat(control("clock", "advance", "3600")["now"])

    assert timedelta(hours=1) == after - before


def test_rules_are_changed(sandbox: Sandbox, control: Control_) -> None:
    """`rules change` takes each rule as an option, and `rules` shows all of them."""
    control("rules", "change", "--decide-after", "0", "--full-auto", "--time-digits", "3")

    rules = control("rules")

    assert (0, True, 3) == (rules["decide_after"], sandbox.rules.options.full_auto, sandbox.rules.options.time_digits)


def test_none_removes_a_rule(sandbox: Sandbox, control: Control_) -> None:
    """The word none stands for null: no automatic decision, no URL, no limit of requests, no public URL."""
    control("rules", "change", "--webhook-url", "http://127.0.0.1:9/webhooks", "--requests-per-second", "5")
    control("public-url", "http://localhost:9")

    control("rules", "change", "--decide-after", "none", "--webhook-url", "none", "--requests-per-second", "none")
    control("public-url", "none")

    rules = sandbox.rules
    assert (None, {}, None) == (rules.decide_after, dict(rules.webhook_urls), rules.options.requests_per_second)
    assert sandbox.public_url is None


def test_reset_forgets_sessions(sandbox: Sandbox, control: Control_, session_id: str) -> None:
    """`reset` forgets all sessions."""
    assert [session_id] == [each.id for each in sandbox.sessions]
    control("reset")
    assert () == sandbox.sessions


def test_seed_adds_sessions(sandbox: Sandbox, control: Control_, invoke: Invoke) -> None:
    """`seed` prints the ids of new sessions, a line for each."""
    ids = control("seed", "4", "--status", "approved", "--status", "declined", "--seed", "7")["session_ids"]
    lines = invoke("sandbox", "seed", "1", VERIFF_SANDBOX_URL=sandbox.base_url).stdout.splitlines()

    assert [*ids, *lines] == [each.id for each in sandbox.sessions]
    assert {"approved": 2, "declined": 2} == Counter(sandbox.session(each).status.value for each in ids)


def test_snapshot_is_saved_for_the_owner_and_restored(
    sandbox: Sandbox, control: Control_, invoke: Invoke, session_id: str, tmp_path: Path
) -> None:
    """`snapshot` saves the state in a file that only its owner can read, and `restore` brings it back."""
    path = tmp_path / "start.zip"
    control("snapshot", str(path))
    sandbox.decide(session_id, "declined")

    again = invoke("sandbox", "snapshot", str(path), VERIFF_SANDBOX_URL=sandbox.base_url)
    control("restore", str(path))

    assert Status.CREATED == sandbox.session(session_id).status
    assert (1, True) == (again.exit_code, "--replace" in again.stderr)
    assert 0 == control("snapshot", str(path), "--replace")["size"] - path.stat().st_size
    assert [path] == list(tmp_path.glob("[!t]*"))
    if os.name == "posix":
        assert 0o600 == path.stat().st_mode & 0o777


def test_snapshot_and_restore_say_what_they_did(sandbox: Sandbox, invoke: Invoke, tmp_path: Path) -> None:
    """Without --json each prints one sentence with the file; a missing folder is a sentence on standard error."""
    path, variables = tmp_path / "start.zip", {"VERIFF_SANDBOX_URL": sandbox.base_url}

    saved = invoke("sandbox", "snapshot", str(path), **variables)
    restored = invoke("sandbox", "restore", str(path), **variables)
    lost = invoke("sandbox", "snapshot", str(tmp_path / "absent" / "start.zip"), **variables)

    assert (0, True) == (saved.exit_code, saved.stdout.startswith(f"{path}: "))
    assert (0, f"The sandbox has the state of {path}.\n") == (restored.exit_code, restored.stdout)
    assert (1, "", 1) == (lost.exit_code, lost.stdout, lost.stderr.count("\n"))
    assert "start.zip cannot be written" in lost.stderr


@needs_posix
def test_unreadable_snapshot_is_refused(
    sandbox: Sandbox, invoke: Invoke, session_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket has the name of a file but cannot be opened: the error is a sentence, and nothing is changed."""
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most about 100 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("state.zip")
        result = invoke("sandbox", "restore", "state.zip", VERIFF_SANDBOX_URL=sandbox.base_url)
        token = invoke("sandbox", "sessions", "--control-token-file", "state.zip", VERIFF_SANDBOX_URL=sandbox.base_url)

    assert (1, "") == (result.exit_code, result.stdout)
    assert (1, True) == (token.exit_code, "--control-token-file cannot be used" in token.stderr)
    assert "state.zip cannot be read" in result.stderr
    assert [session_id] == [each.id for each in sandbox.sessions]


def test_file_that_is_not_a_snapshot_is_refused(invoke: Invoke, sandbox: Sandbox, session_id: str) -> None:
    """The error is the sandbox's own sentence, and nothing is changed."""
    result = invoke("sandbox", "restore", __file__, VERIFF_SANDBOX_URL=sandbox.base_url)

    assert (1, 1) == (result.exit_code, result.stderr.count("\n"))
    assert [session_id] == [each.id for each in sandbox.sessions]


def test_snapshot_that_fails_leaves_no_file(invoke: Invoke, tmp_path: Path) -> None:
    """Without a sandbox, no file and no part of one appears."""
    result = invoke("sandbox", "snapshot", str(tmp_path / "start.zip"), VERIFF_SANDBOX_URL="http://127.0.0.1:9")

    assert 1 == result.exit_code
    assert [] == list(tmp_path.glob("*.*"))


def test_page_of_another_server_is_not_saved_as_a_snapshot(
    invoke: Invoke, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another server responds with 200, too; only a ZIP archive becomes a file."""
    handler = receiver.RequestHandlerClass
    monkeypatch.setattr(handler, "do_GET", handler.do_POST, raising=False)  # type: ignore[attr-defined]
    url = receiver.url.removesuffix("/hook")

    result = invoke("sandbox", "snapshot", str(tmp_path / "start.zip"), VERIFF_SANDBOX_URL=url)

    assert (1, 1) == (result.exit_code, result.stderr.count("\n"))
    assert "not as the control API of a sandbox does" in result.stderr
    assert [] == list(tmp_path.glob("*.*"))


@pytest.mark.parametrize(
    "response",
    [
        (200, "application/json", b"{}"),
        (200, "text/html", b"<html>canary</html>"),
        (200, "text/event-stream", b"data: canary\n\n"),
        (404, "application/json", b'{"message": "canary"}'),
    ],
)
def test_stream_of_another_server_is_not_taken_for_that_of_a_sandbox(
    invoke: Invoke, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, response: tuple[int, str, bytes]
) -> None:
    """`events` prints nothing of a response that a sandbox does not send, and names the variable to check."""
    status, media_type, body = response

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", media_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    monkeypatch.setattr(receiver.RequestHandlerClass, "do_GET", respond, raising=False)
    url = receiver.url.removesuffix("/hook")

    result = invoke("sandbox", "events", VERIFF_SANDBOX_URL=url)

    assert (1, "") == (result.exit_code, result.stdout)
    assert f"responded with HTTP {status}, but not as the control API of a sandbox does" in result.stderr
    assert "canary" not in result.stderr


def test_events_without_a_sandbox_are_one_sentence(invoke: Invoke) -> None:
    """The command does not wait for a sandbox that may start later."""
    result = invoke("sandbox", "events", VERIFF_SANDBOX_URL="http://127.0.0.1:9")

    assert (1, "", 1) == (result.exit_code, result.stdout, result.stderr.count("\n"))
    assert "start one with veriff-async sandbox" in result.stderr


def test_events_end_quietly_without_a_reader_and_with_an_error_on_a_full_disk(
    sandbox: Sandbox, session_id: str, invoke_with_broken_output: Callable[..., tuple[int, str]]
) -> None:
    """The reader of a pipe may have enough, like head; an event that cannot be printed otherwise is an error."""
    command, url = ("sandbox", "events", "--after", "0"), sandbox.base_url
    full = OSError(errno.ENOSPC, "No space left on device")

    quiet = invoke_with_broken_output(BrokenPipeError(), *command, VERIFF_SANDBOX_URL=url)
    code, errors = invoke_with_broken_output(full, *command, VERIFF_SANDBOX_URL=url)

    assert (0, "") == quiet
    assert (1, 1) == (code, errors.count("\n"))
    assert "No space left" in errors
    assert session_id not in errors


def test_every_field_of_a_path_is_required(invoke: Invoke) -> None:
    """A command without the id that it is about is wrong usage, also if the id is a number."""
    result = invoke("sandbox", "fault", "remove")

    assert (2, True) == (result.exit_code, "Missing argument" in result.stderr)


@needs_posix
def test_events_are_printed_as_they_happen(sandbox: Sandbox, start: Start) -> None:
    """`events` prints a line for each event, with --json an object, and ends with exit code 0 at Ctrl-C."""
    process = start("sandbox", "events", "--after", "0", "--json", VERIFF_SANDBOX_URL=sandbox.base_url)
    session_id = create_session(sandbox)
    assert process.stdout is not None
    kinds: dict[str, Any] = {}
    while not {"request", "session"} <= set(kinds):
        entry = json.loads(process.stdout.readline())
        kinds[entry["kind"]] = entry

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)

    assert session_id == kinds["session"]["session_id"]
    assert (0, "") == (process.returncode, errors)


@needs_posix
def test_events_end_with_the_sandbox_and_with_the_reader_of_a_pipe(start: Start) -> None:
    """A sandbox that stops is an error; a reader that has enough is none."""
    with Sandbox() as sandbox:
        stopped = start("sandbox", "events", "--after", "0", VERIFF_SANDBOX_URL=sandbox.base_url)
        piped = start("sandbox", "events", "--after", "0", VERIFF_SANDBOX_URL=sandbox.base_url)
        create_session(sandbox)
        assert stopped.stdout is not None
        assert piped.stdout is not None
        assert "POST" in stopped.stdout.readline() + stopped.stdout.readline()
        assert piped.stdout.readline()
        piped.stdout.close()
        while piped.poll() is None:
            create_session(sandbox)
    assert 1 == stopped.wait(SECONDS)
    assert stopped.stderr is not None
    assert "has stopped" in stopped.stderr.read()
    assert 0 == piped.returncode


@needs_posix
def test_environ_sets_the_variables_of_another_terminal(sandbox: Sandbox, invoke: Invoke, control: Control_) -> None:
    """A shell that evaluates the lines has the variables that a client needs."""
    lines = invoke("sandbox", "environ", VERIFF_SANDBOX_URL=sandbox.base_url).stdout.splitlines()

    assert sandbox.environ == dict(shlex.split(line)[1].split("=", 1) for line in lines)
    assert sandbox.environ == control("environ")


def test_public_url_is_set(sandbox: Sandbox, control: Control_) -> None:
    """`public-url` sets the address in responses, for example when the port of a container is known."""
    assert sandbox.base_url == control("addresses")["base_url"]
    assert (
        "http://localhost:32768" == control("public-url", "http://localhost:32768")["public_url"] == sandbox.public_url
    )


def test_chaos_is_set_by_name_and_file_and_cleared(sandbox: Sandbox, control: Control_, tmp_path: Path) -> None:
    """`chaos` takes a name that the library includes, or a file of this machine, which the sandbox need not have."""
    profile = tmp_path / "flaky.toml"
    profile.write_text("seed = 7\n[[webhooks]]\nloss = 1.0\n")

    assert "mobile" == control("chaos", "mobile")["profile"]["name"]
    assert 7 == control("chaos", str(profile))["profile"]["seed"]
    assert sandbox.chaos is not None
    assert "flaky" == sandbox.chaos.name
    assert control("chaos")["profile"] == sandbox.chaos.to_dict()
    assert control("chaos", "--off")["profile"] is None
    assert sandbox.chaos is None


def test_chaos_without_json_names_the_profiles(sandbox: Sandbox, invoke: Invoke) -> None:
    """`chaos` shows the profile and those that can be chosen; a profile and --off contradict each other."""
    variables = {"VERIFF_SANDBOX_URL": sandbox.base_url}

    none = invoke("sandbox", "chaos", **variables).stdout.splitlines()
    chosen = invoke("sandbox", "chaos", "mobile", **variables).stdout.splitlines()
    both = invoke("sandbox", "chaos", "mobile", "--off", **variables)

    assert "Chaos profile none" == none[0]
    assert "mobile" in none[1]
    assert chosen[0].startswith("Chaos profile mobile: ")
    assert (2, True) == (both.exit_code, "give one of them" in both.stderr)
    assert sandbox.chaos is not None


def test_data_that_is_not_an_object_is_refused(
    sandbox: Sandbox, invoke: Invoke, session_id: str, tmp_path: Path
) -> None:
    """A list, or a file that is too large, is one sentence, and the session stays as it is; an object is used."""
    path, variables = tmp_path / "data.json", {"VERIFF_SANDBOX_URL": sandbox.base_url}
    command = ("sandbox", "decide", session_id, "declined", "--data", str(path))
    path.write_text("[]")
    listed = invoke(*command, **variables)
    os.truncate(path, 64 * 1024 * 1024 + 1)  # a hole, which needs no space on the disk
    large = invoke(*command, **variables)
    assert Status.CREATED == sandbox.session(session_id).status
    path.write_text('{"reason": "from a file"}')
    used = invoke(*command, **variables)

    assert (1, True) == (listed.exit_code, "The file of --data is not a JSON object" in listed.stderr)
    assert (1, True) == (large.exit_code, "The file of --data is too large" in large.stderr)
    assert (0, Status.DECLINED) == (used.exit_code, sandbox.session(session_id).status)


def test_empty_list_is_a_sentence_on_a_terminal_alone(
    sandbox: Sandbox, invoke: Invoke, invoke_in_terminal: Callable[..., tuple[int, str]]
) -> None:
    """In a pipe each line is an item, so an empty list prints nothing there."""
    variables = {"VERIFF_SANDBOX_URL": sandbox.base_url}

    assert (0, "No sessions.\n") == invoke_in_terminal("sandbox", "sessions", **variables)
    assert "" == invoke("sandbox", "sessions", **variables).stdout


def test_results_are_readable_without_json(sandbox: Sandbox, invoke: Invoke, session_id: str) -> None:
    """Without --json each value is one line, and a decision is a sentence without personal data."""
    variables = {"VERIFF_SANDBOX_URL": sandbox.base_url}
    invoke("sandbox", "decide", session_id, "declined", "--reason-code", "106", **variables)

    shown = invoke("sandbox", "show", session_id, **variables).stdout

    assert f"  id: {session_id}\n" in shown
    assert "  decision: declined (code 9102)\n" in shown
    assert "  reason code: 106\n" in shown
    assert "Ada" not in shown
    assert "Done.\n" == invoke("sandbox", "fault", "clear", **variables).stdout


def test_control_characters_of_a_session_do_not_reach_the_terminal(sandbox: Sandbox, invoke: Invoke) -> None:
    """Text of a client is printed without the characters that move the cursor."""
    sandbox.decide(create_session(sandbox), "declined", reason="\x1b[2Jgone")
    session_id = sandbox.sessions[0].id

    assert "\x1b" not in invoke("sandbox", "show", session_id, VERIFF_SANDBOX_URL=sandbox.base_url).stdout


def test_table_on_a_terminal_shows_whole_ids(sandbox: Sandbox, run_in_terminal: RunInTerminal) -> None:
    """On 80 columns an id stays whole, because the next command needs it."""
    ids = sandbox.seed(3)

    code, written = run_in_terminal("sandbox", "sessions", VERIFF_SANDBOX_URL=sandbox.base_url)

    assert 0 == code
    assert all(each in written for each in ids)
    assert "3 in total." in written


def test_narrow_terminal_shows_every_column(sandbox: Sandbox, run_in_terminal: RunInTerminal) -> None:
    """On 40 columns a session is a few lines of text, because a table would have room for ids only."""
    (session_id,) = sandbox.seed(1, statuses=["declined"])

    code, written = run_in_terminal("sandbox", "sessions", VERIFF_SANDBOX_URL=sandbox.base_url, COLUMNS="40")

    assert 0 == code
    assert all(word in written for word in (session_id, "declined", "seed-1"))
    assert all(len(line) <= 40 for line in strip_escapes(written).splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "8f0d1ab6"), "veriff-async sandbox sessions"),
        (("decide", "{id}", "created"), "not one of"),
        (("show", "../timeline"), "not an id"),
        (("clock", "advance", "nan"), "not a finite number"),
        (("decide", "{id}", "declined", "--data", "absent.json"), "cannot be read"),
        (("fault", "add"), "Missing argument"),
        (("sessions", "--after", "nonsense"), "after"),
        (("chaos", "mobil"), "mobile"),
        (("--port", "1", "sessions"), "--port"),
    ],
)
def test_mistakes_name_their_remedy(
    sandbox: Sandbox, invoke: Invoke, session_id: str, arguments: tuple[str, ...], words: str
) -> None:
    """A mistake is a sentence and exit code 1 or 2; the session is unchanged."""
    given = [each.format(id=session_id) for each in arguments]

    result = invoke("sandbox", *given, VERIFF_SANDBOX_URL=sandbox.base_url)

    assert (True, "") == (result.exit_code in {1, 2}, result.stdout)
    assert words in result.stderr
    assert Status.CREATED == sandbox.session(session_id).status


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"VERIFF_SANDBOX_URL": "http://127.0.0.1:9"}, "start one with veriff-async sandbox"),
        ({"VERIFF_SANDBOX_URL": "nowhere"}, "VERIFF_SANDBOX_URL is not a URL"),
        ({"VERIFF_SANDBOX_URL": "http://[::1"}, "VERIFF_SANDBOX_URL is not a URL"),
        ({"VERIFF_SANDBOX_TOKEN": "\x07bell"}, "VERIFF_SANDBOX_TOKEN"),
        ({"VERIFF_CA_BUNDLE": "/absent", "VERIFF_SANDBOX_URL": "https://127.0.0.1:9"}, "VERIFF_CA_BUNDLE"),
    ],
)
def test_sandbox_that_cannot_be_reached_is_one_sentence(
    invoke: Invoke, variables: Mapping[str, str], words: str
) -> None:
    """Without a sandbox, or with a wrong variable, the command says what to do."""
    result = invoke("sandbox", "sessions", **variables)

    assert (1, True, 1) == (result.exit_code, words in result.stderr, result.stderr.count("\n"))
    assert "bell" not in result.stderr


def test_another_server_is_not_taken_for_a_sandbox(invoke: Invoke, receiver: Receiver) -> None:
    """A server that does not answer as a control API does is named, and its text is not shown."""
    result = invoke("sandbox", "sessions", "--url", receiver.url)

    assert 1 == result.exit_code
    assert "not as the control API of a sandbox does" in result.stderr


def test_token_is_taken_from_a_variable_or_file(invoke: Invoke, tmp_path: Path) -> None:
    """A sandbox with a token refuses a command without it; the error names the ways to give it."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    with Sandbox(control_token=TOKEN) as sandbox:
        refused = invoke("sandbox", "sessions", "--json", VERIFF_SANDBOX_URL=sandbox.base_url)
        wrong = invoke("sandbox", "sessions", VERIFF_SANDBOX_URL=sandbox.base_url, VERIFF_SANDBOX_TOKEN="wrong-token")
        by_file = invoke("sandbox", "sessions", "--url", sandbox.base_url, "--control-token-file", str(path))
        by_variable = invoke("sandbox", "sessions", VERIFF_SANDBOX_URL=sandbox.console_url, VERIFF_SANDBOX_TOKEN=TOKEN)

    error = json.loads(refused.stderr)["error"]
    assert ("AuthenticationError", 401, "unauthorized") == (error["type"], error["status"], error["code"])
    assert "VERIFF_SANDBOX_TOKEN" in error["message"]
    assert (1, 0, 0) == (wrong.exit_code, by_file.exit_code, by_variable.exit_code)
    assert "wrong-token" not in wrong.stderr


def test_sandbox_with_tls_needs_its_authority(invoke: Invoke) -> None:
    """Over https the authority comes from --ca-bundle or VERIFF_CA_BUNDLE; without it the error names the problem."""
    with Sandbox(tls=True) as sandbox:
        trusted = invoke("sandbox", "clock", "--url", sandbox.base_url, "--ca-bundle", str(sandbox.ca_file))
        refused = invoke("sandbox", "clock", VERIFF_SANDBOX_URL=sandbox.base_url)

    assert (0, 1) == (trusted.exit_code, refused.exit_code)
    assert "authority that this machine does not trust" in refused.stderr


def test_settings_come_from_the_file_that_the_sandbox_has_written(
    invoke: Invoke, sandbox: Sandbox, tmp_path: Path
) -> None:
    """--env-file reads the variables that `veriff-async sandbox > veriff.env` writes."""
    path = tmp_path / "veriff.env"
    path.write_text(f"export VERIFF_SANDBOX_URL={sandbox.base_url}\n")
    path.chmod(0o600)

    assert 0 == invoke("sandbox", "clock", "--env-file", str(path)).exit_code


def test_help_lists_subcommands_and_each_has_help() -> None:
    """Each subcommand and option has a help text."""
    group = cli.get_command(click.Context(cli), "sandbox")
    assert isinstance(group, click.Group)
    below = [each for each in group.commands.values() if not isinstance(each, click.Group)]
    below += [
        each
        for nested in group.commands.values()
        if isinstance(nested, click.Group)
        for each in nested.commands.values()
    ]

    assert all(each.help for each in (*group.commands.values(), *below))
    assert [] == [
        (each.name, option.name)
        for each in below
        for option in each.params
        if isinstance(option, click.Option) and not option.help
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("veriff-async sandbox dec", "decide"),
        ("veriff-async sandbox decide 8f0d1ab6 res", "resubmission_requested"),
        ("veriff-async sandbox sessions --status subm", "submitted"),
        ("veriff-async sandbox webhooks rel", "release"),
        ("veriff-async sandbox fault add dr", "drop"),
        ("veriff-async sandbox chaos mob", "mobile"),
        ("veriff-async sandbox --chaos hostile", "hostile-webhooks"),
    ],
)
def test_shells_complete_subcommands_and_words(words: str, expected: str) -> None:
    """A shell completes subcommands, statuses, kinds of faults and chaos profiles."""
    typed = words.split()
    complete = ShellComplete(cli, {}, "veriff-async", VARIABLE)

    offered = [item.value for item in complete.get_completions(typed[1:-1], typed[-1])]

    assert [expected] == offered
