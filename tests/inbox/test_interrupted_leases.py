"""Leases that do not reach their caller: the events are due again at once, and no attempt is counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.inbox.postgres_proxy import proxy_to
from veriff_async import InboxError
from veriff_async.encryption import KeyRing
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, PostgresInbox, RedisInbox, SqliteInbox
from veriff_async.testing import decision_event, session_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.postgres_server import PostgresDatabase
    from tests.servers import RedisServer

pytestmark = pytest.mark.anyio

OLD, NEW = KeyRing.generate_key(), KeyRing.generate_key()
GIVEN_BACK = DeliveryOutcome(status=DeliveryStatus.QUEUED, counts=False)


async def test_cancelled_lease_in_redis_leaves_nothing_leased(redis_server: RedisServer) -> None:
    """A lease that is cancelled in any step keeps no event from the next one, as soon as the inbox is closed."""
    async with RedisInbox(redis_server.url) as inbox:
        for session_id in ("s", "t"):
            await inbox.record(session_event(session_id, "started"), deliver=True)
    steps, is_cancelled = 0, True
    while is_cancelled:
        async with RedisInbox(redis_server.url) as inbox:
            await inbox.get_states(["s"])  # opens the connection
            leasing = asyncio.create_task(inbox.lease(5, seconds=3600))
            for _ in range(steps):
                await asyncio.sleep(0)
            leasing.cancel()
            await asyncio.wait([leasing])
        is_cancelled, steps = leasing.cancelled(), steps + 1
        async with RedisInbox(redis_server.url) as inbox:
            deliveries = leasing.result() if not is_cancelled else await inbox.lease(5, seconds=3600)
            assert [("s", 1), ("t", 1)] == [(each.event.session_id, each.attempt) for each in deliveries]
            for delivery in deliveries:
                assert await inbox.settle(delivery, GIVEN_BACK)
            assert (2, 0) == ((found := await inbox.statistics()).queued, found.leased)


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_lease_in_postgresql_whose_commit_is_unknown_counts_no_attempt(
    postgres: PostgresDatabase, *, is_cancelled: bool
) -> None:
    """If a lease is cancelled or loses its connection while it is committed, its events are given back at once."""
    async with PostgresInbox(postgres.url) as other:
        await other.record(session_event("s", "started"), deliver=True)
        async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url) as inbox:
            proxy.within, proxy.cut, proxy.cuts = b"SKIP LOCKED", b"COMMIT", 1
            leasing = asyncio.create_task(inbox.lease(5, seconds=3600))
            await proxy.is_cut.wait()
            if is_cancelled:
                leasing.cancel()
            await asyncio.wait([leasing])
            assert leasing.cancelled() or isinstance(leasing.exception(), InboxError)
        (delivery,) = await other.lease(5, seconds=3600)
        assert 1 == delivery.attempt


async def check_missing_key(
    open_inbox: Callable[[KeyRing | None], PostgresInbox | RedisInbox | SqliteInbox],
) -> None:
    """Lease events of which only some can be decrypted."""
    events = {session_id: decision_event(session_id, "approved") for session_id in ("locked", "state", "open")}
    async with open_inbox(KeyRing([OLD])) as inbox:
        await inbox.record(events["locked"], deliver=True)
    async with open_inbox(KeyRing([NEW])) as inbox:
        await inbox.record(events["state"], deliver=True)
        await inbox.record(events["open"], deliver=True)
    async with open_inbox(KeyRing([OLD, NEW])) as inbox:  # writes the state with the other key
        await inbox.record(session_event("state", "submitted", attempt_id="second"))
        await inbox.save_submission("state", "text")

    async with open_inbox(KeyRing([NEW])) as inbox:
        (delivery,) = await inbox.lease(10, seconds=3600)
        assert events["open"] == delivery.event
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await inbox.lease(10, seconds=3600)
    async with open_inbox(KeyRing([OLD, NEW])) as inbox:
        waiting = [each for each in await inbox.get_deliveries() if each.status is DeliveryStatus.QUEUED]
        assert {"locked", "state"} == {each.session_id for each in waiting}
        assert [0, 0] == [each.attempts for each in waiting]
        assert ["The process that leased it lacks a key of the inbox."] * 2 == [each.error for each in waiting]
        assert [1, 1] == [each.attempt for each in await inbox.lease(10, seconds=3600)]


async def test_missing_key_in_redis_keeps_no_other_event_waiting(redis_server: RedisServer) -> None:
    """A process leases what it can decrypt, leaves other events to other processes, and fails if it has only those."""
    await check_missing_key(lambda ring: RedisInbox(redis_server.url, encryption=ring))


async def test_missing_key_in_sqlite_keeps_no_other_event_waiting(tmp_path: Path) -> None:
    """The same in SQLite."""
    await check_missing_key(lambda ring: SqliteInbox(tmp_path / "inbox.db", encryption=ring))


async def test_missing_key_in_postgresql_keeps_no_other_event_waiting(postgres: PostgresDatabase) -> None:
    """The same on PostgreSQL."""
    await check_missing_key(lambda ring: PostgresInbox(postgres.url, encryption=ring))
