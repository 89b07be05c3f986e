"""The console at ``/_sandbox/``: pages that show and change a sandbox, for developers.

Modules, lower ones first:

    display    how pages write times, sizes, JSON and statuses
    links      the addresses of the pages
    settings   rules, faults and chaos become the values of templates; pure
    forms      values of forms and their problems; pure
    frame      the parts that all pages share
    timeline, webhooks, sessions, setting_handlers
               a page each: the values of its template, and its aiohttp routes, each of which reads the service and
               renders the template, or changes the service and redirects
    router     finds the handler of a path

Everything works without scripts. A form is answered with a redirect (303) to a page that shows the result, or with the
page of the form, its values and its problems (422). Scripts add search while typing and live updates; both ask for the
same pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import to_thread

from veriff_async.sandbox._control.access import CONSOLE_PATH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from veriff_async.sandbox._service import SandboxService

__all__ = ("add_console_route",)


def add_console_route(app: web.Application, service: SandboxService) -> None:
    """Add the route of the console; another module checks who may use it.

    It is one route, and the first request loads the rest: thirty routes take a quarter of a millisecond for each
    sandbox, and in most tests no page is opened.
    """
    loaded: list[Callable[[web.Request], Awaitable[web.StreamResponse]]] = []

    async def respond(request: web.Request) -> web.StreamResponse:
        if not loaded:
            # In a thread: an import reads files.
            loaded.append(await to_thread.run_sync(_load, service))
        return await loaded[0](request)

    app.router.add_route("*", CONSOLE_PATH + "{path:.*}", respond)


def _load(service: SandboxService) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    from veriff_async.sandbox._console.router import Router  # noqa: PLC0415  only if a page is opened

    return Router(service).respond
