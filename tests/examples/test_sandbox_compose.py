"""The example in Node.js, and the files that run it in containers."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from queue import SimpleQueue
from shutil import which
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

from tests.pages import ROOT
from veriff_async import Credentials
from veriff_async.cli._commands import cli
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FOLDER: Final = ROOT / "examples" / "sandbox-compose"
SECONDS: Final = 60.0

needs_node = pytest.mark.skipif(which("node") is None, reason="Node.js is not installed")


def run_app(variables: Mapping[str, str]) -> str:
    """Run the application with these variables, and return its output."""
    environ = {**os.environ, **variables}
    if ca_file := environ.get("VERIFF_CA_BUNDLE"):
        environ["NODE_EXTRA_CA_CERTS"] = ca_file
    result = subprocess.run(  # noqa: S603  a program of the repository
        [which("node") or "node", str(FOLDER / "app.mjs")],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env=environ,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture
def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture
def compose() -> dict[str, Any]:
    """Return the services of the compose file."""
    services: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return services


@pytest.fixture
def dockerfile() -> Callable[[str], list[str]]:
    """Return a function that reads the words of an instruction in JSON form from the Dockerfile."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")

    def read(instruction: str) -> list[str]:
        found = re.findall(rf"^ *{instruction} (\[.*\])$", text, re.MULTILINE)
        assert len(found) == 1
        words: list[str] = json.loads(found[0])
        return words

    return read


@needs_node
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("first_name", "expected"), [("Decline", r"declined \(code 9102\): \w.*"), ("Ada", r"approved \(code 9001\): .*")]
)
def test_application_in_another_language_completes_a_flow(
    free_port: int, *, tls: bool, first_name: str, expected: str
) -> None:
    """The Node.js application signs, uploads, submits, checks the webhook's signature, and prints the decision."""
    with Sandbox(tls=tls, decide_after=0, webhook_url=f"http://127.0.0.1:{free_port}/webhooks/veriff") as sandbox:
        session, decision = run_app({**sandbox.environ, "PORT": str(free_port), "FIRST_NAME": first_name}).splitlines()

        (view,) = sandbox.sessions
        assert session == f"session {view.id}"
        assert len(view.media) == 2
        assert re.fullmatch(expected, decision)
        assert [delivery.status for delivery in sandbox.deliveries] == [200]


@needs_node
def test_application_refuses_a_forged_webhook(free_port: int) -> None:
    """A webhook that is signed with another secret is answered with 401, and does not decide."""
    submitted, statuses = Event(), SimpleQueue[int | None]()
    with Sandbox(
        webhook_url=f"http://127.0.0.1:{free_port}/webhooks/veriff",
        on_request=lambda request: submitted.set() if request.method == "PATCH" else None,
        on_delivery=lambda delivery: statuses.put(delivery.status),
    ) as sandbox:
        true = sandbox.credentials
        environ = {**os.environ, **sandbox.environ, "PORT": str(free_port), "FIRST_NAME": "Ada"}
        with subprocess.Popen(  # noqa: S603  a program of the repository
            [which("node") or "node", str(FOLDER / "app.mjs")], stdout=subprocess.PIPE, text=True, env=environ
        ) as app:
            assert app.stdout is not None
            session_id = app.stdout.readline().split()[1]
            assert submitted.wait(SECONDS)
            sandbox.credentials = Credentials(true.api_key, "another secret than that of the application")
            sandbox.decide(session_id, "review")
            forged = statuses.get(timeout=SECONDS)
            sandbox.credentials = true
            sandbox.decide(session_id, "approved")  # a webhook sent again keeps its signature
            signed = statuses.get(timeout=SECONDS)
            printed = app.stdout.read()

    assert (forged, signed) == (401, 200)
    assert printed.startswith("approved")
    assert app.returncode == 0


def test_health_check_of_the_image_passes_and_fails(dockerfile: Callable[[str], list[str]]) -> None:
    """The command of HEALTHCHECK ends with 0 while a sandbox serves, and with an error afterwards."""
    with Sandbox() as sandbox:
        address = sandbox.base_url
        program, *arguments = (word.replace("http://127.0.0.1:8800", address) for word in dockerfile("CMD"))
        command = [sys.executable, *arguments]
        assert program == "python"
        assert address in arguments[-1]
        healthy = subprocess.run(command, check=False, timeout=SECONDS)  # noqa: S603  a command of the repository
    unhealthy = subprocess.run(  # noqa: S603  a command of the repository
        command, check=False, timeout=SECONDS, stderr=subprocess.DEVNULL
    )

    assert healthy.returncode == 0
    assert unhealthy.returncode != 0


def test_services_agree(compose: dict[str, Any], dockerfile: Callable[[str], list[str]]) -> None:
    """Both services have the same credentials, addresses that reach each other, and options that the command has."""
    sandbox, app = compose["sandbox"], compose["app"]
    words = [*dockerfile("ENTRYPOINT"), *sandbox["command"]]
    context = cli.make_context("veriff-async", ["--help-not-given"], ignore_unknown_options=True)
    command = cli.get_command(context, "sandbox")

    assert command is not None
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    assert f"http://app:{app['environment']['PORT']}/" in shlex.join(words)
    assert app["environment"]["VERIFF_BASE_URL"] == "http://sandbox:8800"
    assert sandbox["environment"].items() <= app["environment"].items()
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in compose.values())


@needs_node
def test_entry_point_of_the_image_serves_the_application(
    free_port: int, dockerfile: Callable[[str], list[str]], compose: dict[str, Any], tmp_path: Path
) -> None:
    """The command of the image, run without Docker, lets the application complete its flow; SIGTERM ends it with 0."""
    program, *arguments = (word.replace("/state", str(tmp_path)) for word in dockerfile("ENTRYPOINT"))
    variables = {**os.environ, **compose["sandbox"]["environment"], "PYTHONPATH": str(ROOT)}
    hook = f"http://127.0.0.1:{free_port}/webhooks/veriff"
    options = ["--port", "0", "--decide-after", "0", "--webhook-url", hook]
    with subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-m", "veriff_async.cli", *arguments, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=variables,
    ) as server:
        assert server.stdout is not None
        base_url = server.stdout.readline().strip().removeprefix("export VERIFF_BASE_URL=")
        printed = run_app({**compose["app"]["environment"], "VERIFF_BASE_URL": base_url, "PORT": str(free_port)})
        server.terminate()

    assert program == "veriff-async"
    assert "declined" in printed
    assert server.returncode == 0
    assert (tmp_path / "state.db").exists()
