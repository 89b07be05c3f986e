"""How far a batch is, for who watches: two lines that move on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from veriff_async.batch import BatchProgress
from veriff_async.cli._output import megabytes
from veriff_async.cli._streams import progress_console

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from veriff_async.client import ClientStatistics

__all__ = ("Gauge", "span")

_OFTEN: Final = 0.25  # seconds between two pictures
_SELDOM: Final = 10.0  # seconds between two lines
_MINUTE: Final = 60
_HOUR: Final = 3600


class Gauge:
    """Shows the progress of one batch on standard error.

    Args:
        total: How many jobs there are.
        statistics: What the client counts.
        is_submission: Whether a job is done when it is submitted.
        quiet: Whether to show nothing.
    """

    def __init__(
        self,
        total: int,
        statistics: Callable[[], ClientStatistics],
        *,
        is_submission: bool = False,
        quiet: bool = False,
    ) -> None:
        """Begin the clock."""
        self._total = total
        self._statistics = statistics
        self.is_submission = is_submission
        self._console = progress_console(quiet=quiet)
        self._live = self._console.is_interactive and self._console.file.isatty()
        self._began = monotonic()
        self.progress: BatchProgress = BatchProgress()

    def update(self, progress: BatchProgress) -> None:
        """Take the counts, which change in place."""
        self.progress = progress

    @property
    def done(self) -> int:
        """Jobs that this run has no more to do for."""
        now = self.progress
        settled = now.decided + now.failed + now.unknown + now.stopped
        return min(self._total, settled + (now.submitted if self.is_submission else 0))

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return monotonic() - self._began

    @asynccontextmanager
    async def shown(self, *, seldom: float = _SELDOM) -> AsyncGenerator[None]:
        """Show how far it is as long as this is entered: so many seconds apart, or all the time on a terminal."""
        if not self._live:
            async with _every(seldom, self._say):
                yield
            return
        # No thread of rich's own: what is shown belongs to the loop.
        with Live(self._picture(), console=self._console, auto_refresh=False) as live:
            async with _every(_OFTEN, lambda: live.update(self._picture(), refresh=True)):
                try:
                    yield
                finally:
                    live.update(self._picture(), refresh=True)

    def _say(self) -> None:
        words = f"{self._counts()}; {self._states()}"
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)

    def _picture(self) -> Group:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(max(1, self._total), self.done, width=24), Text(self._counts()))
        return Group(bar, Text(self._states()))

    def _counts(self) -> str:
        speed = (self.done - self.progress.resumed) / max(self.seconds, _OFTEN)
        words = f"{self.done} of {self._total} jobs"
        if self.progress.paused:
            return f"{words}, paused: requests fail"
        if speed <= 0 or self.done >= self._total:
            return words
        return f"{words}, {speed:.1f}/s, {span((self._total - self.done) / speed)} left"

    def _states(self) -> str:
        now = self.progress
        states = {"running": now.running, "waiting": now.waiting}
        if self.is_submission:
            states |= {"submitted": now.submitted}
        states |= {"decided": now.decided, "failed": now.failed, "unknown": now.unknown}
        states |= {"stopped": now.stopped} if now.stopped else {}
        sent = megabytes(self._statistics().bytes_sent)
        return f"{', '.join(f'{name} {count}' for name, count in states.items())}; {sent} sent"


def span(seconds: float) -> str:
    """Write a time that is left, as roughly as it is known."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"


@asynccontextmanager
async def _every(pause: float, show: Callable[[], None]) -> AsyncGenerator[None]:
    async def tick() -> None:
        while True:
            await asyncio.sleep(pause)
            show()

    ticking = asyncio.ensure_future(tick())
    try:
        yield
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
