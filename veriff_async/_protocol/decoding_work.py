"""Estimates the work that a file asks of its decoder, beyond that for its pixels. Pure.

A small file can state millions of strips or scans, each of which costs memory or a pass over the whole picture.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ("count_scans", "is_interleaved", "largest_tiff_value")

_SCAN: Final = b"\xff\xda"
# TIFF 6.0, section 2: BYTE, ASCII and UNDEFINED stay bytes; the other types are decoded to objects.
_BYTES: Final = frozenset({1, 2, 7})


def largest_tiff_value(content: bytes) -> int:
    """Return how many numbers the longest value in the first directory of a TIFF has; 0 without a directory.

    A decoder makes an object of each number, and of each strip and tile.
    """
    order = "<" if content[:2] == b"II" else ">"
    try:
        (offset,) = struct.unpack_from(f"{order}I", content, 4)
        (entries,) = struct.unpack_from(f"{order}H", content, offset)
        table = content[offset + 2 : offset + 2 + 12 * entries]
        values = list(struct.iter_unpack(f"{order}HHII", table[: len(table) // 12 * 12]))
    except struct.error:
        return 0
    return max((count for _, kind, count, _ in values if kind not in _BYTES), default=0)


def is_interleaved(content: bytes, end: int, components: int) -> bool:
    """Return whether the first scan of a JPEG has all components, so that its rows are decoded one after the other.

    Args:
        content: The file.
        end: Where the header of the first scan ends (ITU T.81, B.2.3).
        components: Components of the picture.
    """
    header = _SCAN + (6 + 2 * components).to_bytes(2, "big") + bytes([components])
    start = end - len(header) - 2 * components - 3
    return content[max(0, start) : max(0, start) + len(header)] == header


def count_scans(content: bytes, end: int) -> int:
    """Return the number of scans of a JPEG at most, if the header of the first one ends at `end`.

    In the data of a scan, 0xFF is followed by zero, so its bytes do not look like a scan.
    """
    return 1 + content.count(_SCAN, end)
