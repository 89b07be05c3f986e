"""The pictures that the package carries."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageChops, ImageStat

from veriff_async._protocol.file_type import sniff
from veriff_async.cli.specimens import SPECIMENS, draw, specimen

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", SPECIMENS)
def test_a_specimen_is_a_picture_that_veriff_takes(name: str) -> None:
    """Each is a JPEG of 350 to 600 KB whose longer side is at most the documented 1920 px."""
    with specimen(name) as path, Image.open(path) as picture:
        data, size = path.read_bytes(), picture.size

    assert sniff(data[:64]) == "image/jpeg"
    assert 350_000 <= len(data) <= 600_000
    assert max(size) <= 1920


def test_the_specimens_are_worth_a_progress_bar() -> None:
    """Together they hold at least 1 MB, and no two are the same picture."""
    pictures = []
    for name in SPECIMENS:
        with specimen(name) as path:
            pictures.append(path.read_bytes())

    assert sum(map(len, pictures)) >= 1_000_000
    assert all(one != other for one, other in combinations(pictures, 2))


@pytest.mark.parametrize("name", SPECIMENS)
def test_a_specimen_says_in_its_file_that_it_is_one(name: str) -> None:
    """The comment of the JPEG says SPECIMEN, for programs that do not look at the picture."""
    with specimen(name) as path, Image.open(path) as picture:
        comment = picture.info["comment"]

    assert comment.startswith(b"SPECIMEN")


@pytest.mark.timeout(90)
def test_the_script_draws_what_the_package_carries(tmp_path: Path) -> None:
    """A picture that is drawn again looks the same, whatever the version of Pillow."""
    draw.main(tmp_path)

    for name in SPECIMENS:
        with specimen(name) as path, Image.open(path) as carried, Image.open(tmp_path / name) as drawn:
            difference = ImageStat.Stat(ImageChops.difference(carried, drawn)).mean

            assert carried.size == drawn.size
            assert max(difference) < 2  # of 255


def test_a_picture_that_cannot_fit_is_refused() -> None:
    """Pure noise has no quality of JPEG that is small enough, so drawing fails instead of writing a huge file."""
    noise = Image.effect_noise((1600, 1600), 200).convert("RGB")

    with pytest.raises(ValueError, match="lessen its grain"):
        draw.encode(noise)


@pytest.mark.parametrize(("field", "digit"), [("D23145890", 7), ("740812", 2), ("120415", 9)])
def test_check_digits_are_those_of_the_standard(field: str, digit: int) -> None:
    """The fields of the example card in ICAO 9303 part 5 give its digits."""
    assert draw.check_digit(field) == digit


def test_the_machine_lines_have_the_form_of_a_card() -> None:
    """There are three lines of 30 characters, and the first names the invented country."""
    lines = draw.machine_lines()

    assert [len(line) for line in lines] == [30, 30, 30]
    assert lines[0].startswith("I<XEX")
