"""The specimen pictures that the package contains."""

from __future__ import annotations

from itertools import combinations

import pytest
from PIL import Image

from veriff_async._protocol.image_header import detect_type
from veriff_async.cli.specimens import SPECIMENS, specimen


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimen_meets_the_documented_limits(name: str) -> None:
    """Each specimen is a JPEG whose longer side is at most the documented 1920 px."""
    with specimen(name) as path, Image.open(path) as picture:
        head, size = path.read_bytes()[:64], picture.size

    assert detect_type(head) == "image/jpeg"
    assert 800 <= max(size) <= 1920


def test_specimens_are_small_and_distinct() -> None:
    """All specimens together add at most 170 KiB to the wheel, and each one is different."""
    pictures = []
    for name in SPECIMENS:
        with specimen(name) as path:
            pictures.append(path.read_bytes())

    assert sum(map(len, pictures)) <= 170 * 1024
    assert all(first != second for first, second in combinations(pictures, 2))


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimen_has_a_comment_that_labels_it(name: str) -> None:
    """The JPEG comment says SPECIMEN, for programs that do not show the picture."""
    with specimen(name) as path, Image.open(path) as picture:
        comment = picture.info["comment"]

    assert comment.startswith(b"SPECIMEN")
