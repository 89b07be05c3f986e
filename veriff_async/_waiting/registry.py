"""A session that is waited for, and the coroutines that wait for it.

Very many coroutines wait at once, so these classes hold no more than is needed, and every step of one wait takes the
same time however many wait for the same session.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from attrs import Factory, define, evolve

from veriff_async._protocol.decision_order import is_news, is_same
from veriff_async.models.decision import DecisionSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from veriff_async.config import PollPolicy
    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status

__all__ = ("OwnPace", "Pace", "Wait", "Watched")


@define(eq=False, weakref_slot=False)
class Wait:
    """One waiting coroutine.

    Attributes:
        until: Which decision it waits for.
        future: What it sleeps on; the first such decision resolves it.
        pace: How often it wants its session to be asked for.
        last: The decision that its caller knows already.
        is_new: Whether the inbox was not looked at for it yet; a decision found there came before the wait.
        place: Its place in `Watched.waits`.
    """

    until: Callable[[Decision], bool]
    future: asyncio.Future[Decision]
    pace: Pace
    last: Decision | None = None
    is_new: bool = True
    place: int = 0


@define(eq=False, weakref_slot=False)
class Watched:
    """One session that is waited for; it is also the pace of its waits that gave no ``poll=``.

    Attributes:
        session_id: The session.
        waits: The coroutines that wait, in no order.
        asked: How often it was asked for since the last wait began.
        due: When it is asked for next, on the loop's clock; infinite while it is being asked for.
        last_status: The last status that is known.
        passed: A decision that a newer attempt has put behind; Veriff goes on to show it for a while.
        recorded: Key of the decision that stands in the inbox, as far as is known.
        trouble: Class of the error that the last question failed with, and how many in a row failed so.
    """

    session_id: str
    waits: list[Wait] = Factory(list[Wait])
    asked: int = 0
    due: float = float("inf")
    last_status: Status | None = None
    passed: Decision | None = None
    recorded: tuple[object, ...] | None = None
    trouble: tuple[str, int] | None = None

    @property
    def session(self) -> Watched:
        """The session to ask for."""
        return self

    @property
    def policy(self) -> PollPolicy | None:
        """``None``: the client's policy."""
        return None

    @property
    def is_wanted(self) -> bool:
        """Whether a wait with this pace is open."""
        return any(wait.pace is self and not wait.future.done() for wait in self.waits)

    def add(self, wait: Wait) -> None:
        """Add a wait."""
        wait.place = len(self.waits)
        self.waits.append(wait)

    def remove(self, wait: Wait) -> None:
        """Remove a wait; the last one takes its place, so that nothing is searched or moved."""
        last = self.waits.pop()
        if last is not wait:
            self.waits[wait.place] = last
            last.place = wait.place

    def show(
        self,
        decision: Decision,
        source: DecisionSource,
        *,
        from_inbox: bool = False,
        waits: Sequence[Wait] | None = None,
    ) -> None:
        """Show a decision to waits; those that it satisfies end.

        Args:
            decision: The decision.
            source: How it became known.
            from_inbox: Whether it stands in the inbox, so that it may be older than the wait.
            waits: The waits to show it to; all when left out.
        """
        if self.passed is not None and is_same(self.passed, decision):
            return
        self.last_status = decision.status
        for wait in tuple(self.waits if waits is None else waits):
            if wait.future.done() or not is_news(decision, wait.last):
                continue
            learned = DecisionSource.KNOWN if from_inbox and wait.is_new else source
            try:
                is_last = wait.until(decision)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  the caller's own function: its error ends its wait alone
                wait.future.set_exception(_raisable(error))
            else:
                if is_last:
                    wait.future.set_result(evolve(decision, source=learned))

    def fail(self, error: Exception) -> None:
        """End all waits with an error."""
        for wait in self.waits:
            if not wait.future.done():
                wait.future.set_exception(error)


def _raisable(error: BaseException) -> BaseException:
    """Return an error that a future takes, and that looks like the caller's own."""
    if not isinstance(error, StopIteration | asyncio.CancelledError | GeneratorExit):
        return error
    replacement = RuntimeError(f"until raised {type(error).__name__}")  # as generators do (PEP 479)
    replacement.__cause__ = error
    return replacement


@define(eq=False, weakref_slot=False)
class OwnPace:
    """The pace of those waits for a session that gave one and the same ``poll=``.

    Attributes:
        session: The session to ask for.
        policy: The policy that was given.
        waits: How many waits have it.
        asked: How often it had the session asked for since the last such wait began.
        due: When it has the session asked for next.
    """

    session: Watched
    policy: PollPolicy
    waits: int = 0
    asked: int = 0
    due: float = float("inf")

    @property
    def is_wanted(self) -> bool:
        """Whether a wait with this pace is open."""
        return self.waits > 0 and any(wait.pace is self and not wait.future.done() for wait in self.session.waits)


Pace: TypeAlias = Watched | OwnPace
