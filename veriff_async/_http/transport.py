"""One call: a signed request out, an answer in, tried as often as its budget and its safety allow.

    call ──► pace ──► try ──► judge ──► FINAL     the answer, or the error of a failure
              ▲                │  └───► UNKNOWN   OutcomeUnknownError
              └── pause ◄── RETRY

  * Every repetition is made by `_repeat`: aiohttp's own are off (see `SentOnce`), so each try is counted and is within
    `RetryPolicy`.
  * Whether a request was sent is known from its body, not from the exception (see `SentOnce.started`).
  * A request that must not be repeated gets a connection of its own (see `_send`): a server may close an idle one at
    the moment at which the request is sent, and then nothing shows whether it was read. So does the repetition of a
    request whose connection broke: other idle connections of the pool may be broken too.

The only place where aiohttp's exceptions become ours. They are named, not chained: some hold the request's headers.
"""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from functools import partial
from random import random
from typing import TYPE_CHECKING, Final, Protocol, TypedDict

import aiohttp
from attrs import define, evolve, field, frozen
from yarl import URL

from veriff_async._event_loop import require_asyncio
from veriff_async._http.cooldown import Pace
from veriff_async._http.payload import BytesBody
from veriff_async._http.progress_timeout import Watch
from veriff_async._media.source import TOO_MANY_FILES
from veriff_async._protocol import backoff
from veriff_async._protocol.response import (
    Answer,
    broken,
    check_origin,
    is_signed,
    refusal,
    session_id_in,
    unknown_outcome,
)
from veriff_async._protocol.retry import Failure, Verdict, asks_to_slow_down, judge, may_have_acted
from veriff_async.errors import (
    ClientClosedError,
    ConnectError,
    ConnectTimeoutError,
    RateLimitedError,
    RequestTimeoutError,
    ResponseError,
    TransportError,
)
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from veriff_async._http.payload import PayloadFactory, SentOnce
    from veriff_async._http.pool import Pool
    from veriff_async._protocol.base_url import Host
    from veriff_async._protocol.request import Request
    from veriff_async._protocol.signing import Verifier
    from veriff_async.config import RetryPolicy, Timeouts

__all__ = ("Exchange", "Opened", "Sink")

_MAX_ANSWER: Final = 4 * 1024 * 1024
"""No JSON of Veriff's comes near this many bytes; more is somebody else's answer."""

_OK: Final = 200
_REDIRECT: Final = 300
_FRESH: Final = {"Connection": "close"}
_HEADERS: Final = {
    "Accept": "application/json",
    # What is signed is the body; a compressed one would have to be guessed back.
    "Accept-Encoding": "identity",
    "User-Agent": f"veriff-async/{__version__}",
}


_TOO_MANY: Final = 429


@frozen
class _Failed:
    """A try without an answer.

    Attributes:
        how: Whether it was sent.
        why: The cause, in a few words.
        timed_out: Whether a time limit ended it.
        session_id: Id of the session that it created, if the beginning of its answer holds it.
        no_descriptor: Whether this process or system has no file descriptor left: a fault of this machine, which trying
            again within seconds does not remove.
    """

    how: Failure
    why: str
    timed_out: bool = False
    session_id: str | None = None
    no_descriptor: bool = False


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
class _Call:
    """One call.

    Attributes:
        request: What is sent.
        body: Makes its streamed body for each try, if it has one.
        into: Takes the body of a success, if that is a file.
        pending: Whether the request was sent, and nothing shows yet whether it was carried out.
    """

    request: Request
    body: PayloadFactory | None
    into: Sink | None
    pending: bool = False


@define
class Counters:
    """What a client has done so far."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    bytes_sent: int = 0


class Exchange:
    """Sends requests of one client over its pool."""

    def __init__(
        self,
        *,
        roots: Mapping[Host, str],
        pool: Pool,
        retry: RetryPolicy,
        timeouts: Timeouts,
        verify_responses: bool,
    ) -> None:
        """Take what every call of the client shares."""
        self._roots = roots
        self._pool = pool
        self._retry = retry
        self._timeouts = timeouts
        # aiohttp rounds limits above `ceil_threshold` up to whole seconds.
        self._limits = aiohttp.ClientTimeout(total=None, connect=timeouts.connect, ceil_threshold=math.inf)
        self._verify = verify_responses
        self.pace: Pace = Pace()
        self.counters: Counters = Counters()

    def guard(self) -> AbstractAsyncContextManager[None]:
        """Return a context manager that ends its block with `ClientClosedError` when the client is closed."""
        return self._pool.calls.guard()

    async def call(
        self,
        request: Request,
        body: PayloadFactory | None = None,
        *,
        into: Sink | None = None,
    ) -> Answer:
        """Send a request until there is an answer to give back.

        Args:
            request: What to send.
            body: Makes its streamed body for each try, if it has one.
            into: What takes the body of a success, instead of the answer.

        Returns:
            The last answer, of whatever status, with its signature checked.

        Raises:
            ConnectError: The connection could not be made.
            RequestTimeoutError: Bytes stopped moving.
            OutcomeUnknownError: Nothing proves whether it was carried out, and repeating could do it twice.
            TransportError: The connection broke on every try.
            RateLimitedError: Another call was refused with 429 or 503, and the pause that the server asked for is
                longer than `RetryPolicy.max_elapsed`.
            ResponseError: The answer is too large, or its signature is wrong.
            MediaError: The body could not be read, or changed.
            ClientClosedError: The client was closed meanwhile. If that leaves open whether a request was carried out
                that must not be repeated, it is an OutcomeUnknownError.
        """
        require_asyncio()
        call = _Call(request, body, into)
        try:
            async with self.guard():
                answer = await self._repeat(request, partial(self._try, call))
        except ClientClosedError:
            if request.repeatable or not call.pending:
                raise
        else:
            if self._verify:
                check_origin(answer)
            return answer
        raise unknown_outcome(request, "the client was closed before an answer came")

    async def open(self, request: Request) -> Opened:
        """Send a request until a success begins, and leave its body to the caller, who closes the response.

        Raises:
            ApiError: Veriff refused.
            VeriffError: What `call` raises.
        """
        require_asyncio()
        async with self.guard():
            answer = await self._repeat(request, partial(self._open, request))
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
        require_asyncio()
        loop, progress = asyncio.get_running_loop(), opened.progress
        began = loop.time()
        limit = backoff.progress_deadline(self._timeouts, began=0.0, now=progress.waited, moved=progress.received)
        left = min(limit, self._timeouts.total) - progress.waited
        try:
            async with self.guard(), asyncio.timeout(left):
                piece = await opened.response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            failed = _failed(error, sent=True)
        else:
            progress.waited += loop.time() - began
            progress.received += len(piece)
            return piece
        raise _error(opened.request, failed)

    async def _repeat(self, request: Request, once: Callable[..., Awaitable[Answer | _Failed]]) -> Answer:
        loop = asyncio.get_running_loop()
        began, tries, repeated = loop.time(), 0, False
        outcome: Answer | _Failed | None = None
        fresh = not request.repeatable
        while await self.pace.wait(began + self._retry.max_elapsed):
            tries += 1
            self.counters.requests += 1
            started = loop.time()
            outcome = await once(fresh=fresh)
            verdict = _judge(request, outcome)
            if verdict is Verdict.UNKNOWN:
                raise _unknown(request, outcome)
            delay = None
            if verdict is Verdict.RETRY:
                delay = backoff.pause(
                    self._retry,
                    tries=tries,
                    elapsed=loop.time() - began,
                    asked=_asked(outcome),
                    chance=random(),  # noqa: S311  jitter
                )
            self._slow_down(request, outcome, started)
            if delay is None:
                break
            repeated = repeated or _may_have_acted(outcome)
            fresh = fresh or isinstance(outcome, _Failed)
            self.counters.retries += 1
            await asyncio.sleep(delay)
        if outcome is not None and not isinstance(outcome, _Failed):
            return evolve(outcome, repeated=True) if repeated else outcome
        error = _held_back(request, self.pace.cooldown_remaining) if outcome is None else _error(request, outcome)
        error.repeated = repeated
        raise error

    def _slow_down(self, request: Request, outcome: Answer | _Failed, started: float) -> None:
        """Hold all requests of the client back, if the answer asks for it; also when this call gives up."""
        if isinstance(outcome, _Failed) or request.quota or not asks_to_slow_down(outcome.status):
            return
        self.counters.rate_limited += 1
        asked = max(outcome.retry_after or 0.0, self._retry.initial_backoff / 2)
        self.pace.slow_down(min(asked, self._retry.max_retry_after), started=started)

    async def _try(self, call: _Call, *, fresh: bool) -> Answer | _Failed:
        request, into = call.request, call.into
        watch, content = Watch(self._timeouts), bytearray()

        def start() -> None:
            call.pending = True
            watch.restart()

        def on_bytes_sent(count: int) -> None:
            self.counters.bytes_sent += count
            watch.moved(count)

        payload: SentOnce = BytesBody(request.body or b"", on_start=start, on_bytes_sent=watch.moved)
        if call.body is not None:
            payload = call.body(on_start=start, on_bytes_sent=on_bytes_sent)
        try:
            async with watch, await self._send(request, payload, fresh=fresh, is_file=into is not None) as response:
                watch.restart()
                if into is None or response.status >= _REDIRECT:
                    answer = await self._read(request, response, watch, content)
                    call.pending = _judge(request, answer) is Verdict.UNKNOWN
                    return answer
                _check_is_file(request, response)
                verifier = request.credentials.verifier()
                await into.begin(response.headers, verifier)
                async for piece in response.content.iter_any():
                    await into.take(piece)
                    watch.moved(len(piece))
                await into.end()
                return Answer(**_head(request, response), body=b"", seen=verifier)
        except (aiohttp.ClientError, OSError) as error:
            failed = _failed(error, sent=payload.started)
        # Outside the handler, so that no exception of aiohttp's, with the request's headers in it, becomes a context.
        if (fault := payload.failure(timed_out=failed.timed_out)) is not None:
            raise fault
        return evolve(failed, session_id=session_id_in(request, bytes(content)))

    async def _open(self, request: Request, *, fresh: bool) -> Answer | _Failed:
        watch = Watch(self._timeouts)
        payload = BytesBody(request.body or b"", on_start=watch.restart, on_bytes_sent=watch.moved)
        try:
            async with watch:
                response = await self._send(request, payload, fresh=fresh, is_file=True)
                if response.status < _REDIRECT:
                    _check_is_file(request, response)
                    return Opened(**_head(request, response), body=b"", response=response)
                async with response:
                    watch.restart()
                    return await self._read(request, response, watch, bytearray())
        except (aiohttp.ClientError, OSError) as error:
            return _failed(error, sent=payload.started)

    async def _send(self, request: Request, payload: SentOnce, *, fresh: bool, is_file: bool) -> aiohttp.ClientResponse:
        url = URL(self._roots[request.host] + request.path, encoded=True)
        response = await self._pool.session().request(
            request.method,
            url,
            data=payload,
            headers={**_HEADERS, **request.headers, **(_FRESH if fresh else {})},
            # The header would describe a body that GET and DELETE do not have; ours name their own.
            skip_auto_headers=("Content-Type",),
            # A redirect would carry key, signature and pictures to wherever it points.
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=not is_file,
            timeout=self._limits,
            # The name that TLS checks anyway. aiohttp never shares a connection between requests with and without it,
            # so idle connections of the pool, which are without, are left alone.
            server_hostname=url.raw_host if fresh else None,
        )
        if fresh:
            _use_once(response, payload)
        return response

    async def _read(
        self, request: Request, response: aiohttp.ClientResponse, watch: Watch, content: bytearray
    ) -> Answer:
        """Read the body of an answer into `content`, which is there too if the connection breaks."""
        coming = response.content
        while not coming.at_eof():  # an answer that is there already is read without another turn
            piece = await coming.readany()
            content += piece
            watch.moved(len(piece))
            if len(content) > _MAX_ANSWER:
                cut = Answer(**_head(request, response), body=bytes(content))
                problems = (f"more than {_MAX_ANSWER} bytes @ $",)
                raise broken(cut, "is too large to be Veriff's", "check base_url", problems)
        return Answer(**_head(request, response), body=bytes(content))


def _check_is_file(request: Request, response: aiohttp.ClientResponse) -> None:
    """Refuse a success that does not carry the whole file as it is, and close it.

    Only 200 carries it: 204 has no body, and 206 a part of it. A compressed one is refused since Veriff signs the file
    itself, and a few bytes can expand without bound.

    Raises:
        ResponseError: The status is not 200, or the body is compressed although the request did not allow that.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if response.status != _OK:
        fault, problem = f"is no whole file (HTTP {response.status})", "HTTP status must be 200"
    elif encoding not in {"", "identity"}:
        fault, problem = "is compressed although the client refuses compression", "Content-Encoding must be identity"
    else:
        return
    response.close()
    msg = f"The response to {request.method} {request.path} {fault}: check for a proxy between this machine and Veriff."
    raise ResponseError(msg, problems=(problem,))


class _Head(TypedDict):
    request: Request
    status: int
    headers: Mapping[str, str]
    retry_after: float | None


def _head(request: Request, response: aiohttp.ClientResponse) -> _Head:
    """Return what is known of an answer before its body."""
    found = response.headers
    asked = backoff.retry_after(found.get("Retry-After"), found.get("Date"), datetime.now(UTC))
    return {"request": request, "status": response.status, "headers": found, "retry_after": asked}


def _use_once(response: aiohttp.ClientResponse, payload: SentOnce) -> None:
    """Let no other request have the connection, also if the server ignores ``Connection: close``."""
    connection = response.connection
    if connection is None:  # the body came with the head, and aiohttp has the connection back
        if payload.transport is not None:
            payload.transport.close()
    elif connection.protocol is not None:
        connection.protocol.force_close()


def _judge(request: Request, outcome: Answer | _Failed) -> Verdict:
    if isinstance(outcome, _Failed):
        return Verdict.FINAL if outcome.no_descriptor else judge(outcome.how, repeatable=request.repeatable)
    signed = outcome.status >= _REDIRECT and is_signed(outcome)
    return judge(outcome.status, repeatable=request.repeatable, quota=request.quota, signed=signed)


def _asked(outcome: Answer | _Failed) -> float | None:
    return None if isinstance(outcome, _Failed) else outcome.retry_after


def _may_have_acted(outcome: Answer | _Failed) -> bool:
    if isinstance(outcome, _Failed):
        return may_have_acted(outcome.how)
    return may_have_acted(outcome.status, signed=is_signed(outcome))


def _failed(error: aiohttp.ClientError | OSError, *, sent: bool) -> _Failed:
    """Describe a failed try without keeping the exception."""
    why = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.strerror:
        why = error.os_error.strerror
    elif isinstance(error, aiohttp.ClientHttpProxyError):
        why = f"the proxy answered CONNECT with HTTP {error.status}"
    how = Failure.LOST if sent else Failure.NOT_SENT
    no_descriptor = isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno in TOO_MANY_FILES
    return _Failed(how, why, isinstance(error, TimeoutError), no_descriptor=no_descriptor)


def _error(request: Request, failed: _Failed) -> TransportError:
    where = f"{request.method} {request.path}"
    kind: type[TransportError]
    if failed.how is Failure.NOT_SENT and failed.timed_out:
        kind = ConnectTimeoutError
        msg = (
            f"{where} ran out of time before it could be sent ({failed.why}): "
            "check base_url and the network, or give larger Timeouts."
        )
    elif failed.no_descriptor:
        kind = ConnectError
        msg = (
            f"{where} could not be sent, because too many files and connections are open: raise the limit (ulimit -n), "
            "or lower max_connections."
        )
    elif failed.how is Failure.NOT_SENT:
        kind = ConnectError
        msg = f"{where} could not be sent ({failed.why}): check base_url, the network and any proxy."
    elif failed.timed_out:
        kind = RequestTimeoutError
        msg = f"{where} ran out of time ({failed.why}): check the network, or give larger Timeouts."
    else:
        kind = TransportError
        msg = f"{where} broke off without an answer ({failed.why}): try again, or allow more tries in RetryPolicy."
    return kind(msg, method=request.method, path=request.path)


def _unknown(request: Request, outcome: Answer | _Failed) -> TransportError:
    if isinstance(outcome, _Failed):
        return unknown_outcome(request, f"no complete answer came: {outcome.why}", outcome.session_id)
    return unknown_outcome(request, f"HTTP {outcome.status}", session_id_in(request, outcome.body))


def _held_back(request: Request, seconds: float) -> RateLimitedError:
    msg = (
        f"{request.method} {request.path} was not sent: a 429 or 503 to another call slows this client down for longer "
        f"than RetryPolicy.max_elapsed ({seconds:.0f} s more): try again then, or allow more seconds."
    )
    return RateLimitedError(msg, status=_TOO_MANY, retry_after=seconds)
