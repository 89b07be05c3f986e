"""One upload from source to socket: looked at, signed in a first pass, sent and checked again in a second.

A large file is signed in a worker thread, and sent in pieces that come from the page cache, where the first pass left
them, or else from a thread. A small file is held, and both passes are made over it on the loop; a tiny one is made into
its body once, which is then signed and sent as it is.
"""

from __future__ import annotations

import asyncio
import zlib
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from anyio import to_thread
from attrs import field, frozen

from veriff_async._http.payload import CallbackError, SentOnce, transport_of
from veriff_async._media.blocking_source import run_abandonable
from veriff_async._media.source import PIECE, SMALL, TINY, BytesSource
from veriff_async._media.source_errors import source_failed, stalled
from veriff_async._protocol.file_type import HEAD
from veriff_async._protocol.image_size import dimensions
from veriff_async._protocol.limits import MAX_SIDE
from veriff_async._protocol.media_rules import check_size, check_stated, context_of, type_of
from veriff_async._protocol.upload_body import Envelope, encode, image_envelope
from veriff_async.errors import MediaChangedError, VeriffError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from aiohttp.abc import AbstractStreamWriter
    from anyio import CapacityLimiter

    from veriff_async._media.source import Reader, Source
    from veriff_async.credentials import Credentials
    from veriff_async.models.media import Media

_MOST_UNSENT: Final = 64 * 1024
"""Bytes that a connection may hold back, which is what asyncio has for plain ones."""

__all__ = ("Draft", "Proof", "SignedBody", "StreamedPayload", "draft")


@frozen
class Draft:
    """A media whose type and size are known and allowed, ready to be signed."""

    media: Media
    source: Source
    envelope: Envelope
    mimetype: str
    dimensions: tuple[int, int] | None = None

    @property
    def oversize(self) -> str | None:
        """What to say about a picture that is larger than Veriff advises, or ``None`` for any other."""
        if self.dimensions is None or max(self.dimensions) <= MAX_SIDE:
            return None
        if self.media.max_side is not None and self.media.max_side <= MAX_SIDE:
            return None
        width, height = self.dimensions
        return (
            f"The picture for {self.media.context} has {width} x {height} pixels, and Veriff advises {MAX_SIDE} for "
            f"the longer side: give Media(..., max_side={MAX_SIDE}) to scale it down."
        )

    @property
    def length(self) -> int:
        """Length of the whole request body in bytes."""
        return self.envelope.length(self.source.size)

    @property
    def inline(self) -> bool:
        """Whether signing is quicker than asking a worker thread for it."""
        return isinstance(self.source, BytesSource) and self.source.size <= SMALL

    @property
    def threadless(self) -> bool:
        """Whether no worker thread has anything to do with its upload."""
        return self.inline and self.media.max_side is None

    def sign(self, credentials: Credentials) -> SignedBody:
        """Read the source once and sign what will be sent. Blocking unless `inline`.

        Raises:
            MediaChangedError: The file is no longer as long as it was.
            MediaError: It cannot be read.
        """
        self.source.keep()
        with closing(_Reading(self)) as reading:
            if self.source.size <= TINY:
                body = self.envelope.prefix + encode(reading.read()) + self.envelope.suffix
                return SignedBody(self, credentials.sign(body), credentials, whole=body)
            return SignedBody(self, self.signature_of(reading, credentials), credentials, proof=reading.proof())

    def signature_of(self, pieces: Iterable[memoryview], credentials: Credentials) -> str:
        """Return the signature of the whole body around these pieces of the media."""
        signer = credentials.signer()
        for piece in self.envelope.wrap(pieces):
            signer.update(piece)
        return signer.hexdigest()


@frozen
class Proof:
    """What shows that two readings gave the same bytes.

    Attributes:
        stamp: What the file system says of a file that was not written to for long, or ``None`` for all others.
        checksum: The checksum of the bytes where there is no stamp.
    """

    stamp: object | None
    checksum: int


@frozen
class SignedBody:
    """A request body that can be sent any number of times; held whole only when it is small."""

    draft: Draft
    signature: str = field(repr=False)
    credentials: Credentials = field(repr=False)
    whole: bytes | None = field(default=None, repr=False)
    proof: Proof | None = None

    @property
    def length(self) -> int:
        """Length in bytes."""
        return self.draft.length


def draft(media: Media, source: Source, *, of: Media | None = None) -> Draft:
    """Look at the beginning and size of a media. Blocking.

    Every rule that needs no more than that is checked here, before anything is sent.

    Args:
        media: The media.
        source: Its bytes.
        of: The media as it was given, when it was made smaller since.

    Raises:
        MediaUnsupportedError: Its type is not taken by Veriff, or not the one that was stated.
        MediaTooLargeError: It is larger than Veriff takes.
        InvalidArgumentError: Its context or timestamp cannot be right.
        MediaError: It cannot be read.
    """
    context = context_of(media)
    scaled = media.max_side is not None
    with closing(source.open()) as reader:
        read_at = partial(_part, source.view) if isinstance(source, BytesSource) else _Forward(reader).read_at
        mimetype = type_of(read_at(0, HEAD))
        check_size(mimetype, source.size, scaled=scaled)
        size = dimensions(mimetype, read_at)
    check_stated(media, mimetype)
    if size is not None and media.max_side is not None and max(size) <= media.max_side:
        check_size(mimetype, source.size)
    return Draft(of or media, source, image_envelope(context, mimetype, media.timestamp), mimetype, size)


def _part(view: memoryview, place: int, count: int) -> bytes:
    return bytes(view[place : place + count])


class _Forward:
    """Reads at rising places of a reader that only goes forward."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._window = b""
        self._start = 0

    def read_at(self, place: int, count: int) -> bytes:
        """Return the bytes at a place; what stands before it is forgotten."""
        skip = min(place - self._start, len(self._window))
        self._window, self._start = self._window[max(0, skip) :], self._start + max(0, skip)
        if place > self._start and not self._window:
            self._reader.skip(place - self._start)
            self._start = place
        while place == self._start and len(self._window) < count:
            piece = self._some(min(max(HEAD, count - len(self._window)), PIECE))
            self._window += piece
            if not piece:
                break
        return self._window[:count] if place == self._start else b""

    def _some(self, count: int) -> bytes:
        buffer = memoryview(bytearray(count))
        return bytes(buffer[: self._reader.fill(buffer)])


class _Reading:
    """Read a source to its end, in full pieces, and see that it is what it was.

    All pieces of a file come in one buffer, so each is good until the next is read. Bytes in memory that nobody can
    write to are handed on where they are.

    The same bytes are the same file, whatever happened to its name, times or permissions in between. A file that was
    not written to for long is trusted while its stamp stays the same, and compared by its signature when it does not.
    For any other the checksums of both readings are compared.
    """

    def __init__(self, of: Draft, signed: SignedBody | None = None) -> None:
        self._of = of
        self._signed = signed
        self._left = of.source.size
        self._in_memory = isinstance(of.source, BytesSource)
        self._there = of.source.view if isinstance(of.source, BytesSource) and of.source.constant else None
        self._reader: Reader | None = None
        self._buffer = memoryview(bytearray(min(PIECE, self._left) if self._there is None else 0))
        self._stamp: object | None = None
        self._checksum = 0

    def __iter__(self) -> Iterator[memoryview]:
        while not self.ended:
            yield self.read()

    @property
    def ended(self) -> bool:
        return self._left == 0

    def read(self) -> memoryview:
        """Return the next piece; the last one only when all that was read is what was signed. Blocking.

        Raises:
            MediaChangedError: The source is shorter, longer or another than it was.
            MediaError: The source cannot be read.
        """
        if self._there is not None:
            done = self._of.source.size - self._left
            piece = self._there[done : done + PIECE]
            self._left -= len(piece)
            return piece
        reader = self._reader or self._open()
        piece = self._buffer[: self._left]
        self._left -= len(piece)
        beyond = memoryview(bytearray(1))
        if reader.fill(piece) < len(piece) or (self.ended and reader.fill(beyond)):
            raise _changed()
        self._sum(piece)
        if self.ended and self._signed is not None and not self._is_as_signed(self._signed, reader):
            raise _changed()
        if self.ended and self._of.source.may_block:
            reader.close()  # here, since going back to where it stood may block too
        return piece

    def read_now(self) -> memoryview | None:
        """Return the next piece if that takes no waiting; the last one of a file, with its checks, always does.

        Raises:
            MediaChangedError: Bytes in memory are others than they were.
        """
        if self._in_memory:
            return self.read()
        if self._reader is None or self._left <= PIECE or not self._reader.fill_now(self._buffer):
            return None
        self._left -= len(self._buffer)
        self._sum(self._buffer)
        return self._buffer

    def proof(self) -> Proof:
        return Proof(self._stamp, self._checksum)

    def close(self) -> None:
        if self._reader is not None and not self._of.source.may_block:
            self._reader.close()

    def _open(self) -> Reader:
        reader = self._reader = self._of.source.open()
        if self._signed is not None:
            self._stamp = None if self._signed.proof is None else self._signed.proof.stamp
        elif reader.is_settled():
            self._stamp = reader.stamp()
        return reader

    def _is_as_signed(self, signed: SignedBody, reader: Reader) -> bool:
        if self._stamp is None:
            return self.proof() == signed.proof
        if reader.stamp() == self._stamp:
            return True
        # Renamed, linked, touched or its permissions changed; or written to. The signature is the digest that there is.
        reader.restart()
        return self._of.signature_of(self._again(reader), signed.credentials) == signed.signature

    def _again(self, reader: Reader) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(len(self._buffer)))
        while count := reader.fill(buffer):
            yield buffer[:count]

    def _sum(self, piece: memoryview) -> None:
        # Against a file that is being written to, not against an attacker: the signature is, at Veriff's side.
        if self._stamp is None:
            self._checksum = zlib.crc32(piece, self._checksum)


def _changed() -> MediaChangedError:
    return MediaChangedError("The media changed while it was uploaded: upload it again when nothing writes to it.")


@contextmanager
def _shallow(writer: AbstractStreamWriter) -> Generator[None]:
    """Let a connection over TLS hold back no more than a plain one does before it asks to wait: half a MiB else."""
    transport = transport_of(writer)
    if transport is None or not hasattr(transport, "get_write_buffer_limits"):  # not every loop has it for TLS
        yield
        return
    low, high = transport.get_write_buffer_limits()
    transport.set_write_buffer_limits(high=min(high, _MOST_UNSENT))
    try:
        yield
    finally:
        transport.set_write_buffer_limits(high, low)


class StreamedPayload(SentOnce):
    """The second pass: what aiohttp asks to write itself to the connection."""

    def __init__(
        self,
        signed: SignedBody,
        *,
        on_start: Callable[[], None],
        moved: Callable[[int], None],
        threads: CapacityLimiter,
        stall: float,
    ) -> None:
        """Prepare one sending of a body.

        Args:
            signed: What is sent.
            on_start: See `SentOnce`.
            moved: Called with the number of bytes after each piece that was handed to the connection.
            threads: Bounds the worker threads.
            stall: Seconds that the source may take for a piece; only named in an error, the caller measures them.
        """
        super().__init__(signed, size=signed.length, on_start=on_start)
        self._signed = signed
        self._moved = moved
        self._threads = threads
        self._stall = stall
        self._reads_source = False
        self._failure: BaseException | None = None

    def failure(self, *, timed_out: bool) -> BaseException | None:
        """Return why the body could not be written, if the fault is not the connection's.

        Args:
            timed_out: Whether the request ended because nothing moved.
        """
        if self._failure is None and timed_out and self._reads_source:
            return stalled(self._stall)
        return self._failure

    async def write_body(self, writer: AbstractStreamWriter) -> None:
        """Write the body, which is always exactly as long as was promised."""
        if self._signed.whole is not None:
            await self._write(writer, self._signed.whole)
            return
        envelope = self._signed.draft.envelope
        with closing(_Reading(self._signed.draft, self._signed)) as reading, _shallow(writer):
            await self._write(writer, envelope.prefix)
            while not reading.ended:
                await self._write(writer, encode(await self._next(reading)))
            await self._write(writer, envelope.suffix)

    async def _next(self, reading: _Reading) -> memoryview:
        try:
            piece = reading.read_now()
            if piece is not None:
                # A connection that takes everything at once would never give the loop to anybody else.
                await asyncio.sleep(0)
                return piece
            self._reads_source = True
            if self._signed.draft.source.may_block:
                piece = await run_abandonable(reading.read)
            else:
                piece = await to_thread.run_sync(reading.read, limiter=self._threads)
        except Exception as error:
            self._failure = error if isinstance(error, VeriffError) else source_failed(error)
            raise
        self._reads_source = False
        return piece

    async def _write(self, writer: AbstractStreamWriter, piece: bytes) -> None:
        await writer.write(piece)
        try:
            self._moved(len(piece))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  the caller's function may raise anything
            self._failure = error
            # aiohttp would take the callback's CancelledError for its own.
            raise CallbackError(error) from None
