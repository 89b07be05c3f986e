"""JSON of this library's own records, read strictly: anything unexpected is an error.

Veriff's messages are read leniently, because Veriff may add to them. Only this library writes its own records, so
an unknown member or a value of another type means a newer version or damage, and a record with a missing part would
lose work: a dropped media entry is a picture that is never uploaded.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, get_args, get_origin

from attrs import evolve

from veriff_async._protocol.json.decode import decode_error, decode_model, dump, load_object
from veriff_async._protocol.json.encode import to_json
from veriff_async.models.decision import Decision
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.json import as_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import AttrsInstance
    from cattrs import Converter

__all__ = ("dump_strict", "load_strict", "new_converter")

_T = TypeVar("_T", bound="AttrsInstance")

# Types of JSON values accepted for a field's type. They are compared exactly, because `isinstance(True, int)`.
_ACCEPTED: Final[dict[type, tuple[type, ...]]] = {str: (str,), int: (int,), float: (int, float), bool: (bool,)}


def dump_strict(record: AttrsInstance) -> bytes:
    """Write a record as JSON; fields that have their default value are left out."""
    return dump(_converter().unstructure(record))


def load_strict(model: type[_T], text: bytes) -> _T:
    """Read what `dump_strict` wrote.

    Raises:
        DecodeError: This version did not write it.
    """
    members = load_object(text)
    try:
        return _converter().structure(members, model)
    except Exception:  # noqa: BLE001  cattrs and attrs raise many classes, and their texts may hold personal data
        problem = f"expected a {model.__name__} @ $"
    raise decode_error(problem)


@cache
def _converter() -> Converter:
    converter = new_converter()
    converter.register_structure_hook(Decision, _load_decision)
    converter.register_unstructure_hook(Decision, _dump_decision)
    return converter


def new_converter() -> Converter:
    """Return a converter of our own records, to which the caller adds hooks for its own types."""
    from cattrs import Converter

    converter = Converter(forbid_extra_keys=True, omit_if_default=True, detailed_validation=False)
    # cattrs would convert: int("7") is 7, bool("no") is True, and an object becomes a tuple of its keys.
    for kind in _ACCEPTED:
        converter.register_structure_hook(kind, _check_scalar)
    # Hooks are found by class first, and a StrEnum is a `str` too.
    converter.register_structure_hook(StrEnum, _load_enum)
    converter.register_structure_hook_factory(_is_tuple, _make_tuple_hook)
    return converter


def _check_scalar(value: object, kind: type[Any]) -> object:
    if type(value) not in _ACCEPTED[kind]:
        raise TypeError
    return value


def _load_enum(value: object, kind: type[StrEnum]) -> StrEnum:
    return kind(cast("str", value))


def _is_tuple(kind: object) -> bool:
    return get_origin(kind) is tuple


def _make_tuple_hook(kind: object, converter: Converter) -> Callable[[object, object], object]:
    kinds = get_args(kind)
    loads = [converter.get_structure_hook(each) for each in kinds if each is not Ellipsis]

    def load_tuple(value: object, _kind: object) -> object:
        if not isinstance(value, list):
            raise TypeError
        items = cast("list[object]", value)
        if Ellipsis in kinds:
            return tuple([loads[0](item, kinds[0]) for item in items])
        return tuple([load(item, each) for load, item, each in zip(loads, items, kinds, strict=True)])

    return load_tuple


def _dump_decision(decision: Decision) -> dict[str, object]:
    # The JSON of Veriff is kept whole, so that a newer version can read fields which this one does not know.
    return {"source": decision.source, "content": decision.raw or to_json(decision)}


def _load_decision(value: object, _kind: object) -> Decision:
    members = as_object(value)
    if members is None:
        raise TypeError
    source = cast("str | None", members["source"])
    decision = decode_model(Decision, members["content"], path="$.decision.content")
    return evolve(decision, source=None if source is None else DecisionSource(source))
