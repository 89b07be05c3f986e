"""Watches: async iterators over the states of one session.

A `Watcher` is the waiter of one watch. It holds the state that it has shown last, and nothing else: the latest state is
that of its session. So a slow consumer skips states instead of queueing them, and any number of watches costs one
poll and one lookup.

    inbox, poll, own call ─► WatchedSession.state ─► Watcher.on_state ─► future ─► SessionWatch.__anext__ ─► take

`SessionWatch` is the iterator, which the registry of waiters does not refer to. So a watch that is left by ``break``,
or whose task was cancelled, is collected as garbage, and its finalizer removes the watcher.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from attrs import define, field

from veriff_async._protocol.watched_state import first_state, is_shown
from veriff_async._waiting.registry import SessionWaiters, Waiter
from veriff_async._waiting.watched_session import WatchedSession
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from veriff_async._waiting.waiters import DecisionWaiters
    from veriff_async.config import PollPolicy
    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status
    from veriff_async.models.state import SessionState

__all__ = ("SessionWatch",)


@define(eq=False, weakref_slot=False)
class Watcher(Waiter):
    """The waiter of one watch.

    Attributes:
        owner: All waiters of the client.
        session: The waiters of the session.
        watched: The state of the session.
        shown: The state that was shown last.
        error: Ends the watch, after it has shown the latest state.
        traceback: That of the error; other waiters may raise the same error, which adds their frames to it.
        future: Resolved by news, while the consumer waits for them.
        timer: Ends the watch after its timeout.
        source: How the last decision on the session was learned.
        is_registered: Whether it is among the waiters of the session.
    """

    owner: DecisionWaiters
    session: SessionWaiters
    watched: WatchedSession
    _loop: asyncio.AbstractEventLoop
    shown: SessionState | None = field(default=None, init=False)
    error: Exception | None = field(default=None, init=False)
    traceback: TracebackType | None = field(default=None, init=False)
    future: asyncio.Future[None] | None = field(default=None, init=False)
    timer: asyncio.TimerHandle | None = field(default=None, init=False)
    source: DecisionSource = field(default=DecisionSource.KNOWN, init=False)
    is_registered: bool = field(default=True, init=False)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the watch."""
        return self._loop

    @property
    def is_done(self) -> bool:
        """Whether the watch needs no further news, since it can show how the session ended."""
        state = self.watched.state
        return self.error is not None or (state is not None and state.status.is_final)

    def fail(self, error: Exception) -> None:
        """End the watch with an error, after it has shown the latest state."""
        if self.error is None:
            self.error, self.traceback = error, error.__traceback__
        if self.shown is None:
            self.session.show_first()  # an inbox that is slow to answer must not hide what the program knows
        self.on_state()

    def notify(self, decision: Decision, source: DecisionSource) -> None:  # noqa: ARG002  the state has it
        """Remember the source; the decision changes the state of the session."""
        self.source = source

    def on_state(self) -> None:
        """Let the consumer continue."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def take(self) -> SessionState | None:
        """Return the latest state, unless the watch has shown it."""
        state = self.watched.state
        if state is None or (self.shown is not None and is_shown(self.shown, state)):
            return None
        self.shown = state
        return state

    def remove(self) -> None:
        """Leave nothing registered; a second call does nothing."""
        if self.is_registered:
            self.is_registered = False
            if self.timer is not None:
                self.timer.cancel()
            self.owner.remove(self.session, self)
            self.on_state()


class SessionWatch:
    """The states of a session, one after the other; `VerificationSession.watch` returns it.

    It begins at its first step: before that, nothing is registered or asked for. A cancelled step loses no state: the
    next one returns it. Use it in one task at a time.
    """

    def __init__(  # noqa: PLR0913  the parts of a watch
        self,
        waiters: DecisionWaiters,
        session_id: str,
        *,
        timeout: float | None,
        poll: PollPolicy | None,
        get_known: Callable[[], tuple[Status | None, Decision | None]],
        on_state: Callable[[SessionState], None],
    ) -> None:
        """Store the arguments; use `VerificationSession.watch` instead."""
        self._waiters = waiters
        self._session_id = session_id
        self._timeout = timeout
        self._poll = poll
        self._get_known = get_known
        self._on_state = on_state
        self._watcher: Watcher | None = None
        self._has_ended = False

    def __aiter__(self) -> Self:
        """Return the iterator itself."""
        return self

    async def __anext__(self) -> SessionState:
        """Return the next state.

        Raises:
            StopAsyncIteration: The watch has ended.
            VeriffError: See `VerificationSession.watch`.
            RuntimeError: Another task is waiting for the next state.
        """
        if self._has_ended:
            raise StopAsyncIteration
        watcher = self._watcher = self._watcher or self._start()
        if watcher.future is not None:
            msg = "Another task is waiting for the next state of this watch: call watch() once for each task."
            raise RuntimeError(msg)
        while (state := watcher.take()) is None:
            if watcher.error is not None:
                self._end()
                raise watcher.error.with_traceback(watcher.traceback)
            if self._has_ended:  # by `aclose` in another task
                raise StopAsyncIteration
            watcher.future = watcher.loop.create_future()
            try:
                await watcher.future
            finally:
                watcher.future = None
        if state.status.is_final:
            self._waiters.counters.decisions[watcher.source] += 1
            self._end()
        self._on_state(state)
        return state

    async def aclose(self) -> None:
        """End the watch. A task that waits for its next state gets `StopAsyncIteration`."""
        self._end()

    def __del__(self) -> None:
        """Remove what is registered, if the iteration was left before its end."""
        watcher = getattr(self, "_watcher", None)  # missing if `__init__` has raised
        if watcher is not None and watcher.is_registered:
            # Later, since garbage may be collected in any thread, and in the middle of any change of the registry.
            with suppress(RuntimeError):  # the loop is closed, and nothing of it runs
                watcher.loop.call_soon_threadsafe(watcher.remove)

    def _start(self) -> Watcher:
        waiters, (status, last) = self._waiters, self._get_known()
        waiters.check_open()
        session = waiters.get_session(self._session_id, status)
        if session.watched is None:
            session.watched = WatchedSession(self._session_id, first_state(self._session_id, status, last))
        elif status is not None and session.watched.add_known(status):
            session.wake_watches()
        schedule = waiters.get_schedule(session, self._poll)
        watcher = Watcher(schedule, waiters, session, session.watched, asyncio.get_running_loop())
        if not waiters.has_working_inbox:  # which may know a later state
            session.show_first()
        watcher.timer = waiters.add(session, watcher, self._timeout)
        return watcher

    def _end(self) -> None:
        self._has_ended = True
        if self._watcher is not None:
            self._watcher.remove()
