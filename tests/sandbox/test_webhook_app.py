"""Webhooks that go straight to an ASGI application, without a port."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest
from anyio import to_thread
from attrs import field, mutable

from tests.loops import every_loop
from veriff_async import ConfigurationError, VeriffClient, WebhookReceiver, parse_webhook, verify_webhook
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Sandbox, SandboxOptions, VirtualClock, WebhookKind
from veriff_async.sandbox._webhook_app import AppRequest, AppResponse, WebhookApp
from veriff_async.webhooks import asgi_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

pytestmark = pytest.mark.anyio

SECONDS: Final = 20.0
REQUEST: Final = AppRequest(url="http://shop.example/", headers={}, body=b"{}")

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Check: TypeAlias = Callable[[bytes, Any], str | None]


@mutable
class RecordingApp:
    """An ASGI application that records each request, and responds as `respond` says."""

    status: int = 200
    scopes: list[Scope] = field(factory=list)
    bodies: list[bytes] = field(factory=list)
    called: asyncio.Event = field(factory=asyncio.Event)
    ended: asyncio.Event = field(factory=asyncio.Event)
    then: Callable[[Receive, Send], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond."""
        self.scopes.append(scope)
        self.bodies.append((await receive())["body"])
        self.called.set()
        try:
            if self.then is not None:
                await self.then(receive, send)
                return
            await respond(send, self.status)
        finally:
            self.ended.set()


async def respond(send: Send, status: int = 200, body: bytes = b"") -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-test", b"1")]})
    await send({"type": "http.response.body", "body": body})


async def create_session(sandbox: Sandbox) -> str:
    """Create a session over HTTP."""
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        return (await veriff.create_session(vendor_data="user-42")).id


@every_loop
async def test_a_decision_reaches_the_inbox_of_an_application() -> None:
    """A decision is delivered to the receiver of the application, and ends a wait of a client with its inbox."""
    async with Sandbox() as sandbox, MemoryInbox() as inbox, WebhookReceiver(sandbox.credentials, inbox) as receiver:
        sandbox.set_webhook_app(asgi_app(receiver))
        async with VeriffClient.from_env(sandbox.environ, inbox=inbox) as veriff:
            session = await veriff.create_session(vendor_data="user-42")
            async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(session.wait_for_decision())
                sandbox.decide(session.id, "approved")

    assert waiting.result().is_approved
    assert [200] == [delivery.status for delivery in sandbox.deliveries]
    # The webhook was enough: no request asked for the decision.
    assert not [request for request in sandbox.requests if request.path.endswith("/decision")]


async def test_the_request_is_that_of_a_server() -> None:
    """The application sees method, path, query, host, signature and body, as a server passes them."""
    app = RecordingApp()
    url = "http://shop.example:8080/hooks/d%C3%A9cision?tenant=7"
    async with Sandbox(webhook_app=app, webhook_url=url) as sandbox:
        session_id = await create_session(sandbox)
        sandbox.decide(session_id, "declined")
        await sandbox.wait_idle()

    (scope,), (body,) = app.scopes, app.bodies
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    assert ("http", "POST", "1.1", "http") == (scope["type"], scope["method"], scope["http_version"], scope["scheme"])
    assert ("/hooks/décision", b"/hooks/d%C3%A9cision", b"tenant=7") == (
        scope["path"],
        scope["raw_path"],
        scope["query_string"],
    )
    assert ("shop.example", 8080) == scope["server"]
    assert ("shop.example:8080", str(len(body)), "application/json") == (
        headers["host"],
        headers["content-length"],
        headers["content-type"],
    )
    verify_webhook(headers, body, sandbox.credentials)
    assert session_id == json.loads(body)["verification"]["id"]


async def test_every_kind_is_delivered_without_urls_and_chosen_kinds_with_them() -> None:
    """Without URLs the application gets every kind at ``/``; with URLs it gets those kinds, at their paths."""
    everything, chosen = RecordingApp(), RecordingApp()
    for app, urls in ((everything, None), (chosen, {WebhookKind.EVENT: "http://app/events"})):
        async with Sandbox(webhook_app=app, webhook_urls=urls) as sandbox:
            session_id = await create_session(sandbox)
            sandbox.start_attempt(session_id)
            sandbox.decide(session_id, "approved")
            await sandbox.wait_idle()

    assert ["/", "/"] == [scope["path"] for scope in everything.scopes]
    assert ["/events"] == [scope["path"] for scope in chosen.scopes]


async def _raise(_receive: Receive, _send: Send) -> None:
    msg = "a secret of Ada"
    raise LookupError(msg)


async def _return(_receive: Receive, _send: Send) -> None:
    pass


async def _respond_without_start(_receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": b""})


async def _respond_with_text(_receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": "200"})


@pytest.mark.parametrize("failure", [_raise, _return, _respond_without_start, _respond_with_text])
async def test_a_failing_application_counts_as_500(
    failure: Callable[[Receive, Send], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """An exception, a missing response and a wrong one count as 500, are logged, and are delivered again later."""
    app = RecordingApp(then=failure)
    async with Sandbox(webhook_app=app, clock=VirtualClock()) as sandbox:
        sandbox.decide(await create_session(sandbox), "approved")
        await sandbox.wait_idle()
        app.then = None
        sandbox.advance(3600)
        await sandbox.wait_idle()

    assert [500, 200] == [delivery.status for delivery in sandbox.deliveries]
    assert 1 == len([record for record in caplog.records if "webhook application" in record.message])


async def test_a_late_response_is_no_response_and_the_application_continues() -> None:
    """After the timeout the delivery has failed, and the application still runs to its end."""
    release = asyncio.Event()

    async def respond_late(_receive: Receive, send: Send) -> None:
        await release.wait()
        await respond(send)

    app = RecordingApp(then=respond_late)
    options = SandboxOptions(webhook_timeout_seconds=0.01)
    async with Sandbox(webhook_app=app, options=options, clock=VirtualClock()) as sandbox:
        sandbox.decide(await create_session(sandbox), "approved")
        await sandbox.wait_idle()
        assert [None] == [delivery.status for delivery in sandbox.deliveries]
        assert not app.ended.is_set()
        release.set()
        await app.ended.wait()


async def test_work_after_the_response_continues_and_sees_the_end_of_the_connection() -> None:
    """The delivery ends with the response; a background task runs on, and `receive` returns a disconnect."""
    messages: list[Mapping[str, object]] = []
    release = asyncio.Event()

    async def respond_and_work(receive: Receive, send: Send) -> None:
        await respond(send, body=b"x" * 100_000)
        messages.append(await receive())
        await release.wait()

    app = RecordingApp(then=respond_and_work)
    async with Sandbox(webhook_app=app) as sandbox:
        sandbox.decide(await create_session(sandbox), "approved")
        await sandbox.wait_idle()
        assert [200] == [delivery.status for delivery in sandbox.deliveries]
        release.set()
        await app.ended.wait()

    assert [{"type": "http.disconnect"}] == messages


@every_loop
async def test_the_stop_cancels_calls_of_present_and_earlier_applications() -> None:
    """A stop ends the calls that still run, also those of an application that was replaced."""

    async def wait_forever(_receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    first, second = RecordingApp(then=wait_forever), RecordingApp(then=wait_forever)
    async with Sandbox(webhook_app=first) as sandbox:
        sandbox.decide(await create_session(sandbox), "approved")
        await first.called.wait()
        sandbox.set_webhook_app(second)
        sandbox.decide(await create_session(sandbox), "approved")
        await second.called.wait()
        assert not first.ended.is_set()

    assert first.ended.is_set()
    assert second.ended.is_set()


async def test_the_application_runs_in_the_loop_in_which_it_was_set() -> None:
    """A sandbox in a thread of its own calls the application in the loop of the test."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def remember_loop(_receive: Receive, send: Send) -> None:
        loops.append(asyncio.get_running_loop())
        await respond(send)

    app = RecordingApp(then=remember_loop)
    async with in_thread(Sandbox(webhook_app=app)) as sandbox:
        sandbox.decide(await create_session(sandbox), "approved")
        await sandbox.wait_idle()

    assert [asyncio.get_running_loop()] == loops


def test_a_synchronous_test_uses_the_loop_of_the_sandbox() -> None:
    """Outside of a loop the application is called in the loop of the sandbox, and None returns to the network."""
    app = RecordingApp()
    with Sandbox(webhook_app=app) as sandbox:
        session_id = asyncio.run(create_session(sandbox))
        sandbox.decide(session_id, "approved")
        sandbox.wait_idle_sync()
        sandbox.set_webhook_app(None)
        sandbox.webhook_url = "http://127.0.0.1:9/nothing-listens-here"
        sandbox.resend(session_id)
        sandbox.wait_idle_sync()

    assert [200, None] == [delivery.status for delivery in sandbox.deliveries]
    assert 1 == len(app.bodies)


async def test_removing_the_application_removes_the_urls_that_it_brought() -> None:
    """Without an application no kind has a URL, unless the test has chosen URLs itself."""
    sandbox = Sandbox(webhook_app=RecordingApp())
    assert set(WebhookKind) == set(sandbox.webhook_urls)
    sandbox.set_webhook_app(None)
    assert {} == sandbox.webhook_urls
    sandbox = Sandbox(webhook_app=RecordingApp(), webhook_url="http://app/hook")
    sandbox.set_webhook_app(None)
    assert "http://app/hook" == sandbox.webhook_url


def test_a_closed_loop_of_the_application_is_a_failed_delivery(caplog: pytest.LogCaptureFixture) -> None:
    """A webhook for an application whose loop is closed has no response, and the log names the remedy."""
    app = RecordingApp()
    with Sandbox() as sandbox:

        async def set_app() -> str:
            sandbox.set_webhook_app(app)
            return await create_session(sandbox)

        sandbox.decide(asyncio.run(set_app()), "approved")
        sandbox.wait_idle_sync()

    assert [None] == [delivery.status for delivery in sandbox.deliveries]
    assert "call set_webhook_app() in an open loop" in caplog.text


async def test_a_value_that_cannot_be_called_is_refused() -> None:
    """An application that is not a function is refused when it is passed."""
    with pytest.raises(ConfigurationError, match="webhook_app"):
        Sandbox(webhook_app="app:app")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_waiting_in_the_loop_of_the_application_is_refused() -> None:
    """`wait_idle_sync` in the loop that the application needs would never end, so it is refused."""
    async with in_thread(Sandbox(webhook_app=RecordingApp())) as sandbox:
        with pytest.raises(ConfigurationError, match="await wait_idle"):
            sandbox.wait_idle_sync()


@asynccontextmanager
async def in_thread(sandbox: Sandbox) -> AsyncIterator[Sandbox]:
    """Run a sandbox in a thread of its own, without blocking the loop of the test."""
    await to_thread.run_sync(sandbox.__enter__)
    try:
        yield sandbox
    finally:
        await to_thread.run_sync(sandbox.__exit__, None, None, None)


# Frameworks.


def _fastapi(received: list[str | None], check: Check) -> Any:  # noqa: ANN401
    fastapi = pytest.importorskip("fastapi", reason="FastAPI is not installed")
    app = fastapi.FastAPI()

    async def receive(request: Any) -> dict[str, bool]:  # noqa: ANN401
        received.append(check(await request.body(), request.headers))
        return {"ok": True}

    receive.__annotations__["request"] = fastapi.Request
    app.post("/veriff")(receive)
    return app


def _starlette(received: list[str | None], check: Check) -> Any:  # noqa: ANN401
    pytest.importorskip("starlette", reason="Starlette is not installed")
    from starlette.applications import Starlette  # noqa: PLC0415  may be missing
    from starlette.background import BackgroundTask  # noqa: PLC0415
    from starlette.middleware import Middleware  # noqa: PLC0415
    from starlette.middleware.base import BaseHTTPMiddleware  # noqa: PLC0415
    from starlette.responses import StreamingResponse  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def receive(request: Any) -> StreamingResponse:  # noqa: ANN401
        session_id = check(await request.body(), request.headers)
        # A streamed response waits for a disconnect at the same time, and a background task runs after it.
        return StreamingResponse(iter(["a", "b"]), background=BackgroundTask(received.append, session_id))

    async def pass_on(request: Any, call_next: Any) -> Any:  # noqa: ANN401
        return await call_next(request)

    return Starlette(
        routes=[Route("/veriff", receive, methods=["POST"])],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)],
    )


def _litestar(received: list[str | None], check: Check) -> Any:  # noqa: ANN401
    litestar = pytest.importorskip("litestar", reason="Litestar is not installed")

    async def receive(request: Any) -> str:  # noqa: ANN401
        received.append(check(await request.body(), request.headers))
        return "ok"

    receive.__annotations__.update(request=litestar.Request, **{"return": str})
    return litestar.Litestar([litestar.post("/veriff", status_code=200)(receive)], logging_config=None)


def _quart(received: list[str | None], check: Check) -> Any:  # noqa: ANN401
    quart = pytest.importorskip("quart", reason="Quart is not installed")
    app = quart.Quart(__name__)

    async def receive() -> str:
        received.append(check(await quart.request.get_data(), quart.request.headers))
        return "ok"

    app.post("/veriff")(receive)
    return app


def _django(received: list[str | None], check: Check) -> Any:  # noqa: ANN401
    pytest.importorskip("django", reason="Django is not installed")
    from django.conf import settings  # noqa: PLC0415  may be missing
    from django.core.handlers.asgi import ASGIHandler  # noqa: PLC0415
    from django.http import HttpResponse  # noqa: PLC0415
    from django.urls import path  # noqa: PLC0415

    async def receive(request: Any) -> HttpResponse:  # noqa: ANN401
        received.append(check(request.body, request.headers))
        return HttpResponse("ok")

    settings.configure(ROOT_URLCONF=(path("veriff", receive),), SECRET_KEY="for tests", ALLOWED_HOSTS=["*"])
    return ASGIHandler()


@pytest.fixture(params=[_fastapi, _starlette, _litestar, _quart, _django])
def framework(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[str | None], Sandbox]:
    """Create an application of each framework, outside of a loop, where imports may read files."""
    if request.param is _django:
        conf = pytest.importorskip("django.conf", reason="Django is not installed")
        # A process has one configuration of Django, which other tests need too: it is restored at the end.
        request.addfinalizer(functools.partial(setattr, conf.settings, "_wrapped", vars(conf.settings)["_wrapped"]))  # noqa: PT021
        setattr(conf.settings, "_wrapped", conf.empty)  # noqa: B010  typed as the settings
    received: list[str | None] = []
    sandbox = Sandbox(webhook_url="http://testserver/veriff")

    def check(body: bytes, headers: Mapping[str, str]) -> str | None:
        return parse_webhook(headers, body, sandbox.credentials).session_id

    return request.param(received, check), received, sandbox


async def test_frameworks_receive_webhooks(framework: tuple[Any, list[str | None], Sandbox]) -> None:
    """FastAPI, Starlette, Litestar, Quart and Django receive a signed webhook and respond with 200."""
    app, received, sandbox = framework
    sandbox.set_webhook_app(app)
    async with sandbox:
        session_id = await create_session(sandbox)
        sandbox.decide(session_id, "approved")
        await sandbox.wait_idle()

    assert [200] == [delivery.status for delivery in sandbox.deliveries]
    assert [session_id] == received


async def test_application_that_was_removed_is_not_called() -> None:
    """A webhook that waits for its attempt while the application is removed has a result with that reason."""
    app = WebhookApp()
    response = await app.post(REQUEST, timeout=SECONDS)
    assert (None, "the webhook application was removed") == (response.status, response.error)


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Return an event loop that runs only while a test waits for something in it."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def set_app(app: WebhookApp, recording: RecordingApp) -> None:
    """Set the application in the running loop."""
    app.set(recording)


def test_delivery_whose_time_is_over_is_not_begun(other_loop: asyncio.AbstractEventLoop) -> None:
    """The loop of the application does not run in time: it skips the webhook, which has its result already."""
    recording, app = RecordingApp(), WebhookApp()
    other_loop.run_until_complete(set_app(app, recording))
    response = asyncio.run(app.post(REQUEST, timeout=0))
    assert (None, "no response within 0 seconds") == (response.status, response.error)
    for _ in range(3):
        other_loop.run_until_complete(asyncio.sleep(0))
    assert [] == recording.bodies


def test_stop_cancels_calls_in_another_loop(other_loop: asyncio.AbstractEventLoop) -> None:
    """A sandbox that stops in one loop ends the call of an application that still runs in another one."""

    async def hang(_receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async def begin() -> asyncio.Task[AppResponse]:
        app.set(recording)
        delivery = asyncio.create_task(app.post(REQUEST, timeout=SECONDS))
        await recording.called.wait()
        return delivery

    recording, app = RecordingApp(then=hang), WebhookApp()
    delivery = other_loop.run_until_complete(begin())
    asyncio.run(app.aclose())
    response = other_loop.run_until_complete(delivery)
    assert recording.ended.is_set()
    assert "the call of the webhook application was cancelled" == response.error
