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

A watch (`_waiting.watch`) is a waiter too. It is not resolved but shown the state of its session, which all watches of
a session share: `SessionWaiters.watched`.

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
  * An error ends only the waiters of its session, and only if repeating the poll cannot help; see `ends_waits`.

Cost per waiter: a future, a `Waiter` and a timer; 1.8 KiB were measured, its own session and the caller's task
included. A task or a cancel scope of our own for each waiter would add several KiB. Registration, notification and
removal take the same time for each waiter, however many a session has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field

from veriff_async._event_loop import require_asyncio
from veriff_async._logging import log_fields
from veriff_async._protocol.poll_interval import poll_delay
from veriff_async._protocol.status_transitions import identity, is_news, is_same
from veriff_async._telemetry.setup import if_live
from veriff_async._waiting.decision_memory import DecisionMemory
from veriff_async._waiting.inbox_calls import BestEffortInbox
from veriff_async._waiting.inbox_watcher import InboxWatcher
from veriff_async._waiting.poller import Poller
from veriff_async._waiting.registry import NEVER, CustomSchedule, DecisionWaiter, SessionWaiters
from veriff_async._waiting.submissions import Submissions
from veriff_async._waiting.wait_errors import client_closed_error, ends_waits, timeout_error
from veriff_async.config import SAFETY_NET, PollPolicy
from veriff_async.errors import DecisionTimeoutError, VeriffError
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractContextManager
    from contextvars import Context

    from veriff_async._telemetry.waits import Wait, WaitTelemetry
    from veriff_async._waiting.inbox_calls import InboxFailures
    from veriff_async._waiting.registry import PollSchedule, Waiter
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.attempt import Attempt
    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status
    from veriff_async.models.state import SessionState
    from veriff_async.statistics import InboxState

__all__ = ("DecisionWaiters",)

_LOG: Final = logging.getLogger("veriff_async.waiting")

# Sessions that are rescheduled before other tasks may run.
_RESCHEDULE_BATCH: Final = 1_000

_UNOBSERVED: Final = nullcontext[None]()


@define
class WaitCounters:
    """Totals of the waits of one client; see `ClientStatistics`."""

    waits: int = 0
    timeouts: int = 0
    decisions: Counter[DecisionSource | None] = field(factory=Counter[DecisionSource | None])
    polls: int = 0
    poll_failures: int = 0


class DecisionWaiters:
    """All waiters of one client.

    Args:
        get_decision: Asks Veriff for the decision on a session.
        get_attempts: Asks Veriff for the attempts of a session, to show the status of one without a decision.
        poll: The client's polling policy; the default depends on the inbox.
        inbox: The inbox that records webhooks.
        memory: The decisions that the client has seen, if it was open before.
        telemetry: Exports spans and metrics, if the client does.
        check_loop: Raises an error if the client belongs to another event loop.
    """

    def __init__(  # noqa: PLR0913  what all waits share
        self,
        get_decision: Callable[[str], Awaitable[Decision | None]],
        *,
        get_attempts: Callable[[str], Awaitable[Sequence[Attempt]]] | None = None,
        poll: PollPolicy | None = None,
        inbox: Inbox | None = None,
        memory: DecisionMemory | None = None,
        telemetry: WaitTelemetry | None = None,
        check_loop: Callable[[], object] = asyncio.get_running_loop,
    ) -> None:
        """Start nothing yet."""
        self.telemetry: WaitTelemetry | None = telemetry
        self._check_loop = check_loop
        self._policy_without_inbox = poll or PollPolicy()
        self._policy_with_inbox = poll or (PollPolicy() if inbox is None else SAFETY_NET)
        self._get_decision = get_decision
        self._get_attempts = get_attempts
        self._inbox = BestEffortInbox(inbox)
        self._memory = memory or DecisionMemory()
        self.submissions: Submissions = Submissions(self._inbox, self._memory, telemetry)
        self.sessions: dict[str, SessionWaiters] = {}
        """The sessions that have waiters, by id."""
        self._custom_schedules: dict[tuple[str, PollPolicy], CustomSchedule] = {}
        self._poller = Poller(self, max_rate=self._policy_without_inbox.max_rate)
        self._watcher = None if inbox is None else InboxWatcher(inbox, self, self._inbox.failures)
        self._is_inbox_healthy = True
        self._rescheduling: asyncio.Task[None] | None = None
        self._is_closed = False
        self.counters: WaitCounters = WaitCounters()
        self.count: int = 0
        """How many coroutines are waiting."""

    @property
    def max_age(self) -> float:
        """Seconds since the first of the present sessions without a watch got a waiter; zero without a session."""
        # A session is added at the end, and removed when its last waiter leaves, so the first one is the oldest. A
        # watch lasts as long as a page is open, so its age is not a sign of a lost decision.
        # In a copy, which no other thread can change: statistics and exporters of metrics are read in any thread.
        oldest = next((session for session in tuple(self.sessions.values()) if session.watched is None), None)
        waiters = [] if oldest is None else oldest.waiters[:1]
        return max(0.0, waiters[0].loop.time() - oldest.started) if oldest and waiters else 0.0

    @property
    def inbox_state(self) -> InboxState:
        """Whether there is an inbox, and whether it works; see `ClientStatistics`."""
        if self._watcher is None:
            return "none"
        if not self.sessions:
            return "idle"
        return "watching" if self._is_inbox_healthy else "failing"

    @property
    def inbox_failures(self) -> InboxFailures:
        """The failures of the inbox."""
        return self._inbox.failures

    @property
    def inbox_backlog(self) -> int:
        """Number of sessions that the inbox was not asked for yet, although they are new or have changed."""
        return 0 if self._watcher is None else self._watcher.backlog

    @property
    def sequence(self) -> int:
        """Read it before a request for a decision, and pass it to `publish` with the response."""
        return self._memory.sequence

    def at_poll_rate(self, rate: float) -> AbstractContextManager[None]:
        """Poll at another rate during a block; see `Poller.at_rate`."""
        return self._poller.at_rate(rate)

    async def wait(  # noqa: PLR0913  the parts of a wait
        self,
        session_id: str,
        *,
        until: Callable[[Decision], bool],
        timeout: float | None,  # noqa: ASYNC109  one timer on the future costs a quarter of a cancel scope
        poll: PollPolicy | None = None,
        get_decision: Callable[[str], Awaitable[Decision | None]] | None = None,
        last: Decision | None = None,
        last_status: Status | None = None,
    ) -> Decision:
        """Return the first decision on a session that satisfies `until` and is newer than `last`.

        With a timeout of zero, `get_decision` asks Veriff; otherwise the poller does, for all waiters of the session.

        Raises:
            DecisionTimeoutError: `timeout` seconds passed.
            ClientClosedError: The client was closed.
            VeriffError: Veriff rejects the poll, for example because it does not know the session; see `ends_waits`.
        """
        self.check_open()
        telemetry = if_live(self.telemetry)
        # A context manager and not another coroutine: very many coroutines may wait, each with all its frames.
        with _UNOBSERVED if telemetry is None else telemetry.wait(session_id) as observed:
            if timeout == 0:
                get_decision = get_decision or self._get_decision
                decision = await self._check_once(session_id, until, get_decision, last, last_status, observed)
                if observed is not None:
                    observed.decision = decision
                return decision
            loop = asyncio.get_running_loop()
            session = self.get_session(session_id, last_status)
            waiter = DecisionWaiter(self.get_schedule(session, poll), until, loop.create_future(), last)
            waiter.telemetry = observed
            timer = self.add(session, waiter, timeout)
            self.counters.waits += 1
            try:
                decision = await waiter.future
            except DecisionTimeoutError:
                self.counters.timeouts += 1
                raise
            else:
                self.counters.decisions[decision.source] += 1
                if observed is not None:
                    observed.decision, observed.recorded_at = decision, session.recorded_at
                return decision
            finally:
                if observed is not None:
                    observed.submission = session.submission
                if timer is not None:
                    timer.cancel()
                self.remove(session, waiter)

    def check_open(self) -> None:
        """Check that a coroutine may wait.

        Raises:
            ConfigurationError: The event loop is not that of asyncio, or not that of the client.
            ClientClosedError: The client was closed.
        """
        require_asyncio()
        if self._is_closed:
            raise client_closed_error()
        self._check_loop()

    def add(self, session: SessionWaiters, waiter: Waiter, timeout: float | None) -> asyncio.TimerHandle | None:
        """Add a waiter, schedule a poll and a lookup for it, and return the timer that ends it, if there is one."""
        session.add(waiter)
        self.count += 1
        self._schedule_poll(waiter, timeout)
        if self._watcher is not None:
            self._watcher.look_up(session.session_id, waiter)
        if timeout is None:
            return None
        return asyncio.get_running_loop().call_later(timeout, _expire, session, waiter, timeout)

    def add_status(self, session_id: str, status: Status) -> None:
        """Show the watches of a session its status after a call of this client."""
        session = self.sessions.get(session_id)
        if session is not None and session.watched is not None and session.watched.add_status(status):
            session.wake_watches()

    def span(self, name: str, session_id: str) -> AbstractContextManager[None]:
        """Run a block about a session in a span, if spans are exported."""
        telemetry = if_live(self.telemetry)
        return _UNOBSERVED if telemetry is None else telemetry.span(name, session_id)

    async def publish(self, decision: Decision, asked_at: int) -> bool:
        """Notify the waiters for a polled decision, here and, through the inbox, in other processes.

        Returns:
            Whether the decision is current: a submission may have answered it, or a newer decision may be known.
        """
        known = self._memory.latest(decision.session_id)
        if not self._memory.add(decision, asked_at):
            return False
        # Without an inbox, this client alone knows whether a decision is new.
        is_new = self._inbox.inbox is None and (known is None or not is_same(known, decision))
        state: SessionState | None = None
        session = self.sessions.get(decision.session_id)
        is_recorded = session is not None and session.recorded == identity(decision)
        if session is not None and not self._is_inbox_healthy:  # the record below may run into its deadline
            session.notify(decision, DecisionSource.POLL)
        if self._inbox.inbox is not None and not is_recorded:
            # A client without an inbox never needs the classes of events, which take a twentieth of the time to import
            # aiohttp.
            from veriff_async._protocol.session_state import is_effective
            from veriff_async._protocol.webhook import event_from_decision

            result = await self._inbox.record(
                event_from_decision(decision), consequence="a polled decision is not recorded"
            )
            session = self.sessions.get(decision.session_id)  # waiters may have come or gone
            if result is not None and not is_effective(result, decision):
                return False
            if result is not None:
                state, is_new = result.state, result.ignored is None
            if result is not None and session is not None:
                session.recorded = identity(decision)
        if is_new and (telemetry := if_live(self.telemetry)) is not None:
            # A poll was the first to find it.
            is_missed = self._is_watched(decision.session_id)
            submission = telemetry.on_polled_decision(decision, state, is_missed=is_missed)
            if session is not None:
                session.submission, session.recorded_at = submission, time.time()
        if session is not None:
            session.notify(decision, DecisionSource.POLL)
        return True

    def end(self) -> None:
        """End all waits, and every later one, with `ClientClosedError`."""
        self._is_closed = True
        for session in tuple(self.sessions.values()):
            session.fail(client_closed_error())

    async def aclose(self) -> None:
        """End all waits, the poller and the inbox watcher."""
        self.end()
        self.submissions.is_closed = True
        await self.submissions.aclose()
        await self._poller.aclose()
        if self._watcher is not None:
            await self._watcher.aclose()
        if self._rescheduling is not None:
            self._rescheduling.cancel()
            await asyncio.gather(self._rescheduling, return_exceptions=True)

    async def _check_once(  # noqa: PLR0913, PLR0917  the parts of a wait
        self,
        session_id: str,
        until: Callable[[Decision], bool],
        get_decision: Callable[[str], Awaitable[Decision | None]],
        last: Decision | None,
        last_status: Status | None,
        observed: Wait | None,
    ) -> Decision:
        """Return a decision from the inbox or else from one poll."""
        state = await self._inbox.get_state(session_id)
        if observed is not None and state is not None:
            observed.submission = state.submission
        effective = None if state is None else state.effective_decision
        is_known = effective is not None and not self._memory.is_answered(effective)
        if effective is not None and is_known and is_news(effective, last) and until(effective):
            return evolve(effective, source=DecisionSource.KNOWN)
        self.counters.polls += 1
        asked_at = self._memory.sequence
        decision = await get_decision(session_id)
        is_current = decision is not None and await self.publish(decision, asked_at)
        if decision is not None and is_current and is_news(decision, last) and until(decision):
            return evolve(decision, source=DecisionSource.POLL)
        status = last_status if state is None else state.status
        session = SessionWaiters(session_id, last_status=status if decision is None else decision.status)
        raise timeout_error(session, 0.0)

    def get_session(self, session_id: str, last_status: Status | None) -> SessionWaiters:
        """Return the waiters of a session."""
        session = self.sessions.get(session_id)
        if session is None:
            now = asyncio.get_running_loop().time()
            session = self.sessions[session_id] = SessionWaiters(session_id, started=now)
        # The status of the inbox or of a poll is newer than that of the session object.
        session.last_status = session.last_status or last_status
        return session

    def get_schedule(self, session: SessionWaiters, poll: PollPolicy | None) -> PollSchedule:
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

    def remove(self, session: SessionWaiters, waiter: Waiter) -> None:
        """Remove a waiter; the last one stops poller and watcher."""
        self.count -= 1
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

    @property
    def has_working_inbox(self) -> bool:
        """Whether the inbox is asked for new waiters, and did not fail last."""
        return self._watcher is not None and self._is_inbox_healthy

    def _is_watched(self, session_id: str) -> bool:
        """Return whether a webhook for a session would end its waits."""
        return self.has_working_inbox and self._watcher is not None and session_id not in self._watcher.unreadable

    # Called by the poller (`PollHandler`).

    async def poll(self, session_id: str) -> None:
        """Ask Veriff for the decision on a session, and notify its waiters."""
        self.counters.polls += 1
        asked_at = self._memory.sequence
        telemetry = if_live(self.telemetry)
        try:
            decision = await self._get_decision(session_id)
        except Exception as error:
            if telemetry is not None:
                telemetry.on_poll(error=error)
            raise
        if telemetry is not None:
            telemetry.on_poll(decision)
        if decision is None or not await self.publish(decision, asked_at):
            await self._show_progress(session_id)

    async def _show_progress(self, session_id: str) -> None:
        """Show the watches a session that has no current decision, if they know nothing of it yet."""
        session = self.sessions.get(session_id)
        if session is None or not session.needs_state or session.show_first() or self._get_attempts is None:
            return
        try:
            attempts = await self._get_attempts(session_id)
        except VeriffError as error:  # after the next poll again
            name = type(error).__name__
            fields = log_fields(error=name, session_id=session_id)
            _LOG.info("Reading the status of a session failed with %s; it is retried.", name, extra=fields)
        else:
            if session.watched is not None and session.watched.add_attempts(attempts):
                session.wake_watches()

    def background_context(self) -> Context | None:
        """Return a context without a span: the poller and the watcher serve other waits than the first, too."""
        telemetry = if_live(self.telemetry)
        return None if telemetry is None else telemetry.background_context()

    def poll_context(self, session: SessionWaiters) -> Context | None:
        """Return the context of a wait for a session: the poll on its behalf is a part of its trace."""
        if self.telemetry is None:
            return None
        waits = (waiter.telemetry for waiter in session.waiters if not waiter.is_done)
        wait = next((wait for wait in waits if wait is not None), None)
        return None if wait is None else self.telemetry.background_context(wait)

    def poll_interval(self, schedule: PollSchedule) -> float:
        """Return the seconds until a schedule is due again."""
        policy = schedule.policy
        if policy is None:
            is_watched = self._is_watched(schedule.session.session_id)
            policy = self._policy_with_inbox if is_watched else self._policy_without_inbox
        return poll_delay(policy, polls=schedule.polls)

    def on_poll_error(self, session: SessionWaiters, error: Exception) -> bool:
        """Fail the waiters of a session if an error of its poll requires it, and return whether they wait on."""
        self.counters.poll_failures += 1
        if not ends_waits(error, session, is_watched=self._is_watched(session.session_id)):
            return True
        session.fail(error)
        return False

    # Called by the inbox watcher (`InboxObserver`).

    def on_state(self, state: SessionState, waiters: Sequence[Waiter] | None) -> None:
        """Notify waiters of the decision that the inbox has on a session."""
        from veriff_async._protocol.session_state import is_decision_missing

        session = self.sessions.get(state.session_id)
        if session is None:
            return
        session.last_status = state.status
        if self.telemetry is not None:
            session.submission, session.recorded_at = state.submission, state.recorded_at
        effective = state.effective_decision
        if effective is not None and not self._memory.is_answered(effective):
            # A newer attempt had seemed to supersede this decision until the decision on that attempt was recorded.
            session.superseded = None
            recorded = identity(effective)
            is_notified, session.recorded = session.recorded == recorded, recorded
            source = state.source or DecisionSource.WEBHOOK
            session.notify(effective, source, from_inbox=True, waiters=waiters if is_notified else None)
            session.show(state)
            return
        session.superseded, session.recorded = state.decision, None
        if is_decision_missing(state):  # the webhook says that there is a decision, but does not contain it
            self._poller.poll_now(session)
        elif effective is None:
            session.show(state)

    def on_unknown(self, session_id: str) -> None:
        """Show the watches of a session what the program knows, or else ask Veriff."""
        session = self.sessions.get(session_id)
        if session is not None and session.needs_state and not session.show_first():
            self._poller.poll_now(session)

    def on_unreadable(self, session_id: str) -> None:
        """Poll a session as without an inbox, because its record cannot be read."""
        session = self.sessions.get(session_id)
        if session is not None:
            self._restart_schedule(session)
            session.show_first()

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
            session.show_first()
            if number % _RESCHEDULE_BATCH == 0:
                await asyncio.sleep(0)

    def _restart_schedule(self, session: SessionWaiters) -> None:
        if session.due != NEVER:  # otherwise a poll is running, and the next one is scheduled when it ends
            session.polls = 0
            self._poller.schedule(session, self.poll_interval(session))


def _expire(session: SessionWaiters, waiter: Waiter, timeout: float) -> None:
    waiter.fail(timeout_error(session, timeout))
