"""The routes of the control API, and the middleware that applies the access rules.

One route takes all paths of the API: adding a route for each operation would make the start of a sandbox slower, and
each error, also that of an unknown path or method, has the form of the API.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from anyio import to_thread

from veriff_async.sandbox._control.access import API_PREFIX, CONSOLE_PATH, Area, area_of
from veriff_async.sandbox._control.errors import ControlError, answer_with_json
from veriff_async.sandbox._web import redirect, refuse, respond

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from veriff_async.sandbox._control.access import Access
    from veriff_async.sandbox._control.operation import Context

_API: Final = "veriff_async.sandbox._control.api"
_HINT: Final = "Enter the token of the sandbox, or open the address of the console that the sandbox prints."

__all__ = ("add_control_routes", "check_access")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def check_access(access: Access) -> Middleware:
    """Return the middleware that checks who sends a request, before anything else happens to it."""

    @web.middleware
    async def check(request: web.Request, handler: _Handler) -> web.StreamResponse:
        area = area_of(request)
        if area is None:
            return await handler(request)

        async def respond(request: web.Request) -> web.StreamResponse:
            response = access.check(request, area)
            return await handler(request) if response is None else response

        if area is Area.API:
            return await answer_with_json(request, respond)
        try:
            return await respond(request)
        except ControlError as error:
            return await _refuse(request, error)

    return check


async def _refuse(request: web.Request, error: ControlError) -> web.Response:
    # Browsers name HTML in "Accept" (https://developer.mozilla.org/docs/Web/HTTP/Guides/Content_negotiation); curl and
    # programs get one sentence.
    if "text/html" not in request.headers.get("Accept", ""):
        response = refuse(error.status, error.message + "\n")
        response.headers.update(error.headers)
        return response
    needs_token = error.status == HTTPStatus.UNAUTHORIZED
    values = {
        "title": "This page needs the token" if needs_token else "This request is refused",
        "message": _HINT if needs_token else error.message,
        "is_wrong": needs_token and "token" in request.query,
        "action": CONSOLE_PATH if needs_token else "",
    }
    return await respond("web/refused.html", values, status=error.status, headers=error.headers)


def add_control_routes(app: web.Application, context: Context) -> None:
    """Add the routes of the control API."""
    app.router.add_get(CONSOLE_PATH.rstrip("/"), _show_console)

    api: Any = None

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal api
        if api is None:
            # In a thread, because the first import reads files. Not taken from `sys.modules`, which has a module before
            # it is complete: `import_module` waits for the thread of another request that imports it.
            api = await to_thread.run_sync(import_module, _API)
        return cast("web.StreamResponse", await api.handle(request, context))

    for path in (API_PREFIX, API_PREFIX + "/{path:.*}"):
        app.router.add_route("*", path, handle, expect_handler=_expect)


async def _show_console(request: web.Request) -> web.Response:
    # As it was sent: a decoded line end would split the header.
    query = request.rel_url.raw_query_string
    return redirect(CONSOLE_PATH + (f"?{query}" if query else ""))


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Answer a header ``Expect``. aiohttp calls this before all middlewares, so its own error would not be JSON."""
    # Other expectations may be ignored: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return None
