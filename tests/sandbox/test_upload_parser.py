"""The streaming parser of uploads: chunks may end at any byte."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._upload_parser import SKELETON_LIMIT, UploadDescription, UploadParser

BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
JPEG = b"\xff\xd8\xff\xe0"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def parse_in_chunks(body: bytes, cuts: list[int] | None = None) -> tuple[bytes, UploadDescription]:
    """Parse a body that is cut at the given offsets."""
    parser = UploadParser(oversize_status=413)
    ends = sorted({0, *(cut % (len(body) + 1) for cut in cuts or ()), len(body)})
    picture = b"".join(parser.feed(body[start:end]) for start, end in pairwise(ends))
    last, described = parser.finish()
    return picture + last, described


def get_error(body: bytes) -> HTTPError:
    """Return the error that a body raises."""
    with pytest.raises(HTTPError) as caught:
        parse_in_chunks(body)
    return caught.value


def upload(content: str, **image: object) -> bytes:
    """Return a body with a content."""
    return json.dumps({"image": {"context": "face", **image, "content": content}}).encode()


@given(
    picture=st.binary(max_size=300),
    prefix=st.sampled_from(["", "data:image/jpeg;base64,", "data:;base64,", "DATA:image/png;charset=utf-8;base64,"]),
    before=st.dictionaries(st.text().filter(lambda key: key != "image"), JSON, max_size=3),
    others=st.dictionaries(st.text().filter(lambda key: key != "content"), JSON, max_size=3),
    ascii_only=st.booleans(),
    slashes=st.booleans(),
    indent=st.none() | st.integers(0, 3),
    first=st.booleans(),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_chunks_parse_like_the_whole_body(  # noqa: PLR0913, PLR0917
    picture: bytes,
    prefix: str,
    before: dict[str, object],
    others: dict[str, object],
    ascii_only: bool,  # noqa: FBT001
    slashes: bool,  # noqa: FBT001
    indent: int | None,
    first: bool,  # noqa: FBT001
    cuts: list[int],
) -> None:
    """Key order, white space, escapes, unknown members and the offsets of the cuts make no difference."""
    content = {"content": prefix + base64.b64encode(JPEG + picture).decode()}
    image = {**content, **others} if first else {**others, **content}
    text = json.dumps({**before, "image": image}, ensure_ascii=ascii_only, indent=indent)
    if slashes:
        text = text.replace("/", r"\/")

    found, described = parse_in_chunks(text.encode(errors="surrogatepass") if ascii_only else text.encode(), cuts)

    assert JPEG + picture == found
    assert others == described.image
    assert "image/jpeg" == described.mimetype


@given(
    parts=st.lists(
        st.sampled_from(
            [
                "AAAA",
                "A",
                "/",
                "=",
                r"\/",
                r"\n",
                r"\r",
                r"\\",
                r"\"",
                r"\u0041",
                r"\u002F",
                "\\",
                '"',
                ",",
                "data:;base64,",
            ]
        ),
        max_size=8,
    ),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_escapes_are_decoded_like_json(parts: list[str], cuts: list[int]) -> None:
    """For any escapes, the content equals that of a JSON parser, or is refused."""
    body = f'{{"image":{{"content":"/9j/{"".join(parts)}"}}}}'.encode()
    try:
        text = json.loads(body)["image"]["content"].translate({ord("\r"): None, ord("\n"): None})
        text += "=" * (-len(text) % 4)
        # The standard library lets padding pass that is longer than it may be.
        expected = base64.b64decode(text, validate=True) if BASE64.fullmatch(text) else None
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(HTTPError):
            parse_in_chunks(body, cuts)
    else:
        assert expected == parse_in_chunks(body, cuts)[0]


@given(body=st.binary(), cuts=st.lists(st.integers(0, 100), max_size=4))
def test_garbage_raises_http_error_only(body: bytes, cuts: list[int]) -> None:
    """Bytes that are not an upload raise an HTTPError, never another error."""
    with pytest.raises(HTTPError):
        parse_in_chunks(body, cuts)


@given(cut=st.integers(0, 200))
def test_truncated_body_is_refused(cut: int) -> None:
    """A truncated body is refused, for every length."""
    whole = upload(base64.b64encode(JPEG + bytes(60)).decode(), timestamp="2024-01-01T00:00:00Z")

    assert 400 == get_error(whole[: cut % len(whole)]).status


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "1104"),
        (b"[]", "1104"),
        (b"{}", "1403"),
        (b'{"image":null}', "1403"),
        (b'{"image":{}}', "1400"),
        (b'{"image":{"content":null}}', "1400"),
        (b'{"image":{"content":""}}', "1401"),
        (b'{"image":[{"content":"/9j/4A=="}]}', "1403"),
        (b'{"other":{"content":"/9j/4A=="},"image":{}}', "1400"),
        (upload("/9j/4A==*"), "1401"),
        (upload("/9j/4A==/9j/"), "1401"),
        (upload("data:image/jpeg,/9j/4A=="), "1401"),
        (upload("data:" + "x" * 300), "1401"),
        (upload("data:image/jp"), "1401"),
        (upload(base64.b64encode(b"GIF89a").decode()), "1401"),
        (upload(r"\ud800"), "1401"),
        (rb'{"image":{"content":"\uzzzz"}}', "1401"),
        (rb'{"image":{"content":"\u0_39j/4A"}}', "1401"),
        (rb'{"image":{"content":"/9j/4A==","content":"/9j/4A=="}}', "1104"),
    ],
)
def test_each_error_has_its_code(body: bytes, code: str) -> None:
    """Each missing or wrong member has Veriff's code for it."""
    assert code == get_error(body).code


def test_line_ends_and_missing_padding_are_accepted() -> None:
    """Base64 with line ends, or without padding, is accepted, since no document forbids it."""
    assert JPEG == parse_in_chunks(upload("/9j/\r\n4A"))[0]


def test_large_skeleton_is_refused() -> None:
    """The size of everything except the content is limited."""
    assert 413 == get_error(upload("/9j/4A==", padding="x" * (SKELETON_LIMIT + 1))).status


@pytest.mark.parametrize(
    ("head", "limit", "size"), [(JPEG, 17_999_997, 17_999_998), (b"%PDF-1.7", 19_999_999, 20_000_000)]
)
def test_each_type_has_its_own_limit(head: bytes, limit: int, size: int) -> None:
    """An image is refused from 24 MB of base64 on, a PDF from 20 MB of bytes on, and not a byte earlier."""
    over = head + bytes(size - len(head))
    fits = over[:limit]

    assert limit == len(parse_in_chunks(upload(base64.b64encode(fits).decode()))[0])
    assert 413 == get_error(upload(base64.b64encode(over).decode())).status
