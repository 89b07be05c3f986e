"""Webhooks in a Starlette application.

Run it:  uvicorn --factory starlette_app:create_app
Settings: the variables of Credentials.from_env(), and VERIFF_INBOX, a file that all workers share.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Route

from veriff_async import Credentials
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app


def create_app() -> Starlette:
    """Create the application of one worker process."""
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    receiver = WebhookReceiver(Credentials.from_env(), inbox)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with inbox, receiver:
            yield

    return Starlette(routes=[Route("/webhooks/veriff", asgi_app(receiver))], lifespan=lifespan)
