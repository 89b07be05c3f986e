"""HTTP of the hosted page: each step is a page, and each form ends in a redirect to the next step.

The token in the address is the capability, as at Veriff: the page has neither cookies nor accounts. Forms of other
origins are refused; a frame's own forms are not, so the page works inside of Veriff's in-context SDK.

The query parameter ``event`` names the message that the page posts to the page around its frame
(``@veriff/incontext-sdk`` 2.5.0 listens for it). It follows the redirect after a form.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import Status
from veriff_async.models.json import EMPTY, as_object
from veriff_async.sandbox import _payloads
from veriff_async.sandbox._decision_spec import build_decision_spec
from veriff_async.sandbox._errors import HTTPError, ImpossibleChangeError
from veriff_async.sandbox._hosted.form import PictureForm
from veriff_async.sandbox._hosted.steps import (
    OUTCOMES,
    PICTURES,
    SPECIMENS,
    Step,
    find_missing,
    outcomes,
    read_reason,
    reasons,
    step_of,
)
from veriff_async.sandbox._media_store import StorageError
from veriff_async.sandbox._web import STATIC_PATH, is_cross_site, read_form, redirect, refuse, respond, serve_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from veriff_async.sandbox._media_store import MediaStore
    from veriff_async.sandbox._records import Session
    from veriff_async.sandbox._scenario import Effect, Scenario
    from veriff_async.sandbox._service import SandboxService

__all__ = ("HostedPage",)

_EVENTS: Final = {"started": "VERIFF_STARTED", "submitted": "VERIFF_SUBMITTED"}
_UNKNOWN: Final = ("This link does not work", "The sandbox has no session with this URL, or it was deleted.")
_GUIDANCE: Final = {
    Status.APPROVED: "You are verified",
    Status.DECLINED: "You could not be verified",
    Status.EXPIRED: "This verification has expired",
    Status.ABANDONED: "This verification has expired",
    Status.REVIEW: "Your verification is being reviewed",
}


class HostedPage:
    """The handlers of the page."""

    def __init__(self, service: SandboxService, store: MediaStore) -> None:
        """Serve the sessions of a service."""
        self._service = service
        self._store = store

    def add_routes(self, app: web.Application) -> None:
        """Add the routes of the page, and of the files that pages load."""
        app.router.add_get(STATIC_PATH, serve_file)
        app.router.add_get("/v/{token}", self._for_session(self._show))
        app.router.add_get("/v/{token}/finished", self._for_session(self._show_end))
        for name, change in (("start", self._start), ("submit", self._submit), ("outcome", self._decide)):
            app.router.add_post(f"/v/{{token}}/{name}", self._for_own_pages(change))
        app.router.add_route("*", "/v/{path:.*}", self._show_unknown)

    def _for_session(
        self, handler: Callable[[web.Request, str], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            session_id = self._find(request)
            if session_id is None:
                return await self._show_unknown(request)
            try:
                return await handler(request, session_id)
            except StorageError as error:
                return refuse(error.status, error.message)
            except HTTPError:
                # The session was deleted, or the sandbox reset, while the request was read.
                return await self._show_unknown(request)

        return handle

    def _for_own_pages(
        self, change: Callable[[web.Request, str], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        for_session = self._for_session(change)

        async def handle(request: web.Request) -> web.Response:
            if is_cross_site(request):
                return refuse(403, "The sandbox accepts this form from its own page only: open the session's URL.")
            return await for_session(request)

        return handle

    def _find(self, request: web.Request) -> str | None:
        """Return the id of the session that the address names, unless it is unknown or deleted."""
        token = request.match_info["token"]
        try:
            session_id = _payloads.session_id_of(token) or ""
            known: str = self._service.read_session(session_id, lambda session: session.token)
        except HTTPError:
            return None
        # Only the whole token opens the page: the id of a session is not secret.
        return session_id.lower() if compare_digest(known.encode(), token.encode()) else None

    async def _show(self, request: web.Request, session_id: str) -> web.Response:
        event = _EVENTS.get(request.query.get("event", ""), "")
        return await self._render(session_id, event=event)

    async def _show_end(self, request: web.Request, session_id: str) -> web.Response:
        if self._service.read_session(session_id, step_of) in {Step.FINISHED, Step.OUTCOME}:
            return await self._render(session_id, step=Step.FINISHED, is_end=True, event="VERIFF_FINISHED")
        return _redirect_to_page(request)

    async def _show_unknown(self, _: web.Request) -> web.Response:
        title, text = _UNKNOWN
        return await respond("hosted/unknown.html", {"title": title, "text": text}, status=404, may_be_framed=True)

    async def _start(self, request: web.Request, session_id: str) -> web.Response:
        try:
            self._service.change(session_id, lambda scenario, session, now: scenario.start(session, now=now))
        except InvalidArgumentError:
            # Another tab was faster: the redirect shows the present step.
            return _redirect_to_page(request)
        return _redirect_to_page(request, "?event=started")

    async def _submit(self, request: web.Request, session_id: str) -> web.Response:
        async with AsyncExitStack() as files:
            form = PictureForm(self._store, files)
            try:
                await form.read(request)
            except (ValueError, HttpProcessingError, web.RequestPayloadError):
                return refuse(400, "The body is not a form: send multipart/form-data.")
            if form.wants_specimens and not form.problems:
                await form.add_specimens()
            for picture in self._service.read_session(session_id, lambda session: find_missing(session, form.pictures)):
                form.problems.setdefault(picture.context, "This picture is missing.")
            if form.problems:
                return await self._render(session_id, problems=form.problems, status=422)
            pictures = tuple(form.pictures.values())
            try:
                self._service.change(
                    session_id, lambda scenario, session, now: scenario.submit_pictures(session, pictures, now=now)
                )
            except InvalidArgumentError:
                return _redirect_to_page(request)
            form.keep()
        return _redirect_to_page(request, "?event=submitted")

    async def _decide(self, request: web.Request, session_id: str) -> web.Response:
        form = await read_form(request)
        if isinstance(form, web.Response):
            return form
        status = Status(form.get("outcome", ""))
        if status in OUTCOMES:
            spec = build_decision_spec(status, {"reason_code": read_reason(status, form.get(f"reason-{status}"))})

            def decide(scenario: Scenario, session: Session, now: datetime) -> Sequence[Effect]:
                # A decision by code or by itself may have come first. The page corrects none: for an end-user it is
                # the end, and a program may have acted on it.
                if step_of(session) is Step.FINISHED:
                    msg = "The session has a final decision."
                    raise ImpossibleChangeError(msg)
                return scenario.decide(session, spec, now=now)

            try:
                self._service.change(session_id, decide)
            except InvalidArgumentError:
                return _redirect_to_page(request)
        # A request for new pictures leads from there to the page that asks for them.
        return _redirect_to_page(request, "/finished")

    async def _render(  # noqa: PLR0913  the parts of a page
        self,
        session_id: str,
        *,
        step: Step | None = None,
        problems: Mapping[str, str] = {},
        event: str = "",
        is_end: bool = False,
        status: int = 200,
    ) -> web.Response:
        """Respond with the page of a step, by default the one that the session is at."""
        shown, values = self._service.read_session(session_id, lambda session: _describe(session, step))
        values |= {"problems": problems, "event": event, "is_end": is_end}
        seconds = self._service.options.resubmission_hold_seconds
        values["hold_seconds"] = seconds
        values["decide_after"] = self._service.rules.decide_after
        values["hold_minutes"] = f"{seconds / 60:g} minutes" if seconds % 60 == 0 else f"{seconds:g} seconds"
        return await respond(f"hosted/{shown.value}.html", values, status=status, may_be_framed=True)


def _redirect_to_page(request: web.Request, rest: str = "") -> web.Response:
    """Let the browser get the page of the session, which shows the step that the session is at."""
    return redirect(f"/v/{request.match_info['token']}{rest}")


def _describe(session: Session, step: Step | None) -> tuple[Step, dict[str, object]]:
    """Return the step and the values that its template shows."""
    decision = as_object((session.decision or EMPTY).get("verification")) or EMPTY
    name = session.person.get("firstName")
    return step or step_of(session), {
        "action": f"/v/{session.token}",
        "session_id": session.id,
        "status": str(session.status),
        "first_name": name if isinstance(name, str) else "",
        "vendor_data": session.vendor_data,
        "attempt": len(session.attempts),
        "reason": decision.get("reason"),
        "reason_code": decision.get("reasonCode"),
        "callback": session.callback,
        "headline": _GUIDANCE.get(session.status, "Thank you"),
        "pictures": PICTURES,
        "specimens": {str(context): name for context, name in SPECIMENS.items()},
        "sent": {media.context for media in session.attempt.media},
        "outcomes": [(status, *OUTCOMES[status], reasons(status)) for status in outcomes(session)],
    }
