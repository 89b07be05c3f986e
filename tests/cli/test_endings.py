"""However a command ends, it reports that in its form, with the right exit code, and loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import resource
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

from tests.cli.conftest import COMMAND, environment
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

PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(2000) + b"\xff\xd9"
SECONDS: Final = 60.0
BATCH_NAN: Final = ("batch", "run", "jobs.csv", "--journal", "j.db", "--out", "o.jsonl", "--timeout", "nan")
ENDED: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Books:
    """A sandbox that calls back at a request of a method and path."""

    def __init__(self) -> None:
        """Make the sandbox; it decides at once."""
        self.act: Callable[[ReceivedRequest], None] = lambda _seen: None
        self.sandbox = Sandbox(decide_after=0, on_request=self._seen)

    def _seen(self, seen: ReceivedRequest) -> None:
        self.act(seen)

    def kill_at(self, process: subprocess.Popen[str], number: int, method: str, path: str = "") -> None:
        """Send a signal when a request was answered, once."""

        def act(seen: ReceivedRequest) -> None:
            if seen.method == method and path in seen.path:
                self.act = lambda _seen: None
                process.send_signal(number)

        self.act = act


@pytest.fixture
def books() -> Iterator[Books]:
    """Give a sandbox."""
    books = Books()
    with books.sandbox:
        yield books


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with a picture and a manifest of six jobs, in which commands run."""
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    (tmp_path / "jobs.csv").write_text("id,face\n" + "".join(f"u{number},a.jpg\n" for number in range(6)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begin(
    *words: str, environ: Mapping[str, str], stdout: int | None = subprocess.PIPE, module: str | None = None
) -> subprocess.Popen[str]:
    """Start the command."""
    command = COMMAND if module is None else (sys.executable, "-m", module)
    return subprocess.Popen(  # noqa: S603  our own command
        [*command, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment(environ)
    )


def errors_of(stderr: str) -> list[dict[str, object]]:
    """Return the errors of a command with --json; every line of standard error is a JSON object."""
    lines = [json.loads(line) for line in stderr.splitlines()]
    return [line["error"] for line in lines if "error" in line]


def result_of(job_id: str) -> JobResult:
    """Return a result that is written."""
    return JobResult(job_id=job_id, session_id="8f0d1ab6", state=JobState.FAILED)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_batch_that_is_terminated_ends_as_with_ctrl_c(folder: Path, books: Books, number: signal.Signals) -> None:
    """SIGTERM and SIGHUP wait for creations under way, and say how to go on, with 128 and the signal's number."""
    words = ("batch", "run", "jobs.csv", "--journal", "the.db", "--out", "r.jsonl", "--json", "--concurrency", "2")
    process = begin(*words, environ=books.sandbox.environ)
    books.kill_at(process, number, "PATCH")
    out, err = process.communicate(timeout=SECONDS)

    assert (ENDED[number], "") == (process.returncode, out), err
    [error] = errors_of(err)
    assert ("Interrupted", ENDED[number], number.name) == (error["type"], error["exit_code"], error["signal"])
    assert "veriff-async batch resume" in str(error["advice"])
    done = begin("batch", "resume", "--journal", "the.db", "--json", environ=books.sandbox.environ)
    out, err = done.communicate(timeout=SECONDS)
    assert [{"state": "decided", "detail": "approved", "jobs": 6}] == json.loads(out)["outcomes"], err
    assert 6 == len(books.sandbox.sessions)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_session_that_is_being_created_is_named(folder: Path, books: Books, number: signal.Signals) -> None:
    """A command that is stopped during a creation waits for its answer, and reports the session's id."""
    process = begin("verify", "--face", "a.jpg", environ=books.sandbox.environ)
    books.kill_at(process, number, "POST", "/v1/sessions")
    _, err = process.communicate(timeout=SECONDS)

    assert ENDED[number] == process.returncode
    assert books.sandbox.sessions[0].id in err, err
    assert folder.exists()


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["words", "json"])
@pytest.mark.parametrize("where", ["full", "closed", "no reader"])
def test_a_result_that_cannot_be_written_is_not_lost(
    folder: Path, books: Books, where: str, form: tuple[str, ...]
) -> None:
    """When standard output takes nothing, the session's id and the way to its decision are on standard error."""
    words = ("verify", "--face", str(folder / "a.jpg"), *form)
    with ExitStack() as stack:
        if where == "closed":
            shell = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *words]
            process = subprocess.Popen(  # noqa: S603  our own command
                shell, stderr=subprocess.PIPE, text=True, env=environment(books.sandbox.environ)
            )
        else:
            reader, writer = os.pipe()
            os.close(reader)
            full = os.open("/dev/full", os.O_WRONLY) if where == "full" else writer
            stack.callback(os.close, writer)
            process = begin(*words, environ=books.sandbox.environ, stdout=full)
        _, err = process.communicate(timeout=SECONDS)

    session = books.sandbox.sessions[0]
    assert 1 == process.returncode, err
    assert "approved" == session.status
    if form:
        [error] = errors_of(err)
        assert ("OutputError", session.id) == (error["type"], error["session_id"])
        assert f"veriff-async decision {session.id}" in str(error["advice"])
    else:
        assert "Error: The result cannot be written to standard output" in err
        assert f"veriff-async decision {session.id}" in err
        assert "Traceback" not in err


def test_results_go_through_a_pipe(folder: Path, books: Books) -> None:
    """`--out /dev/stdout` writes each result to the pipe, and the document after them."""
    words = ("batch", "run", "jobs.csv", "--journal", "the.db", "--out", "/dev/stdout", "--json")
    out, err = begin(*words, environ=books.sandbox.environ).communicate(timeout=SECONDS)

    lines, document = out.splitlines()[:6], out.split("\n", 6)[6]
    assert {f"u{number}" for number in range(6)} == {json.loads(line)["job_id"] for line in lines}, err
    assert 6 == json.loads(document)["total"]
    assert folder.exists()


def test_results_and_the_document_share_a_file(folder: Path, books: Books) -> None:
    """`--out /dev/stdout > file` writes one after the other; neither overwrites the other."""
    with (folder / "all.txt").open("w") as file:
        words = ("batch", "run", "jobs.csv", "--journal", "the.db", "--out", "/dev/stdout", "--json")
        process = begin(*words, environ=books.sandbox.environ, stdout=file.fileno())
        _, err = process.communicate(timeout=SECONDS)

    out = (folder / "all.txt").read_text()
    assert 6 == len({json.loads(line)["job_id"] for line in out.splitlines()[:6]}), err
    assert 6 == json.loads(out.split("\n", 6)[6])["total"]


async def written(path: Path, *job_ids: str) -> None:
    """Write results."""
    async with AsyncExitStack() as parts:
        await parts.enter_async_context(wait_for_reader(path))
        results = await to_thread.run_sync(parts.enter_context, open_results(path, show_person=False))
        for job_id in job_ids:
            await results.add(result_of(job_id))


def test_a_named_pipe_waits_for_its_reader(tmp_path: Path) -> None:
    """Results for a named pipe wait until it is read, however slowly, and each line arrives whole."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = Thread(target=lambda: found.extend(pipe.read_text().splitlines()))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(written, pipe, *(f"u{number}" for number in range(2000)))  # more than a pipe holds
            await anyio.lowlevel.checkpoint()
            reader.start()

    anyio.run(main)
    reader.join()
    assert [f"u{number}" for number in range(2000)] == [json.loads(line)["job_id"] for line in found]


def test_a_wait_for_a_reader_can_be_cancelled(tmp_path: Path) -> None:
    """Ctrl-C ends a command that waits for the reader of a named pipe."""
    os.mkfifo(tmp_path / "pipe")

    async def main() -> bool:
        with anyio.move_on_after(0.01) as scope:
            await written(tmp_path / "pipe", "u1")
        return scope.cancelled_caught

    assert anyio.run(main)


def test_a_full_disk_tears_no_line(tmp_path: Path) -> None:
    """A disk that takes a part of a line leaves the file as it was before, and the next run appends to it."""
    path = tmp_path / "r.jsonl"
    anyio.run(written, path, "u1")
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, hard))
    try:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            anyio.run(written, path, "u2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert whole == path.read_bytes()
    anyio.run(written, path, "u1", "u2")
    assert ["u1", "u2"] == [json.loads(line)["job_id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("device", ["/dev/full", "/dev/null"])
def test_a_device_holds_no_results(device: str) -> None:
    """A device is written to and neither read nor repaired; one that is full is an error."""
    if device == "/dev/null":
        anyio.run(written, Path(device), "u1")
    else:
        with pytest.raises(ConfigurationError, match="No space left"):
            anyio.run(written, Path(device), "u1")


@pytest.mark.parametrize("how", ["same", "link", "hard link"])
def test_one_file_of_results_has_one_writer(tmp_path: Path, how: str) -> None:
    """Two runs with journals of their own cannot write to one file, whatever it is called."""
    path, other = tmp_path / "r.jsonl", tmp_path / "other.jsonl"
    path.touch()
    if how == "link":
        other.symlink_to(path)
    elif how == "hard link":
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
    """Wrong usage and errors alike are one JSON object in a line, also when the package is run as a module."""
    usage = begin("verify", "--json", "--fornt", "a.jpg", environ={}, module="veriff_async")
    failed = begin("batch", "status", "--json", "--journal", str(folder / "a.jpg"), environ={})
    for process, kind, code in ((usage, "NoSuchOption", 2), (failed, "JournalError", 1)):
        out, err = process.communicate(timeout=SECONDS)
        assert "" == out
        [error] = errors_of(err)
        assert (kind, code, code) == (error["type"], error["exit_code"], process.returncode)


async def proxied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[str]) -> None:
    """Be a proxy of plain http for one request."""
    method, target, _ = (await reader.readline()).decode().split(" ", 2)
    seen.append(f"{method} {target}")
    there = urlsplit(target)
    lines: list[bytes] = []
    while (line := await reader.readline()) not in {b"\r\n", b""}:
        lines.append(line)
    length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length")), 0)
    body = await reader.readexactly(length)
    answer, forward = await asyncio.open_connection(there.hostname, there.port)
    kept = [line for line in lines if not line.lower().startswith(b"connection")]
    forward.write(b"".join((f"{method} {there.path} HTTP/1.1\r\nConnection: close\r\n".encode(), *kept, b"\r\n", body)))
    writer.write(await answer.read())
    forward.close()
    writer.close()


@pytest.mark.anyio
async def test_a_proxy_is_used_and_named_in_advice(patient: Sandbox) -> None:
    """`--proxy` sends requests through the proxy, whatever NO_PROXY says, and so does the command to go on with."""
    seen: list[str] = []
    async with VeriffClient.from_env(patient.environ) as veriff:
        session = await veriff.create_session()
    async with await asyncio.start_server(lambda r, w: proxied(r, w, seen), "127.0.0.1", 0) as server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        words = ("decision", session.id, "--wait", "--timeout", "0.5", "--json", "--proxy", proxy)
        environ = {**patient.environ, "NO_PROXY": "*", "no_proxy": "127.0.0.1"}
        process = await to_thread.run_sync(lambda: begin(*words, environ=environ))
        _, err = await to_thread.run_sync(lambda: process.communicate(timeout=SECONDS))

    [error] = errors_of(err)
    assert 4 == process.returncode
    assert f"GET {patient.base_url}/v1/sessions/{session.id}/decision" in seen
    assert f"--proxy {proxy}" in str(error["advice"])


@pytest.mark.parametrize("value", ["http://ada:secret@127.0.0.1:1", "http://:secret@127.0.0.1:1", "socks5://a:1", "x"])
def test_a_proxy_with_a_password_or_of_another_kind_is_refused(value: str) -> None:
    """Arguments can be read by every user, so a password belongs into HTTPS_PROXY; it is not shown either."""
    done = CliRunner().invoke(cli, ["decision", "8f0d1ab6", "--proxy", value])

    assert 2 == done.exit_code
    assert "secret" not in done.output
    assert "--proxy" in done.output


def test_a_proxy_is_for_its_command_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the process is as before when the command has ended, and doctor reports the proxy."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("http_proxy", raising=False)
    environ = {"VERIFF_API_KEY": "key", "VERIFF_SHARED_SECRET": "secret", "VERIFF_BASE_URL": "http://127.0.0.1:1"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    done = CliRunner().invoke(cli, ["doctor", "--json", "--proxy", "http://127.0.0.1:2"])

    results = {each["name"]: (each["outcome"], each["message"]) for each in json.loads(done.output)["results"]}
    assert ("ok", "Connections go through the proxy of --proxy.") == results["proxies"]
    assert "the proxy connects" in results["connection"][1]
    assert "http://127.0.0.1:9" == os.environ["HTTPS_PROXY"]
    assert "http_proxy" not in os.environ


@pytest.mark.parametrize("arguments", [("verify", "--face", "a.jpg", "--timeout", "nan"), BATCH_NAN])
def test_a_time_that_is_not_a_number_is_noticed_before_a_creation(
    folder: Path, books: Books, run: Run, arguments: tuple[str, ...]
) -> None:
    """NaN lies within every range, and is wrong usage all the same: no session is created for it."""
    ended = run(*arguments, "--json", **books.sandbox.environ)

    assert 2 == ended.returncode
    assert "is not a number of seconds" in str(errors_of(ended.stderr))
    assert [] == list(books.sandbox.sessions)


@pytest.mark.parametrize("option", ["--timeout", "--max-outage"])
def test_no_option_takes_seconds_that_are_not_a_number(folder: Path, option: str) -> None:
    """Every option for seconds is checked by one type."""
    ended = CliRunner().invoke(cli, ["batch", "run", "jobs.csv", option, "nan"])

    assert (2, True) == (ended.exit_code, "is not a number of seconds" in ended.stderr)


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["words", "json"])
def test_a_closed_standard_input_is_wrong_usage(folder: Path, form: tuple[str, ...]) -> None:
    """A person that cannot be read, because standard input is closed, is reported without a traceback."""
    words = shlex.join([*COMMAND, "verify", "--face", "a.jpg", "--person", "-", *form])
    ended = subprocess.run(  # noqa: S602  our own command
        f"{words} <&-", shell=True, capture_output=True, text=True, check=False, timeout=SECONDS, env=environment({})
    )

    assert (2, "") == (ended.returncode, ended.stdout)
    assert "standard input is closed" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_manifest_is_not_a_pipe(tmp_path: Path, books: Books) -> None:
    """A manifest is read more than once, so a pipe is refused before it is opened, and nothing hangs."""
    os.mkfifo(tmp_path / "jobs.csv")
    out, journal = str(tmp_path / "out.jsonl"), str(tmp_path / "batch.db")
    arguments = ["batch", "run", str(tmp_path / "jobs.csv"), "--journal", journal, "--out", out]
    ended = CliRunner().invoke(cli, arguments, env=books.sandbox.environ)

    assert (1, True) == (ended.exit_code, "cannot be a pipe" in ended.stderr)


def test_a_signal_before_the_command_is_known_is_reported_in_its_form() -> None:
    """With --json a signal that comes while the command is still imported gives an object too."""

    class Slow(CommandLine):
        def get_command(self, ctx: click.Context, cmd_name: str) -> None:
            raise KeyboardInterrupt

    ended = CliRunner().invoke(Slow("veriff-async"), ["verify", "--json"])

    assert 130 == ended.exit_code
    assert ["Interrupted"] == [error["type"] for error in errors_of(ended.stderr)]
