"""`veriff-async sandbox`, as a separate process."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import urllib.request
from typing import TYPE_CHECKING

import anyio
import pytest
from click.testing import CliRunner

from tests.conditions import needs_posix
from veriff_async import Decision, Media, PollPolicy, VeriffClient
from veriff_async.cli._commands import cli
from veriff_async.cli.sandbox import _addresses

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

SECONDS = 60.0
PICTURE = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000) + b"\xff\xd9"


def read_variables(process: subprocess.Popen[str], count: int = 6) -> dict[str, str]:
    """Read the export lines as a shell does: three addresses, key, secret and integration, unless `count` is given."""
    assert process.stdout is not None
    environ = {}
    for _ in range(count):
        export, assignment = shlex.split(process.stdout.readline())
        assert export == "export"
        name, _, value = assignment.partition("=")
        environ[name] = value
    return environ


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


@needs_posix
def test_each_request_is_one_log_line(start: Start) -> None:
    """Standard error has the time, status, method and path of each request."""
    process = start("sandbox", "--port", "0", "--decide-after", "0")
    anyio.run(verify, read_variables(process))

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)

    lines = [line.split() for line in errors.splitlines()]
    assert ["201", "POST", "/v1/sessions"] in [line[1:] for line in lines]
    assert any(line[1:3] == ["200", "PATCH"] for line in lines)


def test_sandbox_on_all_interfaces_prints_reachable_addresses(start: Start) -> None:
    """With --host 0.0.0.0 each printed address answers GET /healthz: localhost and those for other machines."""
    addresses = _addresses()
    process = start("sandbox", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    base_url = read_variables(process)["VERIFF_BASE_URL"]
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(1 + len(addresses))]

    urls = [base_url, *(re.findall(r"http://[0-9.:]+", line)[0] for line in lines[1:])]

    assert base_url in lines[0]
    assert [f"http://{address}:{base_url.rpartition(':')[2]}" for address in addresses] == urls[1:]
    for url in urls:
        with urllib.request.urlopen(f"{url}/healthz", timeout=SECONDS) as answer:  # noqa: S310
            assert answer.status == 200


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
    printed = read_variables(process, 3)

    decision = anyio.run(verify, {**printed, "VERIFF_API_KEY": key, "VERIFF_SHARED_SECRET": secret})
    process.send_signal(signal.SIGINT)
    written, errors = process.communicate(timeout=SECONDS)

    assert decision.is_approved
    assert list(printed) == ["VERIFF_BASE_URL", "VERIFF_FEEDBACK_URL", "VERIFF_SYNC_URL"]
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


def test_every_webhook_requires_webhook_url() -> None:
    """--every-webhook without --webhook-url is wrong usage."""
    assert CliRunner().invoke(cli, ["sandbox", "--every-webhook"]).exit_code == 2


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
        while "webhook" not in (line := process.stderr.readline()):
            assert line

    assert head.startswith(b"post /hook")
    assert b"x-hmac-signature" in head
    assert first in body
    assert "200" in line
