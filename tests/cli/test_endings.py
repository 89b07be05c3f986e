"""Every way a command ends: it reports the cause in its form, with the right exit code, and loses no data."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from click.testing import CliRunner

from tests.cli.conftest import COMMAND, environment, start_process
from veriff_async import ConfigurationError, VeriffClient
from veriff_async.batch import JobResult, JobState
from veriff_async.cli._commands import cli
from veriff_async.cli._runtime import CommandLine
from veriff_async.cli.batch.results import open_results, wait_for_reader
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import click

    from veriff_async.sandbox import ReceivedRequest

    Run = Callable[..., subprocess.CompletedProcess[str]]

if sys.platform == "win32":
    pytest.skip("these ends come from signals, pipes and limits of POSIX", allow_module_level=True)

PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(2000) + b"\xff\xd9"
SECONDS: Final = 60.0
BATCH_NAN: Final = ("batch", "run", "jobs.csv", "--journal", "j.db", "--out", "o.jsonl", "--timeout", "nan")
EXIT_CODES: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class SignallingSandbox:
    """A sandbox that can signal a process at a request of a method and path."""

    def __init__(self) -> None:
        """Create a sandbox that decides immediately."""
        self.callback: Callable[[ReceivedRequest], None] = lambda _request: None
        self.sandbox = Sandbox(decide_after=0, on_request=self._on_request)

    def _on_request(self, request: ReceivedRequest) -> None:
        self.callback(request)

    def signal_at(self, process: subprocess.Popen[str], number: int, method: str, path: str = "") -> None:
        """Send a signal once, after the first request of this method and path."""

        def callback(request: ReceivedRequest) -> None:
            if request.method == method and path in request.path:
                self.callback = lambda _request: None
                process.send_signal(number)

        self.callback = callback


@pytest.fixture
def service() -> Iterator[SignallingSandbox]:
    """Run a signalling sandbox."""
    service = SignallingSandbox()
    with service.sandbox:
        yield service


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of the commands, which holds a picture and a manifest of six jobs."""
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    (tmp_path / "jobs.csv").write_text("id,face\n" + "".join(f"u{number},a.jpg\n" for number in range(6)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start_command(
    *words: str, environ: Mapping[str, str], stdout: int | None = subprocess.PIPE, module: str | None = None
) -> subprocess.Popen[str]:
    """Start the command."""
    if module is None:
        return start_process(*words, variables=environ, stdout=stdout, stderr=subprocess.PIPE, text=True)
    command = (sys.executable, "-m", module, *words)
    return subprocess.Popen(  # noqa: S603  our own command
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment(environ)
    )


def parse_errors(stderr: str) -> list[dict[str, object]]:
    """Return the errors of a command with --json; every line of standard error is a JSON object."""
    lines = [json.loads(line) for line in stderr.splitlines()]
    return [line["error"] for line in lines if "error" in line]


def create_result(job_id: str) -> JobResult:
    """Create the result of a job."""
    return JobResult(job_id=job_id, session_id="8f0d1ab6", state=JobState.FAILED)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_end_a_batch_like_ctrl_c(
    folder: Path, service: SignallingSandbox, number: signal.Signals
) -> None:
    """The batch waits for creations in progress and prints the command to continue; exit code 128 plus the signal."""
    words = ("batch", "run", "jobs.csv", "--journal", "the.db", "--out", "r.jsonl", "--json", "--concurrency", "2")
    process = start_command(*words, environ=service.sandbox.environ)
    service.signal_at(process, number, "PATCH")
    out, err = process.communicate(timeout=SECONDS)

    assert (EXIT_CODES[number], "") == (process.returncode, out), err
    [error] = parse_errors(err)
    assert ("Interrupted", EXIT_CODES[number], number.name) == (error["type"], error["exit_code"], error["signal"])
    assert "veriff-async batch resume" in str(error["advice"])
    result = start_command("batch", "resume", "--journal", "the.db", "--json", environ=service.sandbox.environ)
    out, err = result.communicate(timeout=SECONDS)
    assert [{"state": "decided", "detail": "approved", "jobs": 6}] == json.loads(out)["outcomes"], err
    assert 6 == len(service.sandbox.sessions)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_creation_reports_the_session_id(
    folder: Path, service: SignallingSandbox, number: signal.Signals
) -> None:
    """A command that is stopped during a creation waits for the response."""
    process = start_command("verify", "--face", "a.jpg", environ=service.sandbox.environ)
    service.signal_at(process, number, "POST", "/v1/sessions")
    _, err = process.communicate(timeout=SECONDS)

    assert EXIT_CODES[number] == process.returncode
    assert service.sandbox.sessions[0].id in err, err
    assert folder.exists()


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["words", "json"])
@pytest.mark.parametrize("target", ["full", "closed", "no reader"])
def test_result_that_cannot_be_written_is_reported_on_standard_error(
    folder: Path, service: SignallingSandbox, target: str, form: tuple[str, ...]
) -> None:
    """Standard error has the session's id and the command that reads its decision."""
    words = ("verify", "--face", str(folder / "a.jpg"), *form)
    with ExitStack() as stack:
        if target == "closed":
            shell = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *words]
            process = subprocess.Popen(  # noqa: S603  our own command
                shell, stderr=subprocess.PIPE, text=True, env=environment(service.sandbox.environ)
            )
        else:
            reader, writer = os.pipe()
            os.close(reader)
            full = os.open("/dev/full", os.O_WRONLY) if target == "full" else writer
            stack.callback(os.close, writer)
            process = start_command(*words, environ=service.sandbox.environ, stdout=full)
        _, err = process.communicate(timeout=SECONDS)

    session = service.sandbox.sessions[0]
    assert 1 == process.returncode, err
    assert "approved" == session.status
    if form:
        [error] = parse_errors(err)
        assert ("OutputError", session.id) == (error["type"], error["session_id"])
        assert f"veriff-async decision {session.id}" in str(error["advice"])
    else:
        assert "Error: The result cannot be written to standard output" in err
        assert f"veriff-async decision {session.id}" in err
        assert "Traceback" not in err


def test_results_can_be_written_to_a_pipe(folder: Path, service: SignallingSandbox) -> None:
    """`--out /dev/stdout` writes each result to the pipe, and the document after them."""
    words = ("batch", "run", "jobs.csv", "--journal", "the.db", "--out", "/dev/stdout", "--json")
    out, err = start_command(*words, environ=service.sandbox.environ).communicate(timeout=SECONDS)

    lines, document = out.splitlines()[:6], out.split("\n", 6)[6]
    assert {f"u{number}" for number in range(6)} == {json.loads(line)["job_id"] for line in lines}, err
    assert 6 == json.loads(document)["total"]
    assert folder.exists()


def test_results_and_the_document_can_share_a_file(folder: Path, service: SignallingSandbox) -> None:
    """`--out /dev/stdout > file` writes one after the other; neither overwrites the other."""
    with (folder / "all.txt").open("w") as file:
        words = ("batch", "run", "jobs.csv", "--journal", "the.db", "--out", "/dev/stdout", "--json")
        process = start_command(*words, environ=service.sandbox.environ, stdout=file.fileno())
        _, err = process.communicate(timeout=SECONDS)

    out = (folder / "all.txt").read_text()
    assert 6 == len({json.loads(line)["job_id"] for line in out.splitlines()[:6]}), err
    assert 6 == json.loads(out.split("\n", 6)[6])["total"]


async def write_results(path: Path, *job_ids: str) -> None:
    """Write results."""
    async with AsyncExitStack() as parts:
        await parts.enter_async_context(wait_for_reader(path))
        results = await to_thread.run_sync(parts.enter_context, open_results(path, show_person=False))
        for job_id in job_ids:
            await results.add(create_result(job_id))


def test_results_in_a_named_pipe_wait_for_its_reader(tmp_path: Path) -> None:
    """A slow reader receives every line whole."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines: list[str] = []
    reader = Thread(target=lambda: lines.extend(pipe.read_text().splitlines()))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_results, pipe, *(f"u{number}" for number in range(2000)))  # more than a pipe holds
            await anyio.lowlevel.checkpoint()
            reader.start()

    anyio.run(main)
    reader.join()
    assert [f"u{number}" for number in range(2000)] == [json.loads(line)["job_id"] for line in lines]


def test_wait_for_the_reader_of_a_named_pipe_can_be_cancelled(tmp_path: Path) -> None:
    """Ctrl-C ends a command that waits for a reader."""
    os.mkfifo(tmp_path / "pipe")

    async def main() -> bool:
        with anyio.move_on_after(0.01) as scope:
            await write_results(tmp_path / "pipe", "u1")
        return scope.cancelled_caught

    assert anyio.run(main)


def test_full_disk_leaves_no_partial_line(tmp_path: Path) -> None:
    """After a partial write the file is as it was before, and the next run appends to it."""
    path = tmp_path / "r.jsonl"
    anyio.run(write_results, path, "u1")
    content = path.read_bytes()
    import resource  # noqa: PLC0415  missing on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 20, hard))
    try:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            anyio.run(write_results, path, "u2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert content == path.read_bytes()
    anyio.run(write_results, path, "u1", "u2")
    assert ["u1", "u2"] == [json.loads(line)["job_id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("device", ["/dev/full", "/dev/null"])
def test_results_can_be_written_to_a_device(device: str) -> None:
    """A device is neither read nor repaired; a full one is an error."""
    if device == "/dev/null":
        anyio.run(write_results, Path(device), "u1")
    else:
        with pytest.raises(ConfigurationError, match="No space left"):
            anyio.run(write_results, Path(device), "u1")


@pytest.mark.parametrize("link", ["same", "link", "hard link"])
def test_results_file_has_one_writer(tmp_path: Path, link: str) -> None:
    """Two runs cannot write to the same file, even through a link, and results cannot replace an input file."""
    path, other = tmp_path / "r.jsonl", tmp_path / "other.jsonl"
    path.touch()
    if link == "link":
        other.symlink_to(path)
    elif link == "hard link":
        other.hardlink_to(path)
    else:
        other = path
    with (
        open_results(path, show_person=False),
        pytest.raises(ConfigurationError, match="Another run writes"),
        open_results(other, show_person=False),
    ):
        pytest.fail("it was opened twice")
    with (
        pytest.raises(ConfigurationError, match="an input file of the batch"),
        open_results(other, show_person=False, other_files=[path, tmp_path / "missing.db"]),
    ):
        pytest.fail("it was opened")


def test_with_json_every_failure_is_an_object(folder: Path) -> None:
    """Wrong usage and errors are one JSON object in a line, also when the package runs as a module."""
    usage = start_command("verify", "--json", "--fornt", "a.jpg", environ={}, module="veriff_async")
    failed = start_command("batch", "status", "--json", "--journal", str(folder / "a.jpg"), environ={})
    for process, kind, code in ((usage, "NoSuchOption", 2), (failed, "JournalError", 1)):
        out, err = process.communicate(timeout=SECONDS)
        assert "" == out
        [error] = parse_errors(err)
        assert (kind, code, code) == (error["type"], error["exit_code"], process.returncode)


async def proxy_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, targets: list[str]) -> None:
    """Proxy one request of plain http."""
    method, target, _ = (await reader.readline()).decode().split(" ", 2)
    targets.append(f"{method} {target}")
    url = urlsplit(target)
    lines: list[bytes] = []
    while (line := await reader.readline()) not in {b"\r\n", b""}:
        lines.append(line)
    length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length")), 0)
    body = await reader.readexactly(length)
    response, forward = await asyncio.open_connection(url.hostname, url.port)
    headers = [line for line in lines if not line.lower().startswith(b"connection")]
    forward.write(
        b"".join((f"{method} {url.path} HTTP/1.1\r\nConnection: close\r\n".encode(), *headers, b"\r\n", body))
    )
    writer.write(await response.read())
    forward.close()
    writer.close()


@pytest.mark.anyio
async def test_proxy_option_applies_to_requests_and_to_the_command_to_continue(manual_sandbox: Sandbox) -> None:
    """`--proxy` wins over NO_PROXY."""
    targets: list[str] = []
    async with VeriffClient.from_env(manual_sandbox.environ) as veriff:
        session = await veriff.create_session()
    async with await asyncio.start_server(lambda r, w: proxy_request(r, w, targets), "127.0.0.1", 0) as server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        words = ("decision", session.id, "--wait", "--timeout", "0.5", "--json", "--proxy", proxy)
        environ = {**manual_sandbox.environ, "NO_PROXY": "*", "no_proxy": "127.0.0.1"}
        process = await to_thread.run_sync(lambda: start_command(*words, environ=environ))
        _, err = await to_thread.run_sync(lambda: process.communicate(timeout=SECONDS))

    [error] = parse_errors(err)
    assert 4 == process.returncode
    assert f"GET {manual_sandbox.base_url}/v1/sessions/{session.id}/decision" in targets
    assert f"--proxy {proxy}" in str(error["advice"])


@pytest.mark.parametrize("value", ["http://ada:secret@127.0.0.1:1", "http://:secret@127.0.0.1:1", "socks5://a:1", "x"])
def test_proxy_with_a_password_or_of_another_kind_is_refused(value: str) -> None:
    """Every user can read arguments, so a password belongs in HTTPS_PROXY; the error does not show it."""
    result = CliRunner().invoke(cli, ["decision", "8f0d1ab6", "--proxy", value])

    assert 2 == result.exit_code
    assert "secret" not in result.output
    assert "--proxy" in result.output


def test_proxy_option_leaves_the_environment_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's environment is restored when the command ends, and doctor reports the proxy."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("http_proxy", raising=False)
    environ = {"VERIFF_API_KEY": "key", "VERIFF_SHARED_SECRET": "secret", "VERIFF_BASE_URL": "http://127.0.0.1:1"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    result = CliRunner().invoke(cli, ["doctor", "--json", "--proxy", "http://127.0.0.1:2"])

    results = {row["name"]: (row["outcome"], row["message"]) for row in json.loads(result.output)["results"]}
    assert ("ok", "Connections go through the proxy of --proxy.") == results["proxies"]
    assert "the proxy connects" in results["connection"][1]
    assert "http://127.0.0.1:9" == os.environ["HTTPS_PROXY"]
    assert "http_proxy" not in os.environ


@pytest.mark.parametrize("arguments", [("verify", "--face", "a.jpg", "--timeout", "nan"), BATCH_NAN])
def test_nan_as_a_timeout_is_wrong_usage_before_a_creation(
    folder: Path, service: SignallingSandbox, arguments: tuple[str, ...]
) -> None:
    """NaN passes every comparison of a range, but no session is created for it."""
    result = CliRunner().invoke(cli, [*arguments, "--json"], env=service.sandbox.environ)

    assert 2 == result.exit_code
    assert "is not a number of seconds" in str(parse_errors(result.stderr))
    assert [] == list(service.sandbox.sessions)


@pytest.mark.parametrize("option", ["--timeout", "--max-outage"])
def test_no_option_for_seconds_accepts_nan(folder: Path, option: str) -> None:
    """Every option for seconds uses the same type."""
    result = CliRunner().invoke(cli, ["batch", "run", "jobs.csv", option, "nan"])

    assert (2, True) == (result.exit_code, "is not a number of seconds" in result.stderr)


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["words", "json"])
def test_closed_standard_input_is_wrong_usage(folder: Path, form: tuple[str, ...]) -> None:
    """A person that cannot be read, because standard input is closed, is reported without a traceback."""
    words = shlex.join([*COMMAND, "verify", "--face", "a.jpg", "--person", "-", *form])
    result = subprocess.run(  # noqa: S602  our own command
        f"{words} <&-", shell=True, capture_output=True, text=True, check=False, timeout=SECONDS, env=environment({})
    )

    assert (2, "") == (result.returncode, result.stdout)
    assert "standard input is closed" in result.stderr
    assert "Traceback" not in result.stderr


def test_manifest_cannot_be_a_pipe(tmp_path: Path, service: SignallingSandbox) -> None:
    """A manifest is read more than once, so a pipe is refused before it is opened and blocks."""
    os.mkfifo(tmp_path / "jobs.csv")
    out, journal = str(tmp_path / "out.jsonl"), str(tmp_path / "batch.db")
    arguments = ["batch", "run", str(tmp_path / "jobs.csv"), "--journal", journal, "--out", out]
    result = CliRunner().invoke(cli, arguments, env=service.sandbox.environ)

    assert (1, True) == (result.exit_code, "cannot be a pipe" in result.stderr)


def test_signal_during_import_is_reported_as_json() -> None:
    """With --json a signal while the command is still imported gives an object too."""

    class Slow(CommandLine):
        def get_command(self, ctx: click.Context, cmd_name: str) -> None:
            raise KeyboardInterrupt

    result = CliRunner().invoke(Slow("veriff-async"), ["verify", "--json"])

    assert 130 == result.exit_code
    assert ["Interrupted"] == [error["type"] for error in parse_errors(result.stderr)]
