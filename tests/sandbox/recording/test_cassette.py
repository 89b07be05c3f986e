"""A cassette is checked line by line, because people edit it."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, strategies as st

from veriff_async import ConfigurationError
from veriff_async.sandbox._recording.cassette import CassetteFile, head_line, read_cassette, write_entry

if TYPE_CHECKING:
    from pathlib import Path

HEAD: Final = head_line(recorder="veriff-async 1", recorded_at="2026-01-01T00:00:00Z", is_redacted=True)
REQUEST: Final[dict[str, object]] = {"method": "get", "path": "/v1/x", "headers": {"A": "b"}, "body": None}
RESPONSE: Final[dict[str, object]] = {"status": 200, "headers": {}, "body": {"size": 2, "json": {}}}

NAMES: Final = st.sampled_from(["kind", "number", "at", "seconds", "ending", "request", "response", "cassette", "x"])
JSON: Final = st.recursive(
    st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)
)
DEEP: Final = json.loads("[" * 103 + "]" * 103)


def entry(number: int = 0, **members: object) -> dict[str, object]:
    """Return an entry."""
    found = {"kind": "exchange", "number": number, "at": 0.5, "seconds": 0, "ending": "complete"}
    return {**found, "request": REQUEST, "response": RESPONSE, **members}


def test_entries_are_read_in_the_order_in_which_they_began() -> None:
    """Lines are in the order of their ends; empty lines, the mark of an editor and the last line end do not matter."""
    data = BOM_UTF8 + HEAD + write_entry(entry(1)) + b"\n" + write_entry(entry(0, response=None)).rstrip()
    cassette = read_cassette(data)
    assert [each.number for each in cassette.entries] == [0, 1]
    assert [each.line for each in cassette.entries] == [4, 2]
    assert not cassette.is_truncated
    assert cassette.is_redacted
    first, second = cassette.entries
    assert first.response is None
    assert second.request.method == "GET"
    assert second.request.headers == {"a": "b"}
    assert second.response is not None
    assert (second.response.has_json, second.response.content, second.response.size) == (True, {}, 2)


def test_a_last_line_without_its_end_is_left_out() -> None:
    """A recorder that was killed in the middle of a line leaves the lines before it."""
    whole = HEAD + write_entry(entry(0))
    for size in (1, 20, 100):
        cassette = read_cassette(whole + write_entry(entry(1))[:size])
        assert len(cassette.entries) == 1
        assert cassette.is_truncated


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Line 1 .* not the first line"),
        (b"PNG\n", "Line 1 .* not a JSON object"),
        (b"{}\n", "Line 1 .* not the first line"),
        (b'{"cassette":{"version":2,"new":1}}\n', "version 2, and this veriff-async reads version 1"),
        (b'{"cassette":{"version":"Anna"}}\n', "version unknown"),
        (b'{"cassette":{"version":1}}\n', "Line 1 .* true or false in cassette.redacted"),
        (HEAD + b"{\n", "Line 2 .* not a JSON object"),
        (HEAD + write_entry(entry(kind="request")), "Line 2 .* one of exchange, webhook in kind"),
        (HEAD + write_entry(entry(secondz=1)), "Line 2 .* 'secondz' in its entry; did you mean 'seconds'"),
        (HEAD + write_entry(entry(at=-1)), "Line 2 .* a number in at"),
        (HEAD + write_entry(entry(number=True)), "a whole number in number"),
        (HEAD + write_entry(entry(request={**REQUEST, "path": ""})), "a text in request.path"),
        (HEAD + write_entry(entry(request={**REQUEST, "headers": {"a": 1}})), "texts in request.headers"),
        (HEAD + write_entry(entry(response={**RESPONSE, "status": 42})), "an HTTP status in response.status"),
        (HEAD + write_entry(entry(response={**RESPONSE, "body": {"json": 1}})), "a whole number in response.body.size"),
        (HEAD + write_entry(entry(response={**RESPONSE, "status": 101})), "an HTTP status in response.status"),
        (
            HEAD + write_entry(entry(response={**RESPONSE, "headers": {"a": "Anna\r\nb: c"}})),
            "headers in response.headers",
        ),
        (HEAD + write_entry(entry(response={**RESPONSE, "headers": {"a b": "Anna"}})), "headers in response.headers"),
        (HEAD + write_entry(entry(response={**RESPONSE, "body": {"size": 1, "jsn": 1}})), "'jsn' in its body; did you"),
        (HEAD + write_entry(entry(response={**RESPONSE, "body": {"size": 10**11}})), "at most 1073741824 in response"),
        (HEAD + write_entry(entry(response={**RESPONSE, "body": {"size": 1, "json": DEEP}})), "more than 100 objects"),
        (HEAD + write_entry(entry(response=[])), "an object in response"),
        (HEAD + write_entry(entry(0)) * 2, "Line 3 .* number 0, which line 2 has too"),
    ],
)
def test_an_error_names_the_line_and_the_member(data: bytes, message: str) -> None:
    """An error says where to look, and shows no value."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_cassette(data)
    assert "Anna" not in str(caught.value)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    """Any line is read, or refused with its number."""
    for data in (line + b"\n", HEAD + line + b"\n", HEAD + line):
        try:
            read_cassette(data)
        except ConfigurationError as error:
            assert str(error).startswith(("Line ", "The cassette has version"))  # noqa: PT017  either is fine


def test_entries_survive_writing() -> None:
    """Everything that a body may contain can be written, lone surrogates included."""
    value: Any = {"a": ["\ud800", "ä", 1.5, None, 10**30]}
    response = {**RESPONSE, "body": {"size": 3, "json": value}}
    found = read_cassette(HEAD + write_entry(entry(response=response))).entries[0].response
    assert found is not None
    assert found.content == value


def test_cassette_that_cannot_be_created_is_a_clear_error(tmp_path: Path) -> None:
    """The error has the reason and the remedy, without the path."""
    (tmp_path / "taken").write_bytes(b"")
    for name, message in (("taken", "exists already"), ("a/b", "cannot be created"), ("a\0b", "no file can have")):
        with pytest.raises(ConfigurationError, match=message) as caught:
            CassetteFile(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)
