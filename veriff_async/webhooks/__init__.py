"""Webhooks received over HTTP: one receiver, and a small file for each kind of server. Floor 3, above the inbox.

`WebhookReceiver` has all the rules; `aiohttp_handler`, `aiohttp_app` and `asgi_app` bring it requests. Recipes for
other frameworks stand in the documentation.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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

_HOME_OF = {
    "AsgiWebhooks": "asgi",
    "ReceiverStatistics": "receiver",
    "Reply": "rules",
    "WebhookReceiver": "receiver",
    "aiohttp_app": "aiohttp",
    "aiohttp_handler": "aiohttp",
    "asgi_app": "asgi",
}
"""Where names live; they are loaded when they are first used, so that a program under ASGI needs no aiohttp server."""


if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value: object = getattr(import_module(f"veriff_async.webhooks.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
