"""Finds the outline of a document in a decoded picture: its skew, its size, and the sides at which it is cut off.

In a small copy of the picture, the outline, text and portrait of a document are one connected group of strong edges. A
document is cut off at a side of the picture if that group continues to the side. It does not matter how the document is
turned.
"""

from __future__ import annotations

from math import atan2, degrees
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from PIL import Image

__all__ = ("Outline", "find_outline", "measure_skew")

# Longer side, in pixels, of the copy in which the outline is searched.
_SIDE: Final = 320
_SKEW_SIDE: Final = 320

_MIN_SIDE: Final = 48
_WHITE: Final = 255

# Bins of half a degree, for a quarter turn: the sides of a document are at right angles.
_BINS: Final = 180
_STRONG: Final = 10
_MIN_EDGES: Final = 60
_MIN_AGREEMENT: Final = 0.12

# An edge of the document: a step of so many levels within two pixels, and so many times the texture of the table.
_MIN_STEP: Final = 14
_TEXTURE_FACTOR: Final = 2
_TEXTURE_SHARE: Final = 0.75
# Pixels, less one, between edges that belong together: an odd number.
_GAP: Final = 7
_FRAME: Final = 2
_MIN_GROUP: Final = 0.08
_MIN_CONTACT: Final = 2
# Share of a side of the picture between the two places where the sides of a document reach it.
_MIN_SPAN: Final = 0.25


@frozen(kw_only=True)
class Outline:
    """The outline of a document.

    Attributes:
        length: Longer side of the document, as a share of the longer side of the picture.
        cut_sides: Sides of the picture at which the document is cut off.
    """

    length: float
    cut_sides: int


def measure_skew(grey: Image.Image) -> float | None:
    """Return the angle, in degrees from -45 to 45, by which the dominant edges are turned clockwise."""
    from PIL import Image, ImageFilter

    small = grey.copy()
    small.thumbnail((_SKEW_SIDE, _SKEW_SIDE), Image.Resampling.BILINEAR)
    if min(small.size) < _MIN_SIDE:
        return None
    # A slightly turned edge is a staircase of upright steps, which must become a slope.
    across, down = (slopes.tobytes() for slopes in find_slopes(small.filter(ImageFilter.GaussianBlur(2))))
    bins = [0.0] * _BINS
    count = 0
    for x, y in zip(across, down, strict=True):
        if 128 - _STRONG < x < 128 + _STRONG and 128 - _STRONG < y < 128 + _STRONG:
            continue
        angle = degrees(atan2(y - 128, x - 128)) % 90
        bins[int(angle * _BINS / 90) % _BINS] += 1
        count += 1
    if count < _MIN_EDGES:
        return None
    smooth = [
        sum((4 - abs(away)) * bins[(index + away) % _BINS] for away in range(-3, 4)) / 4 for index in range(_BINS)
    ]
    peak = max(range(_BINS), key=smooth.__getitem__)
    if smooth[peak] < _MIN_AGREEMENT * count:
        return None
    angle = (peak + 0.5) * 90 / _BINS
    return angle - 90 if angle > 90 / 2 else angle


def find_slopes(grey: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Return the slopes across and down, in levels of grey for each pixel, as 128 more than the slope.

    It is Sobel's filter, which averages noise over three pixels along an edge.
    """
    from PIL import Image, ImageFilter

    width, height = grey.size
    slopes: list[Image.Image] = []
    # Pillow reads the rows of a kernel from the bottom.
    for kernel in ((-1, 0, 1, -2, 0, 2, -1, 0, 1), (1, 2, 1, 0, 0, 0, -1, -2, -1)):
        flat = Image.new("L", grey.size, 128)  # Pillow copies the outermost pixels, and does not filter them
        filtered = grey.filter(ImageFilter.Kernel((3, 3), kernel, scale=8, offset=128))
        flat.paste(filtered.crop((1, 1, width - 1, height - 1)), (1, 1))
        slopes.append(flat)
    return slopes[0], slopes[1]


def find_outline(picture: Image.Image) -> Outline | None:
    """Find the outline of the document."""
    from PIL import Image, ImageChops, ImageFilter

    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    if min(small.size) < _MIN_SIDE:
        return None
    # The median removes text and texture, and keeps edges sharp. A blurred background has no steps that are so short.
    smooth = small.filter(ImageFilter.MedianFilter(5))
    steps = Image.new("L", small.size)
    for x, y in ((1, 0), (0, 1)):
        before, after = ImageChops.offset(smooth, x, y), ImageChops.offset(smooth, -x, -y)
        for channel in ImageChops.difference(before, after).split():
            steps = ImageChops.lighter(steps, channel)
    # Without the outermost pixels, where `offset` continues at the other side.
    steps = steps.crop((_FRAME, _FRAME, small.width - _FRAME, small.height - _FRAME))
    limit = max(_MIN_STEP, _TEXTURE_FACTOR * _texture(steps))
    edges = steps.point([_WHITE * (level >= limit) for level in range(256)])
    size = (edges.width // 2, edges.height // 2)
    joined, thin = (
        edges.filter(ImageFilter.MaxFilter(gap)).resize(size, Image.Resampling.NEAREST) for gap in (_GAP, 3)
    )
    group = _largest_group(joined.tobytes(), size[0])
    columns, rows = _places(group, size[0])
    wide, high = (max(places, default=0) - min(places, default=0) + 1 for places in (columns, rows))
    if wide * high < _MIN_GROUP * size[0] * size[1]:
        return None
    # Joined edges are wider than they are, and would reach the sides of the picture too early.
    cells = thin.tobytes()
    places = _places([index for index in group if cells[index]], size[0])
    return Outline(length=max(wide, high) / max(size), cut_sides=_count_cut_sides(*places, *size))


def _places(cells: list[int], width: int) -> tuple[list[int], list[int]]:
    """Return the columns and rows of cells, which are numbered row by row."""
    return [index % width for index in cells], [index // width for index in cells]


def _texture(steps: Image.Image) -> int:
    """Return the step that most pixels near the sides of the picture do not exceed."""
    from PIL import Image

    band = max(steps.size) // 16
    edge = Image.new("L", steps.size, _WHITE)
    edge.paste(0, (band, band, steps.width - band, steps.height - band))
    histogram = steps.histogram(edge)
    limit, count = _TEXTURE_SHARE * sum(histogram), 0
    for level, pixels in enumerate(histogram):
        count += pixels
        if count >= limit:
            return level
    return _WHITE


def _largest_group(cells: bytes, width: int) -> list[int]:
    """Return the group of connected cells that are set whose extent is largest. Cells are numbered row by row."""
    left = {index for index, level in enumerate(cells) if level}
    largest: list[int] = []
    extent = 0
    while left:
        queue = [left.pop()]
        group: list[int] = []
        while queue:
            index = queue.pop()
            group.append(index)
            column = index % width
            sideways = [index - 1] * (column > 0) + [index + 1] * (column < width - 1)
            for neighbour in (*sideways, index - width, index + width):
                if neighbour in left:
                    left.remove(neighbour)
                    queue.append(neighbour)
        columns = [index % width for index in group]
        across, down = max(columns) - min(columns) + 1, (max(group) - min(group)) // width + 1
        if across * down > extent:
            largest, extent = group, across * down
    return largest


def _count_cut_sides(columns: list[int], rows: list[int], width: int, height: int) -> int:
    """Return at how many sides of the picture the document is cut off, from the cells of its edges.

    The two sides of a document that is cut off reach the side of the picture at two distant places. At a corner that is
    cut off, they reach two sides of the picture at one place each.
    """
    left, right = ([row for column, row in zip(columns, rows, strict=True) if column == at] for at in (0, width - 1))
    top, bottom = ([column for column, row in zip(columns, rows, strict=True) if row == at] for at in (0, height - 1))

    def spans(places: list[int], length: int) -> bool:
        return bool(places) and max(places) - min(places) >= _MIN_SPAN * length

    def touch(*sides: list[int]) -> bool:
        return any(len(side) >= _MIN_CONTACT for side in sides)

    cut = (
        *(spans(side, height) or (touch(side) and touch(top, bottom)) for side in (left, right)),
        *(spans(side, width) or (touch(side) and touch(left, right)) for side in (top, bottom)),
    )
    return sum(cut)
