"""Webhooks in a Quart application.

Run it:  uvicorn --factory quart_app:create_app
Settings: the variables of Credentials.from_env(), and VERIFF_INBOX, a file that all workers share.
"""

from __future__ import annotations

import os

from quart import Quart

from veriff_async import Credentials
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app


def create_app() -> Quart:
    """Create the application of one worker process."""
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    receiver = WebhookReceiver(Credentials.from_env(), inbox)
    app = Quart(__name__)

    @app.before_serving
    async def open_inbox() -> None:
        await inbox.__aenter__()  # `while_serving` of Quart can start only once

    @app.after_serving
    async def close_inbox() -> None:
        await inbox.aclose()

    # In front of Quart, which would read the body by rules of its own. At shutdown it closes the receiver before the
    # inbox is closed.
    app.asgi_app = asgi_app(receiver, path="/webhooks/veriff", fallback=app.asgi_app)  # type: ignore[method-assign]
    return app
