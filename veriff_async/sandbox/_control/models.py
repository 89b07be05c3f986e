"""Input that is a model of Veriff: an instance of a class of `veriff_async.models`, given as in Veriff's JSON.

The fields of the class and the tables of `_protocol.json.paths` decide which members exist. Enums of models are open:
a test may let Veriff send a word that this version of the library does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, cast, get_args, get_origin

from attrs import NOTHING, fields_dict, frozen, has, resolve_types

from veriff_async._protocol.arguments import LARGEST
from veriff_async._protocol.json.decode import decode_model
from veriff_async._protocol.json.paths import field_paths
from veriff_async.errors import DecodeError
from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import EMPTY
from veriff_async.sandbox._control.errors import ControlError
from veriff_async.sandbox._control.fields import Field, Flag, Json, Kind, ListOf, MapOf, Members, Number, Text, Time

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async.models.json import JsonObject

__all__ = ("Model", "OpenWord", "kind_of_model")

_SIMPLE: Final[Mapping[object, Kind]] = {
    # An empty text counts as absent in Veriff's messages, so it would be lost.
    str: Text(min_length=1),
    int: Number(lowest=-LARGEST, whole=True),
    float: Number(lowest=-LARGEST),
    bool: Flag(),
    datetime: Time(),
    object: Json(),
}


@frozen
class OpenWord:
    """A word of an open enum."""

    known: type[OpenEnum]

    def read(self, value: object, path: str) -> str:
        """Check a value."""
        return Text(min_length=1, max_length=100).read(value, path)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": 100, "examples": [word.value for word in self.known]}


@frozen
class Model:
    """An instance of a model."""

    model: type[AttrsInstance]

    def read(self, value: object, path: str) -> object:
        """Check a value, and return the instance."""
        kind_of_model(self.model).read(value, path)
        try:
            return decode_model(self.model, cast("JsonObject", value), path=path, raw=EMPTY)
        except DecodeError as error:
            problem = "; ".join(error.problems)
        raise ControlError(422, f"{path} is not a {self.model.__name__} ({problem}): correct it.", field=path)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return kind_of_model(self.model).schema()


@cache
@cache
def kind_of_model(model: type[AttrsInstance]) -> Members:
    """Return the type of the JSON of a model."""
    resolve_types(model)
    attributes = fields_dict(model)
    tree: dict[str, Any] = {}
    for path in field_paths(model):
        attribute = attributes[path.field]
        holder = tree
        for parent in path.parents:
            holder = holder.setdefault(parent, {})
        is_required = attribute.default is NOTHING
        holder[path.member] = Field(
            path.member, _kind_of(attribute.type), "", is_required=is_required, is_nullable=not is_required
        )
    return _to_members(tree, model.__name__)


def _to_members(tree: Mapping[str, Any], title: str | None = None) -> Members:
    return Members(
        fields=tuple(
            (
                each
                if isinstance(each, Field)
                else Field(name, _to_members(each), "", is_nullable=True, is_required=False)
                for name, each in tree.items()
            )
        ),
        title=title,
    )


def _kind_of(kind: Any) -> Kind:  # noqa: ANN401  any annotation
    """Return the type of the JSON of a field, from its annotation."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    arguments = get_args(kind)
    origin = get_origin(kind)
    if origin is UnionType:
        (only,) = (each for each in arguments if each is not type(None))
        return _kind_of(only)
    if origin is tuple:
        return ListOf(_kind_of(arguments[0]))
    if origin is Mapping:
        return Json() if arguments[1] is object else MapOf(Text(), _kind_of(arguments[1]))
    if issubclass(kind, OpenEnum):
        return OpenWord(kind)
    if has(kind):
        return kind_of_model(kind)
    msg = f"fields of type {kind} have no JSON form"
    raise TypeError(msg)
