"""The pictures that the package carries."""

from __future__ import annotations

from itertools import combinations

import pytest
from PIL import Image

from veriff_async._protocol.image_header import detect_type
from veriff_async.cli.specimens import SPECIMENS, specimen


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimen_is_accepted_by_veriff(name: str) -> None:
    """Each is a JPEG whose longer side is at most the documented 1920 px."""
    with specimen(name) as path, Image.open(path) as picture:
        head, size = path.read_bytes()[:64], picture.size

    assert detect_type(head) == "image/jpeg"
    assert 800 <= max(size) <= 1920


def test_specimens_are_small_and_distinct() -> None:
    """Together they add at most 500 KiB to the wheel, and no two are the same picture."""
    pictures = []
    for name in SPECIMENS:
        with specimen(name) as path:
            pictures.append(path.read_bytes())

    assert sum(map(len, pictures)) <= 500 * 1024
    assert all(one != other for one, other in combinations(pictures, 2))


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimen_is_labelled_in_its_file(name: str) -> None:
    """The comment of the JPEG says SPECIMEN, for programs that do not look at the picture."""
    with specimen(name) as path, Image.open(path) as picture:
        comment = picture.info["comment"]

    assert comment.startswith(b"SPECIMEN")
