"""`veriff-async check-receiver`: the report for people, JSON, JUnit and exit codes."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import pytest

from tests.cli.conftest import PostHandler, strip_escapes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from tests.cli.conftest import Receiver

    Invoke = Callable[..., Result]

SESSION: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"
SECRET: Final = "0f0e0d0c-0b0a-4908-8706-050403020100"
VARIABLES: Final = {"VERIFF_API_KEY": "6f1b1b52-8d2c-4e0e-9b6f-0a5a3f0e8a11", "VERIFF_SHARED_SECRET": SECRET}

APP: Final = """
from veriff_async import Credentials
from veriff_async.inbox import MemoryInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app


def create_app():
    return asgi_app(WebhookReceiver(Credentials.from_env(), MemoryInbox()), path="/hooks")


app = create_app()
number = 7
"""

EFFECTS: Final = """
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
if sys.argv[2] in {"fail", "recover"}:
    (folder / "switched").open("a").write(sys.argv[2] + " ")
else:
    print(json.dumps({"count": 1, "status": "approved"}))
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an application, in the folder of the command."""
    (tmp_path / "app_of_this_test.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "app_of_this_test", raising=False)
    return "app_of_this_test:create_app()"


def test_application_passes(invoke: Invoke, app: str) -> None:
    """An application is imported from the folder of the command and checked; only results are shown, not its log."""
    result = invoke("check-receiver", app, "--path", "/hooks", "--only", "signatures", "--skip", "tls", **VARIABLES)

    assert 0 == result.exit_code, result.output
    assert "22 passed, 0 errors, 0 warnings, 0 notes, 2 not checked" in result.stdout
    assert "VERIFF_REVOKED_SECRET" in result.stdout
    assert "Refused" not in result.output


def test_failures_have_reason_and_remedy(invoke: Invoke, receiver: Receiver) -> None:
    """A failed case shows what was sent, expected and found, why, its source, and the remedy in one framework."""
    arguments = ("--only", "signature-missing", "--only", "unknown-kind", "--framework", "flask")

    result = invoke("check-receiver", receiver.url, *arguments, **VARIABLES)

    assert 1 == result.exit_code
    assert "ERROR  signature-missing\n  sent      a decision without a signature.\n" in result.stdout
    assert "found     The forged webhook was accepted with HTTP 200." in result.stdout
    assert "(https://devdocs.veriff.com/" in result.stdout
    assert "How to fix it" in result.stdout
    assert "Django" not in result.stdout
    assert SECRET not in result.output


def test_report_fits_a_terminal(run_in_terminal: Callable[..., tuple[int, str]], receiver: Receiver) -> None:
    """On a terminal of 80 columns every line of the report fits, so that words are not cut."""
    code, shown = run_in_terminal(
        "check-receiver", receiver.url, "--only", "signatures", "--only", "bodies", **VARIABLES
    )

    assert 1 == code
    report = strip_escapes(shown[shown.index("ERROR  signature-missing") :])
    assert [] == [line for line in report.splitlines() if len(line) > 80]


def test_json_and_junit_have_all_results(invoke: Invoke, receiver: Receiver, tmp_path: Path) -> None:
    """The document on standard output and the file have the same results; the exit code is 1 for an error."""
    path = tmp_path / "results.xml"

    result = invoke(
        "check-receiver",
        receiver.url,
        "--only",
        "event-started",
        "--only",
        "signature-missing",
        "--json",
        "--junit",
        str(path),
        **VARIABLES,
    )

    document = json.loads(result.stdout)
    assert (1, False) == (result.exit_code, document["ok"])
    assert ["passed", "failed"] == [row["outcome"] for row in document["results"]]
    names = [case.get("name") for case in ET.fromstring(path.read_text())[0]]  # noqa: S314  our own document
    assert ["event-started", "signature-missing"] == names


def test_sessions_come_from_a_file(invoke: Invoke, receiver: Receiver, tmp_path: Path) -> None:
    """An endpoint that refuses unknown sessions gets those of a file, one per line."""
    path = tmp_path / "sessions"
    path.write_text(f"{SESSION}\n\n{SESSION[:-1]}0\n")
    options = ("--only", "decision-approved", "--sessions", str(path), "--vendor-data", "user-42", "--json")

    result = invoke("check-receiver", receiver.url, *options, **VARIABLES)

    assert [SESSION] == json.loads(result.stdout)["session_ids"]
    assert b'"vendorData":"user-42"' in receiver.received[-1][1]


def test_warnings_count_with_strict(invoke: Invoke, receiver: Receiver) -> None:
    """A warning alone is no error; with --strict it is."""
    arguments = ("check-receiver", receiver.url, "--only", "api-key-other")

    assert 0 == invoke(*arguments, **VARIABLES).exit_code
    assert 1 == invoke(*arguments, "--strict", **VARIABLES).exit_code


def test_effects_and_failures_come_from_commands(invoke: Invoke, receiver: Receiver, tmp_path: Path) -> None:
    """The effects are the output of a command; the work fails and succeeds by two others, run without a shell."""
    script = tmp_path / "effects.py"
    script.write_text(EFFECTS)
    command = f"{sys.executable} {script} {tmp_path}"

    result = invoke(
        "check-receiver",
        receiver.url,
        "--only",
        "late-events",
        "--only",
        "failing-handler",
        "--effects-command",
        f"{command} {{session_id}}",
        "--fail-command",
        f"{command} fail",
        "--recover-command",
        f"{command} recover",
        "--json",
        **VARIABLES,
    )

    assert ["passed", "passed"] == [row["outcome"] for row in json.loads(result.stdout)["results"]], result.output
    assert ["fail", "recover"] == (tmp_path / "switched").read_text().split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give the URL"),
        (("http://localhost:1/", "--only", "nothing"), "Invalid value for '--only'"),
        (("http://localhost:1/", "--effects-url", "http://localhost:1/", "--effects-command", "x"), "same purpose"),
        (("http://localhost:1/", "--fail-command", "x"), "belong together"),
        (("localhost:8000",), "not a URL"),
        (("http://user:secret@localhost/",), "name or password"),
    ],
)
def test_wrong_usage_sends_nothing(invoke: Invoke, arguments: tuple[str, ...], message: str) -> None:
    """Wrong usage has exit code 2."""
    result = invoke("check-receiver", *arguments, **VARIABLES)

    assert 2 == result.exit_code
    assert message in result.output


@pytest.mark.parametrize(
    ("receiver", "message"),
    [
        ("https://shop.example/webhooks/veriff", "--yes"),
        ("nothing_of_this_name:app", "module nothing_of_this_name is not found"),
        ("app_of_this_test:missing", "has no missing"),
        ("app_of_this_test:number", "is a int, not an ASGI application"),
    ],
)
def test_wrong_receiver_is_an_error(invoke: Invoke, app: str, receiver: str, message: str) -> None:
    """A receiver that cannot be used has exit code 1 and a remedy."""
    result = invoke("check-receiver", receiver, **VARIABLES)

    assert 1 == result.exit_code
    assert message in result.output


def test_endpoint_that_does_not_listen_is_an_error(invoke: Invoke) -> None:
    """The summary says why nothing was checked."""
    result = invoke("check-receiver", "http://127.0.0.1:1/", **VARIABLES)

    assert 1 == result.exit_code
    assert "The endpoint is not reachable: no connection (" in result.output


def test_list_names_each_case(invoke: Invoke) -> None:
    """The list needs no credentials and sends nothing."""
    shown = invoke("check-receiver", "--list")
    document = json.loads(invoke("check-receiver", "--list", "--json").stdout)

    assert 0 == shown.exit_code
    assert len(document["cases"]) > 80
    for case in document["cases"]:
        assert case["name"] in shown.stdout


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('[' * 50000)", "The effects of a session must be a number"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "The effects of a session must be a number"),
        ("while True: print('x' * 10000)", "--effects-command prints more than 64 KiB"),
        ("import os; os._exit(7)", "--effects-command failed with exit code 7"),
    ],
)
def test_output_of_a_command_for_effects_is_not_trusted(
    invoke: Invoke, receiver: Receiver, tmp_path: Path, code: str, message: str
) -> None:
    """A command that prints anything, or without end, is a failure of its case, and the check continues."""
    script = tmp_path / "effects.py"
    script.write_text(code)
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"

    result = invoke(
        "check-receiver", receiver.url, "--only", "effect-once", "--effects-command", command, "--json", **VARIABLES
    )

    assert 1 == result.exit_code, result.output
    assert message in json.loads(result.stdout)["results"][0]["message"]


def test_command_is_not_shown(invoke: Invoke, receiver: Receiver) -> None:
    """A command may contain a password, for example before the name of the program, which only a shell understands."""
    arguments = ("--only", "effect-once", "--effects-command", "PGPASSWORD=a-secret-text psql")

    result = invoke("check-receiver", receiver.url, *arguments, **VARIABLES)

    assert "--effects-command cannot be run (FileNotFoundError)" in result.stdout
    assert "a-secret-text" not in result.output


def test_results_are_shown_if_the_file_cannot_be_written(invoke: Invoke, receiver: Receiver, tmp_path: Path) -> None:
    """A check takes minutes: a wrong path of ``--junit`` is an error, after the report."""
    path = tmp_path / "missing" / "results.xml"

    result = invoke("check-receiver", receiver.url, "--only", "event-started", "--junit", str(path), **VARIABLES)

    assert 1 == result.exit_code
    assert "1 passed" in result.stdout
    assert "--junit cannot be written" in result.stderr


def test_module_that_exits_is_an_error(invoke: Invoke, app: str, tmp_path: Path) -> None:
    """A module that ends the process when it is imported does not end the command as if the check had passed."""
    (tmp_path / "app_of_this_test.py").write_text("raise SystemExit(0)")

    result = invoke("check-receiver", app, **VARIABLES)

    assert 1 == result.exit_code
    assert "ends the process when it is imported" in result.stderr


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (200, b'{"count": 1}', "passed: One effect."),
        (200, b"<html>", "The effects of a session must be a number"),
        (404, b"1", "--effects-url: HTTP 404"),
    ],
)
def test_effects_come_from_a_url(invoke: Invoke, receiver: Receiver, status: int, body: bytes, found: str) -> None:
    """The effects are the response of a URL with the id of the session; another answer fails the case."""
    paths: list[str] = []

    class EffectsHandler(PostHandler):
        def do_GET(self) -> None:  # noqa: N802  the name that http.server calls
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    receiver.RequestHandlerClass = EffectsHandler
    url = receiver.url.replace("/hook", "/effects/{session_id}")

    result = invoke(
        "check-receiver", receiver.url, "--only", "effect-once", "--effects-url", url, "--json", **VARIABLES
    )

    document = json.loads(result.stdout)
    (row,) = document["results"]
    assert found in f"{row['outcome']}: {row['message']}"
    assert {f"/effects/{session_id}" for session_id in document["session_ids"]} == set(paths)


@pytest.mark.parametrize("command", ["", "  ", "count 'open"])
def test_command_must_have_words(invoke: Invoke, receiver: Receiver, command: str) -> None:
    """A command without words, or with a quote that is not closed, is refused before anything is sent."""
    result = invoke("check-receiver", receiver.url, "--effects-command", command, **VARIABLES)

    assert 1 == result.exit_code
    assert "--effects-command is empty, or a quote in it is not closed." in result.stderr
    assert [] == receiver.received


def test_coroutine_is_not_an_application(invoke: Invoke, app: str, tmp_path: Path) -> None:
    """A factory that must be awaited gives no application, and no warning about the coroutine."""
    (tmp_path / "app_of_this_test.py").write_text("async def create_app(): pass")

    result = invoke("check-receiver", app, **VARIABLES)

    assert 1 == result.exit_code
    assert "create_app() is a coroutine, not an ASGI application." in " ".join(result.stderr.split())
