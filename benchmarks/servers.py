"""A Redis or Valkey server for the benchmarks: the system's, or one that a package of the ``dev`` extra brings."""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.binaries import find_postgres, find_servers
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("postgres_running", "redis_running")


@contextmanager
def redis_running() -> Iterator[str | None]:
    """Run a server, and give its url; ``None`` when there is none on this machine."""
    binary = next(iter(find_servers().values()), None)
    if binary is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        place = ("--port", str(port), "--bind", "127.0.0.1", "--dir", folder)
        command = (binary, *place, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  a server that was found
        try:
            assert server.stdout is not None
            next(line for line in server.stdout if "eady to accept connections" in line)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.communicate()


@contextmanager
def postgres_running() -> Iterator[str | None]:
    """Run a durable PostgreSQL with memory for a large database, and give its url; ``None`` without its programs."""
    if find_postgres() is None:
        yield None
        return
    server = PostgresServer({"shared_buffers": "1GB", "max_wal_size": "4GB"})
    server.start()
    try:
        yield server.url()
    finally:
        server.remove()
