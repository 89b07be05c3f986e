"""Decodes pictures from untrusted files within a memory bound. The only module that opens files with Pillow, an extra.

    bytes ──► decoder of the type that the first bytes show ──► size within the bound? ──► load, a JPEG at a fraction
          ──► colours, strip by strip ──► smaller ──► upright

`decode` is all that other modules need. It raises a `MediaUnsupportedError` for everything that a decoder may raise,
because decoders raise anything for files that were made to break them, and their messages may quote the file.
"""

from __future__ import annotations

import io
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast

from attrs import frozen

from veriff_async._media.source import PIECE
from veriff_async._protocol.decoding_work import count_scans, is_interleaved, largest_tiff_value
from veriff_async.errors import ConfigurationError, MediaError, MediaUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image
    from PIL.ImageFile import ImageFile

    from veriff_async._media.source import Source

__all__ = (
    "TRANSPARENT",
    "Colours",
    "DecodedPicture",
    "check_stated_size",
    "decode",
    "import_pillow",
    "is_turned",
    "open_picture",
    "plain",
    "read_all",
    "run_pillow",
)

_T = TypeVar("_T")

# A picture with more pixels takes too long to decode, even if it needs little memory.
_MAX_PIXELS: Final = 500_000_000
# Memory for decoding one picture: 89 million pixels of four bytes, where Pillow starts to warn of decompression bombs.
_MAX_MEMORY: Final = 384 * 1024 * 1024
_STRIP_BYTES: Final = 4 * 1024 * 1024
# Pillow reads headers in Python: some microseconds for each segment, chunk, block, and byte of garbage.
_MAX_READS: Final = 200_000
# Each scan of a JPEG passes over all pixels, even if it is empty: 67 megapixels in 75 scans, or 12 in 400.
_MAX_SCANNED: Final = 5_000_000_000
_MIN_SCANS: Final = 64
# A picture of 50 megapixels has 195,000 tiles of 16 pixels; Pillow needs some hundred bytes for each.
_MAX_TIFF_NUMBERS: Final = 262_144

# The only decoders that read untrusted bytes. Pillow has some forty more, among them Ghostscript for EPS.
_DECODERS: Final = {
    "image/jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "image/png": ("PIL.PngImagePlugin", "PngImageFile"),
    "image/webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "image/heic": ("pillow_heif", "HeifImageFile"),
    "image/heif": ("pillow_heif", "HeifImageFile"),
    "image/avif": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "image/tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "image/gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "image/bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
}
TRANSPARENT: Final = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
"""Modes of Pillow with an alpha channel. A palette, or one colour of another mode, may be transparent too."""

_GREY_16: Final = frozenset({"I;16", "I;16B", "I;16L"})
_GREY: Final = frozenset({"1", "L", "LA", "La", *_GREY_16})

# Bytes that Pillow uses for a pixel; four in all other modes, also in RGB.
_PIXEL_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
# Decoders that hold planes or a canvas of their own, in addition to the picture: how many copies that makes. TIFF is
# rotated when it is loaded.
_COPIES: Final = {"WEBP": 4, "HEIF": 3, "AVIF": 5, "TIFF": 2}
_DEEP_COPIES: Final = 5
# Numbers without a defined range, of measurements and not of photographs.
_NOT_PICTURES: Final = frozenset({"I", "F"})
_END_OF_JPEG: Final = b"\xff\xd9"
# EXIF 2.32, 4.6.4: width and height change places.
_ORIENTATION: Final = 0x0112
_QUARTER_TURNS: Final = frozenset({5, 6, 7, 8})
_TURNS: Final = frozenset({2, 3, 4}) | _QUARTER_TURNS
# TIFF 6.0, section 8 and 15: a decoder reads a strip or a tile at once, whose size the file states.
_SUBFILE_TYPE: Final = 254  # bit 0: a reduced copy of another picture in the file
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH, _SAMPLES_PER_PIXEL, _BITS_PER_SAMPLE = 278, 322, 323, 277, 258

Colours: TypeAlias = "Callable[[Image.Image], Image.Image]"
"""Returns a part of a picture in the colour mode of the result."""


@frozen(eq=False)
class DecodedPicture:
    """A decoded picture: upright, its first frame only.

    Attributes:
        image: The picture, scaled down if that was asked for. Its ``info`` still has the metadata of the file.
        full_size: Width and height of the whole picture in pixels, upright too.
    """

    image: Image.Image
    full_size: tuple[int, int]


def import_pillow(name: str) -> None:
    """Import Pillow. Blocking.

    Args:
        name: The feature that needs it, for the error.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    try:
        import_module("PIL.Image")
    except ImportError:
        pass
    else:
        return
    msg = f'{name} needs Pillow, an extra of this package: pip install "veriff-async[images]".'
    raise ConfigurationError(msg)


def check_stated_size(mimetype: str, size: tuple[int, int]) -> None:
    """Refuse a picture with too many pixels by its header, before anything else is read.

    A decoder needs a byte for a pixel at least, and only JPEG can be decoded at a fraction.

    Raises:
        MediaUnsupportedError: It has.
    """
    _check_pixels(size, 0 if mimetype == "image/jpeg" else size[0] * size[1])


def _check_pixels(size: tuple[int, int], needed: int) -> None:
    if size[0] * size[1] > _MAX_PIXELS or needed > _MAX_MEMORY:
        msg = f"The picture has {size[0]} x {size[1]} pixels, too many to be decoded here: pass a smaller one."
        raise MediaUnsupportedError(msg)


def read_all(source: Source) -> io.BytesIO:
    """Read a source into memory, because decoders seek. Blocking.

    Raises:
        MediaError: It cannot be read.
    """
    content, piece = io.BytesIO(), memoryview(bytearray(PIECE))
    with closing(source.open()) as reader:
        while count := reader.fill(piece):
            content.write(piece[:count])
    content.seek(0)
    return content


def decode(
    content: io.BytesIO,
    mimetype: str,
    *,
    max_side: int | None = None,
    colours: Callable[[ImageFile], Colours | None] | None = None,
) -> DecodedPicture:
    """Decode the first picture of a file: upright, and scaled down to a longer side. Blocking, for a worker thread.

    A JPEG is decoded at a half, a quarter or an eighth of its size if that is enough, or if the whole picture takes
    too much memory and `max_side` is left out.

    Args:
        content: The whole file.
        mimetype: Its type, as its first bytes show it.
        max_side: Most pixels of the longer side; the whole picture when it is left out.
        colours: Takes the loaded picture and returns how its parts are converted, or ``None`` if they can be scaled as
            they are. The default is `plain`: grey or RGB, transparent parts white.

    Raises:
        MediaUnsupportedError: It is damaged, or needs too much memory.
        ConfigurationError: It is HEIC or HEIF, and the extra for these is not installed.
    """

    def work() -> DecodedPicture:
        image = _load(content, mimetype, max_side)
        full = _full_size(content, mimetype, image)
        return DecodedPicture(*_finish(image, full, max_side, (plain if colours is None else colours)(image)))

    return run_pillow(work)


def run_pillow(work: Callable[[], _T]) -> _T:
    """Call a function that uses Pillow for untrusted bytes, and replace its exceptions, whose text may quote the file.

    Raises:
        MediaError: The function raised it, or it raised an exception of another kind than those here.
        ConfigurationError: The function raised it.
    """
    from PIL import Image

    try:
        return work()
    except (MediaError, ConfigurationError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        msg = "The picture has more pixels than this program allows Pillow: raise PIL.Image.MAX_IMAGE_PIXELS."
    except Exception:  # noqa: BLE001  decoders raise anything for a file that was made to break them
        msg = "The picture cannot be decoded, perhaps because it is damaged: pass a complete one."
    raise MediaUnsupportedError(msg)


def open_picture(content: io.BytesIO, mimetype: str) -> ImageFile:
    """Read the header of a picture with the decoder of its type only, so that no other decoder sees untrusted bytes.

    `Image.open` with ``formats`` would do so too, but it refuses pictures by their number of pixels, also when only a
    fraction of them is decoded. It raises anything for a damaged file; see `decode`.
    """
    whole = content.getvalue()  # shared, not copied
    if mimetype == "image/tiff" and largest_tiff_value(whole) > _MAX_TIFF_NUMBERS:
        msg = "The TIFF consists of too many strips or tiles: save it again with larger ones, or as JPEG."
        raise MediaUnsupportedError(msg)
    file = _BoundedFile(whole)
    # The rows of a BMP with run lengths are decoded in Python, with a read for each run; its header has no parts.
    file.is_bounded = mimetype != "image/bmp"
    return cast("ImageFile", _decoder(mimetype)(file, ""))


class _BoundedFile(io.BytesIO):
    """A file from which a decoder may read a limited number of times.

    Attributes:
        is_bounded: Whether the number is limited.
        reads: How often it was read.
        has_ended: Whether it was read when nothing was left.
    """

    is_bounded: bool = True
    reads: int = 0
    has_ended: bool = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like any file.

        Raises:
            MediaUnsupportedError: It was read too often.
        """
        self.reads += 1
        if self.reads > _MAX_READS and self.is_bounded:
            msg = "The picture consists of too many parts: save it again without its metadata."
            raise MediaUnsupportedError(msg)
        piece = super().read(size)
        self.has_ended = self.has_ended or not piece
        return piece


def _decoder(mimetype: str) -> Callable[[io.BytesIO, str], object]:
    module, kind = _DECODERS[mimetype]
    try:
        # Looked up by its name, because pillow_heif has no type annotations.
        decoder: Callable[[io.BytesIO, str], object] = vars(import_module(module))[kind]
    except ImportError:
        pass
    else:
        return decoder
    msg = 'HEIC and HEIF need pillow-heif, an extra of this package: pip install "veriff-async[heic]".'
    raise ConfigurationError(msg)


def plain(image: ImageFile, to_srgb: Colours | None = None) -> Colours | None:
    """Return how parts of a picture become grey or RGB, with transparent parts white; ``None`` if they are already.

    Args:
        image: The loaded picture.
        to_srgb: Applies its colour profile: takes a part in grey, RGB or CMYK, like the picture.
    """
    transparent = image.mode in TRANSPARENT or ("transparency" in image.info and image.mode not in _GREY_16)
    if to_srgb is None and not transparent and image.mode in {"L", "RGB"}:
        return None
    result_mode = "L" if image.mode in _GREY else "RGB"
    own_mode = "CMYK" if image.mode == "CMYK" and to_srgb is not None else result_mode

    def convert(part: Image.Image) -> Image.Image:
        from PIL import Image

        full = part
        if transparent:
            full = part.convert("RGBA")
        elif part.mode in _GREY_16:
            # Pillow would cut 16 bits off at 255.
            full = part.convert("I").point(lambda value: value * (1 / 256))
        flat = full.convert(own_mode)
        if to_srgb is not None:
            flat = to_srgb(flat)
        flat = flat.convert(result_mode)
        if not transparent:
            return flat
        white = Image.new(result_mode, part.size, "white")
        white.paste(flat, mask=full.getchannel("A"))
        return white

    return convert


def _load(content: io.BytesIO, mimetype: str, max_side: int | None) -> ImageFile:
    image = open_picture(content, mimetype)
    if image.mode in _NOT_PICTURES:
        msg = "The picture has no colours but numbers without a range: convert it to grey or RGB, and pass that."
        raise MediaUnsupportedError(msg)
    if cast("int", getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0)) & 1:
        msg = "The first picture of the TIFF is a preview, as in raw files of cameras: export a JPEG, and pass that."
        raise MediaUnsupportedError(msg)
    full = image.size
    _check_scans(content, image)
    target = _target_size(full, max_side)
    for fraction in (1, 2, 4, 8):
        wanted = target if max_side is not None else (max(1, full[0] // fraction), max(1, full[1] // fraction))
        if fraction > 1:
            image = open_picture(content, mimetype)  # Pillow takes a fraction once
        image.draft(None, wanted)
        needed = _needed_memory(image, full, target if max_side is not None else None)
        if needed <= _MAX_MEMORY or image.format != "JPEG" or max_side is not None:
            break
    _check_pixels(full, needed)
    drafted = image.size
    try:
        _load_whole(image)
    except OSError:
        if image.format != "JPEG":
            raise
    else:
        return image
    return _load_without_end(content, drafted, full)


def _load_whole(image: ImageFile) -> None:
    """Load a picture, and refuse one that is cut off even if the program allows Pillow to load such pictures.

    Raises:
        OSError: It is cut off.
    """
    from PIL import ImageFile as image_file  # noqa: N813  the module; the class has the same name

    file = cast("_BoundedFile", image.fp)
    image.load()
    if image_file.LOAD_TRUNCATED_IMAGES and file.has_ended:
        msg = "a part of the picture is missing"
        raise OSError(msg)


def _check_scans(content: io.BytesIO, image: ImageFile) -> None:
    if image.format != "JPEG" or not _is_buffered(image):
        return
    scans = count_scans(content.getvalue(), cast("io.BytesIO", image.fp).tell())
    if scans > max(_MIN_SCANS, _MAX_SCANNED // (image.size[0] * image.size[1])):
        msg = "The JPEG consists of too many scans: save it again, and pass that."
        raise MediaUnsupportedError(msg)


def _is_buffered(image: ImageFile) -> bool:
    """Return whether a JPEG whose header was just read arrives in several scans, whose coefficients are all held."""
    if image.info.get("progressive"):
        return True
    file = cast("io.BytesIO", image.fp)
    return not is_interleaved(file.getvalue(), file.tell(), len(getattr(image, "layer", [])))


def _needed_memory(image: ImageFile, full: tuple[int, int], target: tuple[int, int] | None) -> int:
    """Return the bytes that are needed at most to decode a picture, and to make a smaller one of it."""
    pixels = image.size[0] * image.size[1]
    loaded = pixels * _PIXEL_BYTES.get(image.mode, 4)
    copies = _COPIES.get(image.format or "", 1)
    if image.info.get("bit_depth", 8) > 8:  # noqa: PLR2004  HEIF with 10 or 12 bits is decoded with 16
        copies = _DEEP_COPIES
    decoding = loaded * copies + _coefficients_size(image, full) + _tile_size(image)
    # One copy in other colours or upright exists at a time, in addition to what it is made from.
    if target is not None:
        return max(decoding, loaded + 4 * pixels // _factor(image.size, target) ** 2)
    return max(decoding, 2 * loaded if image.mode in {"L", "RGB"} else 8 * pixels)


def _coefficients_size(image: ImageFile, full: tuple[int, int]) -> int:
    """Return the memory for the coefficients of a JPEG that arrives in several scans, as progressive ones do."""
    if image.format != "JPEG" or not _is_buffered(image):
        return 0
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    shares = [across * down for _, across, down, _ in layers] or [1]
    return 2 * full[0] * full[1] * sum(shares) // max(shares)


def _tile_size(image: ImageFile) -> int:
    """Return the memory for one strip or tile of a TIFF, which may be stated larger than the picture."""
    tags: dict[int, object] = getattr(image, "tag_v2", {})
    if not tags:
        return 0

    def number(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        return max(cast("tuple[int, ...]", value)) if isinstance(value, tuple) else cast("int", value)

    bits = number(_SAMPLES_PER_PIXEL, 1) * number(_BITS_PER_SAMPLE, 1)
    width, height = image.size
    rows = min(number(_ROWS_PER_STRIP, height), height)
    return max(width * rows, number(_TILE_WIDTH, 0) * number(_TILE_LENGTH, 0)) * bits // 8


def _load_without_end(content: io.BytesIO, drafted: tuple[int, int], full: tuple[int, int]) -> ImageFile:
    """Decode a JPEG without an end marker, which every viewer shows, but not one that lacks a part of the picture.

    A decoder does not report which of the two it is. So the file is decoded twice, with different bytes after it: a
    complete picture stays the same, and a missing part is decoded from these bytes.

    Raises:
        OSError: A part of the picture is missing.
    """
    images: list[ImageFile] = []
    whole = content.getvalue().rstrip(b"\xff")  # half an end marker
    fraction = _fraction(drafted, full)
    for tail in (b"", b"\x5a\xa5" * 512):
        image = open_picture(io.BytesIO(whole + tail + _END_OF_JPEG), "image/jpeg")
        image.draft(None, (max(1, full[0] // fraction), max(1, full[1] // fraction)))
        image.load()
        images.append(image)
    if images[0].tobytes() != images[1].tobytes():
        msg = "a part of the picture is missing"
        raise OSError(msg)
    return images[0]


def _full_size(content: io.BytesIO, mimetype: str, image: ImageFile) -> tuple[int, int]:
    return open_picture(content, mimetype).size if mimetype == "image/jpeg" else image.size


def _fraction(size: tuple[int, int], full: tuple[int, int]) -> int:
    """Return the fraction at which a JPEG was decoded: 1, 2, 4 or 8."""
    return next(part for part in (1, 2, 4, 8) if (-(-full[0] // part), -(-full[1] // part)) == size)


def _target_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    longer = max(size)
    if max_side is None or longer <= max_side:
        return size
    return max(1, round(size[0] * max_side / longer)), max(1, round(size[1] * max_side / longer))


def _finish(
    image: ImageFile, full: tuple[int, int], max_side: int | None, colours: Colours | None
) -> tuple[Image.Image, tuple[int, int]]:
    """Return a loaded picture in its final colours and size, and upright; and the full size, upright."""
    from PIL import Image, ImageOps

    # A JPEG that was decoded at a fraction has a partial last column and row, which the box excludes.
    fraction = _fraction(image.size, full)
    box = (0.0, 0.0, full[0] / fraction, full[1] / fraction)
    target = image.size if max_side is None else _target_size(full, max_side)
    result: Image.Image = image
    if colours is not None:
        factor = _factor(image.size, target)
        result = _reduce(image, colours, factor)
        box = (0.0, 0.0, box[2] / factor, box[3] / factor)
    if target != result.size:
        gap = None if result.mode == "I;16" else 3.0  # Pillow cannot reduce 16-bit pictures first
        resize = result.resize  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  typed in part
        result = resize(target, Image.Resampling.LANCZOS, box=box, reducing_gap=gap)
    if result is not image:
        image.close()  # frees its memory, since the next step may need a copy
    if (orientation := _orientation(result)) in _QUARTER_TURNS:
        full = full[1], full[0]
    if orientation in _TURNS:
        ImageOps.exif_transpose(result, in_place=True)
    return result, full


def is_turned(image: Image.Image) -> bool:
    """Return whether a picture must be turned or mirrored to be upright."""
    return _orientation(image) in _TURNS


def _orientation(image: Image.Image) -> int:
    # Viewers show a picture with damaged EXIF data as it is stored; Pillow raises anything for it.
    with suppress(Exception):
        return cast("int", image.getexif().get(_ORIENTATION, 1))
    return 1


def _factor(size: tuple[int, int], target: tuple[int, int]) -> int:
    """Return the integer by which a picture is reduced first, so that it stays 1.5 times as large as `target`."""
    return max(1, min(2 * length // (3 * target_length) for length, target_length in zip(size, target, strict=True)))


def _reduce(image: Image.Image, colours: Colours, factor: int) -> Image.Image:
    """Return a picture in other colours, reduced by a factor.

    It is done strip by strip: the whole picture in the other mode takes four bytes for each pixel, and more while it
    is converted.
    """
    from PIL import Image

    width, height = image.size
    rows = max(1, _STRIP_BYTES // (4 * width * factor)) * factor
    result: Image.Image | None = None
    for top in range(0, height, rows):
        strip = colours(image.crop((0, top, width, min(height, top + rows))))
        if result is None:
            result = Image.new(strip.mode, (-(-width // factor), -(-height // factor)))
        result.paste(strip.reduce(factor), (0, top // factor))
    assert result is not None  # noqa: S101  no picture is without rows
    result.info = dict(image.info)
    return result
