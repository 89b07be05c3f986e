"""Applications that start and stop many times, in one event loop and in several: every start works like the first."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from tests.webhooks.conftest import CREDENTIALS, PATH, message, sign_headers, under_aiohttp, under_uvicorn
from veriff_async import ConfigurationError
from veriff_async.inbox import MemoryInbox, SqliteInbox
from veriff_async.webhooks import WebhookReceiver, aiohttp_app, asgi_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette warns of httpx, and takes it all the same
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from veriff_async.models.delivery import Delivery
    from veriff_async.models.events import WebhookEvent

BODY: Final = message()


class Noting:
    """A function for `on_event` that notes the sessions it was called for."""

    def __init__(self) -> None:
        """Begin with none."""
        self.sessions: list[str | None] = []

    async def __call__(self, delivery: Delivery[WebhookEvent]) -> None:
        """Note one, a moment later."""
        await asyncio.sleep(0)
        self.sessions.append(delivery.event.session_id)


async def status_of(receiver: WebhookReceiver, session_id: str = "8f0d1ab6") -> int:
    """Handle a webhook, and return the status of the response."""
    body = message(session_id=session_id)
    return (await receiver.handle("POST", sign_headers(body), body)).status


def test_receiver_opens_again_in_each_loop() -> None:
    """A receiver that `async with` enters again works as a new one does, in the same loop and in others."""
    noting = Noting()
    receiver = WebhookReceiver(CREDENTIALS, MemoryInbox(), on_event=noting)

    async def start_twice(name: str) -> None:
        for number in range(2):
            async with receiver:
                assert 200 == await status_of(receiver, f"{name}{number}")
            assert 503 == await status_of(receiver)

    for name in ("a", "b", "c"):
        asyncio.run(start_twice(name))
        assert 503 == asyncio.run(status_of(receiver))  # closed for every loop that did not open it

    assert ["a0", "a1", "b0", "b1", "c0", "c1"] == noting.sessions
    assert (6, 0) == (receiver.statistics().recorded, receiver.statistics().attempts_failed)


def test_loop_that_ended_without_closing_does_not_block_later_ones() -> None:
    """Records and calls of an ended loop occupy no slot in the next one, which handles the events that are left."""
    ended, began = False, list[str | None]()

    async def hang(delivery: Delivery[WebhookEvent]) -> None:
        began.append(delivery.event.session_id)
        if not ended:
            await asyncio.Event().wait()

    receiver = WebhookReceiver(CREDENTIALS, MemoryInbox(), on_event=hang, max_running=1)

    async def leave() -> None:
        assert [200, 200] == [await status_of(receiver, session_id) for session_id in ("first", "second")]
        while not began:  # noqa: ASYNC110  the test looks at what was called in a loop that ended
            await asyncio.sleep(0)

    async def serve() -> None:
        async with receiver:
            assert 200 == await status_of(receiver, "third")

    asyncio.run(leave())
    ended = True
    asyncio.run(serve())

    assert ["first", "first", "second", "third"] == began
    assert (0, 3, 0) == (
        (now := receiver.statistics()).active_events,
        now.events_handled,
        now.attempts_failed,
    )


def test_loops_that_overlap_are_closed_one_by_one() -> None:
    """If two applications in two loops share a receiver, closing it in one loop leaves it open in the other."""
    noting = Noting()
    receiver = WebhookReceiver(CREDENTIALS, MemoryInbox(), on_event=noting)

    async def inner() -> None:
        async with receiver:
            assert 200 == await status_of(receiver, "inner")

    async def outer() -> None:
        async with receiver:
            await asyncio.to_thread(asyncio.run, inner())
            assert 200 == await status_of(receiver, "outer")

    asyncio.run(outer())
    assert ["inner", "outer"] == noting.sessions
    assert "closed" in repr(receiver)


def test_receiver_closed_from_outside_is_closed_everywhere() -> None:
    """`aclose` in a loop that did not use the receiver closes it for the loops that did."""
    receiver = WebhookReceiver(CREDENTIALS, MemoryInbox())

    async def serve() -> None:
        assert 200 == await status_of(receiver)
        await asyncio.to_thread(asyncio.run, receiver.aclose())
        assert 503 == await status_of(receiver)

    asyncio.run(serve())


def test_receiver_needs_asyncio() -> None:
    """Without a running event loop of asyncio, a receiver says what it needs."""
    receiver = WebhookReceiver(CREDENTIALS, MemoryInbox())
    with pytest.raises(ConfigurationError, match="running asyncio event loop"):
        receiver.open()


def around(inbox: MemoryInbox | SqliteInbox, receiver: WebhookReceiver) -> Callable[..., Any]:
    """Wrap an application without a lifespan, so that only the adapter has one."""
    return asgi_app(receiver, path=PATH, fallback=Starlette())


def in_route(inbox: MemoryInbox | SqliteInbox, receiver: WebhookReceiver) -> Callable[..., Any]:
    """Give FastAPI a route, and a lifespan that opens inbox and receiver."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with inbox, receiver:
            yield

    app = FastAPI(lifespan=lifespan)
    app.router.routes.append(Route(PATH, asgi_app(receiver)))
    return app


def in_mount(inbox: MemoryInbox | SqliteInbox, receiver: WebhookReceiver) -> Callable[..., Any]:
    """Mount it in Starlette, whose lifespan opens inbox and receiver."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with inbox, receiver:
            yield

    prefix, _, name = PATH.rpartition("/")
    return Starlette(routes=[Mount(prefix, asgi_app(receiver, path=f"/{name}"))], lifespan=lifespan)


def alone(inbox: MemoryInbox | SqliteInbox, receiver: WebhookReceiver) -> Callable[..., Any]:
    """Serve nothing else."""
    return asgi_app(receiver)


@pytest.mark.parametrize("make", [alone, around, in_route, in_mount])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_test_client_may_restart_an_application(
    make: Callable[..., Callable[..., Any]], kind: str, tmp_path: Path
) -> None:
    """Each `with TestClient(app)`, also one inside another, receives, records and calls as the first does."""
    noting = Noting()
    inbox = MemoryInbox() if kind == "memory" else SqliteInbox(tmp_path / "inbox.db")
    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=noting)
    app = make(inbox, receiver)

    def post(client: TestClient, session_id: str) -> int:
        body = message(session_id=session_id)
        return int(client.post(PATH, content=body, headers=sign_headers(body)).status_code)

    for name in ("a", "b"):
        with TestClient(app) as outer:
            assert 200 == post(outer, f"{name}1")
            with TestClient(app) as inner:
                assert 200 == post(inner, f"{name}2")
            assert 200 == post(outer, f"{name}3")
    assert ["a1", "a2", "a3", "b1", "b2", "b3"] == sorted(map(str, noting.sessions))
    asyncio.run(inbox.aclose())


@pytest.mark.anyio
async def test_servers_may_restart_an_application() -> None:
    """An application of ASGI under uvicorn and one of aiohttp, stopped and started again, receive as at first."""
    noting = Noting()
    receiver = WebhookReceiver(CREDENTIALS, MemoryInbox(), on_event=noting)
    asgi = asgi_app(receiver, path=PATH)
    web_app = web.Application()
    web_app.add_subapp(PATH, aiohttp_app(receiver))
    for number in range(2):
        for serve in (under_uvicorn(asgi), under_aiohttp(web_app)):
            async with serve as server:
                body = message(session_id=f"{len(noting.sessions)}")
                assert 200 == (await server.post(body, sign_headers(body))).status
            assert 503 == await status_of(receiver)
        assert 2 * number + 2 == len(noting.sessions)
