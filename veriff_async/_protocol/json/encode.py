"""Models to JSON: for a request what the caller gave and no more, for a message all that Veriff writes itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, cast

from attrs import NOTHING, fields, frozen, has
from pybase64 import b64encode

from veriff_async._protocol.arguments import shown
from veriff_async._protocol.json.decode import check_model, read, stringify
from veriff_async._protocol.json.paths import claimed_paths, places
from veriff_async._protocol.json.schema import FORMS, IN_MILLISECONDS, Fixed
from veriff_async.errors import DecodeError, InvalidArgumentError
from veriff_async.models.json import EMPTY, as_list, as_object
from veriff_async.models.numbers import as_javascript

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async._protocol.json.paths import Place
    from veriff_async.models.json import JsonObject

__all__ = ("dump_json", "render", "timestamp", "to_json")

_MILLISECONDS: Final = 3
_MICROSECONDS: Final = 6


def render(model: AttrsInstance) -> dict[str, object]:
    """Make the JSON of a model for a request; what is absent is left out, never null."""
    return _Writer(faithful=False, digits=_MILLISECONDS).written(model)


def to_json(model: AttrsInstance, *, time_digits: Literal[3, 6] | None = None) -> dict[str, object]:
    """Make the JSON that Veriff would send for a model: an answer's object, or the body of a webhook.

    Members that Veriff always writes are there, null when unknown. A member of the model's ``raw`` stays in the form
    in which it came (``""``, ``[]``, a number as text) while its field has the value that was read from it, and
    unknown members are kept: a message that is read and written again has lost nothing. Reading the result gives an
    equal model.

    Whole numbers have no fraction, as in Veriff's messages. Use `dump_json` for the bytes of a body: `json.dumps`
    writes small numbers in a form that JavaScript does not.

    Args:
        model: Any model of this library that stands for JSON, for example a `Decision`, a `Person` or an event.
        time_digits: Digits of a second in all times: 6 as received since 2023, 3 as in the documents. By default times
            that were read keep theirs, and others get 6.

    Returns:
        What `json.dumps` takes.

    Raises:
        InvalidArgumentError: `model` is not a model of JSON, or its ``raw`` is nested too deeply or contains itself.

    Example:
        >>> to_json(Decision(session_id="...", status=Status.APPROVED))["verification"]["status"]
        'approved'
    """
    check_model(type(model))
    digits: object = time_digits
    if digits is not None and (not isinstance(digits, int) or digits not in {_MILLISECONDS, _MICROSECONDS}):
        msg = f"time_digits is {shown(time_digits)}: give 3 or 6, or None for the digits that were read."
        raise InvalidArgumentError(msg)
    try:
        return cast("dict[str, object]", as_javascript(_Writer(faithful=True, digits=time_digits).written(model)))
    except RecursionError:
        name = type(model).__name__
        msg = f"The raw of this {name} is nested too deeply: remove it with attrs.evolve(model, raw={{}})."
    except (TypeError, ValueError, AttributeError):  # not chained: its text may be a person's data
        name = type(model).__name__
        msg = f"This {name} cannot be written: one of its fields holds a value of another type than its own."
    raise InvalidArgumentError(msg)


def dump_json(value: AttrsInstance | JsonObject) -> bytes:
    """Write a model or a JSON object as the bytes of a body, as Veriff writes them.

    The result is compact UTF-8, and equals what ``JSON.stringify(JSON.parse(body))`` makes of it, so a receiver that
    serialises a body again before it checks the signature gets the same bytes. Integers beyond 2**53 are the exception:
    they are written in full, and JavaScript would round them.

    Args:
        value: A model, or an object that `to_json` has made.

    Raises:
        InvalidArgumentError: The value has no JSON, for example because a number in it is not finite.

    Example:
        >>> body = dump_json(DecisionEvent(decision=decision))
        >>> headers = {"x-auth-client": credentials.api_key, "x-hmac-signature": credentials.sign(body)}
    """
    members = as_object(value)
    try:
        return stringify(to_json(cast("AttrsInstance", value)) if members is None else members)
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, InvalidArgumentError):
            raise
    msg = (
        "The value cannot be written as JSON: pass a model, or a mapping of texts, finite numbers, lists and mappings."
    )
    raise InvalidArgumentError(msg)


def timestamp(moment: datetime, *, digits: int = _MILLISECONDS) -> str:
    """Write a moment as Veriff does: UTC, with a ``Z``."""
    timespec = "microseconds" if digits > _MILLISECONDS else "milliseconds"
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


@frozen
class _Writer:
    """Writes models.

    Attributes:
        faithful: Write what Veriff writes, rather than what a request needs.
        digits: Digits of a second; ``None`` for those that were read, or else 6.
    """

    faithful: bool
    digits: int | None

    def written(self, model: AttrsInstance) -> dict[str, object]:
        kind = type(model)
        by_field = {place.field: place for place in places(kind)}
        form = FORMS.get(kind.__name__, ()) if self.faithful else ()
        raw = cast("JsonObject", getattr(model, "raw", EMPTY)) if self.faithful else EMPTY
        read_before = self._read_again(kind, raw)
        out: dict[str, object] = {}
        for entry in form:
            if isinstance(entry, Fixed):
                parents, member = _parted(entry.path)
                holder = _found(raw, parents)
                if holder is not None:
                    fixed: object = [] if entry.value == () else entry.value
                    _inside(out, parents)[member] = holder.get(member, fixed)
            else:
                self._put(out, model, by_field[entry], read_before, always=True)
        for place in by_field.values():
            if place.field not in form:
                self._put(out, model, place, read_before, always=False)
        others = cast("JsonObject", getattr(model, "extra", raw)) if self.faithful else EMPTY
        return cast("dict[str, object]", _joined(out, others, claimed_paths(kind), ""))

    def _read_again(self, kind: type[AttrsInstance], raw: JsonObject) -> AttrsInstance | None:
        """Return what is read from a model's ``raw``, where there is any: fields that equal it stay in their form."""
        if not raw:
            return None
        try:
            return read(kind, raw)
        except DecodeError:
            return None

    def _put(
        self,
        out: dict[str, object],
        model: AttrsInstance,
        place: Place,
        read_before: AttrsInstance | None,
        *,
        always: bool,
    ) -> None:
        given = getattr(model, place.field)
        if read_before is not None and place.path and given == getattr(read_before, place.field):
            holder = _found(cast("JsonObject", getattr(model, "raw", EMPTY)), place.parents)
            if holder is None:
                return  # something else than an object stands there, and is kept as it is
            if place.member in holder and self._keeps_form(given, holder[place.member]):
                _inside(out, place.parents)[place.member] = holder[place.member]
                return
            always = (
                always or place.member in holder
            )  # an object that came is written, also if no field was read from it
        default = cast("object", getattr(fields(type(model)), place.field).default)
        if not always and default is not NOTHING and (given in (None, (), {}) or given == default):
            return
        value = self._value(given, type(model).__name__, place.field)
        if place.path:
            _inside(out, place.parents)[place.member] = value
        else:
            out.update(cast("dict[str, object]", value))

    def _keeps_form(self, given: object, came: object) -> bool:
        """Return whether a value is written as it came, rather than by its own parts."""
        if isinstance(given, datetime):
            return self.digits is None
        if has(type(given)):
            return not (isinstance(came, Mapping) and came)
        items = cast("tuple[object, ...]", given) if isinstance(given, tuple) else ()
        if items and has(type(items[0])):
            came_items = as_list(came)
            return len(items) != len(came_items) or not all(as_object(item) for item in came_items)
        return True

    def _value(self, value: object, owner: str, name: str) -> object:
        if isinstance(value, Enum):
            return str(value)
        if isinstance(value, datetime):
            short = name in IN_MILLISECONDS or (owner, name) in IN_MILLISECONDS
            return timestamp(value, digits=_MILLISECONDS if short else self.digits or _MICROSECONDS)
        if isinstance(value, bytes):
            return b64encode(value).decode()
        if isinstance(value, tuple):
            return [self._value(item, owner, name) for item in cast("tuple[object, ...]", value)]
        if isinstance(value, Mapping):
            return dict(cast("JsonObject", value))
        return self.written(cast("AttrsInstance", value)) if has(type(value)) else value


def _parted(path: str) -> tuple[tuple[str, ...], str]:
    *parents, member = path.split(".")
    return tuple(parents), member


def _inside(root: dict[str, object], parents: tuple[str, ...]) -> dict[str, object]:
    """Return the object at a path, made on the way where it is missing."""
    found = root
    for parent in parents:
        found = cast("dict[str, object]", found.setdefault(parent, {}))
    return found


def _found(root: JsonObject, parents: tuple[str, ...]) -> JsonObject | None:
    """Return the object at a path, an empty one if nothing is there, or ``None`` if it is something else."""
    for parent in parents:
        found = as_object(root.get(parent, EMPTY))
        if found is None:
            return None
        root = found
    return root


def _joined(out: object, raw: object, claimed: frozenset[str], path: str) -> object:
    """Add to what was written the members of what was read that no field claims."""
    known, found = as_object(out), as_object(raw)
    if known is None or found is None or path[:-1] in claimed:
        return out
    joined = {name: _joined(value, found.get(name), claimed, f"{path}{name}.") for name, value in known.items()}
    # A name that is no text comes from a caller's mapping; json writes it as text.
    added = {name: value for name, value in found.items() if name not in joined and f"{path}{name}" not in claimed}
    return joined | added
