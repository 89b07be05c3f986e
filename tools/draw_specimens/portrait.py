"""The portrait of Ada Specimen, an invented person: a face made of splines."""

# Pillow's own types name numpy's, which need not be installed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from functools import cache
from typing import Final

from PIL import Image, ImageChops, ImageOps

from tools.draw_specimens.pen import FINE, GOLD, INK, RED, TEAL, Pen, Point, curve, gradient, points, soft

__all__ = ("HAIR", "PORTRAIT", "SHADE", "SKIN", "SKY", "draw_flat_portrait", "draw_portrait")

PORTRAIT: Final = (1000, 1250)  # the coordinates in which the face is designed

SKIN: Final = (236, 188, 160)
SHADE: Final = (176, 108, 92)
HAIR: Final = (62, 40, 58)
LIGHT: Final = (134, 92, 112)
WOOL: Final = (22, 108, 120)
LIP: Final = (184, 84, 88)
SKY: Final = (196, 220, 224)
WHITE: Final = (250, 248, 244)

_HEAD: Final = points(
    "500,850 590,826 668,742 702,620 706,500 670,390 590,322 500,304 410,322 330,390 294,500 298,620 332,742 410,826"
)
_BOB: Final = points(
    "505,176 650,204 762,318 802,480 812,650 806,800 742,892 640,902 500,862 360,902 258,892 194,800 "
    "188,650 198,480 240,318 356,204"
)
_FRINGE_RIGHT: Final = points("410,268 500,372 600,432 668,500 704,610 744,640 770,520 752,390 680,262 560,204 450,214")
_FRINGE_LEFT: Final = points("440,262 400,380 340,450 302,530 290,622 250,640 232,520 256,390 326,272 400,222")
_NECK: Final = points("412,740 588,740 596,900 612,966 560,1080 440,1080 388,966 404,900")
_SHOULDERS: Final = points(
    "60,1320 84,1150 176,1048 330,982 402,950 448,1016 500,1036 552,1016 598,950 670,982 824,1048 916,1150 940,1320"
)
_COLLAR: Final = points("386,948 404,928 448,996 500,1016 552,996 596,928 614,948 566,1034 500,1058 434,1034")


def draw_portrait(width: int) -> Image.Image:
    """Draw the bust on its background, `FINE` times as wide as `width`; reducing it smooths the lines."""
    size = (width * FINE, width * FINE * PORTRAIT[1] // PORTRAIT[0])
    return _drawn().resize(size, Image.Resampling.LANCZOS)


def draw_flat_portrait(width: int) -> Image.Image:
    """Draw the bust without shades and single hairs, in few colours, so that its file is small."""
    image = Image.new("RGB", (PORTRAIT[0] * FINE, PORTRAIT[1] * FINE), SKY)
    pen, head, neck = Pen(image), _mask(_HEAD), _mask(_NECK)
    image.paste(HAIR, (0, 0), _mask(_BOB))
    image.paste(SKIN, (0, 0), neck)
    image.paste(SHADE, (0, 0), ImageChops.multiply(neck, ImageChops.offset(head, 0, 44 * FINE)))
    image.paste(TEAL, (0, 0), _mask(_SHOULDERS))
    image.paste(SKIN, (0, 0), head)
    for x, side in ((402, 1), (598, -1)):
        _flat_eye(pen, x, side)
    pen.line(curve(((470, 696), (478, 712), (500, 718), (522, 712), (530, 696)), closed=False), SHADE, 7)
    pen.shape(
        curve(((424, 762), (470, 752), (500, 761), (530, 752), (576, 762), (538, 800), (500, 810), (462, 800))), RED
    )
    pen.line(curve(((424, 764), (470, 780), (500, 783), (530, 780), (576, 764)), closed=False), HAIR, 6)
    image.paste(HAIR, (0, 0), _mask(_FRINGE_RIGHT, _FRINGE_LEFT))
    for x in (292, 708):
        pen.disc((x, 742), 13, GOLD)
    return image.resize((width * FINE, width * FINE * PORTRAIT[1] // PORTRAIT[0]), Image.Resampling.LANCZOS)


def _flat_eye(pen: Pen, x: float, side: int) -> None:
    def at(path: str) -> list[Point]:
        return [(x + dx * side, 582 + dy) for dx, dy in points(path)]

    pen.shape(curve(at("-60,4 -30,-24 6,-32 38,-18 56,10 28,24 -6,28 -38,20")), WHITE)
    pen.disc((x, 582), 29, TEAL)
    pen.disc((x, 582), 14, INK)
    pen.disc((x - 9, 571), 8, WHITE)
    pen.line(curve(at("-68,-2 -32,-26 6,-34 40,-20 58,10"), closed=False), HAIR, 10)
    pen.shape(curve(at("-78,-70 -30,-100 30,-92 64,-70 30,-76 -26,-84")), HAIR)


@cache
def _drawn() -> Image.Image:
    image = gradient((PORTRAIT[0] * FINE, PORTRAIT[1] * FINE), ((222, 236, 236), (176, 208, 216)), 0)
    pen = Pen(image)
    _bust(pen)
    _face(pen)
    _fringe(pen)
    return image


def _mask(*shapes: tuple[Point, ...]) -> Image.Image:
    mask = Image.new("L", (PORTRAIT[0] * FINE, PORTRAIT[1] * FINE))
    pen = Pen(mask)
    for shape in shapes:
        pen.shape(curve(shape), 255)
    return mask


def _disc(centre: Point, radius: float, level: int = 255, *, tall: float = 1) -> Image.Image:
    mask = Image.new("L", (PORTRAIT[0] * FINE, PORTRAIT[1] * FINE))
    Pen(mask).disc(centre, radius, level, tall=tall)
    return mask


def _bust(pen: Pen) -> None:
    bob, neck, shoulders = _mask(_BOB), _mask(_NECK), _mask(_SHOULDERS)
    soft(pen.image, bob, (60, 90, 110), 26)
    pen.image.paste(HAIR, (0, 0), bob)
    pen.image.paste(SKIN, (0, 0), neck)
    soft(pen.image, _disc((500, 800), 130, 190, tall=0.9), SHADE, 26, inside=neck)
    pen.image.paste(WOOL, (0, 0), shoulders)
    soft(pen.image, _disc((250, 1120), 170, 120), (96, 184, 184), 70, inside=shoulders)
    soft(pen.image, _disc((860, 1260), 240, 170), (8, 62, 78), 80, inside=shoulders)
    yarn = Image.new("L", pen.image.size)
    for row in range(26):
        knit = [(x, 960 + row * 16 + 3 * ((x // 9) % 2) + ((x - 500) / 130) ** 2) for x in range(40, 970, 9)]
        Pen(yarn).line(knit, 46, 2)
    pen.image.paste((230, 250, 250), (0, 0), ImageChops.multiply(yarn, shoulders))
    pen.shape(curve(_COLLAR), (14, 84, 98))
    pen.line(curve(_COLLAR[:7], closed=False), (70, 156, 160), 3)


def _face(pen: Pen) -> None:
    head = _mask(_HEAD)
    pen.image.paste(SKIN, (0, 0), head)
    soft(
        pen.image,
        ImageOps.invert(_disc((470, 560), 205, tall=1.36)),
        SHADE,
        44,
        inside=head.point([n * 5 // 8 for n in range(256)]),
    )
    soft(pen.image, _disc((440, 470), 90, 120), (255, 226, 204), 50, inside=head)
    for x in (372, 628):
        soft(pen.image, _disc((x, 690), 50, 130), (228, 112, 104), 24, inside=head)
    soft(pen.image, _disc((524, 660), 22, 110, tall=2.4), SHADE, 14, inside=head)
    for x, side in ((402, 1), (598, -1)):
        _eye(pen, x, side)
    pen.line(curve(((470, 696), (478, 712), (500, 718), (522, 712), (530, 696)), closed=False), (168, 96, 84), 4)
    soft(pen.image, _disc((494, 676), 14, 150, tall=1.3), (255, 232, 214), 7)
    soft(pen.image, _disc((500, 812), 44, 110, tall=0.3), SHADE, 8)
    pen.shape(
        curve(((424, 762), (470, 752), (500, 761), (530, 752), (576, 762), (530, 781), (500, 784), (470, 781))),
        LIP,
    )
    pen.shape(
        curve(((424, 762), (470, 780), (500, 783), (530, 780), (576, 762), (538, 800), (500, 810), (462, 800))),
        (206, 108, 108),
    )
    pen.line(
        curve(((414, 756), (428, 765), (470, 780), (500, 783), (530, 780), (572, 765), (586, 756)), closed=False),
        (120, 48, 56),
        3.5,
    )
    soft(pen.image, _disc((492, 793), 22, 150, tall=0.28), (248, 190, 184), 4)


def _eye(pen: Pen, x: float, side: int) -> None:
    """Draw one eye and its brow; `side` is 1 where the outer corner is on the left."""

    def at(*points: Point) -> list[Point]:
        return [(x + dx * side, 582 + dy) for dx, dy in points]

    soft(pen.image, _disc((x, 556), 58, 110, tall=0.5), (150, 92, 96), 12)
    white = at((-60, 4), (-30, -24), (6, -32), (38, -18), (56, 10), (28, 24), (-6, 28), (-38, 20))
    eye = _mask(tuple(white))
    pen.image.paste((250, 248, 244), (0, 0), eye)
    iris = Image.new("RGB", pen.image.size, (36, 96, 104))
    inner = Pen(iris)
    inner.disc((x, 580), 31, (18, 58, 72))
    inner.disc((x, 580), 27, (48, 124, 128))
    inner.disc((x, 586), 20, (94, 170, 160), tall=0.8)
    inner.disc((x, 580), 13, (14, 22, 32))
    pen.image.paste(iris, (0, 0), ImageChops.multiply(eye, _disc((x, 580), 31)))
    soft(pen.image, _disc((x, 548), 60, 130, tall=0.3), (70, 60, 80), 6, inside=eye)
    pen.disc((x - 9, 569), 8, (255, 255, 255))
    pen.disc((x + 10, 592), 3.5, (220, 240, 240))
    lid = at((-68, -2), (-32, -26), (6, -34), (40, -20), (58, 10))
    pen.line(curve(lid, closed=False), (40, 24, 36), 8)
    pen.line(curve(at((-66, -4), (-82, -20)), closed=False), (40, 24, 36), 5)
    pen.line(curve(at((-54, 8), (-30, 22), (-4, 29), (28, 25)), closed=False), (150, 90, 90), 2.5)
    pen.line(curve(at((-50, -38), (-10, -54), (36, -44)), closed=False), (170, 106, 96), 3)
    pen.shape(curve(at((-78, -70), (-30, -100), (30, -92), (64, -70), (30, -76), (-26, -84))), (74, 48, 60))


def _fringe(pen: Pen) -> None:
    fringe, forehead = _mask(_FRINGE_RIGHT, _FRINGE_LEFT), _mask(_HEAD).point([n // 2 for n in range(256)])
    soft(pen.image, ImageChops.offset(fringe, 0, 24), SHADE, 12, inside=forehead)
    pen.image.paste(HAIR, (0, 0), fringe)
    hair = ImageChops.subtract(ImageChops.lighter(_mask(_BOB), fringe), _bare())
    soft(pen.image, _disc((610, 330), 70, 190, tall=0.9), LIGHT, 44, inside=hair)
    soft(pen.image, _disc((280, 430), 60, 170, tall=1.9), LIGHT, 44, inside=hair)
    locks = Image.new("L", pen.image.size)
    for strand in range(26):
        share = strand / 25
        root, level = (424.0, 262 - 56 * share), 70 if strand % 3 else 130
        right = (
            root,
            (540 + 70 * share, 350 - 116 * share),
            (700 + 70 * share, 560 - 100 * share),
            (712 + 84 * share, 900),
        )
        left = (
            root,
            (366 - 66 * share, 370 - 110 * share),
            (288 - 66 * share, 560 - 80 * share),
            (286 - 84 * share, 900),
        )
        for lock in (right, left):
            Pen(locks).line(curve(lock, closed=False), level, 2.2)
    pen.image.paste(LIGHT, (0, 0), ImageChops.multiply(locks, hair))
    for x in (292, 708):
        pen.disc((x, 742), 11, (206, 166, 84))
        pen.disc((x - 3, 738), 4, (255, 240, 200))


def _bare() -> Image.Image:
    """Return the mask of skin and wool in front of the hair."""
    skin = ImageChops.subtract(_mask(_HEAD), _mask(_FRINGE_RIGHT, _FRINGE_LEFT))
    return ImageChops.lighter(skin, ImageChops.lighter(_mask(_NECK), _mask(_SHOULDERS)))
