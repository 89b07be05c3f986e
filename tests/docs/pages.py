"""The pages of the documentation as they are written: their code blocks, headings and links."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
NOTE: Final = re.compile(r"\s*<!-- (not run|not checked for warnings): (.+) -->")
FENCE: Final = re.compile(r"(?P<indent>\s*)(?P<ticks>`{3,}|~{3,}|:{3,})(?P<language>[^`]*)")


@frozen
class Block:
    """A code block.

    Attributes:
        page: The page, relative to the root of the repository.
        number: The position among the blocks of its language on the page, from 1.
        language: The language that the fence names; empty if it names none.
        code: The code without the indentation of the block.
        exception: The rule that the comment before the block lifts: `not run` or `not checked for warnings`.
        reason: The reason that the comment gives.
    """

    page: str
    number: int
    language: str
    code: str
    exception: str = ""
    reason: str = ""

    @property
    def name(self) -> str:
        """A name for the test of this block."""
        return f"{self.page.removesuffix('.md')}-{self.language or 'none'}-{self.number}"


def find_pages() -> list[Path]:
    """Return the files that people read: those of the root, of the documentation and of the examples."""
    folders = (ROOT / "docs").rglob("*.md"), (ROOT / "examples").rglob("*.md"), ROOT.glob("*.md")
    return sorted(page for folder in folders for page in folder if "_build" not in page.parts)


def find_blocks() -> list[Block]:
    """Return the code blocks of all pages in the order of reading."""
    return [
        block
        for page in find_pages()
        for block in read_blocks(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))
    ]


def read_blocks(page: str, text: str) -> Iterator[Block]:
    """Yield the code blocks of a page, also those within directives such as tabs."""
    counts: dict[str, int] = {}
    note = None
    lines = iter(text.splitlines())
    for line in lines:
        fence = FENCE.fullmatch(line)
        if fence is None or not (language := fence["language"].strip()).strip("`~:"):
            if fence is not None and fence["ticks"][0] != ":" and not language and len(fence["ticks"]) == len("```"):
                msg = f"{page}: a block names no language: {line}"
                raise ValueError(msg)
            note = NOTE.fullmatch(line)
            continue
        if fence["ticks"][0] == ":" or (language.startswith("{") and len(fence["ticks"]) > len("```")):
            continue  # a directive that contains others
        code = []
        for inner in lines:
            if inner.strip() == fence["ticks"]:
                break
            code.append(inner)
        if language.startswith("{code-block}"):
            language = language.removeprefix("{code-block}").strip()
        if not language.startswith("{"):
            counts[language] = counts.get(language, 0) + 1
            dedented = textwrap.dedent("\n".join([*code, ""]))
            exception, reason = note.groups() if note else ("", "")
            yield Block(page, counts[language], language, dedented, exception, reason)
        note = None
