"""A server of webhooks in the foreground: one path, until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from veriff_async import ConfigurationError
from veriff_async.cli._http import network_problem
from veriff_async.webhooks import _http

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping
    from types import FrameType

__all__ = ("Taker", "serving", "stopping")

_MOST: Final = 1_048_576
"""Bytes of a body, as a `WebhookReceiver` has it."""

_BODY_SECONDS: Final = 4.0
_LOG: Final = logging.getLogger(__name__)
# A body that is not what it says to be is refused in a line of ours; a server would add a traceback.
_LOG.addFilter(lambda record: record.getMessage().startswith("Error handling request"))

_SHUTDOWN: Final = 1.0
"""Seconds that requests under way have to end."""


class Taker(Protocol):
    """Who takes the webhooks."""

    async def take(self, headers: Mapping[str, str], body: bytes) -> _http.WebhookResponse:
        """Take what was posted, and say what to answer."""
        ...

    def refused(self, reply: _http.WebhookResponse) -> None:
        """Hear of a request that was refused before it could be a webhook."""
        ...


@contextmanager
def stopping() -> Generator[asyncio.Event]:
    """Give an event that SIGINT, SIGTERM and SIGHUP set, instead of ending the process; needs a running loop."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopped.set)

    # loop.add_signal_handler is missing on Windows, as is SIGHUP. nohup has SIGHUP ignored on purpose.
    found = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    numbers = [number for number in found if number is not None and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@asynccontextmanager
async def serving(taker: Taker, *, host: str, port: int, path: str) -> AsyncGenerator[str]:
    """Serve inside of the block; what it gives is the address to post to.

    Raises:
        ConfigurationError: It cannot listen there.
    """

    async def answer(request: web.Request) -> web.Response:
        reply = await _reply(request, taker, path.rstrip("/"))
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    app = web.Application(client_max_size=_MOST)
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN, access_log=None, logger=_LOG)
    await runner.setup()
    try:
        yield await _listen(runner, host, port) + path
    finally:
        await runner.cleanup()


async def _reply(request: web.Request, taker: Taker, path: str) -> _http.WebhookResponse:
    reply = _http.NOT_FOUND
    if request.path.rstrip("/") == path:
        early = _http.refuse_head(request.method, request.headers, _MOST)
        found = early or await _body(request)
        if isinstance(found, bytes):
            return await taker.take(request.headers, found)
        reply = found
    taker.refused(reply)
    return reply


async def _body(request: web.Request) -> bytes | _http.WebhookResponse:
    limit = asyncio.timeout(_BODY_SECONDS)
    try:
        async with limit:
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _http.TOO_LARGE
    except Exception:  # noqa: BLE001  the server has several errors for a connection that is gone
        return _http.TOO_SLOW if limit.expired() else _http.INCOMPLETE


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        problem = network_problem(error)
    else:
        found = runner.addresses[0][1]
        # Who listens on every address is reached on this machine's own.
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        return f"http://{f'[{name}]' if ':' in name else name}:{found}"
    msg = f"Listening on {host} port {port} cannot be done ({problem}): give another --host or --port."
    raise ConfigurationError(msg)
