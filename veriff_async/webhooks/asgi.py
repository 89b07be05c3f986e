"""Webhooks in ASGI: an application for FastAPI, Starlette, Litestar, Quart, Django, or a server alone.

https://asgi.readthedocs.io/en/latest/specs/main.html, version 3; no framework is imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, cast

from veriff_async.errors import ConfigurationError
from veriff_async.webhooks._http import NOT_FOUND, check_path, check_receiver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from veriff_async.webhooks._http import Receiver, WebhookResponse

__all__ = ("AsgiWebhooks", "asgi_app")

# Wide enough for the types of every framework: some use mappings, some a class for each message.
_Message = Mapping[str, object]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[..., Awaitable[None]]


def asgi_app(
    receiver: Receiver, *, path: str | None = None, fallback: Callable[..., Awaitable[object]] | None = None
) -> AsgiWebhooks:
    """Return an ASGI application that receives webhooks.

    It supports the lifespan protocol: it opens the receiver at each startup and closes it at shutdown, before
    `fallback` shuts down. A framework that it is mounted in does not pass these events on, so use ``async with
    receiver`` in the lifespan of your application there.

    Args:
        receiver: A `WebhookReceiver` or an `IntegrationReceiver`.
        path: The path of webhooks, with and without a trailing slash; ``None`` means every path, for an application
            that is mounted.
        fallback: The application for all other requests; without one they are answered 404.

    Raises:
        ConfigurationError: The receiver is of another type, the path is not one, or `fallback` cannot be called.

    Example:
        >>> app.router.routes.append(Route("/webhooks/veriff", asgi_app(receiver)))  # FastAPI, Starlette
        >>> app.asgi_app = asgi_app(receiver, path="/webhooks/veriff", fallback=app.asgi_app)  # Quart
    """
    return AsgiWebhooks(receiver, path, fallback)


class AsgiWebhooks:
    """The result of `asgi_app`: an object and not a function, so that a route of Starlette accepts it unwrapped."""

    def __init__(self, receiver: Receiver, path: str | None, fallback: Callable[..., Awaitable[object]] | None) -> None:
        """Check the arguments; see `asgi_app`."""
        check_receiver(receiver)
        if path is not None:
            check_path(path)
        _check_fallback(fallback)
        self._receiver = receiver
        self._path = path
        self._fallback = fallback

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._run_lifespan(scope, receive, send)
        elif kind == "http" and (self._path is None or self._matches(scope)):
            await self._handle(scope, receive, send)
        elif self._fallback is not None:
            await self._fallback(scope, receive, send)
        elif kind == "http":
            await _send_response(send, NOT_FOUND)
        elif kind == "websocket":
            # A server waits for an answer to the handshake, so the connection is closed and not ignored.
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    def _matches(self, scope: _Message) -> bool:
        # The specification says that `path` includes `root_path`; hypercorn's `--root-path` omits it.
        path, root = str(scope.get("path")).rstrip("/"), str(scope.get("root_path") or "").rstrip("/")
        expected = (self._path or "").rstrip("/")
        return path in {expected, root + expected}

    async def _handle(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        # After a disconnect no response may be sent, and servers differ in what they raise for it.
        is_disconnected = False

        async def chunks() -> AsyncGenerator[bytes]:
            nonlocal is_disconnected
            has_more = True
            while has_more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    is_disconnected = True
                    raise ConnectionResetError
                yield cast("bytes", message.get("body") or b"")
                has_more = bool(message.get("more_body"))

        headers = _join_headers(cast("Iterable[tuple[bytes, bytes]]", scope.get("headers") or ()))
        client = cast("Sequence[object] | None", scope.get("client"))
        remote = str(client[0]) if client else None
        response = await self._receiver.handle(str(scope.get("method")), headers, chunks(), remote=remote)
        if not is_disconnected:
            await _send_response(send, response)

    async def _run_lifespan(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Open and close the receiver, and pass the lifespan events to the other application if it handles them."""
        has_received = has_sent = False

        async def receive_event() -> _Message:
            nonlocal has_received
            message = await receive()
            has_received = True
            if message["type"] == "lifespan.startup":
                self._receiver.open()
            elif message["type"] == "lifespan.shutdown":
                await self._receiver.aclose()
            return message

        async def send_event(message: _Message) -> None:
            nonlocal has_sent
            has_sent = True
            await send(message)

        if self._fallback is not None:
            try:
                await self._fallback(scope, receive_event, send_event)
            except Exception:
                # By an exception an application says that it does not support the lifespan, as Django's does; the
                # receiver still needs it.
                if has_sent:
                    raise
            if has_sent:
                return
        if not has_received:
            await receive_event()
        await send({"type": "lifespan.startup.complete"})
        await receive_event()
        await send({"type": "lifespan.shutdown.complete"})


def _check_fallback(fallback: object) -> None:
    if fallback is not None and not callable(fallback):
        msg = f"fallback must be an ASGI application, not {type(fallback).__name__}: pass one, or omit it."
        raise ConfigurationError(msg)


def _join_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name; one that comes twice has both values if they differ, so it is not a valid signature."""
    headers: dict[str, str] = {}
    for key, value in raw:
        # HTTP headers are bytes; latin-1 decodes every byte and never fails.
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        previous = headers.get(name)
        headers[name] = text if previous in {None, text} else f"{previous}, {text}"
    return headers


async def _send_response(send: _Send, response: WebhookResponse) -> None:
    headers = {**response.headers, "content-length": str(len(response.body))}
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": pairs})
    await send({"type": "http.response.body", "body": response.body})
