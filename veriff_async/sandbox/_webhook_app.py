"""Webhooks that an ASGI application receives without a port.

https://asgi.readthedocs.io/en/latest/specs/www.html, version 3: one call for each request, as by a server.

Event loop
    An application uses connections and locks of the loop that it was started in, so it is called there: in the loop
    that ran when it was set, or, without one, in the loop of the sandbox. These two may belong to different threads;
    only `concurrent.futures.Future` and `call_soon_threadsafe` connect them.

Duration
    As with a real server, the delivery has its result as soon as the response is complete or the time is over. The
    application continues then, for example with background tasks, until it returns or the sandbox stops.

Lifespan
    The sandbox does not start the application: a program reads the address of the sandbox while it starts, so the
    sandbox runs first. The test starts it, as it does for its own requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Final, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from anyio import move_on_after
from attrs import frozen

from veriff_async._protocol.arguments import check_function, describe_value

__all__ = ("AppRequest", "AppResponse", "AsgiApp", "WebhookApp", "running_loop")

AsgiApp: TypeAlias = Callable[..., Awaitable[object]]
"""An ASGI application. Frameworks have different types for scopes and messages, so any arguments are accepted."""

_log: Final = logging.getLogger(__name__)

_APP_FAILED: Final = 500
_STATUSES: Final = range(100, 1000)
# Time that a cancelled application has to end when the sandbox stops.
_CLOSE_SECONDS: Final = 1.0
_PORTS: Final = {"http": 80, "https": 443}
# Port 0 cannot be connected to, so no application takes it for that of a client.
_CLIENT: Final = ("127.0.0.1", 0)
# Bytes of a response that are kept, so that an application cannot fill the memory of the sandbox.
_KEPT_BODY: Final = 16 * 1024


@frozen(kw_only=True)
class AppRequest:
    """A webhook as the application gets it."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@frozen(kw_only=True)
class AppResponse:
    """The result of one call of an application.

    Attributes:
        status: HTTP status; ``None`` without a response.
        headers: The headers of the response.
        body: The beginning of its body.
        error: The problem, if the application has failed or did not respond; empty otherwise.
    """

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    error: str = ""


class WebhookApp:
    """Calls an ASGI application for each webhook, or none."""

    def __init__(self) -> None:
        """Start without an application."""
        self._app: AsgiApp | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Calls of all applications that were set, by their loop: a sandbox that is entered again may run in another.
        self._calls: dict[asyncio.Task[None], asyncio.AbstractEventLoop] = {}

    def set(self, app: AsgiApp | None) -> None:
        """Set the application, and remember the running loop, if there is one."""
        check_function("webhook_app", app, may_be_async=True)
        self._app = app
        self._loop = None if app is None else running_loop()

    @property
    def is_set(self) -> bool:
        """Whether webhooks go to an application."""
        return self._app is not None

    async def post(self, request: AppRequest, *, timeout: float) -> AppResponse:  # noqa: ASYNC109  part of the rule
        """Call the application once; failures are results, too."""
        loop, app = self._loop or asyncio.get_running_loop(), self._app
        if app is None:
            return AppResponse(error="the webhook application was removed")
        answer: Future[AppResponse] = Future()
        try:
            loop.call_soon_threadsafe(self._begin, loop, app, request, answer)
        except RuntimeError:
            _log.error("The event loop of the webhook application is closed: call set_webhook_app() in an open loop.")
            return AppResponse(error="the event loop of the webhook application is closed")
        # The loop of the application may be blocked, or not running at all: this one watches the time.
        with move_on_after(timeout):
            return await asyncio.wrap_future(answer)
        return AppResponse(error=f"no response within {timeout:g} seconds")

    async def aclose(self) -> None:
        """Cancel the calls that still run; one that goes on in spite of that delays a stop for a second only."""
        here = asyncio.get_running_loop()
        own = [task for task, loop in self._calls.items() if loop is here]
        for task, loop in list(self._calls.items()):
            if loop is here:
                task.cancel()
            elif not loop.is_closed():
                # Not awaited: the other loop may be the one that waits for this sandbox to stop.
                loop.call_soon_threadsafe(task.cancel)
        # An empty set of tasks is an error for asyncio.wait().
        if own and (await asyncio.wait(own, timeout=_CLOSE_SECONDS))[1]:
            _log.error("The webhook application still runs, because it does not end when it is cancelled.")

    def is_called_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether this is the loop that the application was set in."""
        return self._loop is loop

    def _begin(
        self, loop: asyncio.AbstractEventLoop, app: AsgiApp, request: AppRequest, answer: Future[AppResponse]
    ) -> None:
        # A delivery whose time was over before the loop could begin it is not made at all.
        if not answer.set_running_or_notify_cancel():
            return

        def end(task: asyncio.Task[None]) -> None:
            self._calls.pop(task, None)
            if not answer.done():
                answer.set_result(AppResponse(error="the call of the webhook application was cancelled"))

        task = loop.create_task(_serve(app, request, answer), name="veriff webhook application")
        # A task that started eagerly may have ended by now; its callback still runs, in the next step of the loop.
        self._calls[task] = loop
        task.add_done_callback(end)


async def _serve(app: AsgiApp, request: AppRequest, answer: Future[AppResponse]) -> None:
    """Call the application once; an exception counts as a response with status 500, as with a server."""
    exchange = _Exchange(request, answer)
    problem = "the webhook application has returned without a response"
    try:
        await app(exchange.scope, exchange.receive, exchange.send)
    except Exception as error:  # noqa: BLE001  any exception of an application
        # Its message may hold personal data, so the record of the delivery has the name of its class only.
        problem = f"the webhook application has raised {type(error).__name__}"
        _log.exception("The webhook application has raised an error, which counts as a response with status 500.")
    else:
        if not answer.done():
            _log.error("The webhook application has returned without a response, which counts as status 500.")
    if not answer.done():
        answer.set_result(AppResponse(status=_APP_FAILED, error=problem))


class _Exchange:
    """One request and its response."""

    def __init__(self, request: AppRequest, answer: Future[AppResponse]) -> None:
        self.scope = _scope(request)
        self._request_body: bytes | None = request.body
        self._answer = answer
        self._answered = asyncio.Event()
        self._status: int | None = None
        self._headers: tuple[tuple[str, str], ...] = ()
        self._body = bytearray()

    async def receive(self) -> Mapping[str, object]:
        """Return the body, and then, once there is a response, the end of the connection."""
        body, self._request_body = self._request_body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        # Applications wait for a disconnect while they respond; one that came earlier would end their response.
        await self._answered.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, object]) -> None:
        """Take a part of the response."""
        kind = message["type"]
        if kind == "http.response.start" and self._status is None:
            self._status = _check_status(message.get("status"))
            headers = cast("Iterable[tuple[bytes, bytes]]", message.get("headers") or ())
            self._headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
        elif kind == "http.response.body" and self._status is not None:
            part = bytes(cast("bytes", message.get("body") or b""))
            self._body += part[: _KEPT_BODY - len(self._body)]
            if not message.get("more_body") and not self._answer.done():
                body = bytes(self._body)
                self._answer.set_result(AppResponse(status=self._status, headers=self._headers, body=body))
                self._answered.set()
        elif kind in {"http.response.start", "http.response.body"}:
            msg = "The webhook application must send http.response.start once, and http.response.body after it."
            raise ValueError(msg)


def _check_status(status: object) -> int:
    if isinstance(status, int) and status in _STATUSES and not isinstance(status, bool):
        return int(status)
    msg = f"The status of a response must be an integer from 100 to 999, not {describe_value(status)}."
    raise ValueError(msg)


def _scope(request: AppRequest) -> dict[str, object]:
    url = urlsplit(request.url)
    raw_path = url.path or "/"
    headers = {
        "host": url.netloc.rpartition("@")[2],
        "content-length": str(len(request.body)),
        "accept": "*/*",
        **request.headers,
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": url.scheme,
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "root_path": "",
        "query_string": url.query.encode(),
        # The specification asks for lower case.
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "client": _CLIENT,
        "server": (url.hostname, url.port or _PORTS[url.scheme]),
    }


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
