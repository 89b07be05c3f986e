"""Optional fields of a decision are decoded when they are first read, which no reader can notice."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Final

import pytest
from attrs import asdict, evolve, fields
from hypothesis import given, strategies as st

from veriff_async import Decision, DecisionSource, from_json
from veriff_async._protocol.json.decode import decode_model
from veriff_async.errors import DecodeError
from veriff_async.models.lazy import PART_DECODERS
from veriff_async.models.person import Person

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN: Final = {
    "code": "code",
    "reason": "reason",
    "reason_code": "reasonCode",
    "vendor_data": "vendorData",
    "end_user_id": "endUserId",
    "acceptance_time": "acceptanceTime",
    "submission_time": "submissionTime",
    "risk_score": "riskScore",
}
LAZY: Final = PLAIN | {
    "person": "person",
    "document": "document",
    "risk_labels": "riskLabels",
    "additional_verified_data": "additionalVerifiedData",
    "biometric_authentication": "biometricAuthentication",
    "insights": "insights",
}
MEMBERS: Final[dict[str, object]] = {"id": "s", "status": "approved", "person": {"firstName": "Ann"}}
_VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["label", "result", "raw"]), inner),
    max_leaves=5,
)


def read(decision: Decision) -> list[object]:
    """Return every field but ``raw``."""
    return [getattr(decision, field.name) for field in fields(Decision) if field.name != "raw"]


def is_decoded(decision: Decision, name: str) -> bool:
    """Return whether a field has its value already."""
    try:
        object.__getattribute__(decision, name)
    except AttributeError:
        return False
    return True


@given(st.dictionaries(st.sampled_from(sorted(LAZY.values())), _VALUES))
def test_parts_of_any_json_are_those_that_are_decoded_at_once(parts: dict[str, object]) -> None:
    """A part with a wrong value is never an error, neither at once nor when it is read."""
    body: dict[str, object] = {"verification": {**MEMBERS, **parts}}
    at_once = decode_model(Decision, body, raw={})
    assert all(is_decoded(at_once, name) for name in LAZY)
    assert read(decode_model(Decision, body)) == read(at_once)


def test_only_parts_without_required_members_wait_for_a_reader() -> None:
    """A decision without its session or status is refused at once; models and plain values are read apart."""
    decision = decode_model(Decision, {"verification": MEMBERS})
    assert {name for model, name in PART_DECODERS if model is Decision} == {*LAZY, "ip"}
    assert [name for name in LAZY if is_decoded(decision, name)] == []
    assert decision.person.first_name == "Ann"
    assert [name for name in LAZY if is_decoded(decision, name)] == ["person"]
    assert decision.code is None
    assert {name for name in LAZY if is_decoded(decision, name)} == {"person", *PLAIN}
    assert decision.person is decision.person
    with pytest.raises(DecodeError):
        from_json(Decision, {"verification": {"id": "s", "person": MEMBERS["person"]}})


@pytest.mark.parametrize(
    "use",
    [
        lambda decision: pickle.loads(pickle.dumps(decision)),  # noqa: S301  our own
        copy.copy,
        copy.deepcopy,
        lambda decision: evolve(decision, source=DecisionSource.POLL),
        lambda decision: decision,
    ],
    ids=["pickle", "copy", "deepcopy", "evolve", "itself"],
)
def test_copies_have_every_part(use: Callable[[Decision], Decision]) -> None:
    """A copy is equal, hashes and prints alike, and does not need its ``raw`` for it."""
    written = Decision(session_id="s", status=decode_model(Decision, {"verification": MEMBERS}).status, person=Person())
    expected = evolve(written, person=decode_model(Decision, {"verification": MEMBERS}).person)
    copied = use(decode_model(Decision, {"verification": MEMBERS}))
    assert copied == expected
    assert repr(evolve(copied, source=None)) == repr(expected)
    assert asdict(evolve(copied, raw={}, source=None)) == asdict(expected)


def test_unknown_names_are_attribute_errors() -> None:
    """A misspelled field is the error that it is for every object."""
    decision = decode_model(Decision, {"verification": MEMBERS})
    with pytest.raises(AttributeError, match="'Decision' object has no attribute 'persons'"):
        _ = getattr(decision, "persons")  # noqa: B009  a type checker refuses it
    assert not hasattr(object.__new__(Decision), "raw")
