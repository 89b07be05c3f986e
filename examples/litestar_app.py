"""Webhooks in a Litestar application.

Run it:  uvicorn --factory litestar_app:create_app
Settings: the variables of Credentials.from_env(), and VERIFF_INBOX, a file that all workers share.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send

from veriff_async import Credentials
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app


def create_app() -> Litestar:
    """Make the application of one worker process."""
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    receiver = WebhookReceiver(Credentials.from_env(), inbox)
    webhooks = asgi_app(receiver)

    @asgi("/webhooks/veriff", copy_scope=False)
    async def receive_webhooks(scope: Scope, receive: Receive, send: Send) -> None:
        await webhooks(scope, receive, send)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with inbox, receiver:
            yield

    return Litestar([receive_webhooks], lifespan=[lifespan])
