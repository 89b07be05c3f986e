"""The adapters: mounting, other requests, and shutdown."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.webhooks.conftest import CREDENTIALS, PATH, in_aiohttp, message, sign_headers, under_aiohttp, under_uvicorn
from veriff_async import ConfigurationError
from veriff_async.webhooks import WebhookReceiver, aiohttp_app, asgi_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, MutableMapping

    from starlette.requests import Request

    from veriff_async import Delivery, WebhookEvent
    from veriff_async.inbox import MemoryInbox

pytestmark = pytest.mark.anyio

BODY: Final = message()


class SlowCallback:
    """A function that ends only when the receiver is closed, and notes the events that were recorded until then."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.steps: list[str] = []
        self.may_end = asyncio.Event()

    async def __call__(self, _delivery: Delivery[WebhookEvent]) -> None:
        """Wait for the end."""
        await self.may_end.wait()
        self.steps.append("called")


@pytest.mark.parametrize("ending", ["", "/"])
async def test_aiohttp_sub_application(inbox: MemoryInbox, ending: str) -> None:
    """It answers at its prefix with and without a slash, and drains the receiver before the inbox is cleaned up."""
    callback = SlowCallback()
    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=callback)
    app = web.Application()

    async def life(_app: web.Application) -> AsyncIterator[None]:
        yield
        callback.steps.append("inbox closed")

    async def shutting_down(_app: web.Application) -> None:
        callback.may_end.set()

    app.cleanup_ctx.append(life)
    app.on_shutdown.append(shutting_down)
    app.add_subapp("/webhooks/", aiohttp_app(receiver, "/veriff"))
    async with under_aiohttp(app) as server:
        assert 200 == (await server.post(BODY, sign_headers(BODY), path=f"{PATH}{ending}")).status
        assert 404 == (await server.post(BODY, sign_headers(BODY), path=f"{PATH}/more")).status
        assert 404 == (await server.post(BODY, sign_headers(BODY), path="/")).status
    assert ["called", "inbox closed"] == callback.steps


async def test_aiohttp_sub_application_receives_at_its_prefix(receiver: WebhookReceiver) -> None:
    """Without a path of its own it answers at the prefix, and as the only application at the root."""
    app = web.Application()
    app.add_subapp(PATH, aiohttp_app(receiver))
    async with under_aiohttp(app) as server:
        assert 200 == (await server.post(BODY, sign_headers(BODY))).status
        assert 405 == (await server.post(b"", {}, method="GET")).status


async def test_aiohttp_at_the_root(receiver: WebhookReceiver) -> None:
    """The application may be the only one."""
    async with under_aiohttp(aiohttp_app(receiver)) as server:
        assert 200 == (await server.post(BODY, sign_headers(BODY), path="/")).status


async def test_aiohttp_refuses_compressed_bodies(receiver: WebhookReceiver) -> None:
    """A compressed body would be unpacked by aiohttp, and the signed bytes would be lost."""
    async with (
        under_aiohttp(in_aiohttp(receiver)) as server,
        aiohttp.ClientSession() as http,
        http.post(server.url, data=BODY, headers=sign_headers(BODY), compress="deflate") as answer,
    ):
        assert 415 == answer.status


async def hello(_request: Request) -> PlainTextResponse:
    """Answer another request."""
    return PlainTextResponse("hello")


async def test_asgi_around_another_application(inbox: MemoryInbox) -> None:
    """Other requests are passed on, and at shutdown the receiver is drained before the outer application ends."""
    callback = SlowCallback()
    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=callback)

    async def life(_app: object) -> AsyncGenerator[None]:
        yield
        callback.steps.append("inbox closed")

    inner = Starlette(routes=[Route("/hello", hello)], lifespan=asynccontextmanager(life))
    async with under_uvicorn(asgi_app(receiver, path=PATH, fallback=inner)) as server:
        assert 200 == (await server.post(BODY, sign_headers(BODY))).status
        assert 200 == (await server.post(BODY, sign_headers(BODY), path=f"{PATH}/")).status
        assert b"hello" == (await server.post(b"", {}, method="GET", path="/hello")).body
        assert 404 == (await server.post(BODY, sign_headers(BODY), path="/else")).status
        callback.may_end.set()
    assert ["called", "inbox closed"] == callback.steps


async def test_asgi_in_routes_and_mounts(receiver: WebhookReceiver) -> None:
    """A route has one path; a mount has all paths below its root path."""
    routes = [
        Route(PATH, asgi_app(receiver)),
        Mount("/mounted", asgi_app(receiver, path="/veriff")),
        Mount("/all", asgi_app(receiver)),
    ]
    async with receiver, under_uvicorn(Starlette(routes=routes)) as server:
        for path in (PATH, "/mounted/veriff", "/all/", "/all/any"):
            assert 200 == (await server.post(BODY, sign_headers(BODY), path=path)).status
        assert 404 == (await server.post(BODY, sign_headers(BODY), path="/mounted/other")).status
        # The trap: without a slash a mount sends elsewhere, and whether Veriff goes there is unknown.
        assert 307 == (await server.send(b"POST /all HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")).status


async def test_asgi_around_an_application_without_a_lifespan(inbox: MemoryInbox) -> None:
    """Django raises for a lifespan; the receiver is still opened and drained."""
    callback = SlowCallback()
    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=callback)

    async def inner(scope: MutableMapping[str, object], receive: object, send: object) -> None:
        raise ValueError(scope["type"])

    async with under_uvicorn(asgi_app(receiver, path=PATH, fallback=inner)) as server:
        assert 200 == (await server.post(BODY, sign_headers(BODY))).status
        callback.may_end.set()
    assert ["called"] == callback.steps


async def test_asgi_passes_a_failed_startup_on(receiver: WebhookReceiver) -> None:
    """An application that reports a failed startup does not start."""

    async def inner(scope: object, receive: Callable[..., object], send: Callable[..., object]) -> None:
        await receive()  # type: ignore[misc]
        await send({"type": "lifespan.startup.failed", "message": ""})  # type: ignore[misc]
        raise OSError(scope)

    said: list[MutableMapping[str, object]] = []

    async def receive() -> MutableMapping[str, object]:
        return {"type": "lifespan.startup"}

    async def send(heard: MutableMapping[str, object]) -> None:
        said.append(heard)

    with pytest.raises(OSError, match="lifespan"):
        await asgi_app(receiver, fallback=inner)({"type": "lifespan"}, receive, send)
    assert ["lifespan.startup.failed"] == [heard["type"] for heard in said]


@pytest.mark.parametrize("reads", [False, True])
async def test_asgi_around_an_application_that_answers_no_lifespan(
    receiver: WebhookReceiver,
    reads: bool,  # noqa: FBT001
) -> None:
    """An application that returns without an answer, after the startup event or before, leaves the lifespan to us."""

    async def inner(scope: object, receive: Callable[..., object], send: object) -> None:
        if reads:
            await receive()  # type: ignore[misc]

    events = ["lifespan.startup", "lifespan.unknown"]
    said: list[MutableMapping[str, object]] = []

    async def receive() -> MutableMapping[str, object]:
        return {"type": events.pop(0)}

    async def send(heard: MutableMapping[str, object]) -> None:
        said.append(heard)

    await asgi_app(receiver, fallback=inner)({"type": "lifespan"}, receive, send)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [heard["type"] for heard in said]
    assert [] == events


async def test_asgi_refuses_websockets(receiver: WebhookReceiver) -> None:
    """A websocket is closed before it is opened, and unknown kinds of connection are ignored."""
    said: list[MutableMapping[str, object]] = []

    async def receive() -> MutableMapping[str, object]:
        return {"type": "websocket.connect"}

    async def send(heard: MutableMapping[str, object]) -> None:
        said.append(heard)

    await asgi_app(receiver)({"type": "websocket", "path": "/"}, receive, send)
    await asgi_app(receiver)({"type": "newer", "path": "/"}, receive, send)
    assert ["websocket.close"] == [heard["type"] for heard in said]


@pytest.mark.parametrize("adapter", [aiohttp_app, lambda receiver, path: asgi_app(receiver, path=path)])
@pytest.mark.parametrize(
    "path", ["webhooks", "https://example.com/webhooks", "/webhooks?a=1", "/{any", "/{any}", b"/", 5]
)
async def test_path_that_cannot_match_is_refused(
    receiver: WebhookReceiver, adapter: Callable[..., object], path: object
) -> None:
    """A path that no request can have is an error when the adapter is made."""
    with pytest.raises(ConfigurationError, match="path must"):
        adapter(receiver, path)


async def test_fallback_must_be_an_application(receiver: WebhookReceiver) -> None:
    """A fallback that is not callable is refused when the adapter is made, not answered 500 at the first request."""
    with pytest.raises(ConfigurationError, match="fallback must be an ASGI application"):
        asgi_app(receiver, path=PATH, fallback="app")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("root", "path", "status"),
    [
        ("", PATH, 200),
        ("/api", f"/api{PATH}", 200),
        ("/api/", f"/api{PATH}", 200),
        ("/api", PATH, 200),  # hypercorn with --root-path
        ("/web", PATH, 200),
        ("/webhooks", PATH, 200),
        ("/api", f"/other{PATH}", 404),
        ("/api", f"/api/api{PATH}", 404),
        ("/webhooks/veriff", "/webhooks/veriff", 200),
        ("/webhooks/veriff", "/", 404),
    ],
)
async def test_root_path_is_recognised_in_both_forms(
    receiver: WebhookReceiver, root: str, path: str, status: int
) -> None:
    """A webhook arrives whether or not the server includes the root path in the path."""
    answered: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": BODY}

    async def send(sent: dict[str, object]) -> None:
        answered.append(sent.get("status"))

    headers = [(name.encode(), value.encode()) for name, value in sign_headers(BODY).items()]
    scope = {"type": "http", "method": "POST", "path": path, "root_path": root, "headers": headers}
    await asgi_app(receiver, path=PATH)(scope, receive, send)

    assert status == answered[0]
