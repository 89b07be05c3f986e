"""A background task that can be stopped and restarted.

A task can end in three ways:

* It is stopped, because nothing needs it any more. Only this end is final.
* It is cancelled by other code, for example by a framework that cancels all tasks of the loop.
* Its work returns or raises. A `CancelledError` of something that the work awaits looks like a cancellation of the
  task; `is_being_cancelled` distinguishes them.

After the second and the third the work starts again after a pause that doubles each time, and the log says so once.

`stop` does not wait, so the stopped task may still be ending while `start` creates the next one. Each start therefore
has a token, `_Run`: code of an older start compares its token with the current one and does nothing if they differ.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from attrs import define, field

from veriff_async._event_loop import is_being_cancelled
from veriff_async._logging import log_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

__all__ = ("RestartableTask",)

_LOG: Final = logging.getLogger("veriff_async.waiting")

_INITIAL_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 30.0


@define(eq=False)
class _Run:
    """The time from `start` to `stop`, in which several tasks may follow each other.

    Attributes:
        backoff: Seconds before the work starts again.
    """

    backoff: float = field(factory=lambda: _INITIAL_BACKOFF)


class RestartableTask:
    """Runs at most one current task; tasks that were stopped may still be ending."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Coroutine[None, None, None]],
        make_context: Callable[[], Context | None] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            name: The name of the tasks.
            work: Returns the coroutine that a task runs.
            make_context: Returns the context of a task; by default it is that of the caller of `start`.
        """
        self._make_context = make_context
        self._name = name
        self._work = work
        self._run: _Run | None = None
        self._task: asyncio.Task[None] | None = None
        self._unfinished: set[asyncio.Task[None]] = set()

    def start(self) -> bool:
        """Start the work unless it is running, and return whether this call started it."""
        if self._run is not None:
            return False
        # Set before the task is created: an eager task (Python 3.12) runs before `create_task` returns.
        self._run = _Run()
        self._create_task(self._run)
        return True

    def stop(self) -> None:
        """Cancel the work if it is running, without waiting for its end."""
        task, self._run, self._task = self._task, None, None
        if task is not None:
            task.cancel()

    async def aclose(self) -> None:
        """Stop the work, and wait until all its tasks have ended."""
        self.stop()
        await asyncio.gather(*self._unfinished, return_exceptions=True)

    def _create_task(self, run: _Run) -> None:
        if not self._is_current(run):
            return
        context = None if self._make_context is None else self._make_context()
        task = asyncio.get_running_loop().create_task(self._supervise(run), name=self._name, context=context)
        self._unfinished.add(task)
        task.add_done_callback(partial(self._on_done, run))
        if self._is_current(run):
            self._task = task
        else:  # an eager task whose first steps called `stop`, when `_task` was not set yet
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
            except Exception as error:  # noqa: BLE001  the work calls user code, which may raise anything
                problem = type(error).__name__
            await self._back_off(run, problem)

    async def _back_off(self, run: _Run, problem: str) -> None:
        fields = log_fields(task=self._name, error=problem)
        _LOG.warning("The task %s failed with %s; it is restarted.", self._name, problem, extra=fields)
        backoff, run.backoff = run.backoff, min(run.backoff * 2, _MAX_BACKOFF)
        await asyncio.sleep(backoff)

    def _on_done(self, run: _Run, task: asyncio.Task[None]) -> None:
        self._unfinished.discard(task)
        error = None if task.cancelled() else task.exception()
        if not self._is_current(run):
            return
        problem = "CancelledError" if error is None else type(error).__name__
        fields = log_fields(task=self._name, error=problem)
        _LOG.warning("The task %s ended with %s; it is restarted.", self._name, problem, extra=fields)
        # Not immediately: a loop that is shutting down cancels all its tasks, and the waits that need this one stop it.
        asyncio.get_running_loop().call_later(run.backoff, self._create_task, run)
