"""One attempt of a request: send it, read the response, and describe a failure without keeping aiohttp's exception.

aiohttp's exceptions do not leave this module. Some hold the headers of the request, which include the API key and the
signature, so they are described in words and never chained.

Whether a request was sent is known from its body, not from the exception: aiohttp asks for the body exactly when the
connection is established (see `SentOnce.started`).
"""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypedDict

import aiohttp
from attrs import define, evolve, field, frozen
from yarl import URL

from veriff_async._http.network_problem import network_problem
from veriff_async._http.payload import BytesBody
from veriff_async._http.progress_timeout import ProgressTimeout
from veriff_async._protocol.limits import TOO_MANY_FILES
from veriff_async._protocol.response import Response, invalid_response, is_signed, session_id_in
from veriff_async._protocol.retry import RetryDecision, SendFailure, decide, parse_retry_after, progress_deadline
from veriff_async._records import record
from veriff_async._views import view_of
from veriff_async.errors import (
    ConnectError,
    ConnectTimeoutError,
    RequestTimeoutError,
    ResponseError,
    TransportError,
)
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async._http.counters import CallCounters
    from veriff_async._http.exchange import Exchange
    from veriff_async._http.payload import SentOnce
    from veriff_async._http.pool import Pool
    from veriff_async._protocol.base_url import Host
    from veriff_async._protocol.request import Request
    from veriff_async.config import Timeouts

__all__ = ("FailedAttempt", "OpenResponse", "Sender", "decide_outcome")

# No JSON of Veriff's comes near this many bytes; a longer body is not Veriff's.
_MAX_RESPONSE: Final = 4 * 1024 * 1024

_OK: Final = 200
_REDIRECT: Final = 300
_NO_HEADERS: Final[Mapping[str, str]] = {}
_OWN_CONNECTION: Final = {"Connection": "close"}
_HEADERS: Final = {
    "Accept": "application/json",
    # Veriff signs the uncompressed body.
    "Accept-Encoding": "identity",
    "User-Agent": f"veriff-async/{__version__}",
}


@frozen
class FailedAttempt:
    """An attempt that ended without a response.

    Attributes:
        failure: Whether the request was sent.
        cause: The cause, in a few words.
        timed_out: Whether a time limit ended it.
        session_id: Id of the session that it created, if the part of the response that arrived holds it.
        no_descriptor: Whether this process or system has no file descriptor left: a fault of this machine, which trying
            again within seconds does not remove.
    """

    failure: SendFailure
    cause: str
    timed_out: bool = False
    session_id: str | None = None
    no_descriptor: bool = False

    def to_error(self, request: Request) -> TransportError:
        """Return the error for a call whose last attempt this was."""
        call = f"{request.method} {request.path}"
        kind: type[TransportError]
        if self.failure is SendFailure.NOT_SENT and self.timed_out:
            kind = ConnectTimeoutError
            msg = (
                f"{call} ran out of time before it could be sent ({self.cause}): "
                "check base_url and the network, or give larger Timeouts."
            )
        elif self.no_descriptor:
            kind = ConnectError
            msg = (
                f"{call} could not be sent, because too many files and connections are open: raise the limit "
                "(ulimit -n), or lower max_connections."
            )
        elif self.failure is SendFailure.NOT_SENT:
            kind = ConnectError
            msg = f"{call} could not be sent ({self.cause}): check base_url, the network and any proxy."
        elif self.timed_out:
            kind = RequestTimeoutError
            msg = f"{call} ran out of time ({self.cause}): check the network, or give larger Timeouts."
        else:
            kind = TransportError
            msg = (
                f"{call} broke off without a response ({self.cause}): try again, or allow more attempts in RetryPolicy."
            )
        return kind(msg, method=request.method, path=request.path)


@define
class StreamProgress:
    """How much of an open response was read: seconds spent waiting for it, and bytes received."""

    waited: float = 0.0
    received: int = 0


@record(kw_only=True)
class OpenResponse(Response):
    """A success whose body is still to be read. Its owner closes it, see `Transport.close`."""

    response: aiohttp.ClientResponse
    exchange: Exchange = field(eq=False)
    progress: StreamProgress = field(factory=StreamProgress, eq=False)


class Sender:
    """Makes single attempts over the pool of one client."""

    def __init__(self, *, roots: Mapping[Host, str], pool: Pool, timeouts: Timeouts, counters: CallCounters) -> None:
        """Share the settings of all attempts."""
        self._roots = {host: _split_root(root) for host, root in roots.items()}
        self._pool = pool
        self._timeouts = timeouts
        self._counters = counters
        self._limits = _limits_of(timeouts)

    def with_timeouts(self, timeouts: Timeouts) -> Sender:
        """Return a sender over the same pool with other limits."""
        return view_of(self, _timeouts=timeouts, _limits=_limits_of(timeouts))

    async def send(self, exchange: Exchange, *, own_connection: bool) -> Response | FailedAttempt:
        """Send a request once, and read the whole response.

        Args:
            exchange: The request.
            own_connection: Whether to use a new connection that no other request uses.

        Raises:
            ResponseError: The response is too large, or a file that is not whole.
            VeriffError: The error of a source or of `Exchange.writer`.
        """
        # `content` outlives a broken connection: the part that arrived may have the id of a created session.
        timeout, content = ProgressTimeout(self._timeouts, exchange.task), bytearray()
        exchange.begin_attempt(timeout)

        def on_start() -> None:
            exchange.pending = True
            timeout.start_sending()

        def on_bytes_sent(count: int) -> None:
            self._counters.bytes_sent += count
            timeout.count(count)

        # A payload serves one attempt (see `SentOnce`), so each attempt creates its own.
        payload: SentOnce
        if (streamed := exchange.streamed) is None:
            payload = BytesBody(exchange.request.body or b"", on_start=on_start, on_bytes_sent=on_bytes_sent)
        else:
            payload = streamed.make_payload(on_start=on_start, on_bytes_sent=on_bytes_sent)
        self._counters.active_requests += 1
        try:
            with timeout:
                return await self._exchange(exchange, payload, timeout, content, own_connection=own_connection)
        except (aiohttp.ClientError, OSError) as error:
            failed = _describe(error, sent=payload.started)
        finally:
            self._counters.active_requests -= 1
        # Outside the handler, so that no exception of aiohttp's, with the request's headers in it, becomes a context.
        if (source_error := payload.failure(timed_out=failed.timed_out)) is not None:
            raise source_error
        return evolve(failed, session_id=session_id_in(exchange.request, bytes(content)))

    async def _exchange(
        self,
        exchange: Exchange,
        payload: SentOnce,
        progress: ProgressTimeout,
        content: bytearray,
        *,
        own_connection: bool,
    ) -> Response:
        request, writer = exchange.request, exchange.writer
        is_file = writer is not None
        async with await self._request(exchange, payload, own_connection=own_connection, is_file=is_file) as response:
            progress.start_receiving()
            if writer is None or response.status >= _REDIRECT:
                result = await _read(request, response, progress, content)
                # Before the connection is released, which may wait: closing the client in that time must not make the
                # outcome unknown. Only a request that must not be repeated has an unknown outcome.
                exchange.pending = not request.repeatable and decide_outcome(request, result) is RetryDecision.UNKNOWN
                return result
            _check_is_file(request, response)
            verifier = request.credentials.verifier()
            await writer.begin(response.headers, verifier)
            async for piece in response.content.iter_any():
                await writer.take(piece)
                progress.count(len(piece))
            await writer.end()
            return Response(**_head(request, response), body=b"", seen=verifier)

    async def open(self, exchange: Exchange, *, own_connection: bool) -> Response | FailedAttempt:
        """Send a request once, and return an `OpenResponse` for a success, without reading its body."""
        request, timeout = exchange.request, ProgressTimeout(self._timeouts, exchange.task)
        exchange.begin_attempt(timeout)
        payload = BytesBody(request.body or b"", on_start=timeout.start_sending, on_bytes_sent=timeout.count)
        self._counters.active_requests += 1
        try:
            with timeout:
                response = await self._request(exchange, payload, own_connection=own_connection, is_file=True)
                timeout.start_receiving()
                if response.status < _REDIRECT:
                    _check_is_file(request, response)
                    return OpenResponse(**_head(request, response), body=b"", response=response, exchange=exchange)
                async with response:
                    return await _read(request, response, timeout, bytearray())
        except (aiohttp.ClientError, OSError) as error:
            return _describe(error, sent=payload.started)
        finally:
            self._counters.active_requests -= 1

    async def read_piece(self, opened: OpenResponse) -> bytes:
        """Return the next bytes of an open response, or ``b""`` at its end.

        Only the time spent waiting here counts against `Timeouts`: the caller may take any time between two pieces.

        Raises:
            RequestTimeoutError: The body stalled, fell below the minimum rate, or took longer than the total.
            TransportError: The connection broke.
        """
        loop, progress = asyncio.get_running_loop(), opened.progress
        started = loop.time()
        limit = progress_deadline(self._timeouts, started=0.0, now=progress.waited, moved=progress.received)
        try:
            async with asyncio.timeout(min(limit, self._timeouts.total) - progress.waited):
                piece = await opened.response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            failed = _describe(error, sent=True)
        else:
            progress.waited += loop.time() - started
            progress.received += len(piece)
            if opened.exchange.progress is not None:
                opened.exchange.progress.count(len(piece))
            return piece
        raise failed.to_error(opened.request)

    async def _request(
        self, exchange: Exchange, payload: SentOnce, *, own_connection: bool, is_file: bool
    ) -> aiohttp.ClientResponse:
        request = exchange.request
        scheme, authority, prefix = self._roots[request.host]
        path, _, query = request.path.partition("?")
        # Encoded already: yarl must not change a path that was signed.
        url = URL.build(
            scheme=scheme,
            authority=authority,
            path=prefix + path,
            query_string=query,
            encoded=True,
        )
        response = await self._pool.session().request(
            request.method,
            url,
            data=payload,
            headers={
                **_HEADERS,
                **(exchange.added_headers or _NO_HEADERS),
                **request.headers,
                **(_OWN_CONNECTION if own_connection else _NO_HEADERS),
            },
            # A redirect would carry key, signature and pictures to any host that it names.
            allow_redirects=False,
            # The body of a refusal has Veriff's code; aiohttp's own error would discard it.
            raise_for_status=False,
            # The signature covers the bytes as they are sent, and a file must not expand without bound.
            auto_decompress=not is_file,
            timeout=self._limits,
            # The name that TLS checks anyway. aiohttp never shares a connection between requests with and without it,
            # so a request with it never gets an idle connection of the pool.
            server_hostname=url.raw_host if own_connection else None,
        )
        exchange.status, exchange.headers = response.status, response.headers
        if own_connection:
            _prevent_reuse(response, payload)
        return response


def _split_root(root: str) -> tuple[str, str, str]:
    """Return the scheme, the authority, and the path without its last slash."""
    url = URL(root, encoded=True)
    return url.scheme, url.raw_authority, url.raw_path.rstrip("/")


def _limits_of(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    # aiohttp rounds limits above `ceil_threshold` up to whole seconds.
    return aiohttp.ClientTimeout(total=None, connect=timeouts.connect, ceil_threshold=math.inf)


async def _read(
    request: Request, response: aiohttp.ClientResponse, limit: ProgressTimeout, content: bytearray
) -> Response:
    """Read the body into `content`, which keeps the part that arrived if the connection breaks."""
    stream = response.content
    while not stream.at_eof():  # a body that arrived with its head is read without another turn of the loop
        piece = await stream.readany()
        content += piece
        limit.count(len(piece))
        if len(content) > _MAX_RESPONSE:
            cut = Response(**_head(request, response), body=bytes(content))
            problems = (f"more than {_MAX_RESPONSE} bytes @ $",)
            raise invalid_response(cut, "is too large to be Veriff's", "check base_url", problems)
    return Response(**_head(request, response), body=bytes(content))


def _check_is_file(request: Request, response: aiohttp.ClientResponse) -> None:
    """Refuse a success that does not carry the whole file as it is, and close it.

    Only 200 carries it: 204 has no body, and 206 a part of it. A compressed one is refused because Veriff signs the
    file itself, and a few bytes can expand without bound.

    Raises:
        ResponseError: The status is not 200, or the body is compressed although the request did not allow that.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if response.status != _OK:
        fault, problem = f"is not a whole file (HTTP {response.status})", "HTTP status must be 200"
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
    """Return the fields of a `Response` that are known before its body."""
    headers = response.headers
    header = headers.get("Retry-After")
    retry_after = None if header is None else parse_retry_after(header, headers.get("Date"), datetime.now(UTC))
    return {"request": request, "status": response.status, "headers": headers, "retry_after": retry_after}


def _prevent_reuse(response: aiohttp.ClientResponse, payload: SentOnce) -> None:
    """Close the connection after this response, also if the server ignores ``Connection: close``."""
    connection = response.connection
    if connection is None:  # the body came with the head, and aiohttp has returned the connection to its pool
        # All of the response is here. `close` would wait for the peer's end of TLS, past the end of the event loop.
        if payload.transport is not None:
            payload.transport.abort()
    elif connection.protocol is not None:
        connection.protocol.force_close()


def decide_outcome(request: Request, outcome: Response | FailedAttempt) -> RetryDecision:
    """Return whether to try a request again after this outcome."""
    if isinstance(outcome, FailedAttempt):
        return RetryDecision.FINAL if outcome.no_descriptor else decide(outcome.failure, repeatable=request.repeatable)
    if outcome.status < _REDIRECT:
        return RetryDecision.FINAL
    return decide(outcome.status, repeatable=request.repeatable, quota=request.quota, signed=is_signed(outcome))


def _describe(error: aiohttp.ClientError | OSError, *, sent: bool) -> FailedAttempt:
    """Describe a failed attempt without keeping the exception."""
    cause = type(error).__name__
    if isinstance(error, aiohttp.ClientSSLError):
        cause = error.os_error.strerror or cause
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = network_problem(error.os_error)
    elif isinstance(error, aiohttp.ClientHttpProxyError):
        cause = f"the proxy answered CONNECT with HTTP {error.status}"
    # The class of the exception proves nothing: aiohttp raises the same ones before and after sending.
    failure = SendFailure.LOST if sent else SendFailure.NOT_SENT
    no_descriptor = isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno in TOO_MANY_FILES
    return FailedAttempt(failure, cause, isinstance(error, TimeoutError), no_descriptor=no_descriptor)
