"""Connections to PostgreSQL that break while a transaction is committed: the event counts exactly once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from psycopg import OperationalError

from tests.inbox.postgres_proxy import proxy_to
from veriff_async import DecisionSource, InboxError
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, IgnoredReason, PostgresInbox
from veriff_async.testing import decision_event, session_event
from veriff_async.testing._harness import get_keys

if TYPE_CHECKING:
    from tests.postgres_server import PostgresDatabase

pytestmark = pytest.mark.anyio

RECORD = b"nextval('veriff_inbox_number')"
AGAIN = DeliveryOutcome(status=DeliveryStatus.QUEUED)
HANDLED = DeliveryOutcome(status=DeliveryStatus.HANDLED)


@pytest.mark.parametrize("cuts", [1, 2])
@pytest.mark.parametrize(
    "statement", [b"pg_try_advisory_xact_lock", b"veriff_inbox_erased", b"INSERT INTO veriff_inbox_event", b"COMMIT"]
)
async def test_event_with_lost_response_counts_once(postgres: PostgresDatabase, statement: bytes, cuts: int) -> None:
    """With any response lost, exactly one record is not a duplicate, and the event is stored and queued once."""
    async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url) as inbox:
        await inbox.get_states(["s"])
        proxy.cut, proxy.cuts = statement, cuts
        proxy.within = RECORD if statement == b"COMMIT" else b""
        event = decision_event("s", "approved")
        results: list[IgnoredReason | None] = []
        while len(results) < 2:
            try:
                results.append((await inbox.record(event, deliver=True)).ignored)
            except InboxError:  # Veriff sends the webhook again
                assert not results or statement == b"COMMIT"

        assert [None, IgnoredReason.DUPLICATE] == results
        assert 1 == len(await get_keys(inbox))
        assert 1 == len(await inbox.lease(9, seconds=60))


async def test_polled_decision_with_lost_response_counts_once(postgres: PostgresDatabase) -> None:
    """The same holds when the transaction only notes that a webhook reported a polled decision."""
    async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url) as inbox:
        proxy.within = RECORD  # other transactions are not cut
        event = decision_event("s", "approved", minute=1)
        await inbox.record(event, source=DecisionSource.POLL)
        proxy.cut, proxy.cuts = b"COMMIT", 1

        assert [None, IgnoredReason.DUPLICATE] == [(await inbox.record(event)).ignored for _ in range(2)]


async def test_server_that_is_unreachable_after_the_commit(postgres: PostgresDatabase) -> None:
    """While the server is unreachable, the record keeps asking whether its event was stored, and returns the result."""
    async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url) as inbox, PostgresInbox(postgres.url) as other:
        proxy.within = RECORD  # other transactions are not cut
        await inbox.record(session_event("s", "started"))
        proxy.cut, proxy.cuts = b"COMMIT", 1
        recording = asyncio.create_task(inbox.record(decision_event("s", "approved")))
        await proxy.is_cut.wait()
        proxy.refuses = True
        proxy.disconnect()
        assert (await other.record(decision_event("s", "approved"))).is_duplicate
        proxy.refuses = False

        assert (await recording).ignored is None


async def test_cancelled_record_counts_when_it_is_repeated(postgres: PostgresDatabase) -> None:
    """If the caller was cancelled before the result was known, the event counts when it comes to this process again."""
    async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url) as inbox:
        proxy.within = RECORD  # other transactions are not cut
        await inbox.record(session_event("s", "started"))
        proxy.cut, proxy.cuts = b"COMMIT", 1
        recording = asyncio.create_task(inbox.record(decision_event("s", "approved")))
        await proxy.is_cut.wait()
        proxy.refuses = True
        proxy.disconnect()
        recording.cancel()
        await asyncio.wait([recording])
        proxy.refuses = False

        results = [(await inbox.record(decision_event("s", "approved"))).ignored for _ in range(2)]
        assert [None, IgnoredReason.DUPLICATE] == results


async def test_outcome_with_lost_response_is_stored_once(postgres: PostgresDatabase) -> None:
    """The caller learns that the outcome may be stored; the failed attempt that it settles then changes nothing."""
    async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url) as inbox:
        proxy.within = b"UPDATE veriff_inbox_delivery\nSET"  # other transactions are not cut
        await inbox.record(session_event("s", "started"), deliver=True)
        (delivery,) = await inbox.lease(1, seconds=60)
        proxy.cut, proxy.cuts = b"COMMIT", 1
        with pytest.raises(InboxError):
            await inbox.settle(delivery, HANDLED)

        assert not await inbox.settle(delivery, AGAIN)
        (record,) = await inbox.get_deliveries()
        assert DeliveryStatus.HANDLED == record.status


@pytest.mark.parametrize("statement", [b"INSERT INTO effect", b"COMMIT"])
async def test_effect_with_lost_response_happens_once(postgres: PostgresDatabase, statement: bytes) -> None:
    """A handler whose transaction may have been committed is tried again, unless it was: one effect in the end."""
    async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url) as inbox:
        proxy.within = b"INSERT INTO effect"  # other transactions are not cut
        await inbox.record(session_event("s", "started"), deliver=True)
        (delivery,) = await inbox.lease(1, seconds=60)
        async with inbox.handle_in_transaction(delivery, DeliveryOutcome(status=DeliveryStatus.LEASED)) as connection:
            await connection.execute("CREATE TABLE effect (key text)")
        await inbox.settle(delivery, AGAIN)
        proxy.cut, proxy.cuts = statement, 1
        attempts = 0
        while deliveries := await inbox.lease(1, seconds=60):
            attempts += 1
            try:
                async with inbox.handle_in_transaction(deliveries[0], HANDLED) as connection:
                    await connection.execute("INSERT INTO effect VALUES (%s)", (deliveries[0].event.dedup_key,))
            except (InboxError, OperationalError):  # of the inbox, or of the handler
                await inbox.settle(deliveries[0], AGAIN)

        assert (1 if statement == b"COMMIT" else 2) == attempts
    assert [(1,)] == await asyncio.to_thread(postgres.execute, "SELECT count(*) FROM effect")
