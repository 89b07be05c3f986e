"""One upload from source to socket: looked at, signed in a first pass, sent and checked again in a second.

Large files go through in pieces, read, encoded and hashed in a worker thread, so that neither memory nor the loop
feels their size. A file of two pieces at most is made into its body once, which is then signed and sent as it is.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final

from aiohttp.payload import Payload
from anyio import to_thread
from attrs import field, frozen

from veriff_async.errors import (
    ConfigurationError,
    MediaChangedError,
    MediaError,
    MediaTooLargeError,
    MediaUnsupportedError,
)
from veriff_async.models.enums import MediaContext
from veriff_async.protocol.envelope import Envelope, base64_length, encode, image_envelope
from veriff_async.protocol.limits import MAX_IMAGE_BASE64, MAX_PDF_BYTES
from veriff_async.protocol.sniff import HEAD, PDF, sniff
from veriff_async.transport.sources import PIECE, BytesSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp.abc import AbstractStreamWriter
    from anyio import CapacityLimiter

    from veriff_async.models.media import Media
    from veriff_async.protocol.credentials import Credentials
    from veriff_async.transport.sources import Piece, Reader, Source

__all__ = ("Draft", "SignedBody", "StreamedPayload", "draft")

_WHOLE: Final = 2 * PIECE
"""A file up to this size is read once, and its body kept."""

INLINE: Final = 32 * 1024
"""Bytes in memory up to this size are encoded and signed on the loop: a thread would take longer to be asked."""


@frozen
class Draft:
    """A media whose type and size are known and allowed, ready to be signed."""

    media: Media
    source: Source
    envelope: Envelope

    @property
    def length(self) -> int:
        """Length of the whole request body in bytes."""
        return self.envelope.length(self.source.size)

    @property
    def inline(self) -> bool:
        """Whether signing is quicker than asking a worker thread for it."""
        return isinstance(self.source, BytesSource) and self.source.size <= INLINE

    def sign(self, credentials: Credentials) -> SignedBody:
        """Read the source once and sign what will be sent. Blocking unless `inline`.

        Raises:
            MediaChangedError: The file is no longer as long as it was.
            MediaError: It cannot be read.
        """
        signer = credentials.signer()
        if self.source.size <= _WHOLE:
            body = b"".join(self.envelope.wrap(_Reading(self)))
            signer.update(body)
            return SignedBody(self, signer.hexdigest(), body=body)
        reading = _Reading(self)
        for piece in self.envelope.wrap(reading):
            signer.update(piece)
        return SignedBody(self, signer.hexdigest(), checksum=reading.checksum)


@frozen
class SignedBody:
    """A request body that can be sent any number of times; held whole only when it is small."""

    draft: Draft
    signature: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    checksum: int = 0

    @property
    def length(self) -> int:
        """Length in bytes."""
        return self.draft.length


def draft(media: Media, source: Source) -> Draft:
    """Look at the beginning and size of a media. Blocking.

    Raises:
        MediaUnsupportedError: Its type is not taken by Veriff, or not the one that was stated.
        MediaTooLargeError: It is larger than Veriff takes.
        ConfigurationError: Its context or timestamp cannot be right.
        MediaError: It cannot be read.
    """
    context = _context(media)
    reader = source.open()
    try:
        mimetype = sniff(bytes(reader.read(HEAD)))
    finally:
        reader.close()
    if mimetype is None:
        msg = f"The media for {context} is of no type that Veriff takes: give a JPEG, PNG, WebP, HEIC, HEIF or PDF."
        raise MediaUnsupportedError(msg)
    if media.mimetype is not None and _family(media.mimetype) != _family(mimetype):
        msg = f"The media for {context} is {mimetype}, not the stated type: leave mimetype out, or give the right file."
        raise MediaUnsupportedError(msg)
    _check_size(context, mimetype, source.size)
    if media.timestamp is not None and media.timestamp.tzinfo is None:
        msg = f"The timestamp of the media for {context} has no time zone: give an aware datetime."
        raise ConfigurationError(msg)
    return Draft(media, source, image_envelope(context, mimetype, media.timestamp))


def _context(media: Media) -> MediaContext:
    context = MediaContext(media.context)
    if not isinstance(media.context, MediaContext) and not context.known:
        msg = (
            "A media has a context that Veriff does not document: give one of MediaContext, for example "
            '"document-front" or "face", or wrap a newer word in MediaContext(...).'
        )
        raise ConfigurationError(msg)
    return context


def _family(mimetype: str) -> str:
    """Fold names of one type: image/jpg is a common slip, and the two HEIF names are often confused."""
    folded = mimetype.lower().split(";")[0].strip()
    return {"image/jpg": "image/jpeg", "image/heic": "image/heif"}.get(folded, folded)


def _check_size(context: str, mimetype: str, size: int) -> None:
    if mimetype == PDF and size >= MAX_PDF_BYTES:
        msg = f"The PDF for {context} has {size} bytes: Veriff takes fewer than {MAX_PDF_BYTES}."
        raise MediaTooLargeError(msg)
    if mimetype != PDF and base64_length(size) >= MAX_IMAGE_BASE64:
        most = MAX_IMAGE_BASE64 // 4 * 3
        msg = f"The image for {context} has {size} bytes: Veriff takes fewer than {most}, so make it smaller."
        raise MediaTooLargeError(msg)


class _Reading:
    """Read a source to its end, in full pieces, and see that it is exactly as long as it was."""

    def __init__(self, of: Draft) -> None:
        self._of = of
        self._left = of.source.size
        self._reader: Reader | None = None
        self.checksum = 0

    def __iter__(self) -> Iterator[Piece]:
        try:
            while self._left:
                yield self.read()
        finally:
            self.close()

    @property
    def ended(self) -> bool:
        return self._left == 0

    def read(self) -> Piece:
        """Return the next piece. Blocking."""
        if self._reader is None:
            self._reader = self._of.source.open()
        piece = self._reader.read(min(PIECE, self._left))
        # The last piece is given only when nothing follows it.
        return self._counted(piece, beyond=len(self._reader.read(1)) if self._left <= PIECE else 0)

    def read_now(self) -> Piece | None:
        """Return the next piece if that takes no waiting; the last one, behind which one must look, always does."""
        if self._reader is None or self._left <= PIECE:
            return None
        piece = self._reader.read_now(PIECE)
        return None if piece is None else self._counted(piece, beyond=0)

    def _counted(self, piece: Piece, *, beyond: int) -> Piece:
        if len(piece) < min(PIECE, self._left) or beyond:
            raise changed(self._of)
        self._left -= len(piece)
        # Guards against a file that is written to, not against an attacker: the signature does that, at Veriff's side.
        self.checksum = zlib.crc32(piece, self.checksum)
        return piece

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


def changed(of: Draft) -> MediaChangedError:
    """Return the error for a source that is not what was signed."""
    msg = f"The media for {of.media.context} changed while it was uploaded: upload it again when nothing writes to it."
    return MediaChangedError(msg)


class StreamedPayload(Payload):
    """The second pass: what aiohttp asks to write itself to the connection."""

    _autoclose = True

    def __init__(self, signed: SignedBody, *, moved: Callable[[int], None], threads: CapacityLimiter) -> None:
        """Prepare one sending of a body.

        Args:
            signed: What is sent.
            moved: Called with the number of bytes after each piece that was handed to the connection.
            threads: Bounds the worker threads.
        """
        super().__init__(signed, content_type="application/json")
        self._signed = signed
        self._moved = moved
        self._threads = threads
        self._size = signed.length
        self.failure: Exception | None = None
        """Why the body could not be written, if the fault is not the connection's."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse: aiohttp asks for it only to show the body, which must not happen."""
        raise TypeError

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the whole body."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the body, which is always exactly as long as was promised."""
        del content_length
        if self._signed.body is not None:
            await self._write(writer, self._signed.body)
            return
        envelope = self._signed.draft.envelope
        await self._write(writer, envelope.prefix)
        reading = _Reading(self._signed.draft)
        try:
            while not reading.ended:
                await self._write(writer, await self._piece(reading))
        finally:
            reading.close()
        await self._write(writer, envelope.suffix)

    async def _piece(self, reading: _Reading) -> bytes:
        """Return the next piece, encoded; the last one only when the whole is what was signed."""
        try:
            piece = reading.read_now()
            if piece is None:
                piece = await to_thread.run_sync(reading.read, limiter=self._threads)
            else:
                # A connection that takes everything at once would never give the loop to anybody else.
                await asyncio.sleep(0)
        except MediaError as error:
            self.failure = error
            raise
        if reading.ended and reading.checksum != self._signed.checksum:
            self.failure = changed(self._signed.draft)
            raise self.failure
        return encode(piece)

    async def _write(self, writer: AbstractStreamWriter, piece: bytes) -> None:
        await writer.write(piece)
        try:
            self._moved(len(piece))
        except Exception as error:
            self.failure = error
            raise
