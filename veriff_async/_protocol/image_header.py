"""Media type and pixel size, read from the first bytes of a file. Nothing is decoded.

The accepted types are those of https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3: jpg, jpeg, png, heif, heic, webp
and pdf. The file formats are JPEG (ITU T.81, B.2.2), PNG (11.2.2), WebP (RFC 9649) and HEIF (ISO 23008-12, 6.5.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = (
    "HEAD_SIZE",
    "MIMETYPES",
    "PDF",
    "ImageSizeWarning",
    "ReadAt",
    "detect_convertible_type",
    "detect_type",
    "read_dimensions",
)

PDF: Final = "application/pdf"
MIMETYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/heic", "image/heif", PDF)

_PDF_MARK: Final = b"%PDF-"

# Some writers put other bytes before the header of a PDF, and readers accept it anywhere in the first 1,024 bytes
# (Adobe's PDF Reference 1.7, appendix H.3, note 13).
_PDF_WITHIN: Final = 1024

HEAD_SIZE: Final = _PDF_WITHIN + len(_PDF_MARK) - 1
"""Number of bytes from the beginning of a file that `detect_type` needs."""

# ISO base media brands (https://www.iana.org/assignments/media-types/image/heic and /image/heif): the HEVC brands mean
# HEIC, the structural brands alone mean HEIF. AVIF shares the structural brands, and Veriff does not accept it.
_HEIC: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF: Final = frozenset({b"mif1", b"msf1", b"mif2"})
_AVIF: Final = frozenset({b"avif", b"avis"})

# https://learn.microsoft.com/en-us/windows/win32/gdi/bitmap-header-types, and those of OS/2.
_BMP_HEADER_SIZES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

ReadAt: TypeAlias = Callable[[int, int], bytes]
"""Reads a number of bytes at an offset, fewer at the end of the file. Offsets only increase, so a stream will do."""

# Limits for hostile files: without them, a header could make the reader look at every byte of a large file.
_MAX_SEGMENTS: Final = 4096
_MAX_JUNK: Final = 1024 * 1024
_MAX_META: Final = 1024 * 1024
_JUNK_BLOCK: Final = 4096

# Largest block of HEVC, in pixels. Encoders pad pictures to a multiple of it.
_CODING_BLOCK: Final = 64

# JPEG markers. Start-of-frame markers contain the size; 0xC4, 0xC8 and 0xCC, between them, are tables and extensions.
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_END_OF_HEADER: Final = frozenset({0xD9, 0xDA})  # end of image, start of scan


class ImageSizeWarning(UserWarning):
    """The longer side of a picture exceeds the 1920 pixels that Veriff advises "to avoid issues".

    Veriff scales the picture down, or ``Media(..., max_side=1920)`` does so before the upload. Python shows a warning
    once for each line of a program, unless its filters are set otherwise.
    """


def detect_type(head: bytes) -> str | None:
    """Return the MIME type of a file, or ``None`` when Veriff does not accept such files.

    Args:
        head: At least the first `HEAD_SIZE` bytes, or the whole file when it is shorter.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _detect_iso_media(head)
    return PDF if _PDF_MARK in head[:HEAD_SIZE] else None


def detect_convertible_type(head: bytes) -> str | None:
    """Return the MIME type of a picture that Veriff does not accept, but that can be converted to JPEG, or ``None``."""
    if head[4:8] == b"ftyp":
        return "image/avif" if _brands(head) & _AVIF else None
    if head.startswith((b"II*\0", b"MM\0*")):
        return "image/tiff"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    # "BM" alone could begin a text, so the size of the second header must be one of the eight that exist.
    if head.startswith(b"BM") and _little_endian(head[14:18]) in _BMP_HEADER_SIZES:
        return "image/bmp"
    return None


def _brands(head: bytes) -> set[bytes]:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[offset : offset + 4] for offset in range(16, end - 3, 4))}


def _detect_iso_media(head: bytes) -> str | None:
    brands = _brands(head)
    if brands & _AVIF:
        return None
    if brands & _HEIC:
        return "image/heic"
    return "image/heif" if brands & _HEIF else None


def read_dimensions(mimetype: str, read_at: ReadAt) -> tuple[int, int] | None:
    """Return width and height of a picture.

    Returns:
        Width and height in pixels as stored, before any rotation that the file asks for. ``None`` when the header does
        not contain them, and for a PDF.
    """
    size = None
    if mimetype == "image/jpeg":
        size = _read_jpeg(read_at)
    elif mimetype == "image/png":
        size = _read_png(read_at)
    elif mimetype == "image/webp":
        size = _read_webp(read_at)
    elif mimetype in {"image/heic", "image/heif", "image/avif"}:
        size = _read_heif(read_at)
    return size if size is not None and all(size) else None


def _read_jpeg(read_at: ReadAt) -> tuple[int, int] | None:
    offset = 2
    for _ in range(_MAX_SEGMENTS):
        head = read_at(offset, 4)
        if len(head) < 4:  # noqa: PLR2004
            return None
        if head[0] != 0xFF or head[1] == 0x00:  # noqa: PLR2004
            # Some writers leave junk between segments, which decoders skip.
            marker = _find_marker(read_at, offset)
            if marker is None:
                return None
            offset = marker
        elif head[1] in _END_OF_HEADER:
            return None
        elif head[1] == 0xFF:  # noqa: PLR2004  fill bytes may precede a marker
            offset += 1
        elif head[1] in _WITHOUT_LENGTH:
            offset += 2
        elif head[1] in _START_OF_FRAME:
            frame = read_at(offset + 5, 4)
            return (_big_endian(frame[2:]), _big_endian(frame[:2])) if len(frame) == 4 else None  # noqa: PLR2004
        else:
            offset += 2 + max(2, _big_endian(head[2:]))
    return None


def _find_marker(read_at: ReadAt, offset: int) -> int | None:
    """Return the offset of the next marker: 0xFF that neither zero nor the end of the file follows."""
    end = offset + _MAX_JUNK
    while offset < end:
        block = read_at(offset, _JUNK_BLOCK)
        index = block.find(b"\xff")
        while 0 <= index < len(block) - 1 and block[index + 1] == 0:
            index = block.find(b"\xff", index + 2)
        if 0 <= index < len(block) - 1:
            return offset + index
        if len(block) < _JUNK_BLOCK:
            return None
        # A 0xFF at the end of the block is read again, together with the byte that follows it.
        offset += len(block) - 1 if block[-1] == 0xFF else len(block)  # noqa: PLR2004
    return None


def _read_png(read_at: ReadAt) -> tuple[int, int] | None:
    header = read_at(12, 12)
    if len(header) < 12 or header[:4] != b"IHDR":  # noqa: PLR2004
        return None
    return _big_endian(header[4:8]), _big_endian(header[8:])


def _read_webp(read_at: ReadAt) -> tuple[int, int] | None:
    chunk = read_at(12, 18)
    if len(chunk) < 18:  # noqa: PLR2004
        return None
    kind, content = chunk[:4], chunk[8:]
    if kind == b"VP8X":
        return _little_endian(content[4:7]) + 1, _little_endian(content[7:10]) + 1
    if kind == b"VP8L" and content[0] == 0x2F:  # noqa: PLR2004
        bits = _little_endian(content[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
        return _little_endian(content[6:8]) & 0x3FFF, _little_endian(content[8:10]) & 0x3FFF
    return None


def _read_heif(read_at: ReadAt) -> tuple[int, int] | None:
    offset = 0
    for _ in range(_MAX_SEGMENTS):
        size, kind, start = _parse_box_header(read_at(offset, 16))
        if size == 0:
            return None
        if kind == b"meta":
            # Four bytes, version and flags, precede the boxes that the meta box contains.
            return _find_largest(read_at(offset + start + 4, min(size - start - 4, _MAX_META)))
        offset += size
    return None


def _find_largest(meta: bytes) -> tuple[int, int] | None:
    """Return the largest size in a meta box: that of the whole picture, not of its tiles and thumbnails.

    Encoders pad a picture to whole coding blocks, and state the size without padding in a clean aperture box.
    """
    containers = [box for properties in _find_boxes(meta, b"iprp") for box in _find_boxes(properties, b"ipco")]
    coded_sizes = [_pair(box[4:8], box[8:12]) for container in containers for box in _find_boxes(container, b"ispe")]
    apertures = [_pair(box[:4], box[8:12]) for container in containers for box in _find_boxes(container, b"clap")]
    largest = max(coded_sizes, key=lambda size: size[0] * size[1], default=None)
    if largest is None:
        return None
    # An aperture belongs to the picture if it cuts off less than one block. A smaller one belongs to a thumbnail.
    without_padding = (
        aperture
        for aperture in apertures
        if all(0 <= coded - shown < _CODING_BLOCK for coded, shown in zip(largest, aperture, strict=True))
    )
    return next(without_padding, largest)


def _pair(width: bytes, height: bytes) -> tuple[int, int]:
    return _big_endian(width), _big_endian(height)


def _find_boxes(content: bytes, wanted: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(content):
        size, kind, start = _parse_box_header(content[offset : offset + 16])
        if size == 0:
            return
        if kind == wanted:
            yield content[offset + start : offset + size]
        offset += size


def _parse_box_header(head: bytes) -> tuple[int, bytes, int]:
    """Return size, kind and header length of an ISO media box. The size is 0 if the header is invalid."""
    size, kind, start = _big_endian(head[:4]), head[4:8], 8
    if size == 1:  # the size does not fit into 32 bits, and follows the kind
        size, start = _big_endian(head[8:16]), 16
    return (size if len(head) >= start and size >= start else 0), kind, start


def _big_endian(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little_endian(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
