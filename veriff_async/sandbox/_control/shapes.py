"""The JSON of records: objects with the names of their fields, and the JSON Schema of that.

Models of Veriff keep the names of Veriff's JSON. Paths of files are left out: they are of no use elsewhere.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args, get_origin

from attrs import fields, has, resolve_types

from veriff_async._protocol.json.encode import to_json
from veriff_async.sandbox._chaos.profile import ChaosProfile
from veriff_async.sandbox._chaos.reader import fault_to_members
from veriff_async.sandbox._faults import Fault
from veriff_async.sandbox._records import Delivery, WebhookKind

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async.models.json import JsonObject

__all__ = ("schema_of", "to_plain")

_PLAIN: Final = frozenset({type(None), bool, int, float, str})
# Names in annotations of records that their modules import for type checkers only.
_NAMES: Final = {"Delivery": Delivery, "Mapping": Mapping, "WebhookKind": WebhookKind}
_TIME: Final = {"type": "string", "format": "date-time"}


def to_plain(value: object) -> object:  # noqa: PLR0911  one for each type
    """Return the JSON of a value."""
    # The exact types first: most values are of these, and lists of sessions are long.
    if type(value) in _PLAIN:
        return value
    if type(value) is dict:
        return {key: to_plain(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else value.name.lower()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in cast("tuple[object, ...]", value)]
    return _object_to_plain(cast("AttrsInstance", value))


def _object_to_plain(value: AttrsInstance) -> object:
    if isinstance(value, Fault):
        return fault_to_members(value)
    if isinstance(value, ChaosProfile):
        return value.to_dict()
    kind = type(value)
    if _is_model(kind):
        return to_json(value)
    members = {each.name: getattr(value, each.name) for each in fields(kind)}
    return {name: to_plain(member) for name, member in members.items() if not isinstance(member, Path)}


def schema_of(kind: Any) -> JsonObject:  # noqa: ANN401  any annotation
    """Return the JSON Schema of the JSON of a type."""
    arguments, origin = get_args(kind), get_origin(kind)
    if origin is types.UnionType:
        schemas = [{"type": "null"} if each is type(None) else schema_of(each) for each in arguments]
        return {"anyOf": schemas}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    return _schema_of_class(kind)


@cache
def _schema_of_class(kind: Any) -> JsonObject:  # noqa: ANN401  a class
    simple: dict[object, JsonObject] = {
        str: {"type": "string"},
        bytes: {"type": "string"},
        int: {"type": "integer"},
        float: {"type": "number"},
        bool: {"type": "boolean"},
        datetime: _TIME,
        object: {},
    }
    if kind in simple:
        return simple[kind]
    if issubclass(kind, Enum):
        # Enums of Veriff are open: a session shows words that a test has sent.
        return {"type": "string", "examples": [to_plain(word) for word in kind]}
    if kind in {Fault, ChaosProfile} or _is_model(kind):
        # Without this member, generators of clients make a type without members of it.
        return {"type": "object", "title": kind.__name__, "additionalProperties": {}}
    resolve_types(kind, localns=_NAMES)
    members = {each.name: each.type for each in fields(kind) if each.type is not Path}
    return {
        "type": "object",
        "title": kind.__name__,
        "properties": {name: schema_of(each) for name, each in members.items()},
        "required": list(members),
        "additionalProperties": False,
    }


def _is_model(kind: type) -> bool:
    return has(kind) and kind.__module__.startswith("veriff_async.models.")
