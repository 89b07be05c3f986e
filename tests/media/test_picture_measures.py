"""The measurements of a decoded picture: each reacts to its own fault, and none breaks on any picture."""

from __future__ import annotations

from math import cos, tau
from random import Random

import pytest
from attrs import asdict
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from veriff_async import CheckName, PictureThresholds
from veriff_async._media.document_outline import find_outline, measure_skew
from veriff_async._media.picture_measures import (
    measure_colour,
    measure_glare,
    measure_moire,
    measure_overexposure,
    measure_picture,
    measure_sharpness,
)

EVERYTHING = PictureThresholds(**dict.fromkeys(asdict(PictureThresholds()), 0.0))
SIZE = (800, 600)


def draw_card(left: int = 100, top: int = 90, right: int = 700, bottom: int = 510) -> Image.Image:
    """Return a card with text and a portrait, on a dark table; coordinates outside of the picture cut it off."""
    picture = Image.new("RGB", SIZE, (40, 44, 60))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left, top, right, bottom), fill=(190, 210, 200))
    pen.rectangle((left + 40, top + 90, left + 190, top + 300), fill=(150, 96, 70))
    for row in range(6):
        pen.text((left + 230, top + 40 + 60 * row), "SPECIMEN 0042", fill=(20, 24, 40), font_size=34)
    return picture


def sharpness(picture: Image.Image) -> float:
    """Return the sharpness of a picture that has edges."""
    value = measure_sharpness(picture.convert("L"))
    assert value is not None
    return value


def add_noise(picture: Image.Image, level: int) -> Image.Image:
    """Return a picture with the noise of a sensor."""
    rng = Random(7)  # noqa: S311  noise
    content = bytes(128 + round(rng.gauss(0, level)) for _ in range(64 * 64))
    tile = Image.frombytes("L", (64, 64), content)
    noise = Image.new("L", picture.size)
    for x in range(0, picture.width, 64):
        for y in range(0, picture.height, 64):
            noise.paste(tile, (x, y))
    return ImageChops.add(picture, Image.merge("RGB", [noise] * 3), scale=1, offset=-128)


def test_sharpness_is_the_inverse_of_the_width_of_edges() -> None:
    """Twice the blur halves the sharpness, nearly."""
    card = draw_card()
    sharp, soft, softer = (sharpness(card.filter(ImageFilter.GaussianBlur(sigma))) for sigma in (0, 3, 6))

    assert sharp > 2 * soft
    assert 1.6 < soft / softer < 2.4


def test_sharpness_does_not_depend_on_contrast_or_noise() -> None:
    """A pale picture and one with noise have about the sharpness of the original, sharp or blurred."""
    for sigma in (0, 2):
        card = draw_card().filter(ImageFilter.GaussianBlur(sigma))
        pale = Image.blend(card, Image.new("RGB", SIZE, (128, 128, 128)), 0.5)
        assert sharpness(pale) == pytest.approx(sharpness(card), rel=0.25)
        assert sharpness(add_noise(card, 5)) == pytest.approx(sharpness(card), rel=0.35)


def test_sharpness_is_that_of_the_sharpest_places() -> None:
    """A blurred background does not matter, as behind a face."""
    card = draw_card()
    behind = card.filter(ImageFilter.GaussianBlur(8))
    behind.paste(card.crop((300, 100, 600, 500)), (300, 100))

    assert sharpness(behind) > 0.9 * sharpness(card)


@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (1, 1), (1, -1)])
def test_motion_in_any_direction_blurs(direction: tuple[int, int]) -> None:
    """Edges along the motion stay sharp, and those across it decide."""
    card = draw_card()
    # Edges in every direction: those along a diagonal have steep slopes across and down.
    pen = ImageDraw.Draw(card)
    for middle in range(340, 700, 60):
        pen.ellipse((middle, 430, middle + 50, 480), fill=(20, 24, 40))
    moved = card
    for step in range(1, 16):
        shifted = ImageChops.offset(card, direction[0] * step, direction[1] * step)
        moved = Image.blend(moved, shifted, 1 / (step + 1))

    assert sharpness(moved.crop((20, 20, 780, 580))) < 0.4 * sharpness(card)


def test_a_picture_without_edges_has_no_sharpness() -> None:
    """Nothing is measured in an empty picture."""
    assert measure_sharpness(Image.new("L", SIZE, 90)) is None


def test_glare_is_a_white_spot_with_a_halo() -> None:
    """A lamp counts with its area; a white sticker, which ends abruptly, and a window at the side do not."""
    card = draw_card()
    light = Image.new("L", SIZE)
    ImageDraw.Draw(light).ellipse((300, 200, 420, 320), fill=255)
    halo = light.filter(ImageFilter.GaussianBlur(20)).point([min(255, 2 * level) for level in range(256)])
    lamp = ImageChops.add(card, Image.merge("RGB", [halo] * 3))
    sticker, window = card.copy(), card.copy()
    ImageDraw.Draw(sticker).rectangle((300, 200, 420, 320), fill="white")
    ImageDraw.Draw(window).rectangle((0, 0, 300, 90), fill="white")

    assert measure_glare(card) == measure_glare(sticker) == measure_glare(window) == 0
    assert 0.01 < measure_glare(lamp) < 0.05


def test_light_and_contrast() -> None:
    """Darkness, white pixels and a range of levels are measured in the middle of the picture."""
    card = draw_card()
    values, dark, pale = (
        measure_picture(picture, SIZE, EVERYTHING)
        for picture in (card, ImageEnhance.Brightness(card).enhance(0.2), ImageEnhance.Contrast(card).enhance(0.2))
    )

    assert (dark[CheckName.BRIGHTNESS] or 0) == pytest.approx((values[CheckName.BRIGHTNESS] or 0) * 0.2, abs=0.01)
    assert (pale[CheckName.CONTRAST] or 0) == pytest.approx((values[CheckName.CONTRAST] or 0) * 0.2, abs=0.02)
    assert measure_overexposure(card) == 0
    assert measure_overexposure(ImageEnhance.Brightness(card).enhance(2)) > 0.5


def test_a_grey_copy_with_a_cast_has_no_colours() -> None:
    """The colour of a lamp is not a range of colours."""
    card = draw_card()
    grey = card.convert("L")
    warm = Image.merge("RGB", [grey, grey.point([level * 9 // 10 for level in range(256)]), grey])

    assert measure_colour(grey) == 0
    assert measure_colour(warm) < 0.08 < measure_colour(card)


def test_a_screen_has_a_pattern_that_repeats() -> None:
    """A grid of dots on the whole picture counts, and text does not."""
    card = draw_card().convert("L")
    grid = Image.new("L", (60, 60))
    grid.putdata([round(128 + 40 * cos(tau * x / 6) * cos(tau * y / 6)) for y in range(60) for x in range(60)])
    dots = Image.new("L", SIZE)
    for x in range(0, 800, 60):
        for y in range(0, 600, 60):
            dots.paste(grid, (x, y))

    plain, screen = measure_moire(card), measure_moire(ImageChops.add(card, dots, scale=1, offset=-128))

    assert plain is not None
    assert screen is not None
    assert plain < 0.3 < screen
    assert measure_moire(Image.new("L", (60, 60))) is None


@pytest.mark.parametrize("angle", [-20, -5, 0, 5, 20])
def test_skew(angle: int) -> None:
    """The angle of the document is found to a degree, clockwise positive."""
    turned = draw_card().convert("L").rotate(-angle, Image.Resampling.BICUBIC, fillcolor=44)

    skew = measure_skew(turned)

    assert skew == pytest.approx(angle, abs=1)


def test_no_direction_no_skew() -> None:
    """An empty picture and a disc have no direction."""
    disc = Image.new("L", SIZE)
    ImageDraw.Draw(disc).ellipse((200, 100, 600, 500), fill=255)

    assert measure_skew(Image.new("L", SIZE)) is None
    assert measure_skew(disc) is None


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((100, 90, 700, 510), 0),
        ((-60, 90, 540, 510), 1),
        ((260, 90, 860, 510), 1),
        ((100, -40, 700, 380), 1),
        ((100, 220, 700, 640), 1),
        ((-60, -40, 540, 380), 2),
    ],
)
def test_sides_at_which_the_document_is_cut_off(box: tuple[int, int, int, int], cut: int) -> None:
    """Every side and corner is noticed, and a whole document is not cut off."""
    outline = find_outline(draw_card(*box))

    assert outline is not None
    assert outline.cut_sides == cut


def test_a_turned_document_is_not_cut_off() -> None:
    """The outline does not depend on the angle."""
    turned = draw_card(170, 130, 630, 470).rotate(12, Image.Resampling.BICUBIC, fillcolor=(40, 44, 60))

    outline = find_outline(turned)

    assert outline is not None
    assert outline.cut_sides == 0


def test_the_length_of_the_document() -> None:
    """The length is a share of the longer side of the picture, to a few hundredths; nothing found has none."""
    outline = find_outline(draw_card())

    assert outline is not None
    assert outline.length == pytest.approx(600 / 800, abs=0.04)
    assert find_outline(Image.new("RGB", SIZE)) is None


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    mode=st.sampled_from(["L", "RGB"]),
    seed=st.none() | st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_no_picture_breaks_a_measurement(width: int, height: int, mode: str, seed: int | None) -> None:
    """Pictures of every size, empty and of pure noise, have values within the documented ranges."""
    count = width * height * len(mode)
    content = bytes(count) if seed is None else Random(seed).randbytes(count)  # noqa: S311  pixels

    values = measure_picture(Image.frombytes(mode, (width, height), content), (width, height), EVERYTHING)

    shares = (CheckName.GLARE, CheckName.BRIGHTNESS, CheckName.OVEREXPOSURE, CheckName.CONTRAST, CheckName.COLOUR)
    assert all(0 <= (values[name] or 0) <= 1 for name in (*shares, CheckName.MOIRE))
    assert 0 <= (values[CheckName.SKEW] or 0) <= 45
    assert 0 <= (values.get(CheckName.DOCUMENT_EDGES) or 0) <= 4
    assert (values[CheckName.SHARPNESS] or 0) >= 0
