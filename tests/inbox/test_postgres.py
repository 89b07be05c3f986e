"""Behaviour of the inbox on PostgreSQL alone: pools, poolers, transactions of handlers, order of commits."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from psycopg import AsyncConnection, IsolationLevel, OperationalError
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from tests.conditions import run_loop, until
from tests.inbox.postgres_proxy import proxy_to
from tests.loops import every_loop
from veriff_async import DecisionSource, InboxError, InvalidArgumentError, LeaseLostError
from veriff_async._protocol.webhook import dump_event, event_from
from veriff_async.inbox import (
    DeliveryOutcome,
    DeliveryStatus,
    IgnoredReason,
    PostgresInbox,
    Retention,
    SessionSearch,
    TransactionalInbox,
)
from veriff_async.inbox._postgres_records import RecordCall, RecordRequest, record_events
from veriff_async.testing import decision_event, session_event
from veriff_async.testing._harness import get_keys, get_state, subscribe, wait_for_change

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from tests.postgres_server import PostgresDatabase

pytestmark = pytest.mark.anyio

AGAIN = DeliveryOutcome(status=DeliveryStatus.QUEUED)
HANDLED = DeliveryOutcome(status=DeliveryStatus.HANDLED, handled_by=frozenset({"effect"}))


async def _configure(connection: AsyncConnection[Any]) -> None:
    await connection.set_isolation_level(IsolationLevel.SERIALIZABLE)


@pytest.mark.parametrize("autocommit", [False, True])
async def test_pool_with_other_settings(postgres: PostgresDatabase, *, autocommit: bool) -> None:
    """A pool keeps its settings and stays open; rows, isolation and autocommit of its connections may be any."""
    options = {"autocommit": autocommit, "row_factory": dict_row, "prepare_threshold": 0}
    async with AsyncConnectionPool(
        postgres.url, kwargs=options, min_size=1, max_size=2, open=False, configure=_configure
    ) as pool:
        async with PostgresInbox(pool) as inbox, subscribe(inbox) as changes:
            recorded = await inbox.record(decision_event("s", "approved"), deliver=True)
            await wait_for_change(changes, "s")
            assert recorded.state == await get_state(inbox)
            (delivery,) = await inbox.lease(9, seconds=60)
            async with inbox.handle_in_transaction(delivery, HANDLED) as connection:
                cursor = await connection.execute("SELECT 1 AS one")
                assert {"one": 1} == await cursor.fetchone()
            (record,) = await inbox.get_deliveries()
            assert DeliveryStatus.HANDLED == record.status
            assert "pool" in repr(inbox)
        async with pool.connection() as connection:
            assert (autocommit, dict_row) == (connection.autocommit, connection.row_factory)


async def _next_look(changes: AsyncGenerator[str | None], advance_time: Callable[[float], None]) -> str | None:
    """Return what the subscription finds when it looks without a notification."""
    look = asyncio.ensure_future(anext(changes))
    await run_loop()
    advance_time(1)
    return await look


@every_loop
async def test_every_loop(postgres: PostgresDatabase) -> None:
    """An event is recorded, reported and handled in each kind of event loop."""
    async with PostgresInbox(postgres.socket_url) as inbox, subscribe(inbox) as changes:
        await inbox.record(session_event("s", "started"), deliver=True)
        await wait_for_change(changes, "s")
        (delivery,) = await inbox.lease(1, seconds=60)
        assert await inbox.settle(delivery, HANDLED)


async def test_change_of_an_older_transaction_is_reported(
    postgres: PostgresDatabase, advance_time: Callable[[float], None]
) -> None:
    """A transaction that commits after one with a later number is not missed."""
    event = session_event("older", "started")
    request = RecordRequest(event, DecisionSource.WEBHOOK, deliver=False, call=RecordCall(dump_event(event)))
    async with PostgresInbox(postgres.url) as inbox, subscribe(inbox) as changes:
        async with await AsyncConnection.connect(postgres.url) as connection:
            await record_events(connection, inbox._tables, [request])
            await inbox.record(session_event("newer", "started"))
            assert "newer" == await anext(changes)
        assert "older" == await _next_look(changes, advance_time)


async def test_change_without_a_notification_is_reported(
    postgres: PostgresDatabase, advance_time: Callable[[float], None]
) -> None:
    """A process that dies between its commit and its notification leaves no change unreported."""
    event = session_event("s", "started")
    request = RecordRequest(event, DecisionSource.WEBHOOK, deliver=False, call=RecordCall(dump_event(event)))
    async with PostgresInbox(postgres.url) as inbox, subscribe(inbox) as changes:
        async with await AsyncConnection.connect(postgres.url) as connection:
            await record_events(connection, inbox._tables, [request])
        assert "s" == await _next_look(changes, advance_time)


async def test_many_changes_are_reported_as_one(
    postgres: PostgresDatabase, advance_time: Callable[[float], None]
) -> None:
    """A subscriber that is far behind reads all states again."""
    async with PostgresInbox(postgres.url) as inbox, aclosing(inbox.subscribe()) as changes:
        await anext(changes)
        async with await AsyncConnection.connect(postgres.url) as connection:
            await connection.execute(
                "INSERT INTO veriff_inbox_session (digest, id, changed, touched, events)"
                " SELECT int4send(number), int4send(number), pg_current_xact_id(), 0, 0"
                " FROM generate_series(1, 1500) AS number"
            )
        assert await _next_look(changes, advance_time) is None


async def test_polling_behind_a_pooler(postgres: PostgresDatabase, caplog: pytest.LogCaptureFixture) -> None:
    """Where notifications do not arrive, the inbox looks for changes, and one warning and its repr say so."""
    async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url, timeout=1) as inbox:
        proxy.drops_notifications = True
        async with subscribe(inbox) as changes:
            await inbox.record(session_event("s", "started"))
            assert "s" == await anext(changes)
            assert inbox.is_polling
            assert "polling" in repr(inbox)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "PgBouncer" in warning.getMessage()


@pytest.mark.parametrize("session_id", ["a\0b", "\ud800 half", "x" * 9_000, "".join(map(chr, range(256, 3_256)))])
async def test_any_id_is_stored(postgres: PostgresDatabase, session_id: str) -> None:
    """Ids with NUL and half surrogate pairs, and ids that no index can hold, are stored and found."""
    async with PostgresInbox(postgres.url) as inbox:
        event = session_event(session_id, "started")
        assert (await inbox.record(event, deliver=True)).ignored is None
        assert (await inbox.record(event)).is_duplicate
        assert session_id == (await get_state(inbox, session_id)).session_id
        assert [event.dedup_key] == await get_keys(inbox, session_id)
        (delivery,) = await inbox.lease(1, seconds=60)
        failed = DeliveryOutcome(status=DeliveryStatus.DEAD, error="a\0b\ud800", handled_by=frozenset({"a\0"}))
        assert await inbox.settle(delivery, failed)
        (summary,) = (await inbox.find_sessions(SessionSearch(session_id=session_id))).sessions
        assert (session_id, 1) == (summary.session_id, summary.dead)
        assert await inbox.requeue(session_id, event.dedup_key)


async def test_effect_and_outcome_commit_together(postgres: PostgresDatabase) -> None:
    """A handler that fails leaves neither its effect nor its mark; one that succeeds leaves both."""
    async with PostgresInbox(postgres.url) as inbox:
        assert isinstance(inbox, TransactionalInbox)
        await inbox.record(session_event("s", "started"), deliver=True)
        await asyncio.to_thread(postgres.execute, "CREATE TABLE effect (attempt integer)")
        (delivery,) = await inbox.lease(1, seconds=60)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  it is raised in the block
            async with inbox.handle_in_transaction(delivery, HANDLED) as connection:
                await connection.execute("INSERT INTO effect VALUES (1)")
                _ = 1 // 0
        assert await inbox.settle(delivery, AGAIN)
        (delivery,) = await inbox.lease(1, seconds=60)
        async with inbox.handle_in_transaction(delivery, HANDLED) as connection:
            await connection.execute("INSERT INTO effect VALUES (2)")
        (record,) = await inbox.get_deliveries()

    assert [(2,)] == await asyncio.to_thread(postgres.execute, "SELECT attempt FROM effect")
    assert DeliveryStatus.HANDLED == record.status
    assert {"effect"} == record.handled_by


@pytest.mark.parametrize("statement", ["SELECT pg_terminate_backend(pg_backend_pid())", "COMMIT", "ROLLBACK", None])
async def test_transaction_that_ended_in_the_handler_is_no_success(
    postgres: PostgresDatabase, statement: str | None
) -> None:
    """A handler whose connection has broken, or that ended the transaction, fails, even if it raises nothing."""
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.record(session_event("s", "started"), deliver=True)
        (delivery,) = await inbox.lease(1, seconds=60)
        with pytest.raises(InboxError):  # noqa: PT012  it is raised at the end of the block
            async with inbox.handle_in_transaction(delivery, HANDLED) as connection:
                if statement is None:
                    await connection.close()
                else:
                    with suppress(OperationalError):
                        await connection.execute(statement)
        (record,) = await inbox.get_deliveries()
        assert (statement == "COMMIT") == (record.status is DeliveryStatus.HANDLED)
        assert (await inbox.record(session_event("s", "submitted"))).ignored is None  # with another connection


async def test_lost_lease_begins_no_transaction(postgres: PostgresDatabase) -> None:
    """A handler is not called when another attempt has begun, and the other attempt is not disturbed."""
    now = 1e9
    async with PostgresInbox(postgres.url, now=lambda: now) as inbox:
        await inbox.record(session_event("s", "started"), deliver=True)
        (first,) = await inbox.lease(1, seconds=60)
        now += 61
        (second,) = await inbox.lease(1, seconds=60)
        with pytest.raises(LeaseLostError):
            async with inbox.handle_in_transaction(first, HANDLED):
                pytest.fail("the handler was called")
        async with inbox.handle_in_transaction(second, HANDLED):
            pass


async def test_lease_does_not_end_during_a_transaction(postgres: PostgresDatabase) -> None:
    """While a handler's transaction is open, no process leases its event, and extensions do not wait for it."""
    now = 1e9
    async with (
        PostgresInbox(postgres.url, now=lambda: now) as inbox,
        PostgresInbox(postgres.url, now=lambda: now) as other,
    ):
        await inbox.record(session_event("s", "started"), deliver=True)
        (delivery,) = await inbox.lease(1, seconds=60)
        async with inbox.handle_in_transaction(delivery, HANDLED):
            now += 61
            assert not await other.lease(1, seconds=60)
            assert {delivery.lease} == await inbox.extend_leases([delivery], seconds=60)
            assert not await other.extend_leases([delivery], seconds=60)
            assert not await other.requeue("s", delivery.event.dedup_key)
            assert (await inbox.record(session_event("s", "submitted"), deliver=True)).ignored is None
            assert not await other.lease(1, seconds=60)
        assert 1 == len(await other.lease(9, seconds=60))


async def test_handler_cannot_commit(postgres: PostgresDatabase) -> None:
    """Effect and mark commit together, so a handler that commits by itself gets an error and leaves nothing."""
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.record(session_event("s", "started"), deliver=True)
        (delivery,) = await inbox.lease(1, seconds=60)
        with pytest.raises(Exception, match="commit"):
            async with inbox.handle_in_transaction(delivery, HANDLED) as connection:
                await connection.commit()
        (record,) = await inbox.get_deliveries()
        assert DeliveryStatus.LEASED == record.status


@pytest.mark.parametrize("size", [100, 20_000])
async def test_erased_session_is_not_in_the_files(postgres: PostgresDatabase, size: int) -> None:
    """After an erasure the files of the tables do not contain the person; the write-ahead log is the server's."""
    async with PostgresInbox(postgres.url) as inbox:
        for number in range(30):
            name = f"{'CANARY' if number % 2 else 'other'} {number} {secrets.token_hex(size)}"
            event = event_from({"sessionId": f"s{number}", "vendorData": name, "name": name})
            await inbox.record(event, deliver=True)
            await inbox.save_submission(f"s{number}", name)
        assert await asyncio.to_thread(find_tables, postgres, b"CANARY")
        assert 15 == await inbox.erase([f"s{number}" for number in range(1, 30, 2)])
        assert IgnoredReason.ERASED == (await inbox.record(decision_event("s1", "approved"))).ignored

    assert await asyncio.to_thread(find_tables, postgres, b"other")
    assert [] == await asyncio.to_thread(find_tables, postgres, b"CANARY")


def find_tables(postgres: PostgresDatabase, text: bytes) -> list[str]:
    """Return the tables in whose files a text occurs."""
    postgres.execute("CHECKPOINT")
    paths = postgres.execute(
        "SELECT pg_relation_filepath(oid), relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " OR oid IN (SELECT reltoastrelid FROM pg_class WHERE relnamespace = current_schema()::regnamespace)"
    )
    folder = postgres.server.folder / "data"
    return [name for path, name in paths if path and text in (folder / path).read_bytes()]


async def test_error_names_the_remedy_and_no_secret(postgres: PostgresDatabase) -> None:
    """An unreachable server is an `InboxError`; neither it nor the repr has the password."""
    async with PostgresInbox("postgresql://me:s3cr3t@127.0.0.1:1/app") as inbox:
        assert "s3cr3t" not in repr(inbox)
        with pytest.raises(InboxError, match="cannot be reached") as caught:
            await inbox.record(session_event("s", "started"))
        assert "s3cr3t" not in str(caught.value)
        assert caught.value.__cause__ is None


async def test_erasure_of_tables_of_another_user(postgres: PostgresDatabase, caplog: pytest.LogCaptureFixture) -> None:
    """A user who may not vacuum the tables erases the rows, and one warning says that bytes may be left."""
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.record(session_event("s", "started"))
    user = f"user_{postgres.schema}"

    def create_user() -> None:
        postgres.execute(f"CREATE ROLE {user} LOGIN")
        postgres.execute(f"GRANT USAGE ON SCHEMA {postgres.schema} TO {user}")
        for kind in ("TABLES", "SEQUENCES"):
            postgres.execute(f"GRANT ALL ON ALL {kind} IN SCHEMA {postgres.schema} TO {user}")

    await asyncio.to_thread(create_user)
    try:
        async with PostgresInbox(postgres.url.replace("postgres@", f"{user}@"), migrate=False) as inbox:
            assert 1 == await inbox.erase(["s", "unknown"])
            assert 0 == await inbox.erase(["s"])
            assert not await inbox.get_states(["s"])
    finally:
        await asyncio.to_thread(postgres.execute, f"DROP OWNED BY {user}; DROP ROLE {user}")
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "VACUUM FULL" in warning.getMessage()


async def test_inner_block_leaves_the_inbox_open(postgres: PostgresDatabase) -> None:
    """An inbox that several parts of a program enter closes at the end of the last block."""
    inbox = PostgresInbox(postgres.url)
    async with inbox:
        async with inbox:
            await inbox.record(session_event("s", "started"))
        assert (await inbox.record(session_event("s", "started"))).is_duplicate
    with pytest.raises(InboxError, match="closed"):
        await inbox.get_events("s")


async def test_lease_of_another_store_is_lost(postgres: PostgresDatabase) -> None:
    """A delivery with a lease that this inbox has never given is neither extended nor settled."""
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.record(session_event("s", "started"), deliver=True)
        (delivery,) = await inbox.lease(1, seconds=60)
        for lease in ("theirs", "1:theirs", ":", "x:00"):
            foreign = evolve(delivery, lease=lease)
            assert not await inbox.settle(foreign, HANDLED)
            assert not await inbox.extend_leases([foreign], seconds=60)
        assert await inbox.settle(delivery, HANDLED)


@pytest.mark.parametrize("page", ["theirs", "[]", "[1]", '["a", 1]', "[1.5, 1e400]", "[NaN, 1.5]"])
async def test_page_of_another_store_is_refused(postgres: PostgresDatabase, page: str) -> None:
    """A page that no search of this inbox has returned is an error of its argument."""
    async with PostgresInbox(postgres.url) as inbox:
        with pytest.raises(InvalidArgumentError, match="page"):
            await inbox.find_sessions(SessionSearch(), page=page)


async def test_unreadable_state_is_reported(postgres: PostgresDatabase) -> None:
    """A state of a later version is an error of the calls that read it, and makes its event dead."""
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.record(session_event("s", "started"), deliver=True)
        await asyncio.to_thread(postgres.execute, "UPDATE veriff_inbox_session SET state = 'theirs'")
        with pytest.raises(InboxError, match="read"):
            await inbox.get_states(["s"])
        assert not await inbox.lease(1, seconds=60)
        (record,) = await inbox.get_deliveries()
        assert DeliveryStatus.DEAD == record.status


async def test_rewrite_of_the_files_is_repeated(postgres: PostgresDatabase) -> None:
    """Erased rows leave the files although a connection breaks; the erasure fails if that goes on."""
    async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url) as inbox:
        for cuts in (2, 50):
            await inbox.record(session_event(f"s{cuts}", "started"))
            proxy.cut, proxy.cuts = b"lock_timeout", cuts
            if cuts == 2:
                assert 1 == await inbox.erase([f"s{cuts}"])
            else:
                with pytest.raises(InboxError):
                    await inbox.erase([f"s{cuts}"])
            proxy.cut = None
            assert not await inbox.get_events(f"s{cuts}")


async def test_subscription_survives_a_look_that_fails(postgres: PostgresDatabase) -> None:
    """Changes are reported at the next look after one that failed; after several failures the subscription fails."""
    async with (
        proxy_to(postgres) as proxy,
        PostgresInbox(proxy.url) as inbox,
        PostgresInbox(postgres.url) as other,
        subscribe(inbox) as changes,
    ):
        look = asyncio.ensure_future(anext(changes))
        proxy.cut, proxy.cuts = b"pg_postmaster_start_time", 2
        await other.record(session_event("s0", "started"))
        await until(lambda: proxy.cut is None)
        await other.record(session_event("s1", "started"))
        assert await look in {"s0", "s1", None}
        proxy.cut, proxy.cuts = b"pg_postmaster_start_time", 1_000
        number = 1
        with pytest.raises(InboxError):  # noqa: PT012  each change makes the subscription look
            while True:
                look = asyncio.ensure_future(anext(changes))
                while not look.done():
                    number += 1
                    await other.record(session_event(f"s{number}", "started"))
                await look


async def test_many_expired_sessions_are_deleted(postgres: PostgresDatabase) -> None:
    """Sessions beyond one part of a deletion are deleted by the records that follow."""
    retention = Retention(max_age=3_600)
    async with PostgresInbox(postgres.url, retention=retention) as inbox:
        await inbox.statistics()
        await asyncio.to_thread(
            postgres.execute,
            "INSERT INTO veriff_inbox_session (digest, id, changed, touched, events)"
            " SELECT int4send(number), int4send(number), pg_current_xact_id(), 0, 0"
            " FROM generate_series(1, 150) AS number",
        )
        for action in ("started", "submitted"):
            await inbox.record(session_event("s", action))
    assert [(1,)] == await asyncio.to_thread(postgres.execute, "SELECT count(*) FROM veriff_inbox_session")
