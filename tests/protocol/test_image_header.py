"""Type and pixel size of a file, read from its header without decoding it."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pillow_heif
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from veriff_async._protocol.decoding_work import largest_tiff_value
from veriff_async._protocol.image_header import HEAD_SIZE, MIMETYPES, detect_type, read_dimensions

if TYPE_CHECKING:
    from hypothesis.strategies import DataObject

pillow_heif.register_heif_opener()


def _box(major: bytes, *compatible: bytes, size: int | None = None) -> bytes:
    length = 16 + 4 * len(compatible) if size is None else size
    return length.to_bytes(4, "big") + b"ftyp" + major + bytes(4) + b"".join(compatible)


ACCEPTED = {
    "jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
    "png": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"),
    "webp": (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
    "pdf": (b"%PDF-1.7\n", "application/pdf"),
    "pdf-behind-a-line": (b"\n%PDF-1.7", "application/pdf"),
    "pdf-at-the-end-of-its-window": (bytes(1023) + b"%PDF-1.7", "application/pdf"),
    "heic": (_box(b"heic", b"mif1"), "image/heic"),
    "heic-10-bit": (_box(b"heix"), "image/heic"),
    "heic-by-compatible-brand": (_box(b"mif1", b"miaf", b"heic"), "image/heic"),
    "heic-sequence": (_box(b"msf1", b"hevc"), "image/heic"),
    "heif": (_box(b"mif1", b"miaf"), "image/heif"),
    "heif-of-open-size": (_box(b"mif1", size=0), "image/heif"),
    "heif-of-huge-size": (_box(b"mif1", size=2**32 - 1), "image/heif"),
}
NOT_ACCEPTED = {
    "empty": b"",
    "text": b"GIF89a",
    "wave": b"RIFF\x10\x00\x00\x00WAVEfmt ",
    "avif": _box(b"avif", b"mif1"),
    "avif-by-compatible-brand": _box(b"mif1", b"avif"),
    "mp4": _box(b"isom", b"mp41"),
    "brand-beyond-its-box": _box(b"isom", size=16) + b"heic",
    "cut-jpeg": b"\xff\xd8",
    "pdf-behind-its-window": bytes(1024) + b"%PDF-1.7",
    "cut-pdf": b"\n%PDF",
}


@pytest.mark.parametrize(("head", "mimetype"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted_types_are_detected(head: bytes, mimetype: str) -> None:
    """Each accepted type is detected from its first bytes, independent of the bytes that follow."""
    assert mimetype == detect_type(head)
    assert mimetype == detect_type(head.ljust(HEAD_SIZE, b"\0") + b"more")


@pytest.mark.parametrize("head", NOT_ACCEPTED.values(), ids=NOT_ACCEPTED)
def test_other_files_have_no_type(head: bytes) -> None:
    """Files that Veriff does not accept have no type, even if they resemble accepted ones."""
    assert None is detect_type(head)


@given(st.binary(max_size=2 * HEAD_SIZE) | st.binary(max_size=HEAD_SIZE).map(lambda tail: _box(b"mif1", tail)))
def test_any_bytes_give_an_accepted_type_or_none(head: bytes) -> None:
    """Any bytes give one of the documented types or none, and nothing is raised."""
    assert detect_type(head) in {None, *MIMETYPES}


@pytest.mark.parametrize(("head", "mimetype"), ACCEPTED.values(), ids=ACCEPTED)
def test_truncated_files_keep_their_type_or_have_none(head: bytes, mimetype: str) -> None:
    """A truncated file never has another type than the whole file, except HEIC, whose brand may be cut off."""
    types = {detect_type(head[:end]) for end in range(len(head) + 1)}

    assert types <= {None, mimetype, "image/heif" if mimetype == "image/heic" else mimetype}


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
    """Read the dimensions of bytes, and assert that offsets only increase."""
    last = 0

    def read_at(offset: int, count: int) -> bytes:
        nonlocal last
        assert offset >= last
        last = offset
        return content[offset : offset + count]

    mimetype = detect_type(content[:HEAD_SIZE])
    return None if mimetype is None else read_dimensions(mimetype, read_at)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (1921, 16), (300, 2000)])
def test_dimensions_of_every_type(form: str, size: tuple[int, int]) -> None:
    """Width and height are those of the picture, however many metadata precede them."""
    assert size == read(picture(form, size))


@pytest.mark.parametrize("form", ["jpeg", "progressive", "profile", "restarts"])
@given(junk=st.binary(max_size=30), count=st.sampled_from([1, 400]), filling=st.integers(0, 3))
def test_junk_between_segments_is_skipped(form: str, junk: bytes, count: int, filling: int) -> None:
    """Bytes between two JPEG segments that form no marker are skipped, as decoders do, and so are fill bytes."""
    content = picture(form, (64, 48))
    offset = 2
    while content[offset + 1] not in {0xDB, 0xC0, 0xC2}:
        offset += 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")
    harmless = junk.replace(b"\xff", b"\xff\x00") * count

    assert (64, 48) == read(content[:offset] + harmless + b"\xff" * filling + content[offset:])
    assert (64, 48) == read(content[:2] + harmless + content[2:]) or not harmless.startswith(b"\xff") or offset == 2


def test_search_in_junk_is_bounded() -> None:
    """Two megabytes of junk are not searched for a frame."""
    content = picture("jpeg", (64, 48))

    assert read(content[:20] + bytes(2_000_000) + content[20:]) is None


def test_thumbnail_size_is_ignored() -> None:
    """Of several sizes in one file, the largest is the picture's."""
    image = Image.new("RGB", (1200, 900), "teal")
    out = io.BytesIO()
    image.save(out, "HEIF", thumbnails=[128])

    assert read(out.getvalue()) == (1200, 900)


def test_pdf_has_no_dimensions() -> None:
    """A PDF has no width and height."""
    assert read(b"%PDF-1.7 and more") is None


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_damaged_headers_raise_nothing(form: str, data: DataObject) -> None:
    """A picture that is cut or changed anywhere has a size or none. It raises nothing, and the search ends."""
    content = picture(form, (64, 48))[:2000]
    cut = content[: data.draw(st.integers(12, len(content)))]
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))

    for broken in (cut, bytes(changed)):
        dimensions = read(broken)
        assert dimensions is None or min(dimensions) > 0


@given(mimetype=st.sampled_from([*TYPES, "application/pdf"]), content=st.binary(max_size=200))
def test_any_bytes_give_a_size_or_none(mimetype: str, content: bytes) -> None:
    """Any bytes give a size or none, and raise nothing."""
    dimensions = read_dimensions(mimetype, lambda offset, count: content[offset : offset + count])

    assert dimensions is None or min(dimensions) > 0


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\x01\xff\xd0",
        b"\xff\xd8\xff\xd8\xff\xff\xff\xd9",
        _box(b"heic") + (8).to_bytes(4, "big") * 2 * 2000,
        _box(b"heic") + (1).to_bytes(4, "big") + b"free" + (16).to_bytes(8, "big"),
    ],
    ids=["markers", "repeated-start", "many-boxes", "long-box"],
)
def test_headers_without_a_picture_give_no_size(content: bytes) -> None:
    """Markers without a length, and boxes without a picture, are skipped up to the end or the limit of the search."""
    assert read(content) is None


def test_file_without_a_directory_has_no_values() -> None:
    """A TIFF that is cut before its first directory asks its decoder for nothing."""
    assert largest_tiff_value(b"II*\0") == 0
    assert largest_tiff_value(b"MM\0*" + (100).to_bytes(4, "big")) == 0
