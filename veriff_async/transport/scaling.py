"""Pictures made smaller before they are sent; the only room that knows Pillow, which is an extra."""

from __future__ import annotations

import io
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async.errors import ConfigurationError, MediaUnsupportedError
from veriff_async.protocol.sniff import PDF
from veriff_async.transport.bodies import draft
from veriff_async.transport.sources import PIECE, BytesSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from veriff_async.transport.bodies import Draft
    from veriff_async.transport.sources import Source

__all__ = ("fitted", "require")

_QUALITY: Final = 90
_MOST_PIXELS: Final = 89_000_000
"""Where Pillow begins to warn of pictures that are made to fill the memory."""

# HEIF becomes JPEG: every reader takes that, and Veriff gives pictures back as JPEG or PNG.
_FORMATS: Final = {"image/png": "PNG", "image/webp": "WEBP"}
_MODES: Final = {
    "JPEG": frozenset({"L", "RGB"}),
    "PNG": frozenset({"L", "LA", "RGB", "RGBA", "I;16"}),
    "WEBP": frozenset({"RGB", "RGBA"}),
}
_TRANSPARENT: Final = frozenset({"LA", "PA", "RGBA"})


def require() -> None:
    """Import Pillow. Blocking.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    try:
        import_module("PIL.Image")
        # By its name alone: the package states no types.
        register: Callable[[], None] = vars(import_module("pillow_heif"))["register_heif_opener"]
    except ImportError:
        pass
    else:
        register()
        return
    msg = 'fit needs Pillow, an extra of this package: pip install "veriff-async[images]".'
    raise ConfigurationError(msg)


def fitted(looked_at: Draft) -> Draft:
    """Scale a picture down to what its media asks for, if it is larger. Blocking, for a worker thread.

    Raises:
        MediaUnsupportedError: It cannot be decoded, or has too many pixels for that.
        MediaError: It cannot be read.
    """
    media, size = looked_at.media, looked_at.dimensions
    if media.fit is None or looked_at.mimetype == PDF or (size is not None and max(size) <= media.fit):
        return looked_at
    if size is not None:
        _check_pixels(size)
    content = _scaled(_whole(looked_at.source), media.fit, looked_at.mimetype)
    if content is None:
        return looked_at
    return draft(evolve(media, fit=None, mimetype=None), BytesSource(memoryview(content), constant=True), of=media)


def _check_pixels(size: tuple[int, int]) -> None:
    if size[0] * size[1] > _MOST_PIXELS:
        msg = f"The picture has {size[0]} x {size[1]} pixels, too many to be scaled down here: give a smaller one."
        raise MediaUnsupportedError(msg)


def _whole(source: Source) -> io.BytesIO:
    content, piece = io.BytesIO(), memoryview(bytearray(PIECE))
    with closing(source.open()) as reader:
        while count := reader.fill(piece):
            content.write(piece[:count])
    content.seek(0)
    return content


def _scaled(content: io.BytesIO, fit: int, mimetype: str) -> bytes | None:
    """Return the picture made smaller, or ``None`` when it is small enough."""
    from PIL import Image, ImageOps

    form = _FORMATS.get(mimetype, "JPEG")
    # A header can say one thing to us and another to Pillow, whose own guard is told as what it is.
    broken = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(content) as image:
            _check_pixels(image.size)
            if max(image.size) <= fit:
                return None
            smaller = image if image.mode in _MODES[form] else _plain(image, form)
            smaller.thumbnail((fit, fit), Image.Resampling.LANCZOS, reducing_gap=3.0)
            # What the camera noted as rotation is done, since the note goes with all others.
            return _written(ImageOps.exif_transpose(smaller), form)
    except broken:
        pass
    msg = "The picture cannot be decoded, so it cannot be scaled down: give a whole one, or leave fit out."
    raise MediaUnsupportedError(msg)


def _plain(image: Image.Image, form: str) -> Image.Image:
    """Return a picture in colours that can be mixed, and that the form can hold."""
    transparent = form != "JPEG" and (image.mode in _TRANSPARENT or "transparency" in image.info)
    plain = image.convert("RGBA" if transparent else "RGB")
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
