"""Request bodies that aiohttp sends at most once, and that record whether they were sent."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final, Protocol, cast

from aiohttp.payload import Payload
from attrs import field
from multidict import CIMultiDict

from veriff_async._records import record

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiohttp.abc import AbstractStreamWriter

    from veriff_async.credentials import Credentials

__all__ = ("BytesBody", "CallbackError", "PayloadFactory", "SentOnce", "StreamedBody", "transport_of")

# `Request.headers` has the type of a body, and GET and DELETE have no body. aiohttp requires one header, and leaves out
# one that the request has, as each request of this package has this one.
_NO_MORE_HEADERS: Final = CIMultiDict({"Accept": "application/json"})

# Bytes that are written at a time, so that `Timeouts` sees the progress of a body.
_PIECE: Final = 96 * 1024


class CallbackError(Exception):
    """Wraps an exception of the caller's own function, so that no handler takes it for an error of the network."""

    def __init__(self, error: BaseException) -> None:
        """Wrap the exception."""
        super().__init__()
        self.error = error


class SentOnce(Payload):
    """A body for one attempt. Every request has one, even if it is empty, for two reasons.

    aiohttp repeats a GET or DELETE by itself when its connection breaks, uncounted and outside of `RetryPolicy`. It
    does not if the body cannot be sent again, which `consumed` states (aiohttp, ``ClientSession._request``). And
    aiohttp asks for the body exactly when the connection is established and nothing was sent yet, so that `started`
    separates "certainly not sent" from "perhaps received", for any exception that ended the attempt.
    """

    _autoclose = True

    def __init__(
        self, value: object, *, size: int | None, on_start: Callable[[], None], on_bytes_sent: Callable[[int], None]
    ) -> None:
        """Prepare one attempt.

        Args:
            value: The body, for subclasses.
            size: Its length in bytes; ``None`` if it is not known, for a chunked body.
            on_start: Called when the connection is established and the request begins to be sent.
            on_bytes_sent: Called with the number of bytes after each piece that was handed to the connection.
        """
        super().__init__(value)
        self._size = size
        self._on_start = on_start
        self._on_bytes_sent = on_bytes_sent
        self.started: bool = False
        """Whether bytes of the request may have been sent."""
        self.transport: asyncio.WriteTransport | None = None
        """The connection that it was sent on."""

    @property
    def headers(self) -> CIMultiDict[str]:
        """Return the headers that describe the body; aiohttp adds those that the request does not have."""
        return _NO_MORE_HEADERS

    @property
    def consumed(self) -> bool:
        """Return true: the body is for one attempt."""
        return True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse: aiohttp asks for it only to show the body, which must not happen."""
        del encoding, errors
        raise TypeError

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the whole body."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the whole body."""
        del content_length
        transport = self.transport = transport_of(writer)
        if hasattr(writer, "transport") and (transport is None or transport.is_closing()):
            # It is certain that nothing is sent. aiohttp notices too, but for an empty body so late that its error
            # has no handler, and the loop logs it for a cancelled request (aiohttp, ``ClientRequest.write_bytes``).
            raise ConnectionResetError
        # Set before the first byte is written, since a write may fail after it has sent a part.
        self.started = True
        self._on_start()
        try:
            await self.write_body(writer)
        except BaseException:
            # aiohttp closes the transport of a cancelled request, and a closed transport still sends its buffer first.
            # It stays open for ever if the server stopped reading.
            if transport is not None:
                transport.abort()
            raise

    def failure(self, *, timed_out: bool) -> BaseException | None:
        """Return why the body could not be written, if that is not the connection's fault."""
        del timed_out
        return None

    @abstractmethod
    async def write_body(self, writer: AbstractStreamWriter) -> None:
        """Write the whole body to an established connection."""


class PayloadFactory(Protocol):
    """Makes the body of one attempt, for a body that is read from its source again in each."""

    def __call__(self, *, on_start: Callable[[], None], on_bytes_sent: Callable[[int], None]) -> SentOnce:
        """Return a new body; see `SentOnce` for the arguments."""
        ...


class HasLength(Protocol):
    """Content whose length is computed when it is read."""

    @property
    def length(self) -> int:
        """Bytes of the whole request body."""
        ...


@record
class StreamedBody:
    """A body that was signed before and is read from its source in each attempt."""

    credentials: Credentials = field(repr=False)
    signature: str = field(repr=False)
    make_payload: PayloadFactory
    content: HasLength


class BytesBody(SentOnce):
    """A body in memory, perhaps empty, written piece by piece so that its progress shows."""

    def __init__(self, body: bytes, *, on_start: Callable[[], None], on_bytes_sent: Callable[[int], None]) -> None:
        """Prepare one attempt.

        Args:
            body: The body.
            on_start: See `SentOnce`.
            on_bytes_sent: See `SentOnce`.
        """
        super().__init__(body, size=len(body), on_start=on_start, on_bytes_sent=on_bytes_sent)
        self._body = memoryview(body)

    async def write_body(self, writer: AbstractStreamWriter) -> None:
        """Write the whole body; aiohttp sends the head of a request without a body itself."""
        for start in range(0, len(self._body), _PIECE):
            piece = self._body[start : start + _PIECE]
            await writer.write(piece)
            self._on_bytes_sent(len(piece))


def transport_of(writer: AbstractStreamWriter) -> asyncio.WriteTransport | None:
    """Return the connection that a writer of aiohttp writes to."""
    # Its class shows nothing: transports of uvloop are not instances of asyncio's classes.
    return cast("asyncio.WriteTransport | None", getattr(writer, "transport", None))
