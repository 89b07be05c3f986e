"""The receivers of this library fulfil the contract, in ASGI and in aiohttp."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from aiohttp import web

from tests.receiver_check.conftest import CREDENTIALS
from veriff_async import DecisionEvent
from veriff_async.inbox import MemoryInbox
from veriff_async.testing import Effects, ReceiverContract, check_receiver
from veriff_async.webhooks import WebhookReceiver, aiohttp_app, asgi_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def count_effects(inbox: MemoryInbox, session_id: str) -> Effects:
    """Return the decisions of a session, and its state."""
    decisions = [event for event in await inbox.get_events(session_id) if isinstance(event, DecisionEvent)]
    states = await inbox.get_states([session_id])
    return Effects(len(decisions), states[session_id].status if session_id in states else None)


class TestAsgi(ReceiverContract):
    """`asgi_app` with an inbox in memory."""

    credentials = CREDENTIALS
    path = "/webhooks/veriff"
    slow_seconds = 0.02
    settle_seconds = 0.0
    revoked_secret = "deleted"
    inbox: ClassVar[MemoryInbox]

    def receiver(self) -> Callable[..., Awaitable[object]]:
        """Return an application for one test."""
        type(self).inbox = MemoryInbox()
        return asgi_app(WebhookReceiver(CREDENTIALS, self.inbox), path=self.path)

    async def count_effects(self, session_id: str) -> Effects:
        """Return the recorded decisions."""
        return await count_effects(self.inbox, session_id)


@pytest.mark.anyio
async def test_aiohttp_receiver_passes_every_case() -> None:
    """`aiohttp_app` behind aiohttp's server passes every case, and no case is a warning."""
    inbox = MemoryInbox()
    runner = web.AppRunner(aiohttp_app(WebhookReceiver(CREDENTIALS, inbox)))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        report = await check_receiver(
            f"http://127.0.0.1:{runner.addresses[0][1]}/",
            CREDENTIALS,
            count_effects=lambda session_id: count_effects(inbox, session_id),
            revoked_secret="deleted",
            deadline=30.0,
            slow_seconds=0.02,
            settle_seconds=0.0,
        )
    finally:
        await runner.cleanup()

    assert [] == [(result.case.name, result.message) for result in report.failed]
    assert ["tls", "stalled-body", "failing-handler"] == [
        result.case.name for result in report.results if result.outcome.value == "not_checked"
    ]
    assert report.is_ok
