"""Verification in a FastAPI application that may have any number of worker processes.

Run it:  uvicorn --factory fastapi_app:create_app --workers 2
Settings: the variables of VeriffClient.from_env(), and VERIFF_INBOX, a file on a disk of this machine.
In the Customer Portal, set the webhook addresses to https://your.host/webhooks/veriff.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.routing import Route

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
    end_waits_on_signals,
)
from veriff_async.inbox import RecordResult, SqliteInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app


async def tell(recorded: RecordResult) -> None:
    """Do what may be missed, after the answer to Veriff: a mail, a metric."""
    print(f"pid {os.getpid()} recorded a webhook of kind {recorded.event.kind}", flush=True)


def status_of(error: VeriffError) -> int:
    """Return the status to answer with: 4xx for what the user can change, 502 or 503 for what they cannot."""
    match error:
        case ClientClosedError() | TransportError() | RateLimitedError():
            return 503  # try again
        case InvalidArgumentError() | MediaError():
            return 400  # an unknown kind of picture, no session id, a file that is no picture, an empty one
        case AuthenticationError() | PermissionDeniedError():
            return 502  # our own API key
        case ApiError(status=status) if status < 500:
            return status  # 404 for an unknown session, 409 for one that is submitted already
        case _:
            return 502


async def answer_error(_request: Request, error: Exception) -> JSONResponse:
    """Answer what the library raised."""
    status = status_of(error) if isinstance(error, VeriffError) else 500
    # A mistake of the user is explained to them; the messages hold no secrets and no personal data.
    reason = str(error) if status < 500 else "The verification service is not available: try again later."
    return JSONResponse({"error": reason}, status, headers={"Retry-After": "1"} if status == 503 else None)


def create_app() -> FastAPI:
    """Make the application of one worker process."""
    # The one choice that counts: all workers share this file, so the webhook may come to any of them.
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    veriff = VeriffClient.from_env(inbox=inbox)
    receiver = WebhookReceiver(veriff.credentials, inbox, on_event=tell)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with inbox, veriff, receiver:  # closed the other way round
            # The server waits for open requests before it stops: those that wait for a decision are to end at once.
            with end_waits_on_signals(veriff):
                yield

    app = FastAPI(lifespan=lifespan)
    app.add_exception_handler(VeriffError, answer_error)
    # A route rather than a mount: a mount answers the address without a slash at its end with a redirect.
    app.router.routes.append(Route("/webhooks/veriff", asgi_app(receiver)))

    @app.post("/sessions")
    async def start(user_id: str) -> dict[str, str]:
        session = await veriff.create_session(vendor_data=user_id)
        return {"id": session.id}

    @app.put("/sessions/{session_id}/media/{context}", status_code=204)
    async def upload(session_id: str, context: str, request: Request) -> None:
        # The picture goes through; it is never whole in memory.
        await veriff.session(session_id).upload(Media(request.stream(), context))

    @app.post("/sessions/{session_id}/submit", status_code=204)
    async def submit(session_id: str) -> None:
        await veriff.session(session_id).submit()

    @app.get("/sessions/{session_id}/decision")
    async def decide(session_id: str) -> JSONResponse:
        try:
            decision = await veriff.session(session_id).wait_for_decision(timeout=50)
        except DecisionTimeoutError:
            return JSONResponse({"status": None}, status_code=202)  # the browser asks again, also after a 503
        return JSONResponse({"status": decision.status, "source": decision.source, "pid": os.getpid()})

    @app.get("/health")
    async def health() -> dict[str, int]:
        return {"pid": os.getpid(), "waiting": veriff.statistics().waiters}

    return app
