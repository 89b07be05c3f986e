"""Models are values: every one can be hashed, copied, pickled and written as JSON, or says why not."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from collections.abc import Hashable
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from attrs import fields, frozen, has
from hypothesis import given, settings, strategies as st

from veriff_async import (
    CollectedData,
    Consent,
    Credentials,
    Decision,
    DecodeError,
    Device,
    FraudReport,
    InvalidArgumentError,
    Media,
    Network,
    NfcData,
    Person,
    RetryPolicy,
    UploadProgress,
    from_json,
    models,
    to_json,
)
from veriff_async.batch import Job
from veriff_async.inbox import (
    Delivery,
    DeliveryOutcome,
    DeliveryRecord,
    InboxStatistics,
    RecordResult,
    SessionPage,
    SessionSearch,
    SessionSummary,
)
from veriff_async.testing import decision_event, strategy_for

if TYPE_CHECKING:
    from attrs import AttrsInstance
    from hypothesis.strategies import DataObject

ALL: Final = [
    thing
    for module in pkgutil.iter_modules(models.__path__)
    for name in getattr(importlib.import_module(f"{models.__name__}.{module.name}"), "__all__", ())
    if has(thing := getattr(importlib.import_module(f"{models.__name__}.{module.name}"), name))
]
MADE_BY_HAND: Final[dict[type[object], object]] = {
    Delivery: Delivery(event=decision_event("s1", "approved"), attempt=1, recorded_at=0.5, lease="a"),
    Media: Media("front.jpg", "document-front"),
    UploadProgress: UploadProgress(media=Media(b"x", "face"), bytes_sent=1, total_bytes=2),
}
OF_AN_INBOX: Final = (DeliveryOutcome, DeliveryRecord, InboxStatistics, SessionPage, SessionSearch, SessionSummary)
WITHOUT_JSON: Final = (*MADE_BY_HAND, RecordResult, *OF_AN_INBOX)


def example_of(model: type[Any], data: DataObject) -> object:
    """Return an instance of a model."""
    return MADE_BY_HAND[model] if model in MADE_BY_HAND else data.draw(strategy_for(model))


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.__name__)
@settings(max_examples=8)
@given(data=st.data())
def test_every_model_survives_a_round_trip_and_hashes(model: type[AttrsInstance], data: DataObject) -> None:
    """Every model can be hashed, copied, deep-copied and pickled; the copy is equal and has the same hash."""
    made = example_of(model, data)

    for copied in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301  our bytes
        assert made == copied
        assert hash(made) == hash(copied)


@pytest.mark.parametrize(
    "model",
    [one for one in ALL if one not in WITHOUT_JSON and "raw" not in {attribute.name for attribute in fields(one)}],
    ids=lambda model: model.__name__,
)
@settings(max_examples=8)
@given(data=st.data())
def test_models_without_raw_survive_a_round_trip(model: type[AttrsInstance], data: DataObject) -> None:
    """A model of a request is made again from what it is written as; test_strategies.py holds this for all others."""
    made = data.draw(strategy_for(model))

    assert made == from_json(model, to_json(made))


def test_models_with_json_fields_hash_without_them() -> None:
    """A request model that was made with its required fields alone is a value too."""
    made = CollectedData(provider_name="mine", device=Device(fingerprint="x"), network=Network(address_v4="192.0.2.1"))

    assert made == pickle.loads(pickle.dumps(made)) == copy.deepcopy(made)  # noqa: S301  our own bytes
    assert {made: 1}[copy.copy(made)] == 1


def test_further_members_of_collected_data_survive() -> None:
    """Members that no field has are `extra`, at the root and inside of a member that fields are read from."""
    sent = {
        "providerName": "mine",
        "device": {"fingerprint": "x"},
        "network": {"ip": {"addressV4": "192.0.2.1"}},
        "person": {"email": "ada@example.com", "age": 36},
        "newer": [1],
    }

    made = from_json(CollectedData, sent)

    assert {"person": {"age": 36}, "newer": [1]} == made.extra
    assert sent == to_json(made)


@pytest.mark.parametrize(
    ("model", "sent", "problem"),
    [
        (Consent, {"type": "ine"}, "required field missing @ $.approved"),
        (Consent, {"type": "ine", "approved": "perhaps"}, "expected true or false @ $.approved"),
        (FraudReport, {"categories": []}, "required field missing @ $.sessionId"),
        (Device, {}, "required field missing @ $.fingerprint"),
        (NfcData, {"com": "AA==", "sod": "AA==", "dg1": "AA==", "dg2": "no base64"}, "expected base64 @ $.dg2"),
        (
            CollectedData,
            {"providerName": "x", "network": {}, "device": {}},
            "required field missing @ $.device.fingerprint",
        ),
        (Decision, 5, "expected a JSON object @ $"),
        (Decision, None, "expected a JSON object @ $"),
        (Decision, "\ud800", "expected UTF-8 @ $"),
    ],
)
def test_invalid_json_raises_decode_error(model: type[Any], sent: Any, problem: str) -> None:  # noqa: ANN401  anything
    """JSON that does not fit any model, one of a request included, raises DecodeError, which says where."""
    with pytest.raises(DecodeError) as caught:
        from_json(model, sent)

    assert (problem,) == caught.value.problems


def test_cycle_is_rejected() -> None:
    """A mapping that contains itself is not JSON."""
    circle: dict[str, object] = {}
    circle["self"] = circle
    with pytest.raises(DecodeError):
        from_json(Person, circle)
    with pytest.raises(InvalidArgumentError, match="nested too deeply"):
        to_json(Person(raw=circle))


@frozen
class Foreign:
    """A class of the caller's own."""

    id: str = ""


@pytest.mark.parametrize("other", [*WITHOUT_JSON, int, dict, Foreign, Credentials, RetryPolicy, Job, "Decision", None])
def test_other_classes_are_rejected(other: Any) -> None:  # noqa: ANN401  what callers without types pass
    """A class that does not stand for JSON is refused in words, by `from_json` and by `to_json`."""
    with pytest.raises(InvalidArgumentError, match=r"model must be a class of veriff_async.models with a JSON form"):
        from_json(other, {})
    with pytest.raises(InvalidArgumentError, match="model must be a class"):
        to_json(cast("Any", MADE_BY_HAND.get(other, other)))


def test_decoded_model_does_not_share_the_callers_json() -> None:
    """A parsed object is copied: its caller can change it afterwards, and it can be any mapping."""
    person: dict[str, object] = {"firstName": "Ada", "newer": ["a"]}
    made = from_json(Person, MappingProxyType(person))
    person["newer"] = []

    assert ["a"] == made.raw["newer"]
    assert made == pickle.loads(pickle.dumps(made))  # noqa: S301  our own bytes


@pytest.mark.parametrize("source", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_media_of_equal_bytes_hash_alike(source: bytes) -> None:
    """Media with any source can be hashed, and equal media have the same hash."""
    assert Media(b"x", "face") == Media(source, "face")
    assert hash(Media(b"x", "face")) == hash(Media(source, "face"))
    assert isinstance(hash(Media(BytesIO(b"x"), "face")), int)


def test_every_class_is_declared_hashable() -> None:
    """No model is unhashable by its class, and no field keeps a default that cannot be pickled."""
    for model in ALL:
        assert issubclass(model, Hashable)
        for attribute in fields(model):
            assert not isinstance(attribute.default, MappingProxyType)
