"""The receivers of this library fulfil the contract, in ASGI and in aiohttp, with the effects of their handlers."""

from __future__ import annotations

import asyncio
import logging
import socket
import unittest
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.receiver_check.conftest import CREDENTIALS
from veriff_async import DecisionEvent, DeliveryPolicy
from veriff_async.inbox import MemoryInbox
from veriff_async.testing import Effects, ReceiverContract, ReceiverWarning, check_receiver
from veriff_async.webhooks import WebhookReceiver, aiohttp_app, asgi_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

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


class Careless(ReceiverContract):
    """An endpoint that answers 200 to everything; its tests are called one by one."""

    credentials = CREDENTIALS
    deadline = 30.0
    slow_seconds = 0.02

    def receiver(self) -> Callable[..., Awaitable[object]]:
        """Return the application."""

        async def accept(scope: Mapping[str, object], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
            assert "http" == scope["type"]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        return accept


def run_rule(case: ReceiverContract, name: str) -> None:
    """Run one test of a contract."""
    getattr(case, name)()


def test_contract_reports_each_outcome_in_the_way_of_test_runners() -> None:
    """An error fails its test with a remedy, a warning is a warning, and a case that needs more is skipped."""
    run_rule(Careless(), "test_decision_approved")
    with pytest.raises(AssertionError, match=r"accepted with HTTP 200\.\nSent: .*\n.*\nFix: "):
        run_rule(Careless(), "test_signature_missing")
    with pytest.warns(ReceiverWarning, match="api-key-other: "):
        run_rule(Careless(), "test_api_key_other")
    for name, reason in (
        ("test_tls", "public URL"),
        ("test_failing_handler", "override"),
        ("test_effect_once", "count"),
    ):
        with pytest.raises(unittest.SkipTest, match=reason):
            run_rule(Careless(), name)


def test_contract_needs_a_receiver_that_listens() -> None:
    """A contract without a receiver, or with a URL at which nothing listens, fails each test and says why."""

    class Absent(ReceiverContract):
        credentials = CREDENTIALS

        def receiver(self) -> str:
            return url

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # it does not listen, and keeps the port from others
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(AssertionError, match="The endpoint is not reachable: no connection"):
            run_rule(Absent(), "test_decision_approved")


def test_methods_of_the_contract_are_to_be_overridden() -> None:
    """A contract without `receiver` fails; the functions for effects and failures are not called unless overridden."""

    class Empty(ReceiverContract):
        credentials = CREDENTIALS

    with pytest.raises(NotImplementedError):
        run_rule(Empty(), "test_decision_approved")
    for call in (Empty().count_effects("a session"), Empty().set_failing(True)):
        with pytest.raises(NotImplementedError):
            asyncio.run(call)
