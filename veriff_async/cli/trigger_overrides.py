"""Values that replace members of a sample webhook: ``PATH=VALUE``, with a dotted path into the body. Pure."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Final, cast

from attrs import frozen

from veriff_async._protocol.json.parse import parse_json
from veriff_async._protocol.option_names import closest
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.models.json import JsonObject

__all__ = ("Override", "override")

_MISSING: Final = object()

_MAX_LISTED: Final = 8


@frozen
class Override:
    """One ``PATH=VALUE``.

    Attributes:
        names: The names on the path; a number is an index of a list.
        text: The value as it was given.
    """

    names: tuple[str, ...]
    text: str

    @classmethod
    def parse(cls, argument: str) -> Override:
        """Read an argument of the command line.

        Raises:
            InvalidArgumentError: It has no path.
        """
        path, equals, text = argument.partition("=")
        names = tuple(path.split("."))
        if not equals or not all(names):
            msg = f"--set takes PATH=VALUE, for example verification.reasonCode=102, not {argument!r}."
            raise InvalidArgumentError(msg)
        return cls(names, text)


def override(body: JsonObject, overrides: Sequence[Override]) -> tuple[JsonObject, list[str]]:
    """Return a body with other values, and a warning for each member that it did not have and that may be mistyped.

    A value is JSON if it can be read as JSON, and text otherwise. It stays text where a number or a boolean would
    replace a text, since Veriff's ids and references may consist of digits; in quotes it is text everywhere.

    Raises:
        InvalidArgumentError: The path leads to nothing.
    """
    changed = deepcopy(dict(body))
    warnings: list[str] = []
    for each in overrides:
        parent: object = changed
        for depth, name in enumerate(each.names[:-1]):
            child = _get(parent, name)
            if not isinstance(child, dict | list):
                raise _no_path(each, depth, parent, child)
            parent = cast("object", child)
        before, name = _get(parent, each.names[-1]), each.names[-1]
        value = _to_value(each.text, before)
        if isinstance(parent, dict):
            members = cast("dict[str, object]", parent)
            if before is _MISSING and (best := closest(name, members) or _below(members, name)) is not None:
                warnings.append(f"The sample has no {'.'.join(each.names)}, so --set adds it: did you mean {best}?")
            members[name] = value
        elif before is not _MISSING:
            cast("list[object]", parent)[int(name)] = value
        elif name == str(len(items := cast("list[object]", parent))):
            items.append(value)
        else:
            raise _no_path(each, len(each.names) - 1, parent, before)
    return changed, warnings


def _below(members: dict[str, object], name: str) -> str | None:
    """Return the path of a member one level below, as of reasonCode, which is in verification."""
    return next(
        (f"{above}.{name}" for above, child in members.items() if isinstance(child, dict) and name in child), None
    )


def _get(parent: object, name: str) -> object:
    if isinstance(parent, dict):
        return cast("dict[str, object]", parent).get(name, _MISSING)
    items = cast("list[object]", parent)
    is_index = name.isascii() and name.isdigit() and int(name) < len(items)
    return items[int(name)] if is_index else _MISSING


def _to_value(text: str, before: object) -> object:
    value: object = text
    with suppress(ValueError, RecursionError):
        value = parse_json(text.encode())
    return text if isinstance(before, str) and isinstance(value, int | float) else value


def _no_path(given: Override, depth: int, parent: object, value: object) -> InvalidArgumentError:
    path = ".".join(given.names[: depth + 1])
    above = ".".join(given.names[:depth]) or "the body"
    if value is not _MISSING:
        remedy = f"it has a value without members; set {path} itself to a JSON object or list."
    elif isinstance(parent, list):
        remedy = f"{above} is a list of {len(cast('list[object]', parent))}; give an index, or the next one to append."
    else:
        members = list(cast("dict[str, object]", parent))
        best = closest(given.names[depth], members)
        names = ", ".join([*members[:_MAX_LISTED], *(["..."] if len(members) > _MAX_LISTED else [])]) or "no members"
        remedy = f"did you mean {best}?" if best else f"{above} has {names}."
    return InvalidArgumentError(f"--set cannot reach {path}: {remedy}")
