"""What importing costs, in fresh interpreters, against importing aiohttp alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.measure import in_turn, ratios
from benchmarks.table import Goal, Row, Table

if TYPE_CHECKING:
    from benchmarks.measure import Plan

__all__ = ("run",)

_BASE: Final = "import aiohttp"
_PACKAGE: Final = "import veriff_async"
_STATEMENTS: Final = (_BASE, _PACKAGE, "from veriff_async import VeriffClient", "from veriff_async import *")
_COLUMN: Final = f"x {_BASE}"
_TIMED: Final = """
import time
began = time.perf_counter()
{statement}
print(time.perf_counter() - began)
"""
_MORE_ROUNDS: Final = 3
"""An import is short, and so noisy and cheap to repeat."""


def run(plan: Plan) -> list[Table]:
    """Time the import statements."""
    for statement in _STATEMENTS:
        _seconds(statement)  # so that all bytecode is compiled and in the page cache
    rounds = plan.rounds if plan.smoke else plan.rounds * _MORE_ROUNDS
    found = in_turn(_STATEMENTS, rounds, _seconds)
    rows = tuple(Row(statement, {_COLUMN: ratios(found[statement], found[_BASE])}) for statement in _STATEMENTS)
    # Names are loaded when first used, so the bare import alone would prove nothing.
    goals = tuple(Goal(row=statement, column=_COLUMN, at_most=1.25) for statement in _STATEMENTS[1:])
    return [
        Table(
            subject="imports",
            title="time to import",
            columns=(_COLUMN,),
            rows=rows,
            goals=() if plan.smoke else goals,
        )
    ]


def _seconds(statement: str) -> float:
    command = [sys.executable, "-c", _TIMED.format(statement=statement)]
    printed = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[1])  # noqa: S603  ours
    return float(printed.stdout)
