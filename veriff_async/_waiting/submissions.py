"""Submissions that answer a request for resubmission.

After a submission, Veriff keeps returning the request for resubmission that it answered until there is a new decision.
A wait that begins then must not return that old request. So each submission is recorded *before* it is sent, in the
memory of the client and in the inbox, where every process sees it:

    find_request()      1. find the request that the submission is about to answer
    track()             2. record the submission           (from here on, a process that dies has informed the others)
                        3. send it
                        4. certainly rejected?  remove the record, so that the request stands again
                           succeeded, or its outcome is unknown?  keep it

Two submissions of one session may run at the same time: a rejection of one must not remove the success of the other.
The memory knows which submissions are certain, and a submission that succeeds records itself again if another removed
it.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.retry import leaves_unsubmitted
from veriff_async._protocol.status_transitions import is_same
from veriff_async.errors import VeriffError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from veriff_async._waiting.decision_memory import DecisionMemory
    from veriff_async._waiting.inbox_calls import BestEffortInbox
    from veriff_async.models.decision import Decision

__all__ = ("Submissions",)

_LOG: Final = logging.getLogger("veriff_async.waiting")


class Submissions:
    """Finds the request for resubmission that a submission answers, and records the submission.

    Args:
        get_decision: Asks Veriff for the decision on a session.
        inbox: Shares submissions with other processes.
        memory: The decisions that the client has seen.
    """

    def __init__(
        self, get_decision: Callable[[str], Awaitable[Decision | None]], inbox: BestEffortInbox, memory: DecisionMemory
    ) -> None:
        """Store the arguments."""
        self._get_decision = get_decision
        self._inbox = inbox
        self._memory = memory
        self.is_closed = False
        """Whether the client is closed, so that a submission fails without being sent."""

    async def find_request(self, session_id: str, last: Decision | None) -> Decision | None:
        """Return the request for resubmission that a submission of a session is about to answer, if there is one.

        Asks Veriff only if neither the inbox nor the client knows, and never for a session that this client created and
        has not submitted yet.

        Args:
            session_id: The session.
            last: The last decision that the caller knows.
        """
        require_asyncio()
        state = await self._inbox.get_state(session_id)
        effective = None if state is None else state.effective_decision
        # A decision that a newer attempt has superseded; the memory or the caller may still have it as the latest.
        superseded = None if state is None or effective is not None else state.decision
        candidates = [effective, self._memory.latest(session_id), last]
        if superseded is not None:
            candidates = [item for item in candidates if item is None or not is_same(item, superseded)]
        request = self._memory.request_to_answer(*candidates)
        if request is not None or self._memory.is_new(session_id):
            return request
        asked_at = self._memory.sequence
        try:
            decision = await self._get_decision(session_id)
        except VeriffError as error:
            _LOG.info("polling a decision before a submission failed with %s", type(error).__name__)
            return None
        if decision is None or (superseded is not None and is_same(decision, superseded)):
            return None
        return self._memory.request_to_answer(decision) if self._memory.add(decision, asked_at) else None

    @asynccontextmanager
    async def track(self, session_id: str, answered: Decision | None) -> AsyncGenerator[None]:
        """Record the submission that the block makes, and remove the record if Veriff certainly rejected it.

        Args:
            session_id: The session.
            answered: The request for resubmission that the submission answers, if there is one.
        """
        if answered is None or self.is_closed:
            yield
            self._memory.add_submission(session_id, None)
            return
        is_recorded = await self._record(answered)
        self._memory.add_submission(session_id, answered, is_certain=False)
        try:
            yield
        except VeriffError as error:
            if leaves_unsubmitted(error) and self._memory.remove_submission(answered):
                await self._record(answered, refused=True)
            raise
        was_removed = not self._memory.is_answered(answered)  # by a concurrent call that was rejected
        self._memory.add_submission(session_id, answered)
        if was_removed or not is_recorded:
            await self._record(answered)

    async def _record(self, answered: Decision, *, refused: bool = False) -> bool:
        """Record a submission or its rejection, and return whether nothing is left to record."""
        if self._inbox.inbox is None:
            return True
        # Imported here because clients without an inbox never need it.
        from veriff_async._protocol.webhook import event_from_resubmission

        subject = "that a submission was rejected" if refused else "of a submission"
        event = event_from_resubmission(answered, refused=refused)
        return await self._inbox.record(event, consequence=f"other processes do not know {subject}") is not None
