"""Ends a server whose tests were killed before their fixtures could stop it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from attrs import define, field

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("ServerGuard",)

# The system closes the pipe when the process of the tests ends, also after SIGKILL. A stopped server needs SIGCONT.
_SCRIPT: Final = """
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ] && kill "-$1" "$pid"; then
  kill -CONT "$pid"
  tries=0
  while [ "$tries" -lt 300 ] && kill -0 "$pid"; do tries=$((tries + 1)); sleep 0.1; done
  kill -KILL "$pid"
fi
rm -rf -- "$2"
"""


@define(eq=False)
class ServerGuard:
    """A shell that outlives the process of the tests, ends the server and deletes its folder.

    Attributes:
        folder: The folder of the server.
        signal: The signal that ends the server and its processes.
    """

    folder: Path
    signal: str
    _shell: subprocess.Popen[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Start the shell, which Ctrl-C does not reach."""
        self._shell = subprocess.Popen(  # noqa: S603  our own script
            ("/bin/sh", "-c", _SCRIPT, "sh", self.signal, str(self.folder)),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def watch(self, server: subprocess.Popen[str] | subprocess.Popen[bytes] | None) -> None:
        """Set the process to end; ``None`` if the server has stopped, because another process may get its id."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{'' if server is None else server.pid}\n")
        self._shell.stdin.flush()

    def close(self) -> None:
        """End the shell: the fixtures have stopped the server."""
        self._shell.kill()
        self._shell.communicate()
