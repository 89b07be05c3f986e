"""Decodes JSON into models. It imports cattrs when it is first used.

Three degrees of strictness exist in this package, and they are deliberately separate:

* Veriff's messages (this module) are decoded leniently, because documents and real responses differ: numbers as text,
  null or missing members, ``""`` for unknown, times with three or six digits. An optional field whose member cannot be
  decoded is ``None``, and the member stays in ``.raw``.
* Session states (`session_state.load_state`) must have their form, but may contain the new words of a newer version.
* Job records (`json.strict`) are strict: dropping one entry would mean that uploaded media are forgotten.

Two decoders exist for each model. The compiled one (see `compiled`) is fast and stops at the first problem. After a
failure, cattrs' own one decodes again and lists every problem. Problems contain paths, never values, and no error is
chained to one that would keep the body.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum, StrEnum
from functools import cache, partial
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, get_args, get_origin

from attrs import NOTHING, fields, has, resolve_types
from pybase64 import b64decode

from veriff_async._protocol.json.compiled import compile_decoder
from veriff_async._protocol.json.parse import parse_json
from veriff_async._protocol.json.paths import FILLED_BY_LIBRARY, RAW, field_paths, flatten
from veriff_async.errors import DecodeError, InvalidArgumentError
from veriff_async.models.base import Model
from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import as_list, as_object
from veriff_async.models.numbers import as_javascript, with_javascript_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrs import AttrsInstance
    from cattrs import ClassValidationError, Converter

    from veriff_async._protocol.json.compiled import Decoder, Hook
    from veriff_async.models.json import JsonObject

__all__ = (
    "check_model",
    "decode_error",
    "decode_model",
    "dump",
    "dump_raw",
    "from_json",
    "is_json_model",
    "load_object",
    "stringify",
    "warm_up",
)

_T = TypeVar("_T")


# Created once: `json.dumps` with an option creates an encoder for each call, which takes longer than a small value.
_ASCII_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def decode_error(*problems: str) -> DecodeError:
    """Return the error for problems such as ``"required field missing @ $.verification.id"``."""
    return DecodeError(f"The JSON does not have the expected form: {'; '.join(problems)}.", problems=problems)


def dump(value: object) -> bytes:
    """Encode compact JSON as UTF-8, with numbers as Veriff writes them. Decoding it gives an equal value.

    A lone surrogate has no UTF-8 encoding, so a value that contains one is encoded with escapes.

    Raises:
        ValueError: A number is not finite, or the value contains itself.
        TypeError: A value has no JSON form.
    """
    try:
        return with_javascript_numbers(_ENCODER.encode(value)).encode()
    except UnicodeEncodeError:
        return with_javascript_numbers(_ASCII_ENCODER.encode(value)).encode()


def dump_raw(value: object, owner: str) -> bytes:
    """Encode JSON that contains the ``raw`` of a model, into which a program can put any value.

    Raises:
        InvalidArgumentError: It has no JSON form.
    """
    try:
        return dump(value)
    except (TypeError, ValueError, RecursionError):  # not chained: its text may contain personal data
        msg = f"The raw of this {owner} is not JSON: pass it as Veriff sent it."
    raise InvalidArgumentError(msg)


def stringify(value: object) -> bytes:
    """Encode JSON as JavaScript does, so that ``JSON.stringify(JSON.parse(body))`` gives the same bytes.

    Raises:
        ValueError: A number is not finite, or the value contains itself.
        TypeError: A value has no JSON form.
    """
    text = with_javascript_numbers(_ENCODER.encode(as_javascript(value)), keep_value=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # JavaScript escapes only lone surrogates. Two halves that meet are one character.
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return joined.encode(errors="backslashreplace")


def load_object(body: bytes) -> JsonObject:
    """Decode a JSON object.

    Raises:
        DecodeError: The bytes are not UTF-8, not JSON, nested too deeply, or not an object.
    """
    problem = "expected a JSON object @ $"
    try:
        value = parse_json(body)
    except UnicodeDecodeError:
        problem = "expected UTF-8 @ $"
    except (ValueError, RecursionError):
        # JSONDecodeError.doc is the whole body, so the error must be raised outside this block, without a context.
        problem = "expected JSON @ $"
    else:
        if isinstance(value, dict):
            return cast("JsonObject", value)
    raise decode_error(problem)


def decode_model(model: type[_T], value: object, *, path: str = "$", raw: JsonObject | None = None) -> _T:
    """Decode a model from parsed JSON.

    Args:
        model: An attrs class of `veriff_async.models`.
        value: The JSON object that describes it.
        path: The path of that object, for error messages.
        raw: The object that the model keeps as its ``.raw``, when that is more than `value`.

    Raises:
        DecodeError: The value is not an object, or a required member is missing or of another type.
    """
    members = as_object(value)
    if members is None:
        problem = f"expected an object @ {path}"
        raise decode_error(problem)
    decode = _COMPILED.get(model) or _compile(cast("type[AttrsInstance]", model))
    try:
        return cast("_T", decode(members, members if raw is None else raw))
    except (KeyError, _MismatchError):
        pass  # decoded again below, to list every problem
    return cast("_T", _decode_detailed(cast("type[AttrsInstance]", model), members, path))


def from_json(model: type[_T], value: bytes | bytearray | str | JsonObject) -> _T:
    """Decode a model from its JSON: a response of Veriff, the body of a webhook, or the output of `to_json`.

    Args:
        model: The class, for example `Decision` or `Person`.
        value: The JSON as text, bytes or a mapping. A mapping is copied, so later changes to it do not reach the model.

    Raises:
        DecodeError: The value is not a JSON object, or a required member is missing; ``.problems`` has the paths.
        InvalidArgumentError: `model` is not a class with a JSON form. `Media`, for example, refers to a file.

    Example:
        >>> decision = from_json(Decision, stored_text)
    """
    check_model(model)
    try:
        return decode_model(model, _load(value))
    except DecodeError as error:
        problems = error.problems
    msg = f"This is not the JSON of a {model.__name__} ({'; '.join(problems)}): pass the JSON as Veriff sends it."
    raise DecodeError(msg, problems=problems)


def check_model(model: object) -> None:
    """Reject a class that has no JSON form.

    Raises:
        InvalidArgumentError: It is not a class of `veriff_async.models`, or one of its fields has no JSON form.
    """
    try:
        if is_json_model(model):
            return
    except TypeError:  # not hashable, so it is not a class
        pass
    name = model.__name__ if isinstance(model, type) else f"an instance of {type(model).__name__}"
    msg = f"model must be a class of veriff_async.models with a JSON form, not {name}: pass for example Decision."
    raise InvalidArgumentError(msg)


def _load(value: object) -> JsonObject:
    """Return a JSON object, given in any form, as dicts and lists."""
    problem = "expected UTF-8 @ $"
    try:
        if isinstance(value, str):
            return load_object(value.encode())
        if isinstance(value, bytes | bytearray):
            return load_object(bytes(value))
        if (members := as_object(value)) is not None:
            return _copy_object(members)
        problem = "expected a JSON object @ $"
    except UnicodeEncodeError:
        pass
    except (RecursionError, TypeError):
        problem = "expected JSON @ $"
    raise decode_error(problem)


def _copy_object(members: JsonObject) -> dict[str, object]:
    # A model must not change when its caller changes the object, and some mappings other than dicts cannot be pickled.
    if not all(isinstance(name, str) for name in members):
        raise TypeError
    return {name: _copy_value(member) for name, member in members.items()}


def _copy_value(value: object) -> object:
    if (members := as_object(value)) is not None:
        return _copy_object(members)
    if isinstance(value, list | tuple):
        return [_copy_value(item) for item in cast("list[object]", value)]
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError
    return None if isinstance(value, float) and not isfinite(value) else value  # as JSON.stringify writes it


@cache
def is_json_model(kind: object) -> bool:
    """Return whether a type is a model class, each of whose fields has a JSON form."""
    # A class of a user that is derived from a model has other members than the tables of `schema` say.
    if not (isinstance(kind, type) and issubclass(kind, Model) and has(kind)) or not kind.__module__.startswith(
        "veriff_async."
    ):
        return False
    resolve_types(kind)
    not_decoded = {name for owner, name in FILLED_BY_LIBRARY if owner == kind.__name__} | {"raw", "extra"}
    return all(attribute.name in not_decoded or _has_json_form(attribute.type) for attribute in fields(kind))


def _has_json_form(kind: object) -> bool:
    if kind in _OPTIONAL_HOOKS or kind in _REQUIRED_HOOKS or kind is object or is_json_model(kind):
        return True
    if kind is Path or _is_literal(kind) or (isinstance(kind, type) and issubclass(kind, Enum)):
        return True
    parts = [part for part in get_args(kind) if part not in {type(None), ...}]
    return bool(parts) and all(_has_json_form(part) for part in parts)


def _decode_detailed(model: type[AttrsInstance], value: JsonObject, path: str) -> object:
    from cattrs import ClassValidationError

    try:
        return _decoder_of(model, detailed=True)(value, value)
    except ClassValidationError as error:
        problems = _list_problems(error, model, path)
    raise decode_error(*problems)


def _list_problems(error: ClassValidationError, model: type[AttrsInstance], path: str) -> list[str]:
    paths = {field.field: f"{path}.{field.path}".rstrip(".") for field in field_paths(model)}
    problems: list[str] = []
    for exception, note in error.group_exceptions()[0]:
        if isinstance(exception, type(error)):
            problems += _list_problems(exception, note.type, paths[note.name])
        else:
            problems.append(f"{_describe(exception)} @ {paths[note.name]}")
    return problems


def warm_up(*models: type[AttrsInstance]) -> None:
    """Compile the decoders of models now: it takes milliseconds for each, which would delay an event loop later."""
    for model in models:
        _compile(model)


# Read for every message, which is faster than a call of the cached function below.
_COMPILED: Final[dict[type, Decoder]] = {}


def _compile(model: type[AttrsInstance]) -> Decoder:
    decode = _COMPILED[model] = _decoder_of(model, detailed=False)
    return decode


def _describe(exception: Exception) -> str:
    return "required field missing" if isinstance(exception, KeyError) else str(exception)


class _MismatchError(Exception):
    """A required value has the wrong type; the text names the expected one."""


def _required_text(value: object, _kind: object) -> str:
    text = _to_text(value)
    if text is None:
        msg = "expected a text"
        raise _MismatchError(msg)
    return text


def _required_value(value: object, kind: object) -> object:
    hook, problem = _REQUIRED_HOOKS[kind]
    decoded = hook(value, kind)
    if decoded is None:
        raise _MismatchError(problem)
    return decoded


def _to_bytes(value: object, _kind: object = None) -> bytes | None:
    try:
        return b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        return None


def _to_text(value: object, _kind: object = None) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return str(value) if isfinite(value) else None
    except OverflowError:  # an int with hundreds of digits
        return None


def _to_number(value: object, _kind: object = None) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _to_integer(value: object, _kind: object = None) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _to_number(value)
    return int(number) if number is not None and number.is_integer() else None


def _to_bool(value: object, _kind: object = None) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _to_datetime(value: object, _kind: object = None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(cast("str", value))
        if moment.tzinfo is UTC:
            return moment
        # Every time in the documents and in real payloads is in UTC, so a time without an offset is taken as UTC.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):  # not a text, or not a time
        return None


def _to_texts(value: object, _kind: object = None) -> tuple[str, ...]:
    return tuple([text for item in as_list(value) if (text := _to_text(item)) is not None])


_REQUIRED_HOOKS: dict[object, tuple[Hook, str]] = {
    str: (_to_text, "expected a text"),
    bool: (_to_bool, "expected true or false"),
    int: (_to_integer, "expected a whole number"),
    float: (_to_number, "expected a number"),
    bytes: (_to_bytes, "expected base64"),
    datetime: (_to_datetime, "expected a time"),
}

_OPTIONAL_HOOKS: dict[object, Hook] = {
    str | None: _to_text,
    float | None: _to_number,
    int | None: _to_integer,
    bool | None: _to_bool,
    datetime | None: _to_datetime,
    tuple[str, ...]: _to_texts,
}


@cache
def _converter(*, detailed: bool) -> Converter:
    from cattrs import Converter

    converter = Converter(detailed_validation=detailed)
    # cattrs tries hooks in the reverse order of their registration, so the general ones come first.
    converter.register_structure_hook_factory(has, _model_hook)
    converter.register_structure_hook_factory(_is_sequence, _sequence_hook)
    converter.register_structure_hook_factory(_is_optional, _optional_hook)
    converter.register_structure_hook_factory(_is_object, _object_hook)
    converter.register_structure_hook_factory(_OPTIONAL_HOOKS.__contains__, _leaf_hook)
    converter.register_structure_hook_func(_is_literal, _to_word)
    for kind in _REQUIRED_HOOKS:
        converter.register_structure_hook(cast("type[object]", kind), _required_value)
    # Registered by class, not by predicate: cattrs tries classes first, most enums are subclasses of `str`, and its own
    # hook for paths raises TypeError.
    converter.register_structure_hook(Path, lambda value, kind: kind(_required_text(value, kind)))
    converter.register_structure_hook(Enum, _to_member)
    converter.register_structure_hook(StrEnum, _to_member)
    converter.register_structure_hook(OpenEnum, lambda value, kind: kind(_required_text(value, kind)))
    return converter


def _to_member(value: object, kind: type[Enum]) -> Enum:
    return kind(_check_word(value, [member.value for member in kind]))


def _to_word(value: object, kind: object) -> object:
    return _check_word(value, get_args(kind))


def _check_word(value: object, words: Sequence[object]) -> object:
    if value not in words:
        msg = f"expected one of {', '.join(map(str, words))}"
        raise _MismatchError(msg)
    return value


def _is_literal(kind: object) -> bool:
    return get_origin(kind) is Literal


def _is_object(kind: object) -> bool:
    return get_origin(kind) is Mapping


def _is_optional(kind: object) -> bool:
    return get_origin(kind) is UnionType and len(get_args(kind)) == 2 and type(None) in get_args(kind)  # noqa: PLR2004


def _is_sequence(kind: object) -> bool:
    return get_origin(kind) is tuple


def _leaf_hook(kind: object) -> Hook:
    return _OPTIONAL_HOOKS[kind]


def _optional_hook(kind: object, converter: Converter) -> Hook:
    (inner,) = (part for part in get_args(kind) if part is not type(None))
    hook = _lenient_hook(inner, converter)
    return lambda value, _: None if value is None else hook(value)


def _sequence_hook(kind: object, converter: Converter) -> Hook:
    hook = _lenient_hook(get_args(kind)[0], converter)

    def decode_items(value: object, _kind: object) -> object:
        items = [hook(item) for item in as_list(value) if item is not None]
        return tuple([item for item in items if item is not None])

    return decode_items


def _object_hook(kind: object, converter: Converter) -> Hook:
    value_type = get_args(kind)[1]
    if value_type is object:
        return lambda value, _: as_object(value) or {}
    hook = converter.get_structure_hook(value_type)

    def decode_members(value: object, _kind: object) -> object:
        return {str(name): hook(member, value_type) for name, member in (as_object(value) or {}).items()}

    return decode_members


def _lenient_hook(kind: type[Any], converter: Converter) -> Callable[[object], object | None]:
    """Return a hook that returns ``None`` for a value that cannot be decoded."""
    if _is_object(kind):
        return as_object
    hook = cast("Hook", converter.get_structure_hook(kind))
    decode = _decoder_of(kind, detailed=converter.detailed_validation) if has(kind) else None

    def decode_or_none(value: object) -> object | None:
        try:
            # Nearly always an object with members, for which the hook would only add a call.
            return decode(members, members) if decode and (members := as_object(value)) else hook(value, kind)
        except (ExceptionGroup, _MismatchError, KeyError):
            return None

    return decode_or_none


@cache
def _decoder_of(model: type[AttrsInstance], *, detailed: bool) -> Decoder:
    """Return the decoder of a model: the compiled one, or cattrs' own, which lists every problem."""
    converter = _converter(detailed=detailed)
    if not detailed:
        return compile_decoder(model, converter.get_structure_hook, partial(_decoder_of, detailed=False))
    from cattrs.gen import make_dict_structure_fn, override

    resolve_types(model)
    paths = {field.field: field.path for field in field_paths(model)}
    not_decoded = {attribute.name for attribute in fields(model)} - set(paths) - {"raw"}
    overrides: dict[str, Any] = {name: override(rename=path) for name, path in paths.items()}
    overrides |= {name: override(omit=True) for name in not_decoded}
    if "raw" in (attribute.name for attribute in fields(model)):
        overrides["raw"] = override(rename=RAW)
    build = make_dict_structure_fn(model, converter, **overrides)
    return lambda value, raw: build(flatten(model, value, raw), model)


def _model_hook(model: type[AttrsInstance], converter: Converter) -> Hook:
    decode = _decoder_of(model, detailed=converter.detailed_validation)
    # Most parts of a message are empty, and one empty instance can serve all of them, because models are frozen.
    is_optional = all(attribute.default is not NOTHING for attribute in fields(model))
    empty = model() if is_optional else None

    def decode_part(value: object, _kind: object) -> object:
        members = as_object(value) or {}
        return decode(members, members) if members or empty is None else empty

    return decode_part
