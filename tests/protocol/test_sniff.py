"""The type of a file by its first bytes: the six that Veriff takes, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from veriff_async._protocol.file_type import HEAD, MIMETYPES, sniff


def _box(major: bytes, *compatible: bytes, size: int | None = None) -> bytes:
    length = 16 + 4 * len(compatible) if size is None else size
    return length.to_bytes(4, "big") + b"ftyp" + major + bytes(4) + b"".join(compatible)


KNOWN = {
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
OTHERS = {
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


@pytest.mark.parametrize(("head", "mimetype"), KNOWN.values(), ids=KNOWN)
def test_types_that_veriff_takes_are_known(head: bytes, mimetype: str) -> None:
    """Each type is known by its own first bytes, whatever follows them."""
    assert mimetype == sniff(head)
    assert mimetype == sniff(head.ljust(HEAD, b"\0") + b"more")


@pytest.mark.parametrize("head", OTHERS.values(), ids=OTHERS)
def test_other_files_are_not_taken(head: bytes) -> None:
    """What Veriff does not take has no type, however near it comes."""
    assert None is sniff(head)


@given(st.binary(max_size=2 * HEAD) | st.binary(max_size=HEAD).map(lambda tail: _box(b"mif1", tail)))
def test_any_bytes_have_a_known_type_or_none(head: bytes) -> None:
    """Any bytes give one of the documented types or none, and nothing is raised."""
    assert sniff(head) in {None, *MIMETYPES}


@pytest.mark.parametrize(("head", "mimetype"), KNOWN.values(), ids=KNOWN)
def test_short_files_have_their_type_or_none(head: bytes, mimetype: str) -> None:
    """A file that is cut short has no other type than the whole one, but for HEIC, whose brand may be cut away."""
    found = {sniff(head[:end]) for end in range(len(head) + 1)}

    assert found <= {None, mimetype, "image/heif" if mimetype == "image/heic" else mimetype}
