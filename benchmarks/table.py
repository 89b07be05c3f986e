"""What a subject found: tables of figures with their spread, and the goals they are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import asdict, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.measure import Spread

__all__ = ("Goal", "Row", "Table")


@frozen
class Row:
    """One contender: its figures by column."""

    label: str
    cells: Mapping[str, Spread]


@frozen(kw_only=True)
class Goal:
    """What a figure should be; shown, never asserted.

    Attributes:
        row: Whose figure.
        column: Which figure.
        at_least: Lower bound of the median.
        at_most: Upper bound.
        of: Whether the upper bound holds for the median or for the worst round.
    """

    row: str
    column: str
    at_least: float | None = None
    at_most: float | None = None
    of: Literal["median", "worst round"] = "median"

    @property
    def text(self) -> str:
        """Say it in words."""
        wanted = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        return f"{self.row}: {self.column} {wanted} ({self.of})"

    def met(self, found: Spread) -> bool:
        """Return whether the figure is within its limit."""
        if self.at_least is not None:
            return found.median >= self.at_least
        figure = found.high if self.of == "worst round" else found.median
        return self.at_most is None or figure <= self.at_most


@frozen(kw_only=True)
class Table:
    """One table.

    Attributes:
        subject: The subject it belongs to.
        title: What work it shows.
        columns: Names of the figures, each with its unit; "x" means a ratio of the same round.
        rows: The contenders.
        goals: Bounds for some figures.
        notes: Remarks under the table, such as which contender was left out and why.
    """

    subject: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return it as text, ready to print."""
        head = ["", *self.columns]
        body = [[row.label, *(_shown(row.cells.get(column)) for column in self.columns)] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [f"{self.subject}: {self.title}", ""]
        for cells in (head, ["-" * width for width in widths], *body):
            first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append("  ".join((first, *others)).rstrip())
        if self.goals:
            lines += ["", *(f"  {'met   ' if met else 'MISSED'}  {goal.text}" for goal, met in self._judged())]
        if self.notes:
            lines += ["", *(f"  {note}" for note in self.notes)]
        return lines

    def as_json(self) -> dict[str, object]:
        """Return it for a file."""
        rows = [
            {
                "label": row.label,
                "figures": {
                    column: {"median": found.median, "low": found.low, "high": found.high}
                    for column, found in row.cells.items()
                },
            }
            for row in self.rows
        ]
        goals = [{"goal": goal.text, "met": met, **asdict(goal)} for goal, met in self._judged()]
        return {
            "subject": self.subject,
            "title": self.title,
            "columns": list(self.columns),
            "rows": rows,
            "goals": goals,
            "notes": list(self.notes),
        }

    def _judged(self) -> list[tuple[Goal, bool]]:
        cells = {row.label: row.cells for row in self.rows}
        return [(goal, goal.met(cells[goal.row][goal.column])) for goal in self.goals]


def _shown(found: Spread | None) -> str:
    if found is None:
        return ""
    median = f"{found.median:.2f}"
    return median if found.low == found.high else f"{median} [{found.low:.2f} - {found.high:.2f}]"
