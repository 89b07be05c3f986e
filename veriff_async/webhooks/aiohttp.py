"""Webhooks in aiohttp.web: a handler for a route, or an application of its own to add to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from veriff_async.webhooks._http import check_path, check_receiver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.webhooks.receiver import WebhookReceiver

__all__ = ("aiohttp_app", "aiohttp_handler")


def aiohttp_handler(receiver: WebhookReceiver) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler for a route; close the receiver yourself.

    The body is read in chunks from the connection, so the receiver's `max_body` holds, not the application's
    ``client_max_size``. aiohttp unpacks compressed bodies by itself; they are refused before anything of them is read.

    Args:
        receiver: What takes the webhooks.

    Raises:
        ConfigurationError: The receiver is of another type.

    Example:
        >>> app.router.add_route("*", "/webhooks/veriff", aiohttp_handler(receiver))
    """
    check_receiver(receiver)

    async def handle(request: web.Request) -> web.Response:
        reply = await receiver.handle(
            request.method, request.headers, request.content.iter_any(), remote=request.remote
        )
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    return handle


def aiohttp_app(receiver: WebhookReceiver, path: str = "/") -> web.Application:
    """Return an application that receives at one path, opens the receiver at each start and closes it at shutdown.

    It closes it before anything is cleaned up, so an inbox that the main application opens in ``cleanup_ctx`` outlives
    it.

    Args:
        receiver: What takes the webhooks.
        path: Where, below the prefix that the application is added at; with and without a slash at its end.

    Raises:
        ConfigurationError: The receiver is of another type, or the path is not one.

    Example:
        >>> app.add_subapp("/webhooks/veriff", aiohttp_app(receiver))
    """
    app = web.Application()
    handler = aiohttp_handler(receiver)
    bare = check_path(path).rstrip("/")
    app.router.add_route("*", bare, handler)
    app.router.add_route("*", f"{bare}/", handler)

    async def open_(_app: web.Application) -> None:
        receiver.open()

    async def close(_app: web.Application) -> None:
        await receiver.aclose()

    app.on_startup.append(open_)
    app.on_shutdown.append(close)
    return app
