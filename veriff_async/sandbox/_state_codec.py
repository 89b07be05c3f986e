"""The JSON of the sandbox's state, for snapshots and for folders in which a sandbox keeps its state. Pure.

Only the sandbox writes this JSON, so it is read strictly (`_protocol.json.strict`): an unknown member, a value of
another type or an unknown word means damage or another version. The models of Veriff inside of it have the JSON that
Veriff gives them.

A path is written as the name of the file. The reader gets it relative, and says where the files are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum, StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, get_args, get_origin

from attrs import has, resolve_types
from pybase64 import b64decode, b64encode

from veriff_async._protocol.json.decode import decode_error, decode_model, dump, load_object
from veriff_async._protocol.json.encode import to_json
from veriff_async._protocol.json.strict import new_converter
from veriff_async.models.enums import OpenEnum, Status
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.sandbox._chaos.engine import ChaosState
from veriff_async.sandbox._chaos.profile import ChaosProfile
from veriff_async.sandbox._clock import EARLIEST, LATEST
from veriff_async.sandbox._decision_spec import DecisionSpec
from veriff_async.sandbox._faults import Fault, WaitingFault
from veriff_async.sandbox._records import Delivery, RegistryResult, WebhookKind
from veriff_async.sandbox._scenario import Due, Post
from veriff_async.sandbox._webhook_records import MAX_ATTEMPTS, Selection, WebhookRecord

if TYPE_CHECKING:
    from attrs import AttrsInstance

__all__ = ("dump_record", "load_record", "structure_record")

_T = TypeVar("_T", bound="AttrsInstance")

_REGISTRIES: Final = {kind.__name__: kind for kind in (IneResult, CurpResult, IneCurpResult, TransportationResult)}
# Names in annotations that only type checkers import there.
_NAMES: Final = {
    "ChaosProfile": ChaosProfile,
    "Delivery": Delivery,
    "Mapping": Mapping,
    "Status": Status,
    "WebhookKind": WebhookKind,
    "datetime": datetime,
    "deque": deque,
}


def dump_record(record: AttrsInstance) -> bytes:
    """Write a record as JSON; fields that have their default value are left out."""
    return dump(_converter().unstructure(record))


def load_record(kind: type[_T], text: bytes) -> _T:
    """Read what `dump_record` wrote.

    Raises:
        DecodeError: This version did not write it.
    """
    return structure_record(kind, load_object(text))


def structure_record(kind: type[_T], members: object) -> _T:
    """Read the parsed JSON of what `dump_record` wrote."""
    try:
        return cast("_T", _converter().structure(members, kind))
    except Exception:  # noqa: BLE001  cattrs and attrs raise many classes, and their texts may hold personal data
        problem = f"expected a {kind.__name__} @ $"
    raise decode_error(problem)


@cache
def _converter() -> Any:  # noqa: ANN401  cattrs is imported by the strict decoder
    for kind in (ChaosState, DecisionSpec, Due, Fault, Post, Selection, WaitingFault, WebhookRecord):
        resolve_types(kind, localns=_NAMES)
    converter = new_converter()
    converter.register_structure_hook(datetime, _load_time)
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    converter.register_structure_hook(bytes, _load_bytes)
    converter.register_unstructure_hook(bytes, lambda value: b64encode(value).decode())
    converter.register_structure_hook(Path, _load_path)
    converter.register_unstructure_hook(Path, lambda value: value.name)
    converter.register_structure_hook(ChaosProfile, _load_profile)
    converter.register_unstructure_hook(ChaosProfile, ChaosProfile.to_dict)
    # Hooks are found by class first: this one replaces that which accepts any word for an enumeration that is open.
    converter.register_structure_hook(StrEnum, _load_enum)
    converter.register_structure_hook_func(_is_plain_enum, _load_enum)
    converter.register_unstructure_hook_func(_is_plain_enum, lambda value: value.name)
    converter.register_structure_hook_func(_is_json_object, _load_json)
    converter.register_unstructure_hook_func(_is_json_object, dict)
    converter.register_structure_hook_func(_is_veriff_model, _load_model)
    converter.register_unstructure_hook_func(_is_veriff_model, to_json)
    converter.register_structure_hook_func(_is_deque, lambda value, kind: _load_deque(converter, value, kind))
    converter.register_structure_hook_func(_is_registries, _load_registries)
    converter.register_unstructure_hook_func(_is_registries, _dump_registries)
    return converter


def _load_time(value: object, _kind: object) -> datetime:
    time = datetime.fromisoformat(cast("str", value))
    if time.tzinfo is None or not EARLIEST <= time <= LATEST:
        raise ValueError
    return time.astimezone(UTC)


def _load_bytes(value: object, _kind: object) -> bytes:
    return b64decode(cast("str", value), validate=True)


def _load_path(value: object, _kind: object) -> Path:
    path = Path(cast("str", value))
    if path.name != value or value in {"", ".", ".."}:
        raise ValueError
    return path


def _load_profile(value: object, _kind: object) -> ChaosProfile:
    return ChaosProfile.from_dict(cast("dict[str, object]", value))


def _is_plain_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum) and not issubclass(kind, StrEnum)


def _load_enum(value: object, kind: type[Enum]) -> Enum:
    if type(value) is not str:
        raise TypeError
    if issubclass(kind, OpenEnum):
        word = kind(value)
        if not word.known:
            raise ValueError
        return word
    return kind(value) if issubclass(kind, StrEnum) else kind[value]


def _is_json_object(kind: object) -> bool:
    return get_origin(kind) is Mapping and get_args(kind) == (str, object)


def _load_json(value: object, _kind: object) -> Mapping[str, object]:
    if type(value) is not dict:
        raise TypeError
    return cast("dict[str, object]", value)


def _is_veriff_model(kind: object) -> bool:
    return isinstance(kind, type) and has(kind) and kind.__module__.startswith("veriff_async.models.")


def _load_model(value: object, kind: type[Any]) -> object:
    return decode_model(kind, _load_json(value, None))


def _is_deque(kind: object) -> bool:
    return get_origin(kind) is deque


def _load_deque(converter: Any, value: object, kind: object) -> deque[Any]:  # noqa: ANN401  as above
    # The only deque is that of the attempts of a webhook.
    if not isinstance(value, list):
        raise TypeError
    (item,) = get_args(kind)
    return deque([converter.structure(each, item) for each in cast("list[object]", value)], MAX_ATTEMPTS)


def _is_registries(kind: object) -> bool:
    return kind == dict[type, RegistryResult]


def _dump_registries(registries: Mapping[type, RegistryResult]) -> dict[str, object]:
    return {kind.__name__: to_json(result) for kind, result in registries.items()}


def _load_registries(value: object, _kind: object) -> dict[type, object]:
    members = _load_json(value, None)
    return {_REGISTRIES[name]: _load_model(result, _REGISTRIES[name]) for name, result in members.items()}
