"""Draw the specimens: front and back of an invented identity card, and a drawn face.

Run it to draw them again: `python -m tools.draw_specimens [FOLDER]` (Pillow, from the extra
`[images]`). The country, its emblem and the person are invented, and every picture says SPECIMEN. XEX is one
of the country codes that ISO 3166 leaves to its users, so no state has it.

The pictures are part of the wheel, so they are drawn to be small: flat, in few colours, as WebP without loss. With the
same content, a JPEG or a PNG needs 1.5 to 3 times the bytes, since letters are most of it.
"""

# Pillow's own types name numpy's, which need not be installed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final

from PIL import Image

from tools.draw_specimens.pen import FINE, GOLD, INK, PALE, RED, TEAL, Pen, emblem, stamp
from tools.draw_specimens.portrait import HAIR, SHADE, SKIN, SKY, draw_flat_portrait

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("PICTURES", "check_digit", "encode", "machine_lines")

# Cards and face are designed in these coordinates, and written at a scale of them. 50 of them are 16 pixels of the
# card, so that equal machine-readable characters have equal pixels, which compress well.
CARD: Final = (1650, 1050)  # about the shape of an ID-1 card, 85.6 mm x 54 mm
SHEET: Final = (1850, 1250)
SELFIE: Final = (1280, 1600)
CARD_SCALE: Final = 0.32
SELFIE_SCALE: Final = 0.36

MAX_BYTES: Final = 8_000
"""Size limit of one picture."""

_PAPER: Final = (246, 238, 224)
_TABLE: Final = (84, 98, 114)
_WHITE: Final = (250, 248, 244)
_STAMP: Final = (231, 177, 172)  # red of which three tenths cover the paper
_PLAIN: Final = (_PAPER, _TABLE, _WHITE, _STAMP, TEAL, GOLD, INK, PALE, RED, SKY, SKIN, SHADE, HAIR)
_SMOOTH: Final = (132, 182, 184)  # between the letters of the heading and its ground
# WebP stores two pixels in a byte as long as there are at most 16 colours.
COLOURS: Final = (*_PLAIN, _SMOOTH)
_IMAGE_DESCRIPTION: Final = 0x010E  # the tag of EXIF
_FIELDS: Final = (
    ("Surname", "SPECIMEN"),
    ("Given name", "ADA"),
    ("Date of birth", "10 DEC 1990"),
    ("Card no.", "SPEC00042"),
)


def draw_front() -> Image.Image:
    """Draw the side with the portrait."""
    card = _card()
    pen = Pen(card)
    card.paste(draw_flat_portrait(550), (75 * FINE, 275 * FINE))
    stamp(card, (1125, 700), 200, turn=20, strength=0.3)
    for row, (label, value) in enumerate(_FIELDS):
        _field(pen, (725, 325 + 175 * row), label, value)
    _chip(pen, (1400, 275))
    return _photograph(card)


def draw_back() -> Image.Image:
    """Draw the side with the machine-readable lines."""
    card = _card()
    pen = Pen(card)
    emblem(pen, (300, 475), 150, TEAL)
    stamp(card, (1050, 480), 170, turn=14, strength=0.3)
    _field(pen, (625, 350), "Authority", "OFFICE OF SPECIMENS")
    _field(pen, (625, 525), "Address", "1 EXAMPLE QUAY")
    pen.plate((0, 720, CARD[0], 726), 0, GOLD)
    for row, line in enumerate(machine_lines()):
        for column, character in enumerate(line):
            pen.text((100 + 50 * column, 800 + row * 100), character, (54, 0.9), INK, anchor="ms")
    return _photograph(card)


def draw_face() -> Image.Image:
    """Draw the selfie as a drawing, which cannot pass for a photograph."""
    image = draw_flat_portrait(SELFIE[0])
    pen = Pen(image)
    pen.plate((0, 1440, *SELFIE), 0, _PAPER)
    pen.text((640, 1520), "SPECIMEN  ·  A DRAWING", (90, 2), RED, anchor="mm")
    return image.resize(_scale(SELFIE, SELFIE_SCALE), Image.Resampling.LANCZOS)


def draw_thumbnail() -> Image.Image:
    """Draw a small face, with which a replay begins the content of a JPEG that was recorded without its pixels."""
    return draw_face().resize((64, 80), Image.Resampling.LANCZOS)


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


def _card() -> Image.Image:
    card = Image.new("RGB", (CARD[0] * FINE, CARD[1] * FINE), _PAPER)
    pen = Pen(card)
    pen.plate((0, 0, CARD[0], 200), 0, TEAL)
    pen.plate((0, 200, CARD[0], 208), 0, GOLD)
    emblem(pen, (125, 100), 62, GOLD)
    pen.text((250, 100), "REPUBLIC OF EXEMPLARIA", (68, 1.4), _WHITE)
    pen.text((250, 160), "SPECIMEN  ·  NOT A DOCUMENT", (42, 0.4), _WHITE)
    pen.text((1575, 130), "XEX", (80, 1.6), GOLD, anchor="rs")
    return card


def _field(pen: Pen, at: tuple[int, int], label: str, value: str) -> None:
    pen.text(at, label, (38, 0), PALE)
    pen.text((at[0], at[1] + 70), value, (62, 1.2), INK)


def _chip(pen: Pen, corner: tuple[int, int]) -> None:
    x, y = corner
    pen.plate((x, y, x + 168, y + 136), 22, GOLD)
    pen.plate((x + 5, y + 5, x + 163, y + 131), 18, SKIN)
    for dx in (56, 112):
        pen.line([(x + dx, y + 4), (x + dx, y + 132)], GOLD, 5)
    for dy in (46, 90):
        pen.line([(x + 4, y + dy), (x + 164, y + dy)], GOLD, 5)
    pen.plate((x + 58, y + 36, x + 110, y + 100), 10, SKIN)


def _photograph(card: Image.Image) -> Image.Image:
    """Lay the card on a table."""
    table, outline = Image.new("RGB", (SHEET[0] * FINE, SHEET[1] * FINE), _TABLE), Image.new("L", card.size)
    Pen(outline).plate((0, 0, *CARD), 52, 255)
    table.paste(card, ((SHEET[0] - CARD[0]) // 2 * FINE, (SHEET[1] - CARD[1]) // 2 * FINE), outline)
    return table.resize(_scale(SHEET, CARD_SCALE), Image.Resampling.LANCZOS)


def _scale(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return round(size[0] * scale), round(size[1] * scale)


def encode(picture: Image.Image, kind: str = ".webp") -> bytes:
    """Encode as JPEG, or as WebP without loss after a reduction to `COLOURS`.

    Raises:
        ValueError: It needs more than `MAX_BYTES`.
    """
    buffer, exif = BytesIO(), Image.Exif()
    exif[_IMAGE_DESCRIPTION] = "SPECIMEN, an invented picture"
    if kind == ".jpg":
        picture.save(buffer, "JPEG", quality=40, optimize=True, exif=exif)
    else:
        palette = Image.new("P", (1, 1))
        palette.putpalette([level for colour in (*COLOURS, *[_PAPER] * 256)[:256] for level in colour])
        few = picture.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB")
        few.save(buffer, "WEBP", lossless=True, quality=100, method=6, exif=exif)
    if buffer.tell() > MAX_BYTES:
        message = "The picture does not fit into MAX_BYTES: draw fewer lines or a smaller picture."
        raise ValueError(message)
    return buffer.getvalue()


PICTURES: Final[dict[str, Callable[[], Image.Image]]] = {
    "document-front.webp": draw_front,
    "document-back.webp": draw_back,
    "face.webp": draw_face,
    "thumbnail.jpg": draw_thumbnail,
}
