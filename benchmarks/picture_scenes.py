"""Draws photographs of invented documents and faces, and spoils them by known amounts.

A scene is drawn in three steps: a card with guilloches, text, a portrait and a machine-readable zone; a photograph of
it, on a background, at an angle, in uneven light; the camera, which adds noise and writes a JPEG. Faults
are added between the second and the third step, as blur and glare happen before the sensor.
"""

# Pillow's own types name numpy's, which need not be installed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from colorsys import hsv_to_rgb
from functools import cache
from io import BytesIO
from math import cos, pi, radians, sin
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from tools.draw_specimens.pen import FINE, Pen, gradient, rosette, waves
from tools.draw_specimens.portrait import draw_portrait

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

__all__ = ("FACE_FAULTS", "FAULTS", "Fault", "Scene", "draw_document", "draw_face_scene", "photograph", "write_jpeg")

_CARD: Final = (1200, 757)  # the shape of an ID-1 card
_PASSPORT: Final = (1100, 775)  # the shape of the data page of a passport
_MEGAPIXELS: Final = (0.5, 0.8, 1, 1, 1.5)
_NOISE_SIDE: Final = 512
_NOISE_SIGMA: Final = 30.0
_LETTERS: Final = "ABCDEFGHIKLMNOPRSTUVXYZ"


@frozen
class Scene:
    """A sharp photograph before the sensor.

    Attributes:
        image: The picture.
        card: Left, top, right and bottom of the document in it, in pixels; of the face for a selfie.
        noise: Standard deviation of the sensor's noise, in levels of 255.
        quality: Quality of the JPEG.
        seed: Makes the noise reproducible.
    """

    image: Image.Image
    card: tuple[float, float, float, float]
    noise: float
    quality: int
    seed: int


@frozen
class Fault:
    """One way to spoil a picture.

    Attributes:
        check: The check that should find it.
        name: How tables name it.
        strengths: Strengths, weakest first, and in `unit`.
        unit: The unit.
        matters: The weakest strength that makes a picture useless: at this and stronger ones, recall is asked for.
        apply: Spoils a scene.
    """

    check: str
    name: str
    strengths: tuple[float, ...]
    unit: str
    matters: float
    apply: Callable[[Scene, float, Random], Image.Image]


def draw_document(rng: Random) -> Image.Image:
    """Draw a card or the data page of a passport, with an invented layout and random text."""
    width, height = size = _CARD if _happens(rng, 0.7) else _PASSPORT
    hues = [_colour(rng, 0.15, 0.35), _colour(rng, 0.05, 0.2), _colour(rng, 0.15, 0.35)]
    card = gradient((width * FINE, height * FINE), hues, rng.uniform(0, 180))
    pen, ink, line = Pen(card), _colour(rng, 0.6, 0.4, light=0.2), _colour(rng, 0.6, 0.4, light=0.5)
    waves(pen, size, ((*line, 70), (*ink, 50)), count=rng.randint(30, 90), swing=rng.uniform(20, 60))
    if _happens(rng, 0.7):
        rosette(pen, (width * rng.uniform(0.5, 0.9), height * rng.uniform(0.4, 0.7)), 200, ((*line, 110), (*ink, 90)))
    top = 0.0
    if _happens(rng, 0.6):
        top = height * rng.uniform(0.12, 0.2)
        pen.plate((0, 0, width, top), 0, (*line, 220))
        pen.text((width * 0.05, top * 0.7), _words(rng, 22), (top * 0.4, 1), (255, 255, 255))
    wide = width * rng.uniform(0.22, 0.3)
    left = width * (0.05 if _happens(rng, 0.8) else 0.67)
    portrait = draw_portrait(round(wide))
    if _happens(rng, 0.4):
        portrait = ImageOps.grayscale(portrait).convert("RGB")
    card.paste(portrait, (round(left * FINE), round((top + height * 0.06) * FINE)))
    fields = left + wide + width * 0.04 if left < width / 2 else width * 0.05
    zone = height * 0.72 if _happens(rng, 0.5) else height
    step = height * rng.uniform(0.1, 0.14)
    y = top + height * 0.1
    while y < zone - height * 0.05:
        pen.text((fields, y), _words(rng, 14), (height * 0.024, 0), ink)
        pen.text((fields, y + height * 0.05), _words(rng, rng.randint(6, 14)), (height * 0.045, 0.6), (24, 26, 34))
        y += step
    if zone < height:
        pen.plate((0, zone, width, height), 0, (255, 255, 255, 130))
        for row in range(2):
            text = "".join(rng.choice(_LETTERS + "<<<<0123456789") for _ in range(36))
            pen.text((width * 0.04, zone + height * (0.12 + 0.1 * row)), text, (width * 0.03, 0.6), (20, 20, 24))
    return card.resize((width * 3 // 2, height * 3 // 2), Image.Resampling.LANCZOS)


def draw_face_scene(rng: Random) -> Scene:
    """Draw a selfie: the bust in front of a background, framed and lit at random."""
    size = _picture_size(rng, portrait=True)
    bust = draw_portrait(700)
    mask = Image.new("L", bust.size)
    ImageDraw.Draw(mask).ellipse(
        (bust.width * 0.08, bust.height * 0.05, bust.width * 0.92, bust.height * 1.4), fill=255
    )
    background = _background(rng, size)
    wide = round(min(size[0], size[1] * 0.8) * rng.uniform(0.7, 1.1))
    high = wide * bust.height // bust.width
    face = bust.resize((wide, high), Image.Resampling.LANCZOS)
    face = ImageEnhance.Brightness(face).enhance(rng.choice((0.45, 0.6, 0.8, 1.0)))  # skin of every tone
    corner = ((size[0] - wide) // 2, max((size[1] - high) // 2, 0))
    background.paste(face, corner, mask.resize((wide, high)).filter(ImageFilter.GaussianBlur(1)))
    box = (corner[0] + 0.28 * wide, corner[1] + 0.22 * high, corner[0] + 0.72 * wide, corner[1] + 0.68 * high)
    return Scene(_light(rng, background), box, rng.uniform(0, 6), rng.randint(60, 95), rng.randrange(2**32))


def photograph(rng: Random, document: Image.Image) -> Scene:
    """Lay a document on a background and photograph it: margins, a slight turn and perspective, uneven light."""
    size = _picture_size(rng, portrait=_happens(rng, 0.25))
    share = rng.uniform(0.6, 0.9)
    wide = min(size[0] * share, size[1] * share * document.width / document.height)
    high = wide * document.height / document.width
    turn = radians(rng.gauss(0, 3))
    # The turned document must stay inside.
    fit = min(
        1.0,
        0.92 * size[0] / (wide * abs(cos(turn)) + high * abs(sin(turn))),
        0.92 * size[1] / (wide * abs(sin(turn)) + high * abs(cos(turn))),
    )
    wide, high = wide * fit, high * fit
    room = (
        (size[0] - wide * cos(turn) - high * abs(sin(turn))) / 2 - 0.03 * max(size),
        (size[1] - wide * abs(sin(turn)) - high * cos(turn)) / 2 - 0.03 * max(size),
    )
    centre = (
        size[0] / 2 + rng.uniform(-1, 1) * max(0.0, room[0]),
        size[1] / 2 + rng.uniform(-1, 1) * max(0.0, room[1]),
    )
    corners: list[tuple[float, float]] = []
    for x, y in ((-1, -1), (-1, 1), (1, 1), (1, -1)):
        across, down = x * wide / 2 * rng.uniform(0.97, 1), y * high / 2 * rng.uniform(0.97, 1)
        corners.append(
            (centre[0] + across * cos(turn) - down * sin(turn), centre[1] + across * sin(turn) + down * cos(turn))
        )
    background = _background(rng, size)
    laid = _lay(document, size, corners)
    mask = _lay(_rounded(document.size), size, corners)
    shadow = mask.resize((256, 256)).filter(ImageFilter.GaussianBlur(rng.uniform(2, 6))).resize(size)
    shade = ImageChops.multiply(background, Image.new("RGB", size, (110,) * 3))
    drop = round(size[0] * 0.004)
    background.paste(shade, (0, 0), ImageChops.offset(shadow, drop, drop))
    background.paste(laid, (0, 0), mask)
    left, right = (edge(x for x, _ in corners) for edge in (min, max))
    top, bottom = (edge(y for _, y in corners) for edge in (min, max))
    noise, quality = rng.uniform(0, 6), rng.randint(60, 95)
    # A lens is never perfect: up to 0.08 % of the longer side, 1.3 pixels of 1600.
    image = background.filter(ImageFilter.GaussianBlur(max(size) * rng.uniform(0, 0.0008)))
    return Scene(_light(rng, image), (left, top, right, bottom), noise, quality, rng.randrange(2**32))


def write_jpeg(scene: Scene, image: Image.Image) -> bytes:
    """Add the noise of the sensor, and write a JPEG."""
    if scene.noise > 0:
        noise = Image.merge("RGB", [_noise(image.size, scene.noise, scene.seed + number) for number in range(3)])
        image = ImageChops.add(image, noise, scale=1, offset=-128)
    out = BytesIO()
    image.save(out, "JPEG", quality=scene.quality)
    return out.getvalue()


@cache
def _noise_tile() -> Image.Image:
    return Image.effect_noise((_NOISE_SIDE, _NOISE_SIDE), _NOISE_SIGMA)


def _noise(size: tuple[int, int], sigma: float, seed: int) -> Image.Image:
    # One tile is repeated from a random place: noise for every pixel would take longer than everything else.
    table = [round(128 + (level - 128) * sigma / _NOISE_SIGMA) for level in range(256)]
    tile, wide = _noise_tile().point(table), Image.new("L", size)
    for x in range(-(seed * 7919 % _NOISE_SIDE), size[0], _NOISE_SIDE):
        for y in range(-(seed * 104729 % _NOISE_SIDE), size[1], _NOISE_SIDE):
            wide.paste(tile, (x, y))
    return wide


def _picture_size(rng: Random, *, portrait: bool) -> tuple[int, int]:
    pixels = rng.choice(_MEGAPIXELS) * 1e6
    ratio = rng.choice((4 / 3, 3 / 2, 16 / 9))
    longer, shorter = round((pixels * ratio) ** 0.5), round((pixels / ratio) ** 0.5)
    return (shorter, longer) if portrait else (longer, shorter)


def _colour(rng: Random, saturation: float, spread: float, *, light: float = 0.92) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in hsv_to_rgb(rng.random(), saturation + rng.random() * spread / 2, light))


def _happens(rng: Random, share: float) -> bool:
    return rng.random() < share


def _words(rng: Random, length: int) -> str:
    return "".join(rng.choice(_LETTERS + "   ") for _ in range(length)).strip()


def _background(rng: Random, size: tuple[int, int]) -> Image.Image:
    """Return a table: plain, grained wood, cloth, stone, or blurred clutter."""
    kind = rng.choice(("plain", "plain", "wood", "cloth", "stone", "clutter"))
    base, other = (_colour(rng, 0.05, 0.8, light=rng.uniform(0.12, 0.75)) for _ in range(2))
    if kind == "plain":
        return gradient(size, (base, tuple(max(0, part - 25) for part in base)), rng.uniform(0, 180))
    if kind == "clutter":
        image = Image.new("RGB", (64, 64), base)
        pen = ImageDraw.Draw(image)
        for _ in range(14):
            x, y = rng.uniform(0, 64), rng.uniform(0, 64)
            pen.rectangle(
                (x, y, x + rng.uniform(4, 30), y + rng.uniform(4, 30)), fill=_colour(rng, 0.1, 0.9, light=rng.random())
            )
        return image.filter(ImageFilter.GaussianBlur(2)).resize(size, Image.Resampling.BICUBIC)
    grain = Image.effect_noise((512, 512), 40)
    if kind == "wood":
        grain = (
            grain.resize((512, 16)).resize((512, 512), Image.Resampling.BICUBIC)
            if _happens(rng, 0.5)
            else (grain.resize((16, 512)).resize((512, 512), Image.Resampling.BICUBIC))
        )
    elif kind == "stone":
        grain = grain.filter(ImageFilter.GaussianBlur(3))
    relief = ImageOps.autocontrast(grain, cutoff=1).resize(size, Image.Resampling.BICUBIC)
    mild = relief.point([round(128 + (level - 128) * rng.uniform(0.2, 0.5)) for level in range(256)])
    return ImageOps.colorize(mild, tuple(part // 2 for part in base), base if _happens(rng, 0.7) else other)


def _rounded(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius=size[0] // 30, fill=255)
    return mask


def _lay(image: Image.Image, size: tuple[int, int], corners: list[tuple[float, float]]) -> Image.Image:
    """Return a picture whose corners (from the upper left, against the clock) lie at points of a larger one."""
    x = [corner[0] for corner in corners]
    # A reduction before the transformation avoids aliasing, which would look sharper than any camera.
    shrink = max(1, image.width // max(1, round(max(x) - min(x))))
    small = image.reduce(shrink) if shrink > 1 else image
    sides = [(0, 0), (0, small.height), (small.width, small.height), (small.width, 0)]
    return small.transform(size, Image.Transform.PERSPECTIVE, _solve(corners, sides), Image.Resampling.BICUBIC)


def _solve(at: list[tuple[float, float]], to: list[tuple[int, int]]) -> list[float]:
    """Return the eight numbers of the perspective that takes four points to four others (Gauss's elimination)."""
    rows: list[list[float]] = []
    for (x, y), (u, v) in zip(at, to, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, v])
    for column in range(8):
        pivot = max(range(column, 8), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = rows[column][column]
        rows[column] = [value / lead for value in rows[column]]
        for row in range(8):
            if row != column:
                factor = rows[row][column]
                rows[row] = [value - factor * head for value, head in zip(rows[row], rows[column], strict=True)]
    return [row[8] for row in rows]


def _light(rng: Random, image: Image.Image) -> Image.Image:
    """Multiply by uneven light, and change exposure and white balance a little."""
    dark = round(255 * rng.uniform(0.65, 1))
    ramp = gradient(image.size, ((255, 255, 255), (dark,) * 3), rng.uniform(0, 360))
    lit = ImageChops.multiply(image, ramp)
    gain = rng.uniform(0.75, 1.1)
    bands = [band.point(_gain_table(gain * rng.uniform(0.93, 1.05))) for band in lit.split()]
    return Image.merge("RGB", bands)


def _gain_table(gain: float) -> list[int]:
    return [min(255, round(level * gain)) for level in range(256)]


# ---- Faults --------------------------------------------------------------------------------------------------------


def _blur(scene: Scene, strength: float, _: Random) -> Image.Image:
    return scene.image.filter(ImageFilter.GaussianBlur(max(scene.image.size) * strength / 100))


def _shake(scene: Scene, strength: float, rng: Random) -> Image.Image:
    """Average copies along a line: the camera moved while the shutter was open."""
    length = max(scene.image.size) * strength / 100
    angle = rng.uniform(0, pi)
    steps = max(2, min(16, round(length)))
    total: Image.Image | None = None
    for step in range(steps):
        away = (step / (steps - 1) - 0.5) * length
        moved = scene.image.transform(
            scene.image.size,
            Image.Transform.AFFINE,
            (1, 0, away * cos(angle), 0, 1, away * sin(angle)),
            Image.Resampling.BILINEAR,
        )
        total = moved if total is None else Image.blend(total, moved, 1 / (step + 1))
    assert total is not None
    edge = round(length / 2) + 1
    total = total.crop((edge, edge, total.width - edge, total.height - edge))  # transform leaves it black
    # Steps farther apart than a pixel would leave ghosts, which a real shutter does not.
    return total.filter(ImageFilter.GaussianBlur(length / steps / 2))


def _glare(scene: Scene, strength: float, rng: Random) -> Image.Image:
    """Reflect a lamp on the document: a white spot of a share of its area, with a soft halo."""
    left, top, right, bottom = scene.card
    area = (right - left) * (bottom - top) * strength / 100
    stretch = rng.uniform(0.6, 1.6)
    across, down = (area / pi * stretch) ** 0.5, (area / pi / stretch) ** 0.5
    x = rng.uniform(min(left + across, (left + right) / 2), max(right - across, (left + right) / 2))
    y = rng.uniform(min(top + down, (top + bottom) / 2), max(bottom - down, (top + bottom) / 2))
    scale = max(scene.image.size) / 256
    size = (round(scene.image.width / scale), round(scene.image.height / scale))
    spot = Image.new("L", size)
    soft = rng.uniform(0.15, 0.35)  # width of the halo, as a share of the spot
    grow = 1 + soft
    box = [
        (x - across * grow) / scale,
        (y - down * grow) / scale,
        (x + across * grow) / scale,
        (y + down * grow) / scale,
    ]
    ImageDraw.Draw(spot).ellipse(box, fill=255)
    blur = soft * min(across, down) / scale
    light = spot.filter(ImageFilter.GaussianBlur(blur)).resize(scene.image.size, Image.Resampling.BICUBIC)
    # Brighter than white, so that the spot itself is clipped.
    light = light.point(_gain_table(1.5))
    return ImageChops.add(scene.image, Image.merge("RGB", [light] * 3))


def _darken(scene: Scene, strength: float, _: Random) -> Image.Image:
    """Take away light, in stops: each halves it, before the camera's gamma of 2.2."""
    return scene.image.point(_gain_table(2 ** (-strength / 2.2)) * 3)


def _brighten(scene: Scene, strength: float, _: Random) -> Image.Image:
    return scene.image.point(_gain_table(2 ** (strength / 2.2)) * 3)


def _clip(scene: Scene, strength: float, _: Random) -> Image.Image:
    """Add light until such a share of the face is white. The same stops spoil light skin only."""
    red, green, blue = scene.image.crop(scene.card).split()
    darkest = sorted(ImageChops.darker(ImageChops.darker(red, green), blue).tobytes())
    level = darkest[round((len(darkest) - 1) * (1 - strength / 100))]
    return scene.image.point(_gain_table(255 / max(1, level)) * 3)


def _fade(scene: Scene, strength: float, _: Random) -> Image.Image:
    """Take away contrast: 75 leaves a quarter of it."""
    return Image.blend(scene.image, Image.new("RGB", scene.image.size, (150,) * 3), strength / 100)


def _crop(scene: Scene, strength: float, rng: Random) -> Image.Image:
    """Cut off a share of the document at a random side."""
    left, top, right, bottom = scene.card
    width, height = scene.image.size
    side = rng.randrange(4)
    across, down = (right - left) * strength / 100, (bottom - top) * strength / 100
    box = (
        (left + across, 0, width, height),
        (0, top + down, width, height),
        (0, 0, right - across, height),
        (0, 0, width, bottom - down),
    )[side]
    return scene.image.crop((round(box[0]), round(box[1]), round(box[2]), round(box[3])))


def _fill_frame(scene: Scene, strength: float, _: Random) -> Image.Image:
    """Cut off a share of the document at every side, as pictures from too near do."""
    left, top, right, bottom = scene.card
    across, down = (right - left) * strength / 100, (bottom - top) * strength / 100
    return scene.image.crop((round(left + across), round(top + down), round(right - across), round(bottom - down)))


def _shrink(scene: Scene, strength: float, _: Random) -> Image.Image:
    """Make the document so many pixels wide, as thumbnails and messengers do."""
    image = scene.image.copy()
    longer = max(scene.card[2] - scene.card[0], scene.card[3] - scene.card[1])
    factor = min(1.0, strength / longer)
    image.thumbnail((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    return image


def _copy(scene: Scene, strength: float, _: Random) -> Image.Image:
    """Take away colour, and leave the cast of a lamp."""
    grey = ImageOps.colorize(scene.image.convert("L"), (12, 8, 4), (255, 248, 232))
    return Image.blend(scene.image, grey, strength / 100)


def _screen(scene: Scene, strength: float, rng: Random) -> Image.Image:
    """Photograph a screen: its dots and the camera's interfere in bands."""
    period = max(scene.image.size) / rng.uniform(100, 350)
    tile = Image.new("L", (64, 64))
    tile.putdata(
        [
            round(128 + 127 * strength / 100 * cos(2 * pi * x / 8) * cos(2 * pi * y / 8))
            for y in range(64)
            for x in range(64)
        ]
    )
    turn = rng.uniform(-0.5, 0.5)
    scale = 8 / period
    bands = Image.new("L", (512, 512))
    for x in range(0, 512, 64):
        for y in range(0, 512, 64):
            bands.paste(tile, (x, y))
    width, height = scene.image.size
    out = Image.new("L", scene.image.size)
    step = int(440 / scale / 1.5)
    for x in range(0, width, step):
        for y in range(0, height, step):
            part = bands.transform(
                (min(step, width - x), min(step, height - y)),
                Image.Transform.AFFINE,
                (
                    scale * cos(turn),
                    scale * sin(turn),
                    64 + (x * scale * cos(turn) + y * scale * sin(turn)) % 8,
                    -scale * sin(turn),
                    scale * cos(turn),
                    240 + (-x * scale * sin(turn) + y * scale * cos(turn)) % 8,
                ),
                Image.Resampling.BILINEAR,
            )
            out.paste(part, (x, y))
    return ImageChops.add(scene.image, Image.merge("RGB", [out] * 3), scale=1, offset=-128)


FAULTS: Final = (
    Fault("sharpness", "blur", (0.1, 0.2, 0.3, 0.5), "sigma, % of the longer side", 0.2, _blur),
    Fault("sharpness", "shake", (0.3, 0.6, 1.0, 1.5), "% of the longer side", 1.0, _shake),
    Fault("glare", "glare", (0.5, 1.0, 2.0, 4.0), "% of the document", 2.0, _glare),
    Fault("brightness", "darkness", (2.0, 3.0, 4.0, 5.0), "stops", 4.0, _darken),
    Fault("overexposure", "overexposure", (0.5, 1.0, 2.0, 3.0), "stops", 2.0, _brighten),
    Fault("contrast", "haze", (50.0, 70.0, 80.0, 90.0), "% of the contrast removed", 80.0, _fade),
    Fault("document_edges", "one side cut", (1.0, 3.0, 5.0, 10.0), "% of the document", 3.0, _crop),
    Fault("document_edges", "all sides cut", (1.0, 3.0, 5.0, 10.0), "% of the document", 10.0, _fill_frame),
    Fault("resolution", "few pixels", (800.0, 600.0, 500.0, 400.0), "pixels of the document", 400.0, _shrink),
    Fault("colour", "black-and-white copy", (50.0, 80.0, 90.0, 100.0), "% of the colour removed", 100.0, _copy),
    Fault("moire", "photo of a screen", (4.0, 8.0, 16.0), "% of the range of levels", 8.0, _screen),
)
# A face is recognised with more blur than small print is read.
_FACE_MATTERS: Final = {"blur": 0.3, "shake": 1.0, "darkness": 4.0, "haze": 80.0}
FACE_FAULTS: Final = (
    *(evolve(fault, matters=_FACE_MATTERS[fault.name]) for fault in FAULTS if fault.name in _FACE_MATTERS),
    Fault("overexposure", "overexposure", (20.0, 40.0, 60.0, 80.0), "% of the face without detail", 60.0, _clip),
)
