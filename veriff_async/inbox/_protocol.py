"""What an inbox is: where verified events are kept, and what tells sleeping coroutines of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from veriff_async.models.decision import DecisionSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("Inbox",)


@runtime_checkable
class Inbox(Protocol):
    """A place that all processes of an application share: one records a webhook, whoever waits for its session wakes.

    An inbox over a database of your own has these methods; `veriff_async.inbox.apply_event` is what a message
    does to a state, and `veriff_async.testing.InboxContract` is the test that it must pass. Whatever fails is told as
    an `InboxError`: a receiver then answers 503, so that Veriff tries again, and waits go on by polling.
    """

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        """Keep an event, and the state of its session after it, for good before this returns.

        The same event (by its ``dedup_key``) is kept once, and a message that comes late never lowers a state.

        Args:
            event: What was verified and read. Clients record decisions that they asked for, and a `SessionEvent` with
                an ``answered_decision`` when they submitted again.
            source: Who told it; decisions that were asked for are recorded too.

        Raises:
            InboxError: It may not have been kept, and must not be acknowledged.
        """
        ...

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return the states of those sessions that are known.

        Raises:
            InboxError: They cannot be read.
        """
        ...

    def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the id of each session whose state has changed, whichever process recorded it.

        The first thing that is yielded is ``None``, when from then on nothing is missed. A later ``None`` says that
        something may have been missed, so that everything is to be looked at again. An id may come more than once.

        Raises:
            InboxError: It has broken off; a new one can be begun.
        """
        ...

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events that are kept of a session, or of none (``None``), in the order of their recording.

        Raises:
            InboxError: They cannot be read.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections, threads and files, and end the feeds; a second call does nothing."""
        ...
