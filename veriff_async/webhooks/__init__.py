"""Webhooks received over HTTP: one receiver, and a small file for each kind of server. Floor 3, above the inbox.

`WebhookReceiver` has all the rules; `aiohttp_handler`, `aiohttp_app` and `asgi_app` bring it requests. Recipes for
other frameworks stand in the documentation.
"""

from typing import TYPE_CHECKING

from veriff_async.late import late

if TYPE_CHECKING:
    from veriff_async.webhooks.aiohttp import aiohttp_app, aiohttp_handler
    from veriff_async.webhooks.asgi import AsgiWebhooks, asgi_app
    from veriff_async.webhooks.receiver import ReceiverStatistics, WebhookReceiver
    from veriff_async.webhooks.rules import Reply

__all__ = (
    "AsgiWebhooks",
    "ReceiverStatistics",
    "Reply",
    "WebhookReceiver",
    "aiohttp_app",
    "aiohttp_handler",
    "asgi_app",
)

_HOMES = {
    "webhooks.aiohttp": "aiohttp_app aiohttp_handler",
    "webhooks.asgi": "AsgiWebhooks asgi_app",
    "webhooks.receiver": "ReceiverStatistics WebhookReceiver",
    "webhooks.rules": "Reply",
}
"""Where names live; they are loaded when they are first used, so that a program under ASGI needs no aiohttp server."""

if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of ours
    __getattr__ = late(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
