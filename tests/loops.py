"""Event loops for tests: with virtual time, with eager tasks, and uvloop.

None is in debug mode, because a stack trace for each task and future takes longer than most tests. The variable
``PYTHONASYNCIODEBUG=1`` of Python runs the whole suite in debug mode.
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.util import find_spec
from time import monotonic
from typing import Final, TypeAlias

import pytest

__all__ = (
    "EagerLoop",
    "VirtualTimeLoop",
    "default_backend",
    "every_loop",
    "has_virtual_time",
    "needs_eager",
    "needs_uvloop",
    "new_eager",
    "new_uvloop",
)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose time a test can advance, so that an hour passes immediately."""

    def __init__(self) -> None:
        """Start at the real time."""
        super().__init__()
        self.offset = 0.0
        # On a busy machine asyncio would log slow callbacks, and tests count log records.
        self.slow_callback_duration = float("inf")

    def time(self) -> float:
        """Return the real time plus the advance."""
        return monotonic() + self.offset  # a loop in debug mode reads the time before and after each callback

    def advance_time(self, seconds: float) -> None:
        """Advance the time; timers that are due then run in the next iteration."""
        self.offset += seconds
        # Wakes the selector, which otherwise sleeps until the next timer by the old time.
        self.call_soon(lambda: None)


class EagerLoop(VirtualTimeLoop):
    """A loop whose tasks run until their first await before `create_task` returns (Python 3.12)."""

    def __init__(self) -> None:
        """Set the task factory."""
        super().__init__()
        if sys.version_info >= (3, 12):
            self.set_task_factory(asyncio.eager_task_factory)


def new_eager() -> asyncio.AbstractEventLoop:
    """Return a loop with eager tasks."""
    return EagerLoop()


def new_uvloop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop."""
    import uvloop  # noqa: PLC0415  Windows has none

    return uvloop.new_event_loop()


def has_virtual_time(backend: object) -> bool:
    """Return whether the loops of a backend have virtual time."""
    options: object = backend[1] if isinstance(backend, tuple) else None
    factory = options.get("loop_factory") if isinstance(options, dict) else None
    return isinstance(factory, type) and issubclass(factory, VirtualTimeLoop)


needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
needs_uvloop = pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed")

Backend: TypeAlias = tuple[str, dict[str, object]]

BACKENDS: Final[dict[str, Backend]] = {
    "plain": ("asyncio", {"loop_factory": VirtualTimeLoop}),
    "eager": ("asyncio", {"loop_factory": EagerLoop}),
    "uvloop": ("asyncio", {"loop_factory": new_uvloop}),
}

LOOPS: Final = (
    pytest.param(BACKENDS["plain"], id="plain"),
    pytest.param(BACKENDS["eager"], id="eager", marks=needs_eager),
    pytest.param(BACKENDS["uvloop"], id="uvloop", marks=needs_uvloop),
)


def default_backend() -> Backend:
    """Return the backend of tests that choose none; ``VERIFF_TEST_LOOP=uvloop`` runs the whole suite on uvloop."""
    return BACKENDS[os.environ.get("VERIFF_TEST_LOOP", "plain")]


every_loop = pytest.mark.parametrize("anyio_backend", LOOPS)
"""Runs each test in a plain loop, with eager tasks, and on uvloop."""
