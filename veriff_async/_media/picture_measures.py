"""Measures a decoded picture: sharpness, glare, light, colours and fine patterns.

Every function takes the picture as `inspect_media` decodes it: upright, grey or RGB, at most `WORK_SIDE` pixels along
its longer side. Pillow's own operations touch every pixel, in C and without the interpreter's lock. Only grids of at
most some thousand cells are read into Python.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final, cast

from veriff_async._media.document_outline import find_outline, find_slopes, measure_skew
from veriff_async.models.inspection import CheckName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL import Image

    from veriff_async._protocol.picture_thresholds import PictureThresholds

__all__ = ("WORK_SIDE", "measure_picture")

WORK_SIDE: Final = 1024
"""Longer side, in pixels, at which pictures are measured. Noise of a camera is averaged, text stays legible."""

_MIN_SIDE: Final = 16
_TILE: Final = 40
_MIN_RANGE: Final = 20
# Levels of grey between the lightest and darkest pixel of a tile, from which its edges count. It must also have such a
# share of the levels of the tile with most contrast.
_MIN_RANGE_SHARE: Final = 0.3
_MIN_TILES: Final = 4
_SHARPEST: Final = 0.1

_CELL: Final = 12
_SATURATED: Final = 250
_HALO: Final = 205
_MIN_HALO: Final = 0.5

_MIN_MOIRE_SIDE: Final = 64
_PERIODS: Final = range(2, 15)


def measure_picture(
    picture: Image.Image, full_size: tuple[int, int], thresholds: PictureThresholds
) -> dict[CheckName, float | None]:
    """Measure everything for which there is a threshold.

    Args:
        picture: The picture.
        full_size: Width and height of the whole picture in pixels.
        thresholds: The thresholds of its context.

    Returns:
        The values; ``None`` where the picture shows nothing that can be measured.
    """
    grey = picture.convert("L")
    histogram = _middle(grey).histogram()
    measures: dict[CheckName, Callable[[], float | None]] = {
        CheckName.SHARPNESS: lambda: measure_sharpness(grey),
        CheckName.GLARE: lambda: measure_glare(picture),
        CheckName.BRIGHTNESS: lambda: _percentile(histogram, 0.75) / 255,
        CheckName.OVEREXPOSURE: lambda: measure_overexposure(picture),
        CheckName.CONTRAST: lambda: (_percentile(histogram, 0.95) - _percentile(histogram, 0.05)) / 255,
        CheckName.MOIRE: lambda: measure_moire(grey),
        CheckName.COLOUR: lambda: measure_colour(picture),
    }
    values = {name: measure() for name, measure in measures.items() if thresholds.limit(name) is not None}
    sharpness = values.get(CheckName.SHARPNESS)
    is_blurred = sharpness is not None and sharpness < (thresholds.sharpness or 0.0)
    return values | _measure_document(picture, grey, full_size, thresholds, is_blurred=is_blurred)


def _measure_document(
    picture: Image.Image,
    grey: Image.Image,
    full_size: tuple[int, int],
    thresholds: PictureThresholds,
    *,
    is_blurred: bool,
) -> dict[CheckName, float | None]:
    values: dict[CheckName, float | None] = {CheckName.RESOLUTION: max(full_size)}
    if thresholds.skew is not None:
        skew = measure_skew(grey)
        values[CheckName.SKEW] = None if skew is None else abs(skew)
    # The edges of a blurred picture are too weak to be followed, and it failed anyway.
    if thresholds.document_edges is not None and not is_blurred and (outline := find_outline(picture)) is not None:
        values[CheckName.DOCUMENT_EDGES] = outline.cut_sides
        values[CheckName.RESOLUTION] = round(outline.length * max(full_size))
    return values


def measure_sharpness(grey: Image.Image) -> float | None:
    """Return how many edge widths fit along the longer side, or ``None`` without edges of enough contrast.

    The width of an edge is its contrast divided by its steepest slope. That does not depend on the contrast, as the
    variance of the Laplacian does. A blurred background must not count, so the sharpest tiles decide. Motion blurs
    edges in one direction only, so the worst of four directions decides.
    """
    if min(grey.size) < _MIN_SIDE:
        return None
    columns, rows = (max(1, round(side / _TILE)) for side in grey.size)
    boxes = [
        (
            grey.width * x // columns,
            grey.height * y // rows,
            grey.width * (x + 1) // columns,
            grey.height * (y + 1) // rows,
        )
        for y in range(rows)
        for x in range(columns)
    ]
    # With one pixel around, which the slopes at the edge of a tile depend on.
    around = [(left - 1, top - 1, right + 1, bottom + 1) for left, top, right, bottom in boxes]
    ranges = [high - low for low, high in _extremes(grey, around)]
    enough = max(_MIN_RANGE, _MIN_RANGE_SHARE * max(ranges))
    sharpness: list[float] = []
    for slopes, scale in _find_slopes_in_four_directions(grey):
        steepest = [max(high - 128, 128 - low) for low, high in _extremes(slopes, boxes)]
        # Noise gives every tile a slope: that of the quietest tiles.
        noise = sorted(steepest)[len(steepest) // 20]
        widths = sorted(
            ((slope - noise) / span for slope, span in zip(steepest, ranges, strict=True) if span >= enough),
            reverse=True,
        )
        if len(widths) < _MIN_TILES:
            return None
        best = widths[: max(_MIN_TILES, round(len(widths) * _SHARPEST))]
        sharpness.append(scale * sum(best) / len(best))
    return max(0.0, min(sharpness)) * max(grey.size)


def _find_slopes_in_four_directions(grey: Image.Image) -> Iterator[tuple[Image.Image, float]]:
    """Yield the slopes across, down and along both diagonals, and the factor that makes them comparable.

    Without the diagonals, a picture that moved along one would look sharp: edges along the motion stay steep across and
    down.
    """
    from PIL import ImageChops

    across, down = find_slopes(grey)
    yield across, 1.0
    yield down, 1.0
    # Half the sum, so that it fits into a byte. The slope along the diagonal is the sum by the root of two.
    yield ImageChops.add(across, down, scale=2), sqrt(2)
    yield ImageChops.subtract(across, down, scale=2, offset=128), sqrt(2)


def _extremes(grey: Image.Image, boxes: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    width, height = grey.size
    extremes: list[tuple[int, int]] = []
    for left, top, right, bottom in boxes:
        part = grey.crop((max(0, left), max(0, top), min(width, right), min(height, bottom)))
        extremes.append(cast("tuple[int, int]", part.getextrema()))
    return extremes


def measure_glare(picture: Image.Image) -> float:
    """Return the share of the picture in bright spots that have no detail, a halo, and do not touch its sides.

    White paper has detail, is rarely pure white, and ends abruptly. A spot at the side of the picture is
    more often a window or a white table than glare on the document.
    """
    grey = _darkest_channel(picture).reduce(_CELL)
    width, height = grey.size
    cells = grey.tobytes()
    left = {index for index, level in enumerate(cells) if level >= _SATURATED}
    total = 0
    while left:
        spot, edge = _fill(left, width)
        touches_side = any(index % width in {0, width - 1} or index // width in {0, height - 1} for index in spot)
        if not touches_side and sum(cells[index] >= _HALO for index in edge) >= _MIN_HALO * len(edge):
            total += len(spot)
    return total / len(cells)


def _fill(left: set[int], width: int) -> tuple[set[int], set[int]]:
    """Take one connected spot out of `left`, and return it with the cells around it. Cells are numbered row by row."""
    start = left.pop()
    spot, edge, queue = {start}, set[int](), [start]
    while queue:
        index = queue.pop()
        for neighbour in (index - 1, index + 1, index - width, index + width):
            if neighbour in left:
                left.remove(neighbour)
                spot.add(neighbour)
                queue.append(neighbour)
            elif neighbour not in spot:
                edge.add(neighbour)
    return spot, edge


def measure_overexposure(picture: Image.Image) -> float:
    """Return the share of pure white pixels in the middle of the picture."""
    histogram = _darkest_channel(_middle(picture)).histogram()
    return sum(histogram[_SATURATED:]) / sum(histogram)


def measure_colour(picture: Image.Image) -> float:
    """Return the range of colours; a grey picture with a cast, such as a copy under a warm lamp, has almost none."""
    if picture.mode == "L":
        return 0.0
    _, blue, red = _middle(picture).reduce(4).convert("YCbCr").split()
    histograms = (blue.histogram(), red.histogram())
    return max(_percentile(histogram, 0.98) - _percentile(histogram, 0.02) for histogram in histograms) / 255


def measure_moire(grey: Image.Image) -> float | None:
    """Return how strongly a fine pattern repeats in the whole picture, as in photos of a screen.

    Shifted by one period, a pattern equals itself, and shifted by half of one it differs most.
    """
    from PIL import ImageChops, ImageFilter, ImageStat

    detail = ImageChops.subtract(grey, grey.filter(ImageFilter.BoxBlur(8)), scale=0.5, offset=128)
    side = min(512, *detail.size) - _PERIODS[-1] * 2
    if side < _MIN_MOIRE_SIDE:
        return None
    left, top = (detail.width - side) // 2, (detail.height - side) // 2
    still = detail.crop((left, top, left + side, top + side))
    strongest = 0.0
    for x, y in ((1, 0), (0, 1), (1, 1), (1, -1)):
        differences: list[float] = []
        for shift in _PERIODS:
            box = (left + x * shift, top + y * shift, left + x * shift + side, top + y * shift + side)
            differences.append(ImageStat.Stat(ImageChops.difference(still, detail.crop(box))).mean[0])
        highest = differences[0]
        for difference in differences:
            highest = max(highest, difference)
            strongest = max(strongest, (highest - difference) / max(1.0, highest))
    return strongest


def _darkest_channel(picture: Image.Image) -> Image.Image:
    from PIL import ImageChops

    if picture.mode == "L":
        return picture
    red, green, blue = picture.split()
    return ImageChops.darker(ImageChops.darker(red, green), blue)


def _middle(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((width // 5, height // 5, width - width // 5, height - height // 5))


def _percentile(histogram: Sequence[int], share: float) -> int:
    """Return the level that a share of the pixels does not exceed."""
    limit, count = sum(histogram) * share, 0
    for level, pixels in enumerate(histogram):
        count += pixels
        if count >= limit:
            return level
    return len(histogram) - 1
