"""The specimen pictures that the package contains."""

from __future__ import annotations

import hashlib
from itertools import combinations

import pytest
from PIL import ExifTags, Image

from veriff_async._protocol.image_header import detect_type
from veriff_async.sandbox._specimens import SPECIMEN_FILES, SPECIMENS, SpecimenFile, specimen


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimen_meets_the_documented_limits(name: str) -> None:
    """Each specimen is a picture that Veriff accepts, whose longer side is at most the documented 1920 px."""
    with specimen(name) as path, Image.open(path) as picture:
        head, size = path.read_bytes()[:64], picture.size

    assert detect_type(head) == "image/webp"
    assert 500 <= max(size) <= 1920


def test_specimens_are_small_and_distinct() -> None:
    """All specimens together add at most 22 KiB to the wheel, and each one is different."""
    pictures = []
    for name in SPECIMENS:
        with specimen(name) as path:
            pictures.append(path.read_bytes())

    assert sum(map(len, pictures)) <= 22 * 1024
    assert all(first != second for first, second in combinations(pictures, 2))


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimen_has_a_comment_that_labels_it(name: str) -> None:
    """The description in its metadata says SPECIMEN, for programs that do not show the picture."""
    with specimen(name) as path, Image.open(path) as picture:
        description = picture.getexif()[ExifTags.Base.ImageDescription]

    assert description.startswith("SPECIMEN")


@pytest.mark.parametrize("file", SPECIMEN_FILES, ids=lambda file: file.context)
def test_specimen_is_described_rightly(file: SpecimenFile) -> None:
    """Size and digest, which are known without reading the file, are those of the file."""
    body = file.path.read_bytes()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (file.size, file.sha256)
    assert file.path.name in SPECIMENS
