"""Scales pictures down before they are sent. The only module that imports Pillow, which is an extra."""

from __future__ import annotations

import io
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from veriff_async._media.source import PIECE
from veriff_async._protocol.file_type import PDF
from veriff_async.errors import ConfigurationError, MediaUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image
    from PIL.ImageFile import ImageFile

    from veriff_async._media.source import Source

__all__ = ("import_pillow", "resize")

_QUALITY: Final = 90
_MOST_PIXELS: Final = 500_000_000
"""A picture with more pixels takes too long to decode, however little memory it needs."""
_MOST_BYTES: Final = 384 * 1024 * 1024
"""What decoding one picture may take: 89 million pixels of four bytes, where Pillow begins to warn of bombs."""
_STRIP_BYTES: Final = 4 * 1024 * 1024

# HEIF becomes JPEG: every reader takes that, and Veriff gives pictures back as JPEG or PNG.
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
"""How Pillow keeps a pixel; in four bytes otherwise, RGB too."""
_COPIES: Final = {"WEBP": 3, "HEIF": 3}
"""Decoders that keep planes or a canvas of their own beside the picture."""
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
        _check(size, 0 if mimetype == "image/jpeg" else size[0] * size[1])
    return _scaled(_whole(source), max_side, mimetype)


def _check(size: tuple[int, int], needed: int) -> None:
    if size[0] * size[1] > _MOST_PIXELS or needed > _MOST_BYTES:
        msg = f"The picture has {size[0]} x {size[1]} pixels, too many to be scaled down here: give a smaller one."
        raise MediaUnsupportedError(msg)


def _whole(source: Source) -> io.BytesIO:
    content, piece = io.BytesIO(), memoryview(bytearray(PIECE))
    with closing(source.open()) as reader:
        while count := reader.fill(piece):
            content.write(piece[:count])
    content.seek(0)
    return content


def _scaled(content: io.BytesIO, max_side: int, mimetype: str) -> bytes | None:
    """Return the picture made smaller, or ``None`` when it is small enough."""
    form = _FORMATS.get(mimetype, "JPEG")
    try:
        image = _open(content, _DECODERS.get(mimetype, "JPEG"))
        width, height = image.size
        if max(width, height) <= max_side:
            return None
        target = (
            max(1, round(width * max_side / max(width, height))),
            max(1, round(height * max_side / max(width, height))),
        )
        image = _decoded(image, content, form, target)
        return _written(_resized(image, form, target, (width, height)), form)
    except (MediaUnsupportedError, ConfigurationError):
        raise
    except Exception:  # noqa: BLE001  decoders raise anything for what somebody made to break them
        msg = "The picture cannot be decoded, so it cannot be scaled down: give a whole one, or leave max_side out."
    raise MediaUnsupportedError(msg)


def _open(content: io.BytesIO, decoder: str) -> ImageFile:
    """Read the header of a picture by the decoder of its type alone; the others see no untrusted bytes.

    `Image.open` would do so too, with ``formats``, but it refuses by the count of pixels, whatever is decoded of them.
    """
    content.seek(0)
    return cast("ImageFile", _decoder(decoder)(content, ""))


def _decoder(name: str) -> Callable[[io.BytesIO, str], object]:
    module, kind = _DECODER_CLASSES[name]
    try:
        # By its name alone: pillow_heif states no types.
        decoder: Callable[[io.BytesIO, str], object] = vars(import_module(module))[kind]
    except ImportError:
        pass
    else:
        return decoder
    msg = 'max_side needs pillow-heif for HEIC and HEIF, an extra of this package: pip install "veriff-async[heic]".'
    raise ConfigurationError(msg)


def _decoded(image: ImageFile, content: io.BytesIO, form: str, target: tuple[int, int]) -> ImageFile:
    """Decode a picture; a JPEG at a half, a quarter or an eighth of its size, where `target` is smaller."""
    full = image.size
    image.draft(None, target)
    pixels = image.size[0] * image.size[1]
    needed = pixels * _PIXEL_BYTES.get(image.mode, 4) * _COPIES.get(image.format or "", 1)
    if _is_converted(image, form):
        needed += 4 * pixels // _factor(image, target) ** 2
    _check(full, needed + _coefficients(image, full))
    try:
        image.load()
    except OSError:
        if image.format != "JPEG":
            raise
    else:
        return image
    return _without_end(content, target)


def _coefficients(image: ImageFile, size: tuple[int, int]) -> int:
    """Return the bytes that a progressive JPEG needs besides: its coefficients come in turns, and are kept whole."""
    if not image.info.get("progressive"):
        return 0
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    shares = [across * down for _, across, down, _ in layers] or [1]
    return 2 * size[0] * size[1] * sum(shares) // max(shares)


def _without_end(content: io.BytesIO, target: tuple[int, int]) -> ImageFile:
    """Decode a JPEG that lacks its end marker, which every viewer shows, but not one that lacks a part of the picture.

    A decoder does not say which it is. But what follows a whole picture changes nothing, and a missing part is decoded
    from what follows.

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


def _resized(image: ImageFile, form: str, target: tuple[int, int], full: tuple[int, int]) -> Image.Image:
    """Return a decoded picture in its final size, upright, and in colours that the form can hold."""
    from PIL import Image, ImageOps

    # What was decoded at a fraction has its last column and row only in part.
    fraction = next(part for part in (1, 2, 4, 8) if (-(-full[0] // part), -(-full[1] // part)) == image.size)
    box = (0.0, 0.0, full[0] / fraction, full[1] / fraction)
    plain: Image.Image = image
    if _is_converted(image, form):
        factor = _factor(image, target)
        plain = _plain(image, form, factor)
        box = (0.0, 0.0, box[2] / factor, box[3] / factor)
    gap = None if plain.mode == "I;16" else 3.0  # which Pillow cannot reduce first
    resize = plain.resize  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  typed in part
    smaller = resize(target, Image.Resampling.LANCZOS, box=box, reducing_gap=gap)
    # What the camera noted as rotation is done, since the note goes with all others. Viewers show a picture whose notes
    # are damaged as it is stored; Pillow raises anything for them.
    with suppress(Exception):
        return ImageOps.exif_transpose(smaller)
    return smaller


def _is_converted(image: Image.Image, form: str) -> bool:
    """Return whether a picture has other colours than the form, or transparency, for which Pillow copies it whole."""
    return image.mode not in _MODES[form] or image.mode in _TRANSPARENT


def _factor(image: Image.Image, target: tuple[int, int]) -> int:
    """Return by which whole number a picture is reduced first, so that it stays half as large again as `target`."""
    return max(1, min(2 * size // (3 * wanted) for size, wanted in zip(image.size, target, strict=True)))


def _plain(image: Image.Image, form: str, factor: int) -> Image.Image:
    """Return a picture in colours that can be mixed, and reduced by a factor.

    It is done strip by strip: the whole picture in such colours takes four bytes for each pixel, and more than that
    while it is made.
    """
    from PIL import Image

    transparent = form != "JPEG" and (image.mode in _TRANSPARENT or "transparency" in image.info)
    mode = "RGBA" if transparent else "RGB"
    if image.mode in _MODES[form]:
        mode = image.mode
    width, height = image.size
    rows = max(1, _STRIP_BYTES // (4 * width * factor)) * factor
    plain = Image.new(mode, (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows))).convert(mode)
        plain.paste(strip.reduce(factor), (0, top // factor))
    plain.info = dict(image.info)
    if image.mode == "CMYK":
        # The profile is of other colours.
        plain.info.pop("icc_profile", None)
    return plain


def _written(image: Image.Image, form: str) -> bytes:
    """Write a picture with its colours' profile and nothing else that was noted about it, place and time included."""
    profile = image.info.get("icc_profile")
    image.info.clear()
    out = io.BytesIO()
    options = {} if form == "PNG" else {"quality": _QUALITY}
    image.save(out, form, icc_profile=profile, **options)
    return out.getvalue()
