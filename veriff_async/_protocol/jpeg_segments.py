"""Removes the metadata of a JPEG without decoding it, so that the picture itself stays as the camera wrote it.

A JPEG is a list of segments (ITU T.81, annex B). Only some of them are needed to show the picture; the others hold
EXIF and XMP with place and time, comments, thumbnails, colour profiles, and indices of further pictures after the end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("strip_metadata",)

_START, _END, _SCAN, _JFIF, _ADOBE = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE
# Baseline, extended sequential and progressive, with Huffman tables: those that every reader supports.
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})
# Tables of Huffman codes and of quantization, and the interval of restarts.
_TABLES: Final = frozenset({0xC4, 0xDB, 0xDD})
_KEPT: Final = frozenset({*_FRAMES, *_TABLES, _SCAN, _ADOBE, _END})
_DROPPED: Final = frozenset({*range(0xE0, 0xF0), 0xFE}) - {_JFIF, _ADOBE}

# In the data of a scan, 0xFF is followed by zero, or by the marker of a restart.
_NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_JFIF_NAME: Final = b"JFIF\0"
_JFIF_SIZE: Final = 18
_FRAME_SIZE: Final = 10
_PRECISION: Final = 8
_COMPONENTS: Final = frozenset({1, 3})


def strip_metadata(content: bytes) -> bytes | None:
    """Return a JPEG with nothing but its picture: 8 bits, grey or three components.

    Thumbnails, and everything after the end of the picture, such as a video, are removed too. A file without such
    parts is returned as it is.

    Returns:
        The file, or ``None`` if it has another form: it must be decoded then. That includes a file that ends before
        its end marker. The picture itself is not decoded, so it may be damaged.
    """
    parts, markers = [content[:2]], [_START]
    for marker, segment in _iter_segments(content):
        if marker in _FRAMES and not _is_plain_frame(segment):
            return None
        if marker == _JFIF:
            parts.append(_without_thumbnail(segment))
        elif marker in _KEPT:
            parts.append(segment)
        elif marker not in _DROPPED:
            return None
        markers.append(marker)
    has_picture = markers[-1] == _END and _SCAN in markers and sum(marker in _FRAMES for marker in markers) == 1
    return b"".join(parts) if has_picture else None


def _iter_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes of each segment, up to the end marker; less if the file has another form."""
    offset = len(b"\xff\xd8")
    while content[offset : offset + 1] == b"\xff" and offset + 1 < len(content):
        marker = content[offset + 1]
        if marker == _END:
            yield marker, content[offset : offset + 2]
            return
        end = offset + 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")
        if not offset + 4 <= end <= len(content):
            return
        if marker == _SCAN:
            # The data of the scan, which has no length, belong to it.
            if (found := _NEXT_MARKER.search(content, end)) is None:
                return
            end = found.start()
        yield marker, content[offset:end]
        offset = end


def _is_plain_frame(segment: bytes) -> bool:
    # Marker and length, four bytes, then precision, height, width and number of components.
    if len(segment) < _FRAME_SIZE or segment[4] != _PRECISION or segment[9] not in _COMPONENTS:
        return False
    return segment[5:7] != b"\0\0" and segment[7:9] != b"\0\0"


def _without_thumbnail(segment: bytes) -> bytes:
    """Return the segment with version and resolution (JFIF 1.02), or nothing if it is an extension of it."""
    if segment[4:9] != _JFIF_NAME or len(segment) < _JFIF_SIZE:
        return b""
    return segment[:2] + (_JFIF_SIZE - 2).to_bytes(2, "big") + segment[4 : _JFIF_SIZE - 2] + b"\0\0"
