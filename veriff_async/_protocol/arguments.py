"""Checks of single values that a program passes: numbers, flags, functions, objects, words and paths.

A message shows only numbers, flags and short words. Any other value may be a secret or a person's data, may be of any
length, and its ``repr`` may raise.

Constructors and calls share these checks, and raise different errors: `ConfigurationError` for an option of a
long-lived object, `InvalidArgumentError` for an argument of one call. A caller passes the class as `error`; the default
is that of a constructor.
"""

from __future__ import annotations

import math
import sys
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

from veriff_async.errors import ConfigurationError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from attrs import Attribute

__all__ = (
    "LARGEST",
    "ArgumentError",
    "Validator",
    "accepts_arguments",
    "check_choice",
    "check_concurrency",
    "check_condition",
    "check_flag",
    "check_function",
    "check_instance",
    "check_number",
    "check_optional",
    "check_path",
    "check_text",
    "describe_value",
    "number",
    "type_name",
)

_T = TypeVar("_T")

ArgumentError: TypeAlias = type[ConfigurationError] | type[InvalidArgumentError]
"""The class of the error that a check raises."""

LARGEST: Final = 2**53 - 1
"""The largest whole number that every JSON parser reads exactly; a larger one cannot be a count."""

# Longer words and numbers may be secrets or personal data, so they are not shown.
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
    error: ArgumentError = ConfigurationError,
) -> float:
    """Check a number from `lowest` to `highest`; with `above`, `lowest` itself is refused.

    Raises:
        ConfigurationError: (or `error`) It is another value, a bool, NaN, or an int that no float holds.
    """
    found = _number(value, whole=whole)
    if found is not None and lowest <= found <= highest and (found > lowest or not above):
        return found
    msg = f"{name} is {describe_value(value)}: {remedy}."
    raise error(msg)


def _number(value: object, *, whole: bool) -> float | None:
    """Return a value if it is a number; the type decides first, since comparing other types may fail."""
    # bool is a subclass of int. The limit also keeps later arithmetic from an OverflowError of float.
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


def check_flag(name: str, value: object, *, error: ArgumentError = ConfigurationError) -> None:
    """Check a value that is true or false.

    Raises:
        ConfigurationError: (or `error`) It is something else, for example the text of an environment variable.
    """
    if not isinstance(value, bool):
        msg = f"{name} is {describe_value(value)}: pass True or False."
        raise error(msg)


def check_choice(
    name: str, value: object, known: Collection[str], *, error: ArgumentError = ConfigurationError
) -> None:
    """Check one of a few words.

    Raises:
        ConfigurationError: (or `error`) It is something else.
    """
    if not isinstance(value, str) or value not in known:
        msg = f"{name} is {describe_value(value)}: give one of {', '.join(known)}."
        raise error(msg)


def check_instance(
    name: str, value: object, kind: type[_T], *, remedy: str, error: ArgumentError = ConfigurationError
) -> _T:
    """Check that a value is of a class.

    Raises:
        ConfigurationError: (or `error`) It is of another class.
    """
    if isinstance(value, kind):
        return value
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    msg = f"{name} must be {article} {kind.__name__}, not {type_name(value)}: {remedy}."
    raise error(msg)


def check_optional(
    name: str, value: object, kind: type[_T], *, remedy: str, error: ArgumentError = ConfigurationError
) -> _T | None:
    """Check that a value is of a class, or ``None``.

    Raises:
        ConfigurationError: (or `error`) It is of another class.
    """
    return None if value is None else check_instance(name, value, kind, remedy=remedy, error=error)


def check_function(
    name: str,
    value: object,
    *,
    may_be_async: bool = False,
    takes: Sequence[str] = (),
    error: ArgumentError = ConfigurationError,
) -> None:
    """Check a function, or ``None``.

    The result of an async function is true and never awaited, where a plain one is called.

    Args:
        name: The name of the argument.
        value: The function.
        may_be_async: Whether an async function is permitted.
        takes: Its arguments, for the message; without them any number is permitted.
        error: The class of the error.

    Raises:
        ConfigurationError: (or `error`) It cannot be called, does not take these arguments, or is async where it must
            not be.
    """
    if value is None:
        return
    if not callable(value):
        msg = f"{name} must be a function, not {type_name(value)}."
        raise error(msg)
    if not may_be_async and iscoroutinefunction(value):
        msg = f"{name} must be a plain function, not an async one: it is called, and not awaited."
        raise error(msg)
    if takes and not accepts_arguments(value, len(takes)):
        msg = f"{name} must be a function that takes {' and '.join(takes)}, and no other argument without a default."
        raise error(msg)


def accepts_arguments(function: Callable[..., object], count: int) -> bool:
    """Return whether a function can be called with a number of positional arguments, as far as its signature shows."""
    try:
        expected = signature(function)
    except (TypeError, ValueError):  # some functions written in C have none
        return True
    try:
        expected.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def check_path(name: str, value: object, *, error: ArgumentError = ConfigurationError) -> str:
    """Return the text of a path.

    Raises:
        ConfigurationError: (or `error`) It is not a path, or has a character that no path can have.
    """
    # As `os.fspath` does, which may not be used here: rules do not touch the machine.
    # A class such as `Path` has ``__fspath__`` too, but without an instance to call it on.
    convert = getattr(value, "__fspath__", None)
    path: object = convert() if callable(convert) and not isinstance(value, type) else value
    if isinstance(path, str):
        if _can_be_path(path):
            return path
        problem = "cannot be read or written, it has a character that no path of this system can have"
    else:
        problem = f"is {describe_value(path)}"
    msg = f"{name} {problem}: give a path as text or pathlib.Path."
    raise error(msg)


def check_text(name: str, value: object, *, error: ArgumentError = ConfigurationError) -> str:
    """Check a text.

    Raises:
        ConfigurationError: (or `error`) It is of another type.
    """
    return check_instance(name, value, str, remedy="pass it as text", error=error)


def check_concurrency(value: object) -> None:
    """Check the number of operations that a call may run at the same time.

    Raises:
        InvalidArgumentError: It is not a whole number of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        msg = f"concurrency must be 1 or more, a whole number, got {describe_value(value)}."
        raise InvalidArgumentError(msg)


def check_condition(name: str, value: object) -> None:
    """Check a plain function that returns true or false. An async one returns a coroutine, which is always true.

    Raises:
        InvalidArgumentError: It cannot be called, or is an async function.
    """
    # An object with an async ``__call__`` is not a coroutine function itself.
    if iscoroutinefunction(value) or iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004  of an object
        msg = f"{name} must be a plain function, not an async one: nothing would await its result."
        raise InvalidArgumentError(msg)
    if not callable(value):
        msg = f"{name} must be a function of a decision, not {type_name(value)}: pass a lambda, for example."
        raise InvalidArgumentError(msg)


def _can_be_path(text: str) -> bool:
    try:
        # As `os.fsencode` does on POSIX; undecodable bytes of a real name are halves of surrogate pairs in the text.
        # The encoding depends on the locale: a process without UTF-8 mode in the C locale writes ASCII names only.
        return b"\0" not in text.encode(sys.getfilesystemencoding(), "surrogateescape")
    except UnicodeEncodeError:
        return False


def describe_value(value: object) -> str:
    """Return a number, a flag or a short word as text, and only the type of any other value."""
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
