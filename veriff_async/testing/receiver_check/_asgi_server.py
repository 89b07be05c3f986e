"""Serves an ASGI application of this process on a local socket, so that it gets real HTTP requests.

https://asgi.readthedocs.io/en/latest/specs/main.html, version 3. The HTTP part is aiohttp's.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

__all__ = ("AsgiServer", "serve_app")

_HOST: Final = "127.0.0.1"
# Seconds that the application may take to start, and to stop.
_TIMEOUT: Final = 30.0
_SHUTDOWN_TIMEOUT: Final = 10.0


class AsgiServer:
    """A running server.

    Attributes:
        url: Its URL without a path.
    """

    def __init__(self, app: Callable[..., Awaitable[object]]) -> None:
        """Take the application."""
        self.url = ""
        self._app = app
        self._errors: list[str] = []

    def pop_errors(self) -> list[str]:
        """Return the exceptions of the application since the last call: their types and lines."""
        errors, self._errors = self._errors, []
        return errors

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Pass a request to the application, and return its response."""
        exchange = _AsgiCall(request)
        try:
            await self._app(_scope(request), exchange.receive, exchange.send)
        # A real server answers 500 too. SystemExit would end the check, perhaps with the exit code of a success.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._errors.append(_describe(error))
        if exchange.response is None:
            return web.Response(status=500)
        if not exchange.is_complete:
            # Without the end of its body the response must not look complete.
            exchange.response.force_close()
        return exchange.response


class _AsgiCall:
    """The messages of one request and its response."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.response: web.StreamResponse | None = None
        self.is_complete = False
        self._request = request
        self._is_read = False
        self._is_invited = False
        self._done = asyncio.Event()

    async def receive(self) -> dict[str, object]:
        """Return the next part of the body, or the end of the connection."""
        if self._is_read:
            await self._done.wait()
            return {"type": "http.disconnect"}
        content = self._request.content
        if not self._is_invited:
            # RFC 9110, section 10.1.1: the client may wait for this before it sends the body.
            self._is_invited = True
            if self._request.headers.get("Expect", "").lower() == "100-continue" and self._request.transport:
                self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            part = await content.readany()
        except (web.RequestPayloadError, OSError):
            self._is_read = True
            self._done.set()
            return {"type": "http.disconnect"}
        self._is_read = content.at_eof()
        return {"type": "http.request", "body": part, "more_body": not self._is_read}

    async def send(self, message: Mapping[str, object]) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            response = web.StreamResponse(status=int(cast("int", message["status"])))
            for name, value in cast("Iterable[tuple[bytes, bytes]]", message.get("headers") or ()):
                response.headers.add(name.decode("latin-1"), value.decode("latin-1"))
            await response.prepare(self._request)
            self.response = response
        elif message["type"] == "http.response.body" and self.response is not None:
            body = cast("bytes", message.get("body") or b"")
            if body and self._request.method != "HEAD":
                await self.response.write(body)
            if not message.get("more_body"):
                self.is_complete = True
                await self.response.write_eof()
                self._done.set()


@asynccontextmanager
async def serve_app(app: Callable[..., Awaitable[object]]) -> AsyncGenerator[AsgiServer]:
    """Start an application and serve it on a free local port during the block.

    Raises:
        ConfigurationError: The application reports that it cannot start, or does not react to the start in time.
    """
    server = AsgiServer(app)
    async with _lifespan(app):
        # The application must get the bytes that were sent, as it does from other servers.
        runner = web.ServerRunner(
            web.Server(server.handle, auto_decompress=False, access_log=None, lingering_time=0), shutdown_timeout=0
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, _HOST, 0)
            await site.start()
            server.url = f"http://{_HOST}:{runner.addresses[0][1]}"
            yield server
        finally:
            await runner.cleanup()


@asynccontextmanager
async def _lifespan(app: Callable[..., Awaitable[object]]) -> AsyncGenerator[None]:
    """Send the events of the lifespan; an application that does not support them raises an exception or returns."""
    events = asyncio.Queue[dict[str, object]]()
    replies = asyncio.Queue[dict[str, object]]()

    async def run() -> None:
        # By an exception an application says that it does not support the lifespan.
        with suppress(Exception, SystemExit):
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, events.get, send)
        await replies.put({"type": "end"})

    async def send(message: Mapping[str, object]) -> None:
        await replies.put(dict(message))

    async def wait_for_reply(seconds: float = _TIMEOUT) -> object:
        async with asyncio.timeout(seconds):
            return (await replies.get())["type"]

    task = asyncio.create_task(run())
    try:
        await events.put({"type": "lifespan.startup"})
        try:
            first = await wait_for_reply()
        except TimeoutError:
            msg = (
                f"The application does not start: it has not answered the event lifespan.startup within {_TIMEOUT:g} "
                "seconds."
            )
            raise ConfigurationError(msg) from None
        if first == "lifespan.startup.failed":
            msg = "The application does not start: it answers the event lifespan.startup with a failure."
            raise ConfigurationError(msg)
        yield
        if first != "end":
            await events.put({"type": "lifespan.shutdown"})
            # The report exists by now, and must not get lost with an application that does not end.
            with suppress(TimeoutError):
                await wait_for_reply(_SHUTDOWN_TIMEOUT)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _scope(request: web.BaseRequest) -> dict[str, object]:
    path, _, query = request.raw_path.partition("?")
    transport = request.transport
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": path.encode("latin-1", "replace"),
        "root_path": "",
        "query_string": query.encode("latin-1", "replace"),
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": transport.get_extra_info("peername") if transport is not None else None,
        "server": transport.get_extra_info("sockname") if transport is not None else None,
        "state": {},
    }


def _describe(error: BaseException) -> str:
    """Return the type and line of an exception; its text may contain anything."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}"  # noqa: PTH119
