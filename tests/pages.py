"""Pages of the documentation that tests write from the code, so that they are never out of date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).parent.parent
REFERENCE: Final = ROOT / "docs" / "reference"


@frozen
class Row:
    """One line of a table."""

    cells: tuple[str, ...]

    def __str__(self) -> str:
        """Write it as Markdown."""
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in self.cells)} |"


def table(heads: tuple[str, ...], rows: Iterable[Row]) -> str:
    """Write a table as Markdown."""
    return "\n".join([str(Row(heads)), str(Row(("---",) * len(heads))), *map(str, rows)])


def check_page(path: Path, text: str) -> None:
    """Write a page if it differs from the text, and fail then: a commit must contain the new page."""
    current = path.read_text(encoding="utf-8") if path.exists() else ""
    if current != text:
        path.write_text(text, encoding="utf-8")
    assert current == text, f"{path.name} was out of date and has been updated: review and commit it"
