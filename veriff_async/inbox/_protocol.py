"""The interface of an inbox: it records verified events, and wakes coroutines that wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from psycopg import AsyncConnection

    from veriff_async.models.delivery import Delivery, DeliveryOutcome, DeliveryRecord, DeliveryStatus
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.inbox_search import InboxStatistics, SessionPage, SessionSearch
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("DeliveryInbox", "ErasableInbox", "Inbox", "SearchableInbox", "SubmissionInbox", "TransactionalInbox")


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
            InboxError: They, or one of them, cannot be read.
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


@runtime_checkable
class DeliveryInbox(Inbox, Protocol):
    """An inbox that also passes events to handlers, each at least once. Receivers with handlers need one.

    An event that is recorded with ``deliver=True`` is queued in the same step. One process at a time leases it, calls
    the handlers, and settles it. The lease of a process that died ends by itself, and another process tries again.

    Events of one session are handled in the order of recording: an event is leased only when all earlier ones of its
    session that were queued are handled or dead. Events of different sessions, and events without a session, do not
    wait for each other.

    An event is queued once in its life. When it is recorded again, it is queued only if it was never queued before.
    Retention deletes no event that is queued or leased, nor its session.
    """

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Store an event as `Inbox.record` does, and queue it for the handlers in the same step.

        Args:
            event: A verified event.
            source: Where the event comes from.
            deliver: Whether to queue it, unless it has been queued before.

        Raises:
            InboxError: It may not have been stored, and must not be acknowledged.
        """
        ...

    async def lease(self, limit: int, *, seconds: float) -> Sequence[Delivery[WebhookEvent]]:
        """Lease events that are due, those that were queued first coming first, one of each session.

        Each lease is a new attempt. It ends after some seconds, unless it is extended or settled; the event is then
        due again. A clock that is set back delays no event for longer than its lease or its delay.

        An event that cannot be read keeps no other waiting. If another program has damaged it, it becomes a dead
        letter. If this process lacks its key, it is left to other processes. A call that is cancelled leases nothing.

        Args:
            limit: How many events to lease.
            seconds: Seconds until the leases end.

        Raises:
            InboxError: None may have been leased, or some until their leases end; or this process lacks the keys of
                all events that it could lease.
        """
        ...

    async def extend_leases(self, deliveries: Collection[Delivery[WebhookEvent]], *, seconds: float) -> frozenset[str]:
        """Let leases end some seconds from now instead, and return the ``lease`` of each that is still held.

        Raises:
            InboxError: They may not have been extended.
        """
        ...

    async def settle(self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        """Store the outcome of an attempt durably, and return whether its lease was still held.

        A lease is lost when another attempt has begun, or the event was erased: then nothing is stored. An outcome
        that comes after the end of the lease, but before another attempt, counts.

        Raises:
            InboxError: The outcome may not have been stored; the event is then handled again.
        """
        ...

    async def get_deliveries(
        self, *, session_id: str | None = None, status: DeliveryStatus | None = None, limit: int = 100
    ) -> Sequence[DeliveryRecord]:
        """Return how far the handlers are with stored events, the latest first.

        An event that another program has damaged is returned with what can be read of it, and hides no other.

        Args:
            session_id: Only events of this session.
            status: Only events in this status. Without it, events that were never queued are returned too.
            limit: How many to return.

        Raises:
            InboxError: They cannot be read.
        """
        ...

    async def requeue(self, session_id: str | None, dedup_key: str) -> bool:
        """Queue a stored event again, behind the queued events of its session, with its attempts set to zero.

        It does so in every status but ``queued`` and ``leased``; all handlers are called again.

        Returns:
            Whether the event was queued; it is not if it is queued or leased already, or is not stored.

        Raises:
            InboxError: It may not have been queued.
        """
        ...


@runtime_checkable
class TransactionalInbox(DeliveryInbox, Protocol):
    """An inbox in the database of the application, so that the effect of a handler and its outcome commit together.

    Receivers with a handler that has ``transaction=True`` need one.
    """

    def handle_in_transaction(
        self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome
    ) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """Yield a connection in a transaction that stores the outcome of an attempt; it commits when the block ends.

        The block cannot end the transaction itself. An exception in the block rolls everything back and passes
        through unchanged. While the block runs, the lease does not end.

        Args:
            delivery: The attempt, from `DeliveryInbox.lease`.
            outcome: The outcome if the block succeeds: ``handled``, or ``leased`` if other handlers are yet to come.

        Raises:
            LeaseLostError: The lease was lost; another attempt handles the event.
            InboxError: The transaction failed. If its commit failed, it may have been stored: settle the delivery as
                failed, which stores nothing if it was.

        Example:
            >>> async with inbox.handle_in_transaction(delivery, outcome) as connection:
            ...     await connection.execute("UPDATE users SET verified = true WHERE id = %s", (user_id,))
        """
        ...


@runtime_checkable
class SearchableInbox(Inbox, Protocol):
    """An inbox in which people and programs can search; its methods are optional."""

    async def find_sessions(self, search: SessionSearch, *, limit: int = 100, page: str | None = None) -> SessionPage:
        """Find sessions, the one with the latest event first.

        A session that gets an event between two pages may occur twice or not at all; all others occur once.
        A session that another program has damaged, or whose key is missing, is returned with what can be read of it.

        Args:
            search: Which sessions.
            limit: How many to return at most.
            page: The ``next_page`` of the previous part.

        Raises:
            InboxError: They cannot be read.
        """
        ...

    async def statistics(self) -> InboxStatistics:
        """Count what is stored and what waits.

        Raises:
            InboxError: It cannot be read.
        """
        ...


@runtime_checkable
class ErasableInbox(Inbox, Protocol):
    """An inbox that can erase sessions; the method is optional."""

    async def erase(self, session_ids: Collection[str], *, refuse_for: float = 30 * 86_400.0) -> int:
        """Delete everything about sessions, and store nothing about them for some time.

        When this returns, neither the store's files nor their free parts hold anything of the events. They keep only
        a digest of each session's id, because Veriff repeats a webhook for up to seven days: an event of such a session
        is acknowledged and not stored, and its `RecordResult` has ``ignored=erased``.

        Args:
            session_ids: The sessions, which need not be stored.
            refuse_for: Seconds for which events of these sessions are not stored.

        Returns:
            How many of the sessions were stored.

        Raises:
            InboxError: Some may not have been erased; call it again.
        """
        ...
