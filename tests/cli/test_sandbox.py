"""`veriff-async sandbox`, as a separate process."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import anyio
import pytest
import trustme
from click.testing import CliRunner

from tests.conditions import needs_posix
from veriff_async import Decision, Media, PollPolicy, VeriffClient
from veriff_async.cli._commands import cli
from veriff_async.cli.sandbox.server import find_addresses

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

SECONDS = 60.0
PICTURE = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000) + b"\xff\xd9"


def read_variables(process: subprocess.Popen[str], count: int = 7) -> dict[str, str]:
    """Read the export lines as a shell does: four addresses, key, secret and integration, unless `count` is given."""
    assert process.stdout is not None
    environ = {}
    for _ in range(count):
        export, assignment = shlex.split(process.stdout.readline())
        assert export == "export"
        name, _, value = assignment.partition("=")
        environ[name] = value
    return environ


def read_console(process: subprocess.Popen[str]) -> str:
    """Read standard error up to the line with the address of the console, and return the address."""
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("Console: "):
        assert line
    return line.removeprefix("Console: ").strip()


async def verify(environ: dict[str, str]) -> Decision:
    """Run a client with the printed environment through the whole flow."""
    async with VeriffClient.from_env(
        environ, poll=PollPolicy(interval=0.05, max_interval=0.05, backoff_factor=1)
    ) as veriff:
        return await veriff.verify(media=[Media(PICTURE, "face")], timeout=SECONDS)


def test_client_needs_only_the_printed_variables(start: Start) -> None:
    """A client made from the export lines gets a decision."""
    process = start("sandbox", "--port", "0", "--decide-after", "0")

    decision = anyio.run(verify, read_variables(process))

    assert decision.is_approved


def test_a_person_can_decide_at_leisure(start: Start) -> None:
    """With --decide-after none, the sandbox approves nothing by itself."""
    process = start("sandbox", "--port", "0", "--decide-after", "none")
    url = read_variables(process)["VERIFF_SANDBOX_URL"]

    with urllib.request.urlopen(f"{url}/_sandbox/api/rules") as response:  # noqa: S310  http on this machine
        assert json.load(response)["decide_after"] is None


@needs_posix
def test_each_entry_of_the_timeline_is_one_log_line(start: Start) -> None:
    """Standard error has a line for each request, change of a session and webhook."""
    process = start("sandbox", "--port", "0", "--decide-after", "0")
    anyio.run(verify, read_variables(process))

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)

    lines = [line.split() for line in errors.splitlines()]
    assert ["201", "POST", "/v1/sessions"] in [line[1:4] for line in lines]
    assert any(line[1:3] == ["200", "PATCH"] for line in lines)
    assert any(line[1::2] == ["session", "approved"] for line in lines)


def test_sandbox_on_all_interfaces_prints_reachable_addresses(start: Start) -> None:
    """Each printed address answers GET /healthz; that of the console has a random token, which is a variable too."""
    addresses = find_addresses()
    process = start("sandbox", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    variables = read_variables(process, 8)
    base_url = variables["VERIFF_BASE_URL"]
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(1 + len(addresses))]

    urls = [base_url, *(re.findall(r"http://[0-9.:]+", line)[0] for line in lines[1:])]

    assert base_url in lines[0]
    assert [f"http://{address}:{base_url.rpartition(':')[2]}" for address in addresses] == urls[1:]
    for url in urls:
        with urllib.request.urlopen(f"{url}/healthz", timeout=SECONDS) as answer:  # noqa: S310
            assert answer.status == 200
    assert read_console(process) == f"{base_url}/_sandbox/?token={variables['VERIFF_SANDBOX_TOKEN']}"


@needs_posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_the_sandbox_with_exit_code_0(start: Start, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a closed terminal are the ways to stop a sandbox, so none is an error."""
    process = start("sandbox", "--port", "0")
    read_variables(process)

    process.send_signal(number)
    _, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == 0
    assert errors.endswith("Stopped.\n")


@needs_posix
def test_sandbox_uses_credentials_of_the_environment_without_printing_them(start: Start) -> None:
    """With a key and secret in the environment, standard output has only the addresses."""
    key, secret = "6f1b1b52-8d2c-4e0e-9b6f-0a5a3f0e8a11", "0f0e0d0c-0b0a-4908-8706-050403020100"
    process = start("sandbox", "--port", "0", "--decide-after", "0", VERIFF_API_KEY=key, VERIFF_SHARED_SECRET=secret)
    printed = read_variables(process, 4)

    decision = anyio.run(verify, {**printed, "VERIFF_API_KEY": key, "VERIFF_SHARED_SECRET": secret})
    process.send_signal(signal.SIGINT)
    written, errors = process.communicate(timeout=SECONDS)

    assert decision.is_approved
    assert list(printed) == ["VERIFF_BASE_URL", "VERIFF_FEEDBACK_URL", "VERIFF_SYNC_URL", "VERIFF_SANDBOX_URL"]
    assert secret not in written + errors


def test_key_without_secret_is_an_error(run: Run) -> None:
    """A key without a secret is one sentence and exit code 1."""
    result = run("sandbox", "--port", "0", VERIFF_API_KEY="6f1b1b52-8d2c-4e0e-9b6f-0a5a3f0e8a11")

    assert result.returncode == 1
    assert "VERIFF_SHARED_SECRET" in result.stderr
    assert "Traceback" not in result.stderr


def test_port_in_use_is_one_sentence(run: Run) -> None:
    """A port in use is exit code 1 and a sentence with the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("sandbox", "--port", str(port))

    assert result.returncode == 1
    assert str(port) in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("secret", ["--api-key", "--secret", "--shared-secret"])
def test_secret_cannot_be_an_argument(secret: str) -> None:
    """Every user of the machine can read a command line, so no option takes a secret."""
    assert CliRunner().invoke(cli, ["sandbox", secret, "x"]).exit_code == 2


@pytest.mark.parametrize(
    ("option", "first"), [((), b'"verification"'), (("--every-webhook",), b'"action":"submitted"')]
)
def test_sandbox_posts_and_logs_webhooks(start: Start, option: tuple[str, ...], first: bytes) -> None:
    """--webhook-url receives signed decisions, or with --every-webhook each kind; the log has a line for each."""
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        url = f"http://127.0.0.1:{receiver.getsockname()[1]}/hook"
        process = start("sandbox", "--port", "0", "--decide-after", "0", "--webhook-url", url, *option)
        anyio.run(verify, read_variables(process))
        connection, _ = receiver.accept()
        with connection:
            head = b""
            while not head.endswith(b"}"):
                head += connection.recv(65536)
            head, body = head.lower(), head
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert process.stderr is not None
        while "delivered" not in (line := process.stderr.readline()):
            assert line

    assert head.startswith(b"post /hook")
    assert b"x-hmac-signature" in head
    assert first in body
    assert "200" in line


def test_sandbox_serves_tls_and_chaos(start: Start, tmp_path: Path) -> None:
    """The printed variables name the authority of --tls, and clients from them work; --state keeps its key."""
    options = ("--tls", "--tls-name", "veriff", "--chaos", "perfect", "--state", str(tmp_path / "state"))
    process = start("sandbox", "--port", "0", "--decide-after", "0", *options)
    environ = read_variables(process, 8)
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(4)]

    decision = anyio.run(verify, environ)

    assert decision.is_approved
    assert "A submitted session is approved after 0 s; --decide-after none leaves the decision to you.\n" == lines[3]
    assert environ["VERIFF_BASE_URL"].startswith("https://")
    assert environ["VERIFF_CA_BUNDLE"] in lines[2]
    assert Path(environ["VERIFF_CA_BUNDLE"]).is_relative_to(tmp_path / "state")
    assert f"{environ['VERIFF_BASE_URL']}/_sandbox/ca.pem" in lines[2]


def test_sandbox_serves_with_the_certificate_of_the_user(start: Start, tmp_path: Path) -> None:
    """--tls-cert, --tls-key and --tls-ca replace the certificate; --open without a browser is only a line."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    names = {"cert": certificate.cert_chain_pems[0], "key": certificate.private_key_pem, "ca": authority.cert_pem}
    for name, pem in names.items():
        pem.write_to_path(tmp_path / name)
    options = [word for name in names for word in (f"--tls-{name}", str(tmp_path / name))]

    no_browser = {"BROWSER": "/absent/browser %s", "PATH": "/absent"}
    process = start("sandbox", "--port", "0", "--decide-after", "0", "--open", *options, **no_browser)
    environ = read_variables(process, 8)
    read_console(process)

    assert process.stderr is not None
    assert str(tmp_path / "ca") in process.stderr.readline()
    assert "--decide-after none" in process.stderr.readline()
    assert "open the console's address yourself" in process.stderr.readline()
    assert environ["VERIFF_CA_BUNDLE"] == str(tmp_path / "ca")
    assert anyio.run(verify, environ).is_approved


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tls-cert", __file__), "give --tls-cert and --tls-key"),
        (("--tls-ca", __file__), "give --tls-cert and --tls-key"),
        (("--tls-name", "veriff"), "give both"),
        (("--every-webhook",), "--webhook-url"),
    ],
)
def test_options_without_their_partner_are_wrong_usage(
    invoke: Callable[..., Result], options: tuple[str, ...], words: str
) -> None:
    """An option that would have no effect without another one names it; nothing is started."""
    result = invoke("sandbox", *options)

    assert (2, True) == (result.exit_code, words in result.stderr)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--chaos", "mobil"), "mobile"),
        (("--chaos", "absent.toml"), "absent.toml"),
        (("--tls-cert", __file__, "--tls-key", __file__), "PEM"),
        (("--tls", "--tls-name", "http://veriff:8800"), "host names"),
        (("--webhook-url", "example.com"), "webhook_url"),
    ],
)
def test_values_that_cannot_be_used_are_one_sentence(
    invoke: Callable[..., Result], options: tuple[str, ...], words: str
) -> None:
    """A profile, certificate, name or address that cannot be used is exit code 1 and a sentence with the remedy."""
    result = invoke("sandbox", "--port", "0", *options)

    assert (1, True, 1) == (result.exit_code, words in result.stderr, result.stderr.count("\n"))


@needs_posix
def test_open_shows_the_console_with_the_token_of_the_user(start: Start, tmp_path: Path) -> None:
    """--open starts the browser with the token, which neither stream shows if the user has chosen it."""
    token, opened, browser = tmp_path / "token", tmp_path / "opened", tmp_path / "browser"
    token.write_text("chosen-by-the-user\n")
    os.mkfifo(opened)
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    browser.chmod(0o700)

    options = ("--open", "--control-token-file", str(token))
    process = start("sandbox", "--port", "0", *options, BROWSER=f"{browser} %s")
    url = read_variables(process)["VERIFF_SANDBOX_URL"]

    assert opened.read_text() == f"{url}/_sandbox/?token=chosen-by-the-user"
    assert read_console(process).endswith("?token= and your token")
    with pytest.raises(HTTPError, match="401") as refused:
        urllib.request.urlopen(f"{url}/_sandbox/api/sessions", timeout=SECONDS)  # noqa: S310
    refused.value.close()


@pytest.mark.parametrize(("content", "words"), [(b"", "empty"), (b"\xff", "not text"), (b"short", "8 or more")])
def test_token_file_that_cannot_be_used_is_one_sentence(
    invoke: Callable[..., Result], tmp_path: Path, content: bytes, words: str
) -> None:
    """An empty file, a binary one and a short token are exit code 1 and a sentence that does not repeat them."""
    path = tmp_path / "token"
    path.write_bytes(content)

    result = invoke("sandbox", "--port", "0", "--control-token-file", str(path))

    assert (1, True, 1) == (result.exit_code, words in result.stderr, result.stderr.count("\n"))
    assert "short" not in result.stderr
