"""Numbers and members in JSON as ``JSON.stringify`` writes them.

Whole numbers in Veriff's messages have no fraction (seen in fixtures of several clients). Many receivers parse a body
and serialise it again before they check its signature, which only works while ``JSON.stringify(JSON.parse(body))``
gives the same body. Python's `json` differs in three ways: whole floats have a fraction (``32.0``), small ones an
exponent of two digits (``1e-05``), and members keep their order even if their names are integers.

The rules are those of https://tc39.es/ecma262/#sec-numeric-types-number-tostring and
https://tc39.es/ecma262/#sec-ordinaryownpropertykeys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, cast

__all__ = ("as_javascript", "number_text", "with_javascript_numbers")

# Number::toString writes up to this many digits before the point without an exponent.
_FIXED_DIGITS: Final = 21

_LEADING_ZEROS: Final = 6
_LARGEST_INDEX: Final = 2**32 - 2
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)

# Python writes every other float as JavaScript does, so a text without these needs no second look.
# Each pattern begins with a literal, which `re` searches for much faster than for a class of characters: ids have many
# digits, and each record of an inbox searches its message three times.
_WHOLE: Final = re.compile(r"\.0(?:[,\]}]|$)")
_EXPONENT: Final = re.compile(r"e(?<=\de)[+-]\d{2,3}(?:[,\]}]|$)")
# Strings come first, so that digits inside of them are never taken for numbers.
_FLOATS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|-?\d+(?:\.\d+(?:e[+-]\d+)?|e[+-]\d+)', re.DOTALL)


def number_text(number: float) -> str:
    """Return the text of a finite number, as JavaScript writes it."""
    sign, shortest, exponent = Decimal(repr(number)).as_tuple()
    digits = "".join(map(str, shortest)).rstrip("0")
    if not digits:
        return "0"  # JavaScript writes -0 without its sign
    # The value is 0.digits times ten to this power; `repr` gives the shortest digits, as Number::toString demands.
    point = len(shortest) + cast("int", exponent)
    minus = "-" if sign else ""
    if len(digits) <= point <= _FIXED_DIGITS:
        return minus + digits.ljust(point, "0")
    if 0 < point <= _FIXED_DIGITS:
        return f"{minus}{digits[:point]}.{digits[point:]}"
    if -_LEADING_ZEROS < point <= 0:
        return f"{minus}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{minus}{digits[0]}{fraction}e{point - 1:+d}"


def with_javascript_numbers(text: str, *, keep_value: bool = True) -> str:
    """Return compact JSON with its floats written as JavaScript writes them; integers stay as they are.

    Args:
        text: The JSON, as `json.dumps` writes it.
        keep_value: Leave floats alone whose shortest digits are another integer's. JavaScript writes
            24454347707839568.0 as 24454347707839570, which Python reads as that integer.
    """
    if not _WHOLE.search(text) and not _EXPONENT.search(text):
        return text
    return _FLOATS.sub(_to_exact if keep_value else _to_shortest, text)


def _to_shortest(token: re.Match[str]) -> str:
    text = token[0]
    return text if text.startswith('"') else number_text(float(text))


def _to_exact(token: re.Match[str]) -> str:
    text = _to_shortest(token)
    return text if not text.lstrip("-").isdigit() or int(text) == float(text) else token[0]


def as_javascript(value: object) -> object:
    """Return a JSON value with integers for whole floats, and with integer names first, as in a JavaScript object.

    The result is a copy of dicts and lists, which `json.dumps` accepts.

    Raises:
        ValueError: A number is not finite.
        TypeError: A value or the name of a member has no JSON form.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError
        if not value.is_integer() or abs(value) >= 10**_FIXED_DIGITS:
            return value
        whole = int(number_text(value))
        return (
            whole if whole == int(value) else value
        )  # above 2**53 the shortest digits may be those of another integer
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {name: as_javascript(members[name]) for name in _order_names(members)}
    if isinstance(value, list | tuple):
        return [as_javascript(item) for item in cast("list[object]", value)]
    if value is not None and not isinstance(value, str | int):
        raise TypeError
    return value


def _order_names(members: Mapping[str, object]) -> list[str]:
    names = list(members)
    # Nearly no name is any of these, and this is faster than a call for each name.
    unusual = [name for name in names if name.__class__ is not str or name[:1].isdigit()]
    if not all(isinstance(name, str | int | float | None) for name in unusual):
        raise TypeError
    indexes = [name for name in unusual if _is_index(name)]
    if not indexes:
        return names
    index_set = set(indexes)
    return sorted(indexes, key=int) + [name for name in names if name not in index_set]


def _is_index(name: object) -> bool:
    return isinstance(name, str) and _INDEX.fullmatch(name) is not None and int(name) <= _LARGEST_INDEX
