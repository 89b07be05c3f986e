"""Verify the users of an AWS Lambda function, behind API Gateway (REST or HTTP API), through Mangum.

Install: pip install "veriff-async[redis]" mangum starlette
Handler: lambda_app.handler
Settings: the variables of VeriffClient.from_env(), and
    REDIS_URL     a Redis in the function's network, which all its instances share (redis://localhost:6379/0)
    TOKEN_SECRET  protects the tokens that users hold: 32 characters or more; the same value in each instance
The gateway's authorizer (JWT or Cognito) logs users in; the path /webhooks/veriff must not have one.
In the Customer Portal, set the webhook addresses to https://your.host/webhooks/veriff.

A function has no memory of its own, so a user holds the id of the verification, in a token that is valid for this user
only.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mangum import Mangum
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from veriff_async import (
    DecisionTimeoutError,
    Delivery,
    Media,
    VeriffClient,
    VeriffError,
    VerificationSession,
    WebhookEvent,
    problem_details,
)
from veriff_async.inbox import RedisInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app

LOG = logging.getLogger("verification")
TOKEN_SECRET = os.environ.get("TOKEN_SECRET", "").encode()
if len(TOKEN_SECRET) < 32:  # with one that is empty or can be guessed, anyone could make tokens
    msg = "TOKEN_SECRET needs 32 characters or more, for example those of secrets.token_hex()."
    raise ValueError(msg)


async def print_event(delivery: Delivery[WebhookEvent]) -> None:
    """Handle an event after its record: at least once, so again if this invocation ends before."""
    print(f"recorded a webhook of kind {delivery.event.kind}", flush=True)


# Opened when first used, and kept from one invocation to the next, with their connections.
inbox = RedisInbox(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))
veriff = VeriffClient.from_env(inbox=inbox)
receiver = WebhookReceiver(veriff.credentials, inbox, on_event=print_event)


async def answer_error(_request: Request, error: Exception) -> Response:
    """Turn an error of the library, or of a function below, into a response."""
    if isinstance(error, HTTPException):
        return JSONResponse({"detail": error.detail}, error.status_code)
    problem = problem_details(error)
    if problem.status >= 500 or problem.needs_operator:
        # The library's messages contain neither secrets nor personal data, so they may be logged.
        LOG.error("%s: %s", type(error).__name__, error)
    # As application/json: Mangum sends a type that it does not know, such as problem.media_type, as base64.
    return JSONResponse(problem.to_dict(), problem.status, problem.headers)


def user_of(request: Request) -> str:
    """Return the id of the user, from the claims that the gateway's authorizer has checked."""
    authorizer = request.scope["aws.event"]["requestContext"].get("authorizer") or {}
    claims = authorizer.get("jwt", authorizer).get("claims") or {}  # of an HTTP API, or of a REST API
    if "sub" not in claims:
        raise HTTPException(401, "Log in first.")
    return str(claims["sub"])


def make_token(user: str, session_id: str) -> str:
    """Return a token with the id of a session, which no other user can use."""
    return f"{session_id}.{hmac.digest(TOKEN_SECRET, f'{user}/{session_id}'.encode(), 'sha256').hex()}"


def session_of(request: Request) -> VerificationSession:
    """Return the session of the token in the path."""
    token = request.path_params["token"]
    session_id, _, _ = token.partition(".")
    if not hmac.compare_digest(token.encode(), make_token(user_of(request), session_id).encode()):
        raise HTTPException(404, "This verification is not yours: start one.")
    return veriff.session(session_id)


async def start(request: Request) -> Response:
    """Start the verification of a user."""
    user = user_of(request)
    # Your own id, and not a name: Veriff returns it with each decision, and shows it in the Customer Portal.
    session = await veriff.create_session(vendor_data=user)
    return JSONResponse({"token": make_token(user, session.id)}, 201)


async def upload(request: Request) -> Response:
    """Relay a picture of at most 4.5 MB, since an event of Lambda has 6 MB with the picture in base64."""
    await session_of(request).upload(Media(request.stream(), request.path_params["context"]))
    return Response(status_code=204)


async def submit(request: Request) -> Response:
    """Submit the pictures for a decision."""
    await session_of(request).submit()
    return Response(status_code=204)


async def decide(request: Request) -> Response:
    """Respond with the decision, or at once with 202: a function that waits costs money, so the page asks again."""
    try:
        decision = await session_of(request).wait_for_decision(timeout=0)
    except DecisionTimeoutError:
        return JSONResponse({"status": None}, 202)
    return JSONResponse({"status": decision.status, "new_pictures": decision.needs_resubmission})


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    """Open the receiver in each invocation, so that `print_event` has run before Lambda freezes the process."""
    async with receiver:
        yield


app = Starlette(
    routes=[
        Route("/webhooks/veriff", asgi_app(receiver)),
        Route("/verifications", start, methods=["POST"]),
        Route("/verifications/{token}/media/{context}", upload, methods=["PUT"]),
        Route("/verifications/{token}/submit", submit, methods=["POST"]),
        Route("/verifications/{token}", decide),
    ],
    exception_handlers={VeriffError: answer_error, HTTPException: answer_error},
    lifespan=lifespan,
)
# Mangum decodes bodies in base64. It starts and stops the application in each invocation.
handler = Mangum(app, lifespan="on")
