"""Encodes models as JSON: for requests only what the caller set, for messages every member that Veriff writes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, cast

from attrs import NOTHING, fields, frozen, has
from pybase64 import b64encode

from veriff_async._protocol.arguments import describe_value
from veriff_async._protocol.json.decode import check_model, decode_model, stringify
from veriff_async._protocol.json.paths import field_paths, known_paths
from veriff_async._protocol.json.schema import COMPLETE, FORMS, IN_MILLISECONDS, Fixed
from veriff_async.errors import DecodeError, InvalidArgumentError
from veriff_async.models.json import EMPTY, as_list, as_object
from veriff_async.models.numbers import as_javascript

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async._protocol.json.paths import FieldPath
    from veriff_async.models.json import JsonObject

__all__ = ("dump_json", "timestamp", "to_json", "to_request_json")

_MILLISECONDS: Final = 3
_MICROSECONDS: Final = 6


def to_request_json(model: AttrsInstance) -> dict[str, object]:
    """Return the JSON of a model for a request. Fields without a value are omitted, never null."""
    return _Encoder(is_faithful=False, digits=_MILLISECONDS).encode_model(model)


def to_json(model: AttrsInstance, *, time_digits: Literal[3, 6] | None = None) -> dict[str, object]:
    """Return the JSON that Veriff would send for a model: the object of a response, or the body of a webhook.

    The result has every member that Veriff always writes, null when unknown. While a field has the value that was
    decoded from ``raw``, its member keeps the form in which it was received (``""``, ``[]``, a number as text). Unknown
    members are kept. So a message that is decoded and encoded again loses nothing, and decoding the result gives an
    equal model.

    Whole numbers have no fraction, as in Veriff's messages. Use `dump_json` for the bytes of a body, because
    `json.dumps` writes small numbers in a form that JavaScript does not use.

    Args:
        model: Any model with a JSON form, for example a `Decision`, a `Person` or an event.
        time_digits: Digits of a second in all times: 6 as received since 2023, 3 as in the documents. By default, times
            that were received keep their digits, and others get 6.

    Returns:
        An object for `json.dumps`.

    Raises:
        InvalidArgumentError: `model` has no JSON form, or its ``raw`` is nested too deeply or contains itself.

    Example:
        >>> to_json(Decision(session_id="...", status=Status.APPROVED))["verification"]["status"]
        'approved'
    """
    check_model(type(model))
    digits: object = time_digits
    if digits is not None and (not isinstance(digits, int) or digits not in {_MILLISECONDS, _MICROSECONDS}):
        msg = f"time_digits is {describe_value(time_digits)}: pass 3 or 6, or None for the digits that were received."
        raise InvalidArgumentError(msg)
    try:
        return cast(
            "dict[str, object]", as_javascript(_Encoder(is_faithful=True, digits=time_digits).encode_model(model))
        )
    except RecursionError:
        name = type(model).__name__
        msg = f"The raw of this {name} is nested too deeply: remove it with attrs.evolve(model, raw={{}})."
    except (TypeError, ValueError, AttributeError):  # not chained: its text may contain personal data
        name = type(model).__name__
        msg = f"This {name} cannot be written: one of its fields holds a value of another type than its own."
    raise InvalidArgumentError(msg)


def dump_json(value: AttrsInstance | JsonObject) -> bytes:
    """Encode a model or a JSON object as the bytes of a body, as Veriff does.

    The result is compact UTF-8, and ``JSON.stringify(JSON.parse(body))`` returns it unchanged, so a receiver that
    serialises a body again before it checks the signature gets the same bytes. Integers beyond 2**53 are the exception:
    they are written in full, and JavaScript would round them.

    Args:
        value: A model, or an object that `to_json` returned.

    Raises:
        InvalidArgumentError: The value has no JSON form, for example because a number in it is not finite.

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
    """Format a time as Veriff does: UTC, with a ``Z``."""
    timespec = "microseconds" if digits > _MILLISECONDS else "milliseconds"
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


@frozen
class _Encoder:
    """Encodes models.

    A faithful encoder reproduces the message that a model was decoded from. It decodes ``raw`` a second time: a field
    that still equals the decoded value keeps its original form (``""``, a number as text), and only a field that was
    changed since then is encoded from its value.

    Attributes:
        is_faithful: Encode what Veriff would send, rather than what a request needs.
        digits: Digits of a second; ``None`` for the number that was received, or 6.
    """

    is_faithful: bool
    digits: int | None

    def encode_model(self, model: AttrsInstance) -> dict[str, object]:
        kind = type(model)
        path_of = {path.field: path for path in field_paths(kind)}
        form = FORMS.get(kind.__name__, ()) if self.is_faithful else ()
        raw = cast("JsonObject", getattr(model, "raw", EMPTY)) if self.is_faithful else EMPTY
        decoded_raw = self._decode_raw(kind, raw)
        out: dict[str, object] = {}
        for entry in form:
            if isinstance(entry, Fixed):
                parents, member = _split_path(entry.path)
                holder = _find_object(raw, parents)
                if holder is not None:
                    fixed: object = [] if entry.value == () else entry.value
                    _ensure_object(out, parents)[member] = holder.get(member, fixed)
            else:
                self._encode_field(out, model, path_of[entry], decoded_raw, always=True)
        for path in path_of.values():
            if path.field not in form:
                self._encode_field(out, model, path, decoded_raw, always=kind.__name__ in COMPLETE)
        extra = cast("JsonObject", getattr(model, "extra", raw)) if self.is_faithful else EMPTY
        return cast("dict[str, object]", _merge_extra(out, extra, known_paths(kind), ""))

    def _decode_raw(self, kind: type[AttrsInstance], raw: JsonObject) -> AttrsInstance | None:
        """Return the model that ``raw`` decodes to, if there is a ``raw`` that can be decoded."""
        if not raw:
            return None
        try:
            return decode_model(kind, raw)
        except DecodeError:
            return None

    def _encode_field(
        self,
        out: dict[str, object],
        model: AttrsInstance,
        path: FieldPath,
        decoded_raw: AttrsInstance | None,
        *,
        always: bool,
    ) -> None:
        value = getattr(model, path.field)
        if decoded_raw is not None and path.path and value == getattr(decoded_raw, path.field):
            holder = _find_object(cast("JsonObject", getattr(model, "raw", EMPTY)), path.parents)
            if holder is None:
                return  # A parent is not an object. `_merge_extra` keeps it as it is.
            if path.member in holder and self._keeps_form(value, holder[path.member]):
                _ensure_object(out, path.parents)[path.member] = holder[path.member]
                return
            # A member that was received is encoded, even if its value equals the default.
            always = always or path.member in holder
        default = _defaults_of(type(model))[path.field]
        if not always and default is not NOTHING and (value in (None, (), {}) or value == default):
            return
        encoded = self._encode_value(value, type(model).__name__, path.field)
        if path.path:
            _ensure_object(out, path.parents)[path.member] = encoded
        else:
            out.update(cast("dict[str, object]", encoded))

    def _keeps_form(self, value: object, received: object) -> bool:
        """Return whether an unchanged value is copied from the message, rather than encoded from its own fields."""
        if isinstance(value, datetime):
            return self.digits is None
        if has(type(value)):
            return not (isinstance(received, Mapping) and received)
        items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
        if items and has(type(items[0])):
            received_items = as_list(received)
            return len(items) != len(received_items) or not all(as_object(item) for item in received_items)
        return True

    def _encode_value(self, value: object, owner: str, name: str) -> object:
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, datetime):
            is_short = name in IN_MILLISECONDS or (owner, name) in IN_MILLISECONDS
            return timestamp(value, digits=_MILLISECONDS if is_short else self.digits or _MICROSECONDS)
        if isinstance(value, bytes):
            return b64encode(value).decode()
        if isinstance(value, tuple):
            return [self._encode_value(item, owner, name) for item in cast("tuple[object, ...]", value)]
        if isinstance(value, Mapping):
            return dict(cast("JsonObject", value))
        value = str(value) if hasattr(value, "__fspath__") else value
        return self.encode_model(cast("AttrsInstance", value)) if has(type(value)) else value


@cache
def _defaults_of(model: type[AttrsInstance]) -> dict[str, object]:
    """Return the default of each field of a model; attrs takes most of the time of a short request to look one up."""
    return {attribute.name: cast("object", attribute.default) for attribute in fields(model)}


def _split_path(path: str) -> tuple[tuple[str, ...], str]:
    *parents, member = path.split(".")
    return tuple(parents), member


def _ensure_object(root: dict[str, object], parents: tuple[str, ...]) -> dict[str, object]:
    """Return the object at a path, and create the objects that are missing on the way."""
    holder = root
    for parent in parents:
        holder = cast("dict[str, object]", holder.setdefault(parent, {}))
    return holder


def _find_object(root: JsonObject, parents: tuple[str, ...]) -> JsonObject | None:
    """Return the object at a path, an empty one if it is missing, or ``None`` if the path leads to another type."""
    for parent in parents:
        inner = as_object(root.get(parent, EMPTY))
        if inner is None:
            return None
        root = inner
    return root


def _merge_extra(out: object, raw: object, known: frozenset[str], path: str) -> object:
    """Return the encoded members, and the received members that no field decodes."""
    encoded, received = as_object(out), as_object(raw)
    if encoded is None or received is None or path[:-1] in known:
        return out
    merged = {name: _merge_extra(value, received.get(name), known, f"{path}{name}.") for name, value in encoded.items()}
    # `name not in merged` also holds for keys that are not texts, from a caller's mapping. json encodes them as texts.
    extra = {name: value for name, value in received.items() if name not in merged and f"{path}{name}" not in known}
    return merged | extra
