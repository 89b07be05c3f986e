"""The interface of an inbox: it records verified events, and wakes coroutines that wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("Inbox", "SubmissionInbox")


@runtime_checkable
class Inbox(Protocol):
    """A store that all processes of an application share: one records a webhook, and waits for its session wake in all.

    An inbox over your own database has these methods. `veriff_async.inbox.apply_event` computes the state after an
    event, and `veriff_async.testing.InboxContract` is the test that an inbox must pass. Every failure is raised as an
    `InboxError`: a receiver then answers 503, so that Veriff sends the webhook again, and waits continue by polling.
    """

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        """Store an event and the resulting state of its session durably, before this returns.

        The same event (by its ``dedup_key``) is stored once, and a late event never reverts a newer state.

        Args:
            event: A verified event. Clients also record decisions that they polled, and a `SessionEvent` with an
                ``answered_decision`` when they submitted again.
            source: Where the event comes from.

        Raises:
            InboxError: It may not have been stored, and must not be acknowledged.
        """
        ...

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return the states of those sessions that have one.

        Raises:
            InboxError: They cannot be read.
        """
        ...

    def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the id of each session whose state changes, in any process.

        The first item is ``None``: from then on no change is missed. A later ``None`` means that changes may have been
        missed, so read all states again. An id may be repeated.

        Raises:
            InboxError: The subscription has failed; a new one can be started.
        """
        ...

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the stored events of a session, or those without a session (``None``), in the order of recording.

        Raises:
            InboxError: They cannot be read.
        """
        ...

    async def aclose(self) -> None:
        """Release connections, threads and files, and end the subscriptions; a second call does nothing."""
        ...


@runtime_checkable
class SubmissionInbox(Inbox, Protocol):
    """An inbox that also keeps by whom a session was submitted, so that traces continue in other processes.

    The method is optional: without it, an inbox does everything else. Only clients and receivers that export traces or
    metrics use it.
    """

    async def save_submission(self, session_id: str, submission: str) -> None:
        """Store a text for a session, instead of an earlier one, and return it later as `SessionState.submission`.

        It changes neither the state nor the events of the session, wakes no subscriber, and is deleted with them. A
        session without events has no state, so the text is returned after its first event.

        Args:
            session_id: The session, which may be new to the inbox.
            submission: The text: the time of the submission and its trace, without personal data.

        Raises:
            InboxError: It may not have been stored.
        """
        ...
