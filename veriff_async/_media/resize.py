"""Scales pictures down before they are sent."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from veriff_async._media.decode import TRANSPARENT, Colours, check_stated_size, decode, open_picture, read_all
from veriff_async._protocol.image_header import PDF
from veriff_async.errors import ConfigurationError, MediaUnsupportedError

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

    from veriff_async._media.source import Source

__all__ = ("resize",)

_QUALITY: Final = 90

# HEIF becomes JPEG: every reader supports it, and Veriff returns pictures as JPEG or PNG.
_FORMATS: Final = {"image/png": "PNG", "image/webp": "WEBP"}
_MODES: Final = {
    "JPEG": frozenset({"L", "RGB"}),
    "PNG": frozenset({"L", "LA", "RGB", "RGBA", "I;16"}),
    "WEBP": frozenset({"RGB", "RGBA"}),
}


def resize(source: Source, mimetype: str, size: tuple[int, int] | None, max_side: int) -> bytes | None:
    """Scale a picture down if its longer side has more pixels than `max_side`. Blocking, for a worker thread.

    Args:
        source: The file.
        mimetype: Its type.
        size: Width and height in pixels, if the header states them.
        max_side: Most pixels of the longer side.

    Returns:
        The file of the smaller picture, or ``None`` if the source can be sent as it is.

    Raises:
        MediaUnsupportedError: It cannot be decoded, or has too many pixels for that.
        MediaError: It cannot be read.
        ConfigurationError: It is HEIC or HEIF, and the extra for these is not installed.
    """
    if mimetype == PDF or (size is not None and max(size) <= max_side):
        return None
    if size is not None:
        check_stated_size(mimetype, size)
    return _scale(read_all(source), max_side, mimetype)


def _scale(content: io.BytesIO, max_side: int, mimetype: str) -> bytes | None:
    """Return the smaller picture as a file, or ``None`` when the picture is small enough."""
    file_format = _FORMATS.get(mimetype, "JPEG")
    try:
        if max(open_picture(content, mimetype).size) <= max_side:
            return None
        image = decode(content, mimetype, max_side=max_side, colours=_Colours(file_format)).image
        return _encode(image, file_format)
    except (MediaUnsupportedError, ConfigurationError):
        raise
    except Exception:  # noqa: BLE001  decoders raise anything for a file that was made to break them
        msg = "The picture cannot be decoded, so it cannot be scaled down: pass a complete one, or omit max_side."
    raise MediaUnsupportedError(msg)


class _Colours:
    """Converts parts of a picture into a mode whose pixels can be averaged and that the file format supports."""

    def __init__(self, file_format: str) -> None:
        self._format = file_format

    def __call__(self, image: ImageFile) -> Colours | None:
        if image.mode in _MODES[self._format] and image.mode not in TRANSPARENT:
            return None
        transparent = self._format != "JPEG" and (image.mode in TRANSPARENT or "transparency" in image.info)
        mode = "RGBA" if transparent else "RGB"
        if image.mode in _MODES[self._format]:
            mode = image.mode
        if image.mode == "CMYK":
            # The profile describes CMYK, and the picture is RGB then.
            image.info.pop("icc_profile", None)
        return lambda part: part.convert(mode)


def _encode(image: Image.Image, file_format: str) -> bytes:
    """Encode a picture with its colour profile and without other metadata, such as place and time."""
    profile = image.info.get("icc_profile")
    image.info.clear()
    out = io.BytesIO()
    options = {} if file_format == "PNG" else {"quality": _QUALITY}
    image.save(out, file_format, icc_profile=profile, **options)
    return out.getvalue()
