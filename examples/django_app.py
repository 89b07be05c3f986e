"""Verify the logged-in users of a Django project, under ASGI; a whole project in one file.

Install: pip install veriff-async django uvicorn
Run it:  uvicorn --lifespan on django_app:application --workers 2
Settings: the variables of VeriffClient.from_env(), and
    SESSION_SECRET  Django's SECRET_KEY: 32 characters or more; the same value in each process
    ALLOWED_HOSTS   names of your site (localhost,127.0.0.1)
    VERIFF_INBOX    a file that all processes of this machine share (veriff-inbox.db)
    DEMO_LOGIN=1    adds POST /login?user=..., which stands in for the login that your site has
In the Customer Portal, set the webhook addresses to https://your.host/webhooks/veriff.

It needs an ASGI server. Under WSGI, each request of an async view has an event loop of its own, which ends with it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from veriff_async import DecisionTimeoutError, Media, VeriffClient, VeriffError, end_waits_on_signals, problem_details
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app

DEMO = os.environ.get("DEMO_LOGIN") == "1"


def read_secret() -> str:
    """Return SESSION_SECRET. With one that is empty or can be guessed, anyone could log in as any user."""
    secret = os.environ.get("SESSION_SECRET", "")
    if len(secret) < 32:
        msg = "SESSION_SECRET needs 32 characters or more, for example those of secrets.token_hex()."
        raise ValueError(msg)
    return secret


settings.configure(
    ALLOWED_HOSTS=os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(","),
    APPEND_SLASH=False,  # it would answer a POST without a slash with a redirect
    CSRF_COOKIE_SECURE=not DEMO,  # plain http is for a demonstration only
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=read_secret(),
    SESSION_COOKIE_SECURE=not DEMO,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",  # your project has a database
)
django.setup()

LOG = logging.getLogger("verification")
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
P = ParamSpec("P")
Handler = Callable[Concatenate[HttpRequest, P], Awaitable[HttpResponse]]

# A webhook may arrive in any process, so all of them share the inbox: one file, or RedisInbox for many machines.
# Opened by `application`, in the event loop of the server.
inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
veriff = VeriffClient.from_env(inbox=inbox)
receiver = WebhookReceiver(veriff.credentials, inbox)


def for_user(view: Handler[P]) -> Handler[P]:
    """Refuse requests without a login, and turn errors of the library into responses."""

    @wraps(view)
    async def checked(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if await request.session.aget("user") is None:  # your project has request.auser()
            return JsonResponse({"detail": "Log in first."}, status=401)
        try:
            return await view(request, *args, **kwargs)
        except VeriffError as error:
            problem = problem_details(error)
            if problem.status >= 500 or problem.needs_operator:
                # The library's messages contain neither secrets nor personal data, so they may be logged.
                LOG.error("%s: %s", type(error).__name__, error)  # noqa: TRY400  a traceback may hold personal data
            return JsonResponse(
                problem.to_dict(), status=problem.status, headers=problem.headers, content_type=problem.media_type
            )

    return checked


def for_verification(view: Callable[Concatenate[HttpRequest, str, P], Awaitable[HttpResponse]]) -> Handler[P]:
    """Call a view with the id of the user's verification.

    The id never comes from the request, because it could be that of another user. Your project keeps it in a table.
    """

    @wraps(view)
    async def checked(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        session_id = await request.session.aget("verification")
        if session_id is None:
            return JsonResponse({"detail": "Start a verification first."}, status=409)
        return await view(request, session_id, *args, **kwargs)

    return for_user(checked)


@require_POST
@for_user
async def start(request: HttpRequest) -> HttpResponse:
    """Start the verification of a user, or continue it."""
    if "again" in request.GET or await request.session.aget("verification") is None:
        # Your own id, and not a name: Veriff returns it with each decision, and shows it in the Customer Portal.
        session = await veriff.create_session(vendor_data=await request.session.aget("user"))
        await request.session.aset("verification", session.id)
    return HttpResponse(status=204)


@require_http_methods(["PUT"])
@for_verification
async def upload(request: HttpRequest, session_id: str, context: str) -> HttpResponse:
    """Relay a picture to Veriff.

    Django has received the whole body before it calls a view: in memory up to 2.5 MB, and in a temporary file beyond.
    """
    await veriff.session(session_id).upload(Media(request, context))
    return HttpResponse(status=204)


@require_POST
@for_verification
async def submit(_request: HttpRequest, session_id: str) -> HttpResponse:
    """Submit the pictures for a decision."""
    await veriff.session(session_id).submit()
    return HttpResponse(status=204)


@require_GET
@for_verification
async def decide(_request: HttpRequest, session_id: str) -> HttpResponse:
    """Respond when there is a decision, or with 202 after 25 seconds: proxies end requests that take 30 or 60."""
    try:
        decision = await veriff.session(session_id).wait_for_decision(timeout=25)
    except DecisionTimeoutError:
        return JsonResponse({"status": None}, status=202)  # the page repeats the request, as after a 503
    return JsonResponse({"status": decision.status, "new_pictures": decision.needs_resubmission})


async def start_or_decide(request: HttpRequest) -> HttpResponse:
    """Handle the two methods of one path."""
    return await (start if request.method == "POST" else decide)(request)


async def health(_request: HttpRequest) -> HttpResponse:
    """Return that this process runs, for a load balancer, and how many requests wait for a decision."""
    return JsonResponse({"waiting": veriff.statistics().waiters})


@csrf_exempt
async def log_in(request: HttpRequest) -> HttpResponse:
    """Log a user in without a password, for a demonstration."""
    await request.session.aflush()  # as `alogin` does: another user must not continue the verification of this browser
    await request.session.aset("user", request.GET.get("user", ""))
    get_token(request)  # sets the cookie whose value each later request repeats in the header X-CSRFToken
    return HttpResponse(status=204)


urlpatterns = [
    path("verification", start_or_decide),
    path("verification/media/<str:context>", upload),
    path("verification/submit", submit),
    path("health", health),
    *([path("login", log_in)] if DEMO else []),
]

# In front of Django, so that the raw body reaches the receiver, and no middleware redirects a webhook.
_serve = asgi_app(receiver, path="/webhooks/veriff", fallback=get_asgi_application())


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Live as long as the server, of which Django itself does not learn; serve all else."""
    if scope["type"] != "lifespan":
        await _serve(scope, receive, send)
        return
    await receive()
    async with inbox, veriff, receiver:  # closed in reverse order
        # The server completes open requests before it stops, so those that wait for a decision must end at once.
        with end_waits_on_signals(veriff):
            await send({"type": "lifespan.startup.complete"})
            await receive()
    await send({"type": "lifespan.shutdown.complete"})
