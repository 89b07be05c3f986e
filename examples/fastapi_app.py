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


async def on_event(result: RecordResult) -> None:
    """Run optional work after the response to Veriff, such as a mail or a metric; it is lost if the process dies."""
    print(f"pid {os.getpid()} recorded a webhook of kind {result.event.kind}", flush=True)


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


async def answer_error(_request: Request, error: Exception) -> JSONResponse:
    """Turn an error of the library into a response."""
    status = status_of(error) if isinstance(error, VeriffError) else 500
    # Messages contain neither secrets nor personal data, so users may see those about their own mistakes.
    reason = str(error) if status < 500 else "The verification service is not available: try again later."
    return JSONResponse({"error": reason}, status, headers={"Retry-After": "1"} if status == 503 else None)


def create_app() -> FastAPI:
    """Create the application of one worker process."""
    # All workers share this file, so any of them may receive the webhook.
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    veriff = VeriffClient.from_env(inbox=inbox)
    receiver = WebhookReceiver(veriff.credentials, inbox, on_event=on_event)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with inbox, veriff, receiver:  # closed in reverse order
            # The server waits for open requests before it stops, so requests that wait for a decision must end
            # immediately.
            with end_waits_on_signals(veriff):
                yield

    app = FastAPI(lifespan=lifespan)
    app.add_exception_handler(VeriffError, answer_error)
    # A route instead of a mount: a mount redirects the address without a trailing slash.
    app.router.routes.append(Route("/webhooks/veriff", asgi_app(receiver)))

    @app.post("/sessions")
    async def start(user_id: str) -> dict[str, str]:
        session = await veriff.create_session(vendor_data=user_id)
        return {"id": session.id}

    @app.put("/sessions/{session_id}/media/{context}", status_code=204)
    async def upload(session_id: str, context: str, request: Request) -> None:
        # The image is streamed, and never in memory as a whole.
        await veriff.session(session_id).upload(Media(request.stream(), context))

    @app.post("/sessions/{session_id}/submit", status_code=204)
    async def submit(session_id: str) -> None:
        await veriff.session(session_id).submit()

    @app.get("/sessions/{session_id}/decision")
    async def decide(session_id: str) -> JSONResponse:
        try:
            decision = await veriff.session(session_id).wait_for_decision(timeout=50)
        except DecisionTimeoutError:
            return JSONResponse({"status": None}, status_code=202)  # the browser repeats the request, also after a 503
        return JSONResponse({"status": decision.status, "source": decision.source, "pid": os.getpid()})

    @app.get("/health")
    async def health() -> dict[str, int]:
        return {"pid": os.getpid(), "waiting": veriff.statistics().waiters}

    return app
