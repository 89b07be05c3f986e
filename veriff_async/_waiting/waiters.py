"""Coroutines that wait for a decision.

A waiter is one future. Two sources can resolve it: the inbox watcher, when any process has recorded a webhook, and the
poller, which asks Veriff. Both report *states* rather than events, so a decision that was recorded before the wait
began, arrives twice or arrives late is handled by the same code:

    wait()   1. register the waiter
             2. schedule a poll and a lookup in the inbox
             3. await the future
             4. unregister, however the wait ended; the last waiter stops poller and watcher

    webhook, in any process ─► inbox ─► InboxWatcher ─► on_state ──┐
    Poller ──────────────────► poll ───────────────────► publish ──┼─► SessionWaiters.notify ─► Waiter.future
    session.decision() ────────────────────────────────► publish ──┘

`DecisionWaiters` owns poller and watcher and passes itself to them; they call it through `PollHandler` and
`InboxObserver`, which list all that they need of it.

Why no decision is lost, and no old one returned:
  * A waiter is registered before anything is looked up, which leaves no gap between lookup and sleep.
  * Everything runs in one event loop, and nothing is awaited between the check of a decision and the result of a
    future.
  * A decision resolves a waiter only if it is newer than the one that its caller has (`status_transitions.is_news`), no
    submission has answered it (`DecisionMemory`), and no newer attempt has superseded it (`SessionWaiters.superseded`).
  * A polled decision goes to the inbox first, which may know of a newer one. While the inbox fails, waiters come first.
  * A session is polled only while it has waiters, once at a time, by the policy of each waiter.
  * An error ends only the waiters of its session, and only if repeating the poll cannot help; see `_must_fail`.

Cost per waiter: a future, a `Waiter` and a timer; 1.8 KiB were measured, its own session and the caller's task
included. A task or a cancel scope of our own for each waiter would add several KiB. Registration, notification and
removal take the same time for each waiter, however many a session has.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.poll_interval import poll_delay
from veriff_async._protocol.status_transitions import identity, is_later, is_news, is_same
from veriff_async._waiting.decision_memory import DecisionMemory
from veriff_async._waiting.inbox_calls import BestEffortInbox
from veriff_async._waiting.inbox_watcher import InboxWatcher
from veriff_async._waiting.poller import Poller
from veriff_async._waiting.registry import NEVER, CustomSchedule, SessionWaiters, Waiter
from veriff_async._waiting.submissions import Submissions
from veriff_async.config import SAFETY_NET, PollPolicy
from veriff_async.errors import (
    ClientClosedError,
    DecisionTimeoutError,
    NotFoundError,
    RateLimitedError,
    ResponseError,
    ServerError,
    TransportError,
)
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from veriff_async._waiting.registry import PollSchedule
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("DecisionWaiters",)

_LOG: Final = logging.getLogger("veriff_async.waiting")

# Sessions that are rescheduled before other tasks may run.
_RESCHEDULE_BATCH: Final = 1_000

_TRANSIENT: Final = (TransportError, ServerError, RateLimitedError)
"""Errors of a poll that never end a wait."""

# Responses in a row that cannot be read or trusted, after which waiters fail: a proxy may garble one or two.
_MAX_BAD_RESPONSES: Final = 3


class DecisionWaiters:
    """All waiters of one client.

    Args:
        get_decision: Asks Veriff for the decision on a session.
        poll: The client's polling policy; the default depends on the inbox.
        inbox: The inbox that records webhooks.
        memory: The decisions that the client has seen, if it was open before.
    """

    def __init__(
        self,
        get_decision: Callable[[str], Awaitable[Decision | None]],
        *,
        poll: PollPolicy | None = None,
        inbox: Inbox | None = None,
        memory: DecisionMemory | None = None,
    ) -> None:
        """Start nothing yet."""
        self._policy_without_inbox = poll or PollPolicy()
        self._policy_with_inbox = poll or (PollPolicy() if inbox is None else SAFETY_NET)
        self._get_decision = get_decision
        self._inbox = BestEffortInbox(inbox)
        self._memory = memory or DecisionMemory()
        self.submissions: Submissions = Submissions(get_decision, self._inbox, self._memory)
        self.sessions: dict[str, SessionWaiters] = {}
        """The sessions that have waiters, by id."""
        self._custom_schedules: dict[tuple[str, PollPolicy], CustomSchedule] = {}
        self._poller = Poller(self, max_rate=self._policy_without_inbox.max_rate)
        self._watcher = None if inbox is None else InboxWatcher(inbox, self)
        self._is_inbox_healthy = True
        self._rescheduling: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many coroutines are waiting."""
        return sum(len(session.waiters) for session in self.sessions.values())

    @property
    def sequence(self) -> int:
        """Read it before a request for a decision, and pass it to `publish` with the response."""
        return self._memory.sequence

    async def wait(  # noqa: PLR0913  the parts of a wait
        self,
        session_id: str,
        *,
        until: Callable[[Decision], bool],
        timeout: float | None,  # noqa: ASYNC109  one timer on the future costs a quarter of a cancel scope
        poll: PollPolicy | None = None,
        last: Decision | None = None,
        last_status: Status | None = None,
    ) -> Decision:
        """Return the first decision on a session that satisfies `until` and is newer than `last`.

        Raises:
            DecisionTimeoutError: `timeout` seconds passed.
            ClientClosedError: The client was closed.
            VeriffError: Veriff rejects the poll, for example because it does not know the session; see `_must_fail`.
        """
        require_asyncio()
        if self._is_closed:
            raise _client_closed_error()
        if timeout == 0:
            return await self._check_once(session_id, until, last, last_status)
        loop = asyncio.get_running_loop()
        session = self._get_session(session_id, last_status)
        waiter = Waiter(until, loop.create_future(), self._get_schedule(session, poll), last)
        session.add(waiter)
        self._schedule_poll(waiter, timeout)
        if self._watcher is not None:
            self._watcher.look_up(session_id, waiter)
        timer = None if timeout is None else loop.call_later(timeout, _expire, session, waiter, timeout)
        try:
            return await waiter.future
        finally:
            if timer is not None:
                timer.cancel()
            self._remove(session, waiter)

    async def publish(self, decision: Decision, asked_at: int) -> bool:
        """Notify the waiters for a polled decision, here and, through the inbox, in other processes.

        Args:
            decision: The decision.
            asked_at: The `sequence` when the request started.

        Returns:
            Whether the decision is current: a submission may have answered it, or a newer decision may be known.
        """
        if not self._memory.add(decision, asked_at):
            return False
        session = self.sessions.get(decision.session_id)
        is_recorded = session is not None and session.recorded == identity(decision)
        if session is not None and not self._is_inbox_healthy:  # the record below may run into its deadline
            session.notify(decision, DecisionSource.POLL)
        if self._inbox.inbox is not None and not is_recorded:
            # Imported here because clients without an inbox never need it.
            from veriff_async._protocol.webhook import event_from_decision

            result = await self._inbox.record(
                event_from_decision(decision), consequence="a polled decision is not recorded"
            )
            session = self.sessions.get(decision.session_id)  # waiters may have come or gone
            if result is not None and not _is_effective(result, decision):
                return False
            if result is not None and session is not None:
                session.recorded = identity(decision)
        if session is not None:
            session.notify(decision, DecisionSource.POLL)
        return True

    def end(self) -> None:
        """End all waits, and every later one, with `ClientClosedError`."""
        self._is_closed = True
        for session in tuple(self.sessions.values()):
            session.fail(_client_closed_error())

    async def aclose(self) -> None:
        """End all waits, the poller and the inbox watcher."""
        self.end()
        self.submissions.is_closed = True
        await self._poller.aclose()
        if self._watcher is not None:
            await self._watcher.aclose()
        if self._rescheduling is not None:
            self._rescheduling.cancel()
            await asyncio.gather(self._rescheduling, return_exceptions=True)

    async def _check_once(
        self, session_id: str, until: Callable[[Decision], bool], last: Decision | None, last_status: Status | None
    ) -> Decision:
        """Return a decision from the inbox or else from one poll."""
        state = await self._inbox.get_state(session_id)
        effective = None if state is None else state.effective_decision
        is_known = effective is not None and not self._memory.is_answered(effective)
        if effective is not None and is_known and is_news(effective, last) and until(effective):
            return evolve(effective, source=DecisionSource.KNOWN)
        asked_at = self._memory.sequence
        decision = await self._get_decision(session_id)
        is_current = decision is not None and await self.publish(decision, asked_at)
        if decision is not None and is_current and is_news(decision, last) and until(decision):
            return evolve(decision, source=DecisionSource.POLL)
        status = last_status if state is None else state.status
        session = SessionWaiters(session_id, last_status=status if decision is None else decision.status)
        raise _timeout_error(session, 0.0)

    def _get_session(self, session_id: str, last_status: Status | None) -> SessionWaiters:
        session = self.sessions.get(session_id)
        if session is None:
            session = self.sessions[session_id] = SessionWaiters(session_id)
        # The status of the inbox or of a poll is newer than that of the session object.
        session.last_status = session.last_status or last_status
        return session

    def _get_schedule(self, session: SessionWaiters, poll: PollPolicy | None) -> PollSchedule:
        """Return the schedule of a new waiter, which starts again with the initial delay."""
        if poll is None:
            session.polls = 0
            return session
        schedule = self._custom_schedules.get((session.session_id, poll))
        if schedule is None:
            schedule = self._custom_schedules[session.session_id, poll] = CustomSchedule(session, poll)
        schedule.polls = 0
        schedule.waiter_count += 1
        return schedule

    def _schedule_poll(self, waiter: Waiter, timeout: float | None) -> None:
        schedule = waiter.schedule
        delay = self.poll_interval(schedule)
        if timeout is not None:
            # A wait that is shorter than the delay polls at least once; a series of such waits would otherwise never
            # poll.
            delay = min(delay, timeout / 2)
        if asyncio.get_running_loop().time() + delay < schedule.due:  # a new waiter never postpones a poll
            self._poller.schedule(schedule, delay)

    def _remove(self, session: SessionWaiters, waiter: Waiter) -> None:
        session.remove(waiter)
        schedule = waiter.schedule
        if isinstance(schedule, CustomSchedule):
            schedule.waiter_count -= 1
            if not schedule.waiter_count:
                self._custom_schedules.pop((session.session_id, schedule.policy), None)
                self._poller.cancel(schedule)
        if not session.waiters:
            self.sessions.pop(session.session_id, None)
            self._poller.cancel(session)
            if self._watcher is not None:
                self._watcher.forget(session.session_id)
        if not self.sessions:
            self._poller.stop()
            if self._watcher is not None:
                self._watcher.stop()

    def _is_watched(self, session_id: str) -> bool:
        """Return whether a webhook for a session would end its waits."""
        return self._watcher is not None and self._is_inbox_healthy and session_id not in self._watcher.unreadable

    # Called by the poller (`PollHandler`).

    async def poll(self, session_id: str) -> None:
        """Ask Veriff for the decision on a session, and notify its waiters."""
        asked_at = self._memory.sequence
        decision = await self._get_decision(session_id)
        if decision is not None:
            await self.publish(decision, asked_at)

    def poll_interval(self, schedule: PollSchedule) -> float:
        """Return the seconds until a schedule is due again."""
        policy = schedule.policy
        if policy is None:
            is_watched = self._is_watched(schedule.session.session_id)
            policy = self._policy_with_inbox if is_watched else self._policy_without_inbox
        return poll_delay(policy, polls=schedule.polls)

    def on_poll_error(self, session: SessionWaiters, error: Exception) -> bool:
        """Fail the waiters of a session if an error of its poll requires it, and return whether they wait on."""
        if not self._must_fail(session, error):
            return True
        session.fail(error)
        return False

    def _must_fail(self, session: SessionWaiters, error: Exception) -> bool:
        """Return whether a failed poll ends the waits for its session.

        Transport errors, 429 and 5xx never do. While the inbox works, a webhook can still end the waits, so only "no
        such session" does, for a session that neither the inbox nor this client has heard of. Otherwise a rejection
        does (401, 403, 404 and other 4xx), because it would be repeated, and so do three responses in a row that cannot
        be read or trusted.
        """
        if isinstance(error, _TRANSIENT):
            return False
        if isinstance(error, ClientClosedError):
            return True
        if self._is_watched(session.session_id):
            return isinstance(error, NotFoundError) and session.last_status is None
        if isinstance(error, ResponseError):
            error_type, times = session.poll_failures or ("", 0)
            return error_type == type(error).__name__ and times >= _MAX_BAD_RESPONSES - 1
        return True

    # Called by the inbox watcher (`InboxObserver`).

    def on_state(self, state: SessionState, waiters: Sequence[Waiter] | None) -> None:
        """Notify waiters of the decision that the inbox has on a session."""
        from veriff_async._protocol.session_state import is_decision_missing

        session = self.sessions.get(state.session_id)
        if session is None:
            return
        session.last_status = state.status
        effective = state.effective_decision
        if effective is not None and not self._memory.is_answered(effective):
            # A newer attempt had seemed to supersede this decision until the decision on that attempt was recorded.
            session.superseded = None
            recorded = identity(effective)
            is_notified, session.recorded = session.recorded == recorded, recorded
            source = state.source or DecisionSource.WEBHOOK
            session.notify(effective, source, from_inbox=True, waiters=waiters if is_notified else None)
            return
        session.superseded, session.recorded = state.decision, None
        if is_decision_missing(state):  # the webhook says that there is a decision, but does not contain it
            self._poller.poll_now(session)

    def on_unreadable(self, session_id: str) -> None:
        """Poll a session as without an inbox, because its record cannot be read."""
        session = self.sessions.get(session_id)
        if session is not None:
            self._restart_schedule(session)

    def on_inbox_health(self, *, is_healthy: bool) -> None:
        """Poll more often while the inbox fails, and rarely again when it works."""
        if is_healthy == self._is_inbox_healthy:
            return
        self._is_inbox_healthy = is_healthy
        if self._rescheduling is not None:  # it may still be running, with the intervals of the opposite health
            self._rescheduling.cancel()
        self._rescheduling = asyncio.get_running_loop().create_task(
            self._reschedule_all(), name="veriff-async rescheduling"
        )

    async def _reschedule_all(self) -> None:
        for number, session in enumerate(tuple(self.sessions.values()), start=1):
            if session.is_needed:
                self._restart_schedule(session)
            if number % _RESCHEDULE_BATCH == 0:
                await asyncio.sleep(0)

    def _restart_schedule(self, session: SessionWaiters) -> None:
        if session.due != NEVER:  # otherwise a poll is running, and the next one is scheduled when it ends
            session.polls = 0
            self._poller.schedule(session, self.poll_interval(session))


def _is_effective(result: RecordResult, decision: Decision) -> bool:
    """Return whether a decision that was recorded is the one to act on."""
    state = result.state
    if state is None or (state.effective_decision is not None and is_same(state.effective_decision, decision)):
        return True
    # A client without an inbox never needs the classes of events, which take a twentieth of the time to import aiohttp.
    from veriff_async.models.state import IgnoredReason

    # A correction that does not prove to be later: the inbox keeps the first final decision, but Veriff returns this
    # one.
    is_end = result.ignored is IgnoredReason.FINAL and decision.status.is_final
    return is_end and (state.decision is None or is_later(decision, state.decision) is not False)


def _expire(session: SessionWaiters, waiter: Waiter, timeout: float) -> None:
    if not waiter.future.done():
        waiter.future.set_exception(_timeout_error(session, timeout))


def _timeout_error(session: SessionWaiters, timeout: float) -> DecisionTimeoutError:
    failure = "" if session.poll_failures is None else f", polling failed with {session.poll_failures[0]}"
    msg = (
        f"No decision on session {session.session_id} came within {timeout:g} s "
        f"(last status: {session.last_status or 'unknown'}{failure}): wait again now or later, the session continues."
    )
    return DecisionTimeoutError(msg, session_id=session.session_id, last_status=session.last_status)


def _client_closed_error() -> ClientClosedError:
    return ClientClosedError("The client was closed, or its waits were ended: wait again with a client that is open.")
