"""Connections of stores to PostgreSQL: each call ends in time, is done once, and reveals no data in its error."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg
import pytest
from anyio import to_thread
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from tests.conditions import needs_posix, time_limit, until
from tests.postgres_proxy import proxy_of
from veriff_async import ConfigurationError, JournalError
from veriff_async._storage.postgres import PostgresConnections, execute, fetch_all, fetch_one, notify
from veriff_async._storage.postgres_notifications import Notifications
from veriff_async._storage.postgres_pool import BorrowedConnection
from veriff_async._storage.postgres_problems import describe_problem
from veriff_async._storage.postgres_queries import execute_many
from veriff_async._storage.postgres_scripts import SCHEMA_VERSIONS, migration_script

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from tests.postgres_server import PostgresDatabase
    from veriff_async._storage.postgres import Connection

pytestmark = pytest.mark.anyio

SECONDS: Final = 30.0
"""The time limit of calls that succeed."""

TABLES: Final = migration_script("journal")


def connect(
    server: str | AsyncConnectionPool[Any], *, timeout: float = SECONDS, migrate: bool = True, max_connections: int = 9
) -> PostgresConnections:
    """Return the connections of a store."""
    return PostgresConnections(
        server,
        timeout,
        store="PostgresJournal",
        error=JournalError,
        component="journal",
        migrate=migrate,
        max_connections=max_connections,
    )


@pytest.fixture
async def server(postgres: PostgresDatabase) -> AsyncGenerator[PostgresConnections]:
    """Return connections to a schema with an empty table of numbers."""
    await to_thread.run_sync(postgres.execute, "CREATE TABLE number (value integer PRIMARY KEY)")
    connections = connect(postgres.url)
    yield connections
    await connections.aclose()


async def insert(connection: Connection, value: int) -> None:
    """Insert a number."""
    await execute(connection, "INSERT INTO number VALUES (%s)", (value,))


async def numbers(server: PostgresConnections) -> list[int]:
    """Return the numbers."""
    rows = await server.run(lambda connection: fetch_all(connection, "SELECT value FROM number ORDER BY value"))
    return [row[0] for row in rows]


class TestTransactions:
    """A call is one transaction."""

    async def test_error_rolls_back(self, server: PostgresConnections) -> None:
        """An error of the work passes unchanged, and nothing is stored."""

        async def fail(connection: Connection) -> None:
            await insert(connection, 1)
            msg = "the mistake of the work"
            raise LookupError(msg)

        await server.run(partial(insert, value=2))
        with pytest.raises(LookupError, match="the mistake of the work"):
            await server.run(fail)
        assert [2] == await numbers(server)

    async def test_error_of_the_server_contains_no_data(self, server: PostgresConnections) -> None:
        """PostgreSQL quotes values in its messages; the error of the store names the kind of problem only."""
        await server.run(partial(insert, value=271828))
        with pytest.raises(JournalError, match="SQLSTATE 23505") as caught:
            await server.run(partial(insert, value=271828))

        assert "271828" not in str(caught.value)
        assert (None, None) == (caught.value.__cause__, caught.value.__context__)

    async def test_restarted_server_is_not_noticed_between_calls(
        self, postgres: PostgresDatabase, server: PostgresConnections
    ) -> None:
        """A call replaces connections that have died since the last one."""

        async def stay(connection: Connection) -> None:
            await fetch_one(connection, "SELECT 1")
            started.add(connection)
            await until(lambda: len(started) == 4)

        started = set[object]()
        await asyncio.gather(*(server.run(stay) for _ in range(4)))
        await to_thread.run_sync(postgres.server.restart)

        await asyncio.gather(*(server.run(partial(insert, value=value)) for value in range(8)))
        assert list(range(8)) == await numbers(server)

    async def test_deadlock_is_repeated(self, server: PostgresConnections) -> None:
        """Of two transactions that wait for each other, the server ends one, which is done again."""

        async def update(connection: Connection, values: tuple[int, int]) -> None:
            for value in values:
                await execute(connection, "UPDATE number SET value = value WHERE value = %s", (value,))
                reached.add(values)
                await until(lambda: len(reached) == 2)

        reached = set[tuple[int, int]]()
        for value in (1, 2):
            await server.run(partial(insert, value=value))
        await server.run(lambda connection: execute(connection, "SELECT set_config('deadlock_timeout', '10ms', false)"))
        await asyncio.gather(*(server.run(partial(update, values=values)) for values in ((1, 2), (2, 1))))

    async def test_several_rows_are_one_transaction(self, server: PostgresConnections) -> None:
        """Rows that are written together are all stored, or none if one of them is refused."""
        sql = "INSERT INTO number VALUES (%s)"
        await server.run(lambda connection: execute_many(connection, sql, [(1,), (2,)]))
        with pytest.raises(JournalError, match="SQLSTATE 23505"):
            await server.run(lambda connection: execute_many(connection, sql, [(3,), (1,)]))
        assert [1, 2] == await numbers(server)

    async def test_block_does_not_begin_on_a_connection_that_breaks_again(self, postgres: PostgresDatabase) -> None:
        """A dead connection is replaced; if the new one breaks as well, the error says so."""
        async with proxy_of(postgres) as proxy:
            server = connect(proxy.url)
            await server.run(lambda connection: execute(connection, "SELECT 1"))
            proxy.cut, proxy.cuts = b"BEGIN", 2
            with pytest.raises(JournalError, match="cannot be reached"):
                async with server.open_transaction():
                    pytest.fail("the block has begun")
            async with server.open_transaction() as connection:
                assert (1,) == await fetch_one(connection, "SELECT 1")
            await server.aclose()

    @pytest.mark.parametrize("autocommit", [False, True])
    async def test_lost_response_is_repeated_only_on_request(
        self, postgres: PostgresDatabase, server: PostgresConnections, *, autocommit: bool
    ) -> None:
        """Whether a commit without a response was stored is open, so only idempotent work is done again."""
        committed = list[str]()
        async with proxy_of(postgres) as proxy:
            behind = connect(proxy.url)
            assert [] == await numbers(behind)
            request = b"INSERT" if autocommit else b"COMMIT\0"

            proxy.cut, proxy.cuts = request, 1
            with pytest.raises(JournalError, match="cannot be reached"):
                await behind.run(
                    partial(insert, value=1), before_commit=lambda: committed.append("sent"), autocommit=autocommit
                )
            assert ["sent"] == committed
            assert [1] == await numbers(server)

            proxy.cut, proxy.cuts = request, 2
            await behind.run(
                lambda connection: execute(connection, "INSERT INTO number VALUES (2) ON CONFLICT DO NOTHING"),
                is_idempotent=True,
                autocommit=autocommit,
            )
            await behind.aclose()
        assert [1, 2] == await numbers(server)


class TestLimits:
    """Each call ends in time, whether or not the server answers."""

    @needs_posix
    async def test_frozen_server_fails_the_call(self, postgres: PostgresDatabase) -> None:
        """A server that stands still fails the call; afterwards the store works again."""
        server = connect(postgres.url, timeout=0.5)
        await server.run(lambda connection: fetch_one(connection, "SELECT 1"), seconds=SECONDS)
        await to_thread.run_sync(postgres.server.freeze)
        async with time_limit(SECONDS):
            with pytest.raises(JournalError, match="did not answer in time"):
                await server.run(lambda connection: fetch_one(connection, "SELECT 1"))
        await to_thread.run_sync(postgres.server.thaw)
        assert (1,) == await server.run(lambda connection: fetch_one(connection, "SELECT 1"), seconds=SECONDS)
        await server.aclose()

    @pytest.mark.skipif(not psycopg.capabilities.has_cancel_safe(), reason="libpq below 17 cancels only by blocking")
    @pytest.mark.parametrize("is_cancelled", [False, True])
    async def test_statement_ends_in_the_server(
        self, postgres: PostgresDatabase, server: PostgresConnections, *, is_cancelled: bool
    ) -> None:
        """A call that exceeds its limit, or is cancelled, leaves no statement behind in the server."""
        waiting = "SELECT pg_sleep(1000)"
        call = asyncio.ensure_future(
            server.run(lambda connection: execute(connection, waiting), seconds=None if is_cancelled else 0.3)
        )
        asked = f"SELECT FROM pg_stat_activity WHERE query = '{waiting}' AND state = 'active'"
        if is_cancelled:
            while not await server.run(lambda connection: fetch_all(connection, asked)):
                pass
            call.cancel()
        await asyncio.wait([call])
        assert is_cancelled == call.cancelled()
        while await server.run(lambda connection: fetch_all(connection, asked)):
            pass
        if not is_cancelled:
            assert "did not answer in time" in str(call.exception())
        assert [] == await numbers(server)

    async def test_connections_are_limited(self, postgres: PostgresDatabase) -> None:
        """However many calls run, a store opens as many connections as it may."""

        async def count(connection: Connection) -> int:
            row = await fetch_one(
                connection, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'limited'"
            )
            return 0 if row is None else int(row[0])

        server = connect(postgres.url + "&application_name=limited", max_connections=2)
        counts = await asyncio.gather(*(server.run(count) for _ in range(20)))
        await server.aclose()
        assert {1, 2} >= set(counts)


class TestUserTransactions:
    """A handler of the user gets the connection of a transaction, which it cannot end."""

    async def test_block_commits_or_rolls_back(self, server: PostgresConnections) -> None:
        """The end of the block commits; its error passes unchanged and rolls back."""
        async with server.open_transaction() as connection:
            await connection.execute("INSERT INTO number VALUES (1)")
            await server.limit(connection, insert(connection, 2))

        async def fail() -> None:
            async with server.open_transaction() as connection:
                await connection.execute("INSERT INTO number VALUES (3)")
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        assert [1, 2] == await numbers(server)

    async def test_code_of_the_user_cannot_commit(self, server: PostgresConnections) -> None:
        """A commit or rollback in the block is refused, so that effect and mark are stored together."""

        async def commit() -> None:
            async with server.open_transaction() as connection:
                await connection.execute("INSERT INTO number VALUES (1)")
                await connection.commit()

        with pytest.raises(psycopg.ProgrammingError):
            await commit()
        assert [] == await numbers(server)

    async def test_hidden_error_fails_the_block(self, server: PostgresConnections) -> None:
        """If a statement failed and its error was ignored, nothing is stored, so the block fails."""

        async def hide() -> None:
            async with server.open_transaction() as connection:
                await connection.execute("INSERT INTO number VALUES (1)")
                with pytest.raises(psycopg.errors.UniqueViolation):
                    await connection.execute("INSERT INTO number VALUES (1)")

        with pytest.raises(JournalError, match="let it pass"):
            await hide()
        assert [] == await numbers(server)

    async def test_error_of_our_statement_contains_no_data(self, server: PostgresConnections) -> None:
        """A statement of the library in the block raises the error of the store."""

        async def repeat() -> None:
            async with server.open_transaction() as connection:
                await server.limit(connection, insert(connection, 1))
                await server.limit(connection, insert(connection, 1))

        with pytest.raises(JournalError, match="SQLSTATE 23505"):
            await repeat()

    async def test_dead_connections_are_replaced(self, postgres: PostgresDatabase, server: PostgresConnections) -> None:
        """A block begins on another connection if the first one has died."""
        assert [] == await numbers(server)
        await to_thread.run_sync(postgres.server.restart)
        async with server.open_transaction() as connection:
            await insert(connection, 1)
        assert [1] == await numbers(server)


class TestPools:
    """A pool of the user is used with any settings, and stays open."""

    async def test_pool_of_the_user_is_used_and_stays_open(self, postgres: PostgresDatabase) -> None:
        """The store borrows its connections, with any row factory, and gives them back as they were."""
        await to_thread.run_sync(postgres.execute, "CREATE TABLE number (value integer PRIMARY KEY)")
        async with AsyncConnectionPool(
            postgres.url, min_size=1, max_size=1, open=False, kwargs={"row_factory": dict_row}
        ) as pool:
            server = connect(pool)
            await server.run(partial(insert, value=1))
            assert [1] == await numbers(server)
            async with aclosing(server.listen("numbers")) as values:
                assert await anext(values) is None
            await to_thread.run_sync(postgres.server.terminate_backends)
            await server.run(partial(insert, value=2))
            async with server.open_transaction() as connection:
                await insert(connection, 3)
            await server.aclose()

            async with pool.connection() as connection:
                assert not connection.autocommit
                cursor = await connection.execute("SELECT sum(value) FROM number")
                assert {"sum": 6} == cast("object", await cursor.fetchone())

    async def test_closed_pool_is_named(self, postgres: PostgresDatabase) -> None:
        """A pool that was not opened is the reason in the error."""
        pool = AsyncConnectionPool(postgres.url, open=False)
        with pytest.raises(JournalError, match="the pool is not open"):
            await connect(pool).run(lambda connection: fetch_one(connection, "SELECT 1"))


class TestTables:
    """The tables are created and checked before the first use."""

    async def test_processes_that_start_together_create_the_tables_once(self, postgres: PostgresDatabase) -> None:
        """Each of many stores can be the first one."""
        stores = [connect(postgres.url) for _ in range(5)]
        await asyncio.gather(*(store.run(lambda connection: execute(connection, "SELECT 1")) for store in stores))
        for store in stores:
            await store.aclose()
        rows = await to_thread.run_sync(postgres.execute, "SELECT component, version FROM veriff_schema")
        assert [("journal", SCHEMA_VERSIONS["journal"])] == rows

    async def test_newer_tables_are_refused(self, postgres: PostgresDatabase) -> None:
        """An older version of the library does not touch newer tables, and names the remedy."""
        await to_thread.run_sync(postgres.execute, TABLES)
        await to_thread.run_sync(postgres.execute, "UPDATE veriff_schema SET version = 1000")
        for migrate in (True, False):
            server = connect(postgres.url, migrate=migrate)
            with pytest.raises(ConfigurationError, match="upgrade veriff-async"):
                await server.run(lambda connection: execute(connection, "SELECT 1"))
            await server.aclose()

    async def test_tables_are_not_created_against_the_users_will(self, postgres: PostgresDatabase) -> None:
        """With ``migrate=False``, a store needs the tables that an administrator has created with the SQL files."""
        server = connect(postgres.url, migrate=False)
        with pytest.raises(ConfigurationError, match="do not exist: run veriff-async postgres migrate"):
            await server.run(lambda connection: execute(connection, "SELECT 1"))
        await to_thread.run_sync(postgres.execute, TABLES)
        await server.run(lambda connection: execute(connection, "SELECT 1"))
        await server.aclose()


class TestUse:
    """Wrong uses are refused with a remedy."""

    @pytest.mark.parametrize("url", ["postgresql://me:sesame@[host/", "sesame", "http://sesame"])
    def test_unreadable_url_is_refused_and_not_shown(self, url: str) -> None:
        """The error of a URL that libpq cannot read does not show it."""
        with pytest.raises(ConfigurationError, match="URL of PostgresJournal cannot be read") as caught:
            connect(url)
        assert "sesame" not in str(caught.value)

    @pytest.mark.parametrize("given", [None, 5, b"postgresql://localhost", object()])
    def test_server_must_be_a_url_or_a_pool(self, given: object) -> None:
        """An unset environment variable, for example, is named as the mistake."""
        with pytest.raises(ConfigurationError, match="needs the URL of PostgreSQL, or an AsyncConnectionPool"):
            connect(given)  # type: ignore[arg-type]

    def test_address_has_no_password(self) -> None:
        """The address for reprs names host, port and database."""
        assert "one,two:5433/app" == connect("postgresql://me:sesame@one,two:5433/app").address
        assert "localhost/app" == connect("dbname=app password=sesame").address

    @pytest.mark.parametrize(
        ("change", "remedy"),
        [
            ({"user": "stranger"}, "correct the user and password|does not have the database"),
            ({"dbname": "missing"}, "create it"),
            ({"port": "1"}, "check its address and whether it runs"),
            ({"options": "-csearch_path=missing"}, "does not exist; create it, or correct the search_path"),
            ({"options": "-cdefault_transaction_read_only=on"}, "give the address of the primary"),
        ],
    )
    async def test_problem_of_the_server_has_a_remedy(
        self, postgres: PostgresDatabase, change: dict[str, str], remedy: str
    ) -> None:
        """An error says what is wrong with the address, the user or the database."""
        options = {**psycopg.conninfo.conninfo_to_dict(postgres.url), **change}
        server = connect(psycopg.conninfo.make_conninfo("", **options))
        with pytest.raises(JournalError, match=remedy):
            await server.run(lambda connection: execute(connection, "SELECT 1"))
        await server.aclose()

    def test_missing_package_is_named(self) -> None:
        """Without psycopg, one sentence says what to install."""
        code = "import sys; sys.modules['psycopg'] = None; from veriff_async.inbox import PostgresInbox"
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603  our own
        assert 'pip install "veriff-async[postgres]"' in done.stderr

    def test_default_event_loop_of_windows_is_refused(self) -> None:
        """Psycopg cannot wait for sockets in a loop of this kind, so the error names one that works."""

        class ProactorEventLoop(asyncio.SelectorEventLoop):
            """A loop with the name of the one of Windows."""

        server = connect("postgresql://127.0.0.1:1/app")
        with (
            asyncio.Runner(loop_factory=ProactorEventLoop) as runner,
            pytest.raises(ConfigurationError, match=r"asyncio\.SelectorEventLoop"),
        ):
            runner.run(server.run(lambda connection: execute(connection, "SELECT 1")))

    async def test_full_pool_is_named(self, postgres: PostgresDatabase) -> None:
        """A full pool and data of another version have other errors than a server that is away."""
        async with AsyncConnectionPool(postgres.url, min_size=1, max_size=1, open=False) as pool:
            server = connect(pool)
            await server.run(lambda connection: execute(connection, "SELECT 1"))
            async with pool.connection():
                with pytest.raises(PoolTimeout) as caught:
                    await pool.getconn(timeout=0.01)
            await server.aclose()
        assert "raise max_size of the pool" in describe_problem(caught.value)
        assert "look for a newer veriff-async" in describe_problem(KeyError("status"))
        assert "cannot be reached" not in describe_problem(TimeoutError())

    async def test_lost_connection_can_be_shut_down(self, postgres: PostgresDatabase) -> None:
        """A call that ends has no connection to end, or one that is closed already."""
        BorrowedConnection().shut_down()
        connection = await psycopg.AsyncConnection.connect(postgres.url)
        await connection.close()
        BorrowedConnection(connection).shut_down()
        assert connection.closed

    def test_second_event_loop_is_refused(self, postgres: PostgresDatabase) -> None:
        """One event loop uses a store at a time; after its end another one may."""
        server = connect(postgres.url)

        async def use() -> None:
            await server.run(lambda connection: execute(connection, "SELECT 1"))

        async def first() -> None:
            await use()
            with pytest.raises(ConfigurationError, match="make one for each event loop"):
                await to_thread.run_sync(asyncio.run, use())

        async def second() -> None:
            await use()
            await server.aclose()
            with pytest.raises(JournalError, match="is closed"):
                await use()
            server.reopen()
            await use()
            await server.aclose()

        asyncio.run(first())
        asyncio.run(second())

    @needs_posix
    def test_forked_process_is_refused(self, postgres: PostgresDatabase) -> None:
        """A child process does not write to the connections of its parent, which still work."""
        program = FORKING.format(url=postgres.url)
        output = subprocess.check_output([sys.executable, "-c", program])  # noqa: S603  our own script
        assert b"make one in each process" in output


FORKING: Final = """
import asyncio, os
from veriff_async import ConfigurationError
from veriff_async.batch import PostgresJournal

journal = PostgresJournal({url!r})


async def read_in_child():
    try:
        await journal.read("a")
    except ConfigurationError as error:
        print(error, flush=True)


async def main():
    await journal.read("a")
    if not (child := os.fork()):
        try:
            asyncio._set_running_loop(None)
            asyncio.run(read_in_child())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    await journal.read("a")
    await journal.aclose()


asyncio.run(main())
"""


class TestNotifications:
    """A subscription misses nothing, or says that it may have missed something."""

    async def test_payloads_arrive_in_order(self, server: PostgresConnections) -> None:
        """The first value asks for a look at everything; then come the payloads of committed transactions."""
        async with aclosing(server.listen('an "odd" channel')) as values:
            assert await anext(values) is None
            for payload in ("1", "2"):
                await server.run(partial(notify, channel='an "odd" channel', payload=payload))
            await server.run(partial(notify, channel="another", payload="0"))
            assert ["1", "2"] == [await anext(values) for _ in range(2)]

    async def test_notification_during_a_statement_is_kept(self, postgres: PostgresDatabase) -> None:
        """A notification that comes with the response to a statement is returned by the next wait."""
        async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection:
            notifications = Notifications(connection, "numbers")
            await notifications.start()
            await execute(connection, "SELECT pg_notify('numbers', '1')")
            assert ["1"] == await notifications.wait(SECONDS)

    async def test_reconnection_asks_for_a_look_at_everything(
        self, postgres: PostgresDatabase, server: PostgresConnections
    ) -> None:
        """After the server was killed, the subscription continues with ``None``."""
        async with aclosing(server.listen("numbers")) as values:
            assert await anext(values) is None
            await to_thread.run_sync(postgres.server.restart)
            assert await anext(values) is None
            await server.run(partial(notify, channel="numbers", payload="1"))
            assert "1" == await anext(values)

    async def test_new_subscription_fails_at_once(self, postgres: PostgresDatabase) -> None:
        """A subscription that cannot begin fails, and one that cannot continue fails after some tries."""
        server = connect(postgres.url)
        async with aclosing(server.listen("numbers")) as values:
            assert await anext(values) is None
            await to_thread.run_sync(postgres.server.kill)
            with pytest.raises(JournalError, match="cannot be reached"):
                await anext(values)
        async with aclosing(server.listen("numbers")) as values:
            with pytest.raises(JournalError, match="cannot be reached"):
                await anext(values)
        await server.aclose()

    async def test_closing_ends_subscriptions(self, server: PostgresConnections) -> None:
        """A subscription that waits ends when the store is closed."""
        async with aclosing(server.listen("numbers")) as values:
            assert await anext(values) is None
            waiting = asyncio.ensure_future(anext(values))
            await asyncio.sleep(0)
            await server.aclose()
            with pytest.raises(JournalError, match="closed"):
                await waiting

    async def test_silent_connection_is_checked(
        self, postgres: PostgresDatabase, server: PostgresConnections, advance_time: Callable[[float], None]
    ) -> None:
        """After some seconds without a notification, the subscription checks its connection."""
        asked = "SELECT FROM pg_stat_activity WHERE query = 'SELECT 1'"
        async with aclosing(server.listen("numbers")) as values:
            assert await anext(values) is None
            waiting = asyncio.ensure_future(anext(values))
            while not await to_thread.run_sync(postgres.execute, asked):
                advance_time(1)
            assert "" == await waiting

    async def test_without_notifications_it_polls(
        self, postgres: PostgresDatabase, caplog: pytest.LogCaptureFixture, advance_time: Callable[[float], None]
    ) -> None:
        """Behind a pooler that passes no notifications on, it yields an empty text every second, and logs that once."""
        async with proxy_of(postgres) as proxy:
            server = connect(proxy.url, timeout=10_000)  # of the time that the test advances
            await server.run(lambda connection: execute(connection, "SELECT 1"))
            proxy.has_notifications = False
            async with aclosing(server.listen("numbers")) as values:
                first = asyncio.ensure_future(anext(values))
                while not first.done():
                    advance_time(0.5)
                    await asyncio.sleep(0.001)
                assert first.result() is None
                for _ in range(3):
                    following = asyncio.ensure_future(anext(values))
                    await asyncio.sleep(0)
                    assert not following.done()
                    advance_time(1)
                    assert "" == await following
                async with aclosing(server.listen("numbers")) as others:
                    assert await anext(others) is None
                advance_time(300)
                again = asyncio.ensure_future(anext(values))
                while not again.done():
                    advance_time(0.5)
                    await asyncio.sleep(0.001)
                assert again.result() is None
                proxy.has_notifications = True
                advance_time(300)
                assert await anext(values) is None
                await server.run(partial(notify, channel="numbers", payload="1"))
                assert "1" == await anext(values)
            await server.aclose()
        logged = [record.getMessage() for record in caplog.records if record.name.startswith("veriff_async")]
        assert 1 == len(logged)
        assert "PgBouncer" in logged[0]
