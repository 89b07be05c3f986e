"""Shared by the rules of deliveries, searches and erasure: inboxes with these methods, leases and outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async.models.delivery import DeliveryOutcome, DeliveryRecord, DeliveryStatus
from veriff_async.testing._harness import check_equal
from veriff_async.testing._requirements import require_deliveries

if TYPE_CHECKING:
    from veriff_async.inbox._protocol import DeliveryInbox
    from veriff_async.models.delivery import Delivery
    from veriff_async.models.events import WebhookEvent
    from veriff_async.testing._harness import InboxHandles

__all__ = (
    "DEAD",
    "HANDLED",
    "LEASE",
    "NOTHING",
    "find_record",
    "lease_keys",
    "lease_one",
    "open_delivering",
    "open_two_delivering",
    "retry_after",
)

LEASE: Final = 60.0
"""Seconds of a lease."""

NOTHING: Final[frozenset[str]] = frozenset()
"""The names of no handler."""

HANDLED: Final = DeliveryOutcome(status=DeliveryStatus.HANDLED)
DEAD: Final = DeliveryOutcome(status=DeliveryStatus.DEAD, error="ValueError")


def retry_after(delay: float, *, handled_by: frozenset[str] = NOTHING, counts: bool = True) -> DeliveryOutcome:
    """Return the outcome of a failed attempt, after which another one begins."""
    return DeliveryOutcome(
        status=DeliveryStatus.QUEUED, delay=delay, handled_by=handled_by, counts=counts, error="TimeoutError"
    )


async def open_delivering(store: InboxHandles) -> DeliveryInbox:
    """Return a new handle on the store, and skip the rule if the inbox passes no events to handlers."""
    return require_deliveries(await store.open())


async def open_two_delivering(store: InboxHandles) -> tuple[DeliveryInbox, DeliveryInbox]:
    """Return two handles, as two processes would have, or skip the rule."""
    return await open_delivering(store), await open_delivering(store)


async def lease_one(inbox: DeliveryInbox) -> Delivery[WebhookEvent]:
    """Lease one event, and fail if none is due."""
    leased = await inbox.lease(1, seconds=LEASE)
    check_equal(len(leased), 1, "events that lease(1) returns")
    return leased[0]


async def lease_keys(inbox: DeliveryInbox, limit: int = 100) -> list[str]:
    """Lease events that are due, and return their keys."""
    return [delivery.event.dedup_key for delivery in await inbox.lease(limit, seconds=LEASE)]


async def find_record(inbox: DeliveryInbox, event: WebhookEvent) -> DeliveryRecord:
    """Return how far the handlers are with an event of a session, and fail if the inbox does not have it."""
    records = await inbox.get_deliveries(session_id=event.session_id)
    found = [record for record in records if record.dedup_key == event.dedup_key]
    check_equal(len(found), 1, "records of an event that get_deliveries returns")
    return found[0]
