"""The command line `veriff-async`, from the extra `[cli]` (click and rich).

Each command is a module or folder with its own name, loaded when it runs; see `_commands`.
"""

from __future__ import annotations

import os
import sys

__all__ = ("main",)

_EXTRA = frozenset({"click", "rich"})


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
    cli(prog_name="veriff-async")


def _open_standard_streams() -> None:
    """Open the null device for closed standard descriptors, so that no file or connection gets their numbers.

    After ``>&-`` the journal could be opened as descriptor 1, and ``--out /dev/stdout`` would then write into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system assigns the lowest free number
