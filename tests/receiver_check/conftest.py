"""Endpoints in several languages, whose faults are known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path(__file__).parent / "faulty"
CREDENTIALS: Final = Credentials("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "the-new-secret", previous_secrets=["the-old"])
ENVIRON: Final = {"VERIFF_API_KEY": CREDENTIALS.api_key, "VERIFF_SHARED_SECRET": "the-new-secret,the-old"}
PROGRAMS: Final = {
    "python": (sys.executable, "receiver.py"),
    "node": (which("node"), "receiver.mjs"),
    "perl": (which("perl"), "receiver.pl"),
}


class Servers:
    """Starts each program once."""

    def __init__(self) -> None:
        """Start without programs."""
        self._running: dict[str, tuple[subprocess.Popen[str], str]] = {}

    def url(self, language: str) -> str:
        """Return the URL of a program, started if needed."""
        if language not in self._running:
            interpreter, name = PROGRAMS[language]
            if interpreter is None:
                pytest.skip(f"{language} is not installed")
            process = subprocess.Popen(  # noqa: S603  our own program
                [interpreter, str(FOLDER / name)], env={**os.environ, **ENVIRON}, stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            self._running[language] = process, f"http://127.0.0.1:{int(process.stdout.readline())}"
        return self._running[language][1]

    def stop(self) -> None:
        """Stop all programs."""
        for process, _ in self._running.values():
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Return a starter of the programs, which run until the end of the tests."""
    servers = Servers()
    yield servers
    servers.stop()
