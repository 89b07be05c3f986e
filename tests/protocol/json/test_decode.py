"""The codec: any bytes in, a value or a path out; lenient where real answers differ from the documents."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from veriff_async import Address, Decision, Document, DocumentType, Person, Status, UploadedMedia
from veriff_async._protocol.json.decode import decode_model, dump, load_object, warm_up
from veriff_async._protocol.json.encode import to_request_json
from veriff_async.errors import DecodeError
from veriff_async.models import AdditionalVerifiedData, ParsedAddress, RiskLabel
from veriff_async.models.enums import Gender
from veriff_async.models.events import SessionEvent
from veriff_async.models.session import SessionInfo

CANARY = "Canary-7f3a"
MODELS = (Decision, Person, Document, Address, ParsedAddress, RiskLabel, UploadedMedia, SessionInfo, SessionEvent)
PROBLEM = re.compile(r"(required field missing|expected a text|expected an object) @ \$[A-Za-z.]*")
DEEP = 100_000
MISSING = ("required field missing @ $.verification.id", "required field missing @ $.verification.status")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

# The words of the models, so that arbitrary objects hit their fields.
WORDS = (
    "id status code person document riskLabels label sessionIds addresses parsedAddress action gender isDeceased "
    "decisionTime additionalVerifiedData size type \0raw"
)
keys = st.sampled_from(WORDS.split(" ")) | st.text(max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.just(10**4000)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6), max_leaves=25
)
finite = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def _decision(**members: object) -> Decision:
    return decode_model(Decision, {"verification": {"id": "session", "status": "approved", **members}})


@given(st.dictionaries(st.text(), finite))
def test_encoded_json_decodes_to_an_equal_value(value: dict[str, object]) -> None:
    """An object with any texts is read as it was written."""
    assert value == load_object(dump(value))


def test_json_is_compact() -> None:
    """Bodies have no white space, and letters of every script stand as UTF-8."""
    assert '{"a":[1,"José ✓"],"b":null}'.encode() == dump({"a": [1, "José ✓"], "b": None})


def test_lone_surrogate_is_escaped() -> None:
    """A text that UTF-8 has no form for is written with escapes instead."""
    assert b'{"a":"\\ud800\\u00e9"}' == dump({"a": "\ud800é"})


@given(st.binary() | finite.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_an_object_or_decode_error(body: bytes) -> None:
    """Any bytes give an object or the one error, with nothing behind it that would keep the bytes."""
    try:
        assert isinstance(load_object(body), dict)
    except DecodeError as error:
        assert error.problems[0] in {"expected UTF-8 @ $", "expected JSON @ $", "expected a JSON object @ $"}  # noqa: PT017
        assert (None, None) == (error.__cause__, error.__context__)  # noqa: PT017


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "expected JSON @ $"),
        (b"<html>Bad Gateway</html>", "expected JSON @ $"),
        (b'{"a": NaN}', "expected JSON @ $"),
        (b'{"a": -Infinity}', "expected JSON @ $"),
        (b"\xef\xbb\xbf{}", "expected JSON @ $"),
        (b"{} {}", "expected JSON @ $"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "expected JSON @ $"),
        (b"[" * DEEP, "expected JSON @ $"),
        (b'{"a": ' + b"1" * 5000 + b"}", "expected JSON @ $"),
        (b'"\xff"', "expected UTF-8 @ $"),
        ('{"a": 1}'.encode("utf-16"), "expected UTF-8 @ $"),
        (b"null", "expected a JSON object @ $"),
        (b"[{}]", "expected a JSON object @ $"),
        (b'"text"', "expected a JSON object @ $"),
    ],
    ids=range(14),
)
def test_problem_is_named(body: bytes, problem: str) -> None:
    """The error distinguishes bytes that are not text, text that is not JSON, and JSON that is not an object."""
    with pytest.raises(DecodeError, match=re.escape(problem)) as caught:
        load_object(body)

    assert (problem,) == caught.value.problems
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


@pytest.mark.parametrize("model", MODELS)
@given(value=values)
def test_any_json_gives_a_model_or_decode_error(model: type[object], value: object) -> None:
    """Any JSON gives the model or paths of what was wrong, never the values, with nothing behind the error."""
    try:
        assert isinstance(decode_model(model, value), model)
    except DecodeError as error:
        assert all(PROBLEM.fullmatch(problem) for problem in error.problems)  # noqa: PT017
        assert (None, None) == (error.__cause__, error.__context__)  # noqa: PT017


@pytest.mark.parametrize(
    ("model", "value", "problems"),
    [
        (Decision, {"verification": CANARY}, MISSING),
        (Decision, {"verification.id": CANARY, "verification.status": CANARY}, MISSING),
        (
            Decision,
            {"verification": {"id": {CANARY: 1}, "status": ""}},
            ("expected a text @ $.verification.id", "expected a text @ $.verification.status"),
        ),
        (Decision, [CANARY], ("expected an object @ $",)),
        (SessionInfo, {"id": None}, ("expected a text @ $.id",)),
        (UploadedMedia, {"id": True}, ("expected a text @ $.id",)),
        (SessionEvent, {"action": ""}, ("required field missing @ $.id", "expected a text @ $.action")),
    ],
)
def test_problems_have_the_paths_of_the_response(model: type[object], value: object, problems: tuple[str, ...]) -> None:
    """Every required field that is missing or of another kind is named as the answer would, without its value."""
    with pytest.raises(DecodeError) as caught:
        decode_model(model, value)

    assert problems == caught.value.problems
    assert "; ".join(problems) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "name", "value", "expected"),
    [
        # numbers, which come as numbers or texts
        ("code", "code", 9001, 9001),
        ("code", "code", "9001", 9001),
        ("code", "code", 9001.0, 9001),
        ("code", "code", 2**70, 2**70),
        ("code", "code", None, None),
        ("code", "code", "", None),
        ("code", "code", "nine", None),
        ("code", "code", 9001.5, None),
        ("code", "code", True, None),
        ("code", "code", "inf", None),
        ("code", "code", [9001], None),
        ("reasonCode", "reason_code", "203", 203),
        ("riskScore", "risk_score", {"score": 1}, 1.0),
        ("riskScore", "risk_score", {"score": "0.5"}, 0.5),
        ("riskScore", "risk_score", {"score": 1e400}, None),
        ("riskScore", "risk_score", {"score": 10**400}, None),
        ("riskScore", "risk_score", 0.5, None),
        ("riskScore", "risk_score", {}, None),
        # texts, which come empty for unknown, and ids as numbers
        ("reason", "reason", "", None),
        ("reason", "reason", {}, None),
        ("reason", "reason", False, None),
        ("vendorData", "vendor_data", 42, "42"),
        ("vendorData", "vendor_data", 1.5, "1.5"),
        ("attemptId", "attempt_id", None, None),
        # moments
        ("decisionTime", "decision_time", "2026-01-02T12:00:00Z", NOON),
        ("decisionTime", "decision_time", "2026-01-02T12:00:00.000Z", NOON),
        ("decisionTime", "decision_time", "2026-01-02T12:00:00.000001Z", NOON + timedelta(microseconds=1)),
        ("decisionTime", "decision_time", "2026-01-02T14:00:00+02:00", NOON),
        ("decisionTime", "decision_time", "0001-01-01T00:00:00+14:00", None),
        ("decisionTime", "decision_time", "soon", None),
        ("decisionTime", "decision_time", "", None),
        ("decisionTime", "decision_time", 1767355200, None),
        # lists and objects
        ("riskLabels", "risk_labels", None, ()),
        ("riskLabels", "risk_labels", {}, ()),
        ("riskLabels", "risk_labels", [None, 1, {}, {"label": ""}, {"label": "a"}], (RiskLabel(label="a"),)),
        ("person", "person", None, Person()),
        ("person", "person", [], Person()),
        ("document", "document", None, Document()),
        ("additionalVerifiedData", "additional_verified_data", None, AdditionalVerifiedData()),
        (
            "additionalVerifiedData",
            "additional_verified_data",
            {"estimatedAge": "30"},
            AdditionalVerifiedData(estimated_age=30),
        ),
    ],
)
def test_optional_fields_are_decoded_leniently(key: str, name: str, value: object, expected: object) -> None:
    """An optional field is read in every form that was seen, and else absent; `raw` has it as it came."""
    decision = _decision(**{key: value})

    found = getattr(decision, name)
    assert (expected, type(expected)) == (found, type(found))
    assert {"verification": {"id": "session", "status": "approved", key: value}} == decision.raw


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), (False, False), (None, None), ("True", True), ("no", None), (1, None)]
)
def test_flags_are_booleans_or_their_names(value: object, expected: bool | None) -> None:  # noqa: FBT001
    """A flag is true or false, or the text of one as watchlist searches have it, or else unknown."""
    assert expected is decode_model(Document, {"nfcValidated": value}).nfc_validated


def test_lists_of_texts_keep_their_texts() -> None:
    """A list of ids keeps what can be read as a text."""
    label = decode_model(RiskLabel, {"label": "a", "sessionIds": ["1", 2, None, "", {}]})

    assert ("1", "2") == label.session_ids


@given(st.datetimes(timezones=st.timezones(), min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_times_are_aware_and_in_utc(moment: datetime) -> None:
    """A time with any offset becomes the same moment in UTC."""
    found = _decision(decisionTime=moment.isoformat()).decision_time

    assert found is not None
    assert (UTC, moment.astimezone(UTC)) == (found.tzinfo, found)


def test_time_without_offset_is_utc() -> None:
    """A time without an offset, which no document shows, is read as UTC like all the others."""
    assert NOON == _decision(decisionTime="2026-01-02T12:00:00").decision_time


def test_unknown_fields_are_kept_at_every_depth() -> None:
    """JSON members without a field are kept in the `raw` of the model."""
    person = {"weight": "160 lb", "addresses": [{"kind": "home", "parsedAddress": {"floor": 3}}]}
    decision = _decision(person=person, newer={"deep": [1]})

    address = decision.person.addresses[0]
    assert address.parsed_address is not None
    assert person == decision.person.raw
    assert {
        "verification": {"id": "session", "status": "approved", "person": person, "newer": {"deep": [1]}}
    } == decision.raw
    assert ({"floor": 3}, "home") == (address.parsed_address.raw, address.raw["kind"])


def test_response_cannot_choose_its_raw() -> None:
    """Even the key under which the codec hands on the answer is, in an answer, a key like any other."""
    value = {"id": "session", "\0raw": {"forged": True}}

    assert value == decode_model(SessionInfo, value).raw
    assert {"root": True} == decode_model(SessionInfo, value, raw={"root": True}).raw


@given(st.text(min_size=1))
def test_documented_words_are_members(word: str) -> None:
    """A word of an open enum, known or newer than the library, is a member of it and not a mere text."""
    decision = _decision(status=word, person={"gender": word}, document={"type": word})

    found = (decision.status, decision.person.gender, decision.document.type)
    assert (Status(word), Gender(word), DocumentType(word)) == found
    assert (Status, Gender, DocumentType) == tuple(map(type, found))


def test_empty_word_is_none() -> None:
    """An empty text for an optional word is read as None."""
    assert None is decode_model(Person, {"gender": ""}).gender


def test_request_json_omits_missing_fields() -> None:
    """A model is written in Veriff's words, without absent fields and without its `raw`."""
    person = Person(first_name="Ada", year_of_birth="1815", raw={"lastName": CANARY})

    assert {"firstName": "Ada", "yearOfBirth": "1815"} == to_request_json(person)


@given(st.builds(Document, number=st.none() | st.text(min_size=1), nfc_validated=st.none() | st.booleans()))
def test_request_json_can_be_decoded(document: Document) -> None:
    """A model that is written and read again is equal."""
    assert document == decode_model(Document, to_request_json(document))


def test_decoders_can_be_compiled_beforehand() -> None:
    """A model whose reader was made beforehand is read like any other."""
    warm_up(Decision, Person)

    assert Person(first_name="Ada") == decode_model(Person, {"firstName": "Ada"})
