"""Verify the logged-in users of a Litestar application.

Install: pip install veriff-async "litestar[cryptography]" uvicorn
Run it:  uvicorn --factory litestar_app:create_app --workers 2
Settings: the variables of VeriffClient.from_env(), and
    SESSION_SECRET  encrypts the cookies of your users: 32 characters or more; the same value in each process
    VERIFF_INBOX    a file that all processes of this machine share (veriff-inbox.db)
    DEMO_LOGIN=1    adds POST /login?user=..., which stands in for the login that your site has
In the Customer Portal, set the webhook addresses to https://your.host/webhooks/veriff.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cryptography.exceptions import InvalidTag
from litestar import Litestar, Request, Response, asgi, get, post, put
from litestar.di import Provide
from litestar.exceptions import ClientException, HTTPException, NotAuthorizedException
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.types import Receive, Scope, Send

from veriff_async import DecisionTimeoutError, Media, VeriffClient, VeriffError, end_waits_on_signals, problem_details
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app

LOG = logging.getLogger("verification")
HttpRequest = Request[Any, Any, Any]


def read_secret() -> str:
    """Return SESSION_SECRET. With one that is empty or can be guessed, anyone could log in as any user."""
    secret = os.environ.get("SESSION_SECRET", "")
    if len(secret) < 32:
        msg = "SESSION_SECRET needs 32 characters or more, for example those of secrets.token_hex()."
        raise ValueError(msg)
    return secret


def answer_error(_request: HttpRequest, error: Exception) -> Response[Any]:
    """Turn an error of the library, or of a function below, into a response."""
    if isinstance(error, HTTPException):
        return Response({"detail": error.detail}, status_code=error.status_code)
    problem = problem_details(error)
    if problem.status >= 500 or problem.needs_operator:
        # The library's messages contain neither secrets nor personal data, so they may be logged.
        LOG.error("%s: %s", type(error).__name__, error)
    return Response(
        problem.to_dict(), status_code=problem.status, headers=problem.headers, media_type=problem.media_type
    )


def forget_login(_request: HttpRequest, _error: Exception) -> Response[dict[str, str]]:
    """Delete a cookie that this application has not encrypted, or has with an earlier SESSION_SECRET."""
    response = Response({"detail": "Log in first."}, status_code=401)
    response.delete_cookie("session")
    return response


@post("/login", status_code=204)
async def log_in(request: HttpRequest, user: str) -> None:
    """Log a user in without a password, for a demonstration."""
    request.set_session({"user": user})


async def provide_user(request: HttpRequest) -> str:
    """Return the id of the user who sends the request."""
    if "user" not in request.session:
        raise NotAuthorizedException(detail="Log in first.")
    return str(request.session["user"])


async def provide_verification(request: HttpRequest, user_id: str) -> str:  # noqa: ARG001  needs a login
    """Return the id of the user's verification, which never comes from the request: it could be that of another."""
    if "verification" not in request.session:
        raise ClientException(detail="Start a verification first.", status_code=409)
    return str(request.session["verification"])


@post("/verification", status_code=204)
async def start(
    request: HttpRequest,
    veriff: VeriffClient,
    user_id: str,
    again: bool = False,  # noqa: FBT001, FBT002  of the query
) -> None:
    """Start the verification of a user, or continue it."""
    if again or "verification" not in request.session:
        # Your own id, and not a name: Veriff returns it with each decision, and shows it in the Customer Portal.
        session = await veriff.create_session(vendor_data=user_id)
        request.session["verification"] = session.id


# Without a limit of Litestar's own (10 MB), which is below Veriff's; the library stops at the latter.
@put("/verification/media/{context:str}", status_code=204, request_max_body_size=None)
async def upload(request: HttpRequest, veriff: VeriffClient, verification: str, context: str) -> None:
    """Relay a picture to Veriff as it arrives: it is never in memory as a whole."""
    await veriff.session(verification).upload(Media(request.stream(), context))


@post("/verification/submit", status_code=204)
async def submit(veriff: VeriffClient, verification: str) -> None:
    """Submit the pictures for a decision."""
    await veriff.session(verification).submit()


@get("/verification")
async def decide(veriff: VeriffClient, verification: str) -> Response[dict[str, Any]]:
    """Respond when there is a decision, or with 202 after 25 seconds: proxies end requests that take 30 or 60."""
    try:
        decision = await veriff.session(verification).wait_for_decision(timeout=25)
    except DecisionTimeoutError:
        return Response({"status": None}, status_code=202)  # the page repeats the request, as after a 503
    return Response({"status": decision.status, "new_pictures": decision.needs_resubmission})


@get("/health")
async def health(veriff: VeriffClient) -> dict[str, int]:
    """Return that this process runs, for a load balancer, and how many requests wait for a decision."""
    return {"waiting": veriff.statistics().waiters}


def create_app() -> Litestar:
    """Create the application of one worker process."""
    demo = os.environ.get("DEMO_LOGIN") == "1"
    key = hashlib.sha256(read_secret().encode()).digest()
    # SameSite keeps other sites from sending requests in the name of a user. Plain http is for a demonstration only.
    cookies = CookieBackendConfig(secret=key, secure=not demo, samesite="lax")

    # A webhook may arrive in any process, so all of them share the inbox: one file, or RedisInbox for many machines.
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    veriff = VeriffClient.from_env(inbox=inbox)
    receiver = WebhookReceiver(veriff.credentials, inbox)
    webhooks = asgi_app(receiver)

    @asgi("/webhooks/veriff", copy_scope=False)
    async def receive_webhooks(scope: Scope, receive: Receive, send: Send) -> None:
        await webhooks(scope, receive, send)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with inbox, veriff, receiver:  # closed in reverse order
            # The server completes open requests before it stops, so those that wait for a decision must end at once.
            with end_waits_on_signals(veriff):
                yield

    return Litestar(
        [receive_webhooks, start, upload, submit, decide, health, *([log_in] if demo else [])],
        dependencies={
            "veriff": Provide(lambda: veriff, sync_to_thread=False),
            "user_id": Provide(provide_user),
            "verification": Provide(provide_verification),
        },
        exception_handlers={VeriffError: answer_error, HTTPException: answer_error, InvalidTag: forget_login},
        lifespan=[lifespan],
        logging_config=None,  # the program that runs this configures logging
        middleware=[cookies.middleware],
    )
