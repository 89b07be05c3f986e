"""Reading a decision: bytes in, a model out, against the json module alone and against pydantic.

pydantic's models have the same members, with the kinds that it reads fastest, and keep what they do not know, as ours
do in ``raw``. Ours read leniently besides: a wrong member costs itself, not the decision. Ours decodes the person, the
document and other parts when they are first read, so one row reads all of them.
"""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from attrs import fields

from benchmarks.bodies import ORDINARY, RICH, as_body
from benchmarks.measure import in_turn, ratios
from benchmarks.table import Goal, Row, Table
from veriff_async import Decision, from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.measure import Plan

__all__ = ("run",)

_JSON: Final = "json.loads"
_OURS: Final = "veriff-async"
_OURS_READ: Final = "veriff-async, every part read"
_PYDANTIC: Final = "pydantic"
_COLUMN: Final = f"x {_JSON}"
_NAMES: Final = tuple(attribute.name for attribute in fields(Decision))
_AT_MOST: Final = 2.5
_REPEAT: Final = 2_000
_SMOKE_REPEAT: Final = 20


def run(plan: Plan) -> list[Table]:
    """Read two decisions in every way."""
    return [_table(name, as_body(decision), plan) for name, decision in (("ordinary", ORDINARY), ("rich", RICH))]


def _table(name: str, body: bytes, plan: Plan) -> Table:
    ways, notes = _ways(body)
    repeat = _SMOKE_REPEAT if plan.smoke else _REPEAT
    found = in_turn(tuple(ways), plan.rounds, lambda way: _seconds(ways[way], repeat))
    return Table(
        subject="decoding",
        title=f"processor time to read a decision, {name}, {len(body)} bytes",
        columns=(_COLUMN,),
        rows=tuple(Row(way, {_COLUMN: ratios(found[way], found[_JSON])}) for way in ways),
        goals=() if plan.smoke else (Goal(row=_OURS_READ, column=_COLUMN, at_most=_AT_MOST),),
        notes=notes,
    )


def _ways(body: bytes) -> tuple[Mapping[str, Callable[[], object]], tuple[str, ...]]:
    """Return the ways to read a body, each tried once, and who was left out."""
    ways: dict[str, Callable[[], object]] = {
        _JSON: lambda: json.loads(body),
        _OURS: lambda: from_json(Decision, body),
        _OURS_READ: lambda: _read_all(from_json(Decision, body)),
    }
    notes: tuple[str, ...] = ()
    if find_spec(_PYDANTIC) is None:
        notes = (f"{_PYDANTIC} left out: not installed, see the group bench",)
    else:
        from benchmarks.modelled import answer  # noqa: PLC0415  pydantic may not be here

        model = answer()
        ways[f"{_PYDANTIC}, from bytes"] = lambda: model.model_validate_json(body)
        ways[f"{_PYDANTIC}, from {_JSON}"] = lambda: model.model_validate(json.loads(body))
    for way in ways.values():
        way()
    return ways, notes


def _read_all(decision: Decision) -> None:
    for name in _NAMES:
        getattr(decision, name)


def _seconds(way: Callable[[], object], repeat: int) -> float:
    """Return what it costs in processor time: other processes have the machine too."""
    began = time.process_time()
    for _ in range(repeat):
        way()
    return time.process_time() - began
