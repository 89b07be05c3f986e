"""One call: a signed request out, an answer in, tried as often as its budget and its safety allow.

The only place where aiohttp's exceptions become ours. They are named, not chained: some hold the request's headers.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from random import random
from typing import TYPE_CHECKING, Final, Protocol, TypedDict

import aiohttp
from attrs import define, evolve, field, frozen
from yarl import URL

from veriff_async.errors import (
    ConnectError,
    OutcomeUnknownError,
    RequestTimeoutError,
    ResponseError,
    TransportError,
)
from veriff_async.protocol import backoff
from veriff_async.protocol.answers import Answer, check_origin, refusal
from veriff_async.protocol.backoff import Failure
from veriff_async.transport.bodies import BytesBody, SignedBody, StreamedPayload
from veriff_async.transport.pace import Pace
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from aiohttp.payload import Payload
    from anyio import CapacityLimiter

    from veriff_async.protocol.hosts import Host
    from veriff_async.protocol.policies import RetryPolicy, Timeouts
    from veriff_async.protocol.signed import Request
    from veriff_async.protocol.signing import Verifier
    from veriff_async.transport.pool import Pool

__all__ = ("Exchange", "Opened", "Sink")

_MAX_ANSWER: Final = 4 * 1024 * 1024
"""No JSON of Veriff's comes near this many bytes; more is somebody else's answer."""

_REDIRECT: Final = 300
_HEADERS: Final = {
    "Accept": "application/json",
    # What is signed is the body; a compressed one would have to be guessed back.
    "Accept-Encoding": "identity",
    "User-Agent": f"veriff-async/{__version__}",
}


@frozen
class _Failed:
    """A try without an answer."""

    how: Failure
    why: str
    timed_out: bool = False


class Sink(Protocol):
    """Takes the body of a success piece by piece; it raises errors of this library only."""

    async def begin(self, headers: Mapping[str, str], verifier: Verifier) -> None:
        """Begin, or begin again when an earlier try broke off; `verifier` is to see every piece, in order."""
        ...

    async def take(self, piece: bytes) -> None:
        """Take the next piece."""
        ...

    async def end(self) -> None:
        """Return when the verifier has seen all pieces."""
        ...


@define
class StreamProgress:
    """How far an open response was read: seconds spent waiting for it, and bytes received."""

    waited: float = 0.0
    received: int = 0


@frozen(kw_only=True)
class Opened(Answer):
    """A success whose body is yet to be read, by whoever closes the response."""

    response: aiohttp.ClientResponse
    progress: StreamProgress = field(factory=StreamProgress, eq=False)


@define
class Counters:
    """What a client has done so far."""

    requests: int = 0
    retries: int = 0
    slowed_down: int = 0
    bytes_sent: int = 0


class Exchange:
    """Sends requests of one client over its pool."""

    def __init__(  # noqa: PLR0913  what every call shares, named once
        self,
        *,
        roots: Mapping[Host, str],
        pool: Pool,
        retry: RetryPolicy,
        timeouts: Timeouts,
        verify_responses: bool,
        threads: CapacityLimiter,
    ) -> None:
        """Take what every call of the client shares."""
        self._roots = roots
        self._pool = pool
        self._retry = retry
        self._timeouts = timeouts
        self._limits = aiohttp.ClientTimeout(total=None, connect=timeouts.connect)
        self._verify = verify_responses
        self._threads = threads
        self.pace: Pace = Pace()
        self.counters: Counters = Counters()

    def guard(self) -> AbstractAsyncContextManager[None]:
        """Return a context manager that ends its block with `ClientClosedError` when the client is closed."""
        return self._pool.calls.guard()

    async def call(
        self,
        request: Request,
        body: SignedBody | None = None,
        *,
        progress: Callable[[int], None] | None = None,
        into: Sink | None = None,
    ) -> Answer:
        """Send a request until there is an answer to give back.

        Args:
            request: What to send.
            body: Its streamed body, if it has one.
            progress: Called with the bytes of the body that were handed to the connection in this try.
            into: What takes the body of a success, instead of the answer.

        Returns:
            The last answer, of whatever status, with its signature checked.

        Raises:
            ConnectError: The connection could not be made.
            RequestTimeoutError: Bytes stopped moving.
            OutcomeUnknownError: The connection broke, and repeating could do it twice.
            TransportError: The connection broke on every try.
            ResponseError: The answer is too large, or its signature is wrong.
            MediaError: The body could not be read, or changed.
            ClientClosedError: The client was closed meanwhile.
        """
        async with self.guard():
            answer = await self._repeat(request, lambda: self._try(request, body, progress, into))
        if self._verify:
            check_origin(answer)
        return answer

    async def open(self, request: Request) -> Opened:
        """Send a request until a success begins, and leave its body to the caller, who closes the response.

        Raises:
            ApiError: Veriff refused.
            VeriffError: What `call` raises.
        """
        async with self.guard():
            answer = await self._repeat(request, lambda: self._open(request))
        if isinstance(answer, Opened):
            return answer
        if self._verify:
            check_origin(answer)
        raise refusal(answer)

    async def next_piece(self, opened: Opened) -> bytes:
        """Return the next bytes of an open response, or ``b""`` at its end.

        Only the time spent waiting here counts against the limits of `Timeouts`: the caller may take as long as it
        likes between two pieces.

        Raises:
            RequestTimeoutError: The body stalled, fell below the minimum rate, or took longer than the total.
            TransportError: The connection broke.
            ClientClosedError: The client was closed.
        """
        loop, progress = asyncio.get_running_loop(), opened.progress
        began = loop.time()
        limit = backoff.progress_deadline(self._timeouts, began=0.0, now=progress.waited, moved=progress.received)
        left = min(limit, self._timeouts.total) - progress.waited
        try:
            async with self.guard(), asyncio.timeout(left):
                piece = await opened.response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            failed = _failed(error)
        else:
            progress.waited += loop.time() - began
            progress.received += len(piece)
            return piece
        raise _error(opened.request, failed)

    async def _repeat(self, request: Request, once: Callable[[], Awaitable[Answer | _Failed]]) -> Answer:
        loop = asyncio.get_running_loop()
        began, tries, repeated = loop.time(), 0, False
        while True:
            await self.pace.passed()
            tries += 1
            self.counters.requests += 1
            outcome = await once()
            ended = outcome.how if isinstance(outcome, _Failed) else outcome.status
            asked = None if isinstance(outcome, _Failed) else outcome.retry_after
            if backoff.slow_down(ended) and not request.quota:
                self.counters.slowed_down += 1
            delay = None
            if backoff.retryable(ended, repeatable=request.repeatable, quota=request.quota):
                elapsed = loop.time() - began
                delay = backoff.pause(
                    self._retry,
                    tries=tries,
                    elapsed=elapsed,
                    asked=asked,
                    chance=random(),  # noqa: S311  jitter
                )
            if delay is None:
                if isinstance(outcome, _Failed):
                    raise _error(request, outcome)
                if asked is not None and backoff.slow_down(ended) and not request.quota:
                    # This call gives up; those that follow are held to what was asked for all the same.
                    self.pace.slow_down(min(asked, self._retry.retry_after_cap))
                return evolve(outcome, repeated=True) if repeated else outcome
            repeated = repeated or backoff.may_have_acted(ended)
            self.counters.retries += 1
            if backoff.slow_down(ended):
                self.pace.slow_down(delay)
            else:
                await asyncio.sleep(delay)

    async def _try(
        self,
        request: Request,
        body: SignedBody | None,
        progress: Callable[[int], None] | None,
        into: Sink | None,
    ) -> Answer | _Failed:
        watch = _Watch(self._timeouts)
        payload: Payload | None = None if request.body is None else BytesBody(request.body, moved=watch.moved)
        if body is not None:
            payload = StreamedPayload(body, moved=self._counted(watch, progress), threads=self._threads)
        try:
            async with watch, await self._send(request, payload, auto_decompress=into is None) as response:
                watch.answered()
                if into is None or response.status >= _REDIRECT:
                    return await self._read(request, response, watch)
                _refuse_encoding(request, response)
                verifier = request.credentials.verifier()
                await into.begin(response.headers, verifier)
                async for piece in response.content.iter_any():
                    await into.take(piece)
                    watch.moved(len(piece))
                await into.end()
                return Answer(**_head(request, response), body=b"", seen=verifier)
        except (aiohttp.ClientError, OSError) as error:
            failed = _failed(error)
        # Outside the handler, so that no exception of aiohttp's, with the request's headers in it, becomes a context.
        if isinstance(payload, StreamedPayload) and payload.failure is not None:
            raise payload.failure
        return failed

    async def _open(self, request: Request) -> Answer | _Failed:
        watch = _Watch(self._timeouts)
        try:
            async with watch:
                response = await self._send(request, None, auto_decompress=False)
                if response.status < _REDIRECT:
                    _refuse_encoding(request, response)
                    return Opened(**_head(request, response), body=b"", response=response)
                async with response:
                    watch.answered()
                    return await self._read(request, response, watch)
        except (aiohttp.ClientError, OSError) as error:
            return _failed(error)

    async def _send(
        self, request: Request, payload: Payload | None, *, auto_decompress: bool
    ) -> aiohttp.ClientResponse:
        return await self._pool.session().request(
            request.method,
            URL(self._roots[request.host] + request.path, encoded=True),
            data=payload,
            headers={**_HEADERS, **request.headers},
            # A redirect would carry key, signature and pictures to wherever it points.
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=auto_decompress,
            timeout=self._limits,
        )

    def _counted(self, watch: _Watch, progress: Callable[[int], None] | None) -> Callable[[int], None]:
        sent = 0

        def moved(count: int) -> None:
            nonlocal sent
            sent += count
            self.counters.bytes_sent += count
            watch.moved(count)
            if progress is not None:
                progress(sent)

        return moved

    async def _read(self, request: Request, response: aiohttp.ClientResponse, watch: _Watch) -> Answer:
        content, coming = bytearray(), response.content
        while not coming.at_eof():  # an answer that is there already is read without another turn
            piece = await coming.readany()
            content += piece
            watch.moved(len(piece))
            if len(content) > _MAX_ANSWER:
                msg = f"The answer to {request.method} {request.path} is too large to be Veriff's: check base_url."
                raise ResponseError(msg, problems=(f"more than {_MAX_ANSWER} bytes @ $",))
        return Answer(**_head(request, response), body=bytes(content))


class _Watch:
    """Ends a try when nothing moves: a deadline that every piece of a body puts off.

    A piece only leaves a note, since there may be thousands a second; the timer reads the note when it rings.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._began = self._last = self._loop.time()
        self._moved = 0
        self._end = self._began + timeouts.total
        self._due = min(self._end, self._began + timeouts.connect + timeouts.stall)
        self._deadline = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._deadline.__aenter__()
        self._timer = self._loop.call_at(self._due, self._ring)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._deadline.__aexit__(kind, error, traceback)

    def answered(self) -> None:
        """Begin to measure anew, for the body of the answer."""
        self._began = self._last = self._loop.time()
        self._moved = 0
        self._put_off()

    def moved(self, count: int) -> None:
        """Note that so many bytes went out or came in."""
        self._last = self._loop.time()
        if self._moved == 0:
            self._began = self._last
        self._moved += count

    def _put_off(self) -> None:
        until = backoff.progress_deadline(self._timeouts, began=self._began, now=self._last, moved=self._moved)
        self._due = min(self._end, until)

    def _ring(self) -> None:
        if self._moved:
            self._put_off()
        if self._due > self._loop.time():
            self._timer = self._loop.call_at(self._due, self._ring)
        else:
            self._deadline.reschedule(self._due)


def _refuse_encoding(request: Request, response: aiohttp.ClientResponse) -> None:
    """Refuse a compressed download: Veriff signs the file itself, and a few bytes can expand without bound.

    Raises:
        ResponseError: The response is compressed although the request did not allow that.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        response.close()
        msg = (
            f"The response to {request.method} {request.path} is compressed although the client refuses compression: "
            "check for a proxy between this machine and Veriff."
        )
        raise ResponseError(msg, problems=("Content-Encoding must be identity",))


class _Head(TypedDict):
    request: Request
    status: int
    headers: Mapping[str, str]
    retry_after: float | None


def _head(request: Request, response: aiohttp.ClientResponse) -> _Head:
    """Return what is known of an answer before its body."""
    asked = backoff.retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    return {"request": request, "status": response.status, "headers": response.headers, "retry_after": asked}


def _failed(error: aiohttp.ClientError | OSError) -> _Failed:
    """Tell what is known about a request from the way it failed, without keeping the exception."""
    why = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.strerror:
        why = error.os_error.strerror
    timed_out = isinstance(error, TimeoutError)
    # Raised before anything is written: no free connection or no connection in time, refused, unknown host, bad TLS.
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return _Failed(Failure.NOT_SENT, why, timed_out)
    return _Failed(Failure.LOST, why, timed_out)


def _error(request: Request, failed: _Failed) -> TransportError:
    where = f"{request.method} {request.path}"
    kind: type[TransportError]
    if failed.how is Failure.LOST and not request.repeatable:
        kind = OutcomeUnknownError
        msg = (
            f"{where} left, but no answer came ({failed.why}), so a session may or may not exist: "
            "look for it by vendor_data before you create another."
        )
    elif failed.timed_out:
        kind = RequestTimeoutError
        msg = f"{where} ran out of time ({failed.why}): check the network, or give larger Timeouts."
    elif failed.how is Failure.NOT_SENT:
        kind = ConnectError
        msg = f"{where} could not be sent ({failed.why}): check base_url, the network and any proxy."
    else:
        kind = TransportError
        msg = f"{where} broke off without an answer ({failed.why}): try again, or allow more tries in RetryPolicy."
    return kind(msg, method=request.method, path=request.path)
