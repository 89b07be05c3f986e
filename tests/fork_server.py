"""Starts processes of the library faster: as forks of a process that has imported it already.

An interpreter takes half a second of processor time for the imports, which is most of the time of many tests. Like a
process of its own, a fork has a process id, descriptors, environment, working directory, signals and the end of the
interpreter.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, AnyStr, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("COMMAND", "close_fork_servers", "start_python")

COMMAND: Final = ("-m", "veriff_async.cli")
"""The arguments of Python that run the command line."""

_CAN_FORK: Final = sys.platform == "linux"
"""Whether to fork: not on macOS, whose libraries may refuse to work in a fork, nor on Windows."""

_MODULES: Final = (
    *("aiohttp.web", "asyncio", "rich.console", "rich.live", "rich.progress", "rich.table", "sqlite3"),
    *("veriff_async.batch", "veriff_async.client", "veriff_async.inbox", "veriff_async.sandbox"),
    *("veriff_async.testing", "veriff_async.webhooks"),
)
"""What commands and programs import when they run."""

_READ_AT_START: Final = ("PYTHON", "COVERAGE_", "SSL_", "OPENSSL_", "LC_", "LANG", "TZ", "MALLOC_", "LD_", "GLIBC_")
"""Prefixes of variables that an interpreter or the imports read, and a fork does not read again."""

_MAX_REQUEST: Final = 1 << 17


class _ForkServer:
    """A process that forks itself for each request. Blocking.

    It ends with the process of the tests, also if that is killed, because the system closes the socket then.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Start it.

        Args:
            environ: The environment of the server.
        """
        self.socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with end:
            self._process = subprocess.Popen(  # noqa: S603  this module
                (sys.executable, "-P", __file__, str(end.fileno())),  # the folder of the tests has names of modules
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",  # not the folder of a test
                pass_fds=(end.fileno(),),
            )

    def close(self) -> None:
        """End the server; processes that still run remain."""
        self.socket.shutdown(socket.SHUT_RDWR)  # also for a fork of the tests that still has the descriptor
        self.socket.close()
        self._process.wait()


_servers: Final[dict[tuple[tuple[str, str], ...], _ForkServer]] = {}
_lock: Final = threading.Lock()


def start_python(
    *arguments: str,
    environ: Mapping[str, str],
    **options: Any,  # noqa: ANN401  as in typeshed
) -> subprocess.Popen[Any]:
    """Start the command line, or a program that uses the library, in a process of its own. Blocking.

    Warnings are errors there, and texts are UTF-8 in every locale, unless the environment says otherwise.

    Args:
        arguments: ``-c`` and the text of a program, or those of `COMMAND`; then the arguments of the program.
        environ: The environment.
        options: The standard streams and their encoding, as for `subprocess.Popen`.
    """
    assert arguments[0] == "-c" or arguments[:2] == COMMAND
    environ = {"PYTHONWARNINGS": "error", "PYTHONUTF8": "1", **environ}
    if not _CAN_FORK:
        return subprocess.Popen([sys.executable, *arguments], env=environ, **options)  # noqa: S603  our own program
    # A fork does not read these again.
    key = tuple(sorted((name, value) for name, value in environ.items() if name.startswith(_READ_AT_START)))
    with _lock:
        server = _servers.get(key)
        if server is None:
            server = _servers[key] = _ForkServer(environ)
    return _ForkedProcess(server, arguments, env=environ, **options)


def close_fork_servers() -> None:
    """End all servers."""
    while _servers:
        _servers.popitem()[1].close()


class _ForkedProcess(subprocess.Popen[AnyStr]):
    """A process that a fork server starts. Its parent is another process, which reports how it ended."""

    def __init__(
        self,
        server: _ForkServer,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        **options: Any,  # noqa: ANN401  as in typeshed
    ) -> None:
        """Start it.

        Args:
            server: The server.
            words: The arguments of Python.
            env: The environment.
            options: The standard streams and their encoding, as for `subprocess.Popen`.
        """
        self._server = server
        self._report, self._reporter = os.pipe()
        self._has_ended = threading.Event()
        self._exit_code = 0
        super().__init__(words, env=env, **options)

    def _execute_child(self, *arguments: Any) -> None:  # noqa: ANN401  of a private method, the same since Python 3.3
        """Start the process; `Popen` calls this with the descriptors of the streams, or -1 for its own ones."""
        words: Sequence[str] = arguments[0]
        environ: Mapping[str, str] = arguments[6]
        numbers: tuple[int, ...] = arguments[10:16]
        stdin, _, _, stdout, _, stderr = numbers
        request = json.dumps([list(words), environ, str(Path.cwd())]).encode()
        given: list[int] = [own if number == -1 else number for own, number in enumerate((stdin, stdout, stderr))]
        socket.send_fds(self._server.socket, [request], [*given, self._reporter])
        os.close(self._reporter)
        cast("Any", self)._close_pipe_fds(*numbers)
        report = os.fdopen(self._report, "rb")
        self.pid = int(report.readline())
        self._child_created = True
        # Not in a call of `wait`: one thread may wait while another one sends a signal, which polls.
        threading.Thread(target=self._read_exit_code, args=(report,), daemon=True).start()

    def _read_exit_code(self, report: IO[bytes]) -> None:
        """Wait until the process has ended."""
        with report:
            self._exit_code = int(report.readline())
        self._has_ended.set()

    def _internal_poll(self, **_options: object) -> int | None:
        """Return the exit code if the process has ended."""
        if self.returncode is None and self._has_ended.is_set():
            self.returncode = self._exit_code
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        """Return the exit code when the process has ended."""
        if not self._has_ended.wait(timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.returncode = self._exit_code
        return self.returncode


def _serve(requests: socket.socket) -> None:
    """Fork for each request, until the tests have ended."""
    _import()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C of the tests
    for ignored in (signal.SIGHUP, signal.SIGQUIT):  # after `nohup`, and after `&` in a script
        signal.signal(ignored, signal.SIG_DFL)
    gc.collect()
    gc.freeze()  # so that a collection in a fork does not copy the memory
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 4)
        if not request:
            return
        # The process in between waits for the end of the other one.
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if (process := os.fork()) == 0:
                os.close(descriptors.pop())
                _run(json.loads(request), descriptors)
                return
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            *streams, reporter = descriptors
            for number in streams:
                os.close(number)
            os.write(reporter, b"%d\n" % process)
            _, status = os.waitpid(process, 0)
            os.write(reporter, b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        for number in descriptors:
            os.close(number)
        while _reap():
            pass


def _reap() -> bool:
    """Forget a process that has ended; return whether there was one."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _import() -> None:
    """Import all commands and what they import when they run."""
    import importlib  # noqa: PLC0415  of the server alone

    from click import Context  # noqa: PLC0415  of the server alone

    from veriff_async.cli._commands import COMMANDS, cli  # noqa: PLC0415  of the server alone

    context = Context(cli)
    for name in COMMANDS:
        cli.get_command(context, name)
    for name in _MODULES:
        importlib.import_module(name)


def _run(request: tuple[Sequence[str], Mapping[str, str], str], streams: Sequence[int]) -> None:
    """Run a program in this process, with standard streams as the interpreter opens them."""
    from veriff_async.cli import main  # noqa: PLC0415  of the server alone

    words, environ, folder = request
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for number, given in enumerate(streams):
        os.dup2(given, number)
        os.close(given)
    # The streams of the server know already whether their files can seek and are terminals.
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdin = open(0, encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115  until the end of the process
    sys.stdout = open(1, "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102  our own program
    else:
        sys.argv[1:] = words[len(COMMAND) :]
        main()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _requests:
        _serve(_requests)
