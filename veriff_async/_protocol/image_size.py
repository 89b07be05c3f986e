"""Width and height of a picture, from its header alone: nothing is decoded, and few bytes are read.

The forms are those of JPEG (ITU T.81, B.2.2), PNG (11.2.2), WebP (RFC 9649) and HEIF (ISO 23008-12, 6.5.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("ImageSizeWarning", "ReadAt", "dimensions")

ReadAt: TypeAlias = Callable[[int, int], bytes]
"""Gives the bytes at a place, fewer at the end; places are asked for in rising order."""

_MOST_SEGMENTS: Final = 4096
_MOST_JUNK: Final = 1024 * 1024
_JUNK_BLOCK: Final = 4096
_BLOCK: Final = 64
_LARGEST_META: Final = 1024 * 1024
# Frames of every kind of coding; the four codes between them are tables and the like.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_SCAN: Final = frozenset({0xD9, 0xDA})


class ImageSizeWarning(UserWarning):
    """A picture has a longer side than the 1920 pixels that Veriff advises "to avoid issues".

    It is scaled down there, or here with ``Media(..., max_side=1920)``. Python shows a warning once for each place in a
    program, unless its filters say otherwise.
    """


def dimensions(mimetype: str, read_at: ReadAt) -> tuple[int, int] | None:
    """Read width and height.

    Args:
        mimetype: The type, as `sniff` tells it.
        read_at: Reads the file.

    Returns:
        Both in pixels as they are stored, before any rotation that the file asks for; ``None`` when the header does not
        tell, and for what has no pixels.
    """
    found = None
    if mimetype == "image/jpeg":
        found = _jpeg(read_at)
    elif mimetype == "image/png":
        found = _png(read_at)
    elif mimetype == "image/webp":
        found = _webp(read_at)
    elif mimetype in {"image/heic", "image/heif"}:
        found = _heif(read_at)
    return found if found is not None and all(found) else None


def _jpeg(read_at: ReadAt) -> tuple[int, int] | None:
    place = 2
    for _ in range(_MOST_SEGMENTS):
        head = read_at(place, 4)
        if len(head) < 4:  # noqa: PLR2004
            return None
        if head[0] != 0xFF or head[1] == 0x00:  # noqa: PLR2004
            # Some writers leave junk between segments, which decoders skip.
            marker = _next_marker(read_at, place)
            if marker is None:
                return None
            place = marker
        elif head[1] in _SCAN:
            return None
        elif head[1] == 0xFF:  # noqa: PLR2004  fill bytes may stand before a marker
            place += 1
        elif head[1] in _ALONE:
            place += 2
        elif head[1] in _FRAMES:
            frame = read_at(place + 5, 4)
            return (_number(frame[2:]), _number(frame[:2])) if len(frame) == 4 else None  # noqa: PLR2004
        else:
            place += 2 + max(2, _number(head[2:]))
    return None


def _next_marker(read_at: ReadAt, place: int) -> int | None:
    """Return where the next marker stands: 0xFF, and after it neither zero nor the end."""
    end = place + _MOST_JUNK
    while place < end:
        block = read_at(place, _JUNK_BLOCK)
        at = block.find(b"\xff")
        while 0 <= at < len(block) - 1 and block[at + 1] == 0:
            at = block.find(b"\xff", at + 2)
        if 0 <= at < len(block) - 1:
            return place + at
        if len(block) < _JUNK_BLOCK:
            return None
        place += len(block) - 1 if block[-1] == 0xFF else len(block)  # noqa: PLR2004
    return None


def _png(read_at: ReadAt) -> tuple[int, int] | None:
    header = read_at(12, 12)
    if len(header) < 12 or header[:4] != b"IHDR":  # noqa: PLR2004
        return None
    return _number(header[4:8]), _number(header[8:])


def _webp(read_at: ReadAt) -> tuple[int, int] | None:
    chunk = read_at(12, 18)
    if len(chunk) < 18:  # noqa: PLR2004
        return None
    kind, content = chunk[:4], chunk[8:]
    if kind == b"VP8X":
        return _little(content[4:7]) + 1, _little(content[7:10]) + 1
    if kind == b"VP8L" and content[0] == 0x2F:  # noqa: PLR2004
        bits = _little(content[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
        return _little(content[6:8]) & 0x3FFF, _little(content[8:10]) & 0x3FFF
    return None


def _heif(read_at: ReadAt) -> tuple[int, int] | None:
    place = 0
    for _ in range(_MOST_SEGMENTS):
        head = read_at(place, 16)
        size, kind, start = _box(head)
        if size == 0:
            return None
        if kind == b"meta":
            # A version and flags stand before what it holds.
            return _largest(read_at(place + start + 4, min(size - start - 4, _LARGEST_META)))
        place += size
    return None


def _largest(meta: bytes) -> tuple[int, int] | None:
    """Return the largest of the sizes that a file states: of the whole picture, not of its tiles and thumbnails.

    Encoders pad a picture to whole blocks, and say in another box what is to be cut off again.
    """
    containers = [box for properties in _boxes(meta, b"iprp") for box in _boxes(properties, b"ipco")]
    stated = [_pair(size[4:8], size[8:12]) for box in containers for size in _boxes(box, b"ispe")]
    cut = [_pair(clean[:4], clean[8:12]) for box in containers for clean in _boxes(box, b"clap")]
    largest = max(stated, key=lambda both: both[0] * both[1], default=None)
    if largest is None:
        return None
    padded = (
        clean for clean in cut if all(0 <= coded - shown < _BLOCK for coded, shown in zip(largest, clean, strict=True))
    )
    return next(padded, largest)


def _pair(width: bytes, height: bytes) -> tuple[int, int]:
    return _number(width), _number(height)


def _boxes(content: bytes, wanted: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(content):
        size, kind, start = _box(content[place : place + 16])
        if size == 0:
            return
        if kind == wanted:
            yield content[place + start : place + size]
        place += size


def _box(head: bytes) -> tuple[int, bytes, int]:
    """Return size, kind and length of the head of a box; a size of 0 for what is none."""
    size, kind, start = _number(head[:4]), head[4:8], 8
    if size == 1:
        size, start = _number(head[8:16]), 16
    return (size if len(head) >= start and size >= start else 0), kind, start


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
