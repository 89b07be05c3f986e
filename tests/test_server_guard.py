"""A server of the tests ends with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.conditions import needs_posix, until_in_thread

# The server keeps this pipe open until it ends.
TESTS: Final = """
import subprocess, sys, time
from pathlib import Path
from tests.server_guard import ServerGuard
guard = ServerGuard(Path(sys.argv[1]), "TERM")  # a shell that starts tests in the background ignores SIGQUIT for them
server = subprocess.Popen((sys.executable, "-c", "import time; time.sleep(600)"))
guard.watch(server)
print("ready", flush=True)  # only now, since the guard cannot end a server that it does not know
time.sleep(600)
"""


@needs_posix
@pytest.mark.usefixtures("without_coverage")
def test_server_ends_when_its_tests_are_killed(tmp_path: Path) -> None:
    """After SIGKILL of the process that runs the tests, its server ends and the server's folder is deleted."""
    folder = tmp_path / "server"
    folder.mkdir()
    repository = Path(__file__).parent.parent
    command = (sys.executable, "-c", TESTS, str(folder))
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as tests:  # noqa: S603  our own code
        assert tests.stdout is not None
        assert "ready\n" == tests.stdout.readline()
        tests.kill()
        assert not tests.stdout.read()  # until the server has ended
    until_in_thread(lambda: not folder.exists())
