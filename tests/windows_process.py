"""A process that resembles Windows, as far as Linux allows: it runs a program in its standard input.

The modules, functions, signals and flags that Windows lacks are removed, the event loop waits for sockets only, and
`sys.platform` says so. Python and the dependencies are imported before, since they decide at their import which system
they run on. All that only the real system does remains untested: open files that cannot be replaced, devices with names
such as ``NUL``, and the proactor loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import types
from importlib import import_module
from typing import TYPE_CHECKING, Final

import anyio.abc
import click.testing
import hypothesis
import PIL.Image
import pytest
import redis.asyncio
import rich.live
import rich.progress
import taskiq
import taskiq_redis

if TYPE_CHECKING:
    from typing import NoReturn

LOADED: Final = (anyio.abc, click.testing, hypothesis, PIL.Image, pytest, redis.asyncio)
LOADED_TOO: Final = (rich.live, rich.progress, taskiq, taskiq_redis)

MISSING_MODULES: Final = ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "syslog")
MISSING_FUNCTIONS: Final = (
    "chown",
    "fchmod",
    "fchown",
    "fdatasync",
    "fork",
    "forkpty",
    "get_blocking",
    "getegid",
    "geteuid",
    "getgid",
    "getuid",
    "killpg",
    "lchown",
    "major",
    "makedev",
    "minor",
    "mkfifo",
    "mknod",
    "nice",
    "openpty",
    "posix_fadvise",
    "posix_fallocate",
    "pread",
    "preadv",
    "pwrite",
    "pwritev",
    "register_at_fork",
    "sched_getaffinity",
    "sendfile",
    "set_blocking",
    "setsid",
    "statvfs",
    "sysconf",
    "uname",
    "wait3",
    "wait4",
)
MISSING_FLAGS: Final = (
    "O_CLOEXEC",
    "O_DIRECTORY",
    "O_NOCTTY",
    "O_NOFOLLOW",
    "O_NONBLOCK",
    "O_SYNC",
    "O_TMPFILE",
    "RWF_NOWAIT",
)
KEPT_SIGNALS: Final = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM")
LOOP_METHODS: Final = (
    "add_signal_handler",
    "remove_signal_handler",
    "add_reader",
    "add_writer",
    "connect_read_pipe",
    "create_unix_server",
    "create_unix_connection",
)

O_BINARY: Final = 1 << 30
"""No flag of Linux."""

opened_as_text: Final = set[str]()
"""The modules of the package that opened a file for writing without `O_BINARY`."""


def become_windows() -> None:
    """Remove what Windows lacks. What is imported from now on takes this process for one on Windows."""
    sys.modules["msvcrt"] = make_msvcrt()
    for name in MISSING_MODULES:
        vars(sys)["modules"][name] = None  # an import raises ImportError
    for name in (*MISSING_FUNCTIONS, *MISSING_FLAGS):
        vars(os).pop(name, None)
    for name in [name for name in vars(signal) if name.startswith("SIG") and name[3] != "_"]:
        if name not in KEPT_SIGNALS:
            delattr(signal, name)
    for name in LOOP_METHODS:
        setattr(asyncio.SelectorEventLoop, name, refuse)
    vars(shutil)["_use_fd_functions"] = False
    vars(tempfile)["TemporaryFile"] = tempfile.NamedTemporaryFile
    watch_opened_files()
    vars(sys)["platform"] = "win32"


def make_msvcrt() -> types.ModuleType:
    """Return a module with the lock of Windows: from the position on, and with another error."""
    fcntl = import_module("fcntl")

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (3, 1, 2**31 - 2) == (mode, count, os.lseek(descriptor, 0, os.SEEK_CUR))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    msvcrt = types.ModuleType("msvcrt")
    vars(msvcrt).update(locking=locking, LK_NBLCK=3)
    return msvcrt


def watch_opened_files() -> None:
    """Remember which modules open files as text, in which Windows changes line ends."""
    open_file = os.open

    def open_and_watch(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        caller = sys._getframe(1).f_globals["__name__"]
        if caller.startswith("veriff_async") and flags & (os.O_WRONLY | os.O_RDWR) and not flags & O_BINARY:
            opened_as_text.add(caller)
        return open_file(path, flags & ~O_BINARY, mode, dir_fd=dir_fd)

    vars(os).update(O_BINARY=O_BINARY, open=open_and_watch)


def refuse(*_arguments: object) -> NoReturn:
    """Refuse, as the loops of Windows do."""
    raise NotImplementedError


def import_package() -> None:
    """Import every module of the package."""
    package = import_module("veriff_async")
    for module in pkgutil.walk_packages(package.__path__, "veriff_async."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


if __name__ == "__main__":
    become_windows()
    import_package()
    exec(sys.stdin.read(), {"__name__": "__main__", "opened_as_text": opened_as_text})  # noqa: S102  the test's own
