"""Finds the outline of a document in a decoded picture: its skew, its sides, and the sides at which it is cut off.

A card or page is the only thing in most pictures whose four sides are long straight lines. A small copy of the picture
is turned upright, and lines are searched from its sides towards the middle. A document is cut off at a side of the
picture if no line is parallel to that side, or if the lines at right angles to it continue to the side.
"""

from __future__ import annotations

from math import atan2, degrees
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from PIL import Image

__all__ = ("Outline", "find_outline", "measure_skew")

_SIDE: Final = 160
"""Longer side, in pixels, of the copy in which the outline is searched."""
_SKEW_SIDE: Final = 320

_MIN_SIDE: Final = 48
_UPRIGHT: Final = 0.75
_WHITE: Final = 255

_BINS: Final = 180
"""Bins of half a degree, for a quarter turn: the sides of a document are at right angles."""
_STRONG: Final = 40
_MIN_EDGES: Final = 60
_MIN_AGREEMENT: Final = 0.12

_STEP: Final = 9
_LINE: Final = 0.55
_REACHES: Final = 0.7


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
    """Return the angle, in degrees from -45 to 45, by which the dominant edges are turned clockwise.

    Returns:
        The angle, or ``None`` if no direction dominates.
    """
    from PIL import Image, ImageFilter

    small = grey.copy()
    small.thumbnail((_SKEW_SIDE, _SKEW_SIDE), Image.Resampling.BILINEAR)
    if min(small.size) < _MIN_SIDE:
        return None
    across = small.filter(ImageFilter.Kernel((3, 3), (-1, 0, 1, -2, 0, 2, -1, 0, 1), scale=4, offset=128)).tobytes()
    down = small.filter(ImageFilter.Kernel((3, 3), (-1, -2, -1, 0, 0, 0, 1, 2, 1), scale=4, offset=128)).tobytes()
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
    smooth = [sum(bins[(index + away) % _BINS] for away in (-2, -1, 0, 1, 2)) for index in range(_BINS)]
    peak = max(range(_BINS), key=smooth.__getitem__)
    if smooth[peak] < _MIN_AGREEMENT * count:
        return None
    angle = (peak + 0.5) * 90 / _BINS
    return angle - 90 if angle > 90 / 2 else angle


def find_outline(picture: Image.Image, skew: float) -> Outline | None:
    """Find the outline of the document.

    Args:
        picture: The picture.
        skew: See `measure_skew`.

    Returns:
        The outline, or ``None`` if the picture is too small.
    """
    from PIL import Image, ImageChops, ImageFilter

    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    if min(small.size) < _MIN_SIDE:
        return None
    smooth = small.filter(ImageFilter.MedianFilter(3))
    inside = Image.new("L", smooth.size, 255)
    if abs(skew) >= _UPRIGHT:
        smooth = smooth.rotate(skew, Image.Resampling.BILINEAR, expand=True)
        inside = inside.rotate(skew, Image.Resampling.BILINEAR, expand=True)
    inside = inside.point([255 * (level == _WHITE) for level in range(256)]).filter(ImageFilter.MinFilter(5))
    lines: list[Image.Image] = []
    for dx, dy in ((1, 0), (0, 1)):
        before, after = ImageChops.offset(smooth, dx, dy), ImageChops.offset(smooth, -dx, -dy)
        red, green, blue = ImageChops.difference(before, after).split()
        steps = ImageChops.lighter(ImageChops.lighter(red, green), blue)
        lines.append(ImageChops.darker(steps, inside))
    width, height = smooth.size
    upright = _Lines(lines[0], inside)
    # Transposed, so that one set of functions serves both directions.
    level = _Lines(lines[1].transpose(Image.Transpose.TRANSPOSE), inside.transpose(Image.Transpose.TRANSPOSE))
    left, right, top, bottom = *upright.find(), *level.find()
    reached_top, reached_bottom = upright.reach((left, right))
    reached_left, reached_right = level.reach((top, bottom))
    cut = [
        left is None or reached_left,
        right is None or reached_right,
        top is None or reached_top,
        bottom is None or reached_bottom,
    ]
    wide = (right if right is not None else width) - (left or 0)
    high = (bottom if bottom is not None else height) - (top or 0)
    return Outline(length=min(1.0, max(wide, high) / max(small.size)), cut_sides=sum(cut))


class _Lines:
    """Upright lines of a picture."""

    def __init__(self, steps: Image.Image, inside: Image.Image) -> None:
        from PIL import ImageFilter

        self.width, self.height = steps.size
        binary = steps.point([255 * (level >= _STEP) for level in range(256)])
        # A line may be bent by two pixels: by the lens, or by perspective.
        self._near = binary.filter(ImageFilter.MaxFilter(5))
        self._inside = inside

    def find(self) -> tuple[int | None, int | None]:
        """Return the outermost long lines on the left and on the right."""
        middle = (0, self.height // 4, self.width, self.height - self.height // 4)
        shares = self._near.crop(middle).resize((self.width, 1), 4).tobytes()
        half = self.width // 2
        is_line = [share >= 255 * _LINE for share in shares]
        left = next((x for x in range(3, half) if is_line[x]), None)
        right = next((x for x in range(self.width - 4, half, -1) if is_line[x]), None)
        return left, right

    def reach(self, columns: tuple[int | None, ...]) -> tuple[bool, bool]:
        """Return whether any of the lines continues to the upper and to the lower side of the picture."""
        top = bottom = False
        for column in columns:
            if column is None:
                continue
            box = (max(0, column - 1), 0, min(self.width, column + 4), self.height)
            line = max_rows(self._near, box)
            inside = [index for index, level in enumerate(max_rows(self._inside, box)) if level]
            if not inside:
                continue
            strip = max(4, self.height // 20)
            top = top or _share(line, inside[:strip]) >= _REACHES
            bottom = bottom or _share(line, inside[-strip:]) >= _REACHES
        return top, bottom


def max_rows(image: Image.Image, box: tuple[int, int, int, int]) -> bytes:
    part = image.crop(box)
    cells = part.tobytes()
    return bytes(max(cells[row * part.width : (row + 1) * part.width]) for row in range(part.height))


def _share(line: bytes, rows: list[int]) -> float:
    return sum(line[row] > 0 for row in rows) / len(rows)
