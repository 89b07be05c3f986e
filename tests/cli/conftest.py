"""Fixtures that run the command as a real process, with or without a terminal."""

from __future__ import annotations

import logging
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner

from tests import fork_server
from tests.fork_server import start_python
from veriff_async.cli._commands import cli
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from click.testing import Result

COMMAND: Final = (sys.executable, *fork_server.COMMAND)
SECONDS: Final = 60.0
FOREIGN: Final = ("VERIFF_", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "TTY_", "PYTHONASYNCIODEBUG")
"""Prefixes of variables that a developer's shell may set and that change the output of commands."""


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that a developer's shell may set."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    # UTF-8 in every locale, so that tests find the same characters; `test_encodings` chooses others.
    return {**inherited, "PYTHONWARNINGS": "error", "PYTHONUTF8": "1", **variables}


def start_process(*arguments: str, variables: Mapping[str, str], **options: Any) -> subprocess.Popen[Any]:  # noqa: ANN401  text or bytes
    """Start the command in a process of its own.

    Args:
        arguments: The arguments of the command.
        variables: Variables of the environment, in addition to the inherited ones.
        options: Options of `subprocess.Popen`: the standard streams and their encoding.
    """
    return start_python(*fork_server.COMMAND, *arguments, environ=environment(variables), **options)


def read_terminal(terminal: int, words: str | None = None) -> str:
    """Read from a terminal until these words appear, or until the last writer closes it."""
    written = b""
    with suppress(OSError):  # Linux raises EIO after the last writer closes the terminal
        while (words is None or words.encode() not in written) and (data := os.read(terminal, 65536)):
            written += data
    return written.decode(errors="replace")


def open_terminal(rows: int = 40, columns: int = 80) -> tuple[int, int]:
    """Open a terminal, and return its descriptor and that of the programs in it."""
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals")
    import fcntl  # noqa: PLC0415  missing on Windows
    import termios  # noqa: PLC0415  missing on Windows

    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    return terminal, end


def strip_escapes(written: str) -> str:
    """Return terminal output without the escape sequences that move the cursor and set colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


@pytest.fixture
def read_until() -> Callable[[int, str | None], str]:
    """Return a function that reads a terminal until some words appear, or to its end."""
    return read_terminal


@pytest.fixture
def auto_sandbox() -> Iterator[Sandbox]:
    """Run a sandbox that decides immediately, in a thread of the tests' process."""
    with Sandbox(decide_after=0) as sandbox:
        yield sandbox


@pytest.fixture
def manual_sandbox() -> Iterator[Sandbox]:
    """Run a sandbox that decides only when a test asks for it."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a file that begins like a JPEG: the library inspects only the beginning."""
    path = tmp_path_factory.mktemp("pictures") / "ada-lovelace.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(70_000) + b"\xff\xd9")
    return str(path)


@pytest.fixture(autouse=True)
def no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test whose commands leave a file in the folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))  # for commands in this process, where the folder is cached
    yield
    assert [] == list(folder.iterdir())


@pytest.fixture(autouse=True)
def drop_warnings_of_asyncio() -> Iterator[None]:
    """Log no slow callbacks of sandboxes in debug mode, which a busy machine has: commands print warnings."""
    logger = logging.getLogger("asyncio")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


@pytest.fixture(scope="module")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command without a terminal; equal calls in a module share one process."""

    @cache
    def call(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        with start_process(
            *arguments,
            variables=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as process:
            try:
                written, errors = process.communicate(stdin, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, written, errors)

    return call


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs the command in this process, which is much faster than a process of its own."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)

    def call(*arguments: str, stdin: str = "", **variables: str) -> Result:
        return CliRunner().invoke(cli, arguments, input=stdin, env=variables)

    return call


class _Terminal(StringIO):
    """The output of a program to a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


@pytest.fixture
def invoke_in_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Return a function like that of `run_in_terminal` which runs the command in this process.

    That is much faster, and enough for what does not depend on a real terminal, such as the layout of tables.
    """
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)

    def call(*arguments: str, columns: int = 80, **variables: str) -> tuple[int, str]:
        with monkeypatch.context() as patch:
            for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), **variables}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", written := _Terminal())
            patch.setattr(sys, "stderr", written)
            with pytest.raises(SystemExit) as ended:
                cli.main(arguments, "veriff-async")
        code = ended.value.code
        assert isinstance(code, int)
        return code, strip_escapes(written.getvalue())

    return call


class _BrokenOutput(StringIO):
    """The output of a program to a pipe without a reader, or to a full disk: the first flush of some text fails.

    Later ones succeed, because a program redirects its output to the null device after the failure.
    """

    def __init__(self, error: OSError) -> None:
        """Take the error of the flush."""
        super().__init__()
        self._errors = [error]

    def flush(self) -> None:
        """Fail once."""
        if self.getvalue() and self._errors:
            raise self._errors.pop()


@pytest.fixture
def invoke_with_broken_output(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Return a function that runs the command in this process with a standard output that cannot be flushed.

    It returns the exit code and standard error.
    """
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)

    def call(error: OSError, *arguments: str, **variables: str) -> tuple[int, str]:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", _BrokenOutput(error))
            patch.setattr(sys, "stderr", errors := StringIO())
            with pytest.raises(SystemExit) as ended:
                cli.main(arguments, "veriff-async")
        code = ended.value.code
        assert isinstance(code, int)
        return code, errors.getvalue()

    return call


@pytest.fixture
def run_in_terminal() -> Callable[..., tuple[int, str]]:
    """Return a function that runs the command in a terminal and returns exit code and output.

    `started` is called with its process id; `size` is that of the terminal, in lines and columns.
    """

    def call(
        *arguments: str, started: Callable[[int], object] = int, size: tuple[int, int] = (40, 80), **variables: str
    ) -> tuple[int, str]:
        terminal, end = open_terminal(*size)
        variables = {"TERM": "xterm-256color", **variables}
        with start_process(*arguments, variables=variables, stdin=end, stdout=end, stderr=end) as process:
            started(process.pid)
            os.close(end)
            written = read_terminal(terminal)
            os.close(terminal)
            return process.wait(SECONDS), written

    return call


@pytest.fixture(autouse=True)
def enable_interrupts() -> Iterator[None]:
    """Restore the default handling of SIGINT, which a shell ignores for processes in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts the command; at the end SIGINT must stop each process that still runs."""
    if sys.platform == "win32":
        pytest.skip("Windows cannot send SIGINT to one process")
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = start_process(
            *arguments, variables=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )
        started.append(process)
        return process

    yield call
    for process in started:
        with process:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=SECONDS / 2)
            finally:
                process.kill()


class Receiver(ThreadingHTTPServer):
    """An HTTP server that records each POST and answers with the status that a test chooses."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), PostHandler)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[dict[str, str], bytes], int] = lambda _headers, _body: 200
        self.has_received = Event()

    @property
    def url(self) -> str:
        """Return the address that webhooks are posted to."""
        return f"http://127.0.0.1:{self.server_port}/hook"


class PostHandler(BaseHTTPRequestHandler):
    """One connection to the receiver."""

    server: Receiver

    def do_POST(self) -> None:
        """Record the request and answer it."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        self.server.received.append((headers, body))
        self.send_response(self.server.answer(headers, body))
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.has_received.set()

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver in a thread."""
    with Receiver() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def start_in_terminal() -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], int]]]:
    """Return a function that starts the command in a terminal and returns the process and its file descriptor."""
    started: list[tuple[subprocess.Popen[bytes], int]] = []

    def call(*arguments: str, **variables: str) -> tuple[subprocess.Popen[bytes], int]:
        terminal, end = open_terminal()
        variables = {"TERM": "xterm-256color", **variables}
        process = start_process(*arguments, variables=variables, stdin=end, stdout=end, stderr=end)
        os.close(end)
        started.append((process, terminal))
        return process, terminal

    yield call
    for process, terminal in started:
        with process:
            process.kill()
        os.close(terminal)
