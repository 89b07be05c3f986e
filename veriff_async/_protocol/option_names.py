"""Names of options: an unknown one is a `TypeError` that suggests the right one.

An option that is silently ignored is lost: Veriff has no call that finds a session by an id that was never sent. All
calls that accept options or a mapping share these checks.
"""

from __future__ import annotations

from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ("check_names", "closest", "explain_options", "options_of", "suggest")

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Characters of a name that a message shows; a longer one is data that was taken for a name.
_LONGEST: Final = 40

_MOST_LISTED: Final = 12


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a name was probably meant to be, or ``None``.

    Case, underscores and dashes do not count, so that ``vendorData`` and ``vendor-data`` are both ``vendor_data``.
    """
    by_letters = {_letters(each): each for each in known}
    letters = _letters(name[: 2 * _LONGEST])
    from difflib import get_close_matches  # only for a wrong name

    # The default cutoff of difflib.
    found = get_close_matches(letters, by_letters, 1, cutoff=0.6)
    return by_letters[found[0]] if found else None


def suggest(name: object, known: Iterable[str], *, otherwise: str | None = None) -> str:
    """Return the remedy for an unknown name, as the end of a sentence.

    Args:
        name: The unknown name.
        known: The known names.
        otherwise: The remedy if no known name is similar; by default it lists all known names.
    """
    known = tuple(known)
    best = closest(name, known) if isinstance(name, str) else None
    if best is not None:
        return f"did you mean {str(best)!r}?"
    return f"pass one of {', '.join(known)}." if otherwise is None else otherwise


def check_names(
    call: str, given: Iterable[object], known: Collection[str], *, is_shown: bool = True, otherwise: str = ""
) -> None:
    """Check the names of options.

    Args:
        call: Which call or mapping they belong to, for the error, for example ``"create_session()"``.
        given: The names that were given.
        known: The names that are taken.
        is_shown: Whether an unknown name is shown; the keys of a mapping may be a person's data.
        otherwise: The remedy if no known name is similar, as a sentence.

    Raises:
        TypeError: One is unknown; the message suggests the right name, or lists all of them.
    """
    for name in given:
        if not isinstance(name, str) or name not in known:
            raise TypeError(_unexpected_option_message(call, name, known, is_shown=is_shown, otherwise=otherwise))


def options_of(function: Callable[..., object]) -> tuple[str, ...]:
    """Return the names of the keyword arguments of a function or class."""
    kinds = signature(function).parameters.values()
    return tuple(each.name for each in kinds if each.kind in {each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD})


def explain_options(call: str, usage: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Return a decorator for ``__init__`` that explains wrong arguments."""

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        parameters = signature(function).parameters.values()
        known = tuple(each.name for each in parameters if each.name != "self")
        most = sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
        # The __init__ of a subclass may accept any options.
        is_open = any(each.kind is each.VAR_KEYWORD for each in parameters)

        @wraps(function)
        def wrapper(*args: _P.args, **options: _P.kwargs) -> _T:
            if len(args) > most:
                raise TypeError(f"{call}() got too many positional arguments. {usage}")
            if not is_open:
                check_names(f"{call}()", options, known, otherwise=usage)
            return function(*args, **options)

        return wrapper

    return decorate


def _unexpected_option_message(
    call: str, name: object, known: Collection[str], *, is_shown: bool, otherwise: str
) -> str:
    # A key that is not a name is perhaps data, which is never shown.
    is_name = isinstance(name, str) and name.isidentifier() and name.isascii() and len(name) <= _LONGEST
    shown = f"an unexpected option {name!r}" if is_shown and is_name else "an unknown option"
    best = closest(name, known) if isinstance(name, str) else None
    if best is not None:
        return f"{call} got {shown}: did you mean {best!r}?"
    if otherwise:
        return f"{call} got {shown}. {otherwise}"
    if len(known) <= _MOST_LISTED:
        return f"{call} got {shown}: it takes {', '.join(known)}."
    return f"{call} got {shown}: leave it out, and see the documentation for the options that it takes."


def _letters(name: str) -> str:
    return "".join(each for each in name if each.isalnum()).casefold()
