"""Test your own application: a local Veriff decides, and its webhook reaches the application.

Run it:  pytest test_my_app.py
The fixtures `veriff_sandbox` and `veriff_client` come with the library; this needs pytest-asyncio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from aiohttp import web

from veriff_async import Media, Person, VeriffClient
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Sandbox
from veriff_async.webhooks import WebhookReceiver, aiohttp_app


class MyApp:
    """The application under test: it verifies users, and stores the outcome."""

    def __init__(self, veriff: VeriffClient, receiver: WebhookReceiver) -> None:
        """Store the client, and mount the receiver."""
        self.veriff = veriff
        self.web = web.Application()
        self.web.add_subapp("/webhooks/veriff", aiohttp_app(receiver))
        self.may_trade: dict[str, bool] = {}

    async def verify(self, user_id: str, first_name: str, picture: bytes) -> None:
        """Wait for the decision about a user."""
        session = await self.veriff.create_session(person=Person(first_name=first_name), vendor_data=user_id)
        await session.upload(Media(picture, "document-front"))
        await session.submit()
        decision = await session.wait_for_decision(timeout=30)
        self.may_trade[user_id] = decision.is_approved


@pytest.fixture
def inbox() -> MemoryInbox:
    """Return the inbox of the application."""
    return MemoryInbox()


@pytest.fixture
def veriff_client_options(inbox: MemoryInbox) -> Mapping[str, object]:
    """Give `veriff_client` the inbox, so that webhooks end its waits."""
    return {"inbox": inbox}


@pytest_asyncio.fixture
async def my_app(veriff_sandbox: Sandbox, veriff_client: VeriffClient, inbox: MemoryInbox) -> AsyncIterator[MyApp]:
    """Serve the application, and register its address with the sandbox."""
    app = MyApp(veriff_client, WebhookReceiver(veriff_sandbox.credentials, inbox))
    runner = web.AppRunner(app.web)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    veriff_sandbox.webhook_url = f"http://127.0.0.1:{port}/webhooks/veriff"
    yield app
    await runner.cleanup()


@pytest.mark.asyncio
@pytest.mark.parametrize(("first_name", "may_trade"), [("Approve", True), ("Decline", False)])
async def test_who_is_approved_may_trade(
    my_app: MyApp, veriff_sandbox: Sandbox, first_name: str, *, may_trade: bool
) -> None:
    """The local Veriff decides by the first name; its webhook reaches the application, which acts on the decision."""
    await my_app.verify("user-42", first_name, b"\xff\xd8\xff\xe0 a picture")

    assert my_app.may_trade == {"user-42": may_trade}
    await veriff_sandbox.wait_idle()
    assert [delivery.status for delivery in veriff_sandbox.deliveries] == [200]
