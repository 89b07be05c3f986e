"""Real processes of the command."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

COMMAND: Final = (sys.executable, "-m", "veriff_async.cli")
SECONDS: Final = 60.0


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what a developer's shell may hold."""
    strange = ("VERIFF_", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "TTY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return {**kept, "PYTHONWARNINGS": "error", **variables}


def read(terminal: int, words: str | None = None) -> str:
    """Read what is written to a terminal until these words came, or until the last writer has gone."""
    written = b""
    with suppress(OSError):  # Linux says EIO when the last writer has gone
        while (words is None or words.encode() not in written) and (data := os.read(terminal, 65536)):
            written += data
    return written.decode(errors="replace")


@pytest.fixture
def read_until() -> Callable[[int, str | None], str]:
    """Give the way to read a terminal until it shows something, so that the moment is known, or to its end."""
    return read


@pytest.fixture
def served() -> Iterator[Sandbox]:
    """Run a sandbox that decides at once, in a thread of the tests' process."""
    with Sandbox(decide_after=0) as sandbox:
        yield sandbox


@pytest.fixture
def patient() -> Iterator[Sandbox]:
    """Run a sandbox that decides when it is told to."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the path of the beginning of a JPEG, which is all that is looked at."""
    path = tmp_path_factory.mktemp("pictures") / "ada-lovelace.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(70_000) + b"\xff\xd9")
    return str(path)


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test whose commands leave anything in the folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield
    assert [] == list(folder.iterdir())


@pytest.fixture(scope="module")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give a way to run the command without a terminal; tests that look at the same run share it."""

    @cache
    def call(*arguments: str, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  our own command
            [*COMMAND, *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env=environment(variables),
        )

    return call


@pytest.fixture
def run_in_terminal() -> Callable[..., tuple[int, str]]:
    """Give a way to run the command in a terminal of 80 columns; what it wrote comes back with the exit code.

    `started` is called with its process id.
    """

    def call(*arguments: str, started: Callable[[int], object] = int, **variables: str) -> tuple[int, str]:
        terminal, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        with subprocess.Popen(  # noqa: S603  our own command
            [*COMMAND, *arguments],
            stdin=end,
            stdout=end,
            stderr=end,
            env=environment({"TERM": "xterm-256color", **variables}),
        ) as process:
            started(process.pid)
            os.close(end)
            written = read(terminal)
            os.close(terminal)
            return process.wait(SECONDS), written

    return call


@pytest.fixture(autouse=True)
def heard_interrupts() -> Iterator[None]:
    """Let commands hear SIGINT, even where the tests run in the background of a shell, which makes it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Give a way to start the command and go on; what still runs at the end is interrupted, and must end by that."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(  # noqa: S603  our own command
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(variables),
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
    """A server of HTTP that keeps what is posted, and answers as it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), Posted)
        self.posted: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[dict[str, str], bytes], int] = lambda _headers, _body: 200
        self.seen = Event()

    @property
    def url(self) -> str:
        """Return where to post to."""
        return f"http://127.0.0.1:{self.server_port}/hook"


class Posted(BaseHTTPRequestHandler):
    """One connection to it."""

    server: Receiver

    def do_POST(self) -> None:
        """Keep the request and answer it."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        self.server.posted.append((headers, body))
        self.send_response(self.server.answer(headers, body))
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.seen.set()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


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
    """Give a way to start the command in a terminal and go on; what is read is the terminal, a file descriptor."""
    started: list[tuple[subprocess.Popen[bytes], int]] = []

    def call(*arguments: str, **variables: str) -> tuple[subprocess.Popen[bytes], int]:
        terminal, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        process = subprocess.Popen(  # noqa: S603  our own command
            [*COMMAND, *arguments],
            stdin=end,
            stdout=end,
            stderr=end,
            env=environment({"TERM": "xterm-256color", **variables}),
        )
        os.close(end)
        started.append((process, terminal))
        return process, terminal

    yield call
    for process, terminal in started:
        with process:
            process.kill()
        os.close(terminal)
