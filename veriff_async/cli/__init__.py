"""The command line `veriff-async`, from the extra `[cli]` (click and rich).

Each command is a module or folder with its own name, loaded when it runs; see `_commands`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress

__all__ = ("main",)

_EXTRA = frozenset({"click", "rich"})

# Seconds in which threads must end that a command has left.
_THREAD_SECONDS = 5.0


def main() -> None:
    """Run the command line, or report in one sentence which extra is missing.

    Exit codes: 0 done, 1 the library refused (one sentence on stderr), 2 wrong usage or a missing extra,
    130 interrupted with Ctrl-C; see `veriff_async.cli._runtime.ExitCode`.
    """
    try:
        from veriff_async.cli._commands import cli  # noqa: PLC0415  an extra that may be missing
        from veriff_async.cli._stdio import replace_unencodable  # noqa: PLC0415  the same
    except ModuleNotFoundError as error:
        # Another missing module is a broken installation, whose traceback must stay visible.
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write('The command line needs click and rich: pip install "veriff-async[cli]"\n')
        raise SystemExit(2) from None
    # Ctrl-C during the imports: `CommandLine`, which reports signals, does not exist yet.
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    _open_standard_streams()
    replace_unencodable()
    try:
        cli(prog_name="veriff-async")
    except SystemExit as ended:
        # As Python ends with this code (https://docs.python.org/3/library/exceptions.html#SystemExit).
        _leave_threads_behind(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise


def _leave_threads_behind(code: int) -> None:
    """End the process if a thread does not end, for example since it waits for a network drive.

    Python would wait for it (https://docs.python.org/3/library/threading.html#thread-objects), although the command has
    ended because of a time limit or a signal.
    """
    deadline = time.monotonic() + _THREAD_SECONDS
    others = [each for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]
    with suppress(KeyboardInterrupt):  # the command has already reported its end
        for thread in others:
            thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in others):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # the terminal may be gone, or was never there
                stream.flush()
        os._exit(code)


def _open_standard_streams() -> None:
    """Open the null device for closed standard descriptors, so that no file or connection gets their numbers.

    After ``>&-`` the journal could be opened as descriptor 1, and ``--out /dev/stdout`` would then write into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system assigns the lowest free number
