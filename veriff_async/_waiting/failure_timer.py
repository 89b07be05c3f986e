"""How long something has failed, so that the log can distinguish trouble that passes from trouble that lasts."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ("FailureTimer",)

# Seconds after which a person should look. Restarts and failovers of servers take less.
_LASTING: Final = 60.0


class FailureTimer:
    """The time since the first failure that no success has followed."""

    def __init__(self) -> None:
        """Start without a failure."""
        self._since: float | None = None
        self._is_reported = False

    @property
    def failing_for(self) -> float:
        """Seconds since the first failure, or zero."""
        return 0.0 if self._since is None else asyncio.get_running_loop().time() - self._since

    def fail(self) -> bool:
        """Note a failure, and return whether it is the first one."""
        if self._since is not None:
            return False
        self._since = asyncio.get_running_loop().time()
        return True

    def must_report(self) -> bool:
        """Return true once, when the failures have lasted so long that a person should look."""
        if self._is_reported or self.failing_for < _LASTING:
            return False
        self._is_reported = True
        return True

    def end(self) -> None:
        """Note a success."""
        self._since, self._is_reported = None, False
