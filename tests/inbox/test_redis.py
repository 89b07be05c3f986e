"""The inbox on Redis and Valkey: one state for many processes, and no lost wake-up when the server fails."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from inspect import signature
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread
from redis.asyncio import Redis

from tests.conditions import needs_posix
from veriff_async._protocol.webhook import event_from
from veriff_async.errors import ConfigurationError, InboxError
from veriff_async.inbox import IgnoredReason, Inbox, RedisInbox, Retention
from veriff_async.testing.factories import decision_event, session_event, watchlist_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.servers import RedisServer

pytestmark = pytest.mark.anyio


def client_of(server: RedisServer, *, decode_responses: bool = True) -> Redis:
    """Return redis-py's own client, which newer versions let read their metadata from the disk for each connection."""
    options: dict[str, Any] = {"driver_info": None} if "driver_info" in signature(Redis).parameters else {}
    return Redis.from_url(server.url, decode_responses=decode_responses, **options)


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


@asynccontextmanager
async def following(inbox: Inbox) -> AsyncGenerator[AsyncGenerator[str | None]]:
    """Subscribe, and consume the first ``None``."""
    async with aclosing(inbox.subscribe()) as feed:
        assert await anext(feed) is None
        yield feed


async def wait_blocked(admin: Redis, count: int = 1) -> list[str]:
    """Wait until so many subscriptions block in the server, and return the ids of their connections."""
    while True:
        asleep = [client["id"] for client in await admin.client_list() if "b" in client["flags"]]
        if len(asleep) == count:
            return asleep


async def others(admin: Redis) -> int:
    """Count the connections that are not the administrator's."""
    mine = await admin.client_id()
    return sum(int(client["id"]) != mine for client in await admin.client_list())


async def test_redis_inbox_is_an_inbox(inbox: RedisInbox) -> None:
    """It implements the protocol, and its repr has the address."""
    assert isinstance(inbox, Inbox)
    assert repr(inbox).endswith("/0 {veriff}>")


async def test_inboxes_share_their_records(inbox: RedisInbox, redis_server: RedisServer) -> None:
    """Every inbox on the same server sees states and events, and wakes for them."""
    async with RedisInbox(redis_server.url) as other, following(other) as feed:
        first, last = session_event("s", "started"), decision_event("s", "approved")
        await inbox.record(first)
        recorded = await inbox.record(last)

        assert ["s", "s"] == [await anext(feed), await anext(feed)]
        assert {"s": recorded.state} == await other.get_states(["s", "unknown"])
        assert [first, last] == list(await other.get_events("s"))
        assert [first.dedup_key, last.dedup_key] == [event.dedup_key for event in await other.get_events("s")]
        assert () == await other.get_events("unknown")


CHILD = """
import asyncio, sys
from veriff_async.inbox import RedisInbox
from veriff_async.testing.factories import decision_event

async def main():
    async with RedisInbox(sys.argv[1]) as inbox:
        feed = inbox.subscribe()
        async for session_id in feed:
            print(session_id, flush=True)
            if session_id is not None:
                await inbox.record(decision_event("from-the-child", "approved"))
                await feed.aclose()

asyncio.run(main())
"""


async def test_processes_wake_each_other(inbox: RedisInbox, redis_server: RedisServer) -> None:
    """A subscription in one process gets the records of another one, in both directions."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", CHILD, redis_server.url, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert b"None\n" == await child.stdout.readline()
    async with following(inbox) as feed:
        await inbox.record(session_event("from-the-parent", "started"))

        assert ["from-the-parent", "from-the-child"] == [await anext(feed), await anext(feed)]
    assert b"from-the-parent\n" == await child.stdout.readline()
    assert 0 == await child.wait()


async def test_simultaneous_deliveries_count_once(redis_server: RedisServer) -> None:
    """The same event from several inboxes at the same time is stored once, and changes the state once."""
    async with AsyncExitStack() as stack:
        inboxes = [await stack.enter_async_context(RedisInbox(redis_server.url)) for _ in range(4)]
        async with following(inboxes[0]) as feed:
            found = await asyncio.gather(*(inbox.record(decision_event("s", "approved")) for inbox in inboxes * 5))

            assert [None] + [IgnoredReason.DUPLICATE] * 19 == sorted((each.ignored for each in found), key=str)
            assert 1 == len(await inboxes[0].get_events("s"))
            await inboxes[1].record(session_event("end", "started"))
            assert ["s", "end"] == [await anext(feed), await anext(feed)]


async def test_race_does_not_revert_a_state(redis_server: RedisServer) -> None:
    """In any order of writes, the session ends with its last decision."""
    events = [session_event("s", "started"), session_event("s", "submitted"), decision_event("s", "review", minute=1)]
    events += [
        decision_event("s", "approved", minute=2),
        watchlist_event("s"),
        session_event("s", "started", attempt_id="first"),
    ]
    async with RedisInbox(redis_server.url) as one, RedisInbox(redis_server.url) as two:
        for _ in range(5):
            await asyncio.gather(*(inbox.record(event) for event in events for inbox in (one, two)))

        assert "approved" == (await one.get_states(["s"]))["s"].status
        assert 5 == len(await one.get_events("s"))


async def test_old_sessions_are_deleted(redis_server: RedisServer, admin: Redis) -> None:
    """A session is hidden and deleted when its last event is older than the retention."""
    now = [1000.0]
    async with RedisInbox(redis_server.url, retention=Retention(max_age=60), now=lambda: now[0]) as inbox:
        await inbox.record(decision_event("old", "approved"))
        await inbox.record(session_event("young", "started"))
        now[0] += 59
        assert (await inbox.record(session_event("young", "started"))).is_duplicate
        now[0] += 2
        assert {"young"} == set(await inbox.get_states(["old", "young"]))
        assert () == await inbox.get_events("old")
        assert await admin.exists("{veriff}:session:old")
        await inbox.record(watchlist_event(None))
        assert not await admin.exists("{veriff}:session:old")
        assert ["session:young", "none"] == await admin.zrange("{veriff}:touched", 0, -1)
        now[0] += 58
        again = await inbox.record(session_event("young", "started"))

        assert (None, 1) == (again.ignored, len(await inbox.get_events("young")))


async def test_number_of_sessions_is_limited(redis_server: RedisServer, admin: Redis) -> None:
    """The sessions with the oldest last events are deleted first, as a whole."""
    time = count(1000)
    async with RedisInbox(redis_server.url, retention=Retention(max_sessions=3), now=lambda: next(time)) as inbox:
        for name in "cbadc":
            await inbox.record(session_event(name, "started"))

        assert ["session:a", "session:d", "session:c"] == await admin.zrange("{veriff}:touched", 0, -1)
        assert set("acd") == set(await inbox.get_states(list("abcd")))
        assert 3 == len(await admin.keys("{veriff}:session:*"))


async def test_surplus_sessions_are_deleted_concurrently(redis_server: RedisServer, admin: Redis) -> None:
    """With a smaller limit, records delete the surplus, and no new session."""
    async with RedisInbox(redis_server.url) as inbox:
        await asyncio.gather(*(inbox.record(session_event(f"s{number}", "started")) for number in range(40)))
    async with RedisInbox(redis_server.url, retention=Retention(max_sessions=5)) as inbox:
        await asyncio.gather(*(inbox.record(session_event(f"new{number}", "started")) for number in range(5)))
        await inbox.record(session_event("new0", "started"))

        assert {f"session:new{number}" for number in range(5)} == set(await admin.zrange("{veriff}:touched", 0, -1))


async def test_number_of_events_is_limited(redis_server: RedisServer, admin: Redis) -> None:
    """The oldest events of a session are deleted first, with their keys; its state stays, also with a lower limit."""
    events = [event_from({"sessionId": "s", "eventType": "new\nkind", "number": number}) for number in range(8)]
    async with RedisInbox(redis_server.url, retention=Retention(max_events_per_session=6)) as inbox:
        await inbox.record(decision_event("s", "approved"))
        for event in events[:7]:
            await inbox.record(event)
        assert 6 == len(await inbox.get_events("s"))
    async with RedisInbox(redis_server.url, retention=Retention(max_events_per_session=3)) as inbox:
        await inbox.record(events[7])

        assert events[-3:] == list(await inbox.get_events("s"))
        assert "approved" == (await inbox.get_states(["s"]))["s"].status
        assert 5 + 2 * 3 == await admin.hlen("{veriff}:session:s")
        assert (await inbox.record(events[7])).is_duplicate


async def test_every_key_expires(inbox: RedisInbox, admin: Redis) -> None:
    """All keys share one hash tag, and Redis itself deletes each of them in the end."""
    await inbox.record(decision_event("s", "approved"))
    await inbox.record(watchlist_event(None))
    keys: list[str] = list(map(str, await admin.keys("*")))

    names = {"changes", "counts", "indexed", "none", "search", "session:s", "touched"}
    assert names == {key.removeprefix("{veriff}:") for key in keys}
    for key in keys:
        assert 30 * 86_400_000 < await admin.pttl(key) <= 30 * 86_400_000 + 60_000


@needs_posix
async def test_stalled_server_is_reported(redis_server: RedisServer) -> None:
    """A stalled server causes an error within the timeout, and is used again when it continues."""
    async with RedisInbox(redis_server.url, timeout=1) as inbox:
        await inbox.record(session_event("s", "started"))
        redis_server.freeze()
        calls = (inbox.record(session_event("s", "submitted")), inbox.get_states(["s"]), inbox.get_events("s"))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        redis_server.thaw()
        for error in errors:
            assert isinstance(error, InboxError)
            assert "did not answer in time" in str(error)

        assert "started" == (await inbox.get_states(["s"]))["s"].status


@needs_posix
async def test_stall_during_a_record_is_reported(redis_server: RedisServer, admin: Redis) -> None:
    """A server that stalls between the parts of a record causes errors too, and uses up no connection."""
    async with RedisInbox(redis_server.url, timeout=1) as inbox:
        await admin.client_pause(60_000, all=False)  # writing alone
        records = [asyncio.ensure_future(inbox.record(session_event(f"s{number}", "started"))) for number in range(20)]
        await wait_blocked(admin, 16)
        redis_server.freeze()
        found = await asyncio.gather(*records, return_exceptions=True)
        redis_server.thaw()
        await admin.client_unpause()

        assert ["did not answer in time" in str(each) for each in found] == [True] * 20
        await asyncio.gather(*(inbox.record(session_event(f"t{number}", "started")) for number in range(20)))


async def test_subscription_survives_a_restart(redis_server: RedisServer, admin: Redis) -> None:
    """While the server is away records fail; the subscription recovers by itself and yields ``None``."""
    async with RedisInbox(redis_server.url) as inbox, following(inbox) as feed:
        next_one = asyncio.ensure_future(anext(feed))
        await wait_blocked(admin)
        await to_thread.run_sync(redis_server.kill)
        with pytest.raises(InboxError, match="cannot be reached"):
            await inbox.record(session_event("s", "started"))
        await to_thread.run_sync(redis_server.start)
        await inbox.record(session_event("s", "started"))

        assert await next_one is None
        assert {"s"} == set(await inbox.get_states(["s"]))
        await inbox.record(session_event("s", "submitted"))
        assert "s" == await anext(feed)


async def test_subscription_fails_when_the_server_stays_away(redis_server: RedisServer, admin: Redis) -> None:
    """After some tries a subscription fails, and no new one can start."""
    async with RedisInbox(redis_server.url) as inbox, aclosing(inbox.subscribe()) as feed:
        assert await anext(feed) is None
        await to_thread.run_sync(redis_server.kill)
        with pytest.raises(InboxError, match="cannot be reached"):
            await anext(feed)
        with pytest.raises(InboxError, match="cannot be reached"):
            await anext(inbox.subscribe())


async def test_idle_connection_is_reopened(inbox: RedisInbox, admin: Redis) -> None:
    """Connections that were closed while idle are reopened without an error, and nothing is missed."""
    async with following(inbox) as feed:
        await inbox.record(session_event("s", "started"))
        assert "s" == await anext(feed)
        await admin.client_kill_filter(_type="normal", skipme=True)
        await inbox.record(session_event("s", "submitted"))

        assert "s" == await anext(feed)
        assert "submitted" == (await inbox.get_states(["s"]))["s"].status


@pytest.mark.parametrize("command", ["FLUSHALL", "XTRIM {veriff}:changes MAXLEN 0", "DEL {veriff}:changes"])
async def test_trimmed_stream_is_noticed(inbox: RedisInbox, admin: Redis, command: str) -> None:
    """A subscriber whose position was trimmed gets ``None``, whether or not a change follows."""
    async with following(inbox) as feed:
        await inbox.record(session_event("s", "started"))
        assert "s" == await anext(feed)
        next_one = asyncio.ensure_future(anext(feed))
        await wait_blocked(admin)
        await admin.execute_command(*command.split())  # type: ignore[no-untyped-call]
        await inbox.record(session_event("other", "started"))
        assert await next_one is None
        assert {"other"} == set(await inbox.get_states(["other"]))
        next_one = asyncio.ensure_future(anext(feed))
        (asleep,) = await wait_blocked(admin)
        await admin.execute_command(*command.split())  # type: ignore[no-untyped-call]
        await admin.client_unblock(int(asleep))  # as if its time were over

        assert await next_one is None


async def test_new_stream_is_noticed(inbox: RedisInbox, admin: Redis) -> None:
    """After a failover the stream may restart with lower numbers: nothing is missed."""
    async with following(inbox) as feed:
        next_one = asyncio.ensure_future(anext(feed))
        (asleep,) = await wait_blocked(admin)
        await admin.delete("{veriff}:changes")
        await admin.xadd("{veriff}:changes", {"session": "s"}, id="1-1")
        await admin.client_unblock(int(asleep))

        assert await next_one is None
        next_one = asyncio.ensure_future(anext(feed))
        await wait_blocked(admin)
        await admin.xadd("{veriff}:changes", {"session": "t"}, id="1-2")
        assert "t" == await next_one


async def test_idle_subscription_yields_nothing(inbox: RedisInbox, admin: Redis) -> None:
    """Without changes, the subscription asks the server again and yields nothing."""
    async with following(inbox) as feed:
        next_one = asyncio.ensure_future(anext(feed))
        for _ in range(3):
            (asleep,) = await wait_blocked(admin)
            await admin.client_unblock(int(asleep))
        await wait_blocked(admin)
        assert not next_one.done()
        await inbox.record(session_event("s", "started"))

        assert "s" == await next_one


async def test_cancelled_subscription_leaves_no_connection(inbox: RedisInbox, admin: Redis) -> None:
    """Neither a cancelled nor a closed subscription keeps a connection."""
    before = await others(admin)
    async with following(inbox) as feed:
        sleeper = asyncio.ensure_future(anext(feed))
        await wait_blocked(admin)
        sleeper.cancel()
        await asyncio.wait([sleeper])
    async with following(inbox):
        pass
    while await others(admin) > before:
        pass


async def test_closing_ends_subscriptions(redis_server: RedisServer, admin: Redis) -> None:
    """A closed inbox has no connection, its subscriptions fail, and calls say that it is closed."""
    inbox = RedisInbox(redis_server.url)
    feed = inbox.subscribe()
    assert await anext(feed) is None
    await inbox.record(session_event("s", "started"))
    assert "s" == await anext(feed)
    next_one = asyncio.ensure_future(anext(feed))
    await wait_blocked(admin)
    await inbox.aclose()
    await inbox.aclose()

    with pytest.raises(InboxError, match="was closed while"):
        await next_one
    for asked in (
        inbox.record(session_event("s", "started")),
        inbox.get_states(["s"]),
        inbox.get_events("s"),
        anext(inbox.subscribe()),
    ):
        with pytest.raises(InboxError, match="inbox is closed"):
            await asked
    while await others(admin):
        pass
    assert repr(inbox).endswith("closed>")


async def test_closing_ends_records(redis_server: RedisServer, admin: Redis) -> None:
    """Records that run during the close succeed or fail, and leave no connection."""
    inbox = RedisInbox(redis_server.url)
    records = [asyncio.ensure_future(inbox.record(session_event(f"s{number}", "started"))) for number in range(40)]
    await asyncio.wait(records, return_when=asyncio.FIRST_COMPLETED)
    await inbox.aclose()
    found = await asyncio.gather(*records, return_exceptions=True)

    assert {InboxError} >= {type(each) for each in found if isinstance(each, BaseException)}
    while await others(admin):
        pass


async def test_cancelled_record_leaves_its_connection_clean(inbox: RedisInbox) -> None:
    """A record that is cancelled at any step does not disturb later ones."""
    for turns in range(30):
        record = asyncio.ensure_future(inbox.record(session_event(f"s{turns}", "started")))
        for _ in range(turns):
            await asyncio.sleep(0)
        record.cancel()
        await asyncio.wait([record])
        assert not (await inbox.record(session_event(f"t{turns}", "started"))).is_duplicate

    assert 30 == len(await inbox.get_states([f"t{turns}" for turns in range(30)]))


def test_one_loop_at_a_time(redis_server: RedisServer) -> None:
    """While one loop uses an inbox no other may; after its end another one may."""
    inbox = RedisInbox(redis_server.url)

    async def first() -> None:
        await inbox.record(session_event("s", "started"))
        for asked in (inbox.record(session_event("s", "submitted")), inbox.get_states(["s"]), anext(inbox.subscribe())):
            with pytest.raises(ConfigurationError, match="make one for each"):
                await to_thread.run_sync(asyncio.run, asked)
        assert "started" == (await inbox.get_states(["s"]))["s"].status
        await to_thread.run_sync(redis_server.kill)
        with pytest.raises(InboxError, match="cannot be reached"):  # and nothing is left open
            await inbox.get_states(["s"])

    async def second() -> None:
        await inbox.record(session_event("t", "started"))
        assert "started" == (await inbox.get_states(["t"]))["t"].status
        await inbox.aclose()

    asyncio.run(first())
    redis_server.start()
    asyncio.run(second())


async def test_unclosed_inbox_warns(redis_server: RedisServer, admin: Redis) -> None:
    """An unclosed inbox causes a warning of redis-py, and its connections are closed."""
    dropped = [RedisInbox(redis_server.url)]
    await dropped[0].record(session_event("s", "started"))

    def drop() -> None:
        dropped.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed Connection"):
        drop()
    while await others(admin):
        pass


async def test_errors_show_no_secrets(redis_server: RedisServer, admin: Redis) -> None:
    """Neither the repr nor an error shows the password, and a wrong one is reported."""
    await admin.config_set("requirepass", "sesame-right")
    place = redis_server.url.removeprefix("redis://")
    try:
        async with RedisInbox(f"redis://:sesame-right@{place}?password=sesame-other") as inbox:
            await inbox.record(session_event("s", "started"))
            assert "sesame" not in repr(inbox)
        async with RedisInbox(f"redis://ada:sesame-wrong@{place}") as inbox:
            with pytest.raises(InboxError, match="refuses the login") as caught:
                await inbox.record(session_event("s", "started"))
            assert "sesame" not in repr(inbox) + str(caught.value)
            assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    finally:
        await admin.config_set("requirepass", "")


@pytest.mark.parametrize(
    "url", ["", "http://localhost", "redis://localhost:port", "redis://localhost?unknown=1", "redis://h?db=x"]
)
def test_invalid_url_is_refused(url: str) -> None:
    """A url is checked when it is given, and never shown."""
    with pytest.raises(ConfigurationError, match="url of RedisInbox cannot be read") as caught:
        RedisInbox(url)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("options", [{"timeout": 0.0}, {"timeout": float("nan")}, {"prefix": ""}])
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    """Options are checked when they are given."""
    with pytest.raises(ConfigurationError, match=r"(timeout is|prefix is empty)"):
        RedisInbox("redis://localhost", **options)  # type: ignore[arg-type]


async def test_url_options_do_not_change_results(redis_server: RedisServer) -> None:
    """Options of a url that would change how the inbox decodes data have no effect, others are kept."""
    more = "?decode_responses=true&protocol=3&socket_timeout=0.001&max_connections=1&timeout=1&client_name=mine"
    async with RedisInbox(redis_server.url + more, prefix="other") as inbox, following(inbox) as feed:
        await inbox.record(session_event("s", "started"))

        assert "s" == await anext(feed)
        assert 1 == len(await inbox.get_events("s"))


def test_missing_package_is_named() -> None:
    """Without redis-py, one sentence says what to install."""
    code = "import sys; sys.modules['redis.asyncio'] = None; from veriff_async.inbox import RedisInbox"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603  our own

    assert 'pip install "veriff-async[redis]"' in done.stderr


async def test_client_defines_the_connection(redis_server: RedisServer, admin: Redis) -> None:
    """A redis-py client's settings are used, except those that would change results; it is unchanged."""
    options: dict[str, Any] = {"decode_responses": True, "protocol": 3, "client_name": "mine", "db": 1}
    async with Redis.from_url(redis_server.url.removesuffix("/0"), **options) as mine:
        async with RedisInbox(mine) as inbox, following(inbox) as feed:
            await inbox.record(session_event("s", "started"))
            assert "s" == await anext(feed)
            assert 1 == len(await inbox.get_events("s"))
            assert ["1", "1"] == [client["db"] for client in await admin.client_list() if client["name"] == "mine"]
        assert mine.connection_pool.connection_kwargs["decode_responses"]
    assert not await admin.keys("*")


async def test_unreadable_data_is_reported(inbox: RedisInbox, admin: Redis) -> None:
    """Foreign data under the names of the inbox is an error, not a crash."""
    await admin.set("{veriff}:session:s", "theirs")
    with pytest.raises(InboxError, match="refuses a command"):
        await inbox.record(session_event("s", "started"))
    await inbox.record(session_event("t", "started"))
    await admin.hset("{veriff}:session:t", "state", "theirs")
    for asked in (inbox.record(session_event("t", "submitted")), inbox.get_states(["t"])):
        with pytest.raises(InboxError, match="look for a newer"):
            await asked


async def test_read_only_server_is_reported(inbox: RedisInbox, admin: Redis, redis_replica: RedisServer) -> None:
    """A record on a replica or on a full server fails with a remedy."""
    async with RedisInbox(redis_replica.url) as replica:
        with pytest.raises(InboxError, match="it is a replica"):
            await replica.record(session_event("s", "started"))
    await admin.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(InboxError, match="memory is full"):
            await inbox.record(session_event("s", "started"))
    finally:
        await admin.config_set("maxmemory", "0")
    assert {} == await inbox.get_states(["s"])


async def test_records_of_one_session_do_not_repeat_each_other(inbox: RedisInbox, admin: Redis) -> None:
    """A burst of webhooks of one session costs one transaction each: those of one process do not compete."""
    await admin.config_resetstat()

    await asyncio.gather(*(inbox.record(decision_event("s", "approved")) for _ in range(40)))

    stats = await admin.info("commandstats")
    assert stats["cmdstat_exec"]["calls"] == 40
