"""The queue of events in an inbox, as a receiver uses it: calls with deadlines, whose failures are logged once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeVar

from veriff_async._logging import log_fields
from veriff_async._waiting.failure_timer import FailureTimer
from veriff_async._waiting.inbox_calls import with_deadline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

    from veriff_async.inbox._protocol import DeliveryInbox
    from veriff_async.models.delivery import Delivery, DeliveryOutcome
    from veriff_async.models.events import WebhookEvent

__all__ = ("DeliveryQueue",)

_T = TypeVar("_T")

_LOG: Final = logging.getLogger("veriff_async.webhooks")


class DeliveryQueue:
    """Leases, extends and settles deliveries; an inbox may be code of the user, which hangs or raises anything.

    Args:
        inbox: The inbox.
        lease: Seconds of a lease. A call that takes longer has failed.
    """

    def __init__(self, inbox: DeliveryInbox, lease: float) -> None:
        """Start without failures."""
        self._inbox = inbox
        self._lease = lease
        self._outage = FailureTimer()

    async def lease(self, limit: int) -> Sequence[Delivery[WebhookEvent]]:
        """Lease events that are due.

        Raises:
            Exception: The inbox failed; this was logged.
        """
        return await self._call(self._inbox.lease(limit, seconds=self._lease))

    async def extend(
        self, deliveries: Collection[Delivery[WebhookEvent]], seconds: float | None = None
    ) -> frozenset[str]:
        """Let leases end after a whole lease from now, or some seconds, and return those that are still held.

        Raises:
            Exception: The inbox failed; this was logged.
        """
        return await self._call(self._inbox.extend_leases(deliveries, seconds=seconds or self._lease))

    async def settle(self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        """Store the outcome of an attempt, and return whether its lease was still held.

        Raises:
            Exception: The inbox failed; this was logged.
        """
        return await self._call(self._inbox.settle(delivery, outcome))

    async def _call(self, call: Awaitable[_T]) -> _T:
        try:
            result = await with_deadline(call, self._lease)
        except Exception as error:
            self._log_failure(type(error).__name__)
            raise
        self._log_success()
        return result

    def _log_failure(self, problem: str) -> None:
        if self._outage.fail():
            fields = log_fields(error=problem)
            _LOG.warning("The inbox failed with %s; events are handled when it works again.", problem, extra=fields)
        elif self._outage.must_report():
            seconds = self._outage.failing_for
            fields = log_fields(error=problem, failing_for=seconds)
            _LOG.error(
                "The inbox has failed for %.0f s, at last with %s, so no event is handled: check it.",
                seconds,
                problem,
                extra=fields,
            )

    def _log_success(self) -> None:
        if seconds := self._outage.failing_for:
            fields = log_fields(failing_for=seconds)
            _LOG.info("The inbox works again after %.0f s; events are handled.", seconds, extra=fields)
        self._outage.end()
