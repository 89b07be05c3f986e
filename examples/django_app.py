"""Webhooks in Django, as an async view; a whole project in one file.

Run it:  uvicorn django_app:application
Settings: the variables of Credentials.from_env(), VERIFF_INBOX (a file that all workers share), DJANGO_SECRET_KEY.

It needs an ASGI server: under WSGI each request has an event loop of its own, which ends with it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from veriff_async import Credentials
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app

settings.configure(
    ALLOWED_HOSTS=os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1").split(","),
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ["DJANGO_SECRET_KEY"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    APPEND_SLASH=False,  # it would answer a POST without a slash with a redirect
)
django.setup()

Receive = Callable[[], Awaitable[Mapping[str, object]]]
Send = Callable[..., Awaitable[None]]

MOST = 1_048_576
inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
receiver = WebhookReceiver(Credentials.from_env(), inbox, max_body=MOST)


@csrf_exempt
async def receive_webhook(request: HttpRequest) -> HttpResponse:
    """Hand over the raw body, at most one byte more than is taken."""
    response = await receiver.handle(request.method or "", request.headers, request.read(MOST + 1))
    return HttpResponse(response.body, status=response.status, headers=dict(response.headers))


urlpatterns = [path("webhooks/veriff", receive_webhook)]

_django = get_asgi_application()
_lifespan = asgi_app(receiver)


async def application(scope: Mapping[str, object], receive: Receive, send: Send) -> None:
    """Live as long as the server, which Django alone does not notice; all else is Django's."""
    if scope["type"] != "lifespan":
        await _django(scope, receive, send)
        return

    async def send_around(message: Mapping[str, object]) -> None:
        # The inbox is opened at each start. It is closed after the receiver, and before the server hears of the end,
        # since the server waits for nothing more then.
        if message["type"] == "lifespan.startup.complete":
            await inbox.__aenter__()
        elif message["type"] == "lifespan.shutdown.complete":
            await inbox.aclose()
        await send(message)

    await _lifespan(scope, receive, send_around)
