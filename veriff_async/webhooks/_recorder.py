"""Records verified events in the inbox, queues them for the handlers in the same step, and counts them."""

from __future__ import annotations

import logging
from collections import Counter
from time import time
from typing import TYPE_CHECKING, Final, cast

from attrs import define, field, frozen

from veriff_async._logging import log_fields
from veriff_async._protocol.validation import safe_id
from veriff_async.errors import InboxError
from veriff_async.models.events import event_time

if TYPE_CHECKING:
    from datetime import datetime

    from veriff_async._telemetry.webhooks import ReceiverTelemetry
    from veriff_async.inbox._protocol import DeliveryInbox, Inbox
    from veriff_async.inbox.memory import MemoryInbox
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult
    from veriff_async.webhooks._delivery_worker import DeliveryWorker
    from veriff_async.webhooks._handlers import HandlerRegistry

__all__ = ("EventRecorder", "ReceiverCounters", "to_inbox_error")

_LOG: Final = logging.getLogger("veriff_async.webhooks.receiver")


@define
class ReceiverCounters:
    """Totals over all event loops.

    Attributes:
        queued: New events that handlers get.
        refused: Requests by the reason of their refusal.
        last_recorded: When the last webhook was recorded, in seconds since 1970.
        last_times: The time that the last new webhook states, and when it was recorded.
    """

    recorded: int = 0
    duplicates: int = 0
    ignored: int = 0
    queued: int = 0
    refused: Counter[str] = field(factory=Counter[str])
    record_failures: int = 0
    bytes_received: int = 0
    last_recorded: float | None = None
    last_times: tuple[datetime, float] | None = None


@frozen
class EventRecorder:
    """Records the events of one receiver."""

    handlers: HandlerRegistry
    counters: ReceiverCounters
    telemetry: ReceiverTelemetry | None

    def record_now(self, inbox: MemoryInbox, event: WebhookEvent, body: bytes, worker: DeliveryWorker) -> RecordResult:
        """Record an event in memory.

        Raises:
            InboxError: The inbox failed.
        """
        deliver = self.handlers.match(event)
        try:
            result = inbox.record_now(event, body=body, deliver=deliver)
        except Exception as error:  # noqa: BLE001  raised below, so that it is not chained
            inbox_error = to_inbox_error(error)
        else:
            return self._count(event, result, worker, deliver=deliver)
        raise inbox_error

    async def record(self, inbox: Inbox, event: WebhookEvent, worker: DeliveryWorker) -> RecordResult | InboxError:
        """Record an event; an error is returned, since the request may have ended."""
        deliver = self.handlers.match(event)
        try:
            if deliver:
                result = await cast("DeliveryInbox", inbox).record(event, deliver=True)
            else:
                result = await inbox.record(event)
            _ = result.is_duplicate, result.ignored  # a user's inbox may return anything
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            return to_inbox_error(error)
        return self._count(event, result, worker, deliver=deliver)

    def _count(
        self, event: WebhookEvent, result: RecordResult, worker: DeliveryWorker, *, deliver: bool
    ) -> RecordResult:
        """Count a record, and wake the worker if the event was queued."""
        is_duplicate, counters = result.is_duplicate, self.counters
        counters.recorded += 1
        counters.last_recorded = now = time()
        if is_duplicate:
            counters.duplicates += 1
        else:
            if result.ignored is not None:
                counters.ignored += 1
            sent = event_time(event)
            if sent is not None:
                counters.last_times = sent, now
            if (telemetry := self.telemetry) is not None and telemetry.is_live:
                telemetry.on_record(event, result, None if sent is None else now - sent.timestamp())
                if deliver:
                    telemetry.on_queued(event)
        if _LOG.isEnabledFor(logging.DEBUG):
            kind = type(event).__name__
            fields = log_fields(event=kind, session_id=safe_id(event.session_id), is_duplicate=is_duplicate)
            _LOG.debug("Recorded a webhook: %s%s", kind, ", again" if is_duplicate else "", extra=fields)
        if deliver:
            counters.queued += not is_duplicate
            # Also for a duplicate: it is queued if it was recorded without handlers before.
            worker.wake()
        return result


def to_inbox_error(error: Exception) -> InboxError:
    """Return an `InboxError` for any failure of an inbox."""
    if isinstance(error, InboxError):
        return error
    return InboxError(f"The inbox failed with {type(error).__name__}: have it raise an InboxError that says why.")
