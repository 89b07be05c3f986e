"""Runs the middleware of a client around one call.

    outermost ─► ... ─► innermost ─► the call, once
        ▲                                 │
        └────── its result or error ◄─────┘

The result is that of the call, never that of a middleware:

* A middleware must call `call_next` once. A second call raises an error and sends nothing: only the transport knows
  what may be repeated. A return without a call raises an error too; to refuse a call, a middleware raises.
* If a middleware returns although `call_next` has raised, the error is raised again.
* If it raises, the caller gets that error. If the call has created a session, the error names it.
* If the task was cancelled, `CancelledError` is raised, even if a middleware has dropped it.
"""

from __future__ import annotations

import asyncio
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Generic, TypeVar

from veriff_async._protocol.arguments import type_name
from veriff_async._protocol.response import name_session, unknown_outcome
from veriff_async._protocol.response_headers import find_request_id, harmless_headers
from veriff_async.errors import ConfigurationError
from veriff_async.middleware import CallRequest, CallResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from veriff_async._http.exchange import Exchange
    from veriff_async.middleware import Middleware

__all__ = ("run_with_middleware",)

_Result = TypeVar("_Result")


async def run_with_middleware(
    middleware: Sequence[Middleware], exchange: Exchange, run: Callable[[], Awaitable[_Result]]
) -> _Result:
    """Run a call inside of its middleware, the first being the outermost.

    Raises:
        ConfigurationError: A middleware broke a rule; see above.
        OutcomeUnknownError: A middleware ended a call that may have been carried out and must not be repeated.
        BaseException: The error of the call, or of a middleware.
    """
    call, task = _InnerCall(exchange, run), asyncio.current_task()
    cancelled = 0 if task is None else task.cancelling()
    try:
        await _Layer(middleware, call).run()
    except BaseException as error:
        # The error of the call itself is raised as it is, for example an unknown outcome.
        if isinstance(error, asyncio.CancelledError) or call.raised == id(error) or not _is_cancelled(task, cancelled):
            call.name_session(error)
            if not call.is_unknown or isinstance(error, asyncio.CancelledError):
                raise
    else:
        if not _is_cancelled(task, cancelled):
            return call.results[0]
    # Outside the handlers: an error of a middleware is not the cause of a cancellation.
    if call.is_unknown and not _is_cancelled(task, cancelled):
        raise unknown_outcome(exchange.request, "a middleware ended the call before a response arrived")
    lost = asyncio.CancelledError()
    call.name_session(lost)
    raise lost


def _is_cancelled(task: asyncio.Task[Any] | None, before: int) -> bool:
    return task is not None and task.cancelling() > before


class _InnerCall(Generic[_Result]):
    """The call itself, and its result."""

    def __init__(self, exchange: Exchange, run: Callable[[], Awaitable[_Result]]) -> None:
        request = exchange.request
        self.request = CallRequest(
            operation=request.operation,
            method=request.method,
            path_template=request.path_template,
            session_id=request.session_id,
            is_streamed=exchange.streamed is not None,
            body_size=exchange.body_size,
            body=request.body,
        )
        self.results: list[_Result] = []
        self._is_unfinished = False
        self.raised: int | None = None  # not the error itself, which refers to this object by its traceback
        self._exchange = exchange
        self._run = run
        self._session_id: str | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether the call was cancelled or still runs, may have been carried out, and must not be repeated."""
        return self._is_unfinished and self._exchange.pending and not self._exchange.request.repeatable

    async def run(self) -> CallResponse:
        exchange = self._exchange
        if self.request.headers:
            # A copy, because a middleware may keep the request.
            exchange.added_headers = dict(self.request.headers)
        self._is_unfinished = True
        try:
            result = await self._run()
        except BaseException as error:
            self.raised = id(error)
            self._is_unfinished = isinstance(error, asyncio.CancelledError)
            raise
        self._is_unfinished = False
        self.results.append(result)
        if exchange.request.creates_session:
            self._session_id = getattr(result, "id", None) or getattr(result, "session_id", None)
        headers = harmless_headers(exchange.headers)
        return CallResponse(
            status=exchange.status or 0,
            headers=headers,
            request_id=find_request_id(headers),
            session_id=self._session_id or exchange.request.session_id,
            attempts=exchange.attempts,
            elapsed=exchange.elapsed,
            bytes_sent=exchange.bytes_sent,
            bytes_received=exchange.bytes_received,
            body=exchange.body if exchange.writer is None else None,
        )

    def name_session(self, error: BaseException) -> None:
        """Add the id of the session to an error of a middleware, if the call has created one."""
        if self._session_id is not None:
            name_session(error, self._session_id)


class _Layer:
    """One middleware and everything inside of it; called as its `call_next`."""

    def __init__(self, middleware: Sequence[Middleware], call: _InnerCall[_Result], index: int = 0) -> None:
        self._middleware = middleware[index]
        self._inner = _Layer(middleware, call, index + 1).run if index + 1 < len(middleware) else call.run
        self._request = call.request
        self._has_begun = self._has_returned = False
        self._has_finished = False
        self._finished: asyncio.Event | None = None  # made if it is waited for, which is rare
        self._response: CallResponse | None = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return "<call_next>"

    async def run(self) -> CallResponse:
        """Run the middleware, and return the response of the call."""
        try:
            running: object = self._middleware(self._request, self)
            # Nearly always it is a coroutine, which is recognised faster.
            if not isinstance(running, CoroutineType) and not isawaitable(running):
                raise self._refuse(f"returned {type_name(running)}: define it with async def")  # noqa: TRY301
            await running
            if not self._has_begun:
                fault = "returned without call_next: await call_next(request), or raise an error"
                raise self._refuse(fault)  # noqa: TRY301
            if not self._has_finished:  # a task of the middleware still runs it
                self._finished = asyncio.Event()
                await self._finished.wait()
        except BaseException:
            # The error refers to this object by its traceback: a cycle that only the garbage collector would free.
            self._error = None
            raise
        finally:
            self._has_returned = True
        error, self._error = self._error, None
        if self._response is not None:
            return self._response
        if isinstance(error, asyncio.CancelledError) or error is None:
            raise self._refuse("ended the call and returned: raise an error instead")
        try:
            raise error
        finally:
            del error

    async def __call__(self, request: CallRequest) -> CallResponse:
        """Run the rest of the call."""
        if request is not self._request:
            raise self._refuse("called call_next with another request: pass on the CallRequest that it received")
        if self._has_begun:
            raise self._refuse("called call_next twice: RetryPolicy repeats what may be repeated")
        if self._has_returned:
            raise self._refuse("called call_next after it had returned: await it before")
        self._has_begun = True
        try:
            self._response = await self._inner()
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._has_finished = True
            if self._finished is not None:
                self._finished.set()
        return self._response

    def _refuse(self, fault: str) -> ConfigurationError:
        name: object = getattr(self._middleware, "__qualname__", type_name(self._middleware))
        return ConfigurationError(f"The middleware {name} {fault}.")
