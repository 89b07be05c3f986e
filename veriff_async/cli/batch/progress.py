"""Progress of a batch: a bar on a terminal, a line every ten seconds everywhere else."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from veriff_async._protocol.counts import format_count
from veriff_async.batch import BatchProgress
from veriff_async.cli._output import LINE_SECONDS, Output, megabytes
from veriff_async.cli._stdio import stderr_console

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from veriff_async import ClientStatistics

__all__ = ("ProgressDisplay", "format_duration")

_FRAME_SECONDS: Final = 0.25
_MINUTE: Final = 60
_HOUR: Final = 3600


class ProgressDisplay:
    """Shows the progress of one batch on standard error."""

    def __init__(
        self,
        total: int,
        statistics: Callable[[], ClientStatistics],
        *,
        is_submission: bool = False,
        quiet: bool = False,
    ) -> None:
        """Start the clock."""
        self._total = total
        self._statistics = statistics
        self.is_submission = is_submission
        self._output = Output(stderr_console(quiet=quiet))
        self._bar = Progress(BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
        self._task = self._bar.add_task("", total=max(1, total))
        self._started = monotonic()
        self.progress: BatchProgress = BatchProgress()

    def update(self, progress: BatchProgress) -> None:
        """Take the counts, an object that the batch updates in place."""
        self.progress = progress

    @property
    def done(self) -> int:
        """Jobs that need no further work in this run."""
        now = self.progress
        finished = now.decided + now.failed + now.unknown + now.stopped + now.left
        # The manifest may have grown since its rows were counted.
        return min(self._total, finished + (now.submitted if self.is_submission else 0))

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return monotonic() - self._started

    @asynccontextmanager
    async def show(self, *, line_seconds: float = LINE_SECONDS) -> AsyncGenerator[None]:
        """Show the progress during the block."""
        if not self._output.is_live:
            async with _repeat(line_seconds, lambda: self._output.print(f"{self._counts()}; {self._states()}")):
                yield
            return
        # Refreshed by a task: rich's refresh thread would read counters while the loop changes them.
        with Live(get_renderable=self._render, console=self._output.console, auto_refresh=False) as live:
            async with _repeat(_FRAME_SECONDS, live.refresh):
                yield

    def _render(self) -> Group:
        self._bar.update(self._task, completed=self.done, description=self._counts())
        return Group(self._bar, Text(self._states()))

    def _counts(self) -> str:
        # Resumed jobs were done before this run, so they say nothing about its speed.
        speed = (self.done - self.progress.resumed) / max(self.seconds, _FRAME_SECONDS)
        counts = f"{self.done} of {format_count(self._total, 'job')}"
        if self.progress.paused:
            return f"{counts}, paused: requests fail"
        if self.progress.sessions_left_this_hour == 0 and self.done < self._total:
            return f"{counts}, no more sessions this hour"
        if speed <= 0 or self.done >= self._total:
            return counts
        return f"{counts}, {speed:.1f}/s, {format_duration((self._total - self.done) / speed)} left"

    def _states(self) -> str:
        now = self.progress
        states = {"running": now.running, "waiting": now.waiting}
        if self.is_submission:
            states |= {"submitted": now.submitted}
        states |= {"decided": now.decided, "failed": now.failed, "unknown": now.unknown}
        states |= {name: count for name, count in (("stopped", now.stopped), ("left", now.left)) if count}
        sent = megabytes(self._statistics().bytes_sent)
        budget = "" if now.sessions_left is None else f"; budget {now.sessions_left}"
        return f"{', '.join(f'{name} {count}' for name, count in states.items())}; {sent} sent{budget}"


def format_duration(seconds: float) -> str:
    """Format an estimated duration, without digits that the estimate does not have."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"


@asynccontextmanager
async def _repeat(seconds: float, show: Callable[[], None]) -> AsyncGenerator[None]:
    async def tick() -> None:
        while True:
            await asyncio.sleep(seconds)
            show()

    ticking = asyncio.ensure_future(tick())
    try:
        yield
    finally:
        ticking.cancel()
        # Awaited, so that no line is printed after the block.
        await asyncio.gather(ticking, return_exceptions=True)
