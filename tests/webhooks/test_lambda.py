"""AWS Lambda through Mangum: behind each kind of gateway, with and without a lifespan, every invocation receives."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from fastapi import FastAPI
from mangum import Mangum
from starlette.routing import Route

from tests.webhooks.conftest import CREDENTIALS, PATH, message, sign_headers
from veriff_async import explain_signature
from veriff_async.inbox import MemoryInbox
from veriff_async.webhooks import SignatureCause, WebhookReceiver, asgi_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from veriff_async import Delivery, WebhookEvent

Event = dict[str, Any]


def rest_api(headers: dict[str, str], body: str, *, is_encoded: bool) -> Event:
    """Return the event of a REST API of API Gateway (payload format 1.0)."""
    return {
        "resource": "/{proxy+}",
        "path": PATH,
        "httpMethod": "POST",
        "headers": {name.title(): value for name, value in headers.items()},
        "multiValueHeaders": {name.title(): [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"resourcePath": "/{proxy+}", "stage": "prod", "identity": {"sourceIp": "192.0.2.1"}},
        "body": body,
        "isBase64Encoded": is_encoded,
    }


def http_api(headers: dict[str, str], body: str, *, is_encoded: bool) -> Event:
    """Return the event of an HTTP API of API Gateway (payload format 2.0), which function URLs have too."""
    request = {"method": "POST", "path": PATH, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": ""}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": PATH,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {"stage": "$default", "http": request},
        "body": body,
        "isBase64Encoded": is_encoded,
    }


def balancer(headers: dict[str, str], body: str, *, is_encoded: bool) -> Event:
    """Return the event of an Application Load Balancer."""
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:0:targetgroup/a/b"}},
        "httpMethod": "POST",
        "path": PATH,
        "queryStringParameters": {},
        "headers": headers,
        "body": body,
        "isBase64Encoded": is_encoded,
    }


def balancer_of_many(headers: dict[str, str], body: str, *, is_encoded: bool) -> Event:
    """Return the event of an Application Load Balancer with multi-value headers switched on."""
    event = balancer({}, body, is_encoded=is_encoded)
    return {**event, "headers": None, "multiValueHeaders": {name: [value] for name, value in headers.items()}}


GATEWAYS: Final[list[Callable[..., Event]]] = [rest_api, http_api, balancer, balancer_of_many]
each_gateway = pytest.mark.parametrize("gateway", GATEWAYS)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give the loop that Mangum finds and keeps, as the main thread of a function has one."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()


def invoke(
    handler: Callable[[Event, Any], Event],
    gateway: Callable[..., Event],
    body: bytes,
    *,
    is_encoded: bool,
    **headers: str,
) -> int:
    """Invoke a function with one webhook, and return the status of its response."""
    text = b64encode(body).decode() if is_encoded else body.decode()
    event = gateway(sign_headers(body, **headers), text, is_encoded=is_encoded)
    return int(handler(event, None)["statusCode"])


def alone(inbox: MemoryInbox, receiver: WebhookReceiver) -> Callable[..., Any]:
    """Serve nothing else."""
    return asgi_app(receiver)


def in_fastapi(inbox: MemoryInbox, receiver: WebhookReceiver) -> Callable[..., Any]:
    """Give FastAPI a route, and a lifespan that opens the receiver."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with receiver:
            yield

    app = FastAPI(lifespan=lifespan)
    app.router.routes.append(Route(PATH, asgi_app(receiver)))
    return app


@each_gateway
@pytest.mark.parametrize("lifespan", ["on", "auto", "off"])
@pytest.mark.parametrize("is_encoded", [True, False])
@pytest.mark.parametrize("make", [alone, in_fastapi])
def test_every_invocation_receives(
    loop: asyncio.AbstractEventLoop,
    gateway: Callable[..., Event],
    lifespan: Any,  # noqa: ANN401  Mangum's own literal
    make: Callable[..., Callable[..., Any]],
    *,
    is_encoded: bool,
) -> None:
    """Each invocation of a function is answered and recorded, in base64 too; with a lifespan `on_event` ends in it."""
    called: list[str | None] = []
    inbox = MemoryInbox()

    async def call(delivery: Delivery[WebhookEvent]) -> None:
        await asyncio.sleep(0)
        called.append(delivery.event.session_id)

    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=call)
    handler = Mangum(make(inbox, receiver), lifespan=lifespan)
    for number in range(3):
        body = message(session_id=f"{number}é", newer="\u2713")
        assert 200 == invoke(handler, gateway, body, is_encoded=is_encoded)
        assert 401 == invoke(handler, gateway, body, is_encoded=is_encoded, x_hmac_signature="0" * 64)
        assert lifespan == "off" or number + 1 == len(called)
    assert 3 == receiver.statistics().recorded

    loop.run_until_complete(receiver.aclose())
    assert ["0é", "1é", "2é"] == called


@each_gateway
def test_undecoded_body_is_explained(gateway: Callable[..., Event]) -> None:
    """The explanation recognizes a body that was not decoded."""
    body = message()
    event = gateway(sign_headers(body), b64encode(body).decode(), is_encoded=True)
    found = explain_signature(sign_headers(body), event["body"].encode(), CREDENTIALS)
    assert SignatureCause.BASE64_BODY is found.cause
