"""Sends the calls of one client, and repeats an attempt if that is safe and the budget allows it.

    call ──► sign ──► cooldown ──► attempt ──► decide ──► FINAL    parse the response, or raise the error of the failure
                         ▲          │             └─────► UNKNOWN  raise OutcomeUnknownError
                         └─ delay ◄─┴─ RETRY

Who does what
  * `Transport.send` signs a `Call`, repeats it, checks the signature of the response, and returns the parsed result.
  * `Sender` (attempt.py) makes one attempt. It returns a `Response` of any status, or a `FailedAttempt`; it raises only
    errors that a repetition does not change, for example of a file.
  * `retry.decide` returns whether the outcome of an attempt is final, may be repeated, or leaves open whether Veriff
    has acted; `retry.next_delay` returns when the next attempt may begin. Both are pure.
  * `Cooldown` holds back all requests of the client after a 429 or 503.
  * `ActiveCalls.guard` ends a call when the client is closed.

Why nothing is done twice
  * Veriff has no idempotency key. A request that must not be repeated (`Request.repeatable`) is sent again only if the
    last attempt certainly did nothing; otherwise the call ends with `OutcomeUnknownError`.
  * aiohttp repeats no request by itself (see `SentOnce`), so that each attempt passes through `decide`, is counted, and
    is within `RetryPolicy`.
  * A request that must not be repeated gets its own connection: a server may close an idle one at the moment at which
    the request is sent, and then nothing shows whether it read the request. The repetition after a broken connection
    gets its own one too, since other idle connections of the pool may be broken as well.

Order of events
  * Calls are independent, and their attempts overlap in any order. They share only the cooldown, the pool and counters,
    also with the calls of views (`Transport.with_settings`).
  * A cooldown may begin at any time because of another call; a call that waits uses up no attempt, only its time.
  * The client may be closed at any await. `Exchange.pending` is then whether a request may have been carried out.
  * A cancellation of the caller's passes through unchanged.
"""

from __future__ import annotations

import asyncio
from functools import partial
from random import random
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define, evolve

from veriff_async._event_loop import require_asyncio
from veriff_async._http import observation
from veriff_async._http.attempt import FailedAttempt, OpenResponse, Sender, decide_outcome
from veriff_async._http.call_log import CallLog, is_logged
from veriff_async._http.cooldown import Cooldown
from veriff_async._http.counters import CallCounters
from veriff_async._http.exchange import Exchange
from veriff_async._http.middleware_chain import run_with_middleware
from veriff_async._http.payload import CallbackError
from veriff_async._protocol.response import (
    api_error,
    check_authenticity,
    is_refusal,
    is_signed,
    session_id_in,
    unknown_outcome,
)
from veriff_async._protocol.response_headers import harmless_headers
from veriff_async._protocol.retry import RetryDecision, asks_to_slow_down, may_have_acted, next_delay
from veriff_async._views import view_of
from veriff_async.errors import (
    ApiError,
    ClientClosedError,
    RateLimitedError,
    ResponseError,
    TransportError,
    VeriffError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from veriff_async._http.exchange import BodyWriter
    from veriff_async._http.observers import Observer
    from veriff_async._http.payload import StreamedBody
    from veriff_async._http.pool import Pool
    from veriff_async._protocol.base_url import Host
    from veriff_async._protocol.call import Call
    from veriff_async._protocol.request import Request
    from veriff_async._protocol.response import Response
    from veriff_async.config import RetryPolicy, Timeouts
    from veriff_async.credentials import Credentials
    from veriff_async.middleware import Middleware

__all__ = ("Transport",)

_Result = TypeVar("_Result")
_TOO_MANY_REQUESTS: Final = 429
_NOT_FOUND: Final = 404
_CALL_LOG: Final = CallLog()


@define
class _Shared:
    """Settings that the views of one client share, and that may be replaced while calls run."""

    credentials: Credentials
    # Other calls must not pause for longer or shorter because the call of a view was refused.
    retry: RetryPolicy


class Transport:
    """Sends the calls of one client, or of a view of it, over its pool.

    Attributes:
        guard: Returns a context manager that ends its block with `ClientClosedError` when the client is closed.
        cooldown: The pause that all calls share after a 429 or 503.
        counters: The numbers of requests.
        observers: They observe all calls that begin from now on, next to the log.
        middleware: It surrounds all calls, the first being the outermost.
    """

    def __init__(  # noqa: PLR0913  what all calls of a client share
        self,
        *,
        credentials: Credentials,
        roots: Mapping[Host, str],
        pool: Pool,
        retry: RetryPolicy,
        timeouts: Timeouts,
        verify_responses: bool,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        """Share the settings of all calls of a client."""
        self.guard: Callable[[], AbstractContextManager[None]] = pool.calls.guard
        self._shared = _Shared(credentials, retry)
        self._retry = retry
        self._verify = verify_responses
        self.middleware: tuple[Middleware, ...] = tuple(middleware)
        self._roots = roots
        self.cooldown: Cooldown = Cooldown()
        self.counters: CallCounters = CallCounters()
        self._sender = Sender(roots=roots, pool=pool, timeouts=timeouts, counters=self.counters)
        self.observers: list[Observer] = []

    @property
    def credentials(self) -> Credentials:
        """The credentials that the next call is signed with, of the client and all its views."""
        return self._shared.credentials

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        self._shared.credentials = credentials

    def with_settings(
        self, *, retry: RetryPolicy | None, timeouts: Timeouts | None, middleware: Sequence[Middleware]
    ) -> Transport:
        """Return a transport for a view, which shares everything except these settings.

        Args:
            retry: How often and how long a call is tried; ``None`` keeps it.
            timeouts: How long one attempt may take; ``None`` keeps it.
            middleware: Surrounds calls inside the middleware of this transport.
        """
        sender = self._sender if timeouts is None else self._sender.with_timeouts(timeouts)
        return view_of(self, _retry=retry or self._retry, _sender=sender, middleware=(*self.middleware, *middleware))

    async def send(self, call: Call[_Result], body: StreamedBody | None = None) -> _Result:
        """Send a call until there is a response to return, and parse it.

        Args:
            call: The call.
            body: Its streamed body, if it has one.

        Returns:
            The result of `Call.parse`.

        Raises:
            ApiError: Veriff refused.
            ConnectError: The connection could not be made.
            RequestTimeoutError: Bytes stopped moving.
            OutcomeUnknownError: Nothing proves whether it was carried out, and repeating could do it twice.
            TransportError: The connection broke on every attempt.
            RateLimitedError: Another call was refused with 429 or 503, and the pause that Veriff requested is longer
                than `RetryPolicy.max_elapsed`.
            ResponseError: The response is too large, its signature is wrong, or it cannot be parsed.
            MediaError: The body could not be read, or changed.
            ClientClosedError: The client was closed before the call ended. If that leaves open whether a request was
                carried out that must not be repeated, the error is an `OutcomeUnknownError`.
        """
        if body is None:
            exchange = Exchange(call.sign(self.credentials))
        else:
            exchange = Exchange(call.sign(body.credentials, signature=body.signature), body)
        if self.middleware:
            return await run_with_middleware(self.middleware, exchange, partial(self._run, exchange, call))
        return await self._run(exchange, call)

    async def download(self, call: Call[None], writer: BodyWriter) -> None:
        """Send a call whose response is a file, and return when `writer` has the whole file and it is verified.

        Raises:
            VeriffError: Any error that `send` raises.
        """
        exchange = Exchange(call.sign(self.credentials), writer=writer)
        if self.middleware:
            return await run_with_middleware(self.middleware, exchange, partial(self._run, exchange, call))
        return await self._run(exchange, call)

    async def open(self, call: Call[None]) -> OpenResponse:
        """Send a call until a success begins, and leave its body to the caller, who calls `close`.

        Raises:
            VeriffError: Any error that `send` raises.
        """
        exchange = Exchange(call.sign(self.credentials))
        if self.middleware:
            return await run_with_middleware(self.middleware, exchange, partial(self._open, exchange))
        return await self._open(exchange)

    async def _open(self, exchange: Exchange) -> OpenResponse:
        self._begin(exchange)
        try:
            with self.guard():
                response = await self._repeat(exchange, self._sender.open)
            return self._check_open(response)
        except BaseException as error:
            self._end(exchange, error)
            raise

    async def probe(self, call: Call[_Result]) -> Response:
        """Make one attempt of a call, on a connection of its own: without a retry, and also during a pause.

        A 404 counts as a success, because a probe asks for what does not exist.

        Raises:
            TransportError: No response arrived.
            ResponseError: The response is too large.
            ClientClosedError: The client was closed.
        """
        exchange = Exchange(call.sign(self.credentials))
        if self.middleware:
            return await run_with_middleware(self.middleware, exchange, partial(self._probe, exchange))
        return await self._probe(exchange)

    async def _probe(self, exchange: Exchange) -> Response:
        self._begin(exchange)
        try:
            with self.guard():
                outcome = await self._attempt(exchange, self._sender.send, own_connection=True)
                if isinstance(outcome, FailedAttempt):
                    raise outcome.to_error(exchange.request)  # noqa: TRY301  it ends the call like any other error
        except BaseException as error:
            self._end(exchange, error)
            raise
        self._slow_down(exchange, outcome, exchange.started)
        if is_refusal(outcome) and outcome.status != _NOT_FOUND:
            self._end(exchange, api_error(outcome))
        else:
            self.counters.add_call(exchange)
            if exchange.observers:
                observation.end_call(exchange)
        return outcome

    def close(self, opened: OpenResponse, error: BaseException | None = None) -> None:
        """Close an open response; `error` is what ended its reading before the end, if anything did."""
        opened.response.close()
        # An error of another call, which the block of the stream has made, has its own values.
        if isinstance(error, TransportError | ResponseError) and error.attempts is None:
            _describe(opened.exchange, error)
        self.counters.add_call(opened.exchange, error)
        if opened.exchange.observers:
            observation.end_attempt(opened.exchange, error=error)
            observation.end_call(opened.exchange, error=error)

    def _check_open(self, response: Response) -> OpenResponse:
        if isinstance(response, OpenResponse):
            return response
        if self._verify:
            check_authenticity(response)
        raise api_error(response)

    async def read_piece(self, opened: OpenResponse) -> bytes:
        """Return the next bytes of an open response, or ``b""`` at its end; see `Sender.read_piece`.

        Raises:
            TransportError: The body stalled, or the connection broke.
            ClientClosedError: The client was closed.
        """
        with self.guard():
            return await self._sender.read_piece(opened)

    async def _run(self, exchange: Exchange, call: Call[_Result]) -> _Result:
        self._begin(exchange)
        try:
            response: Response | None = None
            try:
                with self.guard():
                    response = await self._repeat(exchange, self._sender.send)
            except ClientClosedError:
                if exchange.request.repeatable or not exchange.pending:
                    raise
            # Outside the guard: parsing does not use the network, and must not end as a closed client.
            if response is None:
                raise unknown_outcome(exchange.request, "the client was closed before a response arrived")  # noqa: TRY301
            if self._verify:
                check_authenticity(response)
            exchange.body = response.body
            result = call.parse(response)
        except CallbackError as raised:
            error = raised.error
            self._end(exchange, error)
        except BaseException as raised:
            self._end(exchange, raised)
            raise
        else:
            self.counters.add_call(exchange)
            if exchange.observers:
                session_id = getattr(result, "id", None) if exchange.request.creates_session else None
                observation.end_call(exchange, session_id=session_id)
            return result
        # Outside the handler, so that the wrapper does not become the context of the caller's own exception.
        raise error

    def _begin(self, exchange: Exchange) -> None:
        task = exchange.task = require_asyncio()
        clock = exchange.clock = task.get_loop().time
        exchange.started = clock()
        request = exchange.request
        self.counters.calls[request.operation] += 1
        # One look at the log for the whole call: it is the only cost of a log that is off.
        if self.observers or is_logged():
            observation.start_call(exchange, (_CALL_LOG, *self.observers), self._roots[request.host])

    async def _repeat(
        self, exchange: Exchange, attempt: Callable[..., Awaitable[Response | FailedAttempt]]
    ) -> Response:
        clock = exchange.clock
        request, started, repeated = exchange.request, exchange.started, False
        outcome: Response | FailedAttempt | None = None
        # See "Why nothing is done twice" above.
        own_connection = not request.repeatable
        attempt_started = started
        while True:
            if not self.cooldown.start(attempt_started):
                if not await self.cooldown.wait(started + self._retry.max_elapsed):
                    break
                attempt_started = clock()
            outcome = await self._attempt(exchange, attempt, own_connection=own_connection)
            decision = decide_outcome(request, outcome)
            if decision is RetryDecision.FINAL:
                break
            if decision is RetryDecision.UNKNOWN:
                raise _to_unknown(request, outcome)
            delay = next_delay(
                self._retry,
                attempts=exchange.attempts,
                elapsed=clock() - started,
                retry_after=None if isinstance(outcome, FailedAttempt) else outcome.retry_after,
                random_value=random(),  # noqa: S311  jitter
            )
            # Also if this call gives up: the other calls of the client must slow down all the same.
            self._slow_down(exchange, outcome, attempt_started)
            if delay is None:
                break
            # Only an attempt that may have acted counts: after a 429, for example, nothing was done.
            repeated = repeated or _may_have_acted(outcome)
            own_connection = own_connection or isinstance(outcome, FailedAttempt)
            self.counters.retries += 1
            self.counters.retry_reasons[_failure_of(outcome)] += 1
            if exchange.observers:
                observation.report_retry(exchange, delay, outcome)
            await asyncio.sleep(delay)
            attempt_started = clock()
        if outcome is not None and not isinstance(outcome, FailedAttempt):
            # A refusal after a repetition may describe the result of an earlier attempt, for example code 1304.
            return evolve(outcome, repeated=True) if repeated else outcome
        error = _rate_limited(request, self.cooldown.remaining) if outcome is None else outcome.to_error(request)
        error.repeated = repeated
        raise error

    def _end(self, exchange: Exchange, error: BaseException) -> None:
        """Add to an error how its call went, and report the end of the call."""
        self.counters.add_call(exchange, error)
        _describe(exchange, error)
        if exchange.observers:
            observation.end_call(exchange, error=error)

    def _attempt(
        self,
        exchange: Exchange,
        attempt: Callable[..., Awaitable[Response | FailedAttempt]],
        *,
        own_connection: bool,
    ) -> Awaitable[Response | FailedAttempt]:
        """Return an attempt to await: one coroutine more would be noticeable in each upload."""
        exchange.attempts += 1
        self.counters.requests += 1
        if exchange.observers:
            return observation.run_attempt(exchange, partial(attempt, exchange, own_connection=own_connection))
        return attempt(exchange, own_connection=own_connection)

    def _slow_down(self, exchange: Exchange, outcome: Response | FailedAttempt, attempt_started: float) -> None:
        quota = exchange.request.quota
        if isinstance(outcome, FailedAttempt) or quota or not asks_to_slow_down(outcome.status):
            return
        self.counters.rate_limited += 1
        policy = self._shared.retry
        seconds = min(max(outcome.retry_after or 0.0, policy.initial_backoff / 2), policy.max_retry_after)
        self.cooldown.pause(seconds, started=attempt_started)
        if exchange.observers:
            observation.report_slow_down(exchange, seconds)


def _describe(exchange: Exchange, error: BaseException) -> None:
    """Add to an error how its call went."""
    if isinstance(error, VeriffError):
        error.attempts, error.elapsed, error.request_id = exchange.attempts, exchange.elapsed, exchange.request_id
        if isinstance(error, ApiError | ResponseError):
            error.headers = harmless_headers(exchange.headers)


def _failure_of(outcome: Response | FailedAttempt) -> str:
    """Return the failure of an attempt in one of a few words, or its status."""
    if not isinstance(outcome, FailedAttempt):
        return str(outcome.status)
    return "timeout" if outcome.timed_out else outcome.failure.name.lower()


def _may_have_acted(outcome: Response | FailedAttempt) -> bool:
    if isinstance(outcome, FailedAttempt):
        return may_have_acted(outcome.failure)
    return may_have_acted(outcome.status, signed=is_signed(outcome))


def _to_unknown(request: Request, outcome: Response | FailedAttempt) -> TransportError:
    if isinstance(outcome, FailedAttempt):
        return unknown_outcome(request, f"no complete response arrived: {outcome.cause}", outcome.session_id)
    return unknown_outcome(request, f"HTTP {outcome.status}", session_id_in(request, outcome.body))


def _rate_limited(request: Request, seconds: float) -> RateLimitedError:
    msg = (
        f"{request.method} {request.path} was not sent: a 429 or 503 to another call pauses this client for longer "
        f"than RetryPolicy.max_elapsed ({seconds:.0f} s more): try again then, or allow more time."
    )
    return RateLimitedError(msg, status=_TOO_MANY_REQUESTS, retry_after=seconds)
