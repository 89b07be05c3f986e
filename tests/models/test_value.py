"""Values: equal, hashed and shown exactly as attrs would write it for each class."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

import veriff_async
from veriff_async import Credentials, Decision, Media, Person, RetryPolicy, SessionEvent, Status, UploadedMedia
from veriff_async.models.value import Value
from veriff_async.transport.bodies import Proof

if TYPE_CHECKING:
    from attrs import AttrsInstance

VALUES: list[AttrsInstance] = [
    Person(),
    Person(first_name="Ada", last_name="Løvelace"),
    Person(first_name="Ada", raw={"firstName": "Ada"}),
    Media(b"bytes", "face"),
    Media(b"bytes", "face", filename="me.jpg"),
    Decision(session_id="s", status=Status.APPROVED),
    Decision(session_id="s", status=Status.APPROVED, ip="127.0.0.1", raw={"status": "success"}),
    Decision(session_id="s", status=Status.DECLINED, person=Person(first_name="Ada")),
    SessionEvent(session_id="s", action=Status.STARTED),
    SessionEvent(session_id="s", action=Status.STARTED, code=7001, raw={"id": "s"}),
    UploadedMedia(id="m"),
    Credentials("key", "a secret"),
    Credentials("key", "another"),
    RetryPolicy(),
    RetryPolicy(attempts=9),
    Proof(None, 1),
]


def written(value: AttrsInstance) -> Any:  # noqa: ANN401  a class that is made here
    """Return a value with the same fields, of a class for which attrs writes every method."""
    fields = attrs.fields(type(value))
    made = {one.name: attrs.field(eq=one.eq, repr=one.repr) for one in fields}
    twin = attrs.make_class(type(value).__name__, made, frozen=True, slots=True, kw_only=True)
    return twin(**{one.name.lstrip("_"): getattr(value, one.name) for one in fields})


def hashed(value: object) -> int | None:
    """Return the hash, or ``None`` for a value that has none."""
    try:
        return hash(value)
    except TypeError:
        return None


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_shown_as_by_attrs(value: AttrsInstance) -> None:
    """The same text, without the fields that are not to be shown."""
    assert repr(written(value)) == repr(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_equal_as_by_attrs(value: AttrsInstance) -> None:
    """Two are equal when they are of one class and the fields that count are, and then they have one hash."""
    assert isinstance(value, Value)
    mine = written(value)
    for other in VALUES:
        equal = type(value) is type(other) and attrs.evolve(mine, **attrs.asdict(written(other), recurse=False)) == mine
        assert (value == other) == equal
        assert not equal or hashed(value) == hashed(other)
    assert value != mine
    assert (hashed(value) is None) == (hashed(mine) is None), "a field that has no hash"
    assert value == copy.copy(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_can_be_stored(value: AttrsInstance) -> None:
    """They go through pickle, and have no room for other attributes."""
    assert value == pickle.loads(pickle.dumps(value))  # noqa: S301  our own bytes
    assert not hasattr(value, "__dict__")
    with pytest.raises(AttributeError):
        value.more = 1  # type: ignore[attr-defined]


def test_no_class_was_forgotten() -> None:
    """Whatever attrs is told not to write methods for has those of `Value`."""
    for part in ("models", "protocol", "transport"):
        for found in pkgutil.iter_modules([str(Path(veriff_async.__file__).parent / part)]):
            for kind in vars(importlib.import_module(f"veriff_async.{part}.{found.name}")).values():
                plain = isinstance(kind, type) and attrs.has(kind) and kind.__repr__ is object.__repr__
                assert not plain, f"{kind} is no Value"


def test_a_value_without_fields_that_count_is_like_another() -> None:
    """A class that counts no field has equal values only."""

    @attrs.frozen(eq=False, repr=False)
    class Note(Value):
        text: str = attrs.field(eq=False, repr=False)

    assert Note("one") == Note("other")
    assert hash(Note("one")) == hash(Note("other"))
    assert repr(Note("one")) == "Note()"
