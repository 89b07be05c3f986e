"""Calls to the inbox on behalf of waits.

An inbox may be code of the user: it can hang, raise any exception, raise `CancelledError` although the caller was not
cancelled, or return anything. Every call here therefore has a deadline, turns a foreign cancellation into an
`InboxError`, and raises one for a result of another type.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define

from veriff_async._event_loop import is_being_cancelled
from veriff_async._logging import log_fields
from veriff_async.errors import InboxError
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("LOOKUP_TIMEOUT", "PROBE_ID", "BestEffortInbox", "InboxFailures", "get_states", "with_deadline")

_T = TypeVar("_T")

_LOG: Final = logging.getLogger("veriff_async.waiting")

PROBE_ID: Final = "veriff-async-probe"
"""An id that no session has. An inbox that can look it up works, so an earlier failure was about one session's
record."""

LOOKUP_TIMEOUT: Final = 60.0
"""Seconds after which a lookup, or the start of a subscription, counts as failed."""

# Seconds for a record, after which a wait continues without it. Shorter than a lookup: a coroutine waits for it.
_RECORD_TIMEOUT: Final = 10.0


async def get_states(inbox: Inbox, session_ids: Collection[str]) -> Mapping[str, SessionState]:
    """Look sessions up.

    Raises:
        InboxError: See `with_deadline`; or the result is not a mapping of states.
        Exception: The error of the inbox.
    """
    # Imported here because clients without an inbox never need it.
    from veriff_async.models.state import SessionState

    states = await with_deadline(inbox.get_states(session_ids), LOOKUP_TIMEOUT)
    returned: object = states
    if not isinstance(returned, Mapping) or not all(isinstance(state, SessionState) for state in states.values()):
        msg = "get_states() of the inbox must return a mapping of session ids to SessionState: check its code."
        raise InboxError(msg)
    return states


async def with_deadline(call: Awaitable[_T], seconds: float) -> _T:
    """Await a call to an inbox.

    Raises:
        InboxError: The call takes too long, or raises `CancelledError` although the calling task was not cancelled.
        Exception: The error of the inbox.
    """
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        problem = "does not respond"
    except asyncio.CancelledError:
        # A cancellation of this task passes through; one that the inbox raised by itself must not end the wait.
        if is_being_cancelled():
            raise
        problem = "cancelled a call"
    msg = f"The inbox {problem}: check its server, its disk and its log."
    raise InboxError(msg)


def _check_result(result: object) -> RecordResult:
    from veriff_async.models.state import RecordResult

    if not isinstance(result, RecordResult):
        msg = "record() of the inbox must return a RecordResult: check its code."
        raise InboxError(msg)
    return result


@define
class InboxFailures:
    """The failures of an inbox that waits have noticed.

    Attributes:
        count: Their number.
        last_error: Class of the last error. Its text is not kept: it may hold data of the session.
        last_time: When it happened, in seconds since 1970.
    """

    count: int = 0
    last_error: str | None = None
    last_time: float | None = None

    def add(self, error: str) -> None:
        """Count a failure with an error of this class."""
        self.count += 1
        self.last_error, self.last_time = error, time()


class BestEffortInbox:
    """An optional inbox whose failures are logged and otherwise ignored, because waits continue by polling.

    Attributes:
        inbox: The inbox.
        failures: Its failures.
    """

    def __init__(self, inbox: Inbox | None) -> None:
        """Store the inbox."""
        self.inbox = inbox
        self.failures: InboxFailures = InboxFailures()

    async def get_state(self, session_id: str) -> SessionState | None:
        """Return the recorded state of a session, or ``None`` if there is none or the inbox fails."""
        if self.inbox is None:
            return None
        try:
            return (await get_states(self.inbox, [session_id])).get(session_id)
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            # Only the type: the text of the exception may hold data of the session.
            name = type(error).__name__
            self.failures.add(name)
            fields = log_fields(error=name, session_id=session_id)
            _LOG.info("The inbox failed with %s; the recorded state of a session is not used.", name, extra=fields)
            return None

    async def save_submission(self, session_id: str, submission: str) -> None:
        """Save a submission, if the inbox can (see `SubmissionInbox`)."""
        save: Callable[[str, str], Awaitable[None]] | None = getattr(self.inbox, "save_submission", None)
        if save is None:
            return
        try:
            await with_deadline(save(session_id, submission), _RECORD_TIMEOUT)
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            name = type(error).__name__
            self.failures.add(name)
            fields = log_fields(error=name, session_id=session_id)
            _LOG.info("The inbox failed with %s; the trace of a submission is not saved.", name, extra=fields)

    async def record(self, event: WebhookEvent, *, consequence: str) -> RecordResult | None:
        """Record an event that Veriff did not send, and return the result, or ``None`` if the inbox fails.

        Args:
            event: The event.
            consequence: The effect of a failure, for the log.
        """
        if self.inbox is None:
            return None
        try:
            result = await with_deadline(self.inbox.record(event, source=DecisionSource.POLL), _RECORD_TIMEOUT)
            return _check_result(result)
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            name = type(error).__name__
            self.failures.add(name)
            _LOG.info("The inbox failed with %s; %s.", name, consequence, extra=log_fields(error=name))
            return None
