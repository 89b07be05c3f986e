"""The web application: one page, the upload of pictures, a stream with the status, and webhooks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import Route

from identity.security import SecurityHeaders, check_request
from identity.settings import Settings
from identity.store import Record, Store
from identity.verification import ALREADY_SENT, View, explain, follow, is_submitted_before, view_of
from veriff_async import (
    BadRequestError,
    Delivery,
    Media,
    Person,
    ProblemDetails,
    VeriffClient,
    VeriffError,
    VerificationSession,
    WebhookEvent,
    end_waits_on_signals,
)
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app

logger = logging.getLogger("identity")
router = APIRouter(dependencies=[Depends(check_request)])

HERE = Path(__file__).parent
templates = Jinja2Templates(
    env=Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, auto_reload=False)
)
for name in templates.env.list_templates():
    templates.get_template(name)  # read now: a request would block the event loop

Context = Literal["document-front", "document-back", "face"]
PICTURES: dict[Context, tuple[str, str]] = {
    "document-front": ("Front of your document", "Passport, identity card or driving licence: all four corners."),
    "document-back": ("Back of your document", "Optional: a passport has none."),
    "face": ("Your face", "Alone, looking ahead, in good light."),
}
REQUIRED = frozenset({"document-front", "face"})
CREATION_SECONDS = 30.0  # less than a claim of the store lasts
TOO_FEW = "Add a picture of the front of your document, and one of your face."


@dataclass
class Verification:
    """The verification of one browser: the cookie, which only this server can sign, has its key in the store.

    No URL holds an id, so no one can open the verification of another browser. In your application, the user who is
    logged in takes the place of the browser.
    """

    browser_id: str | None
    record: Record
    store: Store
    veriff: VeriffClient
    inbox: SqliteInbox

    @property
    def session(self) -> VerificationSession | None:
        """The session at Veriff, if there is one."""
        return None if self.record.session_id is None else self.veriff.session(self.record.session_id)

    async def view(self) -> View:
        """Return what the user sees, by the store and by the webhooks that any worker has recorded."""
        if (session := self.session) is None:
            return view_of(None, is_submitted=False)
        state = (await self.inbox.get_states([session.id])).get(session.id)
        # A decision that asked for better pictures is not effective any more once they are submitted.
        decision = None if state is None else state.effective_decision
        return view_of(decision, is_submitted=self.record.is_submitted)

    async def begin(self, first_name: str, last_name: str) -> None:
        """Create a session at Veriff, unless there is one: several tabs and a second click share it."""
        if self.browser_id is None:
            raise HTTPException(400, "Allow cookies for this website, and reload the page.")
        person = Person(first_name=first_name.strip(), last_name=last_name.strip())
        while self.session is None:
            if not (person.first_name and person.last_name):  # the form requires them, and other clients do not
                raise HTTPException(400, "Enter your names, as on your document.")
            if claim := await self.store.claim(self.browser_id):
                await self._create(person, self.browser_id, claim)
            else:
                await asyncio.sleep(0.1)  # another request, maybe to another worker, is creating it
            self.record = await self.store.find(self.browser_id)

    async def _create(self, person: Person, browser_id: str, claim: str) -> None:
        try:
            async with asyncio.timeout(CREATION_SECONDS):
                # In your application, vendor_data is the user's own id.
                session = await self.veriff.create_session(person=person, vendor_data=browser_id)
            await self.store.begin(claim, session.id)
            logger.info("session %s created", session.id)
        except TimeoutError:
            raise HTTPException(503, "The service is busy: try again soon.") from None
        finally:
            await self.store.release(claim)

    async def send(self, source: AsyncIterator[bytes] | UploadFile, context: str, *, anyway: bool) -> None:
        """Send a picture to Veriff, in pieces and without its metadata; a bad one only if the user insists."""
        if (session := self.session) is None:
            raise HTTPException(410, "Start again: this browser has no verification.")
        media = Media(source, context, convert="jpeg", max_side=1920, quality=None if anyway else "refuse")
        await session.upload(media)
        await self.store.add_sent(session.id, context)

    async def submit(self) -> None:
        """Ask for a decision."""
        if self.browser_id is not None:
            self.record = await self.store.find(self.browser_id)  # with the pictures of this request
        if not (await self.view()).needs_pictures:  # the form was sent twice, or from another tab
            raise HTTPException(409, ALREADY_SENT)
        if (session := self.session) is None or not REQUIRED.issubset(self.record.sent):
            raise HTTPException(400, TOO_FEW)
        try:
            await session.submit()
        except BadRequestError as error:
            if not is_submitted_before(error):
                raise
        await self.store.set_submitted(session.id)
        logger.info("session %s submitted", session.id)


async def find_verification(request: Request) -> Verification:
    """Return the verification of the browser that sent a request."""
    state, browser_id = request.app.state, request.session.get("browser_id")
    record = Record() if browser_id is None else await state.store.find(browser_id)
    current = Verification(browser_id, record, state.store, state.veriff, state.inbox)
    request.state.current = current  # for `answer_error`
    return current


Current = Annotated[Verification, Depends(find_verification)]


@router.get("/")
async def show_page(request: Request, current: Current) -> Response:
    """Show the form or the status, so that reloading and going back always work."""
    request.session.setdefault("browser_id", str(uuid4()))
    return await render(request, current)


@router.post("/")
async def submit_form(request: Request, current: Current) -> Response:
    """Take names and pictures in one form, from a browser without JavaScript."""
    async with request.form(max_files=len(PICTURES), max_fields=5) as form:
        await current.begin(str(form.get("first_name", "")), str(form.get("last_name", "")))
        for context in PICTURES:
            file = form.get(context)
            if isinstance(file, UploadFile) and file.size:
                await current.send(file, context, anyway="anyway" in form)
    await current.submit()
    return RedirectResponse("/", 303)


@router.post("/verification", status_code=204)
async def begin(request: Request, current: Current) -> None:
    """Create the session, before the first picture."""
    async with request.form(max_files=0, max_fields=2) as form:
        await current.begin(str(form.get("first_name", "")), str(form.get("last_name", "")))


@router.put("/pictures/{context}", status_code=204)
async def send_picture(request: Request, current: Current, context: Context, *, anyway: bool = False) -> None:
    """Pass a picture on to Veriff while it arrives."""
    await current.send(request.stream(), context, anyway=anyway)


@router.post("/submission", status_code=204)
async def submit(current: Current) -> None:
    """Submit the pictures."""
    await current.submit()


@router.post("/restart")
async def restart(current: Current) -> Response:
    """Forget a verification that has ended, or that Veriff does not know any more."""
    view = await current.view()
    if current.session is not None and (view.can_start_again or view.is_pending):
        await current.store.forget(current.session.id)
    return RedirectResponse("/", 303)


@router.get("/events")
async def stream_status(current: Current) -> Response:
    """Stream the status as server-sent events."""
    if (session := current.session) is None:
        return Response(status_code=204)  # the browser does not connect again
    headers = {"X-Accel-Buffering": "no"}  # for nginx
    return StreamingResponse(follow(session, await current.view()), media_type="text/event-stream", headers=headers)


@router.get("/health")
async def health() -> dict[str, str]:
    """Return that this process is serving, for a liveness probe: a restart would not repair Veriff or the network."""
    return {"status": "ok"}


@router.get("/readyz")
async def ready(request: Request) -> JSONResponse:
    """Return whether Veriff accepts the requests of this process, for a readiness probe; anyone may ask."""
    report = await request.app.state.veriff.check(timeout=2)
    for result in report.results:
        if result.outcome in {"warning", "failed"}:
            logger.warning("check of %s: %s", result.name, result.message)
    # The messages name the cause, so they are for the log alone.
    return JSONResponse({result.name: result.outcome for result in report.results}, 200 if report.ok else 503)


async def render(
    request: Request, current: Verification | None, error: str = "", status: int = 200, *, may_insist: bool = False
) -> Response:
    """Render the page of a verification with an error above, or the error alone."""
    values: dict[str, object] = {"view": None, "error": error, "may_insist": may_insist}
    if current is not None:
        values |= {
            "view": await current.view(),
            "sent": current.record.sent,
            "has_session": current.session is not None,
        }
        values |= {"pictures": PICTURES, "required": REQUIRED}
    return templates.TemplateResponse(request, "page.html", values, status)


async def answer_error(request: Request, error: Exception) -> Response:
    """Answer the script with JSON, and a form with the page; messages hold neither names nor pictures."""
    members: dict[str, object]
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        status, code, message = error.status_code, "", str(error.detail)
        members = {"status": status, "detail": message}
    else:
        assert isinstance(error, VeriffError)  # it handles no others
        problem = explain(error)
        status, code, message = problem.status, problem.code, problem.detail
        members, headers = problem.to_dict(), problem.headers
        logger.warning("%s: %s", type(error).__name__, error)
    current: Verification | None = getattr(request.state, "current", None)  # none if the request was refused before
    if current is not None and current.session is not None:
        if status == 409:
            await current.store.set_submitted(current.session.id)  # the response to the submission was lost
        elif code == "verification-not-found":
            await current.store.forget(current.session.id)
    if "application/json" in request.headers.get("Accept", ""):
        return JSONResponse(members, status, headers, ProblemDetails.media_type)
    if request.method != "POST" or status >= 500:
        return await render(request, None, message, status)
    may_insist = code == "picture-quality"
    return await render(request, await find_verification(request), message, status, may_insist=may_insist)


async def log_webhook(delivery: Delivery[WebhookEvent]) -> None:
    """Log a webhook. Start the work that follows a decision here, such as a mail; it is called again if it fails."""
    logger.info("%s webhook for session %s", delivery.event.kind, delivery.event.session_id)


def create_app() -> FastAPI:
    """Create the application of one worker process."""
    settings = Settings.from_env()
    logging.basicConfig(level=logging.INFO)
    inbox = SqliteInbox(settings.inbox)
    veriff = VeriffClient.from_env(inbox=inbox)
    store = Store(settings.database)
    receiver = WebhookReceiver(veriff.credentials, inbox, on_event=log_webhook)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await store.prepare()
        async with inbox, veriff, receiver:  # closed in reverse order
            # The server waits for open requests before it stops, so streams must end as soon as the signal comes.
            with end_waits_on_signals(veriff):
                yield

    # The pages of FastAPI's documentation load scripts from another host.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.veriff, app.state.inbox, app.state.store = veriff, inbox, store
    app.add_middleware(
        SessionMiddleware,
        secret_key=settings.secret_key,
        # Browsers accept this prefix from HTTPS only, and then no other subdomain can set the cookie.
        session_cookie="__Host-identity" if settings.is_secure else "identity",
        https_only=settings.is_secure,
        max_age=7 * 24 * 3600,  # then Veriff ends a session that has no decision
    )
    app.add_middleware(SecurityHeaders, is_secure=settings.is_secure)
    app.add_exception_handler(VeriffError, answer_error)
    app.add_exception_handler(HTTPException, answer_error)
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    # Veriff's requests are authenticated by their signatures, so this route does not belong to the router.
    app.router.routes.append(Route("/webhooks/veriff", asgi_app(receiver)))
    return app
