"""Gives intersphinx the names of other projects from a list in this folder, so that no build needs a network.

intersphinx reads inventories that it downloads. This extension writes such inventories from `external_names.toml`, the
list of the names that our signatures and pages mention.
"""

from __future__ import annotations

import tomllib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

LIST = Path(__file__).with_suffix(".toml")
HEADER = "# Sphinx inventory version 2\n# Project: {project}\n# Version: \n# Compressed with zlib.\n"


def guess_kind(name: str) -> str:
    """Return the kind of an object by the conventions of PEP 8."""
    last = name.rpartition(".")[2]
    if last.endswith(("Error", "Exception", "Exit", "Interrupt", "Warning")):
        return "exception"
    return "class" if last[0].isupper() else "function"


def make_line(kind: str, page: str, entry: str) -> str:
    """Return the line of an inventory: name, kind, priority, address, title.

    Args:
        kind: The table of the list: ``names``, ``classes`` for those with small letters, or ``modules``.
        page: The page; some pages put a word before the names in their anchors, which follows a number sign.
        entry: A name, or ``private=public`` for an object that types show by the private module that defines it.
    """
    name, _, public = entry.partition("=")
    page, _, prefix = page.partition("#")
    role = {"modules": "module", "classes": "class"}.get(kind) or guess_kind(name)
    anchor = ("module-" if kind == "modules" else prefix) + (public or name)
    return f"{name} py:{role} 1 {page}#{anchor} -\n"


def write_inventories(app: Sphinx, config: Config) -> None:
    """Write an inventory for each project of the list, and name them to intersphinx."""
    app.doctreedir.mkdir(parents=True, exist_ok=True)
    for project, listed in tomllib.loads(LIST.read_text(encoding="utf-8")).items():
        lines = [
            make_line(kind, page, entry)
            for kind in ("names", "classes", "modules")
            for page, entries in listed.get(kind, {}).items()
            for entry in entries.split()
        ]
        path = app.doctreedir / f"{project}.inv"
        path.write_bytes(HEADER.format(project=project).encode() + zlib.compress("".join(lines).encode()))
        config.intersphinx_mapping[project] = (listed["url"], str(path))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("config-inited", write_inventories, priority=100)  # intersphinx reads the mapping at 800
    return {"parallel_read_safe": True, "parallel_write_safe": True}
