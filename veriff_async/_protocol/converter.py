"""A converter of cattrs for classes of a program that contain models."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, NoReturn, TypeVar, Union, get_args, get_origin

from veriff_async._protocol.json.decode import check_model, decode_error, from_json, is_json_model
from veriff_async._protocol.webhook import event_from
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.base import Model, WithoutJson
from veriff_async.models.enums import OpenEnum
from veriff_async.models.events import WebhookEvent
from veriff_async.models.json import as_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from cattrs.preconf.json import JsonConverter

__all__ = ("converter",)

_EVENTS = frozenset(get_args(WebhookEvent))
_M = TypeVar("_M", bound=Model)


def converter() -> JsonConverter:
    """Return a new converter of cattrs that reads and writes every model as `from_json` and `to_json` do.

    Register your own hooks with it: the library keeps no reference to it. It is cattrs' converter for JSON, so times
    are ISO 8601, and ``dumps`` and ``loads`` convert texts. A class with a field of a model, of an enum such as
    `Status`, or of `WebhookEvent` needs no hook. Values that hold secrets or files (`Credentials`, `Media`) are refused
    with an `InvalidArgumentError`.

    Example:
        >>> @attrs.frozen
        ... class Order:
        ...     number: int
        ...     decision: Decision | None = None
        >>> converter().loads('{"number": 7, "decision": null}', Order)
        Order(number=7, decision=None)
    """
    from cattrs.preconf.json import make_converter

    made = make_converter()
    made.register_structure_hook_factory(is_json_model, _reader)
    made.register_unstructure_hook_factory(_is_model, _writer)
    made.register_structure_hook_factory(_is_union_of_events, _event_reader)
    # By class: cattrs looks at classes first, where an open enum is a `str`.
    made.register_structure_hook(OpenEnum, _read_word)
    made.register_structure_hook_factory(_is_without_json, _refuse)
    made.register_unstructure_hook_factory(_is_without_json, _refuse)
    return made


def _reader(model: type[_M]) -> Callable[[object, object], _M]:
    return lambda value, _: from_json(model, value)  # type: ignore[arg-type]


def _writer(kind: type[Model]) -> Callable[[Model], dict[str, object]]:
    check_model(kind)  # of a class derived from a model, cattrs would write the names of Python
    return kind.to_dict  # not `to_json`: that of a report adds a member


def _read_word(value: object, kind: type[OpenEnum]) -> OpenEnum:
    if isinstance(value, str):
        return kind(value)
    problem = "expected a text @ $"
    raise decode_error(problem)


def _is_union_of_events(kind: object) -> bool:
    return get_origin(kind) in {Union, UnionType} and not {*get_args(kind)} - _EVENTS - {NoneType}


def _event_reader(kind: object) -> Callable[[object, object], WebhookEvent | None]:
    kinds = get_args(kind)

    def read_event(value: object, _kind: object) -> WebhookEvent | None:
        if value is None and NoneType in kinds:
            return None
        members = as_object(value)
        event = None if members is None else event_from(members)
        if event is None or type(event) not in kinds:
            problem = "expected a webhook of another kind @ $"
            raise decode_error(problem)
        return event

    return read_event


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Model)


def _is_without_json(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, WithoutJson)


def _refuse(kind: type) -> NoReturn:
    msg = f"{kind.__name__} holds secrets or files and has no JSON form: register a hook of your own for it."
    raise InvalidArgumentError(msg)
