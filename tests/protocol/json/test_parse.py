"""JSON has one meaning, with the extra `speed` and without it: any bytes give the same value, or the same error."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from veriff_async import Decision, Status
from veriff_async._protocol.json import parse
from veriff_async._protocol.json.encode import dump_json
from veriff_async._protocol.json.parse import parse_with_orjson, parse_with_standard_library
from veriff_async.models.events import DecisionEvent

if TYPE_CHECKING:
    from collections.abc import Callable

BOTH: Final = pytest.mark.parametrize("parse_json", [parse_with_orjson, parse_with_standard_library])
# Nested less than Python's own recursion limit, so that both can read it wherever they are called.
_DEEP: Final = 400

_NUMBERS: Final = st.from_regex(r"-?(?:0|[1-9][0-9]{0,40})(?:\.[0-9]{1,25})?(?:[eE][+-]?[0-9]{1,3})?", fullmatch=True)
# Texts as they are written: characters that need an escape or none, escapes of every form, and halves of pairs.
_CHARACTERS: Final = ["a", "é", "\u2028", "😀", "\x7f", "\x00", "\n", '"', "\\"]
_ESCAPES: Final = [r"\n", r"\/", r"\"", r"\\", r"\u0061", r"\u00E9", r"\ud83d", r"\ude00", r"\u0000", r"\x", r"\u12"]
_PARTS: Final = st.sampled_from(_CHARACTERS + _ESCAPES)
_TEXTS: Final = st.lists(_PARTS, max_size=4).map(lambda parts: f'"{"".join(parts)}"')
_NAMES: Final = st.sampled_from(['"a"', '"b"', r'"\u0061"', '""', '"aa"'])
_SPACES: Final = st.sampled_from(["", "", "", " ", "\r\n\t", "\v", "\ufeff"])
_WORDS: Final = st.sampled_from(["null", "true", "false", "NaN", "Infinity", "-Infinity", "nul", "-", "", "01", "1."])


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.builds(lambda items, space: f"[{f',{space}'.join(items)}]", st.lists(inner, max_size=4), _SPACES)
    members = st.lists(
        st.builds(lambda name, space, value: f"{name}:{space}{value}", _NAMES, _SPACES, inner), max_size=4
    )
    return lists | members.map(lambda found: f"{{{','.join(found)}}}")


_DOCUMENTS: Final = st.recursive(_NUMBERS | _TEXTS | _WORDS, _containers, max_leaves=12)


def outcome(parse_json: Callable[[bytes], object], body: bytes) -> str:
    """Return the value with its types, its signs and its order of members, or the class of the error."""
    try:
        return ascii(parse_json(body))
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError):
        return "not JSON"


def assert_same(body: bytes) -> None:
    """Compare both parsers."""
    assert outcome(parse_with_orjson, body) == outcome(parse_with_standard_library, body)


@given(st.binary(max_size=40))
def test_any_bytes_give_the_same_value_or_error(body: bytes) -> None:
    """Bytes that are not JSON are refused by both."""
    assert_same(body)


@settings(max_examples=300)
@given(_SPACES, _DOCUMENTS, _SPACES)
def test_every_spelling_of_json_gives_the_same_value_or_error(before: str, document: str, after: str) -> None:
    """Numbers of any size, names that occur twice, escapes, white space, and what is almost JSON."""
    assert_same(f"{before}{document}{after}".encode())


@given(_DOCUMENTS, st.integers(min_value=0), st.binary(max_size=2))
def test_damaged_json_gives_the_same_value_or_error(document: str, place: int, damage: bytes) -> None:
    """Bytes are replaced at any place, also in the middle of a character."""
    body = document.encode()
    start = place % (len(body) + 1)
    assert_same(body[:start] + damage + body[start + len(damage) :])


@settings(max_examples=300)
@given(st.binary(min_size=8, max_size=8), st.sampled_from(["{!r}", "{:.17e}", "{:.16g}", "{:.25g}"]))
def test_every_float_is_read_as_the_same_number(bits: bytes, form: str) -> None:
    """Floats of every size, written with as many digits as they need, with more and with fewer."""
    (number,) = struct.unpack("<d", bits)
    assert_same(f"[{form.format(number)}]".encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"{} ",
        b"{}x",
        b"\xef\xbb\xbf{}",
        b"{}\x00",
        b"[-0]",
        b"[-0.0]",
        b"[0e0,1E5,1e+21,1e21,1e-7,32.0]",
        b"[18446744073709551615,18446744073709551616]",
        b"[-9223372036854775808,-9223372036854775809]",
        b"[1e308,1e309]",
        b"[1e-400]",
        b"[%s]" % (b"9" * 5_000),
        b'{"a":1,"b":2,"a":3}',
        rb'["\ud800"]',
        rb'["\ud83d\ude00"]',
        b'["\xed\xa0\x80"]',
        b'["\x01"]',
        b'["\x7f"]',
        b"[" * 254 + b"]" * 254,
        b"[" * 255 + b"]" * 255,
        b'{"a":' * _DEEP + b"1" + b"}" * _DEEP,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 100_000,
    ],
    ids=lambda body: ascii(body)[:24],
)
def test_known_differences_of_parsers_make_no_difference(body: bytes) -> None:
    """Numbers beyond 64 bits, signs of zero, repeated names, halves of pairs, control characters, depth."""
    assert_same(body)


@BOTH
def test_integers_of_any_size_stay_integers(parse_json: Callable[[bytes], object]) -> None:
    """Orjson reads those beyond 64 bits as floats."""
    assert parse_json(b"[18446744073709551616]") == [18446744073709551616]
    assert ascii(parse_json(b"[-9223372036854775809]")) == "[-9223372036854775809]"


@BOTH
@pytest.mark.parametrize("body", [b"[NaN]", b"[-Infinity]", b"[1e999]", b"", b"{", b'{"a":}', b'{"a":1}}', b"{} {}"])
def test_what_is_not_json_is_a_value_error(parse_json: Callable[[bytes], object], body: bytes) -> None:
    """Numbers that are not finite could not be written again."""
    with pytest.raises(ValueError, match=r"|."):
        parse_json(body)


@BOTH
def test_no_error_is_chained_to_one_with_the_body(parse_json: Callable[[bytes], object]) -> None:
    """An error of orjson keeps the body in its `doc`."""
    with pytest.raises(json.JSONDecodeError) as raised:
        parse_json(b'{"name": ')
    assert not isinstance(raised.value.__context__, ValueError)


def test_orjson_is_used_if_it_is_installed() -> None:
    """The development environment has it, and a message as Veriff writes it needs no second parser."""
    assert parse.parse_json is parse_with_orjson
    decision = Decision(session_id="s", status=Status.APPROVED, risk_score=0.21, vendor_data='MÄRI/\n"\u2028')
    body = dump_json(DecisionEvent(decision=decision))
    assert orjson.dumps(orjson.loads(body)) == body


def test_the_package_works_without_orjson() -> None:
    """An environment without the extra `speed` uses the standard parser."""
    program = (
        "import sys; sys.modules['orjson'] = None\n"
        "from veriff_async._protocol.json import parse\n"
        "assert parse.parse_json is parse.parse_with_standard_library\n"
        "from veriff_async import Credentials, parse_webhook\n"
        "credentials = Credentials('key', 'secret')\n"
        'body = b\'{"action":"started","id":"s","code":7001}\'\n'
        "headers = {'x-auth-client': 'key', 'x-hmac-signature': credentials.sign(body)}\n"
        "print(parse_webhook(headers, body, credentials).session_id)\n"
    )
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603
    assert completed.stdout == "s\n"
