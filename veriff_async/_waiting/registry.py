"""The waiting coroutines, by session, and when each session is polled for them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import Factory, define, evolve, field

from veriff_async._protocol.status_transitions import is_news, is_same
from veriff_async.errors import VeriffError
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from veriff_async._telemetry.waits import Wait
    from veriff_async._waiting.watched_session import WatchedSession
    from veriff_async.config import PollPolicy
    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status
    from veriff_async.models.state import SessionState

__all__ = ("NEVER", "CustomSchedule", "DecisionWaiter", "PollSchedule", "SessionWaiters", "Waiter")

NEVER: Final = float("inf")

# There can be very many waiters, so these classes hold only what is needed, without a weakref slot.


@define(eq=False, weakref_slot=False)
class Waiter(ABC):
    """A coroutine that waits for a decision, or an open watch.

    Attributes:
        schedule: How often the session is polled for this waiter.
        is_new: Whether the inbox was not looked up for it yet; a decision found then came before the wait.
        index: Its index in `SessionWaiters.waiters`.
        telemetry: Its span, if there is one.
    """

    schedule: PollSchedule
    is_new: bool = field(default=True, init=False)
    index: int = field(default=0, init=False)
    telemetry: Wait | None = field(default=None, init=False)

    @property
    @abstractmethod
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which it waits."""

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether it needs no further news."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """End it with an error."""

    @abstractmethod
    def notify(self, decision: Decision, source: DecisionSource) -> None:
        """Handle a decision."""

    @abstractmethod
    def on_state(self) -> None:
        """Handle a change of `SessionWaiters.watched`."""


@define(eq=False, weakref_slot=False)
class DecisionWaiter(Waiter):
    """One waiting coroutine.

    Attributes:
        until: Whether a decision ends the wait.
        future: Resolved by the first such decision.
        last: The decision that the caller already has.
    """

    until: Callable[[Decision], bool]
    future: asyncio.Future[Decision]
    last: Decision | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the future."""
        return self.future.get_loop()

    @property
    def is_done(self) -> bool:
        """Whether the wait has ended."""
        return self.future.done()

    def fail(self, error: Exception) -> None:
        """End the wait with an error."""
        if not self.future.done():
            self.future.set_exception(error)

    def notify(self, decision: Decision, source: DecisionSource) -> None:
        """End the wait if the decision satisfies it."""
        if self.future.done() or not is_news(decision, self.last):
            return
        try:
            is_satisfied = self.until(decision)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  an error of the caller's function ends only the caller's wait
            self.future.set_exception(_as_future_exception(error))
        else:
            if is_satisfied:
                self.future.set_result(evolve(decision, source=source))

    def on_state(self) -> None:
        """Do nothing: only decisions end a wait."""


@define(eq=False, weakref_slot=False)
class SessionWaiters:
    """The waiters of one session; also the poll schedule of those that use the client's policy.

    Attributes:
        session_id: The session.
        started: When the session got its first waiter, on the loop's clock.
        waiters: The waiters, in no particular order.
        polls: Polls for this schedule since the last waiter started.
        due: When the next poll is due, on the loop's clock; infinite during a poll.
        last_status: The last known status.
        superseded: A decision that belongs to an older attempt. Veriff keeps returning it for a while.
        recorded: Identity of the decision that is current in the inbox, as far as is known.
        poll_failures: Class of the error of the last poll, and how many polls in a row failed with it.
        is_announced: Whether a webhook has announced a decision since the last poll began, without containing it.
        watched: The state that watches show, if the session has had any.
        submission: See `SessionState.submission`.
        recorded_at: When the decision was recorded; see `SessionState.recorded_at`.
    """

    session_id: str
    started: float = 0.0
    waiters: list[Waiter] = Factory(list[Waiter])
    polls: int = 0
    due: float = NEVER
    last_status: Status | None = None
    superseded: Decision | None = None
    recorded: tuple[object, ...] | None = None
    poll_failures: tuple[str, int] | None = None
    is_announced: bool = False
    watched: WatchedSession | None = None
    submission: str | None = None
    recorded_at: float | None = None

    @property
    def needed_schedule(self) -> PollSchedule | None:
        """A schedule with which a waiter is left; a poll for any of them serves all waiters."""
        return next((waiter.schedule for waiter in self.waiters if not waiter.is_done), None)

    @property
    def session(self) -> SessionWaiters:
        """The session to poll."""
        return self

    @property
    def policy(self) -> PollPolicy | None:
        """``None``, which stands for the client's policy."""
        return None

    @property
    def is_needed(self) -> bool:
        """Whether a waiter with this schedule is left."""
        return any(waiter.schedule is self and not waiter.is_done for waiter in self.waiters)

    def add(self, waiter: Waiter) -> None:
        """Add a waiter."""
        waiter.index = len(self.waiters)
        self.waiters.append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Remove a waiter in constant time: the last one moves to its index."""
        last = self.waiters.pop()
        if last is not waiter:
            self.waiters[waiter.index] = last
            last.index = waiter.index

    def notify(
        self,
        decision: Decision,
        source: DecisionSource,
        *,
        from_inbox: bool = False,
        waiters: Sequence[Waiter] | None = None,
    ) -> None:
        """Resolve the waiters that a decision satisfies.

        Args:
            decision: The decision.
            source: How it was learned.
            from_inbox: Whether it comes from the inbox, so that it may be older than the wait.
            waiters: The waiters to notify; all if omitted.
        """
        if self.superseded is not None and is_same(self.superseded, decision):
            return
        self.last_status = decision.status
        for waiter in tuple(self.waiters if waiters is None else waiters):
            waiter.notify(decision, DecisionSource.KNOWN if from_inbox and waiter.is_new else source)
        if not from_inbox and self.watched is not None and self.watched.add_decision(decision):
            self.wake_watches()

    def show(self, state: SessionState) -> None:
        """Show a state of the inbox to the watches, if it is later than the one that they know."""
        if self.watched is not None and self.watched.add_state(state):
            self.wake_watches()

    @property
    def needs_state(self) -> bool:
        """Whether there are watches, and no source has reported a state to them."""
        return self.watched is not None and self.watched.state is None

    def show_first(self) -> bool:
        """Show the watches the state that the program knows if they have none, and return whether it knows one."""
        is_known = self.watched is not None and self.watched.add_first()
        if is_known:
            self.wake_watches()
        return is_known

    def wake_watches(self) -> None:
        """Let the watches look at the state, which has changed."""
        for waiter in tuple(self.waiters):
            waiter.on_state()

    def fail(self, error: Exception) -> None:
        """End all waits with an error; each gets its own copy, to which its caller may add notes and tracebacks."""
        for waiter in tuple(self.waiters):
            waiter.fail(_copy_error(error))


@define(eq=False, weakref_slot=False)
class CustomSchedule:
    """The poll schedule of the waiters of a session that were given the same ``poll=``."""

    session: SessionWaiters
    policy: PollPolicy
    waiter_count: int = 0
    polls: int = 0
    due: float = NEVER

    @property
    def is_needed(self) -> bool:
        """Whether a waiter with this schedule is left."""
        waiters = self.session.waiters
        return self.waiter_count > 0 and any(waiter.schedule is self and not waiter.is_done for waiter in waiters)


PollSchedule: TypeAlias = SessionWaiters | CustomSchedule


def _copy_error(error: Exception) -> Exception:
    if not isinstance(error, VeriffError):  # of middleware: its class may not be copied
        return error
    copied = copy(error)
    copied.__cause__, copied.__context__ = error.__cause__, error.__context__
    copied.__suppress_context__ = error.__suppress_context__
    return copied.with_traceback(error.__traceback__)


def _as_future_exception(error: BaseException) -> BaseException:
    """Return an exception that a future accepts and that the caller does not mistake for its own cancellation."""
    if not isinstance(error, StopIteration | asyncio.CancelledError | GeneratorExit):
        return error
    replacement = RuntimeError(f"until raised {type(error).__name__}")  # as generators do (PEP 479)
    replacement.__cause__ = error
    return replacement
