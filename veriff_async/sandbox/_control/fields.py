"""Types of the control API's input: each reads JSON strictly, and describes itself as JSON Schema.

Models of Veriff are decoded leniently elsewhere, because Veriff may send anything. A test that misspells a member must
learn of it, so here every value has exactly the type of its field, and unknown names are refused with a suggestion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol, cast

from attrs import frozen

from veriff_async._protocol.arguments import LARGEST
from veriff_async._protocol.option_names import suggest
from veriff_async.sandbox._arguments import LONGEST
from veriff_async.sandbox._control.errors import ControlError
from veriff_async.sandbox._records import WebhookKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from veriff_async.models.json import JsonObject

__all__ = (
    "AFTER",
    "KIND",
    "SECONDS",
    "SESSION_ID",
    "TIMEOUT",
    "Field",
    "Flag",
    "Json",
    "Kind",
    "ListOf",
    "MapOf",
    "Members",
    "Number",
    "Text",
    "Time",
    "Word",
    "limit_field",
    "read_object",
)

_DEEPEST: Final = 50
_LONGEST_NAME: Final = 40
_JSON_TYPES: Final = (
    (bool, "true or false"),
    (str, "a text"),
    ((int, float), "a number"),
    (list, "a list"),
    (dict, "an object"),
)
_INPUT: Final = "The input"


class Kind(Protocol):
    """The type of a field."""

    def read(self, value: object, path: str) -> object:
        """Check a value.

        Raises:
            ControlError: It has another type or is out of range (422); the error names the path.
        """
        ...

    def schema(self) -> JsonObject:
        """Return the JSON Schema of the accepted values."""
        ...


@frozen
class Field:
    """A named value of an operation's input."""

    name: str
    kind: Kind
    text: str
    is_required: bool = False
    is_nullable: bool = False

    def read(self, value: object, path: str) -> object:
        """Check a value; see `Kind.read`."""
        return None if value is None and self.is_nullable else self.kind.read(value, path)

    def schema(self) -> JsonObject:
        """Return its JSON Schema."""
        schema: dict[str, object] = dict(self.kind.schema())
        if self.is_nullable:
            schema = {"anyOf": [schema, {"type": "null"}]}
        return {**schema, "description": self.text} if self.text else schema


@frozen
class Text:
    """A text."""

    max_length: int = 100_000
    min_length: int = 0
    format: str | None = None

    def read(self, value: object, path: str) -> str:
        """Check a value."""
        if not isinstance(value, str):
            raise _wrong(path, f"must be a text, not {_name(value)}")
        if not self.min_length <= len(value) <= self.max_length:
            raise _wrong(path, f"must have {self.min_length} to {self.max_length} characters, not {len(value)}")
        return value

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        form = {} if self.format is None else {"format": self.format}
        return {"type": "string", "minLength": self.min_length, "maxLength": self.max_length, **form}


@frozen(kw_only=True)
class Number:
    """A finite number."""

    lowest: float = 0
    highest: float = LARGEST
    whole: bool = False

    def read(self, value: object, path: str) -> float:
        """Check a value. In JSON, 1.0 is a whole number too."""
        kind = "a whole number" if self.whole else "a number"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(path, f"must be {kind}, not {_name(value)}")
        # Compared before anything else: an int with a thousand digits has no float.
        if not self.lowest <= value <= self.highest or math.isnan(value) or (self.whole and value != int(value)):
            raise _wrong(path, f"must be {kind} from {self.lowest:.15g} to {self.highest:.15g}")
        return int(value) if self.whole else value

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        kind = "integer" if self.whole else "number"
        return {"type": kind, "minimum": self.lowest, "maximum": self.highest}


@frozen
class Flag:
    """True or false."""

    def read(self, value: object, path: str) -> bool:
        """Check a value."""
        if isinstance(value, bool):
            return value
        raise _wrong(path, f"must be true or false, not {_name(value)}")

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "boolean"}


@frozen
class Word:
    """One of a few words."""

    known: tuple[str, ...]

    def read(self, value: object, path: str) -> str:
        """Check a value."""
        if isinstance(value, str) and value in self.known:
            return value
        shown = f"{value!r}" if isinstance(value, str) and _is_name(value) else _name(value)
        raise ControlError(422, f"{path} is {shown}: {suggest(value, self.known)}", field=path)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "string", "enum": list(map(str, self.known))}


@frozen
class ListOf:
    """A list of values of one kind, as a tuple."""

    kind: Kind
    max_items: int = 1000

    def read(self, value: object, path: str) -> tuple[object, ...]:
        """Check a value."""
        if not isinstance(value, list):
            raise _wrong(path, f"must be a list, not {_name(value)}")
        items = cast("list[object]", value)
        if len(items) > self.max_items:
            raise _wrong(path, f"must have at most {self.max_items} items")
        return tuple(self.kind.read(item, f"{path}[{index}]") for index, item in enumerate(items))

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "array", "items": self.kind.schema(), "maxItems": self.max_items}


@frozen
class MapOf:
    """An object whose names are of one kind and whose values are of another."""

    names: Kind
    values: Kind

    def read(self, value: object, path: str) -> dict[str, object]:
        """Check a value."""
        members = _object(value, path)
        read: dict[str, object] = {}
        for name, member in members.items():
            # The name may be anything, so the path of its error ends above it.
            self.names.read(name, path)
            read[name] = self.values.read(member, f"{path}.{name}" if _is_name(name) else path)
        return read

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "object", "propertyNames": self.names.schema(), "additionalProperties": self.values.schema()}


@frozen
class Json:
    """An object with any members, for data whose form is Veriff's."""

    text: str = "Members as in Veriff's JSON."

    def read(self, value: object, path: str) -> JsonObject:
        """Check a value."""
        members = _object(value, path)
        if not _is_plain(members, _DEEPEST):
            raise _wrong(path, f"must have finite numbers, and at most {_DEEPEST} levels")
        return members

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "object", "additionalProperties": True, "description": self.text}


@frozen
class Time:
    """A date with a time and its offset, as a text."""

    def read(self, value: object, path: str) -> str:
        """Check a value."""
        text = Text(max_length=40).read(value, path)
        try:
            if datetime.fromisoformat(text).tzinfo is not None:
                return text
        except ValueError:
            pass
        raise _wrong(path, "must be a time with an offset, for example 2025-01-01T12:00:00Z")

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "string", "format": "date-time"}


@frozen(kw_only=True)
class Members:
    """An object with fields."""

    fields: tuple[Field, ...]
    title: str | None = None

    def read(self, value: object, path: str) -> dict[str, object]:
        """Check a value, and return the given fields by name."""
        return read_object(self.fields, value, path=path)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        required = [each.name for each in self.fields if each.is_required]
        return {
            "type": "object",
            **({} if self.title is None else {"title": self.title}),
            "properties": {each.name: each.schema() for each in self.fields},
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }


def read_object(fields: Iterable[Field], value: object, *, path: str = "") -> dict[str, object]:
    """Check an object with these fields, and return the given ones by name.

    Args:
        fields: The fields.
        value: The JSON.
        path: The path of the object; empty for the whole input.
    """
    prefix = f"{path}." if path else ""
    members = _object(value, path)
    known = {each.name: each for each in fields}
    for name in members:
        if name not in known:
            raise _unknown(name, known, path)
    read: dict[str, object] = {}
    for name, each in known.items():
        if name in members:
            read[name] = each.read(members[name], prefix + name)
        elif each.is_required:
            raise ControlError(422, f"{prefix}{name} is missing: add it.", field=prefix + name)
    return read


def _object(value: object, path: str) -> Mapping[str, object]:
    # Names of JSON objects are texts.
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value)
    raise ControlError(422, f"{path or _INPUT} must be an object, not {_name(value)}.", field=path or None)


def _is_plain(value: object, depth: int) -> bool:
    if not depth:
        return False
    if isinstance(value, Mapping):
        return all(_is_plain(member, depth - 1) for member in cast("Mapping[str, object]", value).values())
    if isinstance(value, list):
        return all(_is_plain(item, depth - 1) for item in cast("list[object]", value))
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= LARGEST
    return not isinstance(value, float) or math.isfinite(value)


def _unknown(name: str, known: Iterable[str], path: str) -> ControlError:
    known = tuple(known)
    shown = f" {name!r}" if _is_name(name) else ""
    otherwise = f"it takes {', '.join(known)}." if known else "it takes none."
    prefix = f"{path}." if path else ""
    msg = f"{path or _INPUT} has an unknown field{shown}: {suggest(name, known, otherwise=otherwise)}"
    return ControlError(422, msg, field=prefix + name if _is_name(name) else path or None)


def _is_name(text: str) -> bool:
    """Return whether a message may show a text; longer and other ones may be a person's data."""
    return text.isascii() and len(text) <= _LONGEST_NAME and text.replace("-", "_").isidentifier()


def _wrong(path: str, problem: str) -> ControlError:
    return ControlError(422, f"{path} {problem}.", field=path)


def _name(value: object) -> str:
    """Return the name of a JSON type."""
    return next((name for kind, name in _JSON_TYPES if isinstance(value, kind)), "null")


_LONGEST_ID: Final = 200
_LONGEST_WAIT: Final = 600

SESSION_ID: Final = Field("session_id", Text(max_length=_LONGEST_ID), "Only those of this session.")
AFTER: Final = Field(
    "after", Text(max_length=_LONGEST_ID), "The `next` in the result of the page before; without it, the first page."
)
KIND: Final = Field("kind", Word(tuple(WebhookKind)), "Only webhooks of this kind.")
SECONDS: Final = Field("seconds", Number(highest=LONGEST), "Seconds.", is_required=True)
TIMEOUT: Final = Field("timeout", Number(highest=_LONGEST_WAIT), "Seconds to wait at most; 10 by default.")


def limit_field(*, default: int, highest: int) -> Field:
    """Return the field for the size of a page."""
    text = f"Number of items on the page, from 1 to {highest}; {default} by default."
    return Field("limit", Number(lowest=1, highest=highest, whole=True), text)
