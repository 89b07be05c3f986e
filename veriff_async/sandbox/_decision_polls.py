"""Requests for decisions that leave a client waiting, so that a test can wait for them instead of sleeping.

A poll counts for the attempt and the status that the session had then. So a poll before a submission proves nothing
about a client that waits after it, and no change of a session has to look for polls to forget.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from itertools import chain
from typing import TYPE_CHECKING

from veriff_async.models.enums import Status
from veriff_async.sandbox._errors import ImpossibleChangeError, UnknownRecordError

if TYPE_CHECKING:
    from veriff_async.sandbox._records import Session

__all__ = ("DecisionPolls", "wait_for_poll", "wait_for_poll_sync")


class DecisionPolls:
    """Futures of those who expect a poll, by session."""

    def __init__(self) -> None:
        """Start without any."""
        self._expected: dict[str, list[Future[None]]] = {}

    def record(self, session: Session) -> None:
        """Record that a client has asked for the decision, if the response leaves it waiting."""
        if _is_decided(session):
            return
        session.asked_at = session.attempt.id, session.status
        for future in self._expected.pop(session.id, ()):
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def expect(self, session: Session) -> Future[None]:
        """Return a future that is done once a client has asked since the last change of the session."""
        if _is_decided(session):
            state = "deleted" if session.deleted else session.status
            msg = f"The session is {state}, so no client waits for its decision: call this before the decision."
            raise ImpossibleChangeError(msg)
        future: Future[None] = Future()
        if session.is_awaited:
            future.set_result(None)
            return future
        # A caller that gave up has cancelled its future.
        others = [other for other in self._expected.get(session.id, ()) if not other.cancelled()]
        self._expected[session.id] = [*others, future]
        return future

    def clear(self) -> None:
        """End all waits with an error, because their sessions are gone."""
        for future in chain.from_iterable(self._expected.values()):
            if future.set_running_or_notify_cancel():
                future.set_exception(UnknownRecordError("The sandbox was reset or restored during the wait."))
        self._expected.clear()


async def wait_for_poll(poll: Future[None], timeout: float) -> None:  # noqa: ASYNC109  part of the message
    """Wait for a future of `DecisionPolls.expect` in any loop."""
    # A wrapped future is done one step of the loop later, which is too late for a timeout of zero.
    if poll.done():
        return
    # A cancelled wait cancels the future as well, so that `DecisionPolls` forgets it.
    waiting = asyncio.wrap_future(poll)
    try:
        async with asyncio.timeout(timeout):
            await waiting
    except TimeoutError:
        raise _not_asked(timeout) from None


def wait_for_poll_sync(poll: Future[None], timeout: float) -> None:
    """Like `wait_for_poll`; blocks the thread."""
    try:
        poll.result(timeout)
    except TimeoutError:
        poll.cancel()
        raise _not_asked(timeout) from None


def _not_asked(timeout: float) -> TimeoutError:
    msg = (
        f"No client has asked for the decision of this session within {timeout:g} s: start the wait before, and "
        "pass poll=PollPolicy(interval=0.1) to a client with an inbox, which expects a webhook first."
    )
    return TimeoutError(msg)


def _is_decided(session: Session) -> bool:
    return session.deleted or session.status.is_final or session.status == Status.RESUBMISSION_REQUESTED
