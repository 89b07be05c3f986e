"""The waiting coroutines, by session, and when each session is polled for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import Factory, define, evolve

from veriff_async._protocol.status_transitions import is_news, is_same
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from veriff_async.config import PollPolicy
    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status

__all__ = ("NEVER", "CustomSchedule", "PollSchedule", "SessionWaiters", "Waiter")

NEVER: Final = float("inf")

# There can be very many waiters, so these classes hold only what is needed, without a weakref slot.


@define(eq=False, weakref_slot=False)
class Waiter:
    """One waiting coroutine.

    Attributes:
        until: Whether a decision ends the wait.
        future: Resolved by the first such decision.
        schedule: How often the session is polled for this waiter.
        last: The decision that the caller already has.
        is_new: Whether the inbox was not looked up for it yet; a decision found then came before the wait.
        index: Its index in `SessionWaiters.waiters`.
    """

    until: Callable[[Decision], bool]
    future: asyncio.Future[Decision]
    schedule: PollSchedule
    last: Decision | None = None
    is_new: bool = True
    index: int = 0


@define(eq=False, weakref_slot=False)
class SessionWaiters:
    """The waiters of one session; also the poll schedule of those that use the client's policy.

    Attributes:
        session_id: The session.
        waiters: The waiters, in no particular order.
        polls: Polls for this schedule since the last waiter started.
        due: When the next poll is due, on the loop's clock; infinite during a poll.
        last_status: The last known status.
        superseded: A decision that belongs to an older attempt. Veriff keeps returning it for a while.
        recorded: Identity of the decision that is current in the inbox, as far as is known.
        poll_failures: Class of the error of the last poll, and how many polls in a row failed with it.
        is_announced: Whether a webhook has announced a decision since the last poll began, without containing it.
    """

    session_id: str
    waiters: list[Waiter] = Factory(list[Waiter])
    polls: int = 0
    due: float = NEVER
    last_status: Status | None = None
    superseded: Decision | None = None
    recorded: tuple[object, ...] | None = None
    poll_failures: tuple[str, int] | None = None
    is_announced: bool = False

    @property
    def needed_schedule(self) -> PollSchedule | None:
        """A schedule with which a waiter is left; a poll for any of them serves all waiters."""
        return next((waiter.schedule for waiter in self.waiters if not waiter.future.done()), None)

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
        return any(waiter.schedule is self and not waiter.future.done() for waiter in self.waiters)

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
            if waiter.future.done() or not is_news(decision, waiter.last):
                continue
            waiter_source = DecisionSource.KNOWN if from_inbox and waiter.is_new else source
            try:
                is_satisfied = waiter.until(decision)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  an error of the caller's function ends only the caller's wait
                waiter.future.set_exception(_as_future_exception(error))
            else:
                if is_satisfied:
                    waiter.future.set_result(evolve(decision, source=waiter_source))

    def fail(self, error: Exception) -> None:
        """End all waits with an error."""
        for waiter in self.waiters:
            if not waiter.future.done():
                waiter.future.set_exception(error)


@define(eq=False, weakref_slot=False)
class CustomSchedule:
    """The poll schedule of the waiters of a session that were given the same ``poll=``.

    Attributes:
        session: The session to poll.
        policy: The given policy.
        waiter_count: How many waiters use it.
        polls: Polls for this schedule since the last such waiter started.
        due: When the next poll is due.
    """

    session: SessionWaiters
    policy: PollPolicy
    waiter_count: int = 0
    polls: int = 0
    due: float = NEVER

    @property
    def is_needed(self) -> bool:
        """Whether a waiter with this schedule is left."""
        waiters = self.session.waiters
        return self.waiter_count > 0 and any(waiter.schedule is self and not waiter.future.done() for waiter in waiters)


PollSchedule: TypeAlias = SessionWaiters | CustomSchedule


def _as_future_exception(error: BaseException) -> BaseException:
    """Return an exception that a future accepts and that the caller does not mistake for its own cancellation."""
    if not isinstance(error, StopIteration | asyncio.CancelledError | GeneratorExit):
        return error
    replacement = RuntimeError(f"until raised {type(error).__name__}")  # as generators do (PEP 479)
    replacement.__cause__ = error
    return replacement
