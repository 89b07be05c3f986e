"""Watches the inbox on behalf of all waiters of a client.

One subscription reports *which* sessions changed, and one loop looks those sessions up, many at once. Changes carry no
state, so a change that is lost, repeated or late costs at most a lookup:

    look_up(), for a new waiter ──► _pending ──► _look_up_pending ──► observer.on_state
    _subscribe, for a change    ──►

* If the subscription or the lookups end for any reason, both start again after a pause. A subscription starts with a
  lookup of every session, so nothing that happened in between is missed.
* From such an end until the next successful lookup, the observer polls as if there were no inbox.
* A lookup of many sessions may fail because of one damaged record. If the inbox can still look up an id that does not
  exist, the sessions are looked up in halves until the damaged ones are found; the observer polls these.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from veriff_async._logging import log_fields
from veriff_async._waiting.failure_timer import FailureTimer
from veriff_async._waiting.inbox_calls import LOOKUP_TIMEOUT, PROBE_ID, InboxFailures, get_states
from veriff_async._waiting.task import RestartableTask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextvars import Context

    from veriff_async._waiting.registry import SessionWaiters, Waiter
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.state import SessionState

__all__ = ("InboxObserver", "InboxWatcher")

_LOG: Final = logging.getLogger("veriff_async.waiting")

# Sessions in one lookup, so that other tasks can run between the batches when there are very many waiters.
_BATCH_SIZE: Final = 500

_INITIAL_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 30.0


class InboxObserver(Protocol):
    """The owner of an inbox watcher: it has the waiters and receives what the watcher finds."""

    @property
    def sessions(self) -> Mapping[str, SessionWaiters]:
        """The sessions that have waiters, by id."""
        ...

    def on_state(self, state: SessionState, waiters: Sequence[Waiter] | None) -> None:
        """Handle the state of a session, which is new to some of its waiters; ``None`` stands for all."""
        ...

    def on_unknown(self, session_id: str) -> None:
        """Handle a session that the inbox does not have."""
        ...

    def on_inbox_health(self, *, is_healthy: bool) -> None:
        """Handle a lookup that succeeded, or a failure; called repeatedly with the same health, too."""
        ...

    def on_unreadable(self, session_id: str) -> None:
        """Handle a session whose record cannot be read."""
        ...

    def background_context(self) -> Context | None:
        """Return the context of background tasks; ``None`` stands for that of the wait that starts them."""
        ...


class InboxWatcher:
    """Watches an inbox while there are waiters."""

    def __init__(self, inbox: Inbox, observer: InboxObserver, failures: InboxFailures | None = None) -> None:
        """Start nothing yet."""
        self._inbox = inbox
        self._observer = observer
        self._failures = failures or InboxFailures()
        self.unreadable: set[str] = set()
        """Sessions whose records cannot be read."""
        self._pending: dict[str, Waiter | list[Waiter] | None] = {}
        """Sessions to look up, in this order, with the waiters that a state is new to; ``None`` for all.

        A list for each session would add four per cent to the memory of a waiter when very many start together.
        """
        self._wake = asyncio.Event()
        self._is_subscribed = False
        self._outage = FailureTimer()
        self._backoff = _INITIAL_BACKOFF
        self._task = RestartableTask("veriff-async inbox watcher", self._run, observer.background_context)

    @property
    def backlog(self) -> int:
        """Number of sessions that wait for a lookup."""
        return len(self._pending)

    def look_up(self, session_id: str, waiter: Waiter) -> None:
        """Look a session up for a new waiter."""
        if session_id not in self._pending:
            self._pending[session_id] = waiter
        elif (waiters := self._pending[session_id]) is not None:
            if isinstance(waiters, list):
                waiters.append(waiter)
            else:
                self._pending[session_id] = [waiters, waiter]
        if self._is_subscribed:  # otherwise the subscription starts with a lookup of everything
            self._wake.set()
        self._task.start()

    def forget(self, session_id: str) -> None:
        """Drop a session whose last waiter has gone."""
        self._pending.pop(session_id, None)
        self.unreadable.discard(session_id)

    def stop(self) -> None:
        """Stop watching, because the last waiter has gone."""
        self._pending.clear()
        self._is_subscribed = False
        self._task.stop()

    async def aclose(self) -> None:
        """Stop watching, and wait for the end of the background task."""
        self.stop()
        await self._task.aclose()

    async def _run(self) -> None:
        self._backoff = _INITIAL_BACKOFF
        while True:
            problem = await self._watch_until_failure()
            self._is_subscribed = False
            self._failures.add(problem)
            self._log_failure(problem)
            self._observer.on_inbox_health(is_healthy=False)
            await asyncio.sleep(self._backoff * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            self._backoff = min(self._backoff * 2, _MAX_BACKOFF)

    def _log_failure(self, problem: str) -> None:
        if self._outage.fail():
            fields = log_fields(error=problem)
            _LOG.info("The inbox failed with %s; waits continue by polling, and it is retried.", problem, extra=fields)
        elif self._outage.must_report():
            seconds = self._outage.failing_for
            fields = log_fields(error=problem, failing_for=seconds)
            _LOG.warning("The inbox has failed for %.0f s, at last with %s: check it.", seconds, problem, extra=fields)

    def _log_success(self) -> None:
        seconds = self._outage.failing_for
        if seconds:
            _LOG.info("The inbox works again after %.0f s.", seconds, extra=log_fields(failing_for=seconds))
        self._outage.end()

    async def _watch_until_failure(self) -> str:
        """Subscribe and look up until one of them ends, and return the class of its error."""
        loop = asyncio.get_running_loop()
        # Not a task group: it would treat a CancelledError that the inbox raises as the end of a cancelled child.
        tasks = [
            loop.create_task(self._subscribe(), name="veriff-async inbox subscription"),
            loop.create_task(self._look_up_pending(), name="veriff-async inbox lookup"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        errors = [None if task.cancelled() else task.exception() for task in done]
        return next((type(error).__name__ for error in errors if error is not None), "CancelledError")

    async def _subscribe(self) -> None:
        async with aclosing(self._inbox.subscribe()) as changes:
            # The deadline covers the first change only, which an inbox reports as soon as the subscription is active.
            async with asyncio.timeout(LOOKUP_TIMEOUT) as deadline:
                async for session_id in changes:
                    deadline.reschedule(None)
                    self._on_change(session_id)
        msg = "the subscription has ended"
        raise EOFError(msg)

    def _on_change(self, session_id: str | None) -> None:
        """Schedule lookups for a change; ``None`` means that any session may have changed."""
        self._is_subscribed = True
        if session_id is None:
            self._pending |= dict.fromkeys(self._observer.sessions)
        elif session_id in self._observer.sessions:
            self._pending[session_id] = None
        self._wake.set()

    async def _look_up_pending(self) -> None:
        while True:
            await self._wait_for_pending()
            while self._pending:
                await self._look_up_batch()
            self._backoff = _INITIAL_BACKOFF
            self._log_success()
            self._observer.on_inbox_health(is_healthy=True)

    async def _look_up_batch(self) -> None:
        # The new waiters are collected before the lookup: for those that join during it, the state may be out of date.
        batch = {session_id: self._new_waiters(session_id) for session_id in islice(self._pending, _BATCH_SIZE)}
        changed = {session_id for session_id in batch if self._pending.pop(session_id) is None}
        try:
            states = await self._get_states(list(batch))
        except BaseException:
            sessions = self._observer.sessions
            self._pending |= dict.fromkeys(session_id for session_id in batch if session_id in sessions)
            raise
        for session_id, state in states.items():
            self._report(session_id, state, None if session_id in changed else batch.get(session_id))
        for session_id in batch.keys() - self.unreadable:
            for waiter in batch[session_id]:
                waiter.is_new = False
            if session_id not in states:
                self._observer.on_unknown(session_id)

    async def _wait_for_pending(self) -> None:
        """Sleep until there is a session to look up; unreadable sessions are retried now and then."""
        try:
            async with asyncio.timeout(_MAX_BACKOFF if self.unreadable else None):
                await self._wake.wait()
        except TimeoutError:
            self._pending |= dict.fromkeys(self.unreadable)
        self._wake.clear()

    def _report(self, session_id: str, state: SessionState, waiters: list[Waiter] | None) -> None:
        try:
            self._observer.on_state(state, waiters)
        except Exception:  # noqa: BLE001  a user's inbox may return anything
            self._set_unreadable(session_id)

    def _new_waiters(self, session_id: str) -> list[Waiter]:
        """Return the waiters for which a session is looked up for the first time."""
        waiters, session = self._pending[session_id], self._observer.sessions.get(session_id)
        if waiters is None:
            return [] if session is None else [waiter for waiter in session.waiters if waiter.is_new]
        return waiters if isinstance(waiters, list) else [waiters]

    async def _get_states(self, session_ids: list[str]) -> Mapping[str, SessionState]:
        """Look sessions up, and set those apart whose records cannot be read."""
        try:
            states = await get_states(self._inbox, session_ids)
        except Exception:  # noqa: BLE001  a user's inbox may raise anything
            await get_states(self._inbox, [PROBE_ID])  # raises if the whole inbox fails
        else:
            self.unreadable.difference_update(session_ids)
            return states
        if len(session_ids) == 1:
            self._set_unreadable(session_ids[0])
            return {}
        half = len(session_ids) // 2
        first = await self._get_states(session_ids[:half])
        return {**first, **await self._get_states(session_ids[half:])}

    def _set_unreadable(self, session_id: str) -> None:
        if session_id in self.unreadable or session_id not in self._observer.sessions:
            return
        self.unreadable.add(session_id)
        fields = log_fields(session_id=session_id)
        _LOG.warning(
            "The inbox cannot read its record of session %s; the session is polled instead.", session_id, extra=fields
        )
        self._observer.on_unreadable(session_id)
