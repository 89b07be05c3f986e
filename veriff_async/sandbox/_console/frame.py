"""The frame of every page: navigation, clock, and the sentence that a form leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from veriff_async.sandbox._console.display import describe_time
from veriff_async.sandbox._console.forms import Form
from veriff_async.sandbox._console.links import EVENTS_PATH, PAGES, link
from veriff_async.sandbox._web import read_form, redirect, respond

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from veriff_async.sandbox._service import SandboxService

__all__ = ("Frame", "finish")

# A form redirects to a page whose query names one of these, so that no text of an address is shown.
_DONE: Final = {
    "decided": "The session is decided.",
    "started": "The attempt is started.",
    "submitted": "The attempt is submitted.",
    "opened": "Another attempt is open.",
    "resent": "The webhook is posted again, as this new webhook.",
    "deliver": "The webhook is being posted.",
    "delay": "The webhook is delayed.",
    "drop": "The webhook is dropped.",
    "hold": "Webhooks are held from now on.",
    "release": "Webhooks are posted again.",
    "reorder": "The webhooks are posted in this order.",
    "injected": "The fault waits for the next matching requests.",
    "removed": "The fault is removed.",
    "cleared": "All faults are removed.",
    "chaos": "The chaos profile applies from now on.",
    "calm": "Requests and webhooks are normal from now on.",
    "advanced": "The clock is advanced, and everything due has run.",
    "rules": "The rules apply from now on.",
    "urls": "Webhooks are posted to these URLs from now on.",
    "reset": "The sandbox is empty again.",
    "seeded": "The sessions are added.",
}
_NO_VALUES: Final[Mapping[str, str]] = {}


class Frame:
    """Renders pages."""

    def __init__(self, service: SandboxService) -> None:
        """Show the pages of a service."""
        self.service = service

    async def respond(  # noqa: PLR0913  the parts of a page
        self,
        request: web.Request,
        template: str,
        values: Mapping[str, object],
        *,
        page: str = "",
        form: Form | None = None,
        problem: str = "",
        status: int | None = None,
    ) -> web.Response:
        """Respond with a page.

        Args:
            request: The request.
            template: The name of the template.
            values: The variables of the template.
            page: The path of the page in the navigation.
            form: A form whose values and problems the page shows again.
            problem: A sentence about the request as a whole.
            status: HTTP status; 422 by default with a problem, otherwise 200.
        """
        has_problem = bool(problem or (form is not None and form.problems))
        clock = self.service.clock
        now = clock.now()
        frame = {
            "page": page,
            "pages": PAGES,
            "clock": describe_time(now, now),
            "clock_runs": clock.runs,
            # A page that shows a problem follows the sandbox, too: its form is in use, and stays as it is.
            "events": EVENTS_PATH,
            "done": "" if has_problem else _DONE.get(request.query.get("done", ""), ""),
            "problem": problem,
            "values": _NO_VALUES if form is None else form.values,
            "problems": _NO_VALUES if form is None else form.problems,
        }
        # 422: the request is well-formed, and its content is refused (RFC 9110, section 15.5.21).
        if status is None:
            status = 422 if has_problem else 200
        return await respond(f"console/{template}.html", {**frame, **values}, status=status)

    def add_form(
        self, routes: web.UrlDispatcher, path: str, handle: Callable[[web.Request, Form], Awaitable[web.Response]]
    ) -> None:
        """Add the route of a form."""

        async def receive(request: web.Request) -> web.Response:
            fields = await read_form(request)
            return fields if isinstance(fields, web.Response) else await handle(request, Form(fields))

        routes.add_post(path, receive)

    async def respond_unknown(self, request: web.Request) -> web.Response:
        """Respond that a page does not exist."""
        return await self.respond(request, "unknown", {}, status=404)


def finish(path: str, word: str) -> web.Response:
    """Let the browser get a page that shows the result of a form."""
    return redirect(link(path, done=word))
