"""Rewrites pictures before they are sent: smaller, or as a JPEG that Veriff accepts.

    max_side alone          decode ──► scale ──► the same type, with its colour profile
    convert or max_bytes    a JPEG that only has metadata too much: drop them, without encoding it again
                            all others: decode once ──► sRGB ──► scale ──► the best quality that fits

The decision whether a picture is rewritten is `is_sent_as_it_is`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from veriff_async._media.decode import (
    TRANSPARENT,
    Colours,
    check_stated_size,
    decode,
    is_turned,
    open_picture,
    plain,
    read_all,
    run_pillow,
)
from veriff_async._protocol.jpeg_segments import strip_metadata
from veriff_async._protocol.media_rules import byte_limit, is_sent_as_it_is
from veriff_async.errors import MediaTooLargeError

if TYPE_CHECKING:
    from PIL import Image, ImageCms
    from PIL.ImageFile import ImageFile

    from veriff_async._media.source import Source
    from veriff_async.models.media import Media

__all__ = ("convert",)

_QUALITY: Final = 90
# libjpeg's manual (usage.txt): 50 to 95 are useful; above 95 files grow without a visible difference. Below 60, blocks
# are visible around the small print of documents.
_BEST_QUALITY: Final = 95
_LOWEST_QUALITY: Final = 60
# Pixels of the longer side below which no picture is scaled to fit a limit of bytes: documents are illegible then.
_LOWEST_SIDE: Final = 320

# The limit of libjpeg, JPEG_MAX_DIMENSION.
_MAX_JPEG_SIDE: Final = 65_500
_CHECKED_SIDE: Final = 64
# Steps of 255 by which a colour may differ after a profile is applied, if the profile is that of sRGB, or a variant.
_SAME_COLOUR: Final = 3

# HEIF becomes JPEG: every reader supports it, and Veriff returns pictures as JPEG or PNG.
_FORMATS: Final = {"image/png": "PNG", "image/webp": "WEBP"}
_MODES: Final = {
    "JPEG": frozenset({"L", "RGB"}),
    "PNG": frozenset({"L", "LA", "RGB", "RGBA", "I;16"}),
    "WEBP": frozenset({"RGB", "RGBA"}),
}


def convert(source: Source, mimetype: str, size: tuple[int, int] | None, media: Media) -> bytes | None:
    """Rewrite a picture as its media asks for. Blocking, for a worker thread.

    Args:
        source: The file.
        mimetype: Its type.
        size: Width and height in pixels, if the header states them.
        media: Has the arguments: ``max_side``, ``max_bytes`` and ``convert``.

    Returns:
        The new file, or ``None`` if the source can be sent as it is.

    Raises:
        MediaUnsupportedError: It cannot be decoded, or has too many pixels for that.
        MediaTooLargeError: It does not fit into ``max_bytes``, however small it is made.
        MediaError: It cannot be read.
        ConfigurationError: It is HEIC or HEIF, and the extra for these is not installed.
    """
    if is_sent_as_it_is(media, mimetype, source.size, size):
        return None
    if size is not None:
        check_stated_size(mimetype, size)
    content = read_all(source)
    if media.convert is None and media.max_bytes is None:
        return run_pillow(lambda: _scale(content, mimetype, media.max_side))
    return run_pillow(lambda: _to_jpeg(content, mimetype, media))


# ---- The same type, smaller -----------------------------------------------------------------------------------------


def _scale(content: io.BytesIO, mimetype: str, max_side: int | None) -> bytes | None:
    """Return the smaller picture as a file, or ``None`` when the picture is small enough."""
    if max_side is None or max(open_picture(content, mimetype).size) <= max_side:
        return None
    file_format = _FORMATS.get(mimetype, "JPEG")
    image = decode(content, mimetype, max_side=max_side, colours=_SameColours(file_format)).image
    profile = image.info.get("icc_profile")
    return _encode(image, file_format, _QUALITY, profile)


class _SameColours:
    """Converts parts of a picture into a mode whose pixels can be averaged and that the file format supports."""

    def __init__(self, file_format: str) -> None:
        self._format = file_format

    def __call__(self, image: ImageFile) -> Colours | None:
        if image.mode in _MODES[self._format] and image.mode not in TRANSPARENT:
            return None
        if image.mode == "CMYK":
            # The profile describes CMYK, and the picture is RGB then.
            image.info.pop("icc_profile", None)
        if self._format == "JPEG":
            return plain(image)
        transparent = image.mode in TRANSPARENT or "transparency" in image.info
        mode = image.mode if image.mode in _MODES[self._format] else "RGBA" if transparent else "RGB"
        return lambda part: part.convert(mode)


def _encode(image: Image.Image, file_format: str, quality: int, profile: bytes | None = None) -> bytes:
    """Encode a picture without metadata, such as place and time."""
    image.info.clear()
    out = io.BytesIO()
    options = {} if file_format == "PNG" else {"quality": quality}
    image.save(out, file_format, icc_profile=profile, **options)
    return out.getvalue()


# ---- JPEG in sRGB ---------------------------------------------------------------------------------------------------


def _to_jpeg(content: io.BytesIO, mimetype: str, media: Media) -> bytes | None:
    limit = byte_limit(media)
    if mimetype == "image/jpeg" and _shows_the_same_without_metadata(content, media.max_side):
        whole = content.getvalue()
        stripped = strip_metadata(whole)
        if stripped is not None and len(stripped) <= limit:
            # It is complete if a small picture can be made of it, which takes a fraction of the time.
            decode(content, mimetype, max_side=_CHECKED_SIDE)
            return None if stripped == whole else stripped
    image = decode(content, mimetype, max_side=media.max_side, colours=_srgb_colours).image
    content.close()  # frees its memory
    return _encode_within(image, limit, _QUALITY if media.max_bytes is None else _BEST_QUALITY)


def _shows_the_same_without_metadata(content: io.BytesIO, max_side: int | None) -> bool:
    """Return whether a JPEG is upright, in sRGB and small enough, so that it need not be encoded again."""
    image = open_picture(content, "image/jpeg")
    if image.mode not in {"L", "RGB"} or (max_side is not None and max(image.size) > max_side):
        return False
    return not is_turned(image) and _profile_transform(image) is None


def _srgb_colours(image: ImageFile) -> Colours | None:
    return plain(image, _profile_transform(image))


def _profile_transform(image: ImageFile) -> Colours | None:
    """Return the function that applies the colour profile of a picture, or ``None`` if its colours are sRGB already.

    A profile that is damaged, or describes other colours than the picture has, is ignored, as viewers do.
    """
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not profile:
        return None
    mode = "CMYK" if image.mode == "CMYK" else "L" if image.mode in {"1", "L", "LA", "La", "I;16"} else "RGB"
    # ICC.1:2022, 7.2.6: the header names the colours that the profile describes.
    if profile[16:20].strip() != {"L": b"GRAY"}.get(mode, mode.encode()):
        return None
    srgb = ImageCms.ImageCmsProfile(
        ImageCms.createProfile("sRGB")  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    )
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            srgb,
            mode,
            "RGB",
            # As browsers do (https://www.w3.org/TR/css-color-4/#rendering-intents).
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode != "CMYK" and _changes_nothing(transform, mode):
        return None
    return transform.apply


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform keeps colours: whether its profile is one of the many variants of sRGB."""
    from PIL import Image, ImageChops

    steps = bytes(range(0, 256, 15))
    samples = Image.frombytes("L", (len(steps), 1), steps)
    if mode == "RGB":
        colours = bytes(value for red in steps for green in steps for blue in steps for value in (red, green, blue))
        samples = Image.frombytes("RGB", (len(steps) ** 2, len(steps)), colours)
    difference = ImageChops.difference(transform.apply(samples), samples.convert("RGB"))
    return max(difference.tobytes()) <= _SAME_COLOUR


def _encode_within(image: Image.Image, limit: int, best: int) -> bytes:
    """Encode a picture as JPEG in the best quality that fits, and smaller if the lowest quality does not.

    Raises:
        MediaTooLargeError: Not even the smallest picture fits.
    """
    longer = max(image.size)
    scaled = image if longer <= _MAX_JPEG_SIDE else _smaller(image, _MAX_JPEG_SIDE / longer)
    while True:
        content = _search_quality(scaled, limit, best)
        if len(content) <= limit:
            return content
        # The size of a file is about proportional to its pixels.
        ratio = min(0.95, 0.97 * (limit / len(content)) ** 0.5) * max(scaled.size) / longer
        if ratio * longer < _LOWEST_SIDE:
            msg = (
                f"The picture does not fit into {limit} bytes as a JPEG that is still legible: pass a larger max_bytes."
            )
            raise MediaTooLargeError(msg)
        scaled = _smaller(image, ratio)


def _search_quality(image: Image.Image, limit: int, best: int) -> bytes:
    """Return the file of the best quality that fits, or that of the lowest quality if none does."""
    content = _encode(image, "JPEG", best)
    if len(content) <= limit:
        return content
    fitting = _encode(image, "JPEG", _LOWEST_QUALITY)
    lowest, highest = _LOWEST_QUALITY, best - 1
    while len(fitting) <= limit and lowest < highest:
        middle = (lowest + highest + 1) // 2
        content = _encode(image, "JPEG", middle)
        if len(content) <= limit:
            fitting, lowest = content, middle
        else:
            highest = middle - 1
    return fitting


def _smaller(image: Image.Image, ratio: float) -> Image.Image:
    from PIL import Image

    size = max(1, int(image.size[0] * ratio)), max(1, int(image.size[1] * ratio))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)  # pyright: ignore[reportUnknownMemberType]
