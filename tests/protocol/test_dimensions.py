"""Width and height: read from the header of every type, from any bytes, without decoding and without reading much."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pillow_heif
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from veriff_async._protocol.file_type import HEAD, sniff
from veriff_async._protocol.image_size import dimensions

if TYPE_CHECKING:
    from hypothesis.strategies import DataObject

pillow_heif.register_heif_opener()

TYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/heic", "image/heif")
FORMS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "jpeg": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "profile": ("JPEG", {"icc_profile": bytes(200_000), "exif": b"Exif\0\0" + bytes(60_000), "comment": b"x" * 60_000}),
    "restarts": ("JPEG", {"restart_marker_rows": 1}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "webp-lossless": ("WEBP", {"lossless": True}),
    "webp-extended": ("WEBP", {"exif": b"Exif\0\0" + bytes(100)}),
    "heic": ("HEIF", {}),
}


@cache
def picture(form: str, size: tuple[int, int]) -> bytes:
    """Make a picture."""
    name, options = FORMS[form]
    out = io.BytesIO()
    Image.new("RGB", size, "teal").save(out, name, **options)
    return out.getvalue()


def read(content: bytes) -> tuple[int, int] | None:
    """Read the dimensions of bytes, asking for places in rising order only."""
    last = 0

    def read_at(place: int, count: int) -> bytes:
        nonlocal last
        assert place >= last
        last = place
        return content[place : place + count]

    mimetype = sniff(content[:HEAD])
    return None if mimetype is None else dimensions(mimetype, read_at)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (1921, 16), (300, 2000)])
def test_every_type_tells_its_size(form: str, size: tuple[int, int]) -> None:
    """Width and height are those that the picture was made with, however much stands before them."""
    assert size == read(picture(form, size))


@pytest.mark.parametrize("form", ["jpeg", "progressive", "profile", "restarts"])
@given(junk=st.binary(max_size=30), count=st.sampled_from([1, 400]), filling=st.integers(0, 3))
def test_junk_between_segments_is_skipped(form: str, junk: bytes, count: int, filling: int) -> None:
    """Bytes between two segments of a JPEG that are no marker are passed over, as decoders do, with fill bytes too."""
    content = picture(form, (64, 48))
    at = 2
    while content[at + 1] not in {0xDB, 0xC0, 0xC2}:
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    harmless = junk.replace(b"\xff", b"\xff\x00") * count

    assert (64, 48) == read(content[:at] + harmless + b"\xff" * filling + content[at:])
    assert (64, 48) == read(content[:2] + harmless + content[2:]) or not harmless.startswith(b"\xff") or at == 2


def test_junk_has_an_end() -> None:
    """Two megabytes of junk are no picture, and are not searched for one."""
    content = picture("jpeg", (64, 48))

    assert read(content[:20] + bytes(2_000_000) + content[20:]) is None


def test_a_thumbnail_is_not_the_picture() -> None:
    """Of several sizes in one file, the largest is the picture's."""
    image = Image.new("RGB", (1200, 900), "teal")
    out = io.BytesIO()
    image.save(out, "HEIF", thumbnails=[128])

    assert read(out.getvalue()) == (1200, 900)


def test_pages_have_no_pixels() -> None:
    """A PDF has no width and height."""
    assert read(b"%PDF-1.7 and more") is None


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_what_is_cut_or_changed_is_never_an_error(form: str, data: DataObject) -> None:
    """Cut or changed anywhere, a picture has a size or none, and is never an error or an endless search."""
    content = picture(form, (64, 48))[:2000]
    cut = content[: data.draw(st.integers(12, len(content)))]
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))

    for broken in (cut, bytes(changed)):
        found = read(broken)
        assert found is None or min(found) > 0


@given(mimetype=st.sampled_from([*TYPES, "application/pdf"]), content=st.binary(max_size=200))
def test_any_bytes_have_a_size_or_none(mimetype: str, content: bytes) -> None:
    """Whatever bytes are taken for a picture, there is a size or none."""
    found = dimensions(mimetype, lambda place, count: content[place : place + count])

    assert found is None or min(found) > 0
