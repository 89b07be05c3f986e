"""Readers of models, written out: for each class one function that looks at each member once.

cattrs says for every field how its value is read, and tells everything that does not fit. Reading what fits is most of
what a busy receiver does, so it goes the straight way: what a member mostly is (a text, a known word, null) is taken as
it is, without a call, and the rest is handed to cattrs' hook. The object is open while it is filled, and frozen before
anybody sees it, which spares the call for each field that setting a frozen one takes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from math import isfinite
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, get_args

from attrs import NOTHING, fields, frozen, has, resolve_types

from veriff_async._protocol.json.paths import by_parents, unclaimed
from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import EMPTY, JsonObject, as_object

if TYPE_CHECKING:
    from attrs import Attribute, AttrsInstance

    from veriff_async._protocol.json.paths import Place

__all__ = ("Hook", "Reader", "write_reader")

Hook: TypeAlias = Callable[[object, object], object]
"""Reads a value of a kind, as cattrs has it."""

Reader: TypeAlias = Callable[[JsonObject, JsonObject], object]
"""Makes a model from an object, and from what it keeps as its ``raw``."""

_QUICK: Final[dict[object, str]] = {
    str: "found if found.__class__ is str and found",
    str | None: "found or None if found.__class__ is str else None if found is None",
    bool | None: "found if found.__class__ is bool else None if found is None",
    int | None: "found if found.__class__ is int else None if found is None",
    float | None: "found if found.__class__ is float and isfinite(found) else None if found is None",
    datetime | None: "None if found is None",
}
_WORD: Final = "words_{field}[found] if found.__class__ is str and found in words_{field}"
_MODEL: Final = "read_{field}(found, found) if found.__class__ is dict and found"
_NULL: Final = "None if found is None"


def write_reader(
    model: type[AttrsInstance], hook_of: Callable[[Any], Hook], reader_of: Callable[[type[AttrsInstance]], Reader]
) -> Reader:
    """Write the reader of a model.

    It raises `KeyError` for a required member that is missing, and whatever hooks raise.

    Args:
        model: What it makes. ``__init__`` is not called, so it has no validators, and converters only for callers.
        hook_of: Gives the hook of a kind.
        reader_of: Gives the reader of another model, which is a part of this one.
    """
    resolve_types(model)
    given: dict[str, object] = {"new": object.__new__, "Open": _opened(model), "Frozen": model}
    given |= {"EMPTY": EMPTY, "as_object": as_object, "isfinite": isfinite, "rest": partial(unclaimed, model)}
    attributes = {attribute.name: attribute for attribute in fields(model)}
    lines = ["def read(value, raw):", " made = new(Open)"]
    read: set[str] = set()
    # Models of requests have no raw; one of them keeps what no field is read from.
    for name, text in (("raw", "raw"), ("extra", "rest(value)")):
        if name in attributes:
            lines.append(f" made.{name} = {text}")
            read.add(name)
    for parents, there in by_parents(model):
        lines.append(" at = value")
        for parent in parents:
            lines += [f" at = at.get({parent!r})", " if at.__class__ is not dict: at = as_object(at) or EMPTY"]
        for place in there:
            field = _Field(attributes[place.field], given)
            lines += field.lines(place, hook_of, reader_of)
            read.add(place.field)
    lines += [f" {_Field(attribute, given).absent()}" for name, attribute in attributes.items() if name not in read]
    lines += [" made.__class__ = Frozen", " return made"]
    # As attrs and cattrs do it: the text is made of the names of our own classes and tables, never of what is read.
    exec("\n".join(lines), given)  # noqa: S102
    return cast("Reader", given["read"])


def _opened(model: type[AttrsInstance]) -> type:
    """Return the same class, but with fields that can be set as those of any class."""
    plain = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(model.__name__, (model,), plain)


@frozen
class _Field:
    """One field while its part of a reader is written.

    Attributes:
        attribute: The field.
        given: The names that the reader knows, to which its own are added.
    """

    attribute: Attribute[Any]
    given: dict[str, object]

    def lines(
        self, place: Place, hook_of: Callable[[Any], Hook], reader_of: Callable[[type[AttrsInstance]], Reader]
    ) -> list[str]:
        """Return what reads it from its place in ``at``."""
        name, kind = self.attribute.name, self.attribute.type
        self.given.update({f"hook_{name}": hook_of(kind), f"kind_{name}": kind})
        quick = self._quick(kind, reader_of)
        taken = f"made.{name} = {f'{quick} else ' if quick else ''}hook_{name}(found, kind_{name})"
        if not place.path:
            return [" found = value", f" {taken}"]
        lines: list[str] = []
        for member in (place.member, place.other):
            if member is not None:
                known = f"{'elif' if lines else 'if'} {member!r} in at:"
                lines += [f" {known}", f"  found = at[{member!r}]", f"  {taken}"]
        return [*lines, " else:", f"  {self.absent(place.member)}"]

    def absent(self, member: str = "") -> str:
        """Return what is done for it when nothing is there to be read."""
        name, default = self.attribute.name, cast("object", self.attribute.default)
        if default is NOTHING:
            return f"raise KeyError({member!r})"
        factory: object = getattr(default, "factory", None)
        self.given[f"default_{name}"] = default if factory is None else factory
        return f"made.{name} = default_{name}{'' if factory is None else '()'}"

    def _quick(self, kind: object, reader_of: Callable[[type[AttrsInstance]], Reader]) -> str | None:
        """Return the start of a conditional expression, for what its value mostly is."""
        if kind in _QUICK:
            return _QUICK[kind]
        name, is_optional = self.attribute.name, isinstance(kind, UnionType)
        inner = next((part for part in get_args(kind) if part is not type(None)), kind) if is_optional else kind
        if isinstance(inner, type) and issubclass(inner, OpenEnum):
            self.given[f"words_{name}"] = {str(word): word for word in inner}
            return _WORD.format(field=name) + (f" else {_NULL}" if is_optional else "")
        if is_optional:
            return _NULL
        if isinstance(kind, type) and has(kind):
            self.given[f"read_{name}"] = reader_of(kind)
            return _MODEL.format(field=name)
        return None
