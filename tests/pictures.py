"""Pictures that tests inspect: drawn, so that their faults are known."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

__all__ = ("draw_card", "encode_jpeg")


def draw_card(size: tuple[int, int] = (1200, 900)) -> Image.Image:
    """Return a sharp picture of a coloured card with text, on a dark table."""
    picture = Image.new("RGB", size, (40, 44, 60))
    pen = ImageDraw.Draw(picture)
    width, height = size
    pen.rectangle((width * 0.1, height * 0.12, width * 0.9, height * 0.88), fill=(196, 214, 226))
    pen.rectangle((width * 0.14, height * 0.3, width * 0.36, height * 0.7), fill=(150, 96, 70))
    for row in range(7):
        place = (width * 0.42, height * (0.2 + 0.085 * row))
        pen.text(place, "SPECIMEN 0042 ABC", fill=(20, 24, 40), font_size=height / 18)
    return picture


def encode_jpeg(picture: Image.Image) -> bytes:
    """Return a picture as a JPEG file."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()
