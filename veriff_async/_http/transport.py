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
  * Calls are independent, and their attempts overlap in any order. They share only the cooldown, the pool and counters.
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

from veriff_async._http.attempt import Exchange, FailedAttempt, OpenResponse, Sender, decide_outcome
from veriff_async._http.cooldown import Cooldown
from veriff_async._http.payload import CallbackError
from veriff_async._protocol.response import api_error, check_authenticity, is_signed, session_id_in, unknown_outcome
from veriff_async._protocol.retry import RetryDecision, asks_to_slow_down, may_have_acted, next_delay
from veriff_async.errors import ClientClosedError, RateLimitedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager

    from veriff_async._http.attempt import BodyWriter
    from veriff_async._http.payload import StreamedBody
    from veriff_async._http.pool import Pool
    from veriff_async._protocol.base_url import Host
    from veriff_async._protocol.call import Call
    from veriff_async._protocol.request import Request
    from veriff_async._protocol.response import Response
    from veriff_async.config import RetryPolicy, Timeouts
    from veriff_async.credentials import Credentials
    from veriff_async.errors import TransportError

__all__ = ("Transport",)

_Result = TypeVar("_Result")
_TOO_MANY_REQUESTS: Final = 429


@define
class Counters:
    """Totals since the client was created or opened again."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0


class Transport:
    """Sends the calls of one client over its pool.

    Attributes:
        credentials: The credentials that the next call is signed with.
        guard: Returns a context manager that ends its block with `ClientClosedError` when the client is closed.
        cooldown: The pause that all calls share after a 429 or 503.
        counters: The numbers of requests.
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
    ) -> None:
        """Share the settings of all calls of a client."""
        self.credentials = credentials
        self.guard: Callable[[], AbstractContextManager[None]] = pool.calls.guard
        self._retry = retry
        self._verify = verify_responses
        self._sender = Sender(roots=roots, pool=pool, timeouts=timeouts)
        self.cooldown: Cooldown = Cooldown()
        self.counters: Counters = Counters()

    @property
    def bytes_sent(self) -> int:
        """Bytes of streamed bodies that were handed to connections."""
        return self._sender.bytes_sent

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
            exchange = Exchange(call.sign(self.credentials), None, None)
        else:
            exchange = Exchange(call.sign(body.credentials, signature=body.signature), body.make_payload, None)
        # Outside the guard: parsing does not use the network, and must not end as a closed client.
        return call.parse(await self._exchange(exchange))

    async def download(self, call: Call[None], writer: BodyWriter) -> None:
        """Send a call whose response is a file, and return when `writer` has the whole file and it is verified.

        Raises:
            VeriffError: Any error that `send` raises.
        """
        try:
            response = await self._exchange(Exchange(call.sign(self.credentials), None, writer))
        except CallbackError as raised:
            error = raised.error
        else:
            return call.parse(response)
        # Outside the handler, so that the wrapper does not become the context of the caller's own exception.
        raise error

    async def open(self, call: Call[None]) -> OpenResponse:
        """Send a call until a success begins, and leave its body to the caller, who closes the response.

        Raises:
            VeriffError: Any error that `send` raises.
        """
        request = call.sign(self.credentials)
        with self.guard():
            response = await self._repeat(request, partial(self._sender.open, request))
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

    async def _exchange(self, exchange: Exchange) -> Response:
        request = exchange.request
        try:
            with self.guard():
                response = await self._repeat(request, partial(self._sender.send, exchange))
        except ClientClosedError:
            if request.repeatable or not exchange.pending:
                raise
        else:
            if self._verify:
                check_authenticity(response)
            return response
        raise unknown_outcome(request, "the client was closed before a response arrived")

    async def _repeat(self, request: Request, attempt: Callable[..., Awaitable[Response | FailedAttempt]]) -> Response:
        loop = asyncio.get_running_loop()
        started, attempts, repeated = loop.time(), 0, False
        outcome: Response | FailedAttempt | None = None
        # See "Why nothing is done twice" above.
        own_connection = not request.repeatable
        while self.cooldown.start(loop.time()) or await self.cooldown.wait(started + self._retry.max_elapsed):
            attempts += 1
            self.counters.requests += 1
            attempt_started = loop.time()
            outcome = await attempt(own_connection=own_connection)
            decision = decide_outcome(request, outcome)
            if decision is RetryDecision.FINAL:
                break
            if decision is RetryDecision.UNKNOWN:
                raise _to_unknown(request, outcome)
            delay = next_delay(
                self._retry,
                attempts=attempts,
                elapsed=loop.time() - started,
                retry_after=None if isinstance(outcome, FailedAttempt) else outcome.retry_after,
                random_value=random(),  # noqa: S311  jitter
            )
            # Also if this call gives up: the other calls of the client must slow down all the same.
            self._slow_down(request, outcome, attempt_started)
            if delay is None:
                break
            # Only an attempt that may have acted counts: after a 429, for example, nothing was done.
            repeated = repeated or _may_have_acted(outcome)
            own_connection = own_connection or isinstance(outcome, FailedAttempt)
            self.counters.retries += 1
            await asyncio.sleep(delay)
        if outcome is not None and not isinstance(outcome, FailedAttempt):
            # A refusal after a repetition may describe the result of an earlier attempt, for example code 1304.
            return evolve(outcome, repeated=True) if repeated else outcome
        error = _rate_limited(request, self.cooldown.remaining) if outcome is None else outcome.to_error(request)
        error.repeated = repeated
        raise error

    def _slow_down(self, request: Request, outcome: Response | FailedAttempt, attempt_started: float) -> None:
        if isinstance(outcome, FailedAttempt) or request.quota or not asks_to_slow_down(outcome.status):
            return
        self.counters.rate_limited += 1
        seconds = max(outcome.retry_after or 0.0, self._retry.initial_backoff / 2)
        self.cooldown.pause(min(seconds, self._retry.max_retry_after), started=attempt_started)


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
