"""The tool that draws the specimen pictures. `.ci/run` also draws them all and compares them with the package's."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the tool, which is not installed with the package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return import_module("tools.draw_specimens.draw")


def test_picture_that_does_not_fit_is_refused(draw: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise needs too many bytes in any quality, so drawing fails instead of writing a large file."""
    monkeypatch.setattr(draw, "MAX_BYTES", 1000)
    noise = Image.effect_noise((64, 64), 200).convert("RGB")

    with pytest.raises(ValueError, match="draw fewer lines"):
        draw.encode(noise)


@pytest.mark.parametrize(("field", "digit"), [("D23145890", 7), ("740812", 2), ("120415", 9)])
def test_check_digits_follow_the_standard(draw: ModuleType, field: str, digit: int) -> None:
    """The fields of the example card in ICAO 9303 part 5 give its digits."""
    assert draw.check_digit(field) == digit


def test_machine_readable_lines_have_the_form_of_a_card(draw: ModuleType) -> None:
    """There are three lines of 30 characters, and the first names the invented country."""
    lines = draw.machine_lines()

    assert [len(line) for line in lines] == [30, 30, 30]
    assert lines[0].startswith("I<XEX")
