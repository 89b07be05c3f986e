"""Which field of a model stands where in JSON: `wording` worked out for one class, once."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from attrs import fields, frozen

from veriff_async._protocol.json.schema import OTHER_NAMES, PLACES, PREFIXES
from veriff_async.models.json import EMPTY, as_object

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async.models.json import JsonObject

__all__ = ("OURS", "RAW", "Place", "by_parents", "claimed_paths", "flattened", "places", "unclaimed")

RAW: Final = "(raw)"
"""The key of `flattened` for the model's ``raw``. Members come by the paths of fields, so none has this key.

cattrs before 26.2 writes keys into source text without escapes, where a key must not have a quote or a NUL.
"""

_NOT_JSON: Final = frozenset({"raw", "extra", "repeated"})

OURS: Final = frozenset({("Decision", "source")})
"""Fields, by class, that this library fills in under a name which other models read from JSON."""


@frozen
class Place:
    """Where one field stands.

    Attributes:
        field: Name of the field.
        path: Path from the object that describes the model, members parted by dots.
        parents: The members on the way to it.
        member: The last member of the path.
        other: Another name that its member is known to have.
    """

    field: str
    path: str
    parents: tuple[str, ...]
    member: str
    other: str | None = None


@cache
def places(model: type[AttrsInstance]) -> tuple[Place, ...]:
    """Return where the fields of a model stand, in the order of the class."""
    own, prefix = PLACES.get(model.__name__, {}), PREFIXES.get(model.__name__, "")
    others = OTHER_NAMES.get(model.__name__, {})
    ours = {name for owner, name in OURS if owner == model.__name__} | _NOT_JSON
    names = [attribute.name for attribute in fields(model) if attribute.name not in ours]
    paths = {name: own.get(name, prefix + _camel(name)) for name in names}
    return tuple(
        Place(name, path, tuple(path.split(".")[:-1]), path.rpartition(".")[2], others.get(path))
        for name, path in paths.items()
    )


@cache
def by_parents(model: type[AttrsInstance]) -> tuple[tuple[tuple[str, ...], tuple[Place, ...]], ...]:
    """Return the places by the members on the way to them."""
    found: dict[tuple[str, ...], list[Place]] = {}
    for place in places(model):
        found.setdefault(place.parents, []).append(place)
    return tuple((parents, tuple(there)) for parents, there in found.items())


def flattened(model: type[AttrsInstance], value: JsonObject, raw: JsonObject) -> dict[str, object]:
    """Return an object with every field's member under its whole path."""
    flat: dict[str, object] = {RAW: raw}
    for parents, there in by_parents(model):
        found = value
        for parent in parents:
            found = as_object(found.get(parent)) or EMPTY
        for place in there:
            if not place.path:
                flat[""] = value
            elif place.member in found:
                flat[place.path] = found[place.member]
            elif place.other is not None and place.other in found:
                flat[place.path] = found[place.other]
    return flat


@cache
def claimed_paths(model: type[AttrsInstance]) -> frozenset[str]:
    """Return the paths of all members that fields of a model are read from, under each of their names."""
    known = places(model)
    others = {".".join((*place.parents, place.other)) for place in known if place.other is not None}
    return frozenset(others | {place.path for place in known})


def unclaimed(model: type[AttrsInstance], value: JsonObject, path: str = "") -> dict[str, object]:
    """Return the members that no field of a model is read from."""
    claimed = claimed_paths(model)
    found: dict[str, object] = {}
    for name, member in value.items():
        here = f"{path}{name}"
        inner = as_object(member)
        if here in claimed:
            continue
        if inner is None or not any(known.startswith(f"{here}.") for known in claimed):
            found[name] = member
        elif rest := unclaimed(model, inner, f"{here}."):
            found[name] = rest
    return found


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
