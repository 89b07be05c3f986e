"""The cost of importing, in fresh interpreters, and the size of an installation, compared with other SDKs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement

from benchmarks.measure import Spread, in_turn, ratios
from benchmarks.table import Goal, Row, Table
from benchmarks.work import MIB, Needs

if TYPE_CHECKING:
    from benchmarks.measure import Plan

__all__ = ("run",)

_BASE: Final = "import aiohttp"
_PACKAGE: Final = "import veriff_async"
_STATEMENTS: Final = (_BASE, _PACKAGE, "from veriff_async import VeriffClient", "from veriff_async import *")
_PEERS: Final = {"didit-sdk": "didit", "stripe": "stripe", "openai": "openai"}
"""SDKs of others: what is installed, and what is imported."""
_OURS: Final = "veriff-async"
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
    """Time the import statements, and add up what is installed."""
    why_not = {name: why for name, module in _PEERS.items() if (why := Needs(modules=(module,)).missing) is not None}
    notes = tuple(f"left out: {name} ({why})" for name, why in why_not.items())
    peers = [name for name in _PEERS if name not in why_not]
    return [_times(plan, tuple(f"import {_PEERS[name]}" for name in peers), notes), _sizes(peers, notes)]


def _times(plan: Plan, others: tuple[str, ...], notes: tuple[str, ...]) -> Table:
    statements = _STATEMENTS + others
    for statement in () if plan.smoke else statements:
        _seconds(statement)  # so that all bytecode is compiled and in the page cache
    rounds = plan.rounds if plan.smoke else plan.rounds * _MORE_ROUNDS
    found = in_turn(statements, rounds, _seconds)
    # Names are loaded when first used, so the bare import alone would prove nothing.
    goals = tuple(Goal(row=statement, column=_COLUMN, at_most=1.2) for statement in _STATEMENTS[1:])
    return Table(
        subject="imports",
        title="time to import",
        columns=(_COLUMN,),
        rows=tuple(Row(statement, {_COLUMN: ratios(found[statement], found[_BASE])}) for statement in statements),
        goals=() if plan.smoke else goals,
        notes=notes,
    )


def _sizes(peers: list[str], notes: tuple[str, ...]) -> Table:
    ours = sum(map(_size, _closure(_OURS).values()))
    if not ours:  # run from a tree that was not installed
        raise SystemExit(f"The size of {_OURS} is unknown: install it first, with python -m pip install -e .")
    rows: list[Row] = []
    for name in (_OURS, *peers):
        closure = _closure(name)
        everything = sum(map(_size, closure.values()))
        cells = {
            f"x {_OURS}, everything": everything / ours,
            "MiB alone": _size(distribution(name)) / MIB,
            "MiB with all it needs": everything / MIB,
            "packages": float(len(closure)),
        }
        rows.append(Row(name, {column: Spread.of([value]) for column, value in cells.items()}))
    columns = tuple(rows[0].cells)
    return Table(
        subject="imports", title="size on disk, without bytecode", columns=columns, rows=tuple(rows), notes=notes
    )


def _closure(name: str, found: dict[str, Distribution] | None = None) -> dict[str, Distribution]:
    """Return a distribution with all that it needs, extras aside."""
    found = {} if found is None else found
    try:
        here = distribution(name)
    except PackageNotFoundError:  # needed elsewhere only, or optional after all
        return found
    if here.name.lower() not in found:
        found[here.name.lower()] = here
        for text in here.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                _closure(needed.name, found)
    return found


def _size(of: Distribution) -> int:
    """Return the bytes of a distribution's files; ours may be a checkout, and is then the package's folder."""
    if of.name == _OURS:
        package = Path(__file__).parents[1] / "veriff_async"
        return sum(path.stat().st_size for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    files = (Path(str(of.locate_file(file))) for file in of.files or () if not file.name.endswith(".pyc"))
    return sum(path.stat().st_size for path in files if path.is_file())


def _seconds(statement: str) -> float:
    command = [sys.executable, "-c", _TIMED.format(statement=statement)]
    printed = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[1])  # noqa: S603  ours
    return float(printed.stdout)
