"""Media to upload, receipts of uploads, and media that Veriff stores."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable
from datetime import datetime
from pathlib import Path
from typing import IO, Final, Literal, Protocol, Self, TypeAlias, TypedDict, Unpack, runtime_checkable

from attrs import field, frozen

from veriff_async.models.base import Model, WithoutJson
from veriff_async.models.enums import MediaContext
from veriff_async.models.json import JsonObject

__all__ = (
    "AsyncReader",
    "DownloadProgress",
    "DownloadedMedia",
    "Media",
    "MediaFile",
    "MediaList",
    "MediaOptions",
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


@frozen
class EncodedText:
    """The source of a media that is a text; `Media.from_base64` and `Media.from_data_url` make it.

    Attributes:
        text: The text.
        is_data_url: Whether it is a data URL, or base64 alone.
    """

    text: str | bytes = field(repr=False)
    is_data_url: bool


class MediaOptions(TypedDict, total=False):
    """The keyword arguments of `Media`."""

    filename: str | None
    mimetype: str | None
    timestamp: datetime | None
    max_side: int | None
    max_bytes: int | None
    convert: Literal["jpeg"] | None
    quality: Literal["warn", "refuse"] | None


MediaSource: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | IO[bytes]
    | AsyncReader
    | AsyncIterable[bytes]
    | EncodedText
)
"""The source of a `Media`: a path, bytes, an open file, an object with an async ``read(n)``, or an async iterator."""

# RFC 2397: the type in the head of a data URL, if it states one.
_STATED_TYPE: Final = re.compile(r"\s*data:([^;,/]{1,127}/[^;,]{1,127})[;,]", re.IGNORECASE)


@frozen
class Media(WithoutJson):
    """One picture or PDF to upload.

    Args:
        source: A path (as text or path object), bytes, a file opened in binary mode, an object with an async
            ``read(n)``, or an async iterator of bytes. A path or seekable file of up to 4 MiB is read once, and a
            larger one twice, first to sign and then to send. A source that can be read only once is buffered in memory
            or, when it is large, in an unnamed temporary file. A file that you opened stays open.
        context: Its subject, for example ``"document-front"``; see `MediaContext`.
        filename: A name for your display of progress, which is never sent; ``None`` if you need none.
        mimetype: The MIME type, if you know it. By default the type is detected from the first bytes; a contradiction
            to them is an error.
        timestamp: When the picture was taken, with a time zone. By default none is sent.
        max_side: Scale a picture down when its longer side has more pixels than this; Veriff advises 1920. By default
            no picture is scaled.
            Without the next two arguments, JPEG, PNG and WebP keep their type, HEIC and HEIF become JPEG, and JPEG and
            WebP are written with quality 90. The orientation is applied, and metadata of the camera (location, time)
            are removed, except the colour profile. CMYK becomes RGB without a profile. A picture that is small enough
            is sent unchanged, metadata included.
        max_bytes: Convert a picture to JPEG, as `convert` does, when its file has more bytes than this: in the best
            quality that fits, and scaled down if quality 60 does not fit. By default the size is not limited.
            Veriff's own limit is about 18 million.
        convert: ``"jpeg"`` converts every picture to a JPEG that Veriff accepts, also AVIF, TIFF, GIF, BMP and the
            first picture of an animation: upright, in sRGB, transparent parts white, without metadata. A JPEG of which
            only the metadata must be removed is not encoded again. By default only the arguments above convert.
        quality: Whether to make the checks of `inspect_media` before anything is sent: ``"warn"`` issues a
            `MediaQualityWarning` for a picture that fails one, ``"refuse"`` raises a `MediaQualityError`. By default
            nothing is checked. The limits and the face detector are those of the client.

    The last four need the extra ``veriff-async[images]``, for HEIC and HEIF ``[heic]``. They do not change a PDF.

    See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
    """

    source: MediaSource = field(repr=False)
    context: MediaContext | str
    filename: str | None = field(default=None, kw_only=True, repr=False)
    mimetype: str | None = field(default=None, kw_only=True)
    timestamp: datetime | None = field(default=None, kw_only=True)
    max_side: int | None = field(default=None, kw_only=True)
    max_bytes: int | None = field(default=None, kw_only=True)
    convert: Literal["jpeg"] | None = field(default=None, kw_only=True)
    quality: Literal["warn", "refuse"] | None = field(default=None, kw_only=True)

    @classmethod
    def from_base64(cls, text: str | bytes, context: MediaContext | str, **options: Unpack[MediaOptions]) -> Self:
        """Make a media from a base64 text, such as a field of a JSON request.

        The text is decoded when the media is checked, in a worker thread. Whitespace in it is ignored. Both alphabets
        of RFC 4648 are accepted: the standard one with padding, and the one for URLs with padding or without.

        Args:
            text: The text.
            context: Its subject.
            options: The other arguments of the class.

        Example:
            >>> media = Media.from_base64(request["front"], "document-front")
        """
        return cls(EncodedText(text, is_data_url=False), context, **options)

    @classmethod
    def from_data_url(cls, text: str | bytes, context: MediaContext | str, **options: Unpack[MediaOptions]) -> Self:
        """Make a media from a data URL (RFC 2397), such as the result of ``canvas.toDataURL()`` in a browser.

        The URL is decoded when the media is checked, in a worker thread. The type that it states is ``mimetype``
        unless that is passed, and must be the type of its bytes. Data without ``;base64`` may have a million
        characters.

        Args:
            text: The URL.
            context: Its subject.
            options: The other arguments of the class.

        Example:
            >>> media = Media.from_data_url(request["selfie"], "face", max_side=1920)
        """
        options.setdefault("mimetype", _stated_type(text))
        return cls(EncodedText(text, is_data_url=True), context, **options)

    def __hash__(self) -> int:
        """Hash any source: a bytearray is not hashable, and equal bytes of any type must have equal hashes."""
        source = self.source
        key = source if isinstance(source, str | os.PathLike) else isinstance(source, bytes | bytearray | memoryview)
        arguments = (self.filename, self.mimetype, self.timestamp, self.max_side, self.max_bytes, self.convert)
        return hash((key, self.context, arguments))


def _stated_type(url: object) -> str | None:
    # Anything but a text is refused when the media is checked, as are all other mistakes.
    if isinstance(url, bytes):
        url = url[:512].decode("latin-1")
    match = _STATED_TYPE.match(url) if isinstance(url, str) else None
    return None if match is None else match[1]


@frozen(kw_only=True)
class MediaReference(Model):
    """The media of a call to which an error refers.

    Attributes:
        index: Its index among the media of the call, from 0.
        context: Its subject, or ``None`` when the given context is not one of Veriff's.
    """

    index: int
    context: MediaContext | None

    def __str__(self) -> str:
        """Name the media as an error does, for example ``media[1] (face)``."""
        return f"media[{self.index}]" + ("" if self.context is None else f" ({self.context})")


@frozen(kw_only=True)
class UploadProgress(WithoutJson):
    """The progress of one upload.

    Attributes:
        media: The media.
        bytes_sent: Bytes of the request body handed to the connection; it restarts at 0 when the upload is retried.
        total_bytes: Length of the request body in bytes (about 4/3 of the file).
    """

    media: Media
    bytes_sent: int
    total_bytes: int


@frozen(kw_only=True)
class UploadedMedia(Model):
    """The receipt of one upload (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3).

    Attributes:
        id: Id of the media file, for downloading it later.
        context: Its subject.
        name: Usually the context again.
        size: Size in bytes as Veriff counted it.
        mimetype: MIME type as Veriff wrote it.
        url: API address of the file; it needs signed headers, so download it with the client.
        session_id: The session; older responses omit it.
        repeated: Whether an earlier attempt of the same upload got no response, so that Veriff may store the picture
            twice (which it allows).
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
class NfcData(Model):
    """Data from the chip of an e-passport: the four files that Veriff requires, as bytes.

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
class MediaFile(Model):
    """One picture, video or chip data file that Veriff stores (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2).

    Attributes:
        id: Its id, for downloading it.
        context: Its subject; chip data have none.
        name: Usually the context again.
        size: Size in bytes.
        mimetype: MIME type as Veriff wrote it.
        url: API address of the file; it needs signed headers, so download it with the client.
        session_id: The session; older responses omit it.
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
class MediaList(Model):
    """The media of one attempt (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2).

    Veriff orders pictures and videos by suitability and quality, not by time. A test integration returns no videos.
    """

    images: tuple[MediaFile, ...] = ()
    videos: tuple[MediaFile, ...] = ()
    nfc_documents: tuple[MediaFile, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def all(self) -> tuple[MediaFile, ...]:
        """All files; pictures first, then videos and chip data."""
        return self.images + self.videos + self.nfc_documents


@frozen(kw_only=True)
class TimestampHash(Model):
    """The digest that a trusted timestamp covers."""

    algorithm: str | None = None
    value: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Timestamp(Model):
    """A trusted timestamp of one media file. Its form is a guess, seen only in an older client."""

    id: str
    context: MediaContext | None = None
    signature: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    data_hash: TimestampHash | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class DownloadProgress(Model):
    """The progress of one download.

    Attributes:
        media_id: The id of the media file.
        bytes_received: Bytes received; it restarts at 0 when the download is retried.
        total_bytes: Size in bytes, or ``None`` when Veriff does not state it.
    """

    media_id: str
    bytes_received: int
    total_bytes: int | None


@frozen(kw_only=True)
class DownloadedMedia(Model):
    """A file that was downloaded completely and verified.

    Attributes:
        media_id: The id of the media file.
        path: The file on the disk.
        size: Size in bytes.
        mimetype: MIME type as Veriff wrote it.
        skipped: Whether the file existed already, and was not changed.
    """

    media_id: str
    path: Path = field(repr=False)
    size: int
    mimetype: str | None = None
    skipped: bool = False
