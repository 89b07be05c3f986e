"""Events that are recorded at the same time share a transaction of PostgreSQL; the result is as if each were alone.

``VERIFF_EXAMPLES=500`` compares as many random lists of events; by default a few.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from tests.conditions import run_loop, until
from tests.inbox.postgres_proxy import proxy_to
from veriff_async import DecisionSource, InboxError, Status
from veriff_async._protocol.webhook import event_from, event_from_decision
from veriff_async._storage.postgres_scripts import LOCK
from veriff_async.inbox import DeliveryStatus, IgnoredReason, PostgresInbox, Retention, SessionSearch
from veriff_async.inbox._postgres_codec import digest_of
from veriff_async.inbox._postgres_events import lock_statement
from veriff_async.models.events import DecisionEvent
from veriff_async.testing import decision_event, session_event, watchlist_event
from veriff_async.testing._harness import get_keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from tests.postgres_server import PostgresDatabase
    from veriff_async import WebhookEvent
    from veriff_async.inbox import RecordResult

pytestmark = pytest.mark.anyio

EXAMPLES: Final = int(os.environ.get("VERIFF_EXAMPLES", "3"))
SLOW: Final = "slow"
"""The session whose events wait in the server until `stopped` ends."""


async def record_all(inbox: PostgresInbox, events: Sequence[WebhookEvent]) -> list[RecordResult]:
    """Record events at the same time."""
    return await asyncio.gather(*(inbox.record(event, deliver=True) for event in events))


def started(*names: str) -> list[WebhookEvent]:
    """Return an event for each session."""
    return [session_event(name, "started") for name in names]


@asynccontextmanager
async def stopped(postgres: PostgresDatabase, *, in_commit: bool = False) -> AsyncGenerator[AsyncConnection[object]]:
    """Let the server stop each transaction that stores an event of the session `SLOW`, perhaps while it commits."""
    trigger = "CONSTRAINT TRIGGER" if in_commit else "OR REPLACE TRIGGER"
    deferred = "DEFERRABLE INITIALLY DEFERRED" if in_commit else ""
    function = f"""
        CREATE OR REPLACE FUNCTION stop_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM veriff_inbox_session WHERE number = NEW.session AND id = '{SLOW}') THEN
                PERFORM pg_advisory_xact_lock(17);
            END IF;
            RETURN NEW;
        END $$;
        CREATE {trigger} stop_slow AFTER INSERT ON veriff_inbox_event
            {deferred} FOR EACH ROW EXECUTE FUNCTION stop_slow()
    """
    async with await AsyncConnection.connect(postgres.url, autocommit=True) as connection:
        await connection.execute(function.encode())
        await connection.execute("SELECT pg_advisory_lock(17)")
        yield connection


async def waiting(connection: AsyncConnection[object], count: int = 1) -> None:
    """Return when some transactions wait for a lock, of a session or of a row."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND (locktype = 'transactionid' OR locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
    while (await (await connection.execute(query)).fetchone()) != (count,):
        await run_loop(1)


async def test_concurrent_records_share_a_transaction(postgres: PostgresDatabase) -> None:
    """Events that wait at the same time are stored by one transaction, in their order, and each has its result."""
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.get_states(["s0"])
        events = [session_event(f"s{number % 40}", "started", attempt_id=f"{number // 80}") for number in range(100)]
        results = await record_all(inbox, events)
        assert events == [result.event for result in results]
        assert [number >= 40 and number not in range(80, 100) for number in range(100)] == [
            result.is_duplicate for result in results
        ]
        transactions = await asyncio.to_thread(postgres.execute, "SELECT DISTINCT xmin::text FROM veriff_inbox_event")
        assert 1 == len(transactions)
        assert 60 == len(await inbox.get_deliveries())


ids = st.sampled_from(["one", "two", "erased"])
decisions = st.builds(
    decision_event,
    ids,
    st.sampled_from(["review", "resubmission_requested", "approved", "declined"]),
    attempt_id=st.sampled_from(["first", "second"]),
    minute=st.none() | st.integers(0, 2),
)
messages = (
    st.builds(session_event, ids, st.sampled_from(["started", "submitted"]))
    | decisions
    | st.builds(watchlist_event, ids)
    | st.builds(event_from, st.sampled_from([{"vendorData": "a"}, {"vendorData": "b"}]))  # of no session
)
records = st.tuples(messages, st.booleans(), st.booleans())
Drawn: TypeAlias = "list[tuple[WebhookEvent, bool, bool]]"


async def _record(inbox: PostgresInbox, event: WebhookEvent, is_polled: bool, deliver: bool) -> RecordResult:  # noqa: FBT001
    if is_polled and isinstance(event, DecisionEvent):
        event = event_from_decision(event.decision)
        return await inbox.record(event, source=DecisionSource.POLL, deliver=deliver)
    return await inbox.record(event, deliver=deliver)


_STORED: Final = (
    "SELECT id, state, status, touched, submission, events, changed IS NULL FROM veriff_inbox_session ORDER BY id",
    """SELECT session.id, key, kind, body, recorded_at, ignored FROM veriff_inbox_event AS event
        JOIN veriff_inbox_session AS session ON session.number = event.session ORDER BY event.number""",
    """SELECT event.key, is_ordered, status, due_at FROM veriff_inbox_delivery AS delivery
        JOIN veriff_inbox_event AS event ON event.number = delivery.event ORDER BY position""",
    """SELECT field, encode(search_key.key, 'hex'), id FROM veriff_inbox_search_key AS search_key
        JOIN veriff_inbox_session AS session ON session.number = search_key.session ORDER BY 1, 2, 3""",
)


@pytest.mark.timeout(60 + EXAMPLES)
def test_result_is_that_of_single_records(postgres: PostgresDatabase) -> None:
    """Events that are recorded together give the results, and leave the rows, of records one after the other.

    This includes duplicates among them, new, erased and expired sessions, and sessions with too many events.
    """

    async def erase() -> None:
        async with PostgresInbox(postgres.socket_url, now=lambda: 1_800_000_000.0) as inbox:
            await inbox.erase(["erased"])

    async def record(
        before: Drawn, together: Drawn, most: int, seconds: float, *, is_concurrent: bool
    ) -> tuple[list[RecordResult], list[list[tuple[object, ...]]]]:
        now = 1_800_000_000.0
        await asyncio.to_thread(postgres.execute, "DELETE FROM veriff_inbox_session")
        retention = Retention(max_age=1_000, max_events_per_session=most)
        async with PostgresInbox(postgres.socket_url, retention=retention, now=lambda: now) as inbox:
            inbox._next_deletion = float("inf")  # sessions are deleted by their own events alone
            await inbox.save_submission("one", "text")
            for each in before:
                await _record(inbox, *each)
            now += seconds
            if is_concurrent:
                results = await asyncio.gather(*(_record(inbox, *each) for each in together))
            else:
                results = [await _record(inbox, *each) for each in together]
        return results, await asyncio.to_thread(lambda: [postgres.execute(query) for query in _STORED])

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(records, max_size=4),
        st.lists(records, min_size=2, max_size=12),
        st.sampled_from([2, 1_000]),
        st.sampled_from([1, 2_000]),
    )
    def compare(before: Drawn, together: Drawn, most: int, seconds: float) -> None:
        single, concurrent = (
            asyncio.run(record(before, together, most, seconds, is_concurrent=is_concurrent))
            for is_concurrent in (False, True)
        )
        assert single == concurrent

    asyncio.run(erase())
    compare()


async def test_event_that_cannot_be_stored_fails_alone(postgres: PostgresDatabase) -> None:
    """A session that holds a damaged state, or an event that the server refuses, fails its own records only."""
    async with PostgresInbox(postgres.url) as inbox:
        await record_all(inbox, started("damaged", "other"))
        await asyncio.to_thread(
            postgres.execute,
            "UPDATE veriff_inbox_session SET state = 'theirs' WHERE id = 'damaged';"
            " ALTER TABLE veriff_inbox_session ADD CHECK (id <> 'refused')",
        )
        names = ("a", "damaged", "b", "refused", "other", "c")
        results = await asyncio.gather(
            *(inbox.record(session_event(name, "submitted"), deliver=True) for name in names), return_exceptions=True
        )
        errors = dict(zip(names, results, strict=True))
        assert "read" in str(errors.pop("damaged"))
        assert "SQLSTATE 23514" in str(errors.pop("refused"))
        assert not [result for result in errors.values() if isinstance(result, BaseException) or result.ignored]
        assert 6 == len(await inbox.get_deliveries())


async def test_few_transactions_find_the_event_that_cannot_be_stored(postgres: PostgresDatabase) -> None:
    """One such event among a hundred costs some transactions, and not one for each of the others."""
    async with PostgresInbox(postgres.url) as inbox:
        await record_all(inbox, started("damaged"))
        await asyncio.to_thread(postgres.execute, "UPDATE veriff_inbox_session SET state = 'theirs'")
        names = [f"s{number}" for number in range(100)]
        names[60] = "damaged"
        results = await asyncio.gather(*map(inbox.record, started(*names)), return_exceptions=True)
        await asyncio.gather(inbox.record(session_event("s60", "started")))
        assert [60] == [number for number, result in enumerate(results) if isinstance(result, BaseException)]
        transactions = await asyncio.to_thread(postgres.execute, "SELECT DISTINCT xmin::text FROM veriff_inbox_event")
        assert len(transactions) < 15


async def test_full_disk_is_the_error_of_all_events(postgres: PostgresDatabase) -> None:
    """A server that lacks resources is not asked again for each event of the transaction."""
    trigger = """
        CREATE SEQUENCE tries;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM nextval('tries');
            RAISE EXCEPTION USING ERRCODE = 'disk_full';
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON veriff_inbox_event FOR EACH STATEMENT EXECUTE FUNCTION fail()
    """
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.get_states(["s"])
        await asyncio.to_thread(postgres.execute, trigger)
        results = await asyncio.gather(*map(inbox.record, started(*"abcd")), return_exceptions=True)
        assert ["53100" in str(result) for result in results] == [True] * 4
        assert [(1,)] == await asyncio.to_thread(postgres.execute, "SELECT last_value FROM tries")


async def test_locked_session_holds_up_no_other(postgres: PostgresDatabase) -> None:
    """Events of a session that another process writes wait for it, and those of other sessions do not."""
    lock = lock_statement([digest_of("locked")])
    async with PostgresInbox(postgres.url, timeout=60) as inbox, await AsyncConnection.connect(postgres.url) as other:
        await inbox.get_states(["s"])
        await other.execute(lock)
        locked = [asyncio.create_task(inbox.record(event)) for event in started("locked", "locked")]
        await record_all(inbox, started("a", "b"))
        for number in range(3):
            locked.append(asyncio.create_task(inbox.record(decision_event("locked", "approved", minute=number))))
            await record_all(inbox, started(f"c{number}"))
        await waiting(other)  # with one connection
        assert not [task for task in locked if task.done()]
        await other.rollback()
        assert {"locked"} == {(await task).event.session_id for task in locked}
        assert 4 == len(await get_keys(inbox, "locked"))


async def test_caller_that_left_keeps_no_turn(postgres: PostgresDatabase) -> None:
    """Events whose callers left while they waited for a turn to wait for a lock take no turn from the others."""
    names = [f"s{number}" for number in range(25)]
    async with PostgresInbox(postgres.url, timeout=60) as inbox, await AsyncConnection.connect(postgres.url) as other:
        await inbox.get_states(["s"])
        await other.execute(lock_statement([digest_of(name) for name in names]))
        tasks = [asyncio.create_task(inbox.record(event)) for event in started(*names[:4])]
        await waiting(other, 4)
        tasks += [asyncio.create_task(inbox.record(event)) for event in started(*names[4:])]
        await until(lambda: len(inbox._recorder._contended) == len(names) - 4)
        gone = tasks[4:-1]
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        await other.rollback()
        assert [None] * 5 == [(await task).ignored for task in tasks if task not in gone]


async def test_slow_transaction_holds_up_no_other(postgres: PostgresDatabase) -> None:
    """While a transaction does not end, perhaps because its connection is dead, later events use another one."""
    async with PostgresInbox(postgres.url, timeout=60) as inbox:
        await inbox.get_states(["s"])
        async with stopped(postgres) as other:
            slow = asyncio.create_task(inbox.record(session_event(SLOW, "started")))
            await waiting(other)
            await record_all(inbox, started("a", "b"))
            assert not slow.done()
        assert (await slow).ignored is None


async def test_cancelled_caller_harms_no_other(postgres: PostgresDatabase) -> None:
    """The others of its transaction get their results, and its event counts as new when it comes again, once."""
    async with PostgresInbox(postgres.url, timeout=60) as inbox:
        await inbox.get_states(["s"])
        async with stopped(postgres) as other:
            tasks = [asyncio.create_task(inbox.record(event, deliver=True)) for event in started("a", SLOW, "b")]
            await waiting(other)
            again = tasks[0]
            for _ in range(3):
                again.cancel()
                await asyncio.wait([again])
                assert again.cancelled()
                again = asyncio.create_task(inbox.record(session_event("a", "started"), deliver=True))
                await run_loop()
        assert [None, None] == [(await task).ignored for task in tasks[1:]]
        assert (await again).ignored is None
        assert (await inbox.record(session_event("a", "started"), deliver=True)).is_duplicate
        assert 3 == len(await inbox.get_deliveries(status=DeliveryStatus.QUEUED))


async def test_cancelled_and_terminated_records_count_once(postgres: PostgresDatabase) -> None:
    """Callers that are cancelled, and connections that end, at any moment: each event counts as new exactly once."""
    moments = random.Random(17)  # noqa: S311  of cancellations

    async def record(inbox: PostgresInbox, event: WebhookEvent) -> RecordResult:
        while True:
            recording = asyncio.create_task(inbox.record(event, deliver=True))
            await run_loop(moments.randrange(60))
            if moments.random() < 0.5:
                recording.cancel()
            with suppress(InboxError, asyncio.CancelledError):
                return await recording

    async with PostgresInbox(postgres.url, timeout=60) as inbox:
        await inbox.get_states(["s"])
        events = [session_event(f"s{number % 30}", "started", attempt_id=f"{number // 30}") for number in range(60)]
        recording = [asyncio.create_task(record(inbox, event)) for event in events]
        for _ in range(2):
            await asyncio.to_thread(postgres.server.terminate_backends)
        assert [None] * 60 == [(await task).ignored for task in recording]
        assert 60 == len(await inbox.get_deliveries())


async def test_transaction_without_callers_is_cancelled(postgres: PostgresDatabase) -> None:
    """When all callers have left, the transaction is rolled back, and leaves neither events nor tasks."""
    async with PostgresInbox(postgres.url, timeout=20) as inbox:
        await inbox.get_states(["s"])
        async with stopped(postgres) as other:
            tasks = [asyncio.create_task(inbox.record(event)) for event in started("a", SLOW, "b")]
            await waiting(other)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await waiting(other, 0)
        assert not await inbox.get_states(["a", SLOW, "b"])
        assert [None, None, None] == [result.ignored for result in await record_all(inbox, started("a", SLOW, "b"))]


async def test_late_record_fails(postgres: PostgresDatabase, advance_time: Callable[[float], None]) -> None:
    """A record fails after the timeout of the inbox, also one that waits for the next transaction."""
    async with PostgresInbox(postgres.url, timeout=60) as inbox:
        await inbox.get_states(["s"])
        async with stopped(postgres) as other:
            tasks = [asyncio.create_task(inbox.record(event)) for event in started("a", SLOW)]
            await waiting(other)
            tasks.append(asyncio.create_task(inbox.record(session_event(SLOW, "submitted"))))
            await run_loop(1)
            advance_time(61)
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert ["in time" in str(result) for result in results] == [True, True, True]
        assert [None, None] == [result.ignored for result in await record_all(inbox, started("a", SLOW))]


async def test_first_record_waits_for_the_migration(
    postgres: PostgresDatabase, advance_time: Callable[[float], None]
) -> None:
    """The tables may take longer to be created than a record may take; nothing cancels that."""
    async with PostgresInbox(postgres.url, timeout=4) as inbox, await AsyncConnection.connect(postgres.url) as other:
        await other.execute(LOCK.encode())
        task = asyncio.create_task(inbox.record(session_event("s", "started")))
        await waiting(other)
        advance_time(30)
        await run_loop()
        await other.rollback()
        assert (await task).ignored is None


async def test_event_whose_record_was_repeated_counts_once(
    postgres: PostgresDatabase, advance_time: Callable[[float], None]
) -> None:
    """If a commit takes too long for one of its callers, that record is repeated; the next one is a duplicate."""
    async with PostgresInbox(postgres.url, timeout=10) as inbox:
        await inbox.get_states(["s"])

        async def record_patiently() -> RecordResult:
            inbox._server.timeout = 60
            return await inbox.record(session_event(SLOW, "started"))

        async with stopped(postgres, in_commit=True) as other:
            tasks = [asyncio.create_task(inbox.record(session_event("a", "started")))]
            tasks.append(asyncio.create_task(record_patiently()))  # in the same transaction
            await waiting(other)
            advance_time(11)
            await waiting(other, 2)
        assert [None, None] == [(await task).ignored for task in tasks]
        assert [True, True] == [result.is_duplicate for result in await record_all(inbox, started("a", SLOW))]


async def test_caller_that_is_cancelled_during_a_deletion_loses_nothing(postgres: PostgresDatabase) -> None:
    """A record deletes old sessions after its event is stored; the event counts when it comes again."""
    now = 1_800_000_000.0
    inbox = PostgresInbox(postgres.url, timeout=60, retention=Retention(max_age=60), now=lambda: now)
    async with inbox, await AsyncConnection.connect(postgres.url) as other:
        await record_all(inbox, started("old"))
        await other.execute("SELECT FROM veriff_inbox_session FOR UPDATE")
        await asyncio.to_thread(postgres.execute, "DELETE FROM veriff_inbox_delivery")
        now, inbox._next_deletion = now + 61, 0.0
        task = asyncio.create_task(inbox.record(session_event("s", "started")))
        await waiting(other)
        task.cancel()
        await asyncio.wait([task])
        await other.rollback()
        assert task.cancelled()
        assert (await inbox.record(session_event("s", "started"))).ignored is None
        assert (await inbox.record(session_event("s", "started"))).is_duplicate


async def test_calls_share_the_error_of_a_server_that_does_not_answer(advance_time: Callable[[float], None]) -> None:
    """Before the first use, no call waits for the server again after another one has waited for it."""
    writers: list[asyncio.StreamWriter] = []

    async def never_answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with PostgresInbox(f"postgresql://127.0.0.1:{port}/x", timeout=60) as inbox:
            record = inbox.record(session_event("s", "started"))
            calls = asyncio.gather(inbox.get_states(["s"]), inbox.get_events("s"), record, return_exceptions=True)
            await until(lambda: writers)
            advance_time(61)
            results = await calls
        for writer in writers:
            writer.transport.abort()
        await run_loop()
        assert [True] * 3 == ["in time" in str(result) for result in results]


async def test_large_events_share_smaller_transactions(postgres: PostgresDatabase) -> None:
    """Events of more than a megabyte are stored by several transactions, and each event by one."""
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.get_states(["s"])
        texts = ["x" * 400_000, "x" * 1_500_000, "y" * 400_000, "z" * 400_000, "small"]
        await record_all(inbox, [event_from({"sessionId": "s", "text": text}) for text in texts])
        query = "SELECT array_agg(length(body) / 400000 ORDER BY number) FROM veriff_inbox_event GROUP BY xmin::text"
        transactions = await asyncio.to_thread(postgres.execute, query)
        assert [[1], [1, 1, 0], [3]] == sorted(sizes for (sizes,) in transactions)


@pytest.mark.parametrize("status", ['a"b\\c{},NULL', "a\0b", "\ud800"])
async def test_any_status_is_stored(postgres: PostgresDatabase, status: str) -> None:
    """A status that Veriff adds may be any text; sessions are found by it."""
    async with PostgresInbox(postgres.url) as inbox:
        results = await record_all(inbox, [decision_event(name, status) for name in "ab"])
        assert [status, status] == [result.state and result.state.status for result in results]
        found = await inbox.find_sessions(SessionSearch(status=Status(status)))
        assert {"a", "b"} == {session.session_id for session in found.sessions}


async def test_closing_fails_the_records_that_wait(postgres: PostgresDatabase) -> None:
    """Records in a transaction, and those that wait for the next one, end with an error when the inbox is closed."""
    async with PostgresInbox(postgres.url, timeout=60) as inbox:
        await inbox.get_states(["s"])
        async with stopped(postgres) as other:
            tasks = [asyncio.create_task(inbox.record(session_event(SLOW, "started")))]
            await waiting(other)
            tasks += [asyncio.create_task(inbox.record(event)) for event in started("a", "b")]
            await run_loop(1)
            await inbox.aclose()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert ["closed" in str(error) and isinstance(error, InboxError) for error in errors] == [True, True, True]
    async with inbox:
        assert [None, None] == [result.ignored for result in await record_all(inbox, started("a", SLOW))]


async def test_pool_with_one_connection(postgres: PostgresDatabase) -> None:
    """Records, contended sessions, notifications and deletions never wait for each other's connection."""
    pool = AsyncConnectionPool(postgres.socket_url, min_size=1, max_size=1, open=False)
    async with pool, PostgresInbox(pool, retention=Retention(max_sessions=5)) as inbox, PostgresInbox(pool) as other:
        names = [f"s{number % 20}" for number in range(40)]
        results = await asyncio.gather(record_all(inbox, started(*names)), record_all(other, started(*names)))
        assert 60 == sum(result.is_duplicate for each in results for result in each)


@pytest.mark.parametrize("cuts", [1, 2])
async def test_events_with_lost_response_count_once(postgres: PostgresDatabase, cuts: int) -> None:
    """If the response of the commit is lost, each event of the transaction is recognised.

    Two calls may have made one event count: the poll of a decision, and the webhook that confirms it.
    """
    async with proxy_to(postgres) as proxy, PostgresInbox(proxy.url) as inbox:
        await inbox.get_states(["s"])
        proxy.cut, proxy.cuts, proxy.within = b"COMMIT", cuts, b"nextval('veriff_inbox_number')"
        decision = decision_event("s", "approved", minute=1)

        async def record_twice(events: Sequence[WebhookEvent]) -> list[IgnoredReason | None]:
            poll = inbox.record(decision, source=DecisionSource.POLL)
            results = await asyncio.gather(poll, *(inbox.record(event, deliver=True) for event in events))
            return [result.ignored for result in results]

        events = [*started("a", "b", "b"), decision]
        new, again = None, IgnoredReason.DUPLICATE
        assert [new, new, new, again, new] == await record_twice(events)
        assert [again] * 5 == await record_twice(events)
        assert 3 == len(await inbox.lease(9, seconds=60))


async def test_other_process_continues_while_this_one_records(postgres: PostgresDatabase) -> None:
    """Two processes that record the same events of the same sessions count each once, and none fails."""
    async with PostgresInbox(postgres.url) as inbox, PostgresInbox(postgres.url) as other:
        names = [f"s{number % 15}" for number in range(60)]
        both = (record_all(inbox, started(*names)), record_all(other, started(*reversed(names))))
        results = [result for each in await asyncio.gather(*both) for result in each]
        assert 15 == sum(result.ignored is None for result in results)


async def test_cancelled_task_of_a_transaction(postgres: PostgresDatabase) -> None:
    """Code that cancels all tasks, as the end of a loop does, fails the records, and blocks no later ones."""
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.get_states(["s"])
        known = asyncio.all_tasks()
        recording = asyncio.create_task(inbox.record(session_event("s", "started")))
        await run_loop(1)
        for task in asyncio.all_tasks() - known - {recording}:
            task.cancel()  # before it began
        with pytest.raises(InboxError):
            await recording
        assert (await inbox.record(session_event("s", "started"))).ignored is None
