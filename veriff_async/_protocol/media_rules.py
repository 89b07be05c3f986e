"""Veriff's rules for media to upload: context, type, size and time.

Rules from https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async._protocol.image_header import PDF, detect_convertible_type, detect_type
from veriff_async._protocol.limits import MAX_IMAGE_BASE64, MAX_PDF_BYTES
from veriff_async._protocol.source_mistakes import explain_text
from veriff_async.errors import InvalidArgumentError, MediaTooLargeError, MediaUnsupportedError
from veriff_async.models.enums import MediaContext
from veriff_async.models.media import MediaReference

if TYPE_CHECKING:
    from veriff_async.models.media import Media

__all__ = (
    "byte_limit",
    "check_conversion",
    "check_size",
    "check_stated",
    "context_of",
    "is_sent_as_it_is",
    "may_convert",
    "reference_to",
    "size_limit",
    "too_large",
    "type_of",
)

# Largest file, in bytes, that is read into memory to be converted.
_MAX_CONVERTED_BYTES: Final = 64 * 1024 * 1024

# Veriff limits the length of the base64 text, which is four thirds of the file.
_MAX_IMAGE_BYTES: Final = (MAX_IMAGE_BASE64 - 1) // 4 * 3

# Storage services and browsers state these types for files of unknown type.
_UNSPECIFIC_TYPES: Final = frozenset(
    {"", "*/*", "application/octet-stream", "binary/octet-stream", "application/unknown"}
)

# Common mistakes, older names, and the two names of HEIF, which are often confused.
_CANONICAL_TYPES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/heic": "image/heif",
    "image/heic-sequence": "image/heif",
    "image/heif-sequence": "image/heif",
    "application/x-pdf": PDF,
    "image/tif": "image/tiff",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
    "image/avif-sequence": "image/avif",
}


def context_of(media: Media) -> MediaContext:
    """Return the context of a media.

    Raises:
        InvalidArgumentError: It is not a word of Veriff's.
    """
    given: object = media.context
    context = MediaContext(given) if isinstance(given, str) else None
    if context is not None and (isinstance(given, MediaContext) or context.known):
        return context
    msg = (
        "The context is not one that Veriff documents: give one of MediaContext, for example "
        '"document-front" or "face", or wrap a newer word in MediaContext(...).'
    )
    raise InvalidArgumentError(msg)


def reference_to(index: int, media: Media) -> MediaReference:
    """Return the reference to a media for errors. An undocumented context is omitted, since it may contain anything."""
    try:
        return MediaReference(index=index, context=context_of(media))
    except InvalidArgumentError:
        return MediaReference(index=index, context=None)


def may_convert(media: Media) -> bool:
    """Return whether a media may be rewritten before it is sent, so that its size and its bytes may change."""
    return media.max_side is not None or media.max_bytes is not None or media.convert is not None


def check_conversion(media: Media) -> None:
    """Check the arguments that ask for a smaller or converted picture.

    Raises:
        InvalidArgumentError: One is invalid.
    """
    if media.max_side is not None and (type(media.max_side) is not int or media.max_side <= 0):
        msg = "max_side must be a number of pixels above zero, for example 1920."
        raise InvalidArgumentError(msg)
    if media.max_bytes is not None and (type(media.max_bytes) is not int or media.max_bytes <= 0):
        msg = "max_bytes must be a number of bytes above zero, for example 4_000_000."
        raise InvalidArgumentError(msg)
    converts: object = media.convert
    if converts is not None and converts != "jpeg":
        msg = 'convert must be "jpeg", the only type that pictures are converted to, or None.'
        raise InvalidArgumentError(msg)


def byte_limit(media: Media) -> int:
    """Return how many bytes a picture may have when it is sent: Veriff's limit, or ``max_bytes`` if that is lower."""
    return _MAX_IMAGE_BYTES if media.max_bytes is None else min(media.max_bytes, _MAX_IMAGE_BYTES)


def is_sent_as_it_is(media: Media, mimetype: str, size: int, dimensions: tuple[int, int] | None) -> bool:
    """Return whether a media need not be rewritten, as far as its header shows.

    Args:
        media: The media.
        mimetype: Its type.
        size: Bytes.
        dimensions: Width and height in pixels, if the header states them.
    """
    if mimetype == PDF or not may_convert(media):
        return True
    if media.convert is not None or (media.max_bytes is not None and size > byte_limit(media)):
        return False
    return media.max_side is None or (dimensions is not None and max(dimensions) <= media.max_side)


def type_of(head: bytes, *, converts: bool = False) -> str:
    """Return the type of a media.

    Args:
        head: The first bytes, at least as many as `detect_type` needs.
        converts: Whether pictures of other types are accepted too, because they become JPEG.

    Raises:
        MediaUnsupportedError: Veriff does not accept such a file; the message names a common mistake if it is one.
    """
    if (mimetype := detect_type(head)) is not None:
        return mimetype
    if (convertible := detect_convertible_type(head)) is not None:
        if converts:
            return convertible
        msg = f'The media is {convertible}, which Veriff does not take: pass convert="jpeg", or give a JPEG.'
        raise MediaUnsupportedError(msg)
    if (mistake := explain_text(head)) is not None:
        msg = f"The media {mistake}."
        raise MediaUnsupportedError(msg)
    msg = "The media is of no type that Veriff takes: give a JPEG, PNG, WebP, HEIC, HEIF or PDF."
    raise MediaUnsupportedError(msg)


def check_stated(media: Media, mimetype: str) -> None:
    """Refuse a media whose stated type or time cannot be right.

    Raises:
        MediaUnsupportedError: The stated type is not the type of its bytes.
        InvalidArgumentError: Type or time are of the wrong kind, or the time has no time zone.
    """
    if media.mimetype is not None:
        _check_type(media.mimetype, mimetype)
    if media.timestamp is not None and getattr(media.timestamp, "tzinfo", None) is None:
        msg = "The timestamp of the media has no time zone: give an aware datetime."
        raise InvalidArgumentError(msg)


def _check_type(stated: object, mimetype: str) -> None:
    if not isinstance(stated, str):
        msg = f"mimetype must be a text such as {mimetype!r}, not {type(stated).__name__}: leave it out."
        raise InvalidArgumentError(msg)
    name = stated.lower().partition(";")[0].strip()
    if name not in _UNSPECIFIC_TYPES and _CANONICAL_TYPES.get(name, name) != _CANONICAL_TYPES.get(mimetype, mimetype):
        msg = f"The media is {mimetype}, not the stated type: leave mimetype out, or give the right file."
        raise MediaUnsupportedError(msg)


def size_limit(mimetype: str, *, converted: bool) -> int:
    """Return how many bytes a media of a type may have at most."""
    if mimetype == PDF:
        return MAX_PDF_BYTES - 1
    return _MAX_CONVERTED_BYTES if converted else _MAX_IMAGE_BYTES


def check_size(mimetype: str, size: int, *, converted: bool = False) -> None:
    """Refuse a media that is too large.

    Args:
        mimetype: The type.
        size: Bytes.
        converted: Whether it may be converted before it is sent.

    Raises:
        MediaTooLargeError: It is; the message names the limit of its type.
    """
    if size > size_limit(mimetype, converted=converted):
        raise too_large(mimetype, f"{size} bytes", converted=converted)


def too_large(mimetype: str, count: str, *, converted: bool) -> MediaTooLargeError:
    """Return the error for a media that has so many bytes."""
    limit = size_limit(mimetype, converted=converted)
    if mimetype == PDF:
        msg = f"The PDF has {count}: Veriff takes fewer than {limit + 1}, so make it smaller."
    elif converted:
        msg = f"The picture has {count}: {limit} are the most that is converted here, so send a smaller picture."
    else:
        advice = "send a smaller picture, or pass max_side=1920, or max_bytes"
        msg = f"The image has {count}, Veriff takes at most {limit}: {advice}."
    return MediaTooLargeError(msg)
