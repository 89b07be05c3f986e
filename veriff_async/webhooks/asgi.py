"""Webhooks in ASGI: an application for FastAPI, Starlette, Litestar, Quart, Django, or a server alone.

https://asgi.readthedocs.io/en/latest/specs/main.html, version 3; no framework is imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, cast

from veriff_async.errors import ConfigurationError
from veriff_async.webhooks._http import NOT_HERE, check_path, check_receiver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from veriff_async.webhooks._http import WebhookResponse
    from veriff_async.webhooks.receiver import WebhookReceiver

__all__ = ("AsgiWebhooks", "asgi_app")

# Wide enough for the types of every framework: some have mappings, some a class for each message.
_Message = Mapping[str, object]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[..., Awaitable[None]]


def asgi_app(
    receiver: WebhookReceiver, *, path: str | None = None, fallback: Callable[..., Awaitable[object]] | None = None
) -> AsgiWebhooks:
    """Return an ASGI application that receives webhooks.

    It speaks the lifespan protocol: it opens the receiver at each start and closes it at shutdown, before `fallback`
    shuts down. A framework that it is mounted in does not pass that on, so open and close the receiver in the lifespan
    of your application there, by ``async with receiver``.

    Args:
        receiver: What takes the webhooks.
        path: Where, with and without a slash at its end; ``None`` is everywhere, for an application that is mounted.
        fallback: The application that everything else goes to; without one the rest is answered 404.

    Raises:
        ConfigurationError: The receiver is of another type, the path is not one, or `fallback` cannot be called.

    Example:
        >>> app.router.routes.append(Route("/webhooks/veriff", asgi_app(receiver)))  # FastAPI, Starlette
        >>> app.asgi_app = asgi_app(receiver, path="/webhooks/veriff", fallback=app.asgi_app)  # Quart
    """
    return AsgiWebhooks(receiver, path, fallback)


class AsgiWebhooks:
    """What `asgi_app` returns: an object rather than a function, so that a route of Starlette takes it as it is."""

    def __init__(
        self, receiver: WebhookReceiver, path: str | None, fallback: Callable[..., Awaitable[object]] | None
    ) -> None:
        """Take what `asgi_app` is given."""
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
            await self._live(scope, receive, send)
        elif kind == "http" and self._is_here(scope):
            await self._handle(scope, receive, send)
        elif self._fallback is not None:
            await self._fallback(scope, receive, send)
        elif kind == "http":
            await _send_reply(send, NOT_HERE)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    def _is_here(self, scope: _Message) -> bool:
        if self._path is None:
            return True
        # By the specification `path` includes `root_path`; hypercorn's `--root-path` leaves it out.
        path, root = str(scope.get("path")).rstrip("/"), str(scope.get("root_path") or "").rstrip("/")
        here = self._path.rstrip("/")
        return path in {here, root + here}

    async def _handle(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        is_gone = False

        async def chunks() -> AsyncGenerator[bytes]:
            nonlocal is_gone
            is_more = True
            while is_more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    is_gone = True
                    raise ConnectionResetError
                yield cast("bytes", message.get("body") or b"")
                is_more = bool(message.get("more_body"))

        headers = _joined(cast("Iterable[tuple[bytes, bytes]]", scope.get("headers") or ()))
        client = cast("Sequence[object] | None", scope.get("client"))
        remote = str(client[0]) if client else None
        reply = await self._receiver.handle(str(scope.get("method")), headers, chunks(), remote=remote)
        if not is_gone:
            await _send_reply(send, reply)

    async def _live(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Open and close the receiver, and pass the lifespan on to the other application if that has one."""
        has_begun = has_spoken = False

        async def heard() -> _Message:
            nonlocal has_begun
            message = await receive()
            has_begun = True
            if message["type"] == "lifespan.startup":
                self._receiver.open()
            elif message["type"] == "lifespan.shutdown":
                await self._receiver.aclose()
            return message

        async def said(message: _Message) -> None:
            nonlocal has_spoken
            has_spoken = True
            await send(message)

        if self._fallback is not None:
            try:
                await self._fallback(scope, heard, said)
            except Exception:
                # So an application says that it knows no lifespan, Django's for one; the receiver has one all the same.
                if has_spoken:
                    raise
            if has_spoken:
                return
        if not has_begun:
            await heard()
        await send({"type": "lifespan.startup.complete"})
        await heard()
        await send({"type": "lifespan.shutdown.complete"})


def _check_fallback(fallback: object) -> None:
    if fallback is not None and not callable(fallback):
        msg = f"fallback must be an ASGI application, got {type(fallback).__name__}: pass one, or leave it out."
        raise ConfigurationError(msg)


def _joined(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name; one that comes twice and says two things says both, and is nobody's signature."""
    headers: dict[str, str] = {}
    for key, value in raw:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        known = headers.get(name)
        headers[name] = text if known in {None, text} else f"{known}, {text}"
    return headers


async def _send_reply(send: _Send, reply: WebhookResponse) -> None:
    headers = {**reply.headers, "content-length": str(len(reply.body))}
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
    await send({"type": "http.response.body", "body": reply.body})
