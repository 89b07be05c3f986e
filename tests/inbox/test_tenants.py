"""Two tenants with an inbox each: a file, a prefix or a schema keeps them apart."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import uuid4

import pytest

from veriff_async import Credentials, DecisionEvent, WebhookReceiver
from veriff_async._protocol.signed_headers import webhook_headers
from veriff_async._protocol.webhook import dump_event
from veriff_async.inbox import PostgresInbox, RedisInbox, SessionSearch, SqliteInbox
from veriff_async.testing import decision_event
from veriff_async.webhooks import IntegrationReceiver

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres_server import PostgresDatabase
    from tests.servers import RedisServer
    from veriff_async.inbox import Delivery

pytestmark = pytest.mark.anyio

Stored: TypeAlias = SqliteInbox | RedisInbox | PostgresInbox

SHOP: Final = Credentials("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "secret of the shop")
BANK: Final = Credentials("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "secret of the bank")
SESSION: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def inboxes(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Stored, Stored]:
    """Return the inboxes of two tenants on one disk or server."""
    if request.param == "sqlite":
        return SqliteInbox(tmp_path / "shop.db"), SqliteInbox(tmp_path / "bank.db")
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("single_redis_server")
        shop, bank = (f"{{{name}-{uuid4()}}}" for name in ("shop", "bank"))
        return RedisInbox(redis.url, prefix=shop), RedisInbox(redis.url, prefix=bank)
    database: PostgresDatabase = request.getfixturevalue("postgres")
    other = f"{database.schema}_bank"
    database.execute(f"CREATE SCHEMA {other}")
    return PostgresInbox(database.url), PostgresInbox(database.server.url(other))


async def test_a_tenant_sees_nothing_of_another(inboxes: tuple[Stored, Stored]) -> None:
    """Events of one session id at both: each has its own state, events, handlers, search and erasure."""
    calls = asyncio.Queue[tuple[str, str]]()
    async with inboxes[0] as shop, inboxes[1] as bank:
        receiver = IntegrationReceiver({"shop": WebhookReceiver(SHOP, shop), "bank": WebhookReceiver(BANK, bank)})

        async def note_shop(delivery: Delivery[DecisionEvent]) -> None:
            calls.put_nowait(("shop", str(delivery.event.decision.status)))

        async def note_bank(delivery: Delivery[DecisionEvent]) -> None:
            calls.put_nowait(("bank", str(delivery.event.decision.status)))

        receiver["shop"].on(DecisionEvent)(note_shop)
        receiver["bank"].on(DecisionEvent)(note_bank)
        approved, declined = (dump_event(decision_event(SESSION, status)) for status in ("approved", "declined"))
        async with receiver:
            async with aclosing(bank.subscribe()) as changes:
                assert await anext(changes) is None
                await receiver.receive(webhook_headers(SHOP, approved), approved)
                assert {} == await bank.get_states([SESSION])
                assert () == tuple(await bank.get_events(SESSION))
                assert () == (await bank.find_sessions(SessionSearch(session_id=SESSION))).sessions
                assert () == tuple(await bank.get_deliveries())
                assert 0 == (await bank.statistics()).sessions

                # The first change that the bank's waits see is the bank's own.
                own = dump_event(decision_event("own", "declined"))
                await receiver.receive(webhook_headers(BANK, own), own)
                # None only says that changes may have been missed.
                while (change := await anext(changes)) is None:
                    pass
                assert "own" == change

            await receiver.receive(webhook_headers(BANK, declined), declined)
            seen = sorted([await calls.get() for _ in range(3)])
            assert 1 == await shop.erase([SESSION])
            assert "declined" == (await bank.get_states([SESSION]))[SESSION].status
            assert {} == await shop.get_states([SESSION])

    assert [("bank", "declined"), ("bank", "declined"), ("shop", "approved")] == seen
    assert calls.empty()
