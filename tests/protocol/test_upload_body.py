"""The upload body: its length before a byte is read, its text however the file is cut."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from veriff_async import MediaContext
from veriff_async._protocol.image_header import MIMETYPES
from veriff_async._protocol.upload_body import BodyTemplate, base64_length, encode, image_body_template

contents = st.binary(max_size=3000)
thirds = st.lists(st.integers(0, 1000), max_size=8)
contexts = st.sampled_from(MediaContext) | st.text().map(MediaContext)
moments = st.none() | st.datetimes(timezones=st.timezones())


def _pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    """Cut at multiples of three, here and there into nothing."""
    ends = [0, *sorted(3 * cut for cut in cuts if 3 * cut < len(content)), len(content)]
    return [content[start:end] for start, end in pairwise(ends)]


@given(content=contents, cuts=thirds, context=contexts, mimetype=st.sampled_from(MIMETYPES), taken=moments)
def test_body_has_the_documented_form(
    content: bytes, cuts: list[int], context: MediaContext, mimetype: str, taken: datetime | None
) -> None:
    """However a file is cut, the body is JSON with its context, time and a data URI that decodes to its bytes."""
    template = image_body_template(context, mimetype, taken)

    image = json.loads(b"".join(template.wrap(_pieces(content, cuts))))["image"]

    head, text = image.pop("content").split(",")
    assert f"data:{mimetype};base64" == head
    assert content == base64.b64decode(text, validate=True)
    assert {"context": str(context)} | ({} if taken is None else {"timestamp": taken.isoformat()}) == image


@given(content=contents, cuts=thirds, context=contexts)
def test_length_is_known_before_reading(content: bytes, cuts: list[int], context: MediaContext) -> None:
    """The computed length equals that of the body, for any file and any chunks."""
    template = image_body_template(context, "image/jpeg")

    assert len(b"".join(template.wrap(_pieces(content, cuts)))) == template.length(len(content))


@given(content=contents, cuts=thirds)
def test_chunk_boundaries_do_not_change_the_body(content: bytes, cuts: list[int]) -> None:
    """The body is the same however the file is cut, so that the signature of one pass holds for the next."""
    template = image_body_template(MediaContext.FACE, "image/png")

    assert b"".join(template.wrap([content])) == b"".join(template.wrap(_pieces(content, cuts)))


@given(contents)
def test_base64_is_standard(content: bytes) -> None:
    """Pieces of every kind of buffer are encoded with the standard alphabet and padding."""
    expected = base64.b64encode(content)

    assert [expected] * 3 == [encode(content), encode(bytearray(content)), encode(memoryview(content))]


@pytest.mark.parametrize(
    ("size", "length"), [(0, 0), (1, 4), (3, 4), (4, 8), (17_999_999, 24_000_000), (1 << 40, 1466015503704)]
)
def test_lengths_are_rounded_up_to_whole_groups(size: int, length: int) -> None:
    """Three bytes become four letters, and a begun group counts as a whole one."""
    assert length == base64_length(size)


def test_body_is_pinned() -> None:
    """One body, letter by letter: compact, context before time before content."""
    template = image_body_template(MediaContext.DOCUMENT_FRONT, "image/jpeg", datetime(2024, 1, 1, tzinfo=UTC))

    assert (
        BodyTemplate(
            prefix=b'{"image":{"context":"document-front","timestamp":"2024-01-01T00:00:00+00:00",'
            b'"content":"data:image/jpeg;base64,',
            suffix=b'"}}',
        )
        == template
    )
