"""Verification in an application of aiohttp.web.

Run it:  python aiohttp_app.py
Settings: the variables of VeriffClient.from_env(), VERIFF_INBOX (a file on a disk of this machine), PORT.
In the Customer Portal, set the webhook addresses to https://your.host/webhooks/veriff.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import web

from veriff_async import DecisionTimeoutError, Media, VeriffClient
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, aiohttp_app

VERIFF = web.AppKey("veriff", VeriffClient)


async def start(request: web.Request) -> web.Response:
    """Begin the verification of a user."""
    session = await request.app[VERIFF].create_session(vendor_data=request.query["user_id"])
    return web.json_response({"id": session.id})


async def upload(request: web.Request) -> web.Response:
    """Pass a picture through; it is never whole in memory."""
    session = request.app[VERIFF].session(request.match_info["session_id"])
    await session.upload(Media(request.content, request.match_info["context"]))
    return web.Response(status=204)


async def submit(request: web.Request) -> web.Response:
    """Have the pictures looked at."""
    await request.app[VERIFF].session(request.match_info["session_id"]).submit()
    return web.Response(status=204)


async def decide(request: web.Request) -> web.Response:
    """Answer once there is a decision."""
    session = request.app[VERIFF].session(request.match_info["session_id"])
    try:
        decision = await session.wait_for_decision(timeout=50)
    except DecisionTimeoutError:
        return web.json_response({"status": None}, status=202)  # the browser asks again
    return web.json_response({"status": decision.status, "source": decision.source, "pid": os.getpid()})


async def health(request: web.Request) -> web.Response:
    """Tell that this process runs."""
    return web.json_response({"pid": os.getpid(), "waiting": request.app[VERIFF].statistics().waiting})


async def create_app() -> web.Application:
    """Make the application."""
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    veriff = VeriffClient.from_env(inbox=inbox)
    receiver = WebhookReceiver(veriff.credentials, inbox)

    async def life(_app: web.Application) -> AsyncIterator[None]:
        async with inbox, veriff:
            yield

    app = web.Application()
    app[VERIFF] = veriff
    app.cleanup_ctx.append(life)
    app.add_subapp("/webhooks/veriff", aiohttp_app(receiver))  # closes the receiver at shutdown, before `life` ends
    app.router.add_post("/sessions", start)
    app.router.add_put("/sessions/{session_id}/media/{context}", upload)
    app.router.add_post("/sessions/{session_id}/submit", submit)
    app.router.add_get("/sessions/{session_id}/decision", decide)
    app.router.add_get("/health", health)
    return app


if __name__ == "__main__":
    web.run_app(create_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
