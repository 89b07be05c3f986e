"""A picture of the ratios that were found: medians with their spread by subject, and goals as marks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

    from benchmarks.measure import Spread
    from benchmarks.table import Goal, Table

__all__ = ("MISSING", "draw", "possible")

MISSING: Final = "A plot needs matplotlib: pip install --group bench, or leave --plot out."
_NAMES: Final = ("benchmarks.png", "benchmarks.svg")
_OURS: Final = "veriff"
_ROW_INCHES: Final = 0.26
_HEAD_INCHES: Final = 0.75
_BESIDE: Final = ("axes fraction", "data")
_LEGEND: Final = (
    "Ratios: median (dot, figure) and spread of the rounds (bar). Green: goal met, red: missed, blue: no goal.\n"
    "Hollow marks are goals: > at least, < at most. CPU, import and decoding are costs: less is better."
)
_COLOURS: Final = {True: "#1a7f37", False: "#c1121f", None: "#3a5a98"}
"""Met, missed, and without a goal."""


@frozen
class _Line:
    """One ratio in the picture."""

    label: str
    found: Spread
    goals: tuple[Goal, ...]

    @property
    def met(self) -> bool | None:
        return all(goal.met(self.found) for goal in self.goals) if self.goals else None


def possible() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Write the picture as PNG and SVG, and return where."""
    import matplotlib as mpl  # noqa: PLC0415  of the extra

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the choice of a backend

    panels = {
        subject: lines
        for subject in dict.fromkeys(table.subject for table in tables)
        if (lines := [line for table in tables if table.subject == subject for line in _lines(table)])
    }
    heights = [_HEAD_INCHES + _ROW_INCHES * len(lines) for lines in panels.values()] or [1.0]
    figure, grid = plt.subplots(
        len(heights), 1, figsize=(11, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    figure.suptitle(_LEGEND, fontsize=9)
    for axes, (subject, lines) in zip(grid[:, 0], panels.items(), strict=False):
        _panel(axes, subject, lines)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / name for name in _NAMES]
    for path in written:
        figure.savefig(path, dpi=130)
    plt.close(figure)
    return written


def _lines(table: Table) -> Iterator[_Line]:
    """Yield the ratios that are about this library, or that have a goal."""
    wanted = {(goal.row, goal.column) for goal in table.goals}
    for row in table.rows:
        for column, found in row.cells.items():
            ratio = column.startswith("x ") or " x " in column
            ours = row.label.startswith(_OURS) or (row.label, column) in wanted
            itself = found.low == found.high == 1
            if column in table.columns and ratio and ours and not itself:
                goals = tuple(goal for goal in table.goals if (goal.row, goal.column) == (row.label, column))
                who = "" if row.label == "veriff-async" else f"{row.label}: "
                yield _Line(f"{table.title.partition(' (')[0]} · {who}{column}", found, goals)


def _panel(axes: Axes, subject: str, lines: Sequence[_Line]) -> None:
    for place, line in enumerate(lines):
        colour, found = _COLOURS[line.met], line.found
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2.2, alpha=0.45)
        axes.plot(found.median, place, "o", color=colour, markersize=5.5)
        axes.annotate(f"{found.median:.2f}", (1.008, place), xycoords=_BESIDE, va="center", fontsize=8, color=colour)
        for goal in line.goals:
            mark, bound = (">", goal.at_least) if goal.at_least is not None else ("<", goal.at_most)
            assert bound is not None  # a goal has one bound
            axes.plot(bound, place, mark, color="black", markersize=6, markerfacecolor="none")
    axes.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(_ticks())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.margins(x=0.08)
    axes.set_yticks(range(len(lines)), [line.label for line in lines], fontsize=8)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes.set_title(subject, fontsize=10, loc="left", fontweight="bold")


def _ticks() -> Locator:
    from matplotlib.ticker import LogLocator  # noqa: PLC0415  of the extra

    return LogLocator(base=10, subs=(1.0, 2.0, 5.0))
