"""Scales pictures down before they are sent. The only module that imports Pillow, which is an extra."""

from __future__ import annotations

import io
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from veriff_async._media.source import PIECE
from veriff_async._protocol.image_header import PDF
from veriff_async.errors import ConfigurationError, MediaUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image
    from PIL.ImageFile import ImageFile

    from veriff_async._media.source import Source

__all__ = ("import_pillow", "resize")

_QUALITY: Final = 90
# A picture with more pixels takes too long to decode, even if it needs little memory.
_MAX_PIXELS: Final = 500_000_000
# Memory for decoding one picture: 89 million pixels of four bytes, where Pillow starts to warn of decompression bombs.
_MAX_MEMORY: Final = 384 * 1024 * 1024
_STRIP_BYTES: Final = 4 * 1024 * 1024

# HEIF becomes JPEG: every reader supports it, and Veriff returns pictures as JPEG or PNG.
_FORMATS: Final = {"image/png": "PNG", "image/webp": "WEBP"}
_DECODERS: Final = {**_FORMATS, "image/heic": "HEIF", "image/heif": "HEIF"}
_DECODER_CLASSES: Final = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "HEIF": ("pillow_heif", "HeifImageFile"),
}
_MODES: Final = {
    "JPEG": frozenset({"L", "RGB"}),
    "PNG": frozenset({"L", "LA", "RGB", "RGBA", "I;16"}),
    "WEBP": frozenset({"RGB", "RGBA"}),
}
_TRANSPARENT: Final = frozenset({"LA", "PA", "RGBA"})
_PIXEL_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Bytes that Pillow uses for a pixel; four in all other modes, also in RGB."""
# Decoders that hold planes or a canvas of their own, in addition to the picture: how many copies that makes.
_COPIES: Final = {"WEBP": 3, "HEIF": 3}
_END_OF_JPEG: Final = b"\xff\xd9"


def import_pillow() -> None:
    """Import Pillow. Blocking.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    try:
        import_module("PIL.Image")
    except ImportError:
        pass
    else:
        return
    msg = 'max_side needs Pillow, an extra of this package: pip install "veriff-async[images]".'
    raise ConfigurationError(msg)


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
        # Before anything is read: a decoder needs a byte for a pixel at least, and only JPEG can be decoded smaller.
        _check_pixels(size, 0 if mimetype == "image/jpeg" else size[0] * size[1])
    return _scale(_read_all(source), max_side, mimetype)


def _check_pixels(size: tuple[int, int], needed: int) -> None:
    if size[0] * size[1] > _MAX_PIXELS or needed > _MAX_MEMORY:
        msg = f"The picture has {size[0]} x {size[1]} pixels, too many to be scaled down here: pass a smaller one."
        raise MediaUnsupportedError(msg)


def _read_all(source: Source) -> io.BytesIO:
    content, piece = io.BytesIO(), memoryview(bytearray(PIECE))
    with closing(source.open()) as reader:
        while count := reader.fill(piece):
            content.write(piece[:count])
    content.seek(0)
    return content


def _scale(content: io.BytesIO, max_side: int, mimetype: str) -> bytes | None:
    """Return the smaller picture as a file, or ``None`` when the picture is small enough."""
    file_format = _FORMATS.get(mimetype, "JPEG")
    try:
        image = _open(content, _DECODERS.get(mimetype, "JPEG"))
        width, height = image.size
        if max(width, height) <= max_side:
            return None
        target = (
            max(1, round(width * max_side / max(width, height))),
            max(1, round(height * max_side / max(width, height))),
        )
        image = _decode(image, content, file_format, target)
        return _encode(_resize(image, file_format, target, (width, height)), file_format)
    except (MediaUnsupportedError, ConfigurationError):
        raise
    except Exception:  # noqa: BLE001  decoders raise anything for a file that was made to break them
        msg = "The picture cannot be decoded, so it cannot be scaled down: pass a complete one, or omit max_side."
    raise MediaUnsupportedError(msg)


def _open(content: io.BytesIO, decoder: str) -> ImageFile:
    """Read the header of a picture with the decoder of its type only, so that no other decoder sees untrusted bytes.

    `Image.open` with ``formats`` would do so too, but it refuses pictures by their number of pixels, also when only a
    fraction of them is decoded.
    """
    content.seek(0)
    return cast("ImageFile", _decoder(decoder)(content, ""))


def _decoder(name: str) -> Callable[[io.BytesIO, str], object]:
    module, kind = _DECODER_CLASSES[name]
    try:
        # Looked up by its name, because pillow_heif has no type annotations.
        decoder: Callable[[io.BytesIO, str], object] = vars(import_module(module))[kind]
    except ImportError:
        pass
    else:
        return decoder
    msg = 'max_side needs pillow-heif for HEIC and HEIF, an extra of this package: pip install "veriff-async[heic]".'
    raise ConfigurationError(msg)


def _decode(image: ImageFile, content: io.BytesIO, file_format: str, target: tuple[int, int]) -> ImageFile:
    """Decode a picture; a JPEG at a half, a quarter or an eighth of its size if `target` is still smaller."""
    full = image.size
    image.draft(None, target)
    pixels = image.size[0] * image.size[1]
    needed = pixels * _PIXEL_BYTES.get(image.mode, 4) * _COPIES.get(image.format or "", 1)
    if _is_converted(image, file_format):
        needed += 4 * pixels // _factor(image, target) ** 2
    _check_pixels(full, needed + _coefficients_size(image, full))
    try:
        image.load()
    except OSError:
        if image.format != "JPEG":
            raise
    else:
        return image
    return _decode_without_end(content, target)


def _coefficients_size(image: ImageFile, size: tuple[int, int]) -> int:
    """Return the memory for the coefficients of a progressive JPEG, which arrive in several scans and are all held."""
    if not image.info.get("progressive"):
        return 0
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    shares = [across * down for _, across, down, _ in layers] or [1]
    return 2 * size[0] * size[1] * sum(shares) // max(shares)


def _decode_without_end(content: io.BytesIO, target: tuple[int, int]) -> ImageFile:
    """Decode a JPEG without an end marker, which every viewer shows, but not one that lacks a part of the picture.

    A decoder does not report which of the two it is. So the file is decoded twice, with different bytes after it: a
    complete picture stays the same, and a missing part is decoded from these bytes.

    Raises:
        OSError: A part of the picture is missing.
    """
    images: list[ImageFile] = []
    whole = content.getvalue().rstrip(b"\xff")  # half an end marker
    for tail in (b"", b"\x5a\xa5" * 512):
        image = _open(io.BytesIO(whole + tail + _END_OF_JPEG), "JPEG")
        image.draft(None, target)
        image.load()
        images.append(image)
    if images[0].tobytes() != images[1].tobytes():
        msg = "a part of the picture is missing"
        raise OSError(msg)
    return images[0]


def _resize(image: ImageFile, file_format: str, target: tuple[int, int], full: tuple[int, int]) -> Image.Image:
    """Return a decoded picture in its final size, upright, and in a colour mode that the format supports."""
    from PIL import Image, ImageOps

    # A JPEG that was decoded at a fraction has a partial last column and row, which the box excludes.
    fraction = next(part for part in (1, 2, 4, 8) if (-(-full[0] // part), -(-full[1] // part)) == image.size)
    box = (0.0, 0.0, full[0] / fraction, full[1] / fraction)
    plain: Image.Image = image
    if _is_converted(image, file_format):
        factor = _factor(image, target)
        plain = _reduce(image, file_format, factor)
        box = (0.0, 0.0, box[2] / factor, box[3] / factor)
    gap = None if plain.mode == "I;16" else 3.0  # Pillow cannot reduce 16-bit pictures first
    resize = plain.resize  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  typed in part
    smaller = resize(target, Image.Resampling.LANCZOS, box=box, reducing_gap=gap)
    # The rotation is applied, because the EXIF tag that states it is removed with all others. Viewers show a picture
    # with damaged EXIF data as it is stored; Pillow raises anything for it.
    with suppress(Exception):
        return ImageOps.exif_transpose(smaller)
    return smaller


def _is_converted(image: Image.Image, file_format: str) -> bool:
    """Return whether Pillow copies a picture to resize it: for another colour mode, or for transparency."""
    return image.mode not in _MODES[file_format] or image.mode in _TRANSPARENT


def _factor(image: Image.Image, target: tuple[int, int]) -> int:
    """Return the integer by which a picture is reduced first, so that it stays 1.5 times as large as `target`."""
    return max(1, min(2 * size // (3 * target_size) for size, target_size in zip(image.size, target, strict=True)))


def _reduce(image: Image.Image, file_format: str, factor: int) -> Image.Image:
    """Return a picture in a mode whose pixels can be averaged, reduced by a factor.

    It is done strip by strip: the whole picture in this mode takes four bytes for each pixel, and more while it is
    converted.
    """
    from PIL import Image

    transparent = file_format != "JPEG" and (image.mode in _TRANSPARENT or "transparency" in image.info)
    mode = "RGBA" if transparent else "RGB"
    if image.mode in _MODES[file_format]:
        mode = image.mode
    width, height = image.size
    rows = max(1, _STRIP_BYTES // (4 * width * factor)) * factor
    plain = Image.new(mode, (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows))).convert(mode)
        plain.paste(strip.reduce(factor), (0, top // factor))
    plain.info = dict(image.info)
    if image.mode == "CMYK":
        # The profile describes CMYK, and the picture is RGB now.
        plain.info.pop("icc_profile", None)
    return plain


def _encode(image: Image.Image, file_format: str) -> bytes:
    """Encode a picture with its colour profile and without other metadata, such as place and time."""
    profile = image.info.get("icc_profile")
    image.info.clear()
    out = io.BytesIO()
    options = {} if file_format == "PNG" else {"quality": _QUALITY}
    image.save(out, file_format, icc_profile=profile, **options)
    return out.getvalue()
