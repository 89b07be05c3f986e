"""JSON is written as JavaScript writes it: receivers serialise bodies again before they check a signature."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from decimal import Decimal
from typing import Final

import pytest
from hypothesis import example, given, settings, strategies as st

from veriff_async import (
    Credentials,
    Decision,
    InvalidArgumentError,
    Person,
    Status,
    dump_json,
    from_json,
    parse_webhook,
    to_json,
)
from veriff_async._protocol.json.decode import dump, load_object, stringify
from veriff_async.models import AdditionalVerifiedData
from veriff_async.models.numbers import number_text

FLOATS: Final = st.floats(allow_nan=False, allow_infinity=False)
WHOLE: Final = st.integers(-(2**53), 2**53)
NAMES: Final = st.text(st.characters(), max_size=5) | st.integers(0, 2**33).map(str)
VALUES: Final = st.recursive(
    st.none() | st.booleans() | WHOLE | FLOATS | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
NODE: Final = shutil.which("node")
PROGRAM: Final = """
const lines = require("fs").readFileSync(0, "utf8").split("\\n");
process.stdout.write(lines.map((line) => JSON.stringify(JSON.parse(line))).join("\\n"));
"""


def ecmascript(number: float) -> str:
    """Return the text of a number by the steps of ECMA-262, Number::toString, which share no code with the package."""
    if number == 0:
        return "0"
    if number < 0:
        return "-" + ecmascript(-number)
    mantissa, exponent = f"{Decimal(repr(number)):e}".lower().split("e")
    digits = mantissa.replace(".", "").rstrip("0")
    k, n = len(digits), int(exponent) + 1
    if k <= n <= 21:
        return digits + "0" * (n - k)
    if 0 < n <= 21:
        return digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return "0." + "0" * -n + digits
    sign = "+" if n > 0 else "-"
    return (digits if k == 1 else f"{digits[0]}.{digits[1:]}") + "e" + sign + str(abs(n - 1))


@given(FLOATS)
@example(32.0)
@example(-0.0)
@example(1e-05)
@example(0.000001)
@example(1e-07)
@example(123456789012345680000.0)
@example(1e21)
@example(5e-324)
def test_numbers_are_written_as_javascript_writes_them(number: float) -> None:
    """Every float is written by the rules of ECMA-262, alone and inside of a body."""
    assert ecmascript(number) == number_text(number)
    assert f'{{"a":[{ecmascript(number)}],"b":"1e-05"}}'.encode() == stringify({"a": [number], "b": "1e-05"})


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
@settings(max_examples=20)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=20))
def test_real_javascript_writes_the_same(values: list[dict[str, object]]) -> None:
    """Node parses and serialises every body to the same bytes."""
    bodies = b"\n".join(stringify(value) for value in values)
    assert NODE is not None

    again = subprocess.run([NODE, "-e", PROGRAM], input=bodies, capture_output=True, check=True).stdout  # noqa: S603

    assert bodies == again


@given(st.dictionaries(NAMES, VALUES))
def test_stored_numbers_keep_their_value(value: dict[str, object]) -> None:
    """Bodies of requests and stores have JavaScript's numbers too, and are equal when they are read again."""
    written = dump(value)

    assert value == load_object(written) == json.loads(written)
    assert written == dump(load_object(written))


@pytest.mark.parametrize(
    ("number", "text"), [(32.0, b"32"), (1e-05, b"0.00001"), (1.5e-7, b"1.5e-7"), (-0.0, b"0"), (0.1, b"0.1")]
)
def test_models_have_javascript_numbers(number: float, text: bytes) -> None:
    """The body of a model has no fraction for a whole number, and a small number in JavaScript's form."""
    made = Decision(
        session_id="1",
        status=Status.APPROVED,
        risk_score=number,
        additional_verified_data=AdditionalVerifiedData(estimated_age=number),
        raw={"newer": {"n": [number]}},
    )
    body = dump_json(made)

    assert b'"riskScore":{"score":' + text + b"}" in body
    assert b'"estimatedAge":' + text in body
    assert b'"newer":{"n":[' + text + b"]}" in body
    assert made == from_json(Decision, body)


def test_json_dumps_writes_whole_numbers_too() -> None:
    """The result of `to_json` has integers for whole numbers, so that any serialiser writes them without a fraction."""
    made = Decision(session_id="1", status=Status.APPROVED, risk_score=1.0, raw={"verification": {"newer": [2.0]}})

    assert '"score": 1}' in json.dumps(to_json(made))
    assert '"newer": [2]' in json.dumps(to_json(made))


def test_stored_webhook_keeps_its_dedup_key() -> None:
    """A message whose numbers came with a fraction is the same message after it was stored and read."""
    came = b'{"sessionId":"1","newer":32.0,"small":1e-05}'
    stored = dump(load_object(came))

    assert came != stored
    assert _key(came) == _key(stored)


def _key(body: bytes) -> str:
    credentials = Credentials("f9ae4cbd-9a3f-4a3b-b07b-7f1a2f4f9d10", "secret")
    headers = {"x-auth-client": credentials.api_key, "x-hmac-signature": credentials.sign(body)}
    return parse_webhook(headers, body, credentials).dedup_key


@pytest.mark.parametrize("value", [{"a": math.nan}, {"a": math.inf}, {"a": object()}, {"a": {1, 2}}, {("a",): 1}])
def test_value_without_json_is_rejected(value: dict[str, object]) -> None:
    """A value that JSON has no form for is refused with an error of ours that does not show it."""
    with pytest.raises(InvalidArgumentError, match="cannot be written as JSON") as caught:
        dump_json(value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_model_with_infinite_number_is_rejected() -> None:
    """A model with an infinite number or NaN is rejected like any other value."""
    with pytest.raises(InvalidArgumentError):
        dump_json(Decision(session_id="1", status=Status.APPROVED, risk_score=math.nan))
    with pytest.raises(InvalidArgumentError):
        dump_json(Person(raw={"newer": math.inf}))
