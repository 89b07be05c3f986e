"""Webhooks in aiohttp.web: a handler for a route, or a sub-application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from veriff_async.webhooks._http import check_path, check_receiver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.webhooks._http import Receiver


__all__ = ("aiohttp_app", "aiohttp_handler")


def aiohttp_handler(receiver: Receiver) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler for a route; close the receiver yourself.

    The body is read in chunks from the connection, so the receiver's `max_body` holds, not the application's
    ``client_max_size``. aiohttp unpacks compressed bodies itself, so they are refused before any part of them is read.

    Args:
        receiver: A `WebhookReceiver` or an `IntegrationReceiver`.

    Raises:
        ConfigurationError: The receiver is of another type.

    Example:
        >>> app.router.add_route("*", "/webhooks/veriff", aiohttp_handler(receiver))
    """
    check_receiver(receiver)

    async def handle(request: web.Request) -> web.Response:
        response = await receiver.handle(
            request.method, request.headers, request.content.iter_any(), remote=request.remote
        )
        return web.Response(status=response.status, body=response.body, headers=response.headers)

    return handle


def aiohttp_app(receiver: Receiver, path: str = "/") -> web.Application:
    """Return an application that receives at one path, opens the receiver at startup and closes it at shutdown.

    The receiver is closed before the cleanup contexts end, so an inbox that the main application opens in
    ``cleanup_ctx`` is closed after it.

    Args:
        receiver: A `WebhookReceiver` or an `IntegrationReceiver`.
        path: The path below the prefix of the application, with and without a trailing slash.

    Raises:
        ConfigurationError: The receiver is of another type, or the path is not one.

    Example:
        >>> app.add_subapp("/webhooks/veriff", aiohttp_app(receiver))
    """
    app = web.Application()
    handler = aiohttp_handler(receiver)
    bare = check_path(path).rstrip("/")
    # Every method, so that the receiver answers a GET with its own 405.
    app.router.add_route("*", bare, handler)
    app.router.add_route("*", f"{bare}/", handler)

    async def open_(_app: web.Application) -> None:
        receiver.open()

    async def close(_app: web.Application) -> None:
        await receiver.aclose()

    app.on_startup.append(open_)
    app.on_shutdown.append(close)
    return app
