"""The receivers of this library fulfil the contract, in ASGI and in aiohttp, with the effects of their handlers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.receiver_check.conftest import CREDENTIALS
from veriff_async import DecisionEvent, DeliveryPolicy
from veriff_async.inbox import MemoryInbox
from veriff_async.testing import Effects, ReceiverContract, check_receiver
from veriff_async.webhooks import WebhookReceiver, aiohttp_app, asgi_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from veriff_async.inbox import Delivery


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Drop the records about refused webhooks and failed handlers, which the cases cause on purpose."""
    logging.getLogger("veriff_async.webhooks").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("veriff_async.webhooks").setLevel(logging.NOTSET)


class Shop:
    """An application that acts on decisions, once each, in a table of its own."""

    def __init__(self) -> None:
        """Register the handler."""
        self.is_failing = False
        self.status_of: dict[str, str] = {}
        self.rows: dict[str, str] = {}
        policy = DeliveryPolicy(initial_backoff=0.0, max_backoff=0.0, max_attempts=10_000, poll_interval=0.01)
        self.receiver = WebhookReceiver(CREDENTIALS, MemoryInbox(), delivery=policy)
        self.receiver.on(DecisionEvent, name="act")(self.act)

    async def act(self, delivery: Delivery[DecisionEvent]) -> None:
        """Act on a decision."""
        if self.is_failing:
            raise OSError
        session_id = delivery.event.session_id
        self.rows[delivery.event.dedup_key] = session_id
        if delivery.ignored is None:
            self.status_of[session_id] = delivery.event.decision.status

    async def count_effects(self, session_id: str) -> Effects:
        """Return the rows of a session."""
        count = list(self.rows.values()).count(session_id)
        return Effects(count, self.status_of.get(session_id))

    async def set_failing(self, is_failing: bool) -> None:  # noqa: FBT001
        """Let the handler fail or succeed."""
        self.is_failing = is_failing


class TestAsgi(ReceiverContract):
    """`asgi_app`, an inbox in memory, and a handler."""

    credentials = CREDENTIALS
    path = "/webhooks/veriff"
    deadline = 30.0
    slow_seconds = 0.02
    settle_seconds = 0.0
    effect_seconds = 30.0
    revoked_secret = "deleted"

    def receiver(self) -> Callable[..., Awaitable[object]]:
        """Return an application for one test."""
        self.shop = Shop()
        return asgi_app(self.shop.receiver, path=self.path)

    async def count_effects(self, session_id: str) -> Effects:
        """Return the effects of the handler."""
        return await self.shop.count_effects(session_id)

    async def set_failing(self, is_failing: bool) -> None:  # noqa: FBT001
        """Let the handler fail or succeed."""
        await self.shop.set_failing(is_failing)


@pytest.mark.anyio
async def test_aiohttp_receiver_passes_every_case() -> None:
    """`aiohttp_app` behind aiohttp's server passes every case, and no case is a warning."""
    shop = Shop()
    runner = web.AppRunner(aiohttp_app(shop.receiver))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        report = await check_receiver(
            f"http://127.0.0.1:{runner.addresses[0][1]}/",
            CREDENTIALS,
            count_effects=shop.count_effects,
            set_failing=shop.set_failing,
            revoked_secret="deleted",
            deadline=30.0,
            slow_seconds=0.02,
            settle_seconds=0.0,
            effect_seconds=30.0,
        )
    finally:
        await runner.cleanup()

    assert [] == [(result.case.name, result.message) for result in report.failed]
    assert ["tls", "stalled-body"] == [
        result.case.name for result in report.results if result.outcome.value == "not_checked"
    ]
    assert report.is_ok
