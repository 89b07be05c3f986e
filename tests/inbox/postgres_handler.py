"""A process that handles events with effects in the database until it is killed; its arguments are URL and mode."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from veriff_async import InboxError
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, PostgresInbox

if TYPE_CHECKING:
    from veriff_async import WebhookEvent
    from veriff_async.inbox import Delivery

HANDLED: Final = DeliveryOutcome(status=DeliveryStatus.HANDLED)


async def handle_events(url: str, *, in_transaction: bool) -> None:
    """Insert a row for each event; events are handled again when their leases end, which are short."""
    async with PostgresInbox(url) as inbox:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            with suppress(InboxError):  # a slow machine has lost a lease, or a call took too long
                for delivery in await inbox.lease(3, seconds=0.2):
                    await _handle(inbox, delivery, in_transaction=in_transaction)


async def _handle(inbox: PostgresInbox, delivery: Delivery[WebhookEvent], *, in_transaction: bool) -> None:
    statement, values = "INSERT INTO effect VALUES (%s)", (delivery.event.dedup_key,)
    if in_transaction:
        async with inbox.handle_in_transaction(delivery, HANDLED) as connection:
            await connection.execute(statement, values)
    else:
        async with inbox._server.open_transaction() as connection:
            await connection.execute(statement, values)
        await inbox.settle(delivery, HANDLED)


if __name__ == "__main__":
    asyncio.run(handle_events(sys.argv[1], in_transaction=sys.argv[2] == "transaction"))
