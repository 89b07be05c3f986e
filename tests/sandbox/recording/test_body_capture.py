"""Bodies are read while they pass, at any size of chunks."""

from __future__ import annotations

import gzip
import json
import zlib
from hashlib import sha256
from typing import Any, Final

import pytest
from hypothesis import given, settings, strategies as st
from pybase64 import b64encode, urlsafe_b64encode

from veriff_async.sandbox._recording import body_capture
from veriff_async.sandbox._recording.body_capture import Blob, BodyCapture, CapturedBody

PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 200
PICTURE: Final = Blob(len(PNG), "image/png", sha256(PNG).hexdigest())
BASE64: Final = b64encode(PNG).decode()
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def read(body: bytes, size: int = 1000, encoding: str = "") -> CapturedBody:
    """Return what a body is, read in chunks."""
    capture = BodyCapture(encoding)
    for start in range(0, len(body), size):
        capture.feed(body[start : start + size])
    return capture.finish()


@settings(max_examples=60)
@given(value=st.dictionaries(st.text(max_size=8), JSON, max_size=4) | st.lists(JSON), size=st.integers(1, 50))
def test_json_is_kept_as_it_is(value: Any, size: int) -> None:  # noqa: ANN401  any JSON
    """JSON without pictures is unchanged, with any strings in it and wherever chunks end."""
    for is_ascii in (True, False):
        try:
            body = json.dumps(value, ensure_ascii=is_ascii).encode()
        except UnicodeEncodeError:
            continue
        assert read(body, size) == CapturedBody(size=len(body), is_json=True, content=value)


@pytest.mark.parametrize("size", [1, 3, 997, 65536])
@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        f"data:image/png;base64,{BASE64}",
        "data:image\\/png;base64," + BASE64.replace("/", "\\/"),
        "\\r\\n".join(BASE64[start : start + 76] for start in range(0, len(BASE64), 76)),
        BASE64.replace("/", "\\u002f").replace("A", "\\u0041"),
        BASE64.rstrip("="),
    ],
)
def test_pictures_in_json_become_digests(text: str, size: int) -> None:
    """A picture is hashed, with or without a data URI, line ends, padding and escapes."""
    body = f'{{"a":"\\"","image":{{"content":"{text}","context":"face"}},"b":"x"}}'.encode()
    image = {"content": PICTURE, "context": "face"}
    assert read(body, size).content == {"a": '"', "image": image, "b": "x"}


def test_short_pictures_become_digests_too() -> None:
    """A picture of one pixel is a picture."""
    small = b"\x89PNG\r\n\x1a\n" + bytes(40)
    for text in (b64encode(small), urlsafe_b64encode(small), b" " + b64encode(small)):
        body = json.dumps({"content": text.decode()}).encode()
        assert read(body).content == {"content": Blob(len(small), "image/png", sha256(small).hexdigest())}


def test_long_data_is_not_kept() -> None:
    """Base64 of an unknown type, such as that of a chip, may hold a picture too."""
    for text in (
        b64encode(b"GIF89a" + bytes(2000)).decode(),
        bytes(2000).hex(),
        "data:image/gif;base64,R0lGODlh" + "A" * 40,
    ):
        assert read(json.dumps({"content": text}).encode()).content == {"content": Blob(len(text))}


def test_long_texts_are_not_kept() -> None:
    """A long string that is no picture has a size and no digest, from which it could be guessed."""
    for text in ("x" * 50_000, "x y" * 20_000, b64encode(bytes(30_000)).decode(), "=" * 20_000):
        assert read(json.dumps({"a": text}).encode()).content == {"a": Blob(len(text))}
    assert read(json.dumps({"n" * 30_000: 1}).encode()).content == {"long": 1}


@pytest.mark.parametrize(
    "body",
    [b"hello", b'{"a":', b"[1,]", b"\xff\xfe", b'"text"', b"{" * 5000, b"[" * 101 + b"]" * 101, b"  ", b'{"a":"\\'],
)
def test_other_bodies_have_a_size(body: bytes) -> None:
    """A body that is neither JSON nor a picture has a size alone."""
    assert read(body) == CapturedBody(size=len(body), content=Blob(len(body)))


def test_files_have_a_digest() -> None:
    """A downloaded picture is hashed; nothing of it is kept."""
    assert read(PNG) == CapturedBody(size=len(PNG), content=PICTURE)
    assert read(b"") == CapturedBody(size=0, content=Blob(0))


def test_large_json_is_not_kept() -> None:
    """Memory is bounded for JSON of many small values, too."""
    body = json.dumps(list(range(400_000))).encode()
    assert read(body, 65536).content == Blob(len(body))


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP ", gzip.compress)]
)
def test_compressed_bodies_are_unpacked(encoding: str, pack: Any) -> None:  # noqa: ANN401  a function
    """The size is that of the bytes as sent, the content is unpacked."""
    body = pack(json.dumps({"image": BASE64}).encode())
    assert read(body, 100, encoding) == CapturedBody(size=len(body), is_json=True, content={"image": PICTURE})


def test_bodies_that_cannot_be_unpacked_have_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another compression, damaged data or a bomb end the reading, not the request."""
    monkeypatch.setattr(body_capture, "_MAX_UNPACKED", 1024 * 1024)
    bomb = gzip.compress(bytes(2 * 1024 * 1024))
    for encoding, body in (("br", b'{"a":1}'), ("gzip", b'{"a":1}'), ("gzip", bomb)):
        assert read(body, 65536, encoding).content == Blob(len(body))
