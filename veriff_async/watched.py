"""A session that is waited for, and the coroutines that wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import Factory, define, evolve

from veriff_async.models.decision import DecisionSource
from veriff_async.protocol.lifecycle import identity, is_news

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from veriff_async.models.decision import Decision
    from veriff_async.models.enums import Status
    from veriff_async.protocol.policies import PollPolicy

__all__ = ("Wait", "Watched")


@define(eq=False)
class Wait:
    """One waiting coroutine.

    Attributes:
        until: Which decision it waits for.
        future: What it sleeps on; whoever learns of such a decision first resolves it.
        last: The decision that its caller knows already.
        is_new: Whether the inbox was not looked at for it yet; what it tells then stood there before.
    """

    until: Callable[[Decision], bool]
    future: asyncio.Future[Decision]
    last: Decision | None = None
    is_new: bool = True


@define(eq=False)
class Watched:
    """One session that is waited for.

    Attributes:
        session_id: The session.
        poll: The pace that its last wait asked for, if any did.
        waits: Who waits.
        asked: How often it was asked for since the last wait began.
        due: When it is asked for next, on the loop's clock; never, while it is being asked for.
        last_status: The last status that was told.
        passed: A decision that a newer attempt has put behind; Veriff goes on to show it for a while.
        recorded: What tells the last decision apart that is known to be in the inbox.
    """

    session_id: str
    poll: PollPolicy | None = None
    waits: list[Wait] = Factory(list[Wait])
    asked: int = 0
    due: float = float("inf")
    last_status: Status | None = None
    passed: Decision | None = None
    recorded: tuple[object, ...] | None = None

    @property
    def is_wanted(self) -> bool:
        """Tell whether anybody still waits for it."""
        return not all(wait.future.done() for wait in self.waits)

    def show(self, decision: Decision, source: DecisionSource, *, from_inbox: bool = False) -> None:
        """Show a decision to all waits; those that it satisfies end.

        Args:
            decision: The decision.
            source: Who told it.
            from_inbox: Whether the inbox did, so that a wait may learn of something older than itself.
        """
        if self.passed is not None and identity(self.passed) == identity(decision):
            return
        self.last_status = decision.status
        for wait in self.waits:
            if wait.future.done() or not is_news(decision, wait.last):
                continue
            told = DecisionSource.KNOWN if from_inbox and wait.is_new else source
            try:
                if wait.until(decision):
                    wait.future.set_result(evolve(decision, source=told))
            except Exception as error:  # noqa: BLE001  the caller's own function: its error belongs to its wait alone
                wait.future.set_exception(error)

    def fail(self, error: Exception) -> None:
        """End all waits with an error."""
        for wait in self.waits:
            if not wait.future.done():
                wait.future.set_exception(error)
