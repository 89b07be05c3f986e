"""Servers and processes that are killed: no acknowledged event is lost, and effects happen as often as promised.

``VERIFF_KILLS`` sets how many handlers are killed; from 2 on, some have no transaction, and from 10 on, a standby takes
over from a server.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import subprocess
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest

from tests.conditions import run_loop
from tests.inbox.postgres_handler import handle_events
from tests.inbox.postgres_proxy import proxy_to
from tests.postgres_server import PostgresDatabase, PostgresServer
from veriff_async import InboxError
from veriff_async._protocol.webhook import event_from
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, PostgresInbox
from veriff_async.testing import session_event
from veriff_async.testing._harness import subscribe, wait_for_change

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from veriff_async import WebhookEvent
    from veriff_async.inbox import DeliveryRecord

pytestmark = pytest.mark.anyio

HANDLER: Final = Path(__file__).with_name("postgres_handler.py")
HANDLED: Final = DeliveryOutcome(status=DeliveryStatus.HANDLED)
KILLS: Final = int(os.environ.get("VERIFF_KILLS", "1"))


async def _record_until_stored(inbox: PostgresInbox, session_id: str) -> bool:
    """Record an event as Veriff sends it, until it is acknowledged; return whether it ever counted as new."""
    is_new = False
    while True:
        try:
            is_new |= not (await inbox.record(session_event(session_id, "started"), deliver=True)).is_duplicate
        except InboxError:
            await asyncio.sleep(0.02)  # Veriff waits longer
        else:
            return is_new


async def test_killed_server_loses_no_acknowledged_event(durable_postgres: PostgresDatabase) -> None:
    """All events and outcomes that were acknowledged before and during a crash of the server are stored, each once.

    This holds although the server, by its settings, does not let commits wait for the disk.
    """
    server = durable_postgres.server
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(lambda: server.start(synchronous_commit="off", wal_writer_delay="10s"))
    async with PostgresInbox(durable_postgres.url, timeout=2) as inbox, subscribe(inbox) as changes:
        await asyncio.gather(*(_record_until_stored(inbox, f"before{number}") for number in range(10)))
        leased = await inbox.lease(5, seconds=60)
        assert all(await asyncio.gather(*(inbox.settle(delivery, HANDLED) for delivery in leased)))
        during = [asyncio.create_task(_record_until_stored(inbox, f"during{number}")) for number in range(30)]
        await asyncio.to_thread(server.restart)
        new = await asyncio.gather(*during)

        assert all(new)
        while await anext(changes) is not None:  # the subscription has survived, and says that it may have missed some
            pass
        deliveries = await inbox.lease(99, seconds=60)
        assert 35 == len({delivery.event.session_id for delivery in deliveries}) == len(deliveries)
        assert 5 == len(await inbox.get_deliveries(status=DeliveryStatus.HANDLED))


async def test_terminated_connections(postgres: PostgresDatabase) -> None:
    """Connections that an administrator ends at any moment lose no event, and each is handled in the end."""
    total = 40

    async def handle(inbox: PostgresInbox) -> None:
        records: Sequence[DeliveryRecord] = ()
        while len(records) < total:
            try:
                for delivery in await inbox.lease(5, seconds=0.5):
                    await inbox.settle(delivery, HANDLED)
                records = await inbox.get_deliveries(status=DeliveryStatus.HANDLED)
            except InboxError:
                await run_loop()

    async with PostgresInbox(postgres.url, timeout=2) as inbox, PostgresInbox(postgres.url, timeout=2) as other:
        recording = [asyncio.create_task(_record_until_stored(inbox, f"s{number}")) for number in range(total)]
        handling = [asyncio.create_task(handle(each)) for each in (inbox, other)]
        for _ in range(5):
            await asyncio.to_thread(postgres.server.terminate_backends)
        assert all(await asyncio.gather(*recording))
        await asyncio.gather(*handling)


@pytest.mark.timeout(60 + 15 * KILLS)  # a busy machine starts a process in seconds
@pytest.mark.parametrize(("mode", "kills"), [("transaction", KILLS), ("plain", KILLS // 2)][:KILLS])
async def test_killed_handlers(postgres: PostgresDatabase, mode: str, kills: int, without_coverage: None) -> None:
    """Each event has exactly one effect if effect and mark commit together, and at least one otherwise."""
    await asyncio.to_thread(postgres.execute, "CREATE TABLE effect (event text)")
    moments = random.Random(17)  # noqa: S311  of kills
    expected: set[tuple[str]] = set()
    async with PostgresInbox(postgres.socket_url) as inbox:
        for kill in range(kills):
            for number in range(20):
                event = session_event(f"s{number % 7}", "started", attempt_id=f"{kill} {number}")
                expected.add((event.dedup_key,))
                await inbox.record(event, deliver=True)
            await asyncio.to_thread(_kill_handler, postgres.socket_url, mode, moments.uniform(0, 0.1))
        handling = asyncio.create_task(handle_events(postgres.socket_url, in_transaction=mode == "transaction"))
        while (counts := await inbox.statistics()).queued or counts.leased:  # noqa: ASYNC110  in the database
            await asyncio.sleep(0.02)  # until the leases of the killed handlers have ended
        handling.cancel()
        await asyncio.wait([handling])

    effects = await asyncio.to_thread(postgres.execute, "SELECT event FROM effect")
    assert expected == set(effects)
    if mode == "transaction":
        assert len(expected) == len(effects)


def _kill_handler(url: str, mode: str, seconds: float) -> None:
    """Start a process that handles events, and kill it some seconds after it was ready."""
    command = (sys.executable, str(HANDLER), url, mode)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603  our own program
        assert process.stdout is not None
        assert b"ready" in process.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()


@pytest.mark.skipif(KILLS < 10, reason="a standby takes some seconds to start: set VERIFF_KILLS to 10 or more")
async def test_failover() -> None:
    """When a synchronous standby takes over, it has all acknowledged events, and subscribers read all states again."""
    primary = await asyncio.to_thread(PostgresServer)  # of its own: it will wait for its standby for ever
    await asyncio.to_thread(primary.start)
    async with proxy_to(PostgresDatabase(primary, "public")) as proxy, PostgresInbox(proxy.url, timeout=2) as inbox:
        await _record_until_stored(inbox, "first")
        standby = await asyncio.to_thread(_start_standby, primary)
        try:
            async with subscribe(inbox) as changes:
                recording = [asyncio.create_task(_record_until_stored(inbox, f"s{number}")) for number in range(50)]
                await asyncio.wait(recording, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.to_thread(primary.kill)
                await asyncio.to_thread(standby.execute, "SELECT pg_promote()")
                proxy.target = standby.port
                assert all(await asyncio.gather(*recording))
                while await anext(changes) is not None:
                    pass
                await inbox.record(session_event("last", "started"))
                await wait_for_change(changes, "last")
            assert 51 == len(await inbox.lease(99, seconds=60))
        finally:
            proxy.disconnect()
            await inbox.aclose()
            await asyncio.to_thread(standby.remove)
            await asyncio.to_thread(primary.remove)


def _start_standby(primary: PostgresServer) -> PostgresServer:
    """Start a synchronous standby of a server."""
    standby = PostgresServer()
    data = standby.folder / "data"
    shutil.rmtree(data)
    backup = (str(standby._binaries / "pg_basebackup"), "-D", str(data), "-R", "-c", "fast", "-d", primary.url())
    assert standby._popen(backup).wait(60) == 0
    standby.start(ready="ready to accept read-only connections")
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.execute("SELECT pg_reload_conf()")
    while primary.execute("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
        pass
    return standby


async def test_full_disk(postgres: PostgresDatabase, small_disk: Path) -> None:
    """A full disk refuses records with an error that says so; acknowledged events stay, and space ends the failure."""
    ballast = small_disk / "ballast"
    await asyncio.to_thread(ballast.write_bytes, bytes(6 * 2**20))
    await asyncio.to_thread(postgres.execute, f"CREATE TABLESPACE small LOCATION '{small_disk / 'data'}'")
    url = postgres.url + quote(" -cdefault_tablespace=small")
    stored: set[str | None] = set()

    def new_event(number: int) -> WebhookEvent:
        return event_from({"sessionId": f"s{number}", "picture": secrets.token_hex(100_000)})

    try:
        async with PostgresInbox(url) as inbox:
            numbers = count()
            with pytest.raises(InboxError, match="disk"):  # noqa: PT012  it is raised by one of many records
                while True:
                    event = new_event(next(numbers))
                    await inbox.record(event, deliver=True)
                    stored.add(event.session_id)
            await asyncio.to_thread(ballast.unlink)
            event = new_event(next(numbers))
            await inbox.record(event, deliver=True)
            assert {*stored, event.session_id} == {each.event.session_id for each in await inbox.lease(999, seconds=60)}
    finally:
        await asyncio.to_thread(_drop_tables, postgres)


def _drop_tables(postgres: PostgresDatabase) -> None:
    postgres.execute(f"DROP SCHEMA {postgres.schema} CASCADE")
    postgres.execute("CHECKPOINT")
    postgres.execute("DROP TABLESPACE small")


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresDatabase) -> Iterator[Path]:
    """Mount a disk of 12 MiB, in whose folder `data` the server may write."""
    folder = postgres.server.folder / "small"
    folder.mkdir()
    mounting = ("mount", "-t", "tmpfs", "-o", "size=12m,mode=755", "tmpfs", str(folder))
    if sys.platform == "win32" or subprocess.run(mounting, check=False, capture_output=True).returncode:  # noqa: S603
        folder.rmdir()
        pytest.skip("this system does not let the tests mount a disk")
    (folder / "data").mkdir()
    shutil.chown(folder / "data", postgres.server.folder.owner())
    yield folder
    subprocess.run(("umount", "-l", str(folder)), check=True)  # noqa: S603, S607  as above
