"""The type of a JSON object, so that ``.raw`` has a type without ``Any``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

__all__ = ("EMPTY", "JsonObject")

JsonObject: TypeAlias = Mapping[str, object]

EMPTY: JsonObject = MappingProxyType({})
