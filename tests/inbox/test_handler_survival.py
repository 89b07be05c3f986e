"""A webhook that was answered 200 takes effect, whenever servers and handlers are killed.

Two servers share an inbox. Their handler writes a row into a table of its own for each call: with PostgreSQL in the
transaction of the inbox, so that each event has exactly one row, and else at least one. Both servers are killed again
and again, from outside and in the middle of a call. ``VERIFF_KILLS=300`` kills as often as that.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
from collections import defaultdict
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from tests.conditions import needs_posix
from tests.fork_server import start_python
from tests.webhooks.conftest import CREDENTIALS, message, sign_headers
from veriff_async.inbox import DeliveryStatus, PostgresInbox, RedisInbox, SqliteInbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.postgres_server import PostgresDatabase
    from tests.servers import RedisServer

pytestmark = [needs_posix, pytest.mark.usefixtures("without_coverage")]  # a killed process writes no coverage data

KILLS: Final = int(os.environ.get("VERIFF_KILLS", "1"))
SESSIONS: Final = 6
PENDING: Final = (DeliveryStatus.QUEUED, DeliveryStatus.LEASED)

SERVER: Final = """
import asyncio, os, random, sqlite3, sys
from contextlib import closing

from aiohttp import web

from veriff_async import Credentials, DeliveryPolicy, WebhookReceiver
from veriff_async.inbox import PostgresInbox, RedisInbox, SqliteInbox
from veriff_async.webhooks import aiohttp_app

place, effects, key, secret, seed, is_deadly = sys.argv[1:]
rng = random.Random(seed)


def may_die():
    if is_deadly == "1" and rng.random() < 0.1:
        os.kill(os.getpid(), 9)


def add_effect(delivery):
    may_die()  # before the effect
    with closing(sqlite3.connect(effects, timeout=30)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        event = delivery.event
        database.execute("INSERT INTO effects (session, event) VALUES (?, ?)", (event.session_id, event.dedup_key))
    may_die()  # after it, before the event is settled


async def add_effect_in_transaction(delivery, connection):
    may_die()
    event = delivery.event
    values = event.session_id, event.dedup_key
    await connection.execute("INSERT INTO effects (session, event) VALUES (%s, %s)", values)
    may_die()


def make_receiver(inbox, policy):
    receiver = WebhookReceiver(Credentials(key, secret), inbox, delivery=policy)
    if isinstance(inbox, PostgresInbox):
        receiver.on(name="effect", transaction=True)(add_effect_in_transaction)
    else:
        receiver.on(name="effect")(add_effect)
    return receiver


async def main():
    kinds = {"redis": RedisInbox, "postgresql": PostgresInbox}
    inbox = kinds.get(place.partition(":")[0], SqliteInbox)(place)
    policy = DeliveryPolicy(max_attempts=1000, lease=1, poll_interval=0.02)
    runner = web.AppRunner(aiohttp_app(make_receiver(inbox, policy), "/hooks"))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
"""


class Servers:
    """Two server processes; each is started again when it has died."""

    def __init__(self, place: str, effects: str, rng: random.Random) -> None:
        """Start none."""
        self._arguments = (place, effects, CREDENTIALS.api_key, CREDENTIALS.shared_secret)
        self._rng = rng
        self._running: dict[int, tuple[subprocess.Popen[str], int]] = {}

    async def start(self, count: int = 2, *, is_deadly: bool) -> list[int]:
        """Return the ports of both servers, which may die at any moment, or of the first one."""
        return await asyncio.gather(*(asyncio.to_thread(self._start, index, is_deadly) for index in range(count)))

    def _start(self, index: int, is_deadly: bool) -> int:  # noqa: FBT001
        found = self._running.get(index)
        if found is not None and found[0].poll() is None:
            return found[1]
        self.kill(index)
        arguments = (*self._arguments, str(self._rng.random()), str(int(is_deadly)))
        process = start_python("-c", SERVER, *arguments, environ=os.environ, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        # It may be killed by a handler of an earlier event before it listens.
        self._running[index] = process, int(process.stdout.readline() or "0")
        return self._running[index][1]

    def kill(self, index: int) -> None:
        """Kill a server."""
        found = self._running.pop(index, None)
        if found is not None:
            found[0].kill()
            found[0].communicate()


async def post(http: ClientSession, port: int, body: bytes) -> bool:
    """Post a webhook, and return whether it was answered 200."""
    with suppress(ClientError, OSError, TimeoutError):
        async with http.post(f"http://127.0.0.1:{port}/hooks", data=body, headers=sign_headers(body)) as answer:
            return answer.status == 200
    return False


async def post_and_kill(servers: Servers, rng: random.Random) -> set[tuple[str, str]]:
    """Post webhooks to both servers, kill one of them in each round, and return what was answered 200."""
    answered: set[tuple[str, str]] = set()

    async def live(http: ClientSession, session: str, ports: list[int]) -> None:
        for action, code in (("started", ":7001:"), ("submitted", ":7002:")):
            for port in ports:
                if await post(http, port, message(action, session)):
                    answered.add((session, code))
                    break

    async with ClientSession(timeout=ClientTimeout(10)) as http:
        for number in range(KILLS):
            ports = await servers.start(is_deadly=number % 2 == 0)
            lives = [
                asyncio.create_task(live(http, f"{number}-{part}", rng.sample(ports, 2))) for part in range(SESSIONS)
            ]
            for _ in range(rng.randrange(200)):
                await asyncio.sleep(0)
            await asyncio.to_thread(servers.kill, rng.randrange(2))
            await asyncio.gather(*lives)
    return answered


async def wait_until_handled(place: str) -> None:
    """Wait until no event is pending; none may be a dead letter."""
    kinds: dict[str, Callable[[str], PostgresInbox | RedisInbox]] = {"redis": RedisInbox, "postgresql": PostgresInbox}
    async with kinds.get(place.partition(":")[0], SqliteInbox)(place) as inbox:
        while True:
            counts = await inbox.statistics()
            if not counts.queued + counts.leased:
                assert 0 == counts.dead
                return
            await asyncio.sleep(0.02)


def survive(place: str, effects: str) -> set[tuple[str, str]]:
    """Post and kill, let all events be handled, and return what was answered 200."""
    rng = random.Random(place.partition(":")[0])  # noqa: S311  the same kills in every run
    servers = Servers(place, effects, rng)

    async def run() -> set[tuple[str, str]]:
        answered = await post_and_kill(servers, rng)
        for index in range(2):
            await asyncio.to_thread(servers.kill, index)
        await servers.start(1, is_deadly=False)
        await wait_until_handled(place)
        return answered

    try:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(run())
    finally:
        for index in range(2):
            servers.kill(index)


def check_effects(answered: set[tuple[str, str]], rows: list[tuple[str, str]]) -> None:
    """Compare rows of session and event, in their order, with what was answered 200."""
    first: dict[str, list[str]] = defaultdict(list)
    for session, event in rows:
        if event not in first[session]:
            first[session].append(event)
    assert len(answered) >= KILLS
    assert [] == [(session, code) for session, code in answered if not any(code in event for event in first[session])]
    # The first effects of a session are in the order of recording, in any process.
    assert [] == [events for events in first.values() if len(events) > 1 and ":7001:" not in events[0]]


def make_effects(tmp_path: Path) -> Path:
    """Create a file with the table of the application."""
    path = tmp_path / "effects.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE effects (id INTEGER PRIMARY KEY, session TEXT, event TEXT)")
    return path


def read_effects(path: Path) -> list[tuple[str, str]]:
    """Return the rows of the application's table."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT session, event FROM effects ORDER BY id").fetchall()


@pytest.mark.timeout(120 + 5 * KILLS)
def test_webhooks_take_effect_with_sqlite(tmp_path: Path) -> None:
    """Each webhook that was answered 200 has an effect, and the effects of a session are in order."""
    effects = make_effects(tmp_path)
    check_effects(survive(str(tmp_path / "inbox.db"), str(effects)), read_effects(effects))


@pytest.mark.skipif("VERIFF_KILLS" not in os.environ, reason="the same rules as with SQLite, and slow")
@pytest.mark.timeout(120 + 5 * KILLS)
def test_webhooks_take_effect_with_redis(single_redis_server: RedisServer, tmp_path: Path) -> None:
    """The same with a server that all machines share."""
    effects = make_effects(tmp_path)
    check_effects(survive(single_redis_server.url, str(effects)), read_effects(effects))


@pytest.mark.timeout(120 + 5 * KILLS)
def test_webhooks_take_effect_exactly_once_in_transactions(postgres: PostgresDatabase) -> None:
    """An effect in the transaction of the inbox happens exactly once, for what was not answered too."""
    postgres.execute("CREATE TABLE effects (id bigserial PRIMARY KEY, session text, event text)")
    answered = survive(postgres.url, "")
    rows = [(row[0], row[1]) for row in postgres.execute("SELECT session, event FROM effects ORDER BY id")]
    check_effects(answered, rows)
    assert len(rows) == len(set(rows))
    recorded = postgres.execute("SELECT count(*) FROM veriff_inbox_event")
    assert recorded[0][0] == len(rows)
