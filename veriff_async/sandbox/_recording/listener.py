"""Listens on an address with a low-level server, for the recorder and the replay.

It has no routes, leaves paths and compressed bodies as they are, and does not answer ``Expect`` by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from veriff_async._http.server_log import get_server_logger
from veriff_async._protocol.arguments import check_number
from veriff_async.sandbox._address import listen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.sandbox._parts import Parts

__all__ = ("allow_body", "check_port", "serve")

_log: Final = get_server_logger(__name__)

_LAST_PORT: Final = 65_535
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# Time that running requests have to finish at the stop, as in the sandbox.
_SHUTDOWN_SECONDS: Final = 1.0


def check_port(port: object) -> int:
    """Check the option `port`."""
    remedy = f"pass a port from 0 to {_LAST_PORT}"
    return int(check_number("port", port, remedy=remedy, whole=True, highest=_LAST_PORT))


async def allow_body(request: web.BaseRequest) -> None:
    """Let a client that waits for it send its body (https://www.rfc-editor.org/rfc/rfc9110#name-expect)."""
    if "100-continue" in request.headers.get("Expect", "").lower():
        await request.writer.write(_CONTINUE)


async def serve(
    parts: Parts,
    handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    host: str,
    port: int,
    *,
    name: str,
) -> str:
    """Serve until `parts` is closed, and return the URL for clients.

    Args:
        parts: Gets the stop of the server.
        handle: Handles requests; a client that disconnects cancels it.
        host: Address to listen on.
        port: Port; 0 selects a free one.
        name: Who listens, for the error.

    Raises:
        ConfigurationError: The address cannot be used.
    """
    server = web.Server(handle, handler_cancellation=True, auto_decompress=False, access_log=None, logger=_log)
    runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    parts.push_async_callback(runner.cleanup)
    return await listen(runner, host, port, name=name)
