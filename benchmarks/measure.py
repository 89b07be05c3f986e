"""How things are measured: contenders in turn, several rounds, ratios within a round, medians with their spread."""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

__all__ = ("Lag", "Memory", "Plan", "Spread", "in_turn", "ratios", "run_module")

_T = TypeVar("_T")
_ROOT: Final = Path(__file__).parents[1]
_STATUS: Final = Path("/proc/self/status")
_FORGET_PEAK: Final = "5"
_TRUST: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Environment variables by which aiohttp, httpx, requests and curl find the certificate authority."""


@frozen(kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: How often every contender runs.
        smoke: Whether this run only shows that everything works; its figures mean nothing.
        full: Whether subjects that have more than their goals ask for run all of it.
    """

    rounds: int
    smoke: bool
    full: bool = False


@frozen
class Spread:
    """The median of several rounds, with the lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Sum up the figures of all rounds."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])


def in_turn(contenders: Sequence[str], rounds: int, run: Callable[[str], _T]) -> dict[str, list[_T]]:
    """Run every contender once in each round, in changing order.

    Other load on the machine then affects all of them alike, and none is always the first or the last.
    """
    found: dict[str, list[_T]] = {contender: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            found[contender].append(run(contender))
    return found


def ratios(above: Iterable[float], below: Iterable[float]) -> Spread:
    """Divide round by round: only figures of the same round are compared."""
    return Spread.of(a / b for a, b in zip(above, below, strict=True))


def run_module(module: str, argument: str, *, authority: str = "") -> str:
    """Run one of our modules in a fresh process, and return what it printed.

    Args:
        module: Its name.
        argument: What it is to do.
        authority: A file with the authority that its clients are to trust besides none.

    Raises:
        RuntimeError: It failed; with the end of what it said.
    """
    command = [sys.executable, "-m", module, argument]
    environment = {**os.environ, **dict.fromkeys(_TRUST, authority)} if authority else None
    done = subprocess.run(  # noqa: S603  our own module
        command, capture_output=True, text=True, cwd=_ROOT, env=environment, check=False
    )
    if done.returncode:
        msg = f"{module} failed:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return done.stdout


@define
class Lag:
    """How long the running loop kept a coroutine waiting that wants to run each millisecond.

    Attributes:
        worst: The longest delay inside the block, in seconds.
    """

    worst: float = field(default=0.0, init=False)
    _ticker: asyncio.Task[None] | None = field(default=None, init=False)

    async def __aenter__(self) -> Self:
        """Begin to tick."""
        self._ticker = asyncio.create_task(self._tick())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop after one more tick, so that a delay up to the very end counts too."""
        await asyncio.sleep(2 * _TICK)
        if self._ticker is not None:
            self._ticker.cancel()

    async def _tick(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TICK)
            self.worst = max(self.worst, time.perf_counter() - began - _TICK)


_TICK: Final = 0.001


@define
class Memory:
    """By how much the process grew inside a block, at its peak.

    Linux can forget the peak of before. Elsewhere the peak of the whole life of the process is compared, which shows
    growth only beyond what was needed earlier.

    Attributes:
        growth: In bytes.
    """

    growth: int = field(default=0, init=False)
    _before: int = field(default=0, init=False)
    _resettable: bool = field(default=False, init=False)

    def __enter__(self) -> Self:
        """Remember the present size."""
        self._resettable = _forget_peak()
        self._before = _status("VmRSS") if self._resettable else _lifelong_peak()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Look at the peak."""
        peak = _status("VmHWM") if self._resettable else _lifelong_peak()
        self.growth = max(0, peak - self._before)


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    """Return a figure of /proc/self/status, which is in KiB, in bytes."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _lifelong_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
