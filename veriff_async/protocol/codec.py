"""JSON on one side, models on the other; the only module that knows cattrs, which it imports when first used.

Reading is lenient where documents and real answers differ (numbers as text, null or missing keys, ``""`` for unknown,
times with three or six digits): an optional field that cannot be read is ``None`` and stays in ``.raw``. Errors carry
paths, never values, and no chained exception that would keep the body.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast, get_args, get_origin

from attrs import fields, has, resolve_types

from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import as_list, as_object

if TYPE_CHECKING:
    from attrs import AttrsInstance
    from cattrs import Converter

    from veriff_async.models.json import JsonObject

__all__ = ("UnreadableError", "dump", "load_object", "read", "render", "warm_up")

_T = TypeVar("_T")


class UnreadableError(Exception):
    """Bytes or JSON that do not fit; the caller says whose fault it is."""

    def __init__(self, *problems: str) -> None:
        """Take what was wrong and where (``"required field missing @ $.verification.id"``)."""
        super().__init__("; ".join(problems))
        self.problems = problems


def dump(value: object) -> bytes:
    """Write compact JSON as UTF-8, as Veriff's own bodies are seen to be.

    Half a surrogate pair has no UTF-8; JSON with it is written with escapes.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def load_object(body: bytes) -> JsonObject:
    """Read a JSON object.

    Raises:
        UnreadableError: The bytes are not UTF-8, not JSON, too deep, or JSON but no object.
    """
    problem = "expected a JSON object @ $"
    try:
        value: object = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        problem = "expected UTF-8 @ $"
    except (ValueError, RecursionError):
        # The exception holds the whole body (JSONDecodeError.doc), so it must not become a context.
        problem = "expected JSON @ $"
    else:
        if isinstance(value, dict):
            return cast("JsonObject", value)
    raise UnreadableError(problem)


def read(model: type[_T], value: object, *, path: str = "$", raw: JsonObject | None = None) -> _T:
    """Make a model from JSON.

    Args:
        model: An attrs class of `veriff_async.models`.
        value: The JSON object that describes it.
        path: Where it stands, for the error.
        raw: What the model keeps as its ``.raw``, when that is more than `value`.

    Raises:
        UnreadableError: It is no object, or a field that cannot be missing is missing or of another type.
    """
    if not isinstance(value, Mapping):
        problem = f"expected an object @ {path}"
        raise UnreadableError(problem)
    from cattrs import ClassValidationError

    try:
        return _converter().structure({**value, _RAW: raw or value}, model)
    except ClassValidationError as error:
        faults, _ = error.group_exceptions()
        problems = [f"{_say(fault)} @ {path}.{_key(model, note.name)}" for fault, note in faults]
    raise UnreadableError(*problems)


def warm_up(*models: type[object]) -> None:
    """Make the readers of models now, which takes some ten milliseconds, and not when a loop waits for an answer."""
    for model in models:
        _converter().get_structure_hook(model)


def render(model: object) -> dict[str, object]:
    """Make the JSON of a model in Veriff's words; what is absent is left out, never null."""
    return cast("dict[str, object]", _converter().unstructure(model))


def _say(fault: Exception) -> str:
    return "required field missing" if isinstance(fault, KeyError) else str(fault)


class _MismatchError(Exception):
    """A required value of the wrong kind; its text names the kind that was expected."""


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError


def _required_text(value: object, _kind: object) -> str:
    text = _text(value)
    if text is None:
        msg = "expected a text"
        raise _MismatchError(msg)
    return text


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value or None
    return None if isinstance(value, bool) or not isinstance(value, int | float) else str(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        # Every time of the documents and of real payloads is in UTC; one without an offset is read as such.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for item in as_list(value) if (text := _text(item)) is not None)


_LEAVES: dict[object, Callable[[object], object]] = {
    str | None: _text,
    float | None: _number,
    int | None: _integer,
    bool | None: _flag,
    datetime | None: _moment,
    tuple[str, ...]: _texts,
}

# A key that no JSON of Veriff's holds: under it the whole object is handed to the model's `raw`.
_RAW: Final = "\0raw"

# Keys that are not the field's name in camel case.
_KEYS: Final[dict[str, dict[str, str]]] = {"Decision": {"session_id": "id"}, "SessionEvent": {"session_id": "id"}}


def _key(model: type[object], name: str) -> str:
    head, *rest = name.split("_")
    return _KEYS.get(model.__name__, {}).get(name, head + "".join(part.capitalize() for part in rest))


@cache
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter(detailed_validation=True)
    # cattrs asks the hooks in the reverse order of their registration: general first, special last.
    converter.register_structure_hook_factory(has, _model_reader)
    converter.register_structure_hook_factory(_is_sequence, _sequence_reader)
    converter.register_structure_hook_factory(_is_optional, _optional_reader)
    converter.register_structure_hook_func(_is_object, lambda value, _: as_object(value) or {})
    converter.register_structure_hook_func(_LEAVES.__contains__, lambda value, kind: _LEAVES[kind](value))
    converter.register_structure_hook(str, _required_text)
    # By class, not by predicate: cattrs asks the classes first, and an enum of words is a `str` too.
    converter.register_structure_hook(OpenEnum, lambda value, kind: kind(_required_text(value, kind)))
    converter.register_unstructure_hook_factory(has, _model_writer)
    return converter


def _is_object(kind: object) -> bool:
    return get_origin(kind) is Mapping


def _is_optional(kind: object) -> bool:
    return get_origin(kind) is UnionType and len(get_args(kind)) == 2 and type(None) in get_args(kind)  # noqa: PLR2004


def _is_sequence(kind: object) -> bool:
    return get_origin(kind) is tuple


def _optional_reader(kind: object, converter: Converter) -> Callable[[object, object], object]:
    (inner,) = (part for part in get_args(kind) if part is not type(None))

    def read_optional(value: object, _kind: object) -> object:
        return _or_nothing(converter, value, inner)

    return read_optional


def _sequence_reader(kind: object, converter: Converter) -> Callable[[object, object], object]:
    inner = get_args(kind)[0]

    def read_sequence(value: object, _kind: object) -> object:
        items = (_or_nothing(converter, item, inner) for item in as_list(value))
        return tuple(item for item in items if item is not None)

    return read_sequence


def _or_nothing(converter: Converter, value: object, kind: type[object]) -> object | None:
    try:
        return converter.structure(value, kind) if value is not None else None
    except (ExceptionGroup, _MismatchError):
        return None


def _overrides(model: type[AttrsInstance], *, omit_raw: bool) -> dict[str, Any]:
    from cattrs.gen import override

    resolve_types(model)
    raw = override(omit=True) if omit_raw else override(rename=_RAW)
    return {
        attribute.name: raw if attribute.name == "raw" else override(rename=_key(model, attribute.name))
        for attribute in fields(model)
    }


def _model_reader(model: type[AttrsInstance], converter: Converter) -> Callable[[object, object], object]:
    from cattrs.gen import make_dict_structure_fn

    build = make_dict_structure_fn(model, converter, **_overrides(model, omit_raw=False))

    def read_model(value: object, kind: object) -> object:
        known = as_object(value) or {}
        return build({_RAW: known, **known}, kind)

    return read_model


def _model_writer(model: type[AttrsInstance], converter: Converter) -> Callable[[object], object]:
    from cattrs.gen import make_dict_unstructure_fn

    overrides = _overrides(model, omit_raw=True)
    return make_dict_unstructure_fn(model, converter, _cattrs_omit_if_default=True, **overrides)
