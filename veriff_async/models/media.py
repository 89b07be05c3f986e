"""Media on both sides of an upload: the file a caller gives, and the receipt that Veriff returns."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen

from veriff_async.models.enums import MediaContext
from veriff_async.models.json import JsonObject

__all__ = (
    "AsyncReader",
    "DownloadProgress",
    "DownloadedMedia",
    "Media",
    "MediaFile",
    "MediaList",
    "MediaReference",
    "MediaSource",
    "NfcData",
    "Timestamp",
    "TimestampHash",
    "UploadProgress",
    "UploadedMedia",
)


@runtime_checkable
class AsyncReader(Protocol):
    """Anything with an async ``read(n)``, such as aiohttp's ``StreamReader`` and Starlette's ``UploadFile``."""

    async def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes, and ``b""`` at the end."""
        ...


MediaSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | AsyncReader | AsyncIterable[bytes]
)


@frozen
class Media:
    """One picture or PDF to upload.

    Args:
        source: Where its bytes are: a path (a text is one too), bytes, a file opened in binary mode, anything with an
            async ``read(n)``, or an async iterator of bytes. A path, bytes or seekable file is read twice, first to
            sign and then to send; what can be read only once is kept in an unnamed temporary file meanwhile, in
            memory while it is small. A file that you opened stays open.
        context: What it shows, for example ``"document-front"``; see `MediaContext`.
        filename: A name for your own display of progress; it is never sent.
        mimetype: Its type, if you know it; it is found from the first bytes, and one that contradicts them is refused.
        timestamp: When the picture was taken (aware).
        max_side: Scale a picture down when its longer side has more pixels than this; Veriff advises 1920. It needs
            the extra ``veriff-async[images]``, for HEIC and HEIF ``[heic]``.
            JPEG, PNG and WebP stay what they are, HEIC and HEIF become JPEG, JPEG
            and WebP are written with quality 90. The picture stands upright afterwards, and what the camera noted
            (place, time) is gone, but for its colours' profile; CMYK becomes RGB without it. A picture that is small
            enough, and a PDF, is sent byte for byte as it is, notes included.

    See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
    """

    source: MediaSource = field(repr=False)
    context: MediaContext | str
    filename: str | None = field(default=None, kw_only=True, repr=False)
    mimetype: str | None = field(default=None, kw_only=True)
    timestamp: datetime | None = field(default=None, kw_only=True)
    max_side: int | None = field(default=None, kw_only=True)

    def __hash__(self) -> int:
        """Hash any source: a bytearray has no hash of its own, and equal bytes of any type have to hash alike."""
        source = self.source
        known = source if isinstance(source, str | os.PathLike) else isinstance(source, bytes | bytearray | memoryview)
        return hash((known, self.context, self.filename, self.mimetype, self.timestamp, self.max_side))


@frozen(kw_only=True)
class MediaReference:
    """Which media of a call an error is about.

    Attributes:
        index: Its index among the media of the call, from 0.
        context: What it shows, or ``None`` when the context that was given is not one of Veriff's.
    """

    index: int
    context: MediaContext | None

    def __str__(self) -> str:
        """Name the media as an error does, for example ``media[1] (face)``."""
        return f"media[{self.index}]" + ("" if self.context is None else f" ({self.context})")


@frozen(kw_only=True)
class UploadProgress:
    """How far one upload is.

    Attributes:
        media: Which one.
        bytes_sent: Bytes of the request body handed to the connection; it starts again when the upload is tried again.
        total_bytes: Length of the request body in bytes (about 4/3 of the file).
    """

    media: Media
    bytes_sent: int
    total_bytes: int


@frozen(kw_only=True)
class UploadedMedia:
    """The receipt of one upload (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3).

    Attributes:
        id: Id of the media file, for downloading it later.
        context: What the picture shows.
        name: Usually the context again.
        size: Size in bytes as Veriff counted it.
        mimetype: MIME type as Veriff wrote it.
        url: API address of the file; it needs signed headers, so use the client to read it.
        session_id: The session; older answers leave it out.
        repeated: Whether an earlier try of the same upload broke off without an answer, so that Veriff may hold
            the picture twice (which it allows).
    """

    id: str
    context: MediaContext | None = None
    name: str | None = None
    size: int | None = None
    mimetype: str | None = None
    url: str | None = field(default=None, repr=False)
    session_id: str | None = None
    repeated: bool = False
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class NfcData:
    """What was read from the chip of an e-passport, in the four files that Veriff asks for, as raw bytes.

    Attributes:
        com: The chip's list of its files (EF.COM).
        sod: The issuer's signature (EF.SOD).
        dg1: The machine readable zone (DG1).
        dg2: The portrait (DG2).

    See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
    """

    com: bytes = field(repr=False)
    sod: bytes = field(repr=False)
    dg1: bytes = field(repr=False)
    dg2: bytes = field(repr=False)


@frozen(kw_only=True)
class MediaFile:
    """One picture, video or chip reading that Veriff holds (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2).

    Attributes:
        id: Its id, for downloading it.
        context: What it shows; readings of a chip have none.
        name: Usually the context again.
        size: Size in bytes.
        mimetype: MIME type as Veriff wrote it.
        url: API address of the file; it needs signed headers, so use the client to read it.
        session_id: The session; older answers leave it out.
        duration: Length of a video in seconds.
    """

    id: str
    context: MediaContext | None = None
    name: str | None = None
    size: int | None = None
    mimetype: str | None = None
    url: str | None = field(default=None, repr=False)
    session_id: str | None = None
    duration: float | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class MediaList:
    """The media of one attempt (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2).

    Pictures and videos come in the order of Veriff's own view of their fit and quality, not of time. A test
    integration gives back no videos.
    """

    images: tuple[MediaFile, ...] = ()
    videos: tuple[MediaFile, ...] = ()
    nfc_documents: tuple[MediaFile, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def all(self) -> tuple[MediaFile, ...]:
        """All of them: pictures, then videos, then readings of a chip."""
        return self.images + self.videos + self.nfc_documents


@frozen(kw_only=True)
class TimestampHash:
    """The digest that a trusted timestamp covers."""

    algorithm: str | None = None
    value: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Timestamp:
    """A trusted timestamp of one media file; a guess, seen in an older client only."""

    id: str
    context: MediaContext | None = None
    signature: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    data_hash: TimestampHash | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class DownloadProgress:
    """How far one download is.

    Attributes:
        media_id: Which one.
        bytes_received: Bytes received; it starts again when the download is tried again.
        total_bytes: Size in bytes, or ``None`` when Veriff does not state it.
    """

    media_id: str
    bytes_received: int
    total_bytes: int | None


@frozen(kw_only=True)
class DownloadedMedia:
    """A file that was brought down, whole and verified.

    Attributes:
        media_id: Which one.
        path: Where it is.
        size: Size in bytes.
        mimetype: MIME type as Veriff wrote it.
        skipped: Whether it was there already, and was left as it was.
    """

    media_id: str
    path: Path = field(repr=False)
    size: int
    mimetype: str | None = None
    skipped: bool = False
