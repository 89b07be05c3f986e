"""What follows an inbox for all waits of a client: one feed, one look for many sessions, and what to do without."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Final

from veriff_async.lone import Lone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from veriff_async.inbox.inbox import Inbox
    from veriff_async.models.state import SessionState
    from veriff_async.watched import Wait, Watched

__all__ = ("Listener",)

_LOG: Final = logging.getLogger("veriff_async.waiting")

_LOOKED_AT_ONCE: Final = 500
"""Sessions in one look, so that a loop with very many waits turns in between."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class Listener:
    """Follows an inbox while somebody waits; a feed that breaks off is begun anew, and everything looked at again."""

    def __init__(
        self,
        inbox: Inbox,
        watched: Mapping[str, Watched],
        *,
        tell: Callable[[SessionState], None],
        turn: Callable[[bool], None],
    ) -> None:
        """Take the inbox, what is watched, who is told of states, and who is told whether the inbox serves."""
        self._inbox = inbox
        self._watched = watched
        self._tell = tell
        self._turn = turn
        self._wanted: dict[str, None] = {}  # in the order of asking
        self._wake = asyncio.Event()
        self._pause = _FIRST_PAUSE
        self._task = Lone("veriff-async listener")

    def look(self, session_id: str) -> None:
        """Look at a session that somebody begins to wait for."""
        if not self._task.begin(self._run):  # else a feed begins with a look at everything
            self._wanted[session_id] = None
            self._wake.set()

    def stop(self) -> None:
        """Stop, because nobody waits any more."""
        self._wanted.clear()
        self._task.stop()

    async def aclose(self) -> None:
        """Stop, and see the end of it."""
        self.stop()
        await self._task.aclose()

    async def _run(self) -> None:
        self._pause = _FIRST_PAUSE
        # Before CPython 3.13 a task group that fails at the moment of its cancelling forgets that it was cancelled, so
        # whoever was stopped looks for it.
        while self._task.is_mine:
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._follow(), name="veriff-async inbox feed")
                    both.create_task(self._look(), name="veriff-async inbox look")
            except* Exception as errors:  # noqa: BLE001  an inbox of the user's own may raise anything
                first = next(iter(_leaves(errors)))
                _LOG.warning("the inbox failed with %s; waits go on by polling, and it is tried again", first)
            self._turn(False)  # noqa: FBT003  what the turn is, its name says
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _follow(self) -> None:
        async with aclosing(self._inbox.changes()) as changes:
            async for session_id in changes:
                if session_id is None:
                    self._wanted |= dict.fromkeys(self._watched)
                elif session_id in self._watched:
                    self._wanted[session_id] = None
                self._wake.set()
        msg = "its feed has ended"
        raise EOFError(msg)

    async def _look(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                some = tuple(islice(self._wanted, _LOOKED_AT_ONCE))
                new = [wait for session_id in some for wait in self._new(session_id)]
                for session_id in some:
                    del self._wanted[session_id]
                for state in (await self._inbox.look(some)).values():
                    self._tell(state)
                for wait in new:
                    wait.is_new = False
            self._pause = _FIRST_PAUSE
            self._turn(True)  # noqa: FBT003  what the turn is, its name says

    def _new(self, session_id: str) -> list[Wait]:
        watched = self._watched.get(session_id)
        return [] if watched is None else [wait for wait in watched.waits if wait.is_new]


def _leaves(errors: BaseExceptionGroup[Exception]) -> list[str]:
    return [
        name
        for error in errors.exceptions
        for name in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [type(error).__name__])
    ]
