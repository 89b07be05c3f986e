"""What the command line answers to the shell."""

from __future__ import annotations

from enum import IntEnum

__all__ = ("Exit",)


class Exit(IntEnum):
    """Every exit code of `veriff-async`, the same for all commands."""

    DONE = 0
    """What was asked for is done; of a decision: it is ``approved``."""
    REFUSED = 1
    """The library or Veriff refused; one sentence on standard error says why, and what to do."""
    USAGE = 2
    """The command was used wrongly, or the extra ``[cli]`` is missing; nothing was sent."""
    NOT_APPROVED = 3
    """There is a decision, and it is not ``approved``."""
    UNDECIDED = 4
    """There is no decision yet, or none came in time."""
    HUNG_UP = 129
    """The terminal was closed: 128 + SIGHUP, as shells have it."""
    INTERRUPTED = 130
    """Ctrl-C: 128 + SIGINT."""
    TERMINATED = 143
    """Stopped by the system or a supervisor: 128 + SIGTERM."""
