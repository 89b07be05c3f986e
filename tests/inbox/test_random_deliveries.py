"""Queues, leases, outcomes, clocks, erasure and restarts in any order: every inbox does what a simple model does.

``VERIFF_EXAMPLES=500`` runs as many examples with each inbox; by default a few.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, Phase, given, settings

from tests.inbox.delivery_model import check_history, histories
from veriff_async.inbox import MemoryInbox, PostgresInbox, RedisInbox, SqliteInbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.inbox.delivery_model import History
    from tests.postgres_server import PostgresDatabase
    from tests.servers import RedisServer
    from veriff_async.inbox import DeliveryInbox

EXAMPLES: Final = os.environ.get("VERIFF_EXAMPLES")


def run_examples(check: Callable[[History], Awaitable[None]], few: int) -> None:
    """Check random histories, each in the same event loop."""
    # Finding a shorter history takes minutes with a server.
    phases = tuple(Phase) if EXAMPLES else (Phase.explicit, Phase.generate)
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:

        @settings(
            max_examples=int(EXAMPLES) if EXAMPLES else few, deadline=None, suppress_health_check=slow, phases=phases
        )
        @given(history=histories())
        def run(history: History) -> None:
            async def check_one() -> None:
                await check(history)

            runner.run(check_one())

        run()


def test_random_deliveries_in_memory() -> None:
    """In one process, all handles are one inbox."""

    async def check(history: History) -> None:
        inboxes: list[MemoryInbox] = []

        async def open_inbox(now: Callable[[], float]) -> DeliveryInbox:
            inboxes[:] = inboxes or [MemoryInbox(now=now)]
            return inboxes[0]

        await check_history(open_inbox, history, survives=False)

    run_examples(check, 40)


def test_random_deliveries_in_sqlite(tmp_path: Path) -> None:
    """On one machine, two processes share a file and reopen it."""
    files = iter(range(10**9))

    async def check(history: History) -> None:
        path = tmp_path / f"{next(files)}.db"

        async def open_inbox(now: Callable[[], float]) -> DeliveryInbox:
            return SqliteInbox(path, now=now)

        await check_history(open_inbox, history)

    run_examples(check, 5)


def test_random_deliveries_in_redis(single_redis_server: RedisServer) -> None:
    """On many machines, two processes share a server."""

    async def check(history: History) -> None:
        await asyncio.to_thread(single_redis_server.flush)

        async def open_inbox(now: Callable[[], float]) -> DeliveryInbox:
            return RedisInbox(single_redis_server.url, now=now)

        await check_history(open_inbox, history)

    run_examples(check, 8)


def test_random_deliveries_in_postgresql(postgres: PostgresDatabase) -> None:
    """The same with the tables of a database."""
    schema = postgres.schema

    async def check(history: History) -> None:
        await asyncio.to_thread(postgres.execute, f"DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}")

        async def open_inbox(now: Callable[[], float]) -> DeliveryInbox:
            return PostgresInbox(postgres.url, now=now)

        await check_history(open_inbox, history)

    run_examples(check, 3)
