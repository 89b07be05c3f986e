"""Drawing primitives: lines, curves, guilloches, shapes and text."""

# Pillow's own types name numpy's, which need not be installed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from math import cos, pi, sin, tau
from typing import TYPE_CHECKING, Final, TypeAlias

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "FINE",
    "GOLD",
    "INK",
    "PALE",
    "RED",
    "ROSE",
    "TEAL",
    "Colour",
    "Pen",
    "Point",
    "curve",
    "emblem",
    "gradient",
    "points",
    "rosette",
    "soft",
    "stamp",
    "waves",
)

Point: TypeAlias = tuple[float, float]
Colour: TypeAlias = tuple[int, ...]
Style: TypeAlias = tuple[float, float]  # size of the letters and how bold they are, in pixels

FINE: Final = 2  # supersampling: everything is drawn this much larger and then reduced, which smooths lines

INK: Final = (24, 44, 74)
PALE: Final = (88, 106, 128)
TEAL: Final = (14, 116, 124)
ROSE: Final = (190, 84, 104)
GOLD: Final = (186, 142, 62)
RED: Final = (196, 36, 52)

_RINGS: Final = 14  # waves in one ring of a guilloche


class Pen:
    """Draws in final pixels on an image that is `FINE` times larger."""

    def __init__(self, image: Image.Image) -> None:
        """Take the image to draw on."""
        self.image = image
        self._draw = ImageDraw.Draw(image, "RGBA" if image.mode == "RGB" else None)

    def line(self, points: Sequence[Point], colour: Colour | int, width: float = 1) -> None:
        """Draw a line through all points."""
        fine = [(x * FINE, y * FINE) for x, y in points]
        self._draw.line(fine, fill=colour, width=max(1, round(width * FINE)), joint="curve")

    def shape(self, points: Sequence[Point], colour: Colour | int) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * FINE, y * FINE) for x, y in points], fill=colour)

    def disc(self, centre: Point, radius: float, colour: Colour | int, *, tall: float = 1) -> None:
        """Fill an ellipse that is `tall` times as high as it is wide."""
        (x, y), high = centre, radius * tall
        sandbox = ((x - radius) * FINE, (y - high) * FINE, (x + radius) * FINE, (y + high) * FINE)
        self._draw.ellipse(sandbox, fill=colour)

    def plate(self, sandbox: tuple[float, float, float, float], radius: float, colour: Colour | int) -> None:
        """Fill a rectangle with round corners."""
        left, top, right, bottom = (side * FINE for side in sandbox)
        self._draw.rounded_rectangle((left, top, right, bottom), radius=radius * FINE, fill=colour)

    def text(self, at: Point, words: str, style: Style, colour: Colour | int, *, anchor: str = "ls") -> None:
        """Write one line in the typeface that Pillow carries, so that no font of the machine is needed."""
        size, bold = style
        font = ImageFont.load_default(size * FINE)
        where = (at[0] * FINE, at[1] * FINE)
        self._draw.text(where, words, fill=colour, font=font, anchor=anchor, stroke_width=bold * FINE)


def points(path: str) -> tuple[Point, ...]:
    """Read the points of a path, written as in SVG: `"10,20 30,40"`."""
    pairs = (pair.split(",") for pair in path.split())
    return tuple((float(x), float(y)) for x, y in pairs)


def curve(points: Sequence[Point], *, closed: bool = True, steps: int = 16) -> list[Point]:
    """Lay a Catmull-Rom spline through the points."""
    ring = [points[-1], *points, points[0], points[1]] if closed else [points[0], *points, points[-1]]
    smooth: list[Point] = []
    for (ax, ay), (bx, by), (cx, cy), (dx, dy) in zip(ring, ring[1:], ring[2:], ring[3:], strict=False):
        for step in range(steps):
            t = step / steps
            smooth.append((_between(ax, bx, cx, dx, t), _between(ay, by, cy, dy, t)))
    return smooth if closed else [*smooth, points[-1]]


def _between(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def gradient(size: tuple[int, int], colours: Sequence[Colour], turn: float) -> Image.Image:
    """Blend the colours into each other across the picture, at an angle."""
    ramp = Image.linear_gradient("L").rotate(turn, Image.Resampling.BICUBIC, expand=True)
    inner = ramp.crop((ramp.width // 4, ramp.height // 4, ramp.width * 3 // 4, ramp.height * 3 // 4))
    mask = ImageOps.autocontrast(inner).resize(size, Image.Resampling.BICUBIC)
    layer = Image.new("RGB", size, colours[0])
    share = 255 / (len(colours) - 1)
    for number, colour in enumerate(colours[1:]):
        step = mask.point([round(min(255, max(0, (level - number * share) * 255 / share))) for level in range(256)])
        layer = Image.composite(Image.new("RGB", size, colour), layer, step)
    return layer


def waves(pen: Pen, area: tuple[float, float], colours: Sequence[Colour], *, count: int, swing: float) -> None:
    """Cover an area with fine parallel waves, as on a banknote."""
    width, height = area
    for number in range(count):
        share = number / (count - 1)
        phase, base = share * tau * 1.5, -swing + share * (height + 2 * swing)
        line: list[Point] = []
        for x in range(-8, round(width) + 16, 8):
            wide = swing * sin(x / 118 + phase) * cos(x / 410 + share * pi)
            line.append((x, base + wide + swing / 3 * sin(x / 37 - phase)))
        pen.line(line, colours[number % len(colours)], 0.9)


def rosette(pen: Pen, centre: Point, radius: float, colours: Sequence[Colour], *, petals: int = 15) -> None:
    """Draw a guilloche: nested rings, each made of one wave repeated at several phases."""
    for number, (size, swing) in enumerate(((0.86, 0.14), (0.64, 0.12), (0.44, 0.1))):
        for ring in range(_RINGS):
            line: list[Point] = []
            for step in range(721):
                angle = step * tau / 720
                away = radius * (size + swing * cos((petals - 3 * number) * angle + ring * tau / _RINGS))
                line.append((centre[0] + away * cos(angle), centre[1] + away * sin(angle)))
            pen.line(line, colours[(ring + number) % len(colours)], 0.9)


def emblem(pen: Pen, centre: Point, radius: float, colour: Colour) -> None:
    """Draw the invented emblem: a seven-pointed star with a keyhole inside a ring."""
    x, y = centre
    tips = [
        (x + radius * far * sin(step * pi / 7), y - radius * far * cos(step * pi / 7))
        for step, far in enumerate((0.98, 0.56) * 7)
    ]
    ring = [(x + radius * 1.12 * cos(step * tau / 90), y + radius * 1.12 * sin(step * tau / 90)) for step in range(91)]
    pen.line(ring, colour, radius / 16)
    pen.shape(tips, colour)
    pen.disc((x, y - radius * 0.10), radius * 0.20, (255, 255, 255))
    pen.shape(
        [
            (x, y - radius * 0.15),
            (x + radius * 0.19, y + radius * 0.36),
            (x - radius * 0.19, y + radius * 0.36),
        ],
        (255,) * 3,
    )


def stamp(image: Image.Image, centre: Point, size: float, *, turn: float, strength: float) -> None:
    """Print SPECIMEN across a picture."""
    mask = Image.new("L", (round(size * 6.4) * FINE, round(size * 1.4) * FINE))
    pen = Pen(mask)
    pen.text((size * 3.2, size * 0.7), "SPECIMEN", (size, size / 36), round(255 * strength), anchor="mm")
    mask = mask.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    corner = (round(centre[0] * FINE - mask.width / 2), round(centre[1] * FINE - mask.height / 2))
    image.paste(RED, corner, mask)


def soft(
    image: Image.Image, mask: Image.Image, colour: Colour, blur: float, *, inside: Image.Image | None = None
) -> None:
    """Paint a colour through a blurred mask, clipped by another mask."""
    mask = mask.filter(ImageFilter.GaussianBlur(blur * FINE))
    image.paste(colour, (0, 0), ImageChops.multiply(mask, inside) if inside else mask)
