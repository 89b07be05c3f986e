"""Parses JSON: with the standard parser, or with orjson where its result is proven to be the same.

orjson takes a third of the time, but it does not report every difference: it reads an integer beyond 64 bits as a
float. So a result of orjson counts only if orjson writes it as the same bytes that it read. Then the bytes are the JSON
of that result: an integer has all of its digits, a float has the shortest text that stands for it, every name occurs
once, and the depth is at most 254, the limit of ``orjson.dumps``. The standard parser reads all other bytes: those that
orjson refuses, and JSON with white space or with another spelling of a text or a number. Veriff writes JSON as
JavaScript does (see `veriff_async.models.numbers`), which orjson repeats except for numbers such as ``1e+21``.
"""

from __future__ import annotations

import json
import math
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    import orjson
else:
    with suppress(ImportError):  # the extra `speed` may be missing
        import orjson

__all__ = ("parse_json", "parse_with_orjson", "parse_with_standard_library")


def _reject_constant(_name: str) -> NoReturn:
    raise ValueError


def _parse_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


# Created once: `json.loads` with an option creates a decoder for each call, which takes longer than a small text.
# NaN, Infinity and numbers beyond the range of a float are rejected, since they could not be encoded again.
_DECODER: Final = json.JSONDecoder(parse_constant=_reject_constant, parse_float=_parse_float)


def parse_with_standard_library(body: bytes) -> object:
    """Parse JSON strictly, with `json`.

    Raises:
        UnicodeDecodeError: The bytes are not UTF-8.
        ValueError: They are not JSON, or a number is not finite.
        RecursionError: They are nested too deeply.
    """
    text = body.decode()
    # `decode` looks for white space at both ends with regular expressions, which takes as long as a small text itself.
    if text.startswith("{"):
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    return _DECODER.decode(text)


def parse_with_orjson(body: bytes) -> object:
    """Parse JSON with orjson if that is proven to give the same value, otherwise with `json`.

    Raises:
        UnicodeDecodeError: The bytes are not UTF-8.
        ValueError: They are not JSON, or a number is not finite.
        RecursionError: They are nested too deeply.
    """
    try:
        value: object = orjson.loads(body)
        if orjson.dumps(value) == body:
            return value
    # Two classes of orjson: for bytes that it does not read, and for values that it does not write.
    except (ValueError, TypeError):
        pass
    # Outside of the handler: an error of orjson keeps the whole body in its `doc`.
    return parse_with_standard_library(body)


parse_json: Final[Callable[[bytes], object]] = (
    parse_with_orjson if sys.modules.get("orjson") else parse_with_standard_library
)
"""The faster of the two that this environment has."""
