"""Calls to the inbox on behalf of waits.

An inbox may be code of the user: it can hang, raise any exception, or raise `CancelledError` although the caller
was not cancelled. Every call here therefore has a deadline and turns a foreign cancellation into an `InboxError`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from veriff_async._event_loop import is_being_cancelled
from veriff_async.errors import InboxError
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Mapping

    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("LOOKUP_TIMEOUT", "PROBE_ID", "BestEffortInbox", "get_states", "with_deadline")

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
        InboxError: See `with_deadline`.
        Exception: The error of the inbox.
    """
    return await with_deadline(inbox.get_states(session_ids), LOOKUP_TIMEOUT)


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


class BestEffortInbox:
    """An optional inbox whose failures are logged and otherwise ignored, because waits continue by polling.

    Args:
        inbox: The inbox, if there is one.
    """

    def __init__(self, inbox: Inbox | None) -> None:
        """Store the inbox."""
        self.inbox = inbox

    async def get_state(self, session_id: str) -> SessionState | None:
        """Return the recorded state of a session, or ``None`` if there is none or the inbox fails."""
        if self.inbox is None:
            return None
        try:
            return (await get_states(self.inbox, [session_id])).get(session_id)
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            # Only the type: the text of the exception may hold data of the session.
            _LOG.warning("the inbox failed with %s; the recorded state of a session is not used", type(error).__name__)
            return None

    async def record(self, event: WebhookEvent, *, consequence: str) -> RecordResult | None:
        """Record an event that Veriff did not send, and return the result, or ``None`` if the inbox fails.

        Args:
            event: The event.
            consequence: The effect of a failure, for the log.
        """
        if self.inbox is None:
            return None
        try:
            return await with_deadline(self.inbox.record(event, source=DecisionSource.POLL), _RECORD_TIMEOUT)
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            _LOG.warning("the inbox failed with %s; %s", type(error).__name__, consequence)
            return None
