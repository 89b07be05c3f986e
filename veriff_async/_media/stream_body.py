"""How a media is signed and sent: two passes over its bytes, in constant memory.

An upload is one JSON document with the file as base64 in the middle. Veriff requires the HMAC of that document in a
header, so the signature must exist before the first byte of the body leaves. The bytes are needed twice:

    first pass    `sign`             source ──► base64 ──► HMAC                         ──► `SignedBody`
    second pass   `StreamedPayload`  source ──► base64 ──► connection, and checked again

The exact length of the document is known before the first pass, because base64 has a fixed ratio: the request has a
``Content-Length`` and no chunked encoding.

Memory is bounded. `SourceOpener` holds files of up to 4 MiB in memory, at most 16 MiB of them for each client, and all
others are read in both passes. Such a pass reads 96 KiB at a time into one buffer, and awaits the connection after each
piece, so a slow network slows the reading down. Nothing else grows with the size of the file.

Checks of the second pass
  * Bytes in memory that only this library can reach need none: those that are sent are those that were signed.
  * A file that is read again may change between the passes. Its signature would then be wrong, and Veriff would blame
    the *secret*. So the second pass compares before it sends the last piece, and raises `MediaChangedError` instead:
    the document is never completed.
  * `Proof` says what is compared. Inode, size and times (`Reader.stamp`) are proof for a file that has not been written
    to for a minute. Times are too coarse for a file that changed just now, so its CRC-32 is compared. When the stamp
    differs, the content may still be equal (the file was renamed, or its permissions changed): the signature of a third
    read decides.
  * Each attempt of a request repeats the second pass only. It opens the source again and starts at its beginning.

Where the work is done
  * A file that is held is opened, inspected, read and signed in one hop to a thread, see `prepare`. The second pass
    encodes it again, on the loop: that takes a twentieth of the time of the signature, while holding the base64 would
    take a third more memory, in fresh pages. For up to 64 KiB the whole document is built once and sent as it is.
  * Bytes of the caller are signed on the loop up to 256 KiB, because a hop to a thread would take longer.
  * A larger file is signed in a worker thread. Its second pass finds the bytes in the page cache, usually:
    `Reader.fill_now` reads them without blocking, on the event loop, and only a miss costs a hop to a thread.

Streams that can be read once are copied to a temporary file by `spool`. `StreamSigner` makes the first pass while they
arrive: the first bytes say which type the media has, and that completes the start of the document. Only the second pass
is left when the stream ends.
"""

from __future__ import annotations

import asyncio
import zlib
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from attrs import field

from veriff_async._http.payload import CallbackError, SentOnce, transport_of
from veriff_async._media.blocking_source import run_abandonable
from veriff_async._media.source import PIECE, PRIVATE, TINY, BytesSource, media_changed, source_failed, stalled
from veriff_async._protocol.image_header import detect_type
from veriff_async._protocol.media_rules import context_of, may_convert
from veriff_async._protocol.upload_body import encode, image_body_template
from veriff_async._records import record
from veriff_async.errors import InvalidArgumentError, VeriffError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from aiohttp.abc import AbstractStreamWriter

    from veriff_async._media.prepared_media import PreparedMedia
    from veriff_async._media.source import Reader
    from veriff_async._media.worker_threads import WorkerThreads
    from veriff_async._protocol.signing import Signer
    from veriff_async._protocol.upload_body import BodyTemplate
    from veriff_async.credentials import Credentials
    from veriff_async.models.media import Media

__all__ = ("Digest", "Proof", "SignedBody", "StreamSigner", "StreamedPayload", "sign")

# Bytes that a connection may buffer before writing to it waits; asyncio's own limit for connections without TLS.
_MAX_WRITE_BUFFER: Final = 64 * 1024

# Bytes that become one group of base64. Encoded pieces can be joined when each is a multiple of it long.
_BASE64_GROUP: Final = 3


class Digest(Protocol):
    """A hash of `hashlib`."""

    def update(self, data: memoryview, /) -> None:
        """Add bytes."""
        ...


@record
class Proof:
    """Evidence that two passes read the same bytes.

    Attributes:
        stamp: `Reader.stamp` of a file whose times are proof, or ``None`` for all others.
        checksum: CRC-32 of the bytes if `stamp` is ``None``.
    """

    stamp: object | None
    checksum: int


_PRIVATE_PROOF: Final = Proof(PRIVATE, 0)


@record
class SignedBody:
    """The request body of one upload, signed; it can be sent any number of times.

    Attributes:
        prepared: The media in it.
        signature: Hex HMAC of the whole body.
        credentials: The credentials that signed it. The request must carry their API key, also when the client has
            received new ones since.
        whole: The whole body, if it is small.
        proof: Compared by the second pass, if the body is not held whole.
    """

    prepared: PreparedMedia
    signature: str = field(repr=False)
    credentials: Credentials = field(repr=False)
    whole: bytes | None = field(default=None, repr=False)
    proof: Proof | None = None


def sign(prepared: PreparedMedia, credentials: Credentials, *, digest: Digest | None = None) -> SignedBody:
    """Make the first pass: read the source once, and sign the body. Blocking unless `PreparedMedia.is_small`.

    Args:
        prepared: The media.
        credentials: The credentials to sign with.
        digest: Also receives the bytes of the media, so that a caller who needs a digest does not read them again.

    Raises:
        MediaChangedError: The length of the file has changed.
        MediaError: It cannot be read.
    """
    template, source = prepared.template, prepared.source
    if isinstance(source, BytesSource) and source.size <= TINY:
        # Copied if the caller may change them, so that the digest is that of the bytes in the body.
        content = source.view if source.constant else memoryview(bytes(source.view))
        if digest is not None:
            digest.update(content)
        body = b"".join((template.prefix, encode(content), template.suffix))
        return SignedBody(prepared, credentials.sign(body), credentials, whole=body)
    with closing(_Pass(prepared)) as reading:
        pieces = iter(reading) if digest is None else _digested(reading, digest)
        signature = _signature(template, pieces, credentials)
        return SignedBody(prepared, signature, credentials, proof=reading.proof())


def _signature(template: BodyTemplate, pieces: Iterable[memoryview], credentials: Credentials) -> str:
    signer = credentials.signer()
    for piece in template.wrap(pieces):
        signer.update(piece)
    return signer.hexdigest()


def _digested(pieces: Iterable[memoryview], digest: Digest) -> Iterator[memoryview]:
    for piece in pieces:
        digest.update(piece)
        yield piece


class StreamSigner:
    """Makes the first pass over a stream while it arrives.

    It never raises for the media: `inspect` checks the whole media later, and raises the error there.
    """

    def __init__(self, media: Media, credentials: Credentials) -> None:
        """Sign a media.

        Args:
            media: The media; only its context and timestamp are used.
            credentials: The credentials to sign with.
        """
        self._media = media
        self._credentials = credentials
        self._template: BodyTemplate | None = None
        self._signer: Signer | None = None
        self._remainder = b""

    def begin(self, head: bytes) -> None:
        """Look at the first bytes, as many as `detect_type` needs; `update` gets them too."""
        mimetype = detect_type(head)
        # A picture that is converted is not sent as it arrives.
        if mimetype is None or may_convert(self._media):
            return
        try:
            self._template = image_body_template(context_of(self._media), mimetype, self._media.timestamp)
        except InvalidArgumentError:
            return
        self._signer = self._credentials.signer()
        self._signer.update(self._template.prefix)

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Add the next piece, of any length. 256 KiB keep a processor busy for a quarter of a millisecond."""
        if self._signer is None:
            return
        start = 0
        if self._remainder:
            start = min(_BASE64_GROUP - len(self._remainder), len(piece))
            self._remainder += piece[:start]
            if len(self._remainder) < _BASE64_GROUP:
                return
            self._signer.update(encode(self._remainder))
        rest = memoryview(piece)[start:]
        whole = len(rest) - len(rest) % _BASE64_GROUP
        for offset in range(0, whole, PIECE):
            self._signer.update(encode(rest[offset : min(offset + PIECE, whole)]))
        self._remainder = bytes(rest[whole:])

    def finish(self, prepared: PreparedMedia) -> SignedBody | None:
        """Return the signed body of the stream, or ``None`` when `sign` has to make it.

        That is when the head did not show the type, or when the stream was so short that it stays in memory.
        """
        if self._signer is None or self._template != prepared.template or prepared.is_small:
            return None
        signer, self._signer = self._signer, None
        signer.update(encode(self._remainder))
        signer.update(prepared.template.suffix)
        # The temporary file is ours, so nothing can change between the passes.
        return SignedBody(prepared, signer.hexdigest(), self._credentials, proof=_PRIVATE_PROOF)


class _Pass:
    """One pass over a source, from its beginning to its end, in full pieces.

    All pieces of a file come in one buffer, so each is valid until the next is read. Constant bytes in memory are
    returned without a copy.
    """

    def __init__(self, prepared: PreparedMedia, signed: SignedBody | None = None) -> None:
        """Begin a pass; with `signed` it is the second one, which must read the same bytes."""
        source = prepared.source
        self._prepared = prepared
        self._signed = signed
        self._left = prepared.source.size
        self._in_memory = isinstance(source, BytesSource)
        self._is_private = signed is not None and signed.proof == _PRIVATE_PROOF
        self._constant = source.view if isinstance(source, BytesSource) and source.constant else None
        self._reader: Reader | None = None
        self._buffer = memoryview(bytearray(min(PIECE, self._left) if self._constant is None else 0))
        self._stamp: object | None = None
        self._checksum = 0

    def __iter__(self) -> Iterator[memoryview]:
        while not self.ended:
            yield self.read()

    @property
    def ended(self) -> bool:
        return self._left == 0

    def read(self) -> memoryview:
        """Return the next piece; the last one only when all bytes are those that were signed. Blocking.

        Raises:
            MediaChangedError: The source is shorter or longer than it was, or its bytes differ.
            MediaError: The source cannot be read.
        """
        if self._constant is not None:
            offset = self._prepared.source.size - self._left
            piece = self._constant[offset : offset + PIECE]
            self._left -= len(piece)
            return piece
        reader = self._reader or self._open()
        piece = self._buffer[: self._left]
        self._left -= len(piece)
        # One byte more than expected is read at the end, to notice a file that has grown.
        beyond = memoryview(bytearray(1))
        if reader.fill(piece) < len(piece) or (self.ended and reader.fill(beyond)):
            raise media_changed()
        self._add_to_checksum(piece)
        if self.ended and self._signed is not None and not self._is_as_signed(self._signed, reader):
            raise media_changed()
        if self.ended and self._prepared.source.may_block:
            reader.close()  # in this thread, since restoring the file's position may block too
        return piece

    def read_now(self) -> memoryview | None:
        """Return the next piece if that does not block, else ``None``.

        The last piece of a file always blocks, because of its checks. A temporary file of ours is open and needs none.

        Raises:
            MediaChangedError: Bytes in memory have changed.
        """
        if self._in_memory:
            return self.read()
        if self._is_private and self._reader is None:
            self._open()
        # The first piece opens the file, and the last one may compare the whole file: both can block.
        piece = self._buffer[: self._left]
        if self._reader is None or (self._left <= PIECE and not self._is_private) or not self._reader.fill_now(piece):
            return None
        self._left -= len(piece)
        self._add_to_checksum(piece)
        return piece

    def proof(self) -> Proof:
        return Proof(self._stamp, self._checksum)

    def close(self) -> None:
        if self._reader is not None and not self._prepared.source.may_block:
            self._reader.close()

    def _open(self) -> Reader:
        reader = self._reader = self._prepared.source.open()
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
        # Renamed, linked, touched, its permissions changed, or written to. The signature is the only digest that
        # exists of what was signed, so it is made again from the bytes that are there now.
        reader.restart()
        pieces = self._read_again(reader)
        return _signature(self._prepared.template, pieces, signed.credentials) == signed.signature

    def _read_again(self, reader: Reader) -> Iterator[memoryview]:
        # Another buffer: the first one holds the last piece, which is still to be sent.
        buffer = memoryview(bytearray(len(self._buffer)))
        while count := reader.fill(buffer):
            yield buffer[:count]

    def _add_to_checksum(self, piece: memoryview) -> None:
        # CRC-32 detects a file that is being written to, not an attacker: Veriff checks the signature.
        if self._stamp is None:
            self._checksum = zlib.crc32(piece, self._checksum)


@contextmanager
def _small_write_buffer(writer: AbstractStreamWriter) -> Generator[None]:
    """Limit the write buffer of a TLS connection to that of a plain one; asyncio's limit for TLS is 512 KiB."""
    transport = transport_of(writer)
    if transport is None or not hasattr(transport, "get_write_buffer_limits"):  # not every loop has it for TLS
        yield
        return
    low, high = transport.get_write_buffer_limits()
    transport.set_write_buffer_limits(high=min(high, _MAX_WRITE_BUFFER))
    try:
        yield
    finally:
        transport.set_write_buffer_limits(high, low)


class StreamedPayload(SentOnce):
    """The second pass, as the body that aiohttp writes to the connection. Each attempt of a request needs its own."""

    def __init__(  # noqa: PLR0913  keyword-only
        self,
        signed: SignedBody,
        *,
        on_start: Callable[[], None],
        on_bytes_sent: Callable[[int], None],
        on_progress: Callable[[int], None] | None,
        threads: WorkerThreads,
        idle: float,
    ) -> None:
        """Prepare one attempt.

        Args:
            signed: The body.
            on_start: See `SentOnce`.
            on_bytes_sent: See `SentOnce`.
            on_progress: Called after each piece with the bytes that were handed to the connection in this attempt. It
                may call the user's code, so it may raise anything.
            threads: Read what is not in the page cache.
            idle: Seconds that the source may take for a piece. Only named in an error: the caller measures them.
        """
        super().__init__(signed, size=signed.prepared.length, on_start=on_start, on_bytes_sent=on_bytes_sent)
        self._signed = signed
        self._on_progress = on_progress
        self._bytes_sent = 0
        self._threads = threads
        self._idle = idle
        self._reads_source = False
        self._failure: BaseException | None = None

    def failure(self, *, timed_out: bool) -> BaseException | None:
        """Return why the body could not be written, if the source or the user's callback is at fault."""
        if self._failure is None and timed_out and self._reads_source:
            return stalled(self._idle)
        return self._failure

    async def write_body(self, writer: AbstractStreamWriter) -> None:
        """Write the body: exactly as many bytes as ``Content-Length`` states, or an exception before the last one."""
        if self._signed.whole is not None:
            await self._write(writer, self._signed.whole)
            return
        prepared = self._signed.prepared
        with closing(_Pass(prepared, self._signed)) as reading, _small_write_buffer(writer):
            await self._write(writer, prepared.template.prefix)
            while not reading.ended:
                await self._write(writer, encode(await self._next(reading)))
            await self._write(writer, prepared.template.suffix)

    async def _next(self, reading: _Pass) -> memoryview:
        try:
            piece = reading.read_now()
            if piece is not None:
                # A connection whose buffer is never full would not let other tasks run.
                await asyncio.sleep(0)
                return piece
            self._reads_source = True
            if self._signed.prepared.source.may_block:
                piece = await run_abandonable(reading.read)
            else:
                piece = await self._threads.run(reading.read)
        except Exception as error:
            self._failure = error if isinstance(error, VeriffError) else source_failed(error)
            raise
        self._reads_source = False
        return piece

    async def _write(self, writer: AbstractStreamWriter, piece: bytes) -> None:
        await writer.write(piece)
        self._on_bytes_sent(len(piece))
        if self._on_progress is None:
            return
        self._bytes_sent += len(piece)
        try:
            self._on_progress(self._bytes_sent)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  the user's function may raise anything
            self._failure = error
            # aiohttp would take the callback's CancelledError for its own.
            raise CallbackError(error) from None
