"""Models to JSON: for a request what the caller gave and no more, for a message all that Veriff writes itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, cast

from attrs import fields, frozen, has

from veriff_async.models.json import EMPTY, as_object
from veriff_async.protocol.layout import places
from veriff_async.protocol.wording import FORMS, IN_MILLISECONDS, Fixed

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async.models.json import JsonObject
    from veriff_async.protocol.layout import Place

__all__ = ("render", "timestamp", "to_json")

_MILLISECONDS: Final = 3


def render(model: AttrsInstance) -> dict[str, object]:
    """Make the JSON of a model for a request; what is absent is left out, never null."""
    return _Writer(faithful=False, digits=_MILLISECONDS).written(model)


def to_json(model: AttrsInstance, *, time_digits: Literal[3, 6] = 6) -> dict[str, object]:
    """Make the JSON that Veriff would send for a model: an answer's object, or the body of a webhook.

    Members that Veriff always writes are there, null when unknown; unknown members of the model's ``raw`` are kept, so
    that what was read and written again has lost nothing. Reading it gives an equal model.

    Args:
        model: Any model of this library, for example a `Decision` or an event.
        time_digits: Digits of a second in times: 6 as received since 2023, 3 as in the documents.

    Returns:
        What `json.dumps` takes.

    Example:
        >>> to_json(Decision(session_id="...", status=Status.APPROVED))["verification"]["status"]
        'approved'
    """
    return _Writer(faithful=True, digits=time_digits).written(model)


def timestamp(moment: datetime, *, digits: int = _MILLISECONDS) -> str:
    """Write a moment as Veriff does: UTC, with a ``Z``."""
    timespec = "microseconds" if digits > _MILLISECONDS else "milliseconds"
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


@frozen
class _Writer:
    faithful: bool
    digits: int

    def written(self, model: AttrsInstance) -> dict[str, object]:
        kind = type(model)
        by_field = {place.field: place for place in places(kind)}
        form = FORMS.get(kind.__name__, ()) if self.faithful else ()
        raw = cast("JsonObject", getattr(model, "raw", EMPTY)) if self.faithful else EMPTY
        out: dict[str, object] = {}
        for entry in form:
            if isinstance(entry, Fixed):
                parents, member = _parted(entry.path)
                fixed: object = [] if entry.value == () else entry.value
                _inside(out, parents)[member] = _found(raw, parents).get(member, fixed)
            else:
                self._put(out, model, by_field[entry], always=True)
        for place in by_field.values():
            if place.field not in form:
                self._put(out, model, place, always=False)
        claimed = {name for place in by_field.values() for name in (place.path, _sibling(place)) if name is not None}
        return cast("dict[str, object]", _joined(out, raw, claimed, ""))

    def _put(self, out: dict[str, object], model: AttrsInstance, place: Place, *, always: bool) -> None:
        given = getattr(model, place.field)
        if not always and (given in (None, (), {}) or given == getattr(fields(type(model)), place.field).default):
            return
        value = self._value(given, type(model).__name__, place.field)
        if place.path:
            _inside(out, place.parents)[place.member] = value
        else:
            out.update(cast("dict[str, object]", value))

    def _value(self, value: object, owner: str, name: str) -> object:
        if isinstance(value, Enum):
            return str(value)
        if isinstance(value, datetime):
            short = name in IN_MILLISECONDS or (owner, name) in IN_MILLISECONDS
            return timestamp(value, digits=_MILLISECONDS if short else self.digits)
        if isinstance(value, tuple):
            return [self._value(item, owner, name) for item in cast("tuple[object, ...]", value)]
        if isinstance(value, Mapping):
            return dict(cast("JsonObject", value))
        return self.written(cast("AttrsInstance", value)) if has(type(value)) else value


def _parted(path: str) -> tuple[tuple[str, ...], str]:
    *parents, member = path.split(".")
    return tuple(parents), member


def _sibling(place: Place) -> str | None:
    """Return the path of the other name that a member is known to have."""
    return None if place.other is None else ".".join((*place.parents, place.other))


def _inside(root: dict[str, object], parents: tuple[str, ...]) -> dict[str, object]:
    """Return the object at a path, made on the way where it is missing."""
    found = root
    for parent in parents:
        found = cast("dict[str, object]", found.setdefault(parent, {}))
    return found


def _found(root: JsonObject, parents: tuple[str, ...]) -> JsonObject:
    """Return the object at a path, or an empty one."""
    for parent in parents:
        root = as_object(root.get(parent)) or EMPTY
    return root


def _joined(out: object, raw: object, claimed: set[str], path: str) -> object:
    """Add to what was written the members of what was read that no field claims."""
    known, found = as_object(out), as_object(raw)
    if known is None or found is None or path[:-1] in claimed:
        return out
    joined = {name: _joined(value, found.get(name), claimed, f"{path}{name}.") for name, value in known.items()}
    return joined | {name: value for name, value in found.items() if name not in joined and path + name not in claimed}
