"""Coroutines that wait for a decision: woken by the inbox or the poller, whichever learns of it first.

A wait is one future. Whoever learns of a decision shows it to all waits of its session, and the first that satisfies a
wait resolves it: state, not messages, so order, repetition and lateness do not matter.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from veriff_async.errors import ClientClosedError, DecisionTimeoutError
from veriff_async.listening import Listener
from veriff_async.models.decision import DecisionSource
from veriff_async.polling import Poller
from veriff_async.protocol.backoff import poll_pause
from veriff_async.protocol.lifecycle import identity
from veriff_async.protocol.policies import SAFETY_NET, PollPolicy
from veriff_async.watched import Wait, Watched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.inbox.inbox import Inbox
    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status
    from veriff_async.models.state import SessionState

__all__ = ("Waits",)

_LOG: Final = logging.getLogger(__name__)

_AT_ONCE: Final = 1_000
"""Sessions that get another turn before the loop does."""


class Waits:
    """All waits of one client."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Decision | None]],
        *,
        poll: PollPolicy | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        """Take how a session is asked for its decision, how often, and where webhooks are recorded."""
        self._alone = poll or PollPolicy()
        self._beside = poll or (PollPolicy() if inbox is None else SAFETY_NET)
        self._inbox = inbox
        self._watched: dict[str, Watched] = {}
        self._poller = Poller(ask, rate=self._alone.rate, pause=self._pause, learn=self.learn)
        self._listener = (
            None if inbox is None else Listener(inbox, self._watched, tell=self._told, turn=self._inbox_serves)
        )
        self._serves = True
        self._turning: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def count(self) -> int:
        """How many coroutines wait."""
        return sum(len(watched.waits) for watched in self._watched.values())

    async def wait(  # noqa: PLR0913  what a wait is made of
        self,
        session_id: str,
        *,
        until: Callable[[Decision], bool],
        timeout: float | None,  # noqa: ASYNC109  one timer on the future costs a quarter of a cancel scope
        poll: PollPolicy | None = None,
        last: Decision | None = None,
        last_status: Status | None = None,
    ) -> Decision:
        """Return the first decision on a session that satisfies `until`, and is news after `last`.

        Raises:
            DecisionTimeoutError: `timeout` seconds passed.
            ClientClosedError: The client was closed meanwhile.
            ApiError: Veriff refuses to tell, for example because it does not know the session.
        """
        if self._closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        wait = Wait(until, loop.create_future(), last)
        watched = self._watch(session_id, poll, last_status)
        watched.waits.append(wait)
        # A wait that is short asks at least once: short waits in a row would otherwise never ask.
        pause = self._pause(watched) if timeout is None else min(self._pause(watched), timeout / 2)
        if loop.time() + pause < watched.due:
            self._poller.schedule(watched, pause)
        if self._listener is not None:
            self._listener.look(session_id)
        timer = None if timeout is None else loop.call_later(timeout, _expire, watched, wait, timeout)
        try:
            return await wait.future
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(watched, wait)

    async def learn(self, decision: Decision) -> None:
        """Show a decision that was asked for to whoever waits for its session, here and in other processes."""
        watched = self._watched.get(decision.session_id)
        if watched is not None:
            watched.show(decision, DecisionSource.POLL)
        found = identity(decision)
        if self._inbox is None or (watched is not None and watched.recorded == found):
            return
        from veriff_async.protocol.events import decision_event

        try:
            await self._inbox.record(decision_event(decision), source=DecisionSource.POLL)
        except Exception as error:  # noqa: BLE001  an inbox of the user's own may raise anything
            _LOG.warning("the inbox failed with %s; a decision that was asked for is not in it", type(error).__name__)
        else:
            if watched is not None:
                watched.recorded = found

    async def known(self, session_id: str) -> Decision | None:
        """Return the decision that stands in the inbox, or ``None``, also when the inbox fails."""
        if self._inbox is None:
            return None
        try:
            state = (await self._inbox.look([session_id])).get(session_id)
        except Exception as error:  # noqa: BLE001  an inbox of the user's own may raise anything
            _LOG.warning("the inbox failed with %s; what it knows of a session is not used", type(error).__name__)
            return None
        return None if state is None else state.current

    def end(self) -> None:
        """End every wait with an error, now and later."""
        self._closed = True
        for watched in tuple(self._watched.values()):
            watched.fail(_closed())

    async def aclose(self) -> None:
        """End every wait, the poller and the listener."""
        self.end()
        await self._poller.aclose()
        if self._listener is not None:
            await self._listener.aclose()
        if self._turning is not None:
            self._turning.cancel()
            await asyncio.gather(self._turning, return_exceptions=True)

    def _watch(self, session_id: str, poll: PollPolicy | None, last_status: Status | None) -> Watched:
        watched = self._watched.get(session_id)
        if watched is None:
            watched = self._watched[session_id] = Watched(session_id)
        watched.poll, watched.asked = poll, 0
        watched.last_status = watched.last_status or last_status
        return watched

    def _leave(self, watched: Watched, wait: Wait) -> None:
        watched.waits.remove(wait)
        if not watched.waits:
            self._watched.pop(watched.session_id, None)
        if not self._watched:
            self._poller.stop()
            if self._listener is not None:
                self._listener.stop()

    def _pause(self, watched: Watched) -> float:
        policy = watched.poll or (self._beside if self._serves else self._alone)
        return poll_pause(policy, asked=watched.asked)

    def _told(self, state: SessionState) -> None:
        """Show what the inbox tells."""
        from veriff_async.protocol.ledger import is_untold

        watched = self._watched.get(state.session_id)
        if watched is None:
            return
        watched.last_status = state.status
        current = state.current
        if current is not None:
            watched.recorded = identity(current)
            watched.show(current, state.source or DecisionSource.WEBHOOK, from_inbox=True)
            return
        watched.passed = state.decision
        if is_untold(state):
            self._poller.schedule(watched, 0.0)

    def _inbox_serves(self, serves: bool) -> None:  # noqa: FBT001  one word for a state that has two
        """Ask more often while the inbox fails, and seldom again when it serves."""
        if serves == self._serves:
            return
        self._serves = serves
        if self._turning is not None:
            self._turning.cancel()
        self._turning = asyncio.get_running_loop().create_task(self._turn(), name="veriff-async change of pace")

    async def _turn(self) -> None:
        for place, watched in enumerate(tuple(self._watched.values()), start=1):
            if watched.waits and watched.poll is None and watched.due != float("inf"):
                watched.asked = 0
                self._poller.schedule(watched, self._pause(watched))
            if place % _AT_ONCE == 0:
                await asyncio.sleep(0)


def _expire(watched: Watched, wait: Wait, timeout: float) -> None:
    if not wait.future.done():
        last = watched.last_status
        msg = (
            f"No decision on session {watched.session_id} came within {timeout:g} s "
            f"(last status: {last or 'unknown'}): wait again or later, the session goes on."
        )
        wait.future.set_exception(DecisionTimeoutError(msg, session_id=watched.session_id, last_status=last))


def _closed() -> ClientClosedError:
    return ClientClosedError("The client was closed, or its waits were ended: wait again with a client that is open.")
