"""A background task that runs while it is needed, and is restarted if it ends too early.

Theory of operation: a task can end in three ways. It is stopped, because nothing needs it any more. It is cancelled
by other code, for example by a framework that cancels every task of the loop. Or its work raises, and a
`CancelledError` of something that the work awaits looks like a cancellation of the task itself; `is_being_cancelled`
tells them apart. Only the first way is final: after the others the work starts again after a pause, and the log says
so once for each end.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from attrs import define, field

from veriff_async._event_loop import is_being_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ("RestartableTask",)

_LOG: Final = logging.getLogger("veriff_async.waiting")

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


@define(eq=False)
class _Run:
    """One start of the work, until it is stopped.

    Attributes:
        pause: Seconds before the work starts again.
    """

    pause: float = field(factory=lambda: _FIRST_PAUSE)


class RestartableTask:
    """At most one running task of its kind; one that was stopped may still be ending while the next starts.

    Args:
        name: The name of its tasks.
        work: The work, which does not return before it is cancelled.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Start nothing yet."""
        self._name = name
        self._work = work
        self._run: _Run | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def start(self) -> bool:
        """Start the work, unless it runs; return whether this call started it."""
        if self._run is not None:
            return False
        # Set before the task is made: an eager task (Python 3.12) works before `create_task` returns.
        self._run = _Run()
        self._create(self._run)
        return True

    def stop(self) -> None:
        """Cancel the work, if it runs."""
        task, self._run, self._task = self._task, None, None
        if task is not None:
            task.cancel()

    async def aclose(self) -> None:
        """Stop the work, and wait until all its tasks have ended."""
        self.stop()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _create(self, run: _Run) -> None:
        if not self._is_current(run):
            return
        task = asyncio.get_running_loop().create_task(self._supervise(run), name=self._name)
        self._ending.add(task)
        task.add_done_callback(partial(self._on_end, run))
        if self._is_current(run):
            self._task = task
        else:  # stopped by its own first steps, when it is eager
            task.cancel()

    def _is_current(self, run: _Run) -> bool:
        return self._run is run

    async def _supervise(self, run: _Run) -> None:
        while self._is_current(run):
            try:
                await self._work()
                problem = "an early end"
            except asyncio.CancelledError as error:
                if is_being_cancelled():
                    raise
                problem = type(error).__name__
            except Exception as error:  # noqa: BLE001  the work awaits code of users, which may raise anything
                problem = type(error).__name__
            await self._pause(run, problem)

    async def _pause(self, run: _Run, problem: str) -> None:
        _LOG.warning("%s failed with %s; it starts again", self._name, problem)
        pause, run.pause = run.pause, min(run.pause * 2, _LONGEST_PAUSE)
        await asyncio.sleep(pause)

    def _on_end(self, run: _Run, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        error = None if task.cancelled() else task.exception()
        if not self._is_current(run):
            return
        problem = "CancelledError" if error is None else type(error).__name__
        _LOG.warning("%s ended with %s; it starts again", self._name, problem)
        # Not at once: when a loop ends it cancels all its tasks, and those that need this one stop it then.
        asyncio.get_running_loop().call_later(run.pause, self._create, run)
