"""Checks of single values that a program passes: numbers, flags, functions, objects, words and paths.

A message shows numbers, flags and short words alone. Any other value may be a secret or a person's data, may be of any
length, and its own text may fail to be made.
"""

from __future__ import annotations

import math
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection

    from attrs import Attribute

__all__ = (
    "LARGEST",
    "Validator",
    "check_choice",
    "check_flag",
    "check_function",
    "check_instance",
    "check_number",
    "check_optional",
    "check_path",
    "number",
    "shown",
    "type_name",
)

_T = TypeVar("_T")

LARGEST: Final = 2**53 - 1
"""The largest whole number that every JSON parser reads exactly; a larger one is no count of anything."""

_LONGEST_WORD: Final = 40
_MOST_DIGITS: Final = 6


class Validator(Protocol):
    """Validates a field of any type."""

    def __call__(self, instance: object, attribute: Attribute[_T], value: object, /) -> None:
        """Raise a `ConfigurationError` for a value that the field cannot have."""


def check_number(  # noqa: PLR0913  a range has two ends, which belong to it or not
    name: str,
    value: object,
    *,
    remedy: str,
    lowest: float = 0,
    highest: float = math.inf,
    above: bool = False,
    whole: bool = False,
) -> float:
    """Check a number from `lowest` to `highest`; with `above`, `lowest` itself is refused.

    Raises:
        ConfigurationError: It is another value, a bool, not a number at all (NaN), or an int that no float holds.
    """
    found = _number(value, whole=whole)
    if found is not None and lowest <= found <= highest and (found > lowest or not above):
        return found
    msg = f"{name} is {shown(value)}: {remedy}."
    raise ConfigurationError(msg)


def _number(value: object, *, whole: bool) -> float | None:
    """Return a value if it is a number; the type decides first, since comparing other types may fail."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) > LARGEST):
        return None
    if isinstance(value, float) and not whole:
        return None if math.isnan(value) else value
    return value if isinstance(value, int) else None


def number(*, remedy: str, lowest: float = 0, above: bool = False, whole: bool = False) -> Validator:
    """Return a validator of a field for `check_number`."""

    def check(instance: object, attribute: Attribute[_T], value: object, /) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        check_number(name, value, remedy=remedy, lowest=lowest, above=above, whole=whole)

    return check


def check_flag(name: str, value: object) -> None:
    """Check a value that is true or false.

    Raises:
        ConfigurationError: It is something else, for example the text of an environment variable.
    """
    if not isinstance(value, bool):
        msg = f"{name} is {shown(value)}: pass True or False."
        raise ConfigurationError(msg)


def check_choice(name: str, value: object, known: Collection[str]) -> None:
    """Check one of a few words.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(value, str) or value not in known:
        msg = f"{name} is {shown(value)}: give one of {', '.join(known)}."
        raise ConfigurationError(msg)


def check_instance(name: str, value: object, kind: type[_T], *, remedy: str) -> _T:
    """Check that a value is of a class.

    Raises:
        ConfigurationError: It is of another class.
    """
    if isinstance(value, kind):
        return value
    msg = f"{name} must be a {kind.__name__}, not {type_name(value)}: {remedy}."
    raise ConfigurationError(msg)


def check_optional(name: str, value: object, kind: type[_T], *, remedy: str) -> _T | None:
    """Check that a value is of a class, or ``None``.

    Raises:
        ConfigurationError: It is of another class.
    """
    return None if value is None else check_instance(name, value, kind, remedy=remedy)


def check_function(name: str, value: object, *, may_be_async: bool = False) -> None:
    """Check a function, or ``None``.

    The result of an async function is true and never awaited, where a plain one is called.

    Raises:
        ConfigurationError: It cannot be called, or is async where it must not be.
    """
    if value is not None and not callable(value):
        msg = f"{name} must be a function, not {type_name(value)}."
        raise ConfigurationError(msg)
    if not may_be_async and iscoroutinefunction(value):
        msg = f"{name} must be a plain function, not an async one: it is called, and not awaited."
        raise ConfigurationError(msg)


def check_path(name: str, value: object) -> str:
    """Return the text of a path.

    Raises:
        ConfigurationError: It is not a path, or has a character that no path can have.
    """
    convert = getattr(value, "__fspath__", None)
    path: object = convert() if callable(convert) and not isinstance(value, type) else value
    if isinstance(path, str):
        if _can_be_path(path):
            return path
        problem = "cannot be read or written, it has a character that no path can have"
    else:
        problem = f"is {shown(path)}"
    msg = f"{name} {problem}: give a path as text or pathlib.Path."
    raise ConfigurationError(msg)


def _can_be_path(text: str) -> bool:
    try:
        # As `os.fsencode` does on POSIX; undecodable bytes of a real name are halves of surrogate pairs in the text.
        return b"\0" not in text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False


def shown(value: object) -> str:
    """Return a number, a flag or a short word as text, and the type alone of everything else."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return "a very large number"  # the text of a larger one may not be made at all
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return repr(value) if isinstance(value, str) and _is_word(value) else f"of type {type_name(value)}"


def _is_word(text: str) -> bool:
    """Return whether a text looks like the name of an option, or like a number of a few digits."""
    if not text.isascii() or len(text) > _LONGEST_WORD:
        return False
    return text.isidentifier() or (text.isdecimal() and len(text) <= _MOST_DIGITS)


def type_name(value: object) -> str:
    """Return the name of a value's type, for an error."""
    return "None" if value is None else type(value).__name__
