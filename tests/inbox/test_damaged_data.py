"""Sessions and events that another program has damaged hide no others, and no result looks complete without them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import aclosing, asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Final

import pytest

from tests.inbox.test_redis import client_of
from veriff_async import InboxError
from veriff_async.encryption import KeyRing
from veriff_async.inbox import (
    DeliveryOutcome,
    DeliveryStatus,
    PostgresInbox,
    RedisInbox,
    SearchableInbox,
    SessionSearch,
    SqliteInbox,
    export_events,
    iter_sessions,
    requeue_events,
)
from veriff_async.models.enums import Status
from veriff_async.testing import session_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from tests.postgres_server import PostgresDatabase
    from tests.servers import RedisServer
    from veriff_async.inbox import DeliveryRecord

    Damage = Callable[[str], Awaitable[None]]

pytestmark = pytest.mark.anyio

DEAD: Final = DeliveryOutcome(status=DeliveryStatus.DEAD, error="ValueError at handlers.py:7")
STARTED: Final = SessionSearch(status=Status.STARTED)
SESSIONS: Final = ("first", "damaged", "last")
"""Sessions with one dead event each."""

Opened = tuple[SqliteInbox | RedisInbox | PostgresInbox, "Damage"]


async def fill(inbox: SqliteInbox | RedisInbox | PostgresInbox) -> None:
    """Record events whose handlers have failed."""
    for session_id in SESSIONS:
        await inbox.record(session_event(session_id, "started"), deliver=True)
        (delivery,) = await inbox.lease(1, seconds=60)
        await inbox.settle(delivery, DEAD)


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncGenerator[Opened]:
    """Yield an inbox in a file, and a function that damages the body of an event or a state."""

    async def damage(part: str) -> None:
        statement = {
            "event": "UPDATE event SET body = 'theirs' WHERE session = x'64616d61676564'",
            "state": "UPDATE session SET state = 'theirs' WHERE id = x'64616d61676564'",
        }.get(part, part)

        def execute() -> None:
            with closing(sqlite3.connect(path)) as db, db:
                db.execute(statement)

        await asyncio.to_thread(execute)

    async with SqliteInbox(path) as inbox:
        yield inbox, damage


@asynccontextmanager
async def open_redis(server: RedisServer) -> AsyncGenerator[Opened]:
    """Yield the same on Redis."""

    async def damage(part: str) -> None:
        key = "{veriff}:session:damaged"
        async with client_of(server) as admin:
            if part == "event":
                head = str(await admin.hget(key, "event:0")).rpartition("\n")[0]
                await admin.hset(key, "event:0", f"{head}\ntheirs")
            elif part == "state":
                await admin.hset(key, "state", "theirs")
            else:
                name, _, text = part.partition("=")
                await (admin.hset(key, name, text) if text else admin.hdel(key, name))

    async with RedisInbox(server.url) as inbox:
        yield inbox, damage


@asynccontextmanager
async def open_postgres(database: PostgresDatabase) -> AsyncGenerator[Opened]:
    """Yield the same on PostgreSQL."""

    async def damage(part: str) -> None:
        which = "(SELECT number FROM veriff_inbox_session WHERE id = 'damaged')"
        statement = {
            "event": f"UPDATE veriff_inbox_event SET body = 'theirs' WHERE session = {which}",  # noqa: S608  fixed texts
            "state": f"UPDATE veriff_inbox_session SET state = 'theirs' WHERE number = {which}",  # noqa: S608  fixed texts
        }.get(part, part)
        await asyncio.to_thread(database.execute, statement)

    async with PostgresInbox(database.url) as inbox:
        yield inbox, damage


async def check_all_are_listed(inbox: SqliteInbox | RedisInbox | PostgresInbox) -> DeliveryRecord:
    """Check that all sessions and their events are found and counted, and return the record of the damaged one."""
    assert set(SESSIONS) == {each.session_id async for each in iter_sessions(inbox)}
    found = await inbox.find_sessions(SessionSearch(delivery=DeliveryStatus.DEAD))
    assert [1, 1, 1] == [each.dead for each in found.sessions]
    for records in (await inbox.get_deliveries(), await inbox.get_deliveries(status=DeliveryStatus.DEAD)):
        assert ["last", "damaged", "first"] == [record.session_id for record in records]
        assert {DeliveryStatus.DEAD} == {record.status for record in records}
    statistics = await inbox.statistics()
    assert (3, 3, 3, 0) == (statistics.sessions, statistics.events, statistics.dead, statistics.queued)
    (record,) = await inbox.get_deliveries(session_id="damaged")
    assert session_event("damaged", "started").dedup_key == record.dedup_key
    return record


async def check_damaged_event(opened: Opened) -> None:
    """Check reading, exporting and queueing events of which one cannot be read."""
    inbox, damage = opened
    await fill(inbox)
    await damage("event")
    await damage("state")

    record = await check_all_are_listed(inbox)
    assert (session_event("damaged", "started").kind, DEAD.error) == (record.kind, record.error)
    assert set(SESSIONS) == {each.session_id async for each in iter_sessions(inbox, STARTED)}
    with pytest.raises(InboxError, match="cannot be read"):
        await inbox.get_events("damaged")
    async with aclosing(export_events(inbox)) as lines:
        assert ["last", "first"] == [json.loads(await anext(lines))["session_id"] for _ in range(2)]
        with pytest.raises(InboxError, match="1 of the sessions could not be read"):
            await anext(lines)
    with pytest.raises(InboxError, match="cannot be read"):
        assert [] == [line async for line in export_events(inbox, SessionSearch(session_id="damaged"))]
    with pytest.raises(InboxError, match="left out"):
        await requeue_events(inbox)
    queued = await inbox.get_deliveries(status=DeliveryStatus.QUEUED)
    assert ["last", "first"] == [each.session_id for each in queued]
    assert {"first", "last"} == {delivery.event.session_id for delivery in await inbox.lease(9, seconds=60)}


async def test_damaged_event_in_sqlite_hides_no_other(tmp_path: Path) -> None:
    """Sessions and deliveries are listed; an export has all other events, and ends with an error."""
    async with open_sqlite(tmp_path / "inbox.db") as opened:
        await check_damaged_event(opened)


async def test_damaged_event_in_redis_hides_no_other(redis_server: RedisServer) -> None:
    """The same on Redis and Valkey."""
    async with open_redis(redis_server) as opened:
        await check_damaged_event(opened)


async def test_damaged_event_in_postgresql_hides_no_other(postgres: PostgresDatabase) -> None:
    """The same on PostgreSQL."""
    async with open_postgres(postgres) as opened:
        await check_damaged_event(opened)


# Values that SQLite stores in columns of numbers, texts and bytes, and that the inbox has not written.
THEIRS: Final = ("'theirs'", "x'ff'", "CAST(x'ff' AS TEXT)", "-1", "1e308", "9e999")

DAMAGED_ID: Final = "x'64616d61676564'"


@pytest.mark.parametrize("value", THEIRS)
async def test_damaged_columns_in_sqlite_hide_no_other(tmp_path: Path, value: str) -> None:
    """With any value in any column of a session, an event or a delivery, all others are listed, read and leased."""
    columns = {
        "session": ("id", "touched", "changed", "events", "status", "state", "keys"),
        "event": ("session", "key", "kind", "body", "recorded", "ignored"),
        "delivery": ("session", "due", "earliest", "attempts", "lease", "handled_by", "error"),
    }
    async with open_sqlite(tmp_path / "inbox.db") as (inbox, damage):
        await fill(inbox)
        for table, names in columns.items():
            for name in reversed(names):  # the id last, by which the row is found
                which = "id" if table == "session" else "session"
                await damage(f"UPDATE OR IGNORE {table} SET {name} = {value} WHERE {which} = {DAMAGED_ID}")  # noqa: S608
        await damage(f"UPDATE clock SET trusted = {value if value.startswith(('x', 'C')) else 0}")  # noqa: S608

        others = {"first", "last"}
        for search in (SessionSearch(), SessionSearch(delivery=DeliveryStatus.DEAD)):
            assert others <= {each.session_id async for each in iter_sessions(inbox, search)}
        for limit in (1, 2):  # also if a page ends at the damaged one
            assert others <= set(await find_ids_in_pages(inbox, limit))
        for status in (None, DeliveryStatus.DEAD):
            assert others <= {record.session_id for record in await inbox.get_deliveries(status=status)}
        assert others == set(await inbox.get_states(sorted(others)))
        await inbox.statistics()
        with suppress(InboxError):
            await requeue_events(inbox)
        assert others <= {delivery.event.session_id for delivery in await inbox.lease(9, seconds=60)}


@pytest.mark.parametrize("value", THEIRS)
async def test_damaged_session_in_sqlite_records_and_queues(tmp_path: Path, value: str) -> None:
    """Numbers of a session that another program has damaged are counted again, so its next events are handled."""
    async with open_sqlite(tmp_path / "inbox.db") as (inbox, damage):
        await fill(inbox)
        columns = ", ".join(f"{name} = {value}" for name in ("events", "queued", "keys"))
        await damage(f"UPDATE session SET {columns}")  # noqa: S608  fixed texts
        if value != "-1":  # a session as old as this has expired
            await damage(f"UPDATE session SET touched = {value}")  # noqa: S608  fixed texts
            assert await inbox.requeue("damaged", session_event("damaged", "started").dedup_key)
            (delivery,) = await inbox.lease(9, seconds=60)
            assert await inbox.settle(delivery, DEAD)

        result = await inbox.record(session_event("damaged", "submitted"), deliver=True)

        assert result.state is not None
        assert Status.SUBMITTED == result.state.status
        assert ["damaged"] == [each.event.session_id for each in await inbox.lease(9, seconds=60)]
        (session,) = (await inbox.find_sessions(SessionSearch(session_id="damaged"))).sessions
        assert (2, 1, 1) == (session.events, session.queued, session.dead)


async def find_ids_in_pages(inbox: SearchableInbox, limit: int) -> list[str | None]:
    """Return the sessions that pages of some size have."""
    found: list[str | None] = []
    page = await inbox.find_sessions(SessionSearch(), limit=limit)
    found += [session.session_id for session in page.sessions]
    while page.next_page is not None:
        page = await inbox.find_sessions(SessionSearch(), limit=limit, page=page.next_page)
        found += [session.session_id for session in page.sessions]
    assert len(set(found)) == len(found)
    return found


async def test_error_of_a_damaged_event_keeps_no_snapshot(tmp_path: Path) -> None:
    """As long as a caller keeps the error, later reads see later records, and an erasure need not wait."""
    async with open_sqlite(tmp_path / "inbox.db") as (inbox, damage), SqliteInbox(tmp_path / "inbox.db") as other:
        await fill(inbox)
        await inbox.record(session_event("damaged", "submitted"))
        await damage("event")
        await damage("state")
        problems = [pytest.raises(InboxError, match="cannot be read") for _ in range(2)]
        with problems[0]:
            await inbox.get_events("damaged")
        with problems[1]:
            await inbox.get_states(["damaged", *SESSIONS])

        await other.record(session_event("first", "submitted"))

        assert Status.SUBMITTED == (await inbox.get_states(["first"]))["first"].status
        assert 1 == await other.erase(["last"])


@pytest.mark.parametrize(
    "part",
    [
        *("event:0=theirs", "event:0", "delivery:0=theirs", "delivery:0=d\tx\t1\t1\t0\t\t\t\t", "state=theirs"),
        *("touched=theirs", "touched", "first=theirs", "after=theirs", "after=1000000000000", "gone=theirs", "gone=9"),
    ],
)
async def test_damaged_field_in_redis_hides_no_session(redis_server: RedisServer, part: str) -> None:
    """With any field of a session damaged or deleted, what can be read of it is listed, and so are all others."""
    async with open_redis(redis_server) as (inbox, damage):
        await fill(inbox)
        await damage(part)

        record = await check_all_are_listed(inbox)

        is_hidden = part.startswith(("event", "delivery"))
        if part in {"event:0", "event:0=theirs"}:
            assert ("unknown", DEAD.error) == (record.kind, record.error)
        elif is_hidden:
            assert "The stored event cannot be read." == record.error
        else:
            assert DEAD.error == record.error


async def check_others_are_leased(opened: Opened, damage_to: str) -> None:
    """Check that others are leased and settled, before or after the damaged event, and that all pages are found."""
    inbox, damage = opened
    for session_id in SESSIONS:
        await inbox.record(session_event(session_id, "started"), deliver=True)
    await damage(damage_to)

    assert {"first", "last"} <= set(await find_ids_in_pages(inbox, 1))
    deliveries = await inbox.lease(9, seconds=60)
    assert {"first", "last"} <= {delivery.event.session_id for delivery in deliveries}
    for delivery in deliveries:
        assert await inbox.settle(delivery, DEAD)
    assert await inbox.requeue("last", session_event("last", "started").dedup_key)


@pytest.mark.parametrize(
    "part", ["touched=theirs", "touched=inf", "touched=nan", "open=theirs", "delivery:0=q\t0\tnan\t1\t0\t\t\t\t"]
)
async def test_events_are_leased_past_a_damaged_one_in_redis(redis_server: RedisServer, part: str) -> None:
    """A number that is none, or that no command takes, keeps no other event from its handlers."""
    async with open_redis(redis_server) as opened:
        await check_others_are_leased(opened, part)


async def test_events_are_leased_past_a_damaged_one_in_sqlite(tmp_path: Path) -> None:
    """The same in SQLite, with the largest number of attempts."""
    async with open_sqlite(tmp_path / "inbox.db") as opened:
        await check_others_are_leased(opened, "UPDATE delivery SET attempts = 9223372036854775807")


@pytest.mark.parametrize(
    "damage", ["delivery SET attempts = 2147483647", "session SET touched = 'NaN' WHERE id = 'damaged'"]
)
async def test_events_are_leased_past_a_damaged_one_in_postgresql(postgres: PostgresDatabase, damage: str) -> None:
    """The same in PostgreSQL, also with a time that is no number."""
    async with open_postgres(postgres) as opened:
        await check_others_are_leased(opened, f"UPDATE veriff_inbox_{damage}")


async def test_session_replaced_in_redis_hides_no_other(redis_server: RedisServer) -> None:
    """A key of a session that another program has replaced is a session that was deleted."""
    async with open_redis(redis_server) as (inbox, _), client_of(redis_server) as admin:
        await fill(inbox)
        await admin.set("{veriff}:session:damaged", "theirs")

        assert {"first", "last"} == {each.session_id async for each in iter_sessions(inbox)}
        assert ["last", "first"] == [record.session_id for record in await inbox.get_deliveries()]
        assert 2 == (await inbox.statistics()).dead


async def test_sessions_whose_state_is_encrypted_are_listed(redis_server: RedisServer) -> None:
    """A process without the keys lists sessions and deliveries, without their statuses."""
    async with RedisInbox(redis_server.url, encryption=KeyRing([KeyRing.generate_key()])) as inbox:
        await fill(inbox)
    async with RedisInbox(redis_server.url) as inbox:
        assert [(each, None) for each in reversed(SESSIONS)] == [
            (each.session_id, each.status) async for each in iter_sessions(inbox)
        ]
        assert 3 == len(await inbox.get_deliveries(status=DeliveryStatus.DEAD))


async def test_unreachable_inbox_ends_an_export(tmp_path: Path) -> None:
    """If no session can be read, an export fails after some of them instead of asking for all."""
    async with SqliteInbox(tmp_path / "inbox.db", encryption=KeyRing([KeyRing.generate_key()])) as inbox:
        for number in range(40):
            await inbox.record(session_event(f"s{number}", "started"))
    async with SqliteInbox(tmp_path / "inbox.db") as inbox:
        with pytest.raises(InboxError, match="cannot be decrypted"):
            assert [] == [line async for line in export_events(inbox)]


@pytest.mark.parametrize("part", ["touched=theirs", "first=theirs", "after=theirs", "event:0=theirs", "state=theirs"])
async def test_damaged_session_in_redis_is_erased_and_expires(redis_server: RedisServer, part: str) -> None:
    """Damage keeps neither its session nor others from being erased or deleted for their age."""
    now = [1_800_000_000.0]
    async with RedisInbox(redis_server.url, now=lambda: now[0]) as inbox, client_of(redis_server) as admin:
        name, _, text = part.partition("=")
        for session_id in ("damaged", "replaced", "other"):
            await inbox.record(session_event(session_id, "started"))
        for erased in (False, True):
            await inbox.record(session_event("damaged", "started" if not erased else "submitted"))
            await admin.hset("{veriff}:session:damaged", name, text)
            await admin.set("{veriff}:session:replaced", "theirs")
            if erased:
                assert 2 == await inbox.erase(["damaged", "fresh"])
            else:
                now[0] += 40 * 86_400
                await inbox.record(session_event("fresh", "started"))
                assert ["fresh"] == [each.session_id async for each in iter_sessions(inbox)]
                await admin.delete("{veriff}:session:replaced")
    async with client_of(redis_server) as admin:
        assert 0 == await admin.exists("{veriff}:session:damaged", "{veriff}:session:fresh")


async def test_damaged_session_of_an_earlier_version_keeps_no_other_from_being_found(redis_server: RedisServer) -> None:
    """A search for a person finds all others, although the keys of the damaged one are unknown."""
    async with open_redis(redis_server) as (inbox, damage), client_of(redis_server) as admin:
        await fill(inbox)
        await admin.delete("{veriff}:indexed")
        for part in ("search", "event:0=theirs", "state=theirs", "touched=theirs"):
            await damage(part)

        assert () == (await inbox.find_sessions(SessionSearch(vendor_data="user-42"))).sessions
        assert 3 <= (await inbox.statistics()).events


async def test_replaced_session_in_redis_ends_no_other_lease(redis_server: RedisServer) -> None:
    """A key that another program has replaced keeps no other lease from being extended."""
    async with RedisInbox(redis_server.url) as inbox, client_of(redis_server) as admin:
        for session_id in ("s", "t"):
            await inbox.record(session_event(session_id, "started"), deliver=True)
        deliveries = await inbox.lease(2, seconds=60)
        await admin.set("{veriff}:session:s", "theirs")

        assert {deliveries[1].lease} == await inbox.extend_leases(deliveries, seconds=60)
