"""One call and its state over all its attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from veriff_async._protocol.response_headers import find_request_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from typing import Any

    from veriff_async._http.observers import CallObserver
    from veriff_async._http.payload import StreamedBody
    from veriff_async._http.progress_timeout import ProgressTimeout
    from veriff_async._protocol.request import Request
    from veriff_async._protocol.signing import Verifier

__all__ = ("BodyWriter", "Exchange")


class BodyWriter(Protocol):
    """Takes the body of a success piece by piece; it raises errors of this library only."""

    async def begin(self, headers: Mapping[str, str], verifier: Verifier) -> None:
        """Begin, or begin again after an earlier attempt broke off; `verifier` must see every piece, in order."""
        ...

    async def take(self, piece: bytes) -> None:
        """Take the next piece."""
        ...

    async def end(self) -> None:
        """Return when the verifier has seen all pieces."""
        ...


class Exchange:
    """One request and its state over all its attempts.

    It is not an attrs class, because a constructor that sets each attribute would be noticeable in each upload: the
    values that most calls never change are attributes of the class.

    Attributes:
        request: The request.
        streamed: The streamed body, if the request has one.
        writer: Takes the body of a success, if that is a file.
        pending: Whether the request was sent, and nothing shows yet whether it was carried out.
        observers: The observers of this call.
        task: The task that makes the attempts.
        clock: Returns the time of the event loop; it works after the end of the loop, when a stream may be closed.
        started: Time at which the call began.
        attempt_started: Time at which the last attempt began, if the call is observed.
        attempts: Number of attempts that have begun.
        progress: The progress of the last attempt.
        status: The status of the last attempt, once the head of its response has arrived.
        headers: The headers of that response.
        body: The body of the response, if it was read into memory.
        added_headers: Headers that middleware has added.
    """

    pending: bool = False
    observers: tuple[CallObserver, ...] = ()
    task: asyncio.Task[Any]
    clock: Callable[[], float]
    started: float = 0.0
    attempt_started: float = 0.0
    attempts: int = 0
    progress: ProgressTimeout | None = None
    status: int | None = None
    headers: Mapping[str, str] | None = None
    body: bytes | None = None
    added_headers: Mapping[str, str] | None = None
    _sent: int = 0
    _received: int = 0

    def __init__(
        self, request: Request, streamed: StreamedBody | None = None, writer: BodyWriter | None = None
    ) -> None:
        """Begin without an attempt."""
        self.request = request
        self.streamed = streamed
        self.writer = writer

    @property
    def body_size(self) -> int:
        """Bytes of the body of the request."""
        return len(self.request.body or b"") if self.streamed is None else self.streamed.content.length

    def begin_attempt(self, progress: ProgressTimeout) -> None:
        """Replace the state of the last attempt by that of a new one."""
        if self.progress is not None:
            self._sent, self._received = self.bytes_sent, self.bytes_received
        self.progress, self.status, self.headers = progress, None, None

    @property
    def bytes_sent(self) -> int:
        """Bytes of request bodies that all attempts have handed to connections."""
        return self._sent + (0 if self.progress is None else self.progress.bytes_sent)

    @property
    def bytes_received(self) -> int:
        """Bytes of response bodies that all attempts have received."""
        return self._received + (0 if self.progress is None else self.progress.bytes_received)

    @property
    def elapsed(self) -> float:
        """Seconds since the call began."""
        return self.clock() - self.started

    @property
    def request_id(self) -> str | None:
        """The id that the server has given to the last attempt; see `find_request_id`."""
        return find_request_id(self.headers)
