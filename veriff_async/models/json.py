"""The type of a JSON object, which gives ``.raw`` a type without ``Any``, and a digest of such objects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias, cast

from veriff_async.models.numbers import with_javascript_numbers

__all__ = ("EMPTY", "JsonObject", "as_list", "as_object", "digest")

JsonObject: TypeAlias = Mapping[str, object]

EMPTY: JsonObject = MappingProxyType({})
"""For comparisons and lookups only. A model must not contain it, because it cannot be pickled."""

# Hex digits of a digest, enough to rule out collisions among the messages of one session.
_DIGEST: Final = 16

# Decoded JSON contains no cycles, and checking for them takes a sixth of the time.
_SORTED: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False, default=dict)


def as_object(value: object) -> JsonObject | None:
    """Return a JSON value as an object, or ``None`` when it is something else."""
    # Decoded objects are dicts, and `isinstance` is ten times as fast for dict as for the abstract Mapping.
    if isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101  a tuple or union of both is slower
        return cast("JsonObject", value)
    return None


def as_list(value: object) -> list[object]:
    """Return a JSON value as a list, empty when it is something else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def digest(value: JsonObject) -> str:
    """Return a digest of an object that does not depend on the order of members, which Veriff may change."""
    # A store writes 32.0 as 32, and the event that it loads again must have the same digest.
    text = with_javascript_numbers(_SORTED.encode(value))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
