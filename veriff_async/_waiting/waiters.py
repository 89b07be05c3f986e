"""Coroutines that wait for a decision: woken by the inbox or the poller, whichever learns of it first.

Theory of operation: a wait is one future. It is registered for its session first; then the inbox is looked at and the
poller asks, and each decision that becomes known is shown to all waits of its session. The first that satisfies a wait
resolves it: state, not messages, so order, repetition and lateness do not matter. A decision that a submission has
answered, or that is older than one that is known, is shown to no wait. The last wait of the client stops both.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.backoff import poll_pause
from veriff_async._protocol.decision_order import identity, is_later, is_news, is_same
from veriff_async._protocol.retry import leaves_unsubmitted
from veriff_async._waiting.decision_memory import DecisionMemory
from veriff_async._waiting.inbox_watcher import Listener, answer_of, in_time
from veriff_async._waiting.poller import Poller
from veriff_async._waiting.registry import OwnPace, Wait, Watched
from veriff_async.config import SAFETY_NET, PollPolicy
from veriff_async.errors import (
    ClientClosedError,
    DecisionTimeoutError,
    NotFoundError,
    RateLimitedError,
    ResponseError,
    ServerError,
    TransportError,
    VeriffError,
)
from veriff_async.models.decision import DecisionSource
from veriff_async.models.state import IgnoredReason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from veriff_async._waiting.registry import Pace
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("Waits",)

_LOG: Final = logging.getLogger("veriff_async.waiting")

_AT_ONCE: Final = 1_000
"""Sessions that get another turn before the loop does."""

_RECORDING: Final = 10.0
"""Seconds for a record of ours, after which waits do without it."""

_PASSING: Final = (TransportError, ServerError, RateLimitedError)

_UNREADABLE_IN_A_ROW: Final = 3
"""Answers of a session that cannot be read or trusted, after which its waits end: a proxy may garble one or two."""


class Waits:
    """All waits of one client.

    Args:
        ask: Asks for the decision on a session.
        poll: How often; the inbox decides the default.
        inbox: Where webhooks are recorded.
        memory: The decisions that the client has seen, if it was open before.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Decision | None]],
        *,
        poll: PollPolicy | None = None,
        inbox: Inbox | None = None,
        memory: DecisionMemory | None = None,
    ) -> None:
        """Start nothing yet."""
        self._alone = poll or PollPolicy()
        self._beside = poll or (PollPolicy() if inbox is None else SAFETY_NET)
        self._ask = ask
        self._inbox = inbox
        self._watched: dict[str, Watched] = {}
        self._paces: dict[tuple[str, PollPolicy], OwnPace] = {}
        self._memory = memory or DecisionMemory()
        self._poller = Poller(self._ask_for, rate=self._alone.max_rate, pause=self._pause, fail=self._on_poll_error)
        self._listener = (
            None
            if inbox is None
            else Listener(
                inbox,
                self._watched,
                on_state=self._on_state,
                on_health=self._on_health,
                on_unreadable=self._on_unreadable,
            )
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
            VeriffError: Veriff refuses to tell, for example because it does not know the session; see `_ends_waits`.
        """
        require_asyncio()
        if self._closed:
            raise _closed()
        if timeout == 0:
            return await self._wait_no_time(session_id, until, last, last_status)
        loop = asyncio.get_running_loop()
        watched = self._watch(session_id, last_status)
        wait = Wait(until, loop.create_future(), self._pace(watched, poll), last)
        watched.add(wait)
        self._poll_for(wait, timeout)
        if self._listener is not None:
            self._listener.look(session_id, wait)
        timer = None if timeout is None else loop.call_later(timeout, _expire, watched, wait, timeout)
        try:
            return await wait.future
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(watched, wait)

    def moment(self) -> int:
        """Return the present moment, to give to `learn` with the answer to a question that begins now."""
        return self._memory.moment()

    async def learn(self, decision: Decision, asked: int) -> bool:
        """Show a decision that was asked for to the waits for its session, here and in other processes.

        Args:
            decision: The decision.
            asked: The `moment` at which the question began.

        Returns:
            Whether it stands: a submission may have answered it, or a newer decision may be known.
        """
        if not self._memory.add(decision, asked):
            return False
        watched = self._watched.get(decision.session_id)
        is_recorded = watched is not None and watched.recorded == identity(decision)
        if watched is not None and not self._serves:  # an inbox that fails may take its time to do so
            watched.show(decision, DecisionSource.POLL)
        if self._inbox is not None and not is_recorded:
            from veriff_async._protocol.webhook import event_from_decision

            recorded = await self._record(event_from_decision(decision), "a decision that was asked for is not in it")
            watched = self._watched.get(decision.session_id)
            if recorded is not None and not _stands(recorded, decision):
                return False
            if recorded is not None and watched is not None:
                watched.recorded = identity(decision)
        if watched is not None:
            watched.show(decision, DecisionSource.POLL)
        return True

    async def known(self, session_id: str) -> SessionState | None:
        """Return the state that the inbox has of a session, or ``None``, also when the inbox fails."""
        require_asyncio()
        if self._inbox is None:
            return None
        try:
            return (await answer_of(self._inbox, [session_id])).get(session_id)
        except Exception as error:  # noqa: BLE001  an inbox of the user's own may raise anything
            _LOG.warning("the inbox failed with %s; what it knows of a session is not used", type(error).__name__)
            return None

    async def request_to_answer(self, session_id: str, last: Decision | None) -> Decision | None:
        """Return the request for resubmission that a submission of a session is about to answer, if there is one.

        Veriff is asked only when nothing else tells, since it goes on to show the request after the submission.

        Args:
            session_id: The session.
            last: The last decision that the caller knows.
        """
        state = await self.known(session_id)
        passed = None if state is None or state.effective_decision is not None else state.decision
        known = [None if state is None else state.effective_decision, self._memory.latest(session_id), last]
        known = [each for each in known if each is None or passed is None or not is_same(each, passed)]
        request = self._memory.request_to_answer(*known)
        if request is not None or self._memory.is_new(session_id):
            return request
        asked = self._memory.moment()
        try:
            decision = await self._ask(session_id)
        except VeriffError as error:
            _LOG.info("asking for a decision before a submission failed with %s", type(error).__name__)
            return None
        if decision is None or (passed is not None and is_same(decision, passed)):
            return None
        return self._memory.request_to_answer(decision) if self._memory.add(decision, asked) else None

    @asynccontextmanager
    async def submission(self, session_id: str, answered: Decision | None) -> AsyncGenerator[None]:
        """Let every later wait, here and in other processes, know of the submission that the block makes.

        It is recorded before, since a process that is killed, or whose answer is lost, could not do so afterwards. A
        submission that was certainly refused is taken back.

        Args:
            session_id: The session.
            answered: The request for resubmission that it answers, if it answers one.
        """
        if answered is None or self._closed:
            yield
            self._memory.add_submission(session_id, None)
            return
        is_recorded = await self._record_submission(answered)
        self._memory.add_submission(session_id, answered, is_certain=False)
        try:
            yield
        except VeriffError as error:
            if leaves_unsubmitted(error) and self._memory.remove_submission(answered):
                await self._record_submission(answered, refused=True)
            raise
        was_taken_back = not self._memory.is_answered(answered)  # by another call that was refused at the same time
        self._memory.add_submission(session_id, answered)
        if was_taken_back or not is_recorded:
            await self._record_submission(answered)

    async def _record_submission(self, answered: Decision, *, refused: bool = False) -> bool:
        """Record a submission, or that it was refused; return whether there is nothing left to record."""
        if self._inbox is None:
            return True
        from veriff_async._protocol.webhook import event_from_resubmission

        event = event_from_resubmission(answered, refused=refused)
        what = "that a submission was refused" if refused else "of a submission"
        return await self._record(event, f"other processes do not know {what}") is not None

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

    async def _wait_no_time(
        self, session_id: str, until: Callable[[Decision], bool], last: Decision | None, last_status: Status | None
    ) -> Decision:
        """Return a decision that the inbox knows, or else that Veriff shows when it is asked once."""
        state = await self.known(session_id)
        current = None if state is None or state.effective_decision is None else state.effective_decision
        if current is not None and not self._memory.is_answered(current) and is_news(current, last) and until(current):
            return evolve(current, source=DecisionSource.KNOWN)
        asked = self._memory.moment()
        decision = await self._ask(session_id)
        if decision is not None and await self.learn(decision, asked) and is_news(decision, last) and until(decision):
            return evolve(decision, source=DecisionSource.POLL)
        status = last_status if state is None else state.status
        raise _late(Watched(session_id, last_status=status if decision is None else decision.status), 0.0)

    async def _ask_for(self, session_id: str) -> None:
        asked = self._memory.moment()
        decision = await self._ask(session_id)
        if decision is not None:
            await self.learn(decision, asked)

    async def _record(self, event: WebhookEvent, consequence: str) -> RecordResult | None:
        """Record an event; return ``None`` when the inbox fails."""
        if self._inbox is None:
            return None
        try:
            return await in_time(self._inbox.record(event, source=DecisionSource.POLL), _RECORDING)
        except Exception as error:  # noqa: BLE001  an inbox of the user's own may raise anything
            _LOG.warning("the inbox failed with %s; %s", type(error).__name__, consequence)
            return None

    def _watch(self, session_id: str, last_status: Status | None) -> Watched:
        watched = self._watched.get(session_id)
        if watched is None:
            watched = self._watched[session_id] = Watched(session_id)
        watched.last_status = watched.last_status or last_status
        return watched

    def _pace(self, watched: Watched, poll: PollPolicy | None) -> Pace:
        """Return the pace of a wait that begins, which starts with its first pause."""
        if poll is None:
            watched.asked = 0
            return watched
        pace = self._paces.get((watched.session_id, poll))
        if pace is None:
            pace = self._paces[watched.session_id, poll] = OwnPace(watched, poll)
        pace.asked = 0
        pace.waits += 1
        return pace

    def _poll_for(self, wait: Wait, timeout: float | None) -> None:
        pace = wait.pace
        # A wait that is short asks at least once: short waits in a row would otherwise never ask.
        pause = self._pause(pace) if timeout is None else min(self._pause(pace), timeout / 2)
        if asyncio.get_running_loop().time() + pause < pace.due:
            self._poller.schedule(pace, pause)

    def _leave(self, watched: Watched, wait: Wait) -> None:
        watched.remove(wait)
        pace = wait.pace
        if isinstance(pace, OwnPace):
            pace.waits -= 1
            if not pace.waits:
                self._paces.pop((watched.session_id, pace.policy), None)
                self._poller.forget(pace)
        if not watched.waits:
            self._watched.pop(watched.session_id, None)
            self._poller.forget(watched)
            if self._listener is not None:
                self._listener.forget(watched.session_id)
        if not self._watched:
            self._poller.stop()
            if self._listener is not None:
                self._listener.stop()

    def _is_served(self, session_id: str) -> bool:
        """Return whether the inbox would end a wait for a session."""
        return self._listener is not None and self._serves and session_id not in self._listener.unreadable

    def _pause(self, pace: Pace) -> float:
        is_served = self._is_served(pace.session.session_id)
        policy = pace.policy or (self._beside if is_served else self._alone)
        return poll_pause(policy, asked=pace.asked)

    def _on_state(self, state: SessionState, waits: Sequence[Wait] | None) -> None:
        """Show what the inbox knows."""
        from veriff_async._protocol.session_state import is_untold

        watched = self._watched.get(state.session_id)
        if watched is None:
            return
        watched.last_status = state.status
        current = state.effective_decision
        if current is not None and not self._memory.is_answered(current):
            watched.passed = None  # it stands, also if an attempt seemed to be newer until its own decision came
            is_shown = watched.recorded == identity(current)
            watched.recorded = identity(current)
            source = state.source or DecisionSource.WEBHOOK
            watched.show(current, source, from_inbox=True, waits=waits if is_shown else None)
            return
        watched.passed, watched.recorded = state.decision, None
        if is_untold(state):
            self._poller.schedule(watched, 0.0)

    def _on_poll_error(self, watched: Watched, error: Exception) -> bool:
        """End the waits for a session if an error of its question must; return whether they go on."""
        if not self._ends_waits(watched, error):
            return True
        watched.fail(error)
        return False

    def _ends_waits(self, watched: Watched, error: Exception) -> bool:
        """Return whether a question that failed ends the waits for its session.

        Trouble on the way, 429 and 5xx never do. While the inbox serves, a webhook can still end them, so that nothing
        does but "no such session" about one that neither the inbox nor this client has heard of. Without, a refusal
        does (401, 403, 404 and other 4xx), since it would be repeated, and so do three answers in a row that cannot be
        read or trusted.
        """
        if isinstance(error, _PASSING):
            return False
        if isinstance(error, ClientClosedError):
            return True
        if self._is_served(watched.session_id):
            return isinstance(error, NotFoundError) and watched.last_status is None
        if isinstance(error, ResponseError):
            kind, times = watched.trouble or ("", 0)
            return kind == type(error).__name__ and times >= _UNREADABLE_IN_A_ROW - 1
        return True

    def _on_unreadable(self, session_id: str) -> None:
        watched = self._watched.get(session_id)
        if watched is not None and watched.due != float("inf"):
            watched.asked = 0
            self._poller.schedule(watched, self._pause(watched))

    def _on_health(self, serves: bool) -> None:  # noqa: FBT001  one word for a state that has two
        """Ask more often while the inbox fails, and seldom again when it serves."""
        if serves == self._serves:
            return
        self._serves = serves
        if self._turning is not None:
            self._turning.cancel()
        self._turning = asyncio.get_running_loop().create_task(self._turn(), name="veriff-async change of pace")

    async def _turn(self) -> None:
        for place, watched in enumerate(tuple(self._watched.values()), start=1):
            if watched.is_wanted and watched.due != float("inf"):
                watched.asked = 0
                self._poller.schedule(watched, self._pause(watched))
            if place % _AT_ONCE == 0:
                await asyncio.sleep(0)


def _stands(recorded: RecordResult, decision: Decision) -> bool:
    """Return whether a decision that was recorded is the one to act on."""
    state = recorded.state
    if state is None or (state.effective_decision is not None and is_same(state.effective_decision, decision)):
        return True
    # A correction that does not prove to be later: the inbox keeps the first end, and Veriff shows this one now.
    is_end = recorded.ignored is IgnoredReason.FINAL and decision.status.is_final
    return is_end and (state.decision is None or is_later(decision, state.decision) is not False)


def _expire(watched: Watched, wait: Wait, timeout: float) -> None:
    if not wait.future.done():
        wait.future.set_exception(_late(watched, timeout))


def _late(watched: Watched, timeout: float) -> DecisionTimeoutError:
    last, trouble = watched.last_status, "" if watched.trouble is None else f", asking failed with {watched.trouble[0]}"
    msg = (
        f"No decision on session {watched.session_id} came within {timeout:g} s "
        f"(last status: {last or 'unknown'}{trouble}): wait again or later, the session goes on."
    )
    return DecisionTimeoutError(msg, session_id=watched.session_id, last_status=last)


def _closed() -> ClientClosedError:
    return ClientClosedError("The client was closed, or its waits were ended: wait again with a client that is open.")
