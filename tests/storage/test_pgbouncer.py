"""PostgresJournal, erasures and subscriptions behind a real PgBouncer, where one is installed."""

from __future__ import annotations

import shutil
import socket
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread

from tests.conditions import until_in_thread
from tests.storage.test_postgres import connect
from veriff_async._storage.postgres import execute, fetch_one, notify
from veriff_async.batch import JobRecord, MediaRecord, PostgresJournal
from veriff_async.inbox import PostgresInbox
from veriff_async.testing import session_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres_server import PostgresDatabase

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed"),
]


@pytest.fixture(params=["session", "transaction"])
def pool_mode(request: pytest.FixtureRequest) -> str:
    """Return when PgBouncer gives a connection of the server to another client."""
    return str(request.param)


@pytest.fixture
def pooler(postgres: PostgresDatabase, pool_mode: str) -> Iterator[str]:
    """Run a PgBouncer with few connections, and return its URL."""
    server = postgres.server
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = server.folder / "pgbouncer.ini"
    # https://www.pgbouncer.org/config.html
    settings.write_text(
        "[databases]\n"
        f"postgres = host=127.0.0.1 port={server.port} user=postgres"
        f" connect_query='SET search_path TO {postgres.schema}'\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {pool_mode}\ndefault_pool_size = {2 if pool_mode == 'transaction' else 20}\n"
        "ignore_startup_parameters = options,extra_float_digits\n"
        # In session mode, what follows a client; without it, the next one would use the schema of all tests.
        f"server_reset_query = DISCARD ALL; SET search_path TO {postgres.schema}\n"
    )
    settings.chmod(0o644)  # the user of the server reads it
    process = server.start_program("pgbouncer", str(settings))

    def is_open() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    until_in_thread(is_open)
    yield f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
    process.kill()
    process.wait()


async def test_transactions_work_in_every_mode(pooler: str, postgres: PostgresDatabase) -> None:
    """Claims, writes and their tables work, since nothing depends on the session of a connection."""
    record = JobRecord(job_id="a", options_digest="ab", media=(MediaRecord(context="face"),))
    async with PostgresJournal(pooler, timeout=30) as journal:
        for _ in range(10):  # psycopg would prepare a statement that is used so often
            await journal.claim("a")
            await journal.write(record)
            await journal.release("a")
        assert record == await journal.read("a")
    assert [(1,)] == await to_thread.run_sync(postgres.execute, "SELECT count(*) FROM veriff_journal_records")


async def test_erasure_changes_no_connection_of_others(pooler: str) -> None:
    """An erasure waits briefly for the locks of tables; a setting for that would stay in connections of a pooler."""
    async with PostgresInbox(pooler, timeout=30) as inbox:
        await inbox.record(session_event("s", "started"))
        assert 1 == await inbox.erase(["s"])
    server = connect(pooler)
    assert ("0",) == await server.run(lambda connection: fetch_one(connection, "SHOW lock_timeout"))
    await server.aclose()


async def test_subscription_polls_only_without_notifications(
    pooler: str, pool_mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In session mode notifications arrive; in transaction mode the subscription notices that they do not."""
    server = connect(pooler)
    await server.run(lambda connection: execute(connection, "SELECT 1"))
    async with aclosing(server.listen("numbers")) as values:
        assert await anext(values) is None
        assert (pool_mode == "transaction") == server.is_polling == bool(caplog.records)
        if server.is_polling:
            assert "" == await anext(values)
        else:
            await server.run(partial(notify, channel="numbers", payload="1"))
            assert "1" == await anext(values)
        assert (1,) == await server.run(lambda connection: fetch_one(connection, "SELECT 1"))
    await server.aclose()
