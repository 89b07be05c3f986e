"""An HTTP server for one path, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from veriff_async import ConfigurationError
from veriff_async._http.network_problem import network_problem
from veriff_async._http.server_log import get_server_logger
from veriff_async._waiting.signals import STOP_SIGNALS
from veriff_async.webhooks import _http

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping
    from types import FrameType

__all__ = ("WebhookHandler", "serve", "stop_on_signals")

# Limit of a body in bytes, like that of `WebhookReceiver`.
_MAX_BODY: Final = 1_048_576

_BODY_SECONDS: Final = 4.0
_LOG: Final = get_server_logger(__name__)

# Seconds that running requests get at shutdown.
_SHUTDOWN: Final = 1.0


class WebhookHandler(Protocol):
    """Handles the webhooks of the server."""

    async def handle(self, headers: Mapping[str, str], body: bytes) -> _http.WebhookResponse:
        """Handle a request and return the response."""
        ...

    def on_refused(self, reply: _http.WebhookResponse) -> None:
        """Notice a request that was refused before its body was read."""
        ...


@contextmanager
def stop_on_signals() -> Generator[asyncio.Event]:
    """Yield an event that a signal to stop sets, instead of ending the process; needs a running loop."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: FrameType | None) -> None:
        # A handler of `signal.signal` may run at any point of the loop; this call also wakes the loop up.
        loop.call_soon_threadsafe(stopped.set)

    # loop.add_signal_handler is missing on Windows. nohup ignores SIGHUP on purpose.
    handled = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@asynccontextmanager
async def serve(handler: WebhookHandler, *, host: str, port: int, path: str) -> AsyncGenerator[str]:
    """Serve during the block; yields the address.

    Raises:
        ConfigurationError: The address cannot be used.
    """

    async def answer(request: web.Request) -> web.Response:
        reply = await _reply(request, handler, path.rstrip("/"))
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    app = web.Application(client_max_size=_MAX_BODY)
    # Every path, so that a webhook to a wrong path is shown too.
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN, access_log=None, logger=_LOG)
    await runner.setup()
    try:
        yield await _listen(runner, host, port) + path
    finally:
        await runner.cleanup()


async def _reply(request: web.Request, handler: WebhookHandler, path: str) -> _http.WebhookResponse:
    reply = _http.NOT_FOUND
    if request.path.rstrip("/") == path:
        refusal = _http.refuse_head(request.method, request.headers, _MAX_BODY)
        body = refusal or await _body(request)
        if isinstance(body, bytes):
            return await handler.handle(request.headers, body)
        reply = body
    handler.on_refused(reply)
    return reply


async def _body(request: web.Request) -> bytes | _http.WebhookResponse:
    limit = asyncio.timeout(_BODY_SECONDS)
    try:
        async with limit:
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _http.TOO_LARGE
    except Exception:  # noqa: BLE001  aiohttp has several errors for a closed connection
        return _http.TOO_SLOW if limit.expired() else _http.INCOMPLETE


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        problem = network_problem(error)
    else:
        actual_port = runner.addresses[0][1]
        # A server that listens on every address is reached from this machine through the loopback address.
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        return f"http://{f'[{name}]' if ':' in name else name}:{actual_port}"
    msg = f"Cannot listen on {host} port {port} ({problem}): give another --host or --port."
    raise ConfigurationError(msg)
