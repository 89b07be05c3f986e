"""Deliveries on Redis and Valkey: what the server, its clock, its memory and lost responses can do to a queue."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

import pytest
from anyio import to_thread

from tests.inbox.test_lost_responses import cutting
from tests.inbox.test_redis import client_of, following
from tests.servers import RedisServer
from veriff_async._protocol.session_state import apply_event, dump_state
from veriff_async._protocol.webhook import dump_event, event_from
from veriff_async.encryption import KeyRing
from veriff_async.errors import InboxError
from veriff_async.inbox import (
    DeliveryInbox,
    DeliveryOutcome,
    DeliveryStatus,
    ErasableInbox,
    IgnoredReason,
    RedisInbox,
    Retention,
    SearchableInbox,
    SessionSearch,
)
from veriff_async.models.enums import Status
from veriff_async.models.events import SessionEvent
from veriff_async.testing import decision_event, session_event, watchlist_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from redis.asyncio import Redis

    from veriff_async.models.delivery import Delivery
    from veriff_async.models.events import WebhookEvent

pytestmark = pytest.mark.anyio

HANDLED = DeliveryOutcome(status=DeliveryStatus.HANDLED)
DEAD = DeliveryOutcome(status=DeliveryStatus.DEAD, error="ValueError at handlers.py:7")


@pytest.fixture
async def inbox(redis_server: RedisServer) -> AsyncGenerator[RedisInbox]:
    """Yield an inbox on an empty server."""
    async with RedisInbox(redis_server.url) as inbox:
        yield inbox


@pytest.fixture
async def admin(redis_server: RedisServer) -> AsyncGenerator[Redis]:
    """Yield an administrator's client of the server."""
    async with client_of(redis_server) as admin:
        yield admin


def event_of(session_id: str, **members: object) -> WebhookEvent:
    """Return the start of a session with more members."""
    return event_from({**session_event(session_id, "started").raw, **members})


async def lease_one(inbox: RedisInbox, seconds: float = 60) -> Delivery[WebhookEvent]:
    """Lease the only event that is due."""
    (delivery,) = await inbox.lease(10, seconds=seconds)
    return delivery


async def count_calls(admin: Redis, *commands: str) -> dict[str, int]:
    """Return how often commands were called since the counts were reset."""
    stats = await admin.info("commandstats")
    return {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in commands}


async def store_as_before(admin: Redis, *events: WebhookEvent) -> None:
    """Store events of one session as the first version did: without a queue, numbers and search keys."""
    session_id, fields, state = str(events[0].session_id), dict[str, str | bytes | int | float](), None
    for number, event in enumerate(events):
        state, _ = apply_event(state, event)
        fields[f"key:{event.dedup_key}"] = "0123456789abcdef"
        fields[f"event:{number}"] = "\n".join((event.dedup_key, event.kind, dump_event(event).decode()))
    seconds, _ = await admin.time()
    fields |= {"first": 0, "after": len(events), "touched": seconds - 7200}
    if state is not None:
        fields["state"] = dump_state(state)
    await admin.hset(f"{{veriff}}:session:{session_id}", mapping=fields)  # type: ignore[arg-type]
    await admin.zadd("{veriff}:touched", {f"session:{session_id}": seconds - 7200})


async def dump(server: RedisServer) -> str:
    """Return all keys and values of a server as text."""
    found: list[object] = []
    async with client_of(server, decode_responses=False) as admin:
        for key in await admin.keys("*"):
            match await admin.type(key):
                case b"hash":
                    found.append((key, await admin.hgetall(key)))
                case b"zset":
                    found.append((key, await admin.zrange(key, 0, -1)))
                case b"stream":
                    found.append((key, await admin.xrange(key)))
                case _:
                    found.append((key, await admin.get(key)))
    return repr(found)


async def members_of(server: RedisServer, name: str) -> list[bytes]:
    """Return the members of an index, which are bytes."""
    async with client_of(server, decode_responses=False) as admin:
        return cast("list[bytes]", await admin.zrange(f"{{veriff}}:{name}", 0, -1))


async def test_redis_inbox_has_all_abilities(inbox: RedisInbox) -> None:
    """It passes events to handlers, can be searched, and erases sessions."""
    assert isinstance(inbox, DeliveryInbox)
    assert isinstance(inbox, SearchableInbox)
    assert isinstance(inbox, ErasableInbox)


@pytest.mark.parametrize("deliver", [False, True])
async def test_record_takes_three_round_trips(inbox: RedisInbox, admin: Redis, deliver: bool) -> None:  # noqa: FBT001
    """A record watches, reads once, and writes once, whether or not it queues the event."""
    await inbox.record(event_of("s", vendorData="ada"), deliver=deliver)
    await admin.config_resetstat()

    await inbox.record(session_event("s", "submitted"), deliver=deliver)
    await inbox.record(event_of("t", vendorData="ada"), deliver=deliver)

    # The second script of each record is a part of its transaction.
    calls = await count_calls(admin, "watch", "eval", "multi", "exec", "hmget", "hget")
    assert {"watch": 2, "eval": 4, "multi": 2, "exec": 2, "hmget": 2, "hget": 0} == calls


async def test_lease_does_not_visit_the_backlog(inbox: RedisInbox, admin: Redis) -> None:
    """A lease costs the same number of commands with ten queued sessions and with a hundred."""
    costs: list[dict[str, int]] = []
    for count in (10, 100):
        events = [session_event(f"{count}-{number}", "started") for number in range(count)]
        await asyncio.gather(*(inbox.record(event, deliver=True) for event in events))
        await admin.config_resetstat()
        for _ in range(3):
            (delivery,) = await inbox.lease(1, seconds=60)
            await inbox.settle(delivery, HANDLED)
        names = ("eval", "zrange", "zrangebyscore", "zadd", "zrem", "hget", "hmget", "hset")
        costs.append(await count_calls(admin, *names))

    assert costs[0] == costs[1]
    assert 9 == costs[0]["eval"]


async def test_empty_queue_is_only_read(inbox: RedisInbox, admin: Redis) -> None:
    """A lease that finds nothing due writes nothing, so that waiting workers do not fill an append-only file."""
    await inbox.record(session_event("s", "started"), deliver=True)
    await lease_one(inbox)
    before = (await admin.info("persistence"))["rdb_changes_since_last_save"]

    for _ in range(5):
        assert [] == list(await inbox.lease(10, seconds=60))

    assert before == (await admin.info("persistence"))["rdb_changes_since_last_save"]


async def test_open_sessions_do_not_expire(inbox: RedisInbox, admin: Redis) -> None:
    """Redis deletes no session that waits for handlers, and each other one in the end."""
    await inbox.record(session_event("s", "started"), deliver=True)
    await inbox.record(watchlist_event(None), deliver=True)
    await inbox.record(session_event("s", "submitted"), deliver=True)
    await inbox.record(event_of("plain", vendorData="ada"))
    names = ("session:s", "none", "session:plain", "touched", "search", "changes")

    def keys() -> list[str]:
        return [f"{{veriff}}:{name}" for name in names]

    assert [-1, -1] == [await admin.pttl(key) for key in keys()[:2]]
    assert all([await admin.pttl(key) > 0 for key in keys()[2:]])
    while leased := await inbox.lease(10, seconds=60):
        for delivery in leased:
            await inbox.settle(delivery, DEAD)

    assert {f"{{veriff}}:{name}" for name in (*names, "dead", "counts", "indexed")} == set(await admin.keys("*"))
    for key in await admin.keys("*"):
        assert 30 * 86_400_000 < await admin.pttl(key) <= 30 * 86_400_000 + 60_000


async def test_old_open_sessions_do_not_protect_others(redis_server: RedisServer, admin: Redis) -> None:
    """Sessions behind many that wait for handlers are deleted for their age, and those when they are handled."""
    now = [1000.0]
    async with RedisInbox(redis_server.url, retention=Retention(max_age=60), now=lambda: now[0]) as inbox:
        for number in range(7):
            await inbox.record(event_of(f"open-{number}", vendorData="ada"), deliver=True)
        for number in range(5):
            await inbox.record(event_of(f"plain-{number}", vendorData="ada"))
        now[0] += 61
        for number in range(12):
            await inbox.record(session_event(f"new-{number}", "started"))
        assert 7 + 12 == await admin.zcard("{veriff}:touched")
        assert 7 + 7 + 12 == await admin.zcard("{veriff}:search")
        assert 7 == len((await inbox.find_sessions(SessionSearch(vendor_data="ada"))).sessions)
        for delivery in await inbox.lease(10, seconds=60):
            await inbox.settle(delivery, HANDLED)
        assert () == (await inbox.find_sessions(SessionSearch(vendor_data="ada"))).sessions
        for number in range(7):
            await inbox.record(session_event(f"newer-{number}", "started"))

        assert 12 + 7 == await admin.zcard("{veriff}:touched")
        assert not await admin.exists("{veriff}:open", "{veriff}:waiting", "{veriff}:latest", "{veriff}:ready")


async def test_index_forgets_sessions_that_have_expired(redis_server: RedisServer, admin: Redis) -> None:
    """Entries of sessions that Redis has deleted by itself are removed when others are deleted."""
    now = [1000.0]
    async with RedisInbox(redis_server.url, retention=Retention(max_age=60), now=lambda: now[0]) as inbox:
        await inbox.record(event_of("s", vendorData="ada"), deliver=True)
        await inbox.settle(await lease_one(inbox), DEAD)
        await admin.delete("{veriff}:session:s")
        now[0] += 61
        await inbox.record(session_event("new", "started"))

        assert [True] == [member.endswith(b"session:new") for member in await members_of(redis_server, "search")]
        assert not await admin.exists("{veriff}:dead")


async def test_settlement_with_lost_response_counts_once(redis_server: RedisServer) -> None:
    """A settlement whose response was lost is repeated, and stores the outcome once."""
    async with cutting(redis_server) as proxy, RedisInbox(proxy.url) as inbox:
        for session_id in ("s", "t"):
            await inbox.record(session_event(session_id, "started"), deliver=True)
        first, second = await inbox.lease(2, seconds=60)
        proxy.cut, proxy.cuts = b"EVAL", 1
        assert await inbox.settle(first, DEAD)
        proxy.cut, proxy.cuts = b"EVAL", 2
        with pytest.raises(InboxError):
            await inbox.settle(second, DEAD)

        assert await inbox.settle(second, DEAD)
        assert not await inbox.settle(second, DEAD)
        assert ["t", "s"] == [record.session_id for record in await inbox.get_deliveries(status=DeliveryStatus.DEAD)]
        assert [1, 1] == [record.attempts for record in await inbox.get_deliveries()]


@pytest.mark.parametrize("passed", [0, 1])
async def test_lease_with_lost_response_counts_no_attempt(redis_server: RedisServer, passed: int) -> None:
    """An event whose lease did not reach its process is given back, or due again when the lease would have ended."""
    now = [1000.0]
    async with cutting(redis_server) as proxy, RedisInbox(proxy.url, now=lambda: now[0]) as inbox:
        await inbox.record(session_event("s", "started"), deliver=True)
        proxy.passed, proxy.cut, proxy.cuts = passed, b"EVAL", 2
        with pytest.raises(InboxError):
            await inbox.lease(10, seconds=60)
        if not passed:  # the process does not know what it has leased
            assert [] == list(await inbox.lease(10, seconds=60))
            now[0] += 61

        assert 1 == (await lease_one(inbox)).attempt


async def test_requeue_with_lost_response_counts_once(redis_server: RedisServer) -> None:
    """A requeue whose response was lost is repeated, and returns that it has queued the event."""
    async with cutting(redis_server) as proxy, RedisInbox(proxy.url) as inbox:
        event = session_event("s", "started")
        await inbox.record(event)
        proxy.cut, proxy.cuts = b"EVAL", 1

        assert [True, False] == [await inbox.requeue("s", event.dedup_key) for _ in range(2)]
        assert 1 == len(await inbox.lease(10, seconds=60))


@pytest.mark.parametrize("cuts", [1, 2])
async def test_record_with_lost_response_queues_once(redis_server: RedisServer, cuts: int) -> None:
    """An event whose record got no response is queued once."""
    async with cutting(redis_server) as proxy, RedisInbox(proxy.url) as inbox:
        proxy.cut, proxy.cuts = b"EXEC", cuts
        assert (await inbox.record(session_event("s", "started"), deliver=True)).ignored is None
        await inbox.settle(await lease_one(inbox), HANDLED)

        assert [] == list(await inbox.lease(10, seconds=60))


async def test_deliveries_survive_a_crash_of_the_server(redis_server: RedisServer, tmp_path: Path) -> None:
    """With an append-only file, queue and leases are there when the server was killed and started again."""
    server, durable = RedisServer(redis_server.binary, tmp_path), ("--appendonly", "yes", "--appendfsync", "always")
    await to_thread.run_sync(server.start, *durable)
    try:
        async with RedisInbox(server.url) as inbox:
            for session_id in ("leased", "retried", "queued"):
                await inbox.record(session_event(session_id, "started"), deliver=True)
            leased, retried = await inbox.lease(2, seconds=3600)
            await inbox.settle(retried, DeliveryOutcome(status=DeliveryStatus.QUEUED, delay=3600))
            before = await inbox.get_deliveries()
            await to_thread.run_sync(server.kill)
            with pytest.raises(InboxError, match="cannot be reached"):
                await inbox.lease(1, seconds=60)
            await to_thread.run_sync(server.start, *durable)

            assert list(before) == list(await inbox.get_deliveries())
            assert await inbox.settle(leased, HANDLED)
            assert "queued" == (await lease_one(inbox)).event.session_id
    finally:
        await to_thread.run_sync(server.kill)


async def test_lease_survives_a_failover(redis_server: RedisServer, redis_replica: RedisServer) -> None:
    """A lease of the primary is held on the replica that takes over, where the next event follows."""
    async with RedisInbox(redis_server.url) as inbox, RedisInbox(redis_replica.url) as after:
        for action in ("started", "submitted"):
            await inbox.record(session_event("s", action), deliver=True)
        delivery = await lease_one(inbox)
        async with client_of(redis_server) as primary, client_of(redis_replica) as replica:
            await primary.set("last", 1)  # WAIT waits for the writes of its own connection
            assert 1 == await primary.wait(1, 30_000)
            with pytest.raises(InboxError, match="it is a replica"):
                await after.settle(delivery, HANDLED)
            await replica.replicaof("NO", "ONE")

        assert await after.settle(delivery, HANDLED)
        assert "submitted" == getattr((await lease_one(after)).event, "action", None)


async def test_full_server_loses_no_delivery(inbox: RedisInbox, admin: Redis) -> None:
    """While the memory is full, leases and settlements fail with a remedy, and change nothing."""
    for session_id in ("s", "t"):
        await inbox.record(session_event(session_id, "started"), deliver=True)
    (delivery,) = await inbox.lease(1, seconds=3600)
    await admin.config_set("maxmemory", "1")
    try:
        for call in (inbox.lease(1, seconds=60), inbox.settle(delivery, HANDLED)):
            with pytest.raises(InboxError, match="memory is full"):
                await call
        with pytest.raises(InboxError, match="memory is full"):
            await inbox.extend_leases([delivery], seconds=60)
    finally:
        await admin.config_set("maxmemory", "0")

    assert await inbox.settle(delivery, HANDLED)
    assert "t" == (await lease_one(inbox)).event.session_id


async def test_unreadable_event_becomes_dead(inbox: RedisInbox, admin: Redis) -> None:
    """An event that cannot be read keeps no other from being handled, and is listed as dead."""
    for session_id in ("s", "t"):
        await inbox.record(session_event(session_id, "started"), deliver=True)
    await admin.hset("{veriff}:session:s", "event:0", "key\nevent\ntheirs")

    assert "t" == (await lease_one(inbox)).event.session_id
    (record,) = await inbox.get_deliveries(status=DeliveryStatus.DEAD)
    assert ("s", "The stored event cannot be read.") == (record.session_id, record.error)


async def test_evicted_session_leaves_the_queue(inbox: RedisInbox, admin: Redis) -> None:
    """A session that the server has evicted is taken out of the queue, and others are leased."""
    for session_id in ("s", "t"):
        await inbox.record(session_event(session_id, "started"), deliver=True)
    await admin.delete("{veriff}:session:s")

    assert "t" == (await lease_one(inbox)).event.session_id
    assert ["session:t"] == await admin.zrange("{veriff}:open", 0, -1)


async def test_sessions_of_earlier_versions_are_delivered(inbox: RedisInbox, admin: Redis) -> None:
    """Events of an earlier version have no delivery, can be queued, and are handled before later ones."""
    first, last = session_event("s", "started"), decision_event("s", "approved")
    await store_as_before(admin, first, last)
    assert [first, last] == list(await inbox.get_events("s"))
    assert [None, None] == [record.status for record in await inbox.get_deliveries()]

    assert (await inbox.record(last, deliver=True)).is_duplicate
    assert (await inbox.record(last, deliver=True)).is_duplicate
    assert await inbox.requeue("s", first.dedup_key)
    assert not await inbox.requeue("s", last.dedup_key)
    await inbox.record(watchlist_event("s"), deliver=True)

    for expected in (last, first, watchlist_event("s")):
        delivery = await lease_one(inbox)
        assert (expected, 1) == (delivery.event, delivery.attempt)
        assert "approved" == (delivery.state and delivery.state.status)
        await inbox.settle(delivery, HANDLED)
    assert {DeliveryStatus.HANDLED} == {record.status for record in await inbox.get_deliveries()}


async def test_sessions_of_earlier_versions_are_found(inbox: RedisInbox, admin: Redis) -> None:
    """The first search for a person reads sessions without search keys, and a record adds those of all events."""
    for number in range(3):
        await store_as_before(admin, event_of(f"s{number}", vendorData="ada"), event_of(f"s{number}", endUserId="u"))
    await inbox.record(session_event("s0", "submitted"))
    assert 3 == await admin.zcard("{veriff}:search")

    found = (await inbox.find_sessions(SessionSearch(vendor_data="ada", end_user_id="u"))).sessions
    assert ["s0", "s2", "s1"] == [summary.session_id for summary in found]
    assert [3, 2, 2] == [summary.events for summary in found]
    assert 30 * 86_400_000 < await admin.pttl("{veriff}:search")
    await admin.config_resetstat()
    await inbox.find_sessions(SessionSearch(vendor_data="ada"))
    assert {"zrevrangebyscore": 0, "getex": 1} == await count_calls(admin, "zrevrangebyscore", "getex")


async def test_search_keys_are_read_again_while_an_earlier_version_runs(inbox: RedisInbox, admin: Redis) -> None:
    """As long as sessions of an earlier version are young, each search looks for more of them."""
    await store_as_before(admin, event_of("s", vendorData="ada"))
    seconds, _ = await admin.time()
    await admin.zadd("{veriff}:touched", {"session:s": seconds})
    assert 1 == len((await inbox.find_sessions(SessionSearch(vendor_data="ada"))).sessions)
    await store_as_before(admin, event_of("t", vendorData="ada"))

    assert 2 == len((await inbox.find_sessions(SessionSearch(vendor_data="ada"))).sessions)


async def test_nothing_of_an_erased_session_is_on_the_server(inbox: RedisInbox, redis_server: RedisServer) -> None:
    """Neither the person nor the id of the session is in any key or value, only digests are."""
    event = event_of("canary-session", vendorData="canary-data", endUserId="canary-user")
    async with following(inbox):
        await inbox.save_submission("canary-session", "canary-submission")
        await inbox.record(event, deliver=True)
        await inbox.record(event_of("other", vendorData="canary-data"), deliver=True)
        await inbox.settle((await inbox.lease(1, seconds=60))[0], DEAD)
        await inbox.record(decision_event("canary-session", "approved"), deliver=True)
        leased = [delivery for delivery in await inbox.lease(10, seconds=60) if delivery.event.session_id != "other"]
        assert "canary-session" in await dump(redis_server)

        assert 1 == await inbox.erase(["canary-session", "unknown"])

        assert "canary" not in (await dump(redis_server)).replace("canary-data", "")  # which the other session has too
        assert "session:other" in await dump(redis_server)
    assert [False] == [await inbox.settle(delivery, HANDLED) for delivery in leased]
    assert (await inbox.record(event, deliver=True)).ignored is IgnoredReason.ERASED
    await inbox.save_submission("canary-session", "canary-submission")
    assert ["other"] == [record.session_id for record in await inbox.get_deliveries()]


async def test_record_that_has_begun_stores_nothing_after_an_erasure(
    inbox: RedisInbox, admin: Redis, redis_server: RedisServer
) -> None:
    """However far a record is when its session is erased, nothing of the session is stored afterwards."""
    for turns in range(0, 24, 2):
        record = asyncio.ensure_future(inbox.record(session_event(f"s{turns}", "started"), deliver=True))
        for _ in range(turns):
            await asyncio.sleep(0)
        await inbox.erase([f"s{turns}"])
        await record

    left = {key for key in await admin.keys("*") if ":erased:" not in key}
    assert {"{veriff}:changes", "{veriff}:counts", "{veriff}:indexed"} >= left
    assert {"0"} >= set(await admin.hvals("{veriff}:counts"))
    assert "session:" not in (await dump(redis_server)).replace("sessions:", "")


async def test_cluster_accepts_every_script(single_redis_server: RedisServer, tmp_path: Path) -> None:
    """On a node of a cluster, all keys of each call are on the same node."""
    server = RedisServer(single_redis_server.binary, tmp_path)
    await to_thread.run_sync(server.start, "--cluster-enabled", "yes")
    try:
        async with client_of(server) as admin:
            await admin.execute_command("CLUSTER ADDSLOTS", *range(16_384))  # type: ignore[no-untyped-call]
            # redis-py parses the answer, or does not, depending on its version.
            while "cluster_state:ok" not in re.sub(r"[' ]", "", str(await admin.execute_command("CLUSTER INFO"))):  # type: ignore[no-untyped-call]
                pass
        async with RedisInbox(server.url, retention=Retention(max_sessions=2)) as inbox:
            for session_id in ("s", "t", "u", "v"):
                await inbox.record(event_of(session_id, vendorData="ada"), deliver=session_id > "t")
            first, second = await inbox.lease(10, seconds=60)
            assert {first.lease, second.lease} == await inbox.extend_leases([first, second], seconds=60)
            assert await inbox.settle(first, DEAD)
            assert await inbox.requeue("u", first.event.dedup_key)
            assert 2 == len((await inbox.find_sessions(SessionSearch(vendor_data="ada"))).sessions)
            assert 2 == (await inbox.statistics()).sessions
            assert 2 == len(await inbox.get_deliveries())
            assert 2 == await inbox.erase(["u", "v"])
    finally:
        await to_thread.run_sync(server.kill)


async def test_counts_follow_every_change(redis_server: RedisServer, admin: Redis) -> None:
    """Statistics are those of the stored sessions, in whole hours too, after any records, deliveries and deletions."""
    now = [1_800_000_000.0]
    retention = Retention(max_age=10 * 3600, max_events_per_session=3)
    async with RedisInbox(redis_server.url, retention=retention, now=lambda: now[0]) as inbox:
        await store_as_before(admin, event_of("before"), session_event("before", "submitted"))
        await admin.hset("{veriff}:session:before", "touched", now[0])
        await admin.zadd("{veriff}:touched", {"session:before": now[0]})
        for hour in range(6):
            for number in range(3):
                for step in range(hour):
                    event = event_of(f"{hour // 2}-{number}", step=step, hour=hour)
                    await inbox.record(event, deliver=step == 1)
                    await inbox.record(event)
            await inbox.save_submission("only-submitted", "text")
            await inbox.record(event_from({"eventType": "new", "hour": hour}), deliver=True)
            now[0] += 3600
        (first, second, *_) = await inbox.lease(5, seconds=60)
        await inbox.settle(first, DEAD)
        await inbox.settle(second, HANDLED)
        await inbox.erase(["2-1"])
        sessions = ["before", None, *(f"{hours}-{number}" for hours in range(3) for number in range(3))]
        stored = [await inbox.get_events(session_id) for session_id in sessions]
        states = [record.status for record in await inbox.get_deliveries(limit=1000)]

        found = await inbox.statistics()
        assert (len(sessions) - 1, sum(map(len, stored))) == (found.sessions, found.events)
        waiting = (DeliveryStatus.QUEUED, DeliveryStatus.LEASED, DeliveryStatus.DEAD)
        counts = [states.count(status) for status in waiting]
        assert counts == [found.queued, found.leased, found.dead]
        now[0] += 7 * 3600
        later = await inbox.statistics()
        assert counts == [later.queued, later.leased, later.dead]
        assert len((await inbox.find_sessions(SessionSearch())).sessions) == later.sessions < found.sessions
        assert sum(each.events for each in (await inbox.find_sessions(SessionSearch())).sessions) == later.events


async def test_search_by_status_follows_the_state(inbox: RedisInbox, admin: Redis) -> None:
    """A session is found by its present status, through the index that also has its person."""
    for session_id in ("s", "t"):
        await inbox.record(event_of(session_id, vendorData="ada"))
    await inbox.record(decision_event("s", "approved"))

    for status, expected in ((Status.STARTED, "t"), (Status.APPROVED, "s")):
        (summary,) = (await inbox.find_sessions(SessionSearch(status=status, vendor_data="ada"))).sessions
        assert expected == summary.session_id
    assert 4 == await admin.zcard("{veriff}:search")


async def test_event_without_its_text_cannot_be_queued(inbox: RedisInbox, admin: Redis) -> None:
    """An event of an earlier version whose text was deleted stays a duplicate, and never comes to a handler."""
    event = session_event("s", "started")
    await store_as_before(admin, event)
    await admin.hdel("{veriff}:session:s", "event:0")

    assert not await inbox.requeue("s", event.dedup_key)
    assert (await inbox.record(event, deliver=True)).is_duplicate
    assert not await inbox.lease(1, seconds=60)


async def test_event_of_a_session_without_a_time_leaves_the_queue(inbox: RedisInbox, admin: Redis) -> None:
    """A session whose time was deleted from the server keeps no other from being handled."""
    for session_id in ("s", "t"):
        await inbox.record(session_event(session_id, "started"), deliver=True)
    await admin.hdel("{veriff}:session:s", "touched")

    assert "t" == (await lease_one(inbox)).event.session_id
    assert not await inbox.lease(1, seconds=60)
    assert 0 == (await inbox.statistics()).queued


async def test_dead_event_is_deleted_as_an_old_one(redis_server: RedisServer) -> None:
    """A session has no more events than allowed: the oldest leaves it although it is dead, but not while queued."""
    async with RedisInbox(redis_server.url, retention=Retention(max_events_per_session=2)) as inbox:
        await inbox.record(session_event("s", "started"), deliver=True)
        await inbox.settle(await lease_one(inbox), DEAD)
        await inbox.record(session_event("s", "submitted"), deliver=True)
        assert 1 == (await inbox.statistics()).dead
        await inbox.record(decision_event("s", "approved"))
        await inbox.record(watchlist_event("s"))

        assert 0 == (await inbox.statistics()).dead
        assert ["submitted"] == [each.action for each in await inbox.get_events("s") if isinstance(each, SessionEvent)]
        assert "submitted" == (await lease_one(inbox)).event.raw["action"]


async def test_sessions_of_earlier_versions_without_id_or_state_are_counted(inbox: RedisInbox, admin: Redis) -> None:
    """Events without a session have no person, and more old sessions than one part has are all found."""
    for number in range(101):
        await store_as_before(admin, event_of(f"s{number}", vendorData="ada"))
    await admin.hdel("{veriff}:session:s7", "state")
    await inbox.record(watchlist_event(None))
    await admin.hdel("{veriff}:none", "search")
    await admin.delete("{veriff}:counts")

    found = await inbox.find_sessions(SessionSearch(vendor_data="ada"), limit=200)
    assert 101 == len(found.sessions)
    assert 102 == (await inbox.statistics()).sessions


async def test_latest_deliveries_are_found_without_the_older_ones(inbox: RedisInbox, admin: Redis) -> None:
    """A short list of deliveries ends with the sessions that can have one of the latest events."""
    for number in range(101):
        await store_as_before(admin, session_event(f"s{number}", "started"))
    await inbox.record(session_event("new", "started"), deliver=True)

    (record,) = await inbox.get_deliveries(limit=1)
    assert "new" == record.session_id


async def test_large_indexes_are_not_read(inbox: RedisInbox, admin: Redis) -> None:
    """If a person or a queue has very many sessions, all sessions are walked through, with the same result."""
    await inbox.record(event_of("s", vendorData="ada"), deliver=True)
    await admin.zadd("{veriff}:open", {f"session:x{number}": number for number in range(10_001)})

    for search in (SessionSearch(delivery=DeliveryStatus.QUEUED), SessionSearch(vendor_data="ada")):
        assert ["s"] == [each.session_id for each in (await inbox.find_sessions(search)).sessions]
    assert ["s"] == [each.session_id for each in await inbox.get_deliveries(status=DeliveryStatus.QUEUED)]


async def test_used_memory_is_unknown_to_a_limited_user(
    inbox: RedisInbox, redis_server: RedisServer, admin: Redis
) -> None:
    """A user of the server who may not ask for its memory gets all other figures."""
    await inbox.record(session_event("s", "started"))
    await admin.acl_setuser(
        "limited", enabled=True, nopass=True, keys=["*"], channels=["*"], categories=["+@all"], commands=["-info"]
    )
    try:
        async with RedisInbox(redis_server.url.replace("redis://", "redis://limited:any@")) as limited:
            found = await limited.statistics()
        assert (1, None) == (found.sessions, found.bytes)
        assert (await inbox.statistics()).bytes
    finally:
        await admin.acl_deluser("limited")


@pytest.mark.parametrize("ring", [None, KeyRing([KeyRing.generate_key()])])
@pytest.mark.parametrize("damage", ["missing", "changed", "without its newlines"])
async def test_damaged_event_keeps_no_other_waiting(
    redis_server: RedisServer, admin: Redis, ring: KeyRing | None, damage: str
) -> None:
    """An event that another program has damaged leaves the queue, and the others are leased."""
    async with RedisInbox(redis_server.url, encryption=ring) as inbox:
        for session_id in ("damaged", "good"):
            await inbox.record(session_event(session_id, "started"), deliver=True)
        key = "{veriff}:session:damaged"
        text = cast("str", await admin.hget(key, "event:0"))
        if damage == "missing":
            await admin.hdel(key, "event:0")
        else:
            changed = text[:-9] + "AAAAAAAA=" if damage == "changed" else text.replace("\n", " ")
            await admin.hset(key, "event:0", changed)

        assert ["good"] == [delivery.event.session_id for delivery in await inbox.lease(10, seconds=60)]
        later = await inbox.statistics()
        assert (0, 1) == (later.queued, later.leased)


async def test_settlement_on_damaged_data_can_be_repeated(inbox: RedisInbox, admin: Redis) -> None:
    """Outcomes that the server refuses are errors, and the same outcome is stored when the data is repaired."""
    await inbox.record(session_event("s", "started"), deliver=True)
    delivery = await lease_one(inbox)
    await admin.rename("{veriff}:session:s", "kept")
    await admin.set("{veriff}:session:s", "theirs")
    for outcome in (DeliveryOutcome(status=DeliveryStatus.LEASED, handled_by=frozenset({"first"})), HANDLED):
        with pytest.raises(InboxError):
            await inbox.settle(delivery, outcome)
    await admin.rename("kept", "{veriff}:session:s")
    assert await inbox.settle(delivery, HANDLED)


async def test_erasure_reads_a_long_stream_of_changes(inbox: RedisInbox, admin: Redis) -> None:
    """The id of an erased session leaves the stream of changes, wherever it is in it."""
    await inbox.record(session_event("s", "started"))
    async with admin.pipeline() as pipe:
        for number in range(1_100):
            pipe.xadd("{veriff}:changes", {"session": f"x{number}"})
        pipe.xadd("{veriff}:changes", {"session": "s"})
        await pipe.execute()

    await inbox.erase(["s"])
    left = repr(await admin.xrange("{veriff}:changes"))
    assert "'x1099'" in left
    assert "'s'" not in left


@pytest.mark.parametrize("damage", ["theirs", "q\tx\t1\t1\t0\t\t\t\t", "l\t1\t1\tnever\t0\t\t\t\t", None])
async def test_damaged_delivery_becomes_dead(inbox: RedisInbox, admin: Redis, damage: str | None) -> None:
    """A delivery that another program has damaged or deleted holds up neither its session nor others."""
    for session_id, action in (("s", "started"), ("s", "submitted"), ("t", "started")):
        await inbox.record(session_event(session_id, action), deliver=True)
    if damage is None:
        await admin.hdel("{veriff}:session:s", "delivery:0")
    else:
        await admin.hset("{veriff}:session:s", "delivery:0", damage)

    assert {"s", "t"} == {delivery.event.session_id for delivery in await inbox.lease(10, seconds=60)}
    (dead,) = await inbox.get_deliveries(status=DeliveryStatus.DEAD)
    assert 1 == (await inbox.statistics()).dead
    assert ("s", "The stored event cannot be read.") == (dead.session_id, dead.error)


async def test_session_replaced_by_another_program_keeps_no_other_waiting(inbox: RedisInbox, admin: Redis) -> None:
    """A key that is no session any more leaves the queue."""
    for session_id in ("s", "t"):
        await inbox.record(session_event(session_id, "started"), deliver=True)
    await admin.set("{veriff}:session:s", "theirs")

    assert "t" == (await lease_one(inbox)).event.session_id
    assert ["session:t"] == await admin.zrange("{veriff}:open", 0, -1)
