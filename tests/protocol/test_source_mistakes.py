"""Text where a picture belongs: the error names the mistake, and repeats nothing of it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, strategies as st

from veriff_async._protocol.image_header import detect_type
from veriff_async._protocol.source_mistakes import explain_path, explain_text

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20
PDF = b"%PDF-1.7\n" + bytes(2000)

CONTENT = {
    "data URL": (b"data:image/jpeg;base64," + base64.b64encode(JPEG), "data URL"),
    "data URL in capitals": (b"DATA:image/png,x", "data URL"),
    "base64": (base64.b64encode(JPEG), "base64"),
    "base64 in lines": (base64.encodebytes(JPEG), "base64"),
    "base64 for addresses": (base64.urlsafe_b64encode(JPEG), "base64"),
    "base64 of a PDF": (base64.b64encode(PDF), "base64"),
    "hexadecimal": (JPEG.hex().encode(), "hexadecimal"),
    "https": (b"https://bucket.example/front.jpg?signature=secret", "https://"),
    "s3": (b"s3://bucket/front.jpg", "s3://"),
    "gs": (b" gs://bucket/front.jpg\n", "gs://"),
    "file": (b"file:///tmp/front.jpg", "file://"),
    "other scheme": (b"ipfs://front", "is a URL"),
    "web page": (b"<!DOCTYPE html><title>Not found</title>", "web page or JSON"),
    "JSON": (b'{"error": "expired"}', "web page or JSON"),
    "path": (b"front.jpg", "is text"),
    "text of another alphabet": ("фото".encode() * 400, "is text"),
    "text of Windows": ("front.jpg".encode("utf-16"), "is text"),
}


@pytest.mark.parametrize(("content", "words"), CONTENT.values(), ids=CONTENT)
def test_content_that_is_text_is_explained(content: bytes, words: str) -> None:
    """Text instead of a picture is explained by its kind, and never repeated."""
    mistake = explain_text(content)

    assert mistake is not None
    assert words in mistake
    assert "secret" not in mistake


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"BM6\x00", b"II*\x00", bytes(100), JPEG, b"\xfd\xfe\x00"])
def test_other_content_is_not_text(content: bytes) -> None:
    """Nothing, and files of other types, are not taken for text."""
    assert explain_text(content) is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("https:/bucket.example/front.jpg", "URL"),
        ("s3://bucket/front.jpg", "s3://"),
        ("data:image/png;base64,iVBORw0KGgo=", "data URL"),
        (base64.b64encode(JPEG).decode(), "base64"),
        ("<html>", "not a path"),
        ("a\nb", "not a path"),
        ("x" * 5000, "not a path"),
    ],
)
def test_text_given_as_a_path_is_explained(path: str, words: str) -> None:
    """A str is a path, so an address or content in it is a mistake that the error names."""
    assert words in (explain_path(path) or "")


@pytest.mark.parametrize("path", ["front.jpg", "C:\\front.jpg", "c:/front.jpg", "/9j/4AAQ", "iVBORw0KGgo", "a b/c", ""])
def test_ordinary_paths_have_no_mistake(path: str) -> None:
    """A path that looks like one is not explained away."""
    assert explain_path(path) is None


@given(st.binary(max_size=2000) | st.text(max_size=500).map(str.encode))
def test_any_bytes_are_explained_or_not(content: bytes) -> None:
    """Any bytes give a sentence or nothing, and no exception."""
    assert explain_text(content) is None or "is " in str(explain_text(content))


@given(st.text(max_size=2000))
def test_any_path_is_explained_or_not(path: str) -> None:
    """Any text gives a sentence or nothing, and no exception."""
    assert explain_path(path) is None or "is " in str(explain_path(path))


@given(st.sampled_from([b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"%PDF-"]), st.binary(min_size=40, max_size=3000))
def test_base64_of_any_picture_is_recognised(head: bytes, rest: bytes) -> None:
    """Base64 of every type that Veriff takes is recognised, however long it is."""
    assert detect_type(head + rest) is not None
    assert "base64" in (explain_text(base64.b64encode(head + rest)) or "")
