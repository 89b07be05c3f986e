"""The type of a JSON object, so that ``.raw`` has a type without ``Any``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias, cast

__all__ = ("EMPTY", "JsonObject", "as_list", "as_object")

JsonObject: TypeAlias = Mapping[str, object]

EMPTY: JsonObject = MappingProxyType({})


def as_object(value: object) -> JsonObject | None:
    """Return a JSON value as an object, or ``None`` when it is something else."""
    # What the json module makes is a dict, and asking for that is ten times as fast as asking for a Mapping.
    return cast("JsonObject", value) if isinstance(value, dict | Mapping) else None


def as_list(value: object) -> list[object]:
    """Return a JSON value as a list, empty when it is something else."""
    return cast("list[object]", value) if isinstance(value, list) else []
