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

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from veriff_async._event_loop import require_asyncio
from veriff_async._logging import log_fields
from veriff_async._protocol.retry import leaves_unsubmitted
from veriff_async._protocol.status_transitions import is_same
from veriff_async._telemetry.setup import if_live
from veriff_async.errors import VeriffError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from veriff_async._telemetry.waits import WaitTelemetry
    from veriff_async._waiting.decision_memory import DecisionMemory
    from veriff_async._waiting.inbox_calls import BestEffortInbox
    from veriff_async.models.decision import Decision

__all__ = ("Submissions",)

_LOG: Final = logging.getLogger("veriff_async.waiting")

# Seconds that a submission, once it has succeeded, waits for the inbox to save its trace. Traces must not delay more.
_SAVE_SECONDS: Final = 1.0


class Submissions:
    """Finds the request for resubmission that a submission answers, and records the submission."""

    def __init__(self, inbox: BestEffortInbox, memory: DecisionMemory, telemetry: WaitTelemetry | None = None) -> None:
        """Store the arguments."""
        self._telemetry = telemetry
        self._saving: dict[str, asyncio.Task[None]] = {}
        self._inbox = inbox
        self._memory = memory
        self.is_closed = False
        """Whether the client is closed, so that a submission fails without being sent."""

    async def find_request(
        self, session_id: str, last: Decision | None, get_decision: Callable[[str], Awaitable[Decision | None]]
    ) -> Decision | None:
        """Return the request for resubmission that a submission of a session is about to answer, if there is one.

        Asks Veriff only if neither the inbox nor the client knows, and never for a session that this client created and
        has not submitted yet.
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
            decision = await get_decision(session_id)
        except VeriffError as error:
            name = type(error).__name__
            _LOG.info("A poll before a submission failed with %s.", name, extra=log_fields(error=name))
            return None
        if decision is None or (superseded is not None and is_same(decision, superseded)):
            return None
        return self._memory.request_to_answer(decision) if self._memory.add(decision, asked_at) else None

    @asynccontextmanager
    async def track(self, session_id: str, answered: Decision | None) -> AsyncGenerator[None]:
        """Record the submission that the block makes, and remove the record if Veriff certainly rejected it."""
        saving = self.start_saving(session_id)
        async with self._track(session_id, answered):
            yield
        if saving is not None:
            # It began before the request, so it has ended, unless the inbox hangs.
            await asyncio.wait({saving}, timeout=_SAVE_SECONDS)

    async def save(self, session_id: str) -> None:
        """Save the trace of a session that another call has submitted."""
        saving = self.start_saving(session_id)
        if saving is not None:
            await asyncio.wait({saving}, timeout=_SAVE_SECONDS)

    async def aclose(self) -> None:
        """Cancel what the inbox has not saved."""
        tasks = tuple(self._saving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start_saving(self, session_id: str, *, is_submitted: bool = True) -> asyncio.Task[None] | None:
        """Start to save the current trace as that of a submission, or of a creation, if spans are exported."""
        telemetry = if_live(self._telemetry)
        if telemetry is None or self.is_closed:
            return None
        text = telemetry.add_submission(session_id, is_submitted=is_submitted)
        earlier = self._saving.get(session_id)
        if earlier is not None:  # of the creation, while the inbox is slow; it must not replace this one
            earlier.cancel()
        saving = self._inbox.save_submission(session_id, text)
        task = asyncio.get_running_loop().create_task(saving, name="veriff-async submission")
        self._saving[session_id] = task
        task.add_done_callback(partial(self._on_saved, session_id))
        return task

    def _on_saved(self, session_id: str, task: asyncio.Task[None]) -> None:
        if self._saving.get(session_id) is task:
            del self._saving[session_id]

    @asynccontextmanager
    async def _track(self, session_id: str, answered: Decision | None) -> AsyncGenerator[None]:
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
