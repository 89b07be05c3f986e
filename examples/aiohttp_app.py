"""Verification in an aiohttp.web application.

Run it:  python aiohttp_app.py
Settings: the variables of VeriffClient.from_env(), VERIFF_INBOX (a file on a disk of this machine), PORT.
In the Customer Portal, set the webhook addresses to https://your.host/webhooks/veriff.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

from veriff_async import (
    ApiError,
    AuthenticationError,
    ClientClosedError,
    DecisionTimeoutError,
    InvalidArgumentError,
    Media,
    MediaError,
    PermissionDeniedError,
    RateLimitedError,
    TransportError,
    VeriffClient,
    VeriffError,
)
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, aiohttp_app

VERIFF = web.AppKey("veriff", VeriffClient)


def status_of(error: VeriffError) -> int:
    """Return the status of the response: 4xx if the user can correct the request, otherwise 502 or 503."""
    match error:
        case ClientClosedError() | TransportError() | RateLimitedError():
            return 503  # try again
        case InvalidArgumentError() | MediaError():
            return 400  # an unknown context, an invalid session id, an empty file or one that is not an image
        case AuthenticationError() | PermissionDeniedError():
            return 502  # our own API key is wrong
        case ApiError(status=status) if status < 500:
            return status  # 404 for an unknown session, 409 for one that was already submitted
        case _:
            return 502


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn an error of the library into a response."""
    try:
        return await handler(request)
    except VeriffError as error:
        status = status_of(error)
        # Messages contain neither secrets nor personal data, so users may see those about their own mistakes.
        reason = str(error) if status < 500 else "The verification service is not available: try again later."
        headers = {"Retry-After": "1"} if status == 503 else None
        return web.json_response({"error": reason}, status=status, headers=headers)


async def start(request: web.Request) -> web.Response:
    """Start the verification of a user."""
    user_id = request.query.get("user_id")
    if not user_id:
        raise web.HTTPUnprocessableEntity(text="user_id is missing")
    session = await request.app[VERIFF].create_session(vendor_data=user_id)
    return web.json_response({"id": session.id})


async def upload(request: web.Request) -> web.Response:
    """Stream an image to Veriff; it is never in memory as a whole."""
    session = request.app[VERIFF].session(request.match_info["session_id"])
    await session.upload(Media(request.content, request.match_info["context"]))
    return web.Response(status=204)


async def submit(request: web.Request) -> web.Response:
    """Submit the session for a decision."""
    await request.app[VERIFF].session(request.match_info["session_id"]).submit()
    return web.Response(status=204)


async def decide(request: web.Request) -> web.Response:
    """Respond when there is a decision."""
    session = request.app[VERIFF].session(request.match_info["session_id"])
    try:
        decision = await session.wait_for_decision(timeout=50)
    except DecisionTimeoutError:
        return web.json_response({"status": None}, status=202)  # the browser repeats the request, also after a 503
    return web.json_response({"status": decision.status, "source": decision.source, "pid": os.getpid()})


async def health(request: web.Request) -> web.Response:
    """Return that this process is running."""
    return web.json_response({"pid": os.getpid(), "waiting": request.app[VERIFF].statistics().waiters})


async def create_app() -> web.Application:
    """Create the application."""
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    veriff = VeriffClient.from_env(inbox=inbox)
    receiver = WebhookReceiver(veriff.credentials, inbox)

    async def lifespan(_app: web.Application) -> AsyncIterator[None]:
        async with inbox, veriff:
            yield

    async def end_waits(_app: web.Application) -> None:
        # aiohttp waits for open requests afterwards, so requests that wait for a decision must end immediately.
        veriff.end_waits()

    app = web.Application(middlewares=[answer_errors])
    app[VERIFF] = veriff
    app.cleanup_ctx.append(lifespan)
    app.on_shutdown.append(end_waits)
    app.add_subapp("/webhooks/veriff", aiohttp_app(receiver))  # closes the receiver at shutdown, before `lifespan` ends
    app.router.add_post("/sessions", start)
    app.router.add_put("/sessions/{session_id}/media/{context}", upload)
    app.router.add_post("/sessions/{session_id}/submit", submit)
    app.router.add_get("/sessions/{session_id}/decision", decide)
    app.router.add_get("/health", health)
    return app


if __name__ == "__main__":
    web.run_app(create_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
