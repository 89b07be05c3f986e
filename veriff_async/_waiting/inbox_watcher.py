"""Follows the inbox for all waits of a client, and looks at sessions when a wait begins or they change.

Theory of operation: one feed of changes says which sessions to look at, and one loop looks at them, many at once. If
either ends for any reason, both start again after a pause, with a look at every session; until a look succeeds the
client polls as if there were no inbox. A look that fails although the inbox answers for another session is repeated
with halves of its sessions, so that one record that cannot be read stops nothing but its own session.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from veriff_async._event_loop import is_being_cancelled
from veriff_async._waiting.task import RestartableTask
from veriff_async.errors import InboxError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from veriff_async._waiting.registry import Wait, Watched
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.state import SessionState

__all__ = ("PROBE", "Listener", "answer_of", "in_time")

_T = TypeVar("_T")

_LOG: Final = logging.getLogger("veriff_async.waiting")

PROBE: Final = "veriff-async-probe"
"""An id that no session has: an inbox that answers for it serves, and what failed was the record of another session."""

_LOOKED_AT_ONCE: Final = 500
"""Sessions in one look, so that a loop with very many waits turns in between."""

_PATIENCE: Final = 60.0
"""Seconds for one look, and for the first word of a feed, after which the inbox counts as failing."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class Listener:
    """Follows an inbox while a wait is open.

    Args:
        inbox: The inbox.
        watched: The sessions that are waited for, by id.
        on_state: Called with each state that was found, and the waits that it is new to; ``None`` for all.
        on_health: Called with whether the inbox serves, after each look and each failure.
        on_unreadable: Called with a session whose record cannot be read.
    """

    def __init__(
        self,
        inbox: Inbox,
        watched: Mapping[str, Watched],
        *,
        on_state: Callable[[SessionState, Sequence[Wait] | None], None],
        on_health: Callable[[bool], None],
        on_unreadable: Callable[[str], None],
    ) -> None:
        """Start nothing yet."""
        self._inbox = inbox
        self._watched = watched
        self._on_state = on_state
        self._on_health = on_health
        self._on_unreadable = on_unreadable
        self.unreadable: set[str] = set()
        """Sessions whose records cannot be read."""
        self._wanted: dict[str, Wait | list[Wait] | None] = {}
        """Sessions to look at, in this order, with the waits that a state is new to; ``None`` for all.

        A list for each session would add four per cent to the memory of a wait, when very many begin at once.
        """
        self._wake = asyncio.Event()
        self._is_following = False
        self._is_warned = False
        self._pause = _FIRST_PAUSE
        self._task = RestartableTask("veriff-async listener", self._run)

    def look(self, session_id: str, wait: Wait) -> None:
        """Look at a session for a wait that begins."""
        if session_id not in self._wanted:
            self._wanted[session_id] = wait
        elif (waits := self._wanted[session_id]) is not None:
            if isinstance(waits, list):
                waits.append(wait)
            else:
                self._wanted[session_id] = [waits, wait]
        if self._is_following:  # else the feed begins with a look at everything
            self._wake.set()
        self._task.start()

    def forget(self, session_id: str) -> None:
        """Look no more at a session, because its last wait has ended."""
        self._wanted.pop(session_id, None)
        self.unreadable.discard(session_id)

    def stop(self) -> None:
        """Stop, because no wait is open."""
        self._wanted.clear()
        self._is_following = False
        self._task.stop()

    async def aclose(self) -> None:
        """Stop, and wait for the end of it."""
        self.stop()
        await self._task.aclose()

    async def _run(self) -> None:
        self._pause = _FIRST_PAUSE
        while True:
            problem = await self._serve()
            self._is_following = False
            if not self._is_warned:
                self._is_warned = True
                _LOG.warning("the inbox failed with %s; waits go on by polling, and it is tried again", problem)
            self._on_health(False)  # noqa: FBT003  the name of the callback says what it is
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _serve(self) -> str:
        """Follow and look until one of the two ends, however it does; return the class of the error."""
        loop = asyncio.get_running_loop()
        # No task group: it takes a CancelledError that the inbox raises for a task that was meant to end.
        tasks = [
            loop.create_task(self._follow(), name="veriff-async inbox feed"),
            loop.create_task(self._look(), name="veriff-async inbox look"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        errors = [None if task.cancelled() else task.exception() for task in done]
        return next((type(error).__name__ for error in errors if error is not None), "CancelledError")

    async def _follow(self) -> None:
        async with aclosing(self._inbox.subscribe()) as changes:
            async with asyncio.timeout(_PATIENCE) as start:
                async for session_id in changes:
                    start.reschedule(None)
                    self._on_change(session_id)
        msg = "its feed has ended"
        raise EOFError(msg)

    def _on_change(self, session_id: str | None) -> None:
        self._is_following = True
        if session_id is None:
            self._wanted |= dict.fromkeys(self._watched)
        elif session_id in self._watched:
            self._wanted[session_id] = None
        self._wake.set()

    async def _look(self) -> None:
        while True:
            await self._wait_for_work()
            while self._wanted:
                some = {session_id: self._new(session_id) for session_id in islice(self._wanted, _LOOKED_AT_ONCE)}
                everyone = {session_id for session_id in some if self._wanted.pop(session_id) is None}
                try:
                    states = await self._states(list(some))
                except BaseException:
                    self._wanted |= dict.fromkeys(session_id for session_id in some if session_id in self._watched)
                    raise
                for session_id, state in states.items():
                    self._show(session_id, state, None if session_id in everyone else some.get(session_id))
                for session_id in some.keys() - self.unreadable:
                    for wait in some[session_id]:
                        wait.is_new = False
            self._pause = _FIRST_PAUSE
            self._is_warned = False
            self._on_health(True)  # noqa: FBT003  the name of the callback says what it is

    async def _wait_for_work(self) -> None:
        """Sleep until there is a session to look at; sessions that cannot be read are tried again now and then."""
        try:
            async with asyncio.timeout(_LONGEST_PAUSE if self.unreadable else None):
                await self._wake.wait()
        except TimeoutError:
            self._wanted |= dict.fromkeys(self.unreadable)
        self._wake.clear()

    def _show(self, session_id: str, state: SessionState, waits: list[Wait] | None) -> None:
        try:
            self._on_state(state, waits)
        except Exception:  # noqa: BLE001  an inbox of the user's own may return anything
            self._set_unreadable(session_id)

    def _new(self, session_id: str) -> list[Wait]:
        """Return the waits that one look at a session is for."""
        waits, watched = self._wanted[session_id], self._watched.get(session_id)
        if waits is None:
            return [] if watched is None else [wait for wait in watched.waits if wait.is_new]
        return waits if isinstance(waits, list) else [waits]

    async def _states(self, session_ids: list[str]) -> Mapping[str, SessionState]:
        try:
            found = await answer_of(self._inbox, session_ids)
        except Exception:  # noqa: BLE001  an inbox of the user's own may raise anything
            await answer_of(self._inbox, [PROBE])
        else:
            self.unreadable.difference_update(session_ids)
            return found
        if len(session_ids) == 1:
            self._set_unreadable(session_ids[0])
            return {}
        half = len(session_ids) // 2
        first = await self._states(session_ids[:half])
        return {**first, **await self._states(session_ids[half:])}

    def _set_unreadable(self, session_id: str) -> None:
        if session_id in self.unreadable or session_id not in self._watched:
            return
        self.unreadable.add(session_id)
        _LOG.warning("the inbox cannot read what it keeps of session %s; the session is polled instead", session_id)
        self._on_unreadable(session_id)


async def answer_of(inbox: Inbox, session_ids: Collection[str]) -> Mapping[str, SessionState]:
    """Look at sessions.

    Raises:
        InboxError: See `in_time`.
        Exception: The error of the inbox.
    """
    return await in_time(inbox.get_states(session_ids), _PATIENCE)


async def in_time(call: Awaitable[_T], seconds: float) -> _T:
    """Await a call of an inbox, which may be code of the user's own.

    Raises:
        InboxError: It takes too long, or raises a `CancelledError` although the calling task was not cancelled.
        Exception: The error of the inbox.
    """
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        problem = "does not answer"
    except asyncio.CancelledError:
        if is_being_cancelled():
            raise
        problem = "cancelled a call"
    msg = f"The inbox {problem}: look at its server, its disk and its log."
    raise InboxError(msg)
