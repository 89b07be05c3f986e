"""The JSON path of every field of a model, computed once per class from the tables of `schema`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from attrs import fields, frozen

from veriff_async._protocol.json.schema import OTHER_NAMES, PATHS, PREFIXES
from veriff_async.models.json import EMPTY, as_object

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async.models.json import JsonObject

__all__ = (
    "FILLED_BY_LIBRARY",
    "RAW",
    "FieldPath",
    "collect_extra",
    "field_paths",
    "flatten",
    "group_by_parents",
    "known_paths",
)

RAW: Final = "(raw)"
"""The key of `flatten` for the model's ``raw``. No path of a field equals it.

cattrs before 26.2 writes keys into source text without escapes, so the key must not contain a quote or a NUL.
"""

# Fields that hold the message itself, or that only this library sets.
_NOT_JSON: Final = frozenset({"raw", "extra", "repeated"})

FILLED_BY_LIBRARY: Final = frozenset({("Decision", "source")})
"""Fields, with their class, that this library sets itself, although other models decode a field of the same name."""


@frozen
class FieldPath:
    """The path of one field."""

    field: str
    path: str
    parents: tuple[str, ...]
    member: str
    other: str | None = None


@cache
def field_paths(model: type[AttrsInstance]) -> tuple[FieldPath, ...]:
    """Return the paths of a model's fields, in the order of the class."""
    own, prefix = PATHS.get(model.__name__, {}), PREFIXES.get(model.__name__, "")
    others = OTHER_NAMES.get(model.__name__, {})
    excluded = {name for owner, name in FILLED_BY_LIBRARY if owner == model.__name__} | _NOT_JSON
    names = [attribute.name for attribute in fields(model) if attribute.name not in excluded]
    paths = {name: own.get(name, prefix + _camel_case(name)) for name in names}
    return tuple(
        FieldPath(name, path, tuple(path.split(".")[:-1]), path.rpartition(".")[2], others.get(path))
        for name, path in paths.items()
    )


@cache
def group_by_parents(model: type[AttrsInstance]) -> tuple[tuple[tuple[str, ...], tuple[FieldPath, ...]], ...]:
    """Return the paths grouped by their parents, so that a decoder looks up each parent object once."""
    groups: dict[tuple[str, ...], list[FieldPath]] = {}
    for path in field_paths(model):
        groups.setdefault(path.parents, []).append(path)
    return tuple((parents, tuple(paths)) for parents, paths in groups.items())


def flatten(model: type[AttrsInstance], value: JsonObject, raw: JsonObject) -> dict[str, object]:
    """Return an object that has the member of every field under its whole path."""
    flat: dict[str, object] = {RAW: raw}
    for parents, paths in group_by_parents(model):
        holder = value
        for parent in parents:
            holder = as_object(holder.get(parent)) or EMPTY
        for path in paths:
            if not path.path:
                flat[""] = value
            elif path.member in holder:
                flat[path.path] = holder[path.member]
            elif path.other is not None and path.other in holder:
                flat[path.path] = holder[path.other]
    return flat


@cache
def known_paths(model: type[AttrsInstance]) -> frozenset[str]:
    """Return the paths of all members that a model decodes, under each of their names."""
    paths = field_paths(model)
    others = {".".join((*path.parents, path.other)) for path in paths if path.other is not None}
    return frozenset(others | {path.path for path in paths})


def collect_extra(model: type[AttrsInstance], value: JsonObject, prefix: str = "") -> dict[str, object]:
    """Return the members that no field of a model decodes, at any depth."""
    known = known_paths(model)
    extra: dict[str, object] = {}
    for name, member in value.items():
        path = f"{prefix}{name}"
        inner = as_object(member)
        if path in known:
            continue
        if inner is None or not any(other.startswith(f"{path}.") for other in known):
            extra[name] = member
        elif rest := collect_extra(model, inner, f"{path}."):
            extra[name] = rest
    return extra


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
