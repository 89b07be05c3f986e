"""JSON to models; it and `strict` are the only modules that know cattrs, and import it when first used.

Reading is lenient where documents and real answers differ (numbers as text, null or missing keys, ``""`` for unknown,
times with three or six digits): an optional field that cannot be read is ``None`` and stays in ``.raw``. Errors carry
paths, never values, and no chained exception that would keep the body.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast, get_args, get_origin

from attrs import NOTHING, fields, has, resolve_types
from pybase64 import b64decode

from veriff_async._protocol.json.compiled import write_reader
from veriff_async._protocol.json.paths import OURS, RAW, flattened, places
from veriff_async.errors import DecodeError, InvalidArgumentError
from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import as_list, as_object
from veriff_async.models.numbers import as_javascript, with_javascript_numbers

if TYPE_CHECKING:
    from attrs import AttrsInstance
    from cattrs import ClassValidationError, Converter

    from veriff_async._protocol.json.compiled import Hook, Reader
    from veriff_async.models.json import JsonObject

__all__ = ("check_model", "decode_error", "dump", "from_json", "load_object", "read", "stringify", "warm_up")

_T = TypeVar("_T")


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError


def _finite(text: str) -> float:
    """Read a number, which must be one that can be written again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


# Made once: `json.loads` with an option makes a decoder for each text, which takes longer than a small one.
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_ASCII_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def decode_error(*problems: str) -> DecodeError:
    """Return the error for problems such as ``"required field missing @ $.verification.id"``."""
    return DecodeError(f"The JSON does not have the expected form: {'; '.join(problems)}.", problems=problems)


def dump(value: object) -> bytes:
    """Write compact JSON as UTF-8, with numbers as Veriff writes them. Reading it gives an equal value.

    Half a surrogate pair has no UTF-8; JSON with it is written with escapes.

    Raises:
        ValueError: A number is not finite, or the value contains itself.
        TypeError: Something has no JSON.
    """
    try:
        return with_javascript_numbers(_ENCODER.encode(value)).encode()
    except UnicodeEncodeError:
        return with_javascript_numbers(_ASCII_ENCODER.encode(value)).encode()


def stringify(value: object) -> bytes:
    """Write JSON as JavaScript does, so that ``JSON.stringify(JSON.parse(body))`` gives the same bytes.

    Raises:
        ValueError: A number is not finite, or the value contains itself.
        TypeError: Something has no JSON.
    """
    text = with_javascript_numbers(_ENCODER.encode(as_javascript(value)), keep_value=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # JavaScript escapes half a surrogate pair alone; two halves that meet are one letter.
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return joined.encode(errors="backslashreplace")


def load_object(body: bytes) -> JsonObject:
    """Read a JSON object.

    Raises:
        DecodeError: The bytes are not UTF-8, not JSON, too deep, or JSON but no object.
    """
    problem = "expected a JSON object @ $"
    try:
        value: object = _DECODER.decode(body.decode())
    except UnicodeDecodeError:
        problem = "expected UTF-8 @ $"
    except (ValueError, RecursionError):
        # The exception holds the whole body (JSONDecodeError.doc), so it must not become a context.
        problem = "expected JSON @ $"
    else:
        if isinstance(value, dict):
            return cast("JsonObject", value)
    raise decode_error(problem)


def read(model: type[_T], value: object, *, path: str = "$", raw: JsonObject | None = None) -> _T:
    """Make a model from JSON.

    Args:
        model: An attrs class of `veriff_async.models`.
        value: The JSON object that describes it.
        path: Where it stands, for the error.
        raw: What the model keeps as its ``.raw``, when that is more than `value`.

    Raises:
        DecodeError: It is no object, or a field that cannot be missing is missing or of another type.
    """
    known = as_object(value)
    if known is None:
        problem = f"expected an object @ {path}"
        raise decode_error(problem)
    kind = cast("type[AttrsInstance]", model)
    try:
        return cast("_T", _maker(kind, detailed=False)(known, known if raw is None else raw))
    except (KeyError, _MismatchError):
        pass  # said in full below: finding every fault costs more than reading
    return cast("_T", _explain(kind, known, path))


def from_json(model: type[_T], value: bytes | bytearray | str | JsonObject) -> _T:
    """Make a model from its JSON: an answer of Veriff's, the body of a webhook, or what `to_json` has written.

    Args:
        model: What to make, for example `Decision` or `Person`.
        value: The JSON, parsed or not. A parsed one is copied, so later changes to it do not reach the model.

    Raises:
        DecodeError: It is not a JSON object, or lacks what the model requires; ``.problems`` says where.
        InvalidArgumentError: `model` is not a model of JSON, for example a `Media`, which holds a file.

    Example:
        >>> decision = from_json(Decision, stored_text)
    """
    check_model(model)
    try:
        return read(model, _loaded(value))
    except DecodeError as error:
        problems = error.problems
    msg = f"This is not the JSON of a {model.__name__} ({'; '.join(problems)}): pass the JSON as Veriff sends it."
    raise DecodeError(msg, problems=problems)


def check_model(model: object) -> None:
    """Refuse a class that does not stand for JSON.

    Raises:
        InvalidArgumentError: It is not a class of `veriff_async.models`, or one of its fields has no JSON.
    """
    try:
        if _is_model(model):
            return
    except TypeError:  # it cannot be hashed, so it is not a class
        pass
    name = model.__name__ if isinstance(model, type) else f"an instance of {type(model).__name__}"
    msg = f"The model must be a class of veriff_async that stands for JSON, not {name}: pass for example Decision."
    raise InvalidArgumentError(msg)


def _loaded(value: object) -> JsonObject:
    """Return the JSON object in any of its forms, made of dicts and lists alone."""
    problem = "expected UTF-8 @ $"
    try:
        if isinstance(value, str):
            return load_object(value.encode())
        if isinstance(value, bytes | bytearray):
            return load_object(bytes(value))
        if (members := as_object(value)) is not None:
            return _copied(members)
        problem = "expected a JSON object @ $"
    except UnicodeEncodeError:
        pass
    except RecursionError:
        problem = "expected JSON @ $"
    raise decode_error(problem)


def _copied(members: JsonObject) -> dict[str, object]:
    """Copy an object: a model must not change with its caller's, and other mappings than a dict cannot be pickled."""
    return {name: _copied_value(member) for name, member in members.items()}


def _copied_value(value: object) -> object:
    if (members := as_object(value)) is not None:
        return _copied(members)
    return [_copied_value(item) for item in cast("list[object]", value)] if isinstance(value, list | tuple) else value


@cache
def _is_model(kind: object) -> bool:
    """Return whether a class stands for JSON: one of ours, and each of its fields has a form in JSON."""
    if not isinstance(kind, type) or not has(kind) or not kind.__module__.startswith("veriff_async.models."):
        return False
    resolve_types(kind)
    ours = {name for owner, name in OURS if owner == kind.__name__} | {"raw", "extra"}
    return all(attribute.name in ours or _has_form(attribute.type) for attribute in fields(kind))


def _has_form(kind: object) -> bool:
    if kind in _LEAVES or kind in _REQUIRED or kind is object or _is_model(kind):
        return True
    if isinstance(kind, type) and issubclass(kind, OpenEnum):
        return True
    parts = [part for part in get_args(kind) if part not in {type(None), ...}]
    return bool(parts) and all(_has_form(part) for part in parts)


def _explain(model: type[AttrsInstance], value: JsonObject, path: str) -> object:
    from cattrs import ClassValidationError

    try:
        return _maker(model, detailed=True)(value, value)
    except ClassValidationError as error:
        problems = _problems(error, model, path)
    raise decode_error(*problems)


def _problems(error: ClassValidationError, model: type[AttrsInstance], path: str) -> list[str]:
    at = {place.field: f"{path}.{place.path}".rstrip(".") for place in places(model)}
    found: list[str] = []
    for fault, note in error.group_exceptions()[0]:
        if isinstance(fault, type(error)):
            found += _problems(fault, note.type, at[note.name])
        else:
            found.append(f"{_say(fault)} @ {at[note.name]}")
    return found


def warm_up(*models: type[AttrsInstance]) -> None:
    """Make the readers of models now, which takes some milliseconds each, and not when a loop waits for an answer."""
    for model in models:
        _maker(model, detailed=False)


def _say(fault: Exception) -> str:
    return "required field missing" if isinstance(fault, KeyError) else str(fault)


class _MismatchError(Exception):
    """A required value of the wrong kind; its text names the kind that was expected."""


def _required_text(value: object, _kind: object) -> str:
    text = _text(value)
    if text is None:
        msg = "expected a text"
        raise _MismatchError(msg)
    return text


def _required_value(value: object, kind: object) -> object:
    read_optional, words = _REQUIRED[kind]
    found = read_optional(value, kind)
    if found is None:
        raise _MismatchError(words)
    return found


def _file(value: object, _kind: object = None) -> bytes | None:
    try:
        return b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        return None


def _text(value: object, _kind: object = None) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return str(value) if math.isfinite(value) else None
    except OverflowError:  # an int with hundreds of digits
        return None


def _number(value: object, _kind: object = None) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(value: object, _kind: object = None) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _flag(value: object, _kind: object = None) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _moment(value: object, _kind: object = None) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        # Every time of the documents and of real payloads is in UTC; one without an offset is read as such.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _texts(value: object, _kind: object = None) -> tuple[str, ...]:
    return tuple([text for item in as_list(value) if (text := _text(item)) is not None])


_REQUIRED: dict[object, tuple[Hook, str]] = {
    str: (_text, "expected a text"),
    bool: (_flag, "expected true or false"),
    int: (_integer, "expected a whole number"),
    float: (_number, "expected a number"),
    bytes: (_file, "expected base64"),
}

_LEAVES: dict[object, Hook] = {
    str | None: _text,
    float | None: _number,
    int | None: _integer,
    bool | None: _flag,
    datetime | None: _moment,
    tuple[str, ...]: _texts,
}


@cache
def _converter(*, detailed: bool) -> Converter:
    from cattrs import Converter

    converter = Converter(detailed_validation=detailed)
    # cattrs asks the hooks in the reverse order of their registration: general first, special last.
    converter.register_structure_hook_factory(has, _model_reader)
    converter.register_structure_hook_factory(_is_sequence, _sequence_reader)
    converter.register_structure_hook_factory(_is_optional, _optional_reader)
    converter.register_structure_hook_factory(_is_object, _object_reader)
    converter.register_structure_hook_factory(_LEAVES.__contains__, _leaf_reader)
    for kind in _REQUIRED:
        converter.register_structure_hook(cast("type[object]", kind), _required_value)
    # By class, not by predicate: cattrs asks the classes first, and an enum of words is a `str` too.
    converter.register_structure_hook(OpenEnum, lambda value, kind: kind(_required_text(value, kind)))
    return converter


def _is_object(kind: object) -> bool:
    return get_origin(kind) is Mapping


def _is_optional(kind: object) -> bool:
    return get_origin(kind) is UnionType and len(get_args(kind)) == 2 and type(None) in get_args(kind)  # noqa: PLR2004


def _is_sequence(kind: object) -> bool:
    return get_origin(kind) is tuple


def _leaf_reader(kind: object) -> Hook:
    return _LEAVES[kind]


def _optional_reader(kind: object, converter: Converter) -> Hook:
    (inner,) = (part for part in get_args(kind) if part is not type(None))
    hook = _lenient(inner, converter)
    return lambda value, _: None if value is None else hook(value)


def _sequence_reader(kind: object, converter: Converter) -> Hook:
    hook = _lenient(get_args(kind)[0], converter)

    def read_sequence(value: object, _kind: object) -> object:
        items = [hook(item) for item in as_list(value) if item is not None]
        return tuple([item for item in items if item is not None])

    return read_sequence


def _object_reader(kind: object, converter: Converter) -> Hook:
    of = get_args(kind)[1]
    if of is object:
        return lambda value, _: as_object(value) or {}
    hook = converter.get_structure_hook(of)

    def read_members(value: object, _kind: object) -> object:
        return {str(name): hook(member, of) for name, member in (as_object(value) or {}).items()}

    return read_members


def _lenient(kind: type[Any], converter: Converter) -> Callable[[object], object | None]:
    """Return a reader that gives nothing for what cannot be read."""
    if _is_object(kind):
        return as_object
    hook = cast("Hook", converter.get_structure_hook(kind))
    make = _maker(kind, detailed=converter.detailed_validation) if has(kind) else None

    def read_or_nothing(value: object) -> object | None:
        try:
            # Nearly always an object with members, which needs no look by the hook.
            return make(known, known) if make and (known := as_object(value)) else hook(value, kind)
        except (ExceptionGroup, _MismatchError, KeyError):
            return None

    return read_or_nothing


@cache
def _maker(model: type[AttrsInstance], *, detailed: bool) -> Reader:
    """Return what makes a model: the written reader, or cattrs' own when it is to say all that does not fit."""
    converter = _converter(detailed=detailed)
    if not detailed:
        return write_reader(model, converter.get_structure_hook, partial(_maker, detailed=False))
    from cattrs.gen import make_dict_structure_fn, override

    resolve_types(model)
    named = {place.field: place.path for place in places(model)}
    unread = {attribute.name for attribute in fields(model)} - set(named) - {"raw"}
    overrides: dict[str, Any] = {name: override(rename=path) for name, path in named.items()}
    overrides |= {name: override(omit=True) for name in unread}
    if "raw" in (attribute.name for attribute in fields(model)):
        overrides["raw"] = override(rename=RAW)
    build = make_dict_structure_fn(model, converter, **overrides)
    return lambda value, raw: build(flattened(model, value, raw), model)


def _model_reader(model: type[AttrsInstance], converter: Converter) -> Hook:
    make = _maker(model, detailed=converter.detailed_validation)
    # Parts of a message are empty more often than not, and an empty model is the same for all.
    optional = all(attribute.default is not NOTHING for attribute in fields(model))
    empty = model() if optional else None

    def read_model(value: object, _kind: object) -> object:
        known = as_object(value) or {}
        return make(known, known) if known or empty is None else empty

    return read_model
