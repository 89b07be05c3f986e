"""Readers that are written out: they read as cattrs does, and make what ``__init__`` makes."""

from __future__ import annotations

import copy
import pickle
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest
from attrs import NOTHING, evolve, fields, has, resolve_types
from attrs.exceptions import FrozenInstanceError
from hypothesis import given, settings, strategies as st

from veriff_async import Decision, Person, Status, UnknownEvent, WebhookEvent
from veriff_async._protocol.json import decode
from veriff_async._protocol.json.decode import decode_model
from veriff_async._protocol.json.paths import RAW, field_paths
from veriff_async.errors import DecodeError
from veriff_async.models import AdditionalVerifiedData
from veriff_async.models.fullauto import FullAutoDecision
from veriff_async.models.media import MediaList, UploadedMedia
from veriff_async.models.record import PersonRecord
from veriff_async.models.session import SessionInfo
from veriff_async.models.watchlist import WatchlistScreening

if TYPE_CHECKING:
    from attrs import AttrsInstance

ANSWERS = (Decision, FullAutoDecision, MediaList, PersonRecord, SessionInfo, UploadedMedia, WatchlistScreening)
MODELS: Final[tuple[type[Any], ...]] = (
    *ANSWERS,
    *(kind for kind in get_args(WebhookEvent) if kind is not UnknownEvent),
)
VALUES: Final[tuple[object, ...]] = (
    None,
    "",
    "text",
    "approved",
    "yes",
    "true",
    "2026-01-02T12:00:00.123Z",
    True,
    7,
    0.5,
    float("nan"),
    [],
    {},
)


def parts(model: type[AttrsInstance]) -> set[type[AttrsInstance]]:
    """Return a model, and every other that is a part of it."""
    resolve_types(model)
    found = {model}
    kinds = [attribute.type for attribute in fields(model)]
    while kinds:
        kind = kinds.pop()
        if isinstance(kind, type) and has(kind):
            found |= parts(kind)
        elif isinstance(kind, UnionType) or get_args(kind):
            kinds += get_args(kind)
    return found


def messages(model: type[AttrsInstance]) -> st.SearchStrategy[object]:
    """Return objects whose members have the names that the model and its parts read."""
    names = {name for part in parts(model) for path in field_paths(part) for name in (*path.parents, path.member)}
    leaves = st.sampled_from(VALUES) | st.text(max_size=3)
    inner = st.recursive(
        leaves,
        lambda some: st.dictionaries(st.sampled_from(sorted(names)), some, max_size=12) | st.lists(some, max_size=3),
        max_leaves=40,
    )
    required = {
        path.path: st.just("text") | inner
        for path in field_paths(model)
        if next(field for field in fields(model) if field.name == path.field).default is NOTHING
    }
    return st.builds(
        _nest, st.fixed_dictionaries(required), st.dictionaries(st.sampled_from(sorted(names)), inner, max_size=12)
    )


def _nest(required: dict[str, object], others: dict[str, object]) -> dict[str, object]:
    root = dict(others)
    for path, value in required.items():
        at = root
        *parents, member = path.split(".")
        for parent in parents:
            there = at.get(parent)
            at[parent] = at = there if isinstance(there, dict) else {}
        at[member] = value
    return root


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=8)
@given(data=st.data())
def test_compiled_decoder_equals_cattrs(model: type[AttrsInstance], data: st.DataObject) -> None:
    """The compiled decoder gives the same model or the same problems as cattrs, for any JSON."""
    message = data.draw(messages(model))
    try:
        found: object = decode_model(model, message)
    except DecodeError as error:
        found = error.problems
    try:
        expected: object = decode._decode_detailed(model, message, "$")  # type: ignore[arg-type]
    except DecodeError as error:
        expected = error.problems

    assert found == expected
    assert repr(found) == repr(expected)


@pytest.mark.parametrize("model", MODELS)
def test_keys_are_safe_in_source_text(model: type[AttrsInstance]) -> None:
    """No key that cattrs is given has a sign that ends a text in source code: cattrs before 26.2 escapes none."""
    for key in (RAW, *(path.path for part in parts(model) for path in field_paths(part))):
        assert key.isprintable()
        assert not set(key) & set("\\'\"{}")


@pytest.mark.parametrize("model", MODELS)
def test_decoded_models_have_no_converters_or_validators(model: type[AttrsInstance]) -> None:
    """A model that is read converts, checks and adds nothing when it is made, since its reader makes it without."""
    for part in parts(model):
        assert not hasattr(part, "__attrs_post_init__")
        for field in fields(part):
            assert (None, None) == (field.converter, field.validator)


@pytest.fixture
def decision() -> Decision:
    """A decision that was read."""
    root = {"verification": {"id": "session", "status": "approved", "person": {"firstName": "Ada"}}}
    return decode_model(Decision, root)


def test_decoded_model_equals_a_constructed_one(decision: Decision) -> None:
    """A model that was read is of the very class, equal to one that was made, and has its hash and its repr."""
    made = Decision(session_id="session", status=Status.APPROVED, person=Person(first_name="Ada"))
    assert type(decision) is Decision
    assert made == decision
    assert repr(made) == repr(decision)
    assert hash(made.person) == hash(decision.person)


def test_decoded_model_is_frozen(decision: Decision) -> None:
    """A field of a model that was read can neither be set nor deleted."""
    with pytest.raises(FrozenInstanceError):
        decision.status = Status.DECLINED  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del decision.person.first_name


def test_decoded_model_can_be_copied_and_evolved(decision: Decision) -> None:
    """A model that was read pickles, copies and evolves, and keeps its raw."""
    for copied in (pickle.loads(pickle.dumps(decision)), copy.copy(decision), copy.deepcopy(decision)):  # noqa: S301
        assert decision == copied
        assert decision.raw == copied.raw
    assert evolve(decision, status=Status.DECLINED).raw is decision.raw


def test_defaults_are_not_shared() -> None:
    """A member that is absent gives each model a mapping of its own, as making it does."""
    one, other = (decode_model(AdditionalVerifiedData, {"estimatedAge": 30.0}) for _ in range(2))
    assert one.drivers_license_category == other.drivers_license_category == {}
    assert one.drivers_license_category is not other.drivers_license_category
