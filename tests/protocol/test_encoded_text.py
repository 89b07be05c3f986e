"""Pictures as text: base64 and data URLs are decoded exactly, and everything else is an error that repeats nothing."""

from __future__ import annotations

import base64
import string
from contextlib import suppress
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, strategies as st

from veriff_async._protocol.encoded_text import decode_base64, decode_data_url
from veriff_async.errors import InvalidArgumentError, MediaError, MediaTooLargeError, MediaUnsupportedError

contents = st.binary(max_size=200)
ALPHABET = string.ascii_letters + string.digits + "+/-_=% \n,;:.\"'{}é\0"


@given(content=contents, width=st.integers(1, 80), end=st.sampled_from(["\n", "\r\n", " ", ""]))
def test_base64_in_lines_gives_its_bytes(content: bytes, width: int, end: str) -> None:
    """A text in lines of any width, with any line ends, gives the bytes, as str and as ASCII bytes."""
    text = base64.b64encode(content).decode()
    wrapped = end.join(text[at : at + width] for at in range(0, len(text), width))
    assert content == decode_base64(wrapped) == decode_base64(wrapped.encode())


@given(content=contents)
def test_base64_for_urls_gives_its_bytes(content: bytes) -> None:
    """The alphabet for URLs is accepted; without padding too, if the text shows that it is that alphabet."""
    content = b"\xfb\xff" + content  # "-_"
    text = base64.urlsafe_b64encode(content)
    assert content == decode_base64(text) == decode_base64(text.rstrip(b"="))


@given(content=contents, head=st.sampled_from(["", "image/jpeg", "image/jpeg;name=a.jpg", "IMAGE/PNG", ";charset=x"]))
def test_data_url_gives_its_bytes(content: bytes, head: str) -> None:
    """A data URL gives its bytes: in base64, in base64 with escapes, and with escapes alone."""
    text = base64.b64encode(content).decode()
    escaped = text.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D")
    assert content == decode_data_url(f"data:{head};base64,{text}")
    assert content == decode_data_url(f" DATA:{head};BASE64,{escaped}\n")
    assert content == decode_data_url(f"data:{head},{quote_from_bytes(content, safe='')}")


@given(text=st.text(ALPHABET, max_size=60))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    """Any other text is an error of media, never another exception."""
    for decode in (decode_base64, decode_data_url):
        for form in (text, f"data:image/jpeg;base64,{text}", f"data:,{text}"):
            with suppress(MediaError):
                decode(form)


@pytest.mark.parametrize("text", ["secret", "data:image/jpeg;base64,secret!", "data:,a secret"])
def test_errors_repeat_nothing_of_the_text(text: str) -> None:
    """Neither the message nor a chained exception has a part of the text."""
    for decode in (decode_base64, decode_data_url):
        with pytest.raises(MediaError) as caught:
            decode(text)
        assert "secret" not in str(caught.value)
        assert caught.value.__context__ is None


@given(content=st.binary(min_size=1, max_size=60), cut=st.integers(1, 3))
def test_cut_base64_is_refused(content: bytes, cut: int) -> None:
    """A text in the standard alphabet that lacks its last one to three characters has wrong padding."""
    content = b"\xfb\xef\xbe" + content  # "++++", so that it cannot be the alphabet for URLs
    with pytest.raises(MediaUnsupportedError, match="wrong padding"):
        decode_base64(base64.b64encode(content)[:-cut])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/9j_4AA=", "neither alphabet"),
        ('"/9j/4AAQ"', "neither alphabet"),
        ("data:image/jpeg;base64,/9j/4AAQ", "neither alphabet"),
        ("/9j/4=AQ", "neither alphabet"),
        ("/9j/4A==", None),
        ("/9j/4A=", "wrong padding"),
        ("/9j/4AA==", "wrong padding"),
        ("/9j/4", "wrong padding"),
        ("/9j/é", "not ASCII"),
    ],
)
def test_mistakes_in_base64_are_explained(text: str, words: str | None) -> None:
    """Mixed alphabets, quotes, a prefix, wrong padding and other characters are explained."""
    if words is None:
        assert decode_base64(text)
        return
    with pytest.raises(MediaUnsupportedError, match=words):
        decode_base64(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/9j/4AAQ", "not a data URL"),
        ("data:image/jpeg;base64", "not a data URL"),
        ("data:picture;base64,/9j/4AAQ", "not a data URL"),
        ("data:image/jpeg;base64 ,/9j/4AAQ", "not a data URL"),
        ("data:image/jpeg,%zz", "must be escaped"),
        ("data:image/jpeg,a b", "must be escaped"),
        ("data:" + "a" * 2000 + ",x", "not a data URL"),
    ],
)
def test_mistakes_in_data_urls_are_explained(text: str, words: str) -> None:
    """Text without the prefix, without the comma, or with invalid escapes is explained."""
    with pytest.raises(MediaUnsupportedError, match=words):
        decode_data_url(text)


def test_long_text_is_refused_before_it_is_decoded() -> None:
    """A text that is longer than that of any accepted file is refused by its length; escapes alone much earlier."""
    with pytest.raises(MediaTooLargeError, match="characters"):
        decode_base64("A" * 120_000_000)
    with pytest.raises(MediaTooLargeError, match=";base64"):
        decode_data_url("data:," + "A" * 2_000_000)


@pytest.mark.parametrize("value", [None, 5, bytearray(b"AAAA"), ["AAAA"]])
def test_text_must_be_text(value: object) -> None:
    """Anything but str and bytes is an argument error that names its type."""
    with pytest.raises(InvalidArgumentError, match=type(value).__name__):
        decode_base64(value)
