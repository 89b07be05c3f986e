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

from veriff_async import DecisionTimeoutError, Media, VeriffClient
from veriff_async.inbox import Recorded, SqliteInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app


async def tell(recorded: Recorded) -> None:
    """Do what may be missed, after the answer to Veriff: a mail, a metric."""
    print(f"pid {os.getpid()} recorded a webhook of kind {recorded.event.kind}", flush=True)


def create_app() -> FastAPI:
    """Make the application of one worker process."""
    # The one choice that counts: all workers share this file, so the webhook may come to any of them.
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    veriff = VeriffClient.from_env(inbox=inbox)
    receiver = WebhookReceiver(veriff.credentials, inbox, on_event=tell)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with inbox, veriff, receiver:  # closed the other way round
            yield

    app = FastAPI(lifespan=lifespan)
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
            return JSONResponse({"status": None}, status_code=202)  # the browser asks again
        return JSONResponse({"status": decision.status, "source": decision.source, "pid": os.getpid()})

    @app.get("/health")
    async def health() -> dict[str, int]:
        return {"pid": os.getpid(), "waiting": veriff.statistics().waiting}

    return app
