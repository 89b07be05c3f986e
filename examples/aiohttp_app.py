"""Verify the logged-in users of an aiohttp.web application.

Install: pip install veriff-async "aiohttp-session[secure]"
Run it:  python aiohttp_app.py
Settings: the variables of VeriffClient.from_env(), and
    SESSION_SECRET  encrypts the cookies of your users: 32 characters or more; the same value in each process
    VERIFF_INBOX    a file that all processes of this machine share (veriff-inbox.db)
    PORT            8080
    DEMO_LOGIN=1    adds POST /login?user=..., which stands in for the login that your site has
In the Customer Portal, set the webhook addresses to https://your.host/webhooks/veriff.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp_session
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from veriff_async import DecisionTimeoutError, Media, VeriffClient, VeriffError, problem_details
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, aiohttp_app

VERIFF = web.AppKey("veriff", VeriffClient)
UPLOADS = web.AppKey("uploads", set[asyncio.Event])
LOG = logging.getLogger("verification")


def read_secret() -> str:
    """Return SESSION_SECRET. With one that is empty or can be guessed, anyone could log in as any user."""
    secret = os.environ.get("SESSION_SECRET", "")
    if len(secret) < 32:
        msg = "SESSION_SECRET needs 32 characters or more, for example those of secrets.token_hex()."
        raise ValueError(msg)
    return secret


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn an error of the library into a response."""
    try:
        return await handler(request)
    except VeriffError as error:
        problem = problem_details(error)
        if problem.status >= 500 or problem.needs_operator:
            # The library's messages contain neither secrets nor personal data, so they may be logged.
            LOG.error("%s: %s", type(error).__name__, error)  # noqa: TRY400  a traceback may hold personal data
        return web.json_response(
            problem.to_dict(), status=problem.status, headers=problem.headers, content_type=problem.media_type
        )


def refuse(kind: type[web.HTTPError], sentence: str) -> web.HTTPError:
    """Return an exception that aiohttp turns into a response."""
    return kind(text=f'{{"detail": "{sentence}"}}', content_type="application/json")


class Cookies(EncryptedCookieStorage):
    """Logins in encrypted cookies."""

    def load_cookie(self, request: web.Request) -> str | None:
        """Return the cookie; one of other characters was never set here, and aiohttp_session fails to read it."""
        cookie = super().load_cookie(request)
        return cookie if cookie is not None and cookie.isascii() else None


async def log_in(request: web.Request) -> web.Response:
    """Log a user in without a password, for a demonstration."""
    login = await aiohttp_session.new_session(request)
    login["user"] = request.query.get("user", "")
    return web.Response(status=204)


async def session_of_user(request: web.Request) -> aiohttp_session.Session:
    """Return the login of the user who sends the request."""
    login = await aiohttp_session.get_session(request)
    if "user" not in login:
        raise refuse(web.HTTPUnauthorized, "Log in first.")
    return login


async def verification_of_user(request: web.Request) -> str:
    """Return the id of the user's verification, which never comes from the request: it could be that of another."""
    login = await session_of_user(request)
    if "verification" not in login:
        raise refuse(web.HTTPConflict, "Start a verification first.")
    return str(login["verification"])


async def start(request: web.Request) -> web.Response:
    """Start the verification of a user, or continue it."""
    login = await session_of_user(request)
    if "verification" not in login or "again" in request.query:
        # Your own id, and not a name: Veriff returns it with each decision, and shows it in the Customer Portal.
        session = await request.app[VERIFF].create_session(vendor_data=login["user"])
        login["verification"] = session.id
    return web.Response(status=204)


async def upload(request: web.Request) -> web.Response:
    """Relay a picture to Veriff as it arrives: it is never in memory as a whole."""
    session = request.app[VERIFF].session(await verification_of_user(request))
    uploads, ended = request.app[UPLOADS], asyncio.Event()
    uploads.add(ended)
    try:
        await session.upload(Media(request.content, request.match_info["context"]))
    finally:
        uploads.discard(ended)
        ended.set()
    return web.Response(status=204)


async def submit(request: web.Request) -> web.Response:
    """Submit the pictures for a decision."""
    await request.app[VERIFF].session(await verification_of_user(request)).submit()
    return web.Response(status=204)


async def decide(request: web.Request) -> web.Response:
    """Respond when there is a decision, or with 202 after 25 seconds: proxies end requests that take 30 or 60."""
    session = request.app[VERIFF].session(await verification_of_user(request))
    try:
        decision = await session.wait_for_decision(timeout=25)
    except DecisionTimeoutError:
        return web.json_response({"status": None}, status=202)  # the page repeats the request, as after a 503
    return web.json_response({"status": decision.status, "new_pictures": decision.needs_resubmission})


async def health(request: web.Request) -> web.Response:
    """Return that this process runs, for a load balancer, and how many requests wait for a decision."""
    return web.json_response({"waiting": request.app[VERIFF].statistics().waiters})


async def create_app() -> web.Application:
    """Create the application of one process."""
    demo = os.environ.get("DEMO_LOGIN") == "1"
    key = hashlib.sha256(read_secret().encode()).digest()
    # SameSite keeps other sites from sending requests in the name of a user. Plain http is for a demonstration only.
    cookies = Cookies(key, secure=not demo, samesite="Lax")

    # A webhook may arrive in any process, so all of them share the inbox: one file, or RedisInbox for many machines.
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    veriff = VeriffClient.from_env(inbox=inbox)
    receiver = WebhookReceiver(veriff.credentials, inbox)

    async def lifespan(_app: web.Application) -> AsyncIterator[None]:
        async with inbox, veriff:
            yield

    app = web.Application(middlewares=[aiohttp_session.session_middleware(cookies), answer_errors])
    app[VERIFF] = veriff
    app[UPLOADS] = set[asyncio.Event]()
    app.cleanup_ctx.append(lifespan)
    app.add_subapp("/webhooks/veriff", aiohttp_app(receiver))  # closes the receiver at shutdown, before `lifespan` ends
    app.router.add_post("/verification", start)
    app.router.add_put("/verification/media/{context}", upload)
    app.router.add_post("/verification/submit", submit)
    app.router.add_get("/verification", decide)
    app.router.add_get("/health", health)
    if demo:
        app.router.add_post("/login", log_in)
    return app


async def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, and then complete the open requests."""
    app = await create_app()
    runner = web.AppRunner(app, access_log=None)  # its log would hold the addresses of users
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()

    await site.stop()  # connections that are open stay open
    app[VERIFF].end_waits()  # with a 503, so that pages repeat the request, to another process
    # `runner.cleanup`, and so `web.run_app`, ignores the bytes that still arrive for open requests (aiohttp 3.14,
    # RequestHandler.close), so an upload would never end. Thus complete uploads before.
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            for ended in app[UPLOADS].copy():
                await ended.wait()
    await runner.cleanup()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(serve("127.0.0.1", int(os.environ.get("PORT", "8080"))))
