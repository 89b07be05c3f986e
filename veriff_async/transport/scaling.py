"""Pictures made smaller before they are sent; the only room that knows Pillow, which is an extra."""

from __future__ import annotations

import io
from importlib import import_module
from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async.errors import ConfigurationError, MediaUnsupportedError
from veriff_async.transport.bodies import draft
from veriff_async.transport.sources import BytesSource, held

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from veriff_async.transport.bodies import Draft

__all__ = ("fitted", "require")

_QUALITY: Final = 90
_MOST_PIXELS: Final = 89_000_000
"""Where Pillow begins to warn of pictures that are made to fill the memory."""

_HEIF: Final = frozenset({"image/heic", "image/heif"})
# HEIF becomes JPEG: every reader takes that, and Veriff gives pictures back as JPEG or PNG.
_FORMATS: Final = {"image/png": "PNG", "image/webp": "WEBP"}
_MODES: Final = {"JPEG": frozenset({"L", "RGB"}), "WEBP": frozenset({"RGB", "RGBA"})}


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
    if media.fit is None or size is None or max(size) <= media.fit:
        return looked_at
    if size[0] * size[1] > _MOST_PIXELS:
        msg = (
            f"The picture has {size[0]} x {size[1]} pixels: it is too large to be scaled down here, give a smaller one."
        )
        raise MediaUnsupportedError(msg)
    try:
        content = _scaled(bytes(held(looked_at.source).view), media.fit, looked_at.mimetype)
    except (OSError, ValueError, SyntaxError, EOFError):
        content = b""
    if not content:
        msg = "The picture cannot be decoded, so it cannot be scaled down: give a whole one, or leave fit out."
        raise MediaUnsupportedError(msg)
    return draft(evolve(media, fit=None, mimetype=None), BytesSource(memoryview(content), constant=True), of=media)


def _scaled(content: bytes, fit: int, mimetype: str) -> bytes:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        image.thumbnail((fit, fit), Image.Resampling.LANCZOS, reducing_gap=3.0)
        # What the camera noted as rotation is done, since the note goes with all others.
        upright = ImageOps.exif_transpose(image)
        return _written(upright, _FORMATS.get(mimetype, "JPEG"))


def _written(image: Image.Image, form: str) -> bytes:
    """Write a picture with its colours' profile and nothing else that was noted about it, place and time included."""
    profile = image.info.get("icc_profile")
    modes = _MODES.get(form)
    if image.mode == "P" or (modes is not None and image.mode not in modes):
        transparent = form != "JPEG" and (image.mode in {"LA", "RGBA", "PA"} or "transparency" in image.info)
        image = image.convert("RGBA" if transparent else "RGB")
        profile = None
    image.info.clear()
    out = io.BytesIO()
    options = {} if form == "PNG" else {"quality": _QUALITY}
    image.save(out, form, icc_profile=profile, **options)
    return out.getvalue()
