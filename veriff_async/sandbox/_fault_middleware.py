"""The middleware that makes requests fail and responses late, and records every request.

The service decides by pure rules (injected faults, the chaos profile, the rate limit); this module waits, cuts and
closes.

It is outside of the layer that signs, so that a fault can change a response after it was signed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from aiohttp import web
from anyio import move_on_after, to_thread

from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._faults import FaultKind
from veriff_async.sandbox._handlers import FILE
from veriff_async.sandbox._records import ReceivedRequest
from veriff_async.sandbox._signature_verdict import FACTS, RequestFacts
from veriff_async.sandbox._timeline_entries import RequestEntry, shorten_path

if TYPE_CHECKING:
    import asyncio

    from aiohttp.typedefs import Middleware

    from veriff_async.sandbox._chaos.engine import RequestPlan
    from veriff_async.sandbox._faults import Fault
    from veriff_async.sandbox._service import SandboxService

__all__ = ("IS_FORGED", "FaultMiddleware")

_CHUNK_BYTES: Final = 256 * 1024

IS_FORGED: Final = web.RequestKey("is_forged", bool)
"""Set for a request whose response is to be signed with a secret that the client does not have."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FaultMiddleware:
    """Makes requests fail as tests have asked, and records every request."""

    def __init__(self, service: SandboxService, respond: Middleware, closing: asyncio.Event) -> None:
        """Create the middleware."""
        self._service = service
        self._respond_to_errors = respond
        self._closing = closing

    @property
    def middleware(self) -> Middleware:
        """The middleware, as aiohttp calls it."""

        @web.middleware
        async def inject_fault(request: web.Request, handler: _Handler) -> web.StreamResponse:
            started_at, endpoint = perf_counter(), _endpoint(request)
            request[FACTS] = facts = RequestFacts()
            if "id" in request.match_info:
                facts.session_id = self._service.owner_of(request.match_info["id"])
            plan = self._service.plan_request(request.method, request.path, endpoint)
            request[IS_FORGED] = plan.fault is not None and plan.fault.kind is FaultKind.FORGE_SIGNATURE
            status, cause = None, "the client has disconnected"
            try:
                response = await self._respond(request, handler, plan)
                status, cause = None if response is None else response.status, plan.cause
                self._service.record_request(
                    ReceivedRequest(method=request.method, path=request.path, status=status, cause=cause)
                )
            finally:
                # Recorded after the handler, so a recorded request has taken effect; also if the client disconnects,
                # which cancels the handler.
                self._service.record(
                    partial(
                        RequestEntry,
                        session_id=facts.session_id,
                        method=request.method,
                        path=shorten_path(request.path),
                        endpoint=endpoint,
                        status=status,
                        code=facts.code,
                        cause=cause,
                        duration=perf_counter() - started_at,
                        signature=facts.signature,
                    )
                )
            # aiohttp wants a response; this one is never sent, because the connection is closed.
            return web.Response() if response is None else response

        return inject_fault

    def _delay(self, handler: _Handler, seconds: float) -> _Handler:
        """Return a handler that waits after its work, as a slow network delays a response."""

        async def respond_late(request: web.Request) -> web.StreamResponse:
            response = await handler(request)
            # Under a clock that stands still nothing waits: a request that waited for `Sandbox.advance` would block
            # the test that has to call it.
            if seconds and self._service.clock.runs:
                with move_on_after(seconds):
                    await self._closing.wait()
            return response

        return respond_late

    async def _respond(self, request: web.Request, handler: _Handler, plan: RequestPlan) -> web.StreamResponse | None:
        """Return the response to a request, or ``None`` after its connection was closed."""
        fault = plan.fault
        if fault is not None and fault.kind is FaultKind.STATUS:
            return await self._delay(self._refuse(fault), plan.latency)(request)
        handler = self._delay(handler, plan.latency)
        if fault is None or fault.kind is FaultKind.FORGE_SIGNATURE:
            return await handler(request)
        if fault.kind is FaultKind.CORRUPT_RESPONSE:
            return await _corrupt(request, await handler(request), fault.after)
        if fault.kind in {FaultKind.TRUNCATE_RESPONSE, FaultKind.STALL_RESPONSE}:
            await _send_beginning(request, await handler(request), fault.after)
        elif fault.kind is FaultKind.LOSE_RESPONSE:
            await handler(request)
        else:
            await _discard_body(request, up_to=fault.after)
        if fault.kind in {FaultKind.HANG, FaultKind.STALL_RESPONSE}:
            await self._closing.wait()
        if request.transport is not None:
            request.transport.abort()
        return None

    def _refuse(self, fault: Fault) -> _Handler:
        """Return a handler that responds with the status of a fault."""

        async def refuse(_request: web.Request) -> web.StreamResponse:
            raise HTTPError(fault.http_status, fault.code, fault.message)

        async def respond(request: web.Request) -> web.StreamResponse:
            if not fault.before_body:
                await _discard_body(request)
            # The handlers are skipped, and the error is signed like every other one.
            response = await self._respond_to_errors(request, refuse)
            response.headers.update(fault.headers)
            return response

        return respond


def _endpoint(request: web.Request) -> str:
    """Return the method and the path of the route; all requests without a route share one name."""
    resource = request.match_info.route.resource
    return "other" if resource is None else f"{request.method} {resource.canonical.rstrip('/')}"


async def _discard_body(request: web.Request, *, up_to: int | None = None) -> None:
    """Read the body, or so many bytes of it."""
    size = 0
    with suppress(web.RequestPayloadError):
        while up_to is None or size < up_to:
            chunk = await request.content.read(_CHUNK_BYTES if up_to is None else min(_CHUNK_BYTES, up_to - size))
            if not chunk:
                return
            size += len(chunk)


async def _read_response(request: web.Request, response: web.StreamResponse) -> bytes:
    """Return the body of a response that was not sent yet."""
    if isinstance(response, web.FileResponse):
        return await to_thread.run_sync(request[FILE].read_bytes)
    body = response.body if isinstance(response, web.Response) else None
    return body if isinstance(body, bytes) else b""


async def _corrupt(request: web.Request, response: web.StreamResponse, offset: int) -> web.Response:
    """Return a response with one byte changed."""
    body = bytearray(await _read_response(request, response))
    if body:
        body[min(offset, len(body) - 1)] ^= 0xFF
    return web.Response(body=bytes(body), status=response.status, headers=_headers_without_length(response))


async def _send_beginning(request: web.Request, response: web.StreamResponse, size: int) -> None:
    """Send the headers of a response and the first bytes of its body."""
    body = await _read_response(request, response)
    beginning = web.StreamResponse(status=response.status, headers=_headers_without_length(response))
    # The full length is announced, so that the client can see that bytes are missing.
    beginning.content_length = len(body)
    await beginning.prepare(request)
    await beginning.write(body[:size])


def _headers_without_length(response: web.StreamResponse) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.lower() != "content-length"}
