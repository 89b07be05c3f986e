"""Draw the specimens: front and back of an invented identity card, and a drawn face.

Run it to draw them again: `python -m tools.draw_specimens [FOLDER]` (Pillow, from the extra
`[images]`). The country, its emblem and the person are invented, and every picture says SPECIMEN. XEX is one
of the country codes that ISO 3166 leaves to its users, so no state has it. Seeds are fixed: the same Pillow
draws the same pixels.
"""

# Pillow's own types name numpy's, which need not be installed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from io import BytesIO
from random import Random
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from tools.draw_specimens.pen import (
    FINE,
    GOLD,
    INK,
    PALE,
    RED,
    ROSE,
    TEAL,
    Pen,
    curve,
    emblem,
    gradient,
    grain,
    points,
    rosette,
    stamp,
    waves,
)  # fmt: skip
from tools.draw_specimens.portrait import draw_portrait

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("PICTURES", "check_digit", "encode", "machine_lines")

# Cards and face are designed in these coordinates, and written at `SCALE` of them.
CARD: Final = (1640, 1034)  # the shape of an ID-1 card, 85.6 mm x 54 mm
SHEET: Final = (1840, 1234)
SELFIE: Final = (1280, 1600)
SCALE: Final = 0.5

MAX_BYTES: Final = 56_000
"""Size limit of one JPEG. The three pictures together stay below 170 KiB, a quarter of the wheel."""

_NOTICE: Final = "SPECIMEN  ·  NOT A DOCUMENT  ·  NO STATE ISSUES THIS CARD"
_FIELDS: Final = (
    (600, 318, "Surname / Familia nomo", "SPECIMEN"),
    (600, 424, "Given name / Persona nomo", "ADA"),
    (600, 530, "Date of birth / Nasko", "10 DEC 1990"),
    (1000, 530, "Sex / Sekso", "F"),
    (600, 636, "Nationality / Nacieco", "XEX"),
    (1000, 636, "Card no. / Karto n-ro", "SPEC00042"),
    (600, 742, "Issued / Eldonita", "01 JAN 2026"),
    (1000, 742, "Expires / Valida", "31 DEC 2035"),
)
_SIGNATURE: Final = (
    points(
        "0,60 34,-34 52,-46 56,20 64,60 40,26 22,22 70,20 92,26 84,54 104,56 128,20 138,-40 128,40 140,58 "
        "176,30 156,28 148,50 166,56 182,28 182,54 214,40"
    ),
    points(
        "300,-30 268,-44 250,-16 290,8 296,40 256,64 238,44 290,50 322,24 318,96 326,30 350,26 344,56 "
        "368,50 390,30 374,24 372,54 404,50 424,28 416,54 452,48 470,28 466,56 488,28 492,54 514,28 "
        "518,54 590,40 640,14"
    ),
)


def draw_front() -> Image.Image:
    """Draw the side with the portrait."""
    card = _paper(((206, 232, 232), (250, 238, 222), (228, 218, 240)))
    pen = Pen(card)
    _heading(pen, "IDENTITY CARD  ·  IDENTECA KARTO")
    rosette(pen, (1330, 520), 290, ((*TEAL, 120), (*ROSE, 110), (*GOLD, 110)), petals=15)
    _photo(pen, (84, 250), 440)
    for x, y, label, value in _FIELDS:
        pen.text((x, y), label, (22, 0), PALE)
        pen.text((x, y + 44), value, (42, 0.9), INK)
    pen.text((600, 848), "Signature / Subskribo", (22, 0), PALE)
    for stroke in _SIGNATURE:
        pen.line(curve([(620 + x * 0.78, 908 + y * 0.62) for x, y in stroke], closed=False), (26, 40, 110), 3.4)
    _chip(pen, (1388, 250))
    _ghost(pen, (1330, 640), 150)
    pen.text((820, 1002), "SPECIMEN  ·  NOT A DOCUMENT  ·  NO STATE ISSUES THIS CARD", (23, 0.5), RED, anchor="ms")
    stamp(card, (840, 600), 208, turn=24, strength=0.3)
    return _photograph(card, 11)


def draw_back() -> Image.Image:
    """Draw the side with the machine-readable lines."""
    card = _paper(((230, 220, 240), (246, 240, 222), (204, 230, 228)))
    pen = Pen(card)
    _heading(pen, "CARD OF AN INVENTED PERSON  ·  ELPENSITA")
    rosette(pen, (420, 470), 250, ((*ROSE, 130), (*TEAL, 110), (*GOLD, 120)), petals=15)
    emblem(pen, (420, 470), 92, (*TEAL, 210))
    fields = (
        (760, 274, "Place of birth / Naskoloko", "PORT SAMPLE"),
        (760, 380, "Address / Adreso", "1 EXAMPLE QUAY, PORT SAMPLE"),
        (760, 486, "Authority / Oficejo", "OFFICE OF SPECIMENS"),
        (760, 592, "Height / Alteco", "170 CM"),
        (1060, 592, "Eyes / Okuloj", "TEAL"),
    )
    for x, y, label, value in fields:
        pen.text((x, y), label, (22, 0), PALE)
        pen.text((x, y + 42), value, (38, 0.8), INK)
    _barcode(pen, (1290, 500), 270, 150)
    pen.plate((0, 706, CARD[0], 980), 0, (255, 255, 255, 150))
    for row, line in enumerate(machine_lines()):
        for column, character in enumerate(line):
            pen.text((84 + 50.7 * column, 780 + row * 84), character, (50, 0.7), (20, 20, 24), anchor="ms")
    pen.text((820, 1016), "SPECIMEN  ·  NOT A DOCUMENT  ·  NO STATE ISSUES THIS CARD", (23, 0.5), RED, anchor="ms")
    stamp(card, (830, 500), 208, turn=24, strength=0.3)
    return _photograph(card, 12)


def draw_face() -> Image.Image:
    """Draw the selfie in the style of an engraving, so that it cannot pass for a photograph."""
    image = draw_portrait(SELFIE[0])
    pen = Pen(image)
    pen.plate((0, 1440, SELFIE[0], SELFIE[1]), 0, (250, 246, 236, 236))
    pen.text((640, 1502), "SPECIMEN", (74, 2), RED, anchor="mm")
    pen.text((640, 1560), "A drawing, not a person", (26, 0), INK, anchor="mm")
    stamp(image, (330, 190), 92, turn=14, strength=0.34)
    return grain(image.resize(_scaled(SELFIE), Image.Resampling.LANCZOS), 13, 0.04)


def machine_lines() -> tuple[str, str, str]:
    """Return the three machine-readable lines of a TD1 card with their check digits (ICAO 9303 part 5)."""
    number, birth, expiry = "SPEC00042", "901210", "351231"
    first = f"I<XEX{number}{check_digit(number)}".ljust(30, "<")
    dates = f"{birth}{check_digit(birth)}F{expiry}{check_digit(expiry)}"
    composite = check_digit(first[5:] + dates[:7] + dates[8:] + "<" * 11)
    return first, f"{dates}XEX{'<' * 11}{composite}", "SPECIMEN<<ADA".ljust(30, "<")


def check_digit(field: str) -> int:
    """Return the check digit of a field of the machine-readable lines (ICAO 9303 part 3, section 4.9)."""
    values = (0 if character == "<" else int(character, 36) for character in field)
    return sum(value * (7, 3, 1)[index % 3] for index, value in enumerate(values)) % 10


def _paper(colours: tuple[tuple[int, ...], ...]) -> Image.Image:
    card = gradient((CARD[0] * FINE, CARD[1] * FINE), colours, 62)
    pen = Pen(card)
    waves(pen, CARD, ((*TEAL, 74), (*ROSE, 60)), count=120, swing=46)
    waves(pen, CARD, ((*GOLD, 62), (90, 90, 170, 50)), count=84, swing=-70)
    return card


def _heading(pen: Pen, kind: str) -> None:
    pen.plate((0, 0, CARD[0], 196), 0, (*TEAL, 222))
    waves(pen, (CARD[0], 196), ((255, 255, 255, 40),), count=26, swing=24)
    pen.plate((0, 196, CARD[0], 204), 0, GOLD)
    emblem(pen, (140, 98), 58, (244, 214, 130))
    pen.text((244, 96), "REPUBLIC OF EXEMPLARIA", (62, 1.2), (255, 255, 255))
    pen.text((246, 152), kind, (33, 0), (214, 238, 236))
    pen.text((1560, 124), "XEX", (74, 1.6), (244, 214, 130), anchor="rs")


def _photo(pen: Pen, corner: tuple[int, int], width: int) -> None:
    photo = draw_portrait(width)
    sandbox = (corner[0], corner[1], corner[0] + width, corner[1] + width * 5 // 4)
    mask = Image.new("L", pen.image.size)
    Pen(mask).plate(sandbox, 18, 255)
    full = Image.new("RGB", pen.image.size)
    full.paste(photo, (corner[0] * FINE, corner[1] * FINE))
    pen.image.paste(full, (0, 0), mask)
    left, top, right, bottom = sandbox
    pen.line([(left, bottom + 14), (right, bottom + 14)], GOLD, 3)
    pen.text(((left + right) / 2, bottom + 66), "SPECIMEN 00042", (30, 0.4), INK, anchor="ms")
    micro = "SPECIMEN " * 60
    for y in (top - 8, bottom + 28):
        pen.text((left, y), micro[: width // 5], (7.6, 0), PALE)


def _ghost(pen: Pen, corner: tuple[int, int], width: int) -> None:
    """Repeat the portrait small and pale, as real cards do against forgery."""
    small = ImageOps.colorize(draw_portrait(width).convert("L"), TEAL, (250, 244, 236))
    mask = Image.new("L", small.size)
    ImageDraw.Draw(mask).ellipse((4, 4, small.width - 4, small.height - 4), fill=190)
    pen.image.paste(small, (corner[0] * FINE, corner[1] * FINE), mask.filter(ImageFilter.GaussianBlur(5)))


def _chip(pen: Pen, corner: tuple[int, int]) -> None:
    x, y = corner
    pen.plate((x, y, x + 168, y + 136), 22, (150, 112, 48))
    pen.plate((x + 3, y + 3, x + 165, y + 133), 20, (226, 190, 112))
    for dx in (56, 112):
        pen.line([(x + dx, y + 4), (x + dx, y + 132)], (150, 112, 48), 3)
    for dy in (46, 90):
        pen.line([(x + 4, y + dy), (x + 164, y + dy)], (150, 112, 48), 3)
    pen.plate((x + 56, y + 34, x + 112, y + 102), 14, (238, 208, 140))


def _barcode(pen: Pen, corner: tuple[int, int], width: int, height: int) -> None:
    """Draw random squares that look like a 2D barcode and encode nothing."""
    rng, side = Random(42), 10  # noqa: S311  squares, not secrets
    pen.plate(
        (corner[0] - 12, corner[1] - 12, corner[0] + width + 12, corner[1] + height + 12),
        8,
        (255, 255, 255, 210),
    )
    for x in range(corner[0], corner[0] + width, side):
        for y in range(corner[1], corner[1] + height, side):
            if rng.random() < 0.5:  # noqa: PLR2004  half of the squares
                pen.shape([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], (30, 34, 44))


def _photograph(card: Image.Image, seed: int) -> Image.Image:
    """Lay the card on a table, with its shadow and the grain of both."""
    table = gradient((SHEET[0] * FINE, SHEET[1] * FINE), ((64, 78, 96), (116, 126, 138)), 38)
    edge = ((SHEET[0] - CARD[0]) // 2, (SHEET[1] - CARD[1]) // 2)
    sandbox = (edge[0], edge[1], edge[0] + CARD[0], edge[1] + CARD[1])
    shadow, outline = Image.new("L", table.size), Image.new("L", card.size)
    Pen(shadow).plate((sandbox[0] + 6, sandbox[1] + 14, sandbox[2] + 6, sandbox[3] + 14), 52, 200)
    table.paste((14, 18, 28), (0, 0), shadow.filter(ImageFilter.GaussianBlur(22 * FINE)))
    Pen(outline).plate((0, 0, *CARD), 52, 255)
    table.paste(card, (edge[0] * FINE, edge[1] * FINE), outline)
    return grain(table.resize(_scaled(SHEET), Image.Resampling.LANCZOS), seed, 0.04)


def _scaled(size: tuple[int, int]) -> tuple[int, int]:
    return round(size[0] * SCALE), round(size[1] * SCALE)


def encode(picture: Image.Image) -> bytes:
    """Encode as JPEG in the best quality that needs at most `MAX_BYTES`.

    Raises:
        ValueError: Even low quality needs more.
    """
    for quality in range(95, 40, -1):
        buffer = BytesIO()
        comment = b"SPECIMEN, an invented picture"
        picture.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True, comment=comment)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    message = "The picture does not fit into MAX_BYTES: reduce its grain or SCALE."
    raise ValueError(message)


PICTURES: Final[dict[str, Callable[[], Image.Image]]] = {
    "document-front.jpg": draw_front,
    "document-back.jpg": draw_back,
    "face.jpg": draw_face,
}
