"""Finds the handler of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from veriff_async.sandbox._console.frame import Frame
from veriff_async.sandbox._console.sessions import SessionHandlers
from veriff_async.sandbox._console.setting_handlers import SettingHandlers
from veriff_async.sandbox._console.timeline import TimelineHandlers
from veriff_async.sandbox._console.webhooks import WebhookHandlers

if TYPE_CHECKING:
    from veriff_async.sandbox._service import SandboxService

__all__ = ("Router",)


class Router:
    """The pages of the console."""

    def __init__(self, service: SandboxService) -> None:
        """Show and change a service."""
        self._frame = Frame(service)
        self._routes = web.UrlDispatcher()
        for handlers in (SessionHandlers, TimelineHandlers, WebhookHandlers, SettingHandlers):
            handlers(self._frame).add_routes(self._routes)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Respond to a request for any path of the console."""
        found = await self._routes.resolve(request)
        # An unknown path, or a method that it does not have.
        if found.http_exception is not None:
            return await self._frame.respond_unknown(request)
        request.match_info.update(found)
        return await found.handler(request)
