"""The metadata of a JPEG is removed without touching its picture."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from hypothesis import given, strategies as st
from PIL import Image

from veriff_async._protocol.jpeg_segments import strip_metadata


def jpeg(mode: str = "RGB", **options: Any) -> bytes:  # noqa: ANN401
    """Return a picture of noise."""
    out = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    """Return a segment with its marker and length."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


METADATA = {
    "EXIF": segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
    "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"),
    "profile": segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(128)),
    "IPTC": segment(0xED, b"Photoshop 3.0\x008BIM"),
    "comment": segment(0xFE, b"a street and a number"),
    "thumbnail": segment(0xE0, b"JFXX\0\x10" + bytes(20)),
}


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", METADATA)
def test_metadata_is_removed_and_the_picture_stays(kind: str, mode: str, options: dict[str, Any]) -> None:
    """Each kind of metadata, and everything after the end, is removed; the rest is the same, byte for byte."""
    plain = jpeg(mode, **options)
    assert plain == strip_metadata(plain)
    assert plain == strip_metadata(plain[:2] + METADATA[kind] + plain[2:])
    assert plain == strip_metadata(plain[:20] + METADATA[kind] + plain[20:] + b"a video")


def test_thumbnail_in_the_first_segment_is_removed() -> None:
    """A thumbnail of JFIF is removed, and version and resolution stay."""
    plain = jpeg()
    assert plain[2:4] == b"\xff\xe0"
    head = plain[6:18] + b"\2\2" + bytes(12)
    assert plain == strip_metadata(plain[:2] + segment(0xE0, head) + plain[20:])


@pytest.mark.parametrize(
    ("at", "value"), [(1, b"\xc9"), (4, b"\x0c"), (5, b"\0\0"), (7, b"\0\0"), (9, b"\4")], ids=repr
)
def test_other_forms_are_left_to_the_decoder(at: int, value: bytes) -> None:
    """Arithmetic coding, 12 bits, a size of zero and four components give nothing."""
    changed = bytearray(jpeg())
    frame = changed.index(b"\xff\xc0")
    changed[frame + at : frame + at + len(value)] = value
    assert strip_metadata(bytes(changed)) is None


def test_incomplete_file_is_left_to_the_decoder() -> None:
    """A file without its end, without a picture, or in CMYK gives nothing."""
    assert strip_metadata(jpeg()[:-2]) is None
    assert strip_metadata(b"\xff\xd8\xff\xd9") is None
    assert strip_metadata(jpeg("CMYK")) is None


@given(cut=st.integers(0, 3000), changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=8))
def test_any_bytes_give_a_shorter_file_or_nothing(cut: int, changes: list[tuple[int, int]]) -> None:
    """Damaged files raise nothing, and the result is stable: it has nothing more to remove."""
    content = bytearray(SAMPLE[: len(SAMPLE) - cut])
    for at, value in changes:
        if at < len(content):
            content[at] = value
    result = strip_metadata(bytes(content))
    if result is not None:
        assert len(result) <= len(content)
        assert result == strip_metadata(result)


SAMPLE = jpeg(comment=b"note", progressive=True)
