"""The upload body, cut anywhere, is read like the whole."""

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


def read(body: bytes, cuts: list[int] | None = None) -> tuple[bytes, UploadDescription]:
    """Read a body that comes cut at the given places."""
    parser = UploadParser(oversize_status=413)
    ends = sorted({0, *(cut % (len(body) + 1) for cut in cuts or ()), len(body)})
    picture = b"".join(parser.feed(body[start:end]) for start, end in pairwise(ends))
    last, described = parser.finish()
    return picture + last, described


def refusal(body: bytes) -> HTTPError:
    """Return how a body is refused."""
    with pytest.raises(HTTPError) as caught:
        read(body)
    return caught.value


def upload(content: str, **image: object) -> bytes:
    """Return a body with a content."""
    return json.dumps({"image": {"context": "face", **image, "content": content}}).encode()


@given(
    picture=st.binary(max_size=300),
    prefix=st.sampled_from(["", "data:image/jpeg;base64,", "data:;base64,", "DATA:image/png;charset=utf-8;base64,"]),
    before=st.dictionaries(st.text().filter(lambda key: key != "image"), JSON, max_size=3),
    beside=st.dictionaries(st.text().filter(lambda key: key != "content"), JSON, max_size=3),
    ascii_only=st.booleans(),
    slashes=st.booleans(),
    indent=st.none() | st.integers(0, 3),
    first=st.booleans(),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_any_body_cut_anywhere_reads_like_the_whole(  # noqa: PLR0913, PLR0917
    picture: bytes,
    prefix: str,
    before: dict[str, object],
    beside: dict[str, object],
    ascii_only: bool,  # noqa: FBT001
    slashes: bool,  # noqa: FBT001
    indent: int | None,
    first: bool,  # noqa: FBT001
    cuts: list[int],
) -> None:
    """Key order, white space, escapes, unknown members and the places of the cuts make no difference."""
    content = {"content": prefix + base64.b64encode(JPEG + picture).decode()}
    image = {**content, **beside} if first else {**beside, **content}
    text = json.dumps({**before, "image": image}, ensure_ascii=ascii_only, indent=indent)
    if slashes:
        text = text.replace("/", r"\/")

    found, described = read(text.encode(errors="surrogatepass") if ascii_only else text.encode(), cuts)

    assert JPEG + picture == found
    assert beside == described.image
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
def test_escapes_mean_what_json_says(parts: list[str], cuts: list[int]) -> None:
    """Whatever escapes the picture's text has, it is what a reader of the whole finds, or it is refused."""
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
            read(body, cuts)
    else:
        assert expected == read(body, cuts)[0]


@given(body=st.binary(), cuts=st.lists(st.integers(0, 100), max_size=4))
def test_garbage_is_refused_and_nothing_else(body: bytes, cuts: list[int]) -> None:
    """Bytes that are no upload give a refusal, never another error."""
    with pytest.raises(HTTPError):
        read(body, cuts)


@given(cut=st.integers(0, 200))
def test_a_body_that_ends_early_is_refused(cut: int) -> None:
    """A body that is cut short gives a refusal wherever it ends."""
    whole = upload(base64.b64encode(JPEG + bytes(60)).decode(), timestamp="2024-01-01T00:00:00Z")

    assert 400 == refusal(whole[: cut % len(whole)]).status


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
def test_each_fault_has_its_code(body: bytes, code: str) -> None:
    """What is missing or wrong is told with Veriff's code for it."""
    assert code == refusal(body).code


def test_mail_style_lines_and_missing_padding_are_forgiven() -> None:
    """Base64 with line ends, or without padding, is read, since no document forbids it."""
    assert JPEG == read(upload("/9j/\r\n4A"))[0]


def test_a_large_rest_is_refused_before_it_fills_the_memory() -> None:
    """What stands beside the picture is bounded."""
    assert 413 == refusal(upload("/9j/4A==", padding="x" * (SKELETON_LIMIT + 1))).status


@pytest.mark.parametrize(
    ("head", "limit", "size"), [(JPEG, 17_999_997, 17_999_998), (b"%PDF-1.7", 19_999_999, 20_000_000)]
)
def test_each_type_has_its_own_limit(head: bytes, limit: int, size: int) -> None:
    """An image is refused from 24 MB of base64 on, a PDF from 20 MB of bytes on, and not a byte earlier."""
    over = head + bytes(size - len(head))
    fits = over[:limit]

    assert limit == len(read(upload(base64.b64encode(fits).decode()))[0])
    assert 413 == refusal(upload(base64.b64encode(over).decode())).status
