"""Reads chaos profiles from TOML, and from the same members as JSON; writes those members. Pure.

The constructors of the rules check their values. This module adds which key of the file a value belongs to: their
message "RequestChaos.latency is ..." becomes "In flaky.toml, requests[0].latency is ...". The rules in a list are
counted from 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar, cast

from attrs import fields

from veriff_async._protocol.arguments import type_name
from veriff_async._protocol.option_names import suggest
from veriff_async.errors import ConfigurationError, InvalidArgumentError
from veriff_async.sandbox._arguments import check_number, check_word
from veriff_async.sandbox._chaos.delay import DISTRIBUTIONS, Delay
from veriff_async.sandbox._chaos.rules import Outage, RequestChaos, WebhookChaos
from veriff_async.sandbox._faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attrs import AttrsInstance

__all__ = (
    "FAULT_KEYS",
    "KINDS",
    "fault_to_members",
    "parse_toml",
    "read_fault",
    "read_members",
    "to_members",
    "to_toml",
)

_T = TypeVar("_T")
_Table = Mapping[str, object]
_Read = Callable[[object, str], object]

# Bytes. A profile has some kilobytes; the parser takes memory and time for more.
_MAX_BYTES: Final = 256 * 1024

# A key that a message may show; a longer text may be something else.
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)

KINDS: Final = {kind.name.lower(): kind for kind in FaultKind}
"""The names that kinds of faults have in a file."""

_AFTER: Final = {"after": "after"}

FAULT_KEYS: Final[Mapping[FaultKind, Mapping[str, str]]] = {
    FaultKind.STATUS: {
        "status": "http_status",
        "code": "code",
        "message": "message",
        "before_body": "before_body",
        "headers": "headers",
    },
    FaultKind.DROP: _AFTER,
    FaultKind.HANG: _AFTER,
    FaultKind.LOSE_RESPONSE: {},
    FaultKind.TRUNCATE_RESPONSE: _AFTER,
    FaultKind.STALL_RESPONSE: _AFTER,
    FaultKind.CORRUPT_RESPONSE: {"offset": "after"},
    FaultKind.FORGE_SIGNATURE: {},
}
"""The keys of each kind of fault in a file, and the fields of `Fault` that hold them."""


class _InvalidKeyError(Exception):
    """A problem with one key; its text continues a sentence that names the source."""


def parse_toml(text: str | bytes, source: str) -> dict[str, object]:
    """Return the members of a TOML document."""
    import tomllib  # noqa: PLC0415  most sandboxes have no profile

    problem = ""
    if len(text) > _MAX_BYTES:
        problem = "it is larger than 256 KiB"
    else:
        try:
            return tomllib.loads(text if isinstance(text, str) else text.decode("utf-8-sig"))
        except UnicodeDecodeError:
            problem = "it is not text in UTF-8"
        except RecursionError:
            problem = "its values are nested too deeply"
        # Also raised for dates and numbers that Python cannot represent.
        except ValueError as error:
            problem = _explain(str(error))
    msg = f"{source[0].upper()}{source[1:]} is not valid TOML ({problem}): correct it, or start from a shipped profile."
    raise ConfigurationError(msg)


def _explain(message: str) -> str:
    """Return the message of the parser in a form that fits into a sentence."""
    line = " ".join(message.split())
    if not line.isprintable() or len(line) > 200:  # noqa: PLR2004  it quotes the wrong text
        return "the parser refuses a value"
    return line[:1].lower() + line[1:].replace("(at ", "at ").removesuffix(")")


def read_members(members: object, source: str, *, top_level: Iterable[str]) -> dict[str, object]:
    """Return the fields of a `ChaosProfile` from the members of a document.

    Raises:
        ConfigurationError: A key is unknown or missing, or has a value that it cannot have; the message names the key.
    """
    problem = ""
    try:
        table = _table(members, "")
        _check_keys(table, "", top_level)
        found: dict[str, object] = dict(table)
        for key, read in _LISTS.items():
            if key in table:
                found[key] = _read_list(table[key], key, read)
    except _InvalidKeyError as error:
        problem = str(error)
    else:
        return found
    msg = f"In {source}, {problem}"
    raise ConfigurationError(msg)


def read_fault(members: object, name: str) -> Fault:
    """Return the fault that the members of a table describe.

    Raises:
        InvalidArgumentError: A key is unknown, missing or has a wrong value; the message names it.
    """
    try:
        return _read_fault(members, name)
    except _InvalidKeyError as error:
        problem = str(error)
    raise InvalidArgumentError(problem)


def _read_list(value: object, path: str, read: Callable[[object, str], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list | tuple):
        msg = f"{path} must be a list, not {type_name(value)}: write [[{_heading(path)}]] above each of its tables."
        raise _InvalidKeyError(msg)
    items = cast("list[object]", value)
    return tuple(read(item, f"{path}[{index}]") for index, item in enumerate(items))


def _heading(path: str) -> str:
    return re.sub(r"\[\d+\]", "", path)


def _read_requests(value: object, path: str) -> RequestChaos:
    readers: dict[str, _Read] = {"faults": _read_weights, "latency": _read_delay}
    return _build(RequestChaos, value, path, readers)


def _read_webhooks(value: object, path: str) -> WebhookChaos:
    return _build(WebhookChaos, value, path, {"delay": _read_delay})


def _read_outage(value: object, path: str) -> Outage:
    return _build(Outage, value, path, {"fault": _read_fault}, required=("duration",))


_LISTS: Final[Mapping[str, Callable[[object, str], object]]] = {
    "requests": _read_requests,
    "webhooks": _read_webhooks,
    "outages": _read_outage,
}


def _build(
    kind: type[_T], value: object, path: str, readers: Mapping[str, _Read], *, required: tuple[str, ...] = ()
) -> _T:
    """Build a rule whose keys are the names of its fields."""
    table = _table(value, path)
    _check_keys(table, path, [each.name for each in fields(cast("type", kind))])
    for key in required:
        _require(table, key, path)
    members = {key: readers[key](item, f"{path}.{key}") if key in readers else item for key, item in table.items()}
    return _call(kind, members, path)


def _read_delay(value: object, path: str) -> Delay:
    # A plain number is the shortest form of a constant delay.
    if isinstance(value, int | float):
        return _call(Delay, {"center": value}, path, shown_as={"seconds": ""})
    table = _table(value, path)
    name = _require(table, "distribution", path)
    keys = _choose(DISTRIBUTIONS, name, f"{path}.distribution")
    _check_keys(table, path, ("distribution", *keys))
    for key in keys:
        if key not in {"lowest", "highest"} or name == "uniform":
            _require(table, key, path)
    members = {keys.get(key, key): item for key, item in table.items()}
    return _call(Delay, members, path)


def _read_weights(value: object, path: str) -> dict[Fault, float]:
    found: dict[Fault, float] = {}
    for fault, weight, own_path in _read_list(value, path, _read_weighted):
        if fault in found:
            msg = f"{own_path} is the same fault as an earlier one: add their weights."
            raise _InvalidKeyError(msg)
        found[fault] = weight
    return found


def _read_weighted(value: object, path: str) -> tuple[Fault, float, str]:
    table = dict(_table(value, path))
    fault = _read_fault(table, path, others=("weight",))
    name = f"{path}.weight"
    weight = _check(lambda: check_number(name, _require(table, "weight", path), highest=1))
    return fault, weight, path


def _read_fault(value: object, path: str, *, others: tuple[str, ...] = ()) -> Fault:
    table = dict(_table(value, path))
    kind = _choose(KINDS, _require(table, "kind", path), f"{path}.kind")
    keys = FAULT_KEYS[kind]
    can_retry = kind is FaultKind.STATUS
    _check_keys(table, path, ("kind", *others, *keys, *(("retry_after",) if can_retry else ())))
    members: dict[str, object] = {keys[key]: item for key, item in table.items() if key in keys}
    if can_retry:
        _require(table, "status", path)
        if "headers" in table:
            members["headers"] = dict(_table(table["headers"], f"{path}.headers"))
        if "retry_after" in table:
            members["headers"] = cast("dict[str, object]", members.get("headers", {})) | {
                "Retry-After": _read_retry_after(table["retry_after"], f"{path}.retry_after")
            }
    return _call(Fault, {"kind": kind, **members}, path, shown_as={own: key for key, own in keys.items()})


def _read_retry_after(value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    return f"{_check(lambda: check_number(name, value))}"


def _table(value: object, path: str) -> _Table:
    """Check a table."""
    if isinstance(value, Mapping):
        return cast("_Table", value)
    msg = f"{path or 'the top level'} must be a table, not {type_name(value)}: write its keys and values."
    raise _InvalidKeyError(msg)


def _check_keys(table: _Table, path: str, known: Iterable[str]) -> None:
    known = tuple(known)
    for key in cast("Mapping[object, object]", table):
        if key in known:
            continue
        is_key = isinstance(key, str) and _KEY.fullmatch(key) is not None
        remedy = suggest(key, known, otherwise=f"it takes {', '.join(known)}.")
        msg = f"{path or 'the top level'} has an unknown key{f' {key!r}' if is_key else ''}: {remedy}"
        raise _InvalidKeyError(msg)


def _require(table: _Table, key: str, path: str) -> object:
    if key in table:
        return table[key]
    choices = {"kind": f", one of {', '.join(KINDS)}", "distribution": f", one of {', '.join(DISTRIBUTIONS)}"}
    msg = f"{path} has no {key}: add {key}{choices.get(key, '')}."
    raise _InvalidKeyError(msg)


def _choose(known: Mapping[str, _T], name: object, path: str) -> _T:
    _check(lambda: check_word(path, name, known))
    return known[cast("str", name)]


def _check(check: Callable[[], _T]) -> _T:
    try:
        return check()
    except InvalidArgumentError as error:
        problem = str(error)
    raise _InvalidKeyError(problem)


def _call(
    kind: Callable[..., _T], members: Mapping[str, object], path: str, *, shown_as: Mapping[str, str] | None = None
) -> _T:
    """Call a constructor, and name the key of the file in its error."""
    try:
        return kind(**members)
    except InvalidArgumentError as error:
        problem = str(error).removeprefix(f"{getattr(kind, '__name__', '')}.")
    for own, key in (shown_as or {}).items():
        if problem.startswith(f"{own} "):
            problem = key + problem.removeprefix(own)
    joint = "" if problem.startswith(" ") else "."
    raise _InvalidKeyError(f"{path}{joint}{problem}")


def to_members(rule: AttrsInstance) -> dict[str, object]:
    """Return the members of a profile or of one of its rules; those with their default value are left out."""
    members: dict[str, object] = {}
    for each in fields(type(rule)):
        value: object = getattr(rule, each.name)
        default: object = each.default
        factory = getattr(default, "factory", None)
        if value == (factory() if callable(factory) else default):
            continue
        members[each.name] = _to_member(value)
    return members


def _to_member(value: object) -> object:
    if isinstance(value, Delay):
        keys = DISTRIBUTIONS[value.distribution]
        return {"distribution": value.distribution, **{key: getattr(value, own) for key, own in keys.items()}}
    if isinstance(value, Fault):
        return fault_to_members(value)
    if isinstance(value, Mapping):
        weights = cast("Mapping[Fault, float]", value)
        return [{**fault_to_members(fault), "weight": weight} for fault, weight in weights.items()]
    if isinstance(value, tuple):
        return [to_members(rule) for rule in cast("tuple[AttrsInstance, ...]", value)]
    return str(value) if isinstance(value, str) else value


def fault_to_members(fault: Fault) -> dict[str, object]:
    """Return the members of a fault; `read_fault` returns an equal one."""
    members: dict[str, object] = {"kind": fault.kind.name.lower()}
    for key, own in FAULT_KEYS[fault.kind].items():
        value: object = getattr(fault, own)
        if isinstance(value, Mapping):
            headers = dict(cast("Mapping[str, str]", value))
            if headers:
                members[key] = headers
        # TOML has no null.
        elif value is not None:
            members[key] = value
    return members


def to_toml(members: Mapping[str, object]) -> str:
    """Return a document with the members of a profile."""
    return "\n".join(_lines(members, "")).strip("\n") + "\n"


def _lines(table: Mapping[str, object], path: str) -> Iterator[str]:
    # Tables come last: keys after a heading would belong to its table.
    for key, value in table.items():
        if not isinstance(value, list):
            yield f"{key} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, list):
            for item in cast("list[Mapping[str, object]]", value):
                yield f"\n[[{path}{key}]]"
                yield from _lines(item, f"{path}{key}.")


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        inner = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in members.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quote(value) if isinstance(value, str) else repr(value)


def _key(text: str) -> str:
    is_bare = text.isascii() and text.isidentifier()
    return text if is_bare else _quote(text)


def _quote(text: str) -> str:
    # The escapes of JSON are valid in TOML, which wants DEL escaped as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
